//! One observed route: what its requests and answers were like, and its pretended caches.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, StatusCode};
use tokio::time::Instant;

use super::{
    Observer,
    digest::BodyDigest,
    population::{Dated, Population},
    shadow::{Proof, Seen, Shadows},
};
use crate::{
    cache::{
        key::Key,
        rfc9111::{Meta, ResponseHead},
    },
    telemetry::{
        Method, Reason,
        observed::{Advice, Counts, Named, ObservedRoute, Verdict},
    },
};

/// Statuses and varying fields that are told apart.
const MAX_STATUSES: usize = 32;
const MAX_VARY: usize = 8;

/// What is noted of a request.
#[derive(Debug)]
pub struct Question {
    /// The name of its route, or its template.
    pub route: Arc<str>,
    /// Where that comes from.
    pub named: Named,
    /// The key that a rule would give it.
    pub key: Key,
    /// The key that it has, if the cache would have looked it up.
    pub lookup: Option<Key>,
    /// Its credentials.
    pub credentials: Credentials,
    /// It asks for a fresh answer in the way of its route.
    pub is_refresh: bool,
    /// When it was asked.
    pub asked: Instant,
    /// The same in the milliseconds of the cache's clock.
    pub asked_ms: u64,
}

/// The credentials of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `Authorization` is there.
    pub authorization: bool,
    /// A cookie is there that is not in the key.
    pub cookie: bool,
    /// An API key or its like is there.
    pub other: bool,
    /// A hash that stands for the user; zero for none.
    pub who: u64,
}

/// What is decided about an answer on its head.
#[derive(Debug)]
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Where it lies among the answers that a rule would keep.
    pub place: u64,
    /// Where it lies among those that are kept as configured, with its numbers; none: it is not kept.
    pub kept: Option<(u64, Meta)>,
    /// How long a rule may keep it, in milliseconds, or why not.
    pub life: Result<u64, Reason>,
    /// It states its own lifetime.
    pub is_declared: bool,
    /// It sets a cookie.
    pub sets_cookie: bool,
    /// The fields it varies by.
    pub vary: Vec<HeaderName>,
    /// A hash of its validator; zero for none.
    pub validator: u64,
    /// For how many would-be hits it stands.
    pub would_hit: u64,
    /// How long it took to its head.
    pub fetch_us: u64,
}

/// Follows the body of an answer. Dropped before its end it leaves no trace.
pub struct Watch {
    observer: Arc<Observer>,
    question: Question,
    answered: Option<Answered>,
    digest: Option<BodyDigest>,
}

/// An entry that the configuration as it is would hold.
#[derive(Debug)]
struct Kept {
    last_ms: u64,
    meta: Meta,
}

impl Dated for Kept {
    fn last_ms(&self) -> u64 {
        self.last_ms
    }
}

/// Everything about a route.
pub(super) struct RouteShadow {
    named: Named,
    times_ms: Option<(u64, u64)>,
    counts: Counts,
    methods: [u64; Method::COUNT],
    statuses: Vec<(u16, u64)>,
    refused: [u64; Reason::COUNT],
    vary: Vec<HeaderName>,
    kept: Population<Kept>,
    anonymous: Shadows,
    per_user: Shadows,
    shared: Shadows,
}

impl Question {
    const fn has_credentials(&self) -> bool {
        self.credentials.authorization || self.credentials.cookie || self.credentials.other
    }
}

impl Watch {
    pub(super) fn new(observer: Arc<Observer>, question: Question, answered: Answered) -> Self {
        Self { observer, question, answered: Some(answered), digest: None }
    }

    /// Looks at a body of at most `limit` bytes; what is longer leaves no trace but its count.
    #[must_use]
    pub fn with_body(mut self, response: &ResponseHead<'_>, limit: u64) -> Self {
        self.digest = Some(BodyDigest::new(response, limit, &self.observer.ignored));
        self
    }

    /// Looks at a part of the body. False: there is nothing more to look at.
    pub fn push(&mut self, data: &[u8]) -> bool {
        let is_on = self.digest.as_mut().is_some_and(|digest| digest.push(data));
        if !is_on {
            self.digest = None;
            if self.answered.take().is_some() {
                self.observer.incomparable(&self.question.route, self.question.named);
            }
        }
        is_on
    }

    /// The answer has ended as it should.
    pub fn complete(mut self, now_ms: u64) {
        let Some(answered) = self.answered.take() else { return };
        let proof = match self.digest.take().and_then(BodyDigest::finish) {
            Some(digest) => Proof::Whole { digest, validator: answered.validator },
            None if answered.status == StatusCode::NOT_MODIFIED && answered.validator != 0 => {
                Proof::Unchanged(answered.validator)
            }
            None => return self.observer.incomparable(&self.question.route, self.question.named),
        };
        let seen = Seen {
            asked_ms: self.question.asked_ms,
            ended_ms: now_ms,
            proof,
            life_ms: answered.life.unwrap_or(0),
            fetch_us: answered.fetch_us,
            who: self.question.credentials.who,
            is_refresh: self.question.is_refresh,
        };
        self.observer.see(&self.question, &answered, &seen);
    }

    pub(super) const fn observer(&self) -> &Arc<Observer> {
        &self.observer
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("question", &self.question).finish_non_exhaustive()
    }
}

impl RouteShadow {
    /// Keys that one answer may bring.
    pub(super) const KEYS_OF_ONE: usize = 3;

    pub(super) fn new(named: Named) -> Self {
        Self {
            named,
            times_ms: None,
            counts: Counts::default(),
            methods: [0; Method::COUNT],
            statuses: Vec::new(),
            refused: [0; Reason::COUNT],
            vary: Vec::new(),
            kept: Population::default(),
            anonymous: Shadows::default(),
            per_user: Shadows::default(),
            shared: Shadows::default(),
        }
    }

    pub(super) fn passed(&mut self, method: Method) {
        if let Some(count) = self.methods.get_mut(method.index()) {
            *count += 1;
        }
    }

    pub(super) const fn incomparable(&mut self) {
        self.counts.incomparable += 1;
    }

    /// The entry of a key as configured, and how many keys it stands for.
    pub(super) fn kept(&mut self, key: u64) -> Option<(Meta, u64)> {
        let weight = self.kept.weight();
        self.kept.get_mut(key).map(|kept| (kept.meta, weight))
    }

    /// Keys held.
    pub(super) fn keys(&self) -> usize {
        self.kept.len() + self.anonymous.len() + self.per_user.len() + self.shared.len()
    }

    /// Keys of the sort that has most.
    pub(super) fn most_keys(&self) -> usize {
        let shadows = [&self.anonymous, &self.per_user, &self.shared].map(Shadows::len);
        shadows.into_iter().fold(self.kept.len(), usize::max)
    }

    /// Gives up keys of the sort that has most.
    pub(super) fn shrink(&mut self, now_ms: u64) {
        let most = self.most_keys();
        if self.kept.len() == most {
            return self.kept.shrink(now_ms);
        }
        let shadows = [&mut self.anonymous, &mut self.per_user, &mut self.shared];
        if let Some(shadows) = shadows.into_iter().find(|shadows| shadows.len() == most) {
            shadows.shrink(now_ms);
        }
    }

    /// Takes in a whole answer; `of_user` is its place among those of one user.
    pub(super) fn see(&mut self, question: &Question, answered: &Answered, seen: &Seen, of_user: u64) {
        self.count(question, answered, seen);
        self.keep(answered, seen);
        // A fault of the backend says nothing about the answer that it should have given.
        let is_fault = answered.status.is_server_error();
        let is_compared = !is_fault
            && if question.has_credentials() {
                // Without a hash nobody can be told from the others, and an entry for each user means nothing.
                let is_own = seen.who == 0 || self.per_user.see(of_user, seen);
                self.shared.see(answered.place, seen) && is_own
            } else {
                self.anonymous.see(answered.place, seen)
            };
        if !is_compared {
            self.incomparable();
        }
    }

    fn count(&mut self, question: &Question, answered: &Answered, seen: &Seen) {
        let (first_ms, last_ms) = self.times_ms.unwrap_or((seen.asked_ms, seen.asked_ms));
        self.times_ms = Some((first_ms.min(seen.asked_ms), last_ms.max(seen.asked_ms)));
        self.passed(Method::Get);
        let Question { credentials, .. } = question;
        let counts = &mut self.counts;
        counts.requests += 1;
        counts.with_credentials += u64::from(question.has_credentials());
        counts.authorization += u64::from(credentials.authorization);
        counts.cookie += u64::from(credentials.cookie);
        counts.credential += u64::from(credentials.other);
        counts.declared += u64::from(answered.is_declared);
        counts.set_cookie += u64::from(answered.sets_cookie);
        counts.would_hits += answered.would_hit;
        let (status, has_room) = (answered.status.as_u16(), self.statuses.len() < MAX_STATUSES);
        match self.statuses.iter_mut().find(|(known, _)| *known == status) {
            Some((_, count)) => *count += 1,
            None if has_room => self.statuses.push((status, 1)),
            None => {}
        }
        if let Err(reason) = answered.life
            && let Some(count) = self.refused.get_mut(reason.index())
        {
            *count += 1;
        }
        for name in &answered.vary {
            if self.vary.len() < MAX_VARY && !self.vary.contains(name) {
                self.vary.push(name.clone());
            }
        }
    }

    /// Keeps what the configuration as it is would keep. After a would-be hit there would have been no fetch.
    fn keep(&mut self, answered: &Answered, seen: &Seen) {
        if let Some((key, meta)) = answered.kept.filter(|_| answered.would_hit == 0) {
            self.kept.insert(key, Kept { last_ms: seen.asked_ms, meta });
        }
    }

    /// What was found, without what follows from it.
    pub(super) fn report(&self, name: &str) -> ObservedRoute {
        let counted = |(reason, count): (Reason, &u64)| (*count > 0).then_some((reason, *count));
        let (first_ms, last_ms) = self.times_ms.unwrap_or_default();
        let mut statuses = self.statuses.clone();
        statuses.sort_unstable();
        ObservedRoute {
            route: name.to_owned(),
            named: self.named,
            watched: Duration::from_millis(last_ms - first_ms),
            counts: self.counts,
            methods: Method::ALL
                .into_iter()
                .zip(self.methods)
                .filter(|(_, count)| *count > 0)
                .map(|(method, count)| (method.as_str(), count))
                .collect(),
            statuses,
            refused: Reason::ALL.into_iter().zip(&self.refused).filter_map(counted).collect(),
            vary: self.vary.iter().map(|name| name.as_str().to_owned()).collect(),
            anonymous: self.anonymous.view(),
            per_user: self.per_user.view(),
            shared: self.shared.view(),
            advice: Advice { verdict: Verdict::TooFew, per_user: None },
        }
    }
}
