//! What the cache would do, for those who want to know before they let it: every decision is taken, nothing is stored but
//! hashes, and nothing is answered.
//!
//! A [`Question`] is what is noted of a request, a [`Watch`] follows its answer: `digest` and `scan` hash the body as it
//! passes, `shadow` pretends a cache for each of several lifetimes over a `population` of keys, `advice` concludes, `guess`
//! names paths that nobody named. There are two sorts of pretended caches: one with the configuration as it is, which
//! counts would-be hits, and those that `touchline advise` speaks from.
//!
//! Bounds: [`MAX_KEYS`] keys of some 250 bytes, [`MAX_ROUTES`] routes of some 2 KiB and [`MAX_WATCHED`] bodies under way
//! with at most 50 KiB each: in the worst case 5 MiB for the keys, 2 MiB for the routes and 13 MiB for gzipped bodies. What is over a
//! bound is sampled or overlooked, never waited for.

mod advice;
mod digest;
mod guess;
mod population;
mod route;
mod scan;
mod shadow;

use std::{
    collections::HashMap,
    fmt,
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::hmac;
use http::{HeaderMap, header};
use parking_lot::Mutex;

pub use self::route::{Answered, Credentials, Question, Watch};
use self::{guess::Guesses, route::RouteShadow, scan::Ignored, shadow::Seen};
use super::{
    key::Key,
    rfc9111::{Meta, Policy, Selection},
};
use crate::{
    config,
    telemetry::{
        Method,
        observed::{Named, Observed, ObservedRoute},
    },
};

/// Keys held at once, of all routes and sorts.
pub const MAX_KEYS: usize = 10_000;

/// Routes held at once.
pub const MAX_ROUTES: usize = 1_000;

/// Answers whose bodies are hashed at once.
pub const MAX_WATCHED: usize = 256;

/// Request fields that are credentials, most telling first. `Cookie` counts only without any of them: what else is in it
/// may change from one request of a user to the next.
const CREDENTIALS: [&str; 6] =
    ["authorization", "proxy-authorization", "x-api-key", "api-key", "x-auth-token", "x-access-token"];

/// Sees everything that an observing cache sees.
pub struct Observer {
    state: Mutex<State>,
    watched: AtomicUsize,
    seed: foldhash::quality::RandomState,
    /// Of this process alone, so that what stands for a user cannot be traced back; none if there was no randomness, and
    /// then users are not told apart.
    secret: Option<hmac::Key>,
    ignored: Arc<Ignored>,
    max_ttl: Duration,
}

#[derive(Default)]
struct State {
    routes: HashMap<Arc<str>, RouteShadow>,
    guesses: Guesses,
    keys: usize,
    overlooked: u64,
    first_ms: Option<u64>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Observer {
    /// An observer that has seen nothing.
    #[must_use]
    pub fn new(config: &config::Cache) -> Self {
        Self {
            state: Mutex::default(),
            watched: AtomicUsize::new(0),
            seed: foldhash::quality::RandomState::default(),
            secret: random_key(),
            ignored: Arc::new(Ignored::new(&config.advise)),
            max_ttl: config.max_ttl,
        }
    }

    /// A template from the look of a path, for a request that has none.
    #[must_use]
    pub fn guess(&self, path: &str) -> Option<Arc<str>> {
        self.state.lock().guesses.template(path).map(Arc::from)
    }

    /// Notes a request that is not followed: only its method is counted.
    pub fn passed(&self, route: &Arc<str>, named: Named, method: Method) {
        if let Some(route) = self.state.lock().route(route, named) {
            route.passed(method);
        }
    }

    /// Notes an answer of a followed request that cannot be compared with others.
    pub fn incomparable(&self, route: &Arc<str>, named: Named) {
        if let Some(route) = self.state.lock().route(route, named) {
            route.incomparable();
        }
    }

    /// Which credentials a request carries, and whose they are. Where a route keys by cookies, they are none.
    #[must_use]
    pub fn credentials(&self, headers: &HeaderMap, policy: &Policy) -> Credentials {
        let is_keyed = policy.rule.as_ref().is_some_and(|rule| rule.cookies_keyed);
        let configured = policy.credentials.iter().map(http::HeaderName::as_str);
        let mut names = CREDENTIALS.into_iter().chain(configured).filter(|name| headers.contains_key(*name));
        let has_authorization = headers.contains_key(header::AUTHORIZATION);
        let has_cookie = headers.contains_key(header::COOKIE) && !is_keyed;
        let told_by = names.next();
        let has_other = names.next().is_some() || (told_by.is_some() && !has_authorization);
        let name = told_by.or(has_cookie.then_some("cookie"));
        Credentials {
            authorization: has_authorization,
            cookie: has_cookie,
            other: has_other,
            who: name.map_or(0, |name| self.who(name, headers)),
        }
    }

    /// Whether the configuration as it is would have answered from the entry that it would hold for a key: what `judge` says
    /// of that entry. The number tells how many such answers this one stands for; zero: it would not.
    pub fn would_hit(&self, question: &Question, kept: u64, judge: impl FnOnce(&Meta) -> bool) -> u64 {
        let mut state = self.state.lock();
        let found = state.routes.get_mut(&question.route).and_then(|route| route.kept(kept));
        found.filter(|(meta, _)| judge(meta)).map_or(0, |(_, weight)| weight)
    }

    /// What was found so far.
    #[must_use]
    pub fn report(&self, now_ms: u64) -> Observed {
        let state = self.state.lock();
        let mut routes: Vec<ObservedRoute> =
            state.routes.iter().map(|(name, route)| route.report(name)).collect();
        let (keys, overlooked) = (state.keys, state.overlooked);
        let watched = state.first_ms.map_or(0, |first_ms| now_ms.saturating_sub(first_ms));
        drop(state);
        for route in &mut routes {
            route.advice = advice::advise(route, self.max_ttl);
        }
        routes.sort_by(|a, b| b.counts.requests.cmp(&a.counts.requests).then_with(|| a.route.cmp(&b.route)));
        let count = |size| u64::try_from(size).unwrap_or(u64::MAX);
        Observed {
            watched: Duration::from_millis(watched),
            keys: count(keys),
            keys_max: count(MAX_KEYS),
            overlooked,
            routes,
        }
    }

    /// Follows the answer to a question, unless too many are followed already.
    #[must_use]
    pub fn follow(self: &Arc<Self>, question: Question, answered: Answered) -> Option<Watch> {
        if self.watched.fetch_add(1, Ordering::Relaxed) >= MAX_WATCHED {
            self.watched.fetch_sub(1, Ordering::Relaxed);
            self.state.lock().overlooked += 1;
            return None;
        }
        Some(Watch::new(Arc::clone(self), question, answered))
    }

    /// A name for what a key and selecting values tell apart.
    #[must_use]
    pub fn place(&self, key: &Key, selection: &Selection) -> u64 {
        self.seed.hash_one((key.hash(), selection.canonical()))
    }

    /// A hash of what a 304 would confirm; zero for nothing.
    #[must_use]
    pub fn validator(&self, headers: &HeaderMap) -> u64 {
        let value = headers.get(header::ETAG).or_else(|| headers.get(header::LAST_MODIFIED));
        value.map_or(0, |value| self.seed.hash_one(value.as_bytes()).max(1))
    }

    fn who(&self, name: &str, headers: &HeaderMap) -> u64 {
        let Some(secret) = &self.secret else { return 0 };
        let mut context = hmac::Context::with_key(secret);
        context.update(name.as_bytes());
        for value in headers.get_all(name) {
            context.update(&(value.len() as u64).to_be_bytes());
            context.update(value.as_bytes());
        }
        let tag = context.sign();
        tag.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes).max(1))
    }

    /// Takes in a whole answer.
    fn see(&self, question: &Question, answered: &Answered, seen: &Seen) {
        let of_user = self.seed.hash_one((answered.place, seen.who));
        let mut state = self.state.lock();
        state.first_ms.get_or_insert(question.asked_ms);
        state.make_room(seen.ended_ms);
        let Some(route) = state.route(&question.route, question.named) else { return };
        let before = route.keys();
        route.see(question, answered, seen, of_user);
        let after = route.keys();
        state.keys = (state.keys + after).saturating_sub(before);
    }
}

impl State {
    fn route(&mut self, name: &Arc<str>, named: Named) -> Option<&mut RouteShadow> {
        if !self.routes.contains_key(name) {
            if self.routes.len() >= MAX_ROUTES {
                self.overlooked += 1;
                return None;
            }
            self.routes.insert(Arc::clone(name), RouteShadow::new(named));
        }
        self.routes.get_mut(name)
    }

    /// Sees to it that an answer, which may bring a key for each sort of pretended cache, finds room. What has most keys
    /// gives way, so that a route with many does not push out one with few.
    fn make_room(&mut self, now_ms: u64) {
        while self.keys + RouteShadow::KEYS_OF_ONE > MAX_KEYS {
            let largest = self.routes.values_mut().max_by_key(|route| route.most_keys());
            let Some(route) = largest.filter(|route| route.most_keys() > 0) else { return };
            let before = route.keys();
            route.shrink(now_ms);
            self.keys = (self.keys + route.keys()).saturating_sub(before);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.observer().watched.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A key that nobody else knows. None where the system has no randomness.
fn random_key() -> Option<hmac::Key> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok().map(|()| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests;
