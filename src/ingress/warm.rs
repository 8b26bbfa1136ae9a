//! Warming: fetches the addresses of `cache.warm` before a client asks, once the backend answers and again after a purge
//! that ended them. It takes the way of a client's GET, so that what it fills is what that GET would have filled, and
//! clients that come meanwhile wait for its fetch instead of making their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, StatusCode, Uri};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    Core, Ingress,
    exchange::Exchange,
    fetch, fill,
    lookup::{self, Looked},
};
use crate::{
    cache::{Generation, Scheme},
    config::{self, CacheMode, WarmAddress},
    net::{
        Refusal,
        drain::{Drain, Phase},
    },
    telemetry::{CacheStatus, Reason},
};

/// How often the backend is looked at until it has answered once, and then how often purges are looked for.
const EAGER: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(500);

/// Purges that follow one another are waited out, but no longer than so many ticks.
const MOST_TICKS: u32 = 6;

/// Failures in a row after which an address is left alone until the next purge. The pause after each doubles from the
/// first to the longest, and holds also when a purge comes: an address that cannot be kept is no load.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An address, and how far it is.
struct Target {
    scheme: Scheme,
    host: HeaderValue,
    uri: Uri,
    is_due: bool,
    /// Tries since the last purge.
    tries: u32,
    /// Tries since the last success.
    failures: u32,
    /// Not tried before.
    not_before: Instant,
}

/// What became of a try.
enum Outcome {
    /// It is in the cache.
    Kept,
    /// A stale copy is being renewed behind; look again.
    Renewing,
    /// It is not in the cache.
    Failed(Failure),
}

/// Why an address is not in the cache.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Failure {
    /// The request passes by the cache, or its answer may not be stored.
    #[error("the answer is not kept: {}", .0.map_or("its body did not end", Reason::as_str))]
    NotKept(Option<Reason>),
    /// The backend answered with an error.
    #[error("the backend answered {}", .0.as_u16())]
    Status(StatusCode),
    /// There was no answer.
    #[error("there was no answer: {}", .0.as_str())]
    NoAnswer(Refusal),
}

/// Tells when entries are to be looked at because of purges.
struct Watch {
    seen: Generation,
    ticks: u32,
}

struct Warming {
    core: Arc<Core>,
    targets: Vec<Target>,
}

/// Warms what the configuration lists, until the drain begins.
pub fn spawn(ingress: &Arc<Ingress>, cache: &config::Cache, section: &config::Ingress, drain: &Drain) {
    let addresses = WarmAddress::all(cache, section);
    let targets = addresses.iter().filter_map(Target::new).filter(|target| target.is_served(ingress));
    let targets: Vec<Target> = targets.collect();
    if targets.is_empty() {
        return;
    }
    let core = Core::new(Arc::clone(ingress));
    let draining = drain.reached(Phase::Draining);
    drain.spawn(async move {
        // What a fetch has begun to copy when it is dropped is finished in the background, or cut with the drain.
        tokio::select! {
            () = draining => {}
            () = Warming { core, targets }.run() => {}
        }
    });
}

impl Warming {
    async fn run(mut self) {
        while !self.core.client.upstream().health.has_answered() {
            tokio::time::sleep(EAGER).await;
        }
        let mut watch = Watch { seen: self.core.ingress.cache.generation(), ticks: 0 };
        loop {
            self.round().await;
            tokio::time::sleep(TICK).await;
            if watch.tick(self.core.ingress.cache.generation()) {
                self.look_again();
            }
        }
    }

    /// Finds the addresses whose entries are gone.
    fn look_again(&mut self) {
        for target in self.targets.iter_mut().filter(|target| !target.is_due) {
            target.is_due = !is_kept(&target.exchange(&self.core));
            target.tries = 0;
        }
    }

    /// Tries all addresses that are due, two at a time.
    async fn round(&mut self) {
        let start = Instant::now();
        let is_next = |(_, target): &(usize, &Target)| target.is_due && target.not_before <= start;
        let due: Vec<usize> =
            self.targets.iter().enumerate().filter(is_next).map(|(index, _)| index).collect();
        if due.is_empty() {
            return;
        }
        let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(due.len())));
        let lane = || async {
            while let Some(index) = due.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                let Some(target) = self.targets.get(index) else { continue };
                let outcome = target.warm(&self.core).await;
                outcomes.lock().push((index, outcome));
            }
        };
        tokio::join!(lane(), lane());
        let outcomes = outcomes.into_inner();
        let (mut kept, mut failed) = (0_u32, 0_u32);
        for (index, outcome) in outcomes {
            let Some(target) = self.targets.get_mut(index) else { continue };
            match &outcome {
                Outcome::Kept => kept += 1,
                Outcome::Renewing => {}
                Outcome::Failed(_) => failed += 1,
            }
            target.note(&outcome);
        }
        if kept + failed > 0 {
            let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            info!(kept, failed, took_ms, "warmed the cache");
        }
    }
}

impl Target {
    fn new(address: &WarmAddress) -> Option<Self> {
        Some(Self {
            scheme: if address.is_https { Scheme::Https } else { Scheme::Http },
            host: HeaderValue::try_from(address.host.as_deref()?).ok()?,
            uri: address.target.parse().ok()?,
            is_due: true,
            tries: 0,
            failures: 0,
            not_before: Instant::now(),
        })
    }

    /// Whether the cache acts on the address at all.
    fn is_served(&self, ingress: &Ingress) -> bool {
        let table = &ingress.table;
        let route = table.find(&http::Method::GET, self.host.as_bytes(), self.uri.path());
        route.policy.mode == CacheMode::Serve
    }

    fn exchange(&self, core: &Arc<Core>) -> Exchange {
        Exchange::unasked(core, self.scheme, &self.host, &self.uri)
    }

    /// One try.
    async fn warm(&self, core: &Arc<Core>) -> Outcome {
        let mut exchange = self.exchange(core);
        // On the heap, as it is the size of a request's whole way and there are two of them.
        let outcome = Box::pin(fill_by(&mut exchange)).await;
        match &outcome {
            Outcome::Kept => debug!(host = ?self.host, target = %self.uri, "warmed an address"),
            Outcome::Renewing => debug!(host = ?self.host, target = %self.uri, "an address is being renewed"),
            Outcome::Failed(error) => {
                debug!(host = ?self.host, target = %self.uri, %error, "an address stays cold");
            }
        }
        outcome
    }

    fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Kept => (self.is_due, self.tries, self.failures) = (false, 0, 0),
            Outcome::Renewing => {}
            Outcome::Failed(error) => {
                self.not_before = Instant::now() + pause_after(self.failures);
                self.failures = self.failures.saturating_add(1);
                self.tries += 1;
                if self.tries >= TRIES {
                    self.is_due = false;
                    warn!(host = ?self.host, target = %self.uri, %error, "an address could not be warmed");
                }
            }
        }
    }
}

impl Watch {
    /// True when a purge was seen and no other has followed it since the last tick, or too many have.
    fn tick(&mut self, now: Generation) -> bool {
        let is_new = now != self.seen;
        self.seen = now;
        self.ticks += u32::from(is_new || self.ticks > 0);
        let is_time = self.ticks > 0 && (!is_new || self.ticks >= MOST_TICKS);
        if is_time {
            self.ticks = 0;
        }
        is_time
    }
}

/// Sends the request on a client's way, and reads its answer to the end, as the copy is made while it is read.
async fn fill_by(exchange: &mut Exchange) -> Outcome {
    let ready = match lookup::look(exchange).await {
        Looked::Ready(ready) => ready,
        Looked::Refused(refusal) => return Outcome::Failed(Failure::NoAnswer(refusal)),
        Looked::Fetch(plan) if plan.lookup.is_none() => {
            return Outcome::Failed(Failure::NotKept(plan.reason));
        }
        Looked::Fetch(plan) => match fetch::fetch(exchange, plan).await {
            Ok(ready) => ready,
            Err(refusal) => return Outcome::Failed(Failure::NoAnswer(refusal)),
        },
    };
    let (status, told) = (ready.response.status(), ready.told);
    let mut body = ready.response.into_body();
    let reading = async { while let Some(Ok(_)) = body.chunk().await {} };
    let _ = tokio::time::timeout(fill::BACKGROUND, reading).await;
    if status.is_client_error() || status.is_server_error() {
        return Outcome::Failed(Failure::Status(status));
    }
    if is_kept(exchange) {
        return Outcome::Kept;
    }
    match (told.status, told.fwd) {
        (CacheStatus::Stale, None) => Outcome::Renewing,
        _ => Outcome::Failed(Failure::NotKept(told.reason)),
    }
}

/// Whether the cache has a fresh answer for the request.
fn is_kept(exchange: &Exchange) -> bool {
    let ingress = exchange.ingress();
    let now_ms = ingress.clock.now_ms();
    let found = ingress.cache.lookup(exchange.key(), &exchange.parts.headers, now_ms);
    found.entry.is_some_and(|entry| !found.is_stale && entry.may_be_shared(now_ms))
}

fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MOST_TICKS, Watch, pause_after};
    use crate::cache::{Cache, Generation, Scope, Settings};

    fn generations(count: usize) -> Vec<Generation> {
        let cache = Cache::new(&Settings::from(&crate::config::Cache::default()));
        let mut all = vec![cache.generation()];
        all.extend((1..count).map(|_| cache.purge(&Scope::All, false, 0).generation));
        all
    }

    #[test]
    fn one_purge_is_acted_on_once_and_not_at_once() {
        let all = generations(2);
        let mut watch = Watch { seen: all[0], ticks: 0 };

        let ticks: Vec<bool> = [0, 0, 1, 1, 1].into_iter().map(|index| watch.tick(all[index])).collect();

        assert_eq!(ticks, [false, false, false, true, false]);
    }

    #[test]
    fn a_storm_of_purges_is_waited_out_but_not_for_ever() {
        let all = generations(40);
        let mut watch = Watch { seen: all[0], ticks: 0 };

        let acted = all.iter().skip(1).filter(|now| watch.tick(**now)).count();

        assert_eq!(acted, 39 / MOST_TICKS as usize);
        let last = all[39];
        assert!(watch.tick(last), "the last purges are not forgotten");
        assert!(!watch.tick(last));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds: Vec<u64> = (0..9).map(|failures| pause_after(failures).as_secs()).collect();

        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause_after(u32::MAX), Duration::from_secs(60));
    }
}
