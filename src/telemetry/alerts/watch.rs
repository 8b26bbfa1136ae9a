//! The task: reads, judges, decides whom to tell, and puts messages into the queues. It waits for nobody but, for at most
//! a second, the store that replicas share.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::{
    channel::{Channel, Clock, Post},
    collect,
    dispatch::{Addressee, Dispatcher, Moment, Terms},
    engine::{Change, Engine},
    format::Sender,
    notice::{self, Message, Notice},
    reading::Span,
    rules,
};
use crate::{
    config::{self, AlertMetric},
    telemetry::{MarkKind, Telemetry},
};

/// How long the store that replicas share may take for all questions of a moment.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long names may take to be given back at the end.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// For how many intervals a name is held without a word.
const HOLD_INTERVALS: u32 = 6;

/// The future of [`Claim::hold`].
pub type Holding<'a> = Pin<Box<dyn Future<Output = Option<bool>> + Send + 'a>>;
/// The future of [`Claim::release`].
pub type Releasing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Settles which of several replicas speaks for an alert.
pub trait Claim: Send + Sync + 'static {
    /// Takes a name for `life`, or holds it for longer. False: another replica has it. None: there is nobody to ask.
    fn hold<'a>(&'a self, name: &'a str, life: Duration) -> Holding<'a>;

    /// Gives a name back that is held.
    fn release<'a>(&'a self, name: &'a str) -> Releasing<'a>;
}

/// Watches the rules of a configuration.
pub struct Watch {
    telemetry: Arc<Telemetry>,
    objective: f64,
    interval: Duration,
    /// How long the end of an alert waits for other replicas.
    end_wait: Duration,
    needs: BTreeSet<(AlertMetric, Span)>,
    engine: Engine,
    dispatcher: Dispatcher,
    channels: Vec<Arc<Channel>>,
    claim: Option<Arc<dyn Claim>>,
    /// Names that this process holds.
    held: HashSet<Arc<str>>,
    clock: Clock,
}

impl Watch {
    /// A watch over `telemetry`; none when alerts are switched off. `posts` are the ways to the receivers, in the order of
    /// `telemetry.alerts.notify`; `claim` is the store that replicas share, where there is one.
    #[must_use]
    pub fn new(
        telemetry: &Arc<Telemetry>,
        config: &config::Telemetry,
        posts: Vec<Arc<dyn Post>>,
        claim: Option<Arc<dyn Claim>>,
    ) -> Option<Self> {
        let alerts = &config.alerts;
        if !alerts.enabled {
            return None;
        }
        let facts = telemetry.facts();
        let clock = Clock::now();
        let sender = Sender {
            service: facts.service.clone(),
            pod: facts.pod.clone(),
            version: facts.version,
            page: alerts.page.clone().unwrap_or_default(),
            is_alone: claim.is_none(),
        };
        let receivers = alerts.notify.iter().filter_map(config::Receiver::view);
        let channels: Vec<_> = receivers
            .zip(posts)
            .map(|(view, post)| {
                let names = (view.name, view.kind, view.severity);
                Arc::new(Channel::new(names, sender.clone(), post, clock))
            })
            .collect();
        let objective = f64::from(alerts.slo.objective.millionths()) / 1e6;
        let engine = Engine::new(rules::compile(config), ms(alerts.interval));
        let addressees: Vec<_> = channels
            .iter()
            .map(|channel| Addressee { kind: channel.kind(), least: channel.least() })
            .collect();
        let end_wait = if claim.is_some() { alerts.interval * 2 } else { Duration::ZERO };
        let end_wait = alerts.group_wait.max(end_wait);
        let terms = Terms {
            group_wait_ms: ms(alerts.group_wait),
            end_wait_ms: ms(end_wait),
            repeat_ms: ms(alerts.repeat),
        };
        Some(Self {
            telemetry: Arc::clone(telemetry),
            objective,
            interval: alerts.interval,
            end_wait,
            needs: rules::needs(engine.rules()),
            engine,
            dispatcher: Dispatcher::new(terms, &addressees),
            channels,
            claim,
            held: HashSet::new(),
            clock,
        })
    }

    /// The ways to the receivers; each wants a task for [`Channel::run`].
    #[must_use]
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        self.channels.clone()
    }

    /// Goes on from where the watch of another configuration stands: what fires is not told again, and what waits for a
    /// receiver that is still there is sent. Returns the ways to receivers that are new.
    pub fn succeed(&mut self, old: Self) -> Vec<Arc<Channel>> {
        let Self { engine, dispatcher, channels, held, clock, .. } = old;
        let mut fresh = Vec::new();
        let mut places = Vec::new();
        for channel in &mut self.channels {
            let is_same = |old: &Arc<Channel>| (old.name(), old.kind()) == (channel.name(), channel.kind());
            let place = channels.iter().position(is_same);
            match place.and_then(|place| channels.get(place)) {
                Some(known) => {
                    known.renew(channel);
                    *channel = Arc::clone(known);
                }
                None => fresh.push(Arc::clone(channel)),
            }
            places.push(place);
        }
        for (place, channel) in channels.iter().enumerate() {
            if !places.contains(&Some(place)) {
                channel.retire();
            }
        }
        self.engine.succeed(engine);
        self.dispatcher.succeed(dispatcher, &places);
        (self.held, self.clock) = (held, clock);
        fresh
    }

    /// Shows its receivers where alerts are read, in the place of those of a watch before.
    pub fn show(&self) {
        self.telemetry.alerts.open(&self.channels, self.objective);
    }

    /// Ends without a successor: nothing is watched any more, and nothing shown.
    pub async fn close(&mut self) {
        self.leave().await;
        self.channels.iter().for_each(|channel| channel.retire());
        self.telemetry.alerts.close();
    }

    /// Looks at everything once an interval, until `until`. It can be called again after that.
    pub async fn run(&mut self, until: impl Future<Output = ()>) {
        self.show();
        let mut until = std::pin::pin!(until);
        let mut next = Instant::now() + self.interval;
        loop {
            tokio::select! {
                biased;
                () = &mut until => return,
                () = tokio::time::sleep_until(next) => {}
            }
            // Steps are even, however late a look is: a time that is just reached must not wait for another step. But for a
            // pause, which is no time of watching.
            let now = Instant::now();
            let is_late = now.saturating_duration_since(next) > self.interval / 2;
            self.look(if is_late { now } else { next }).await;
            // After a pause of the process there is one look, not all that were missed.
            next = (next + self.interval).max(Instant::now());
        }
    }

    /// Gives all names back, so that other replicas take over at once.
    pub async fn leave(&mut self) {
        let Some(claim) = &self.claim else { return };
        let deadline = Instant::now() + LAST_WORDS;
        for id in self.held.drain() {
            let _ = timeout_at(deadline, claim.release(&name_of("f", &id))).await;
        }
    }

    async fn look(&mut self, at: Instant) {
        let (now, now_ms) = (Instant::now(), self.clock.ms(at));
        let readings = collect::readings(&self.telemetry, self.objective, &self.needs, (now, now_ms / 1000));
        let dropped = self.engine.dropped;
        let changes = self.engine.tick(now_ms, &readings);
        self.telemetry.alerts.dropped.add(self.engine.dropped - dropped);
        changes.iter().for_each(log);
        let firing = self.engine.firing();
        let deadline = now + PATIENCE;
        let elsewhere = self.settle(&firing, deadline).await;
        let queued: Vec<_> = self.channels.iter().map(|channel| channel.queued()).collect();
        let moment =
            Moment { now_ms, firing: &firing, changes: &changes, elsewhere: &elsewhere, queued: &queued };
        let messages = self.dispatcher.tick(&moment);
        let mut told = Vec::new();
        let mut may_say = BTreeMap::new();
        for (index, message) in messages {
            let message = self.without_others(message, &mut may_say, deadline).await;
            let Some(channel) = self.channels.get(index).filter(|_| !message.notices.is_empty()) else {
                continue;
            };
            told.extend(message.notices.iter().cloned());
            channel.offer(message);
        }
        let notices = self.dispatcher.marked(&self.engine.notices());
        self.telemetry.alerts.publish(now_ms, notices, &told);
        for Change { notice, is_firing } in &changes {
            let (kind, text) = if *is_firing {
                (MarkKind::Alert, notice.text.clone())
            } else {
                (MarkKind::Resolved, format!("over: {}", notice.text))
            };
            self.telemetry.mark_at(notice::at(now_ms), kind, text);
        }
    }

    /// Holds the names of what fires, and gives back those of what does not. Returns the alerts that others speak for.
    async fn settle(&mut self, firing: &[Arc<Notice>], deadline: Instant) -> HashSet<Arc<str>> {
        let mut elsewhere = HashSet::new();
        let Some(claim) = self.claim.clone().filter(|_| !self.channels.is_empty()) else { return elsewhere };
        let life = self.interval * HOLD_INTERVALS;
        for notice in firing {
            let name = name_of("f", &notice.id);
            match timeout_at(deadline, claim.hold(&name, life)).await {
                Ok(Some(true)) => {
                    self.held.insert(Arc::clone(&notice.id));
                }
                Ok(Some(false)) => {
                    self.held.remove(&notice.id);
                    elsewhere.insert(Arc::clone(&notice.id));
                }
                // Nobody to ask: each speaks for itself.
                Ok(None) | Err(_) => {}
            }
        }
        let over: Vec<_> =
            self.held.iter().filter(|id| !firing.iter().any(|notice| notice.id == **id)).cloned().collect();
        for id in over {
            let _ = timeout_at(deadline, claim.release(&name_of("f", &id))).await;
            self.held.remove(&id);
        }
        elsewhere
    }

    /// The message without the ends of alerts that still fire on another replica, or that another one tells. Those that had
    /// the name have given it back a while ago: who fires still has taken it since.
    async fn without_others(
        &self,
        mut message: Message,
        may_say: &mut BTreeMap<Arc<str>, bool>,
        deadline: Instant,
    ) -> Message {
        let Some(claim) = &self.claim else { return message };
        for notice in message.notices.iter().filter(|notice| notice.is_resolved()) {
            if may_say.contains_key(&notice.id) {
                continue;
            }
            let name = name_of("f", &notice.id);
            let is_last =
                timeout_at(deadline, claim.hold(&name, self.interval)).await.ok().flatten().unwrap_or(true);
            let mut is_ours = is_last;
            if is_last {
                let life = self.end_wait + self.interval;
                let end = name_of("r", &notice.id);
                is_ours = timeout_at(deadline, claim.hold(&end, life)).await.ok().flatten().unwrap_or(true);
                let _ = timeout_at(deadline, claim.release(&name)).await;
            }
            may_say.insert(Arc::clone(&notice.id), is_ours);
        }
        let is_ours =
            |notice: &Arc<Notice>| !notice.is_resolved() || may_say.get(&notice.id).copied().unwrap_or(true);
        message.notices.retain(is_ours);
        message
    }
}

/// The name under which an alert is spoken for.
fn name_of(what: &str, id: &str) -> String {
    format!("alert:{what}:{id}")
}

fn log(change: &Change) {
    let Notice { rule, severity, text, value, threshold, .. } = &*change.notice;
    let severity = severity.as_str();
    if change.is_firing {
        warn!(rule = &**rule, severity, value, threshold, "an alert fires: {text}");
    } else {
        info!(rule = &**rule, severity, value, "an alert is over: {text}");
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
