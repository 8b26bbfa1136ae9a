//! `GET /health`: the backend's own answer with ours added. The backend's members keep their order and their exact
//! text; only `status` may be lowered, never raised.

use std::{borrow::Cow, collections::HashMap, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::admin::{
    answer::{Kind, Reply},
    sources::{BackendAnswer, BackendDown, BackendHealth},
};
use crate::telemetry::{RedisStats, Status};

/// Members that readers of this path know, in their order. They stand in our answer when the backend never gave one.
const KNOWN: [&str; 5] = ["status", "timestamp", "message", "environment", "features"];

/// The score of a pod whose backend is down and where nothing else is wrong.
const DOWN_SCORE: u8 = 50;

/// How long a fetch may take whatever the source does, as others wait for it.
const FETCH_TIME: Duration = Duration::from_secs(10);

/// What the sidecar adds under `sidecar`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sidecar {
    #[serde(serialize_with = "word")]
    pub(crate) status: Status,
    pub(crate) version: &'static str,
    pub(crate) uptime_s: u64,
    pub(crate) health_score: u8,
}

/// What the sidecar adds under `checks`. A plane that does not run is `null`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Checks {
    backend: Option<Check>,
    redis: Option<Check>,
    postgres: Option<Check>,
    claude: Option<Check>,
}

/// One thing that was asked.
#[derive(Clone, Debug, Serialize)]
struct Check {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'static, str>>,
}

fn word<S: Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(status.as_str())
}

/// How much harm a status means.
const fn harm(status: Status) -> u8 {
    match status {
        Status::Healthy => 0,
        Status::Degraded => 1,
        Status::Unhealthy => 2,
    }
}

/// How much harm a backend means by its word; none for words that we do not know, which are then left alone.
fn harm_of(word: &str) -> Option<u8> {
    match word.to_ascii_lowercase().as_str() {
        "healthy" | "ok" | "up" | "pass" | "alive" | "running" => Some(harm(Status::Healthy)),
        "degraded" | "warn" | "warning" => Some(harm(Status::Degraded)),
        _ => None,
    }
}

/// Asks the backend, for all callers of a moment at once.
///
/// One caller at a time fetches. The others wait for the permit and then take the answer of a fetch that ended after
/// they came, so it is never older than their question. When the fetching caller goes away, its permit is free and the
/// next one fetches: no task is spawned and nobody waits for a dead leader.
pub(crate) struct SharedFetch {
    turn: Semaphore,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    answer: Option<(Instant, Result<BackendAnswer, BackendDown>)>,
    /// The members of the last JSON answer, for the time when the backend is down.
    members: Option<Members>,
}

impl SharedFetch {
    /// Nothing fetched yet.
    pub(crate) fn new() -> Self {
        Self { turn: Semaphore::new(1), last: Mutex::new(Last::default()) }
    }

    async fn fetch(&self, backend: &dyn BackendHealth) -> Result<BackendAnswer, BackendDown> {
        let asked = Instant::now();
        let _turn = self.turn.acquire().await;
        if let Some((ended, answer)) = &self.last.lock().answer
            && *ended > asked
        {
            return answer.clone();
        }
        let late = |_| Err(BackendDown(Cow::Borrowed("did not answer in time")));
        let answer = timeout(FETCH_TIME, backend.fetch()).await.unwrap_or_else(late);
        let mut last = self.last.lock();
        // An error page may be JSON too; it says nothing that should outlive it.
        if let Ok(answer) = &answer
            && answer.status.is_success()
            && let Some(members) = Members::read(&answer.body)
        {
            last.members = Some(members);
        }
        last.answer = Some((Instant::now(), answer.clone()));
        answer
    }

    /// The merged answer. `sidecar` is asked for after the fetch, so that it is as fresh.
    pub(crate) async fn answer(
        &self,
        backend: Option<&dyn BackendHealth>,
        redis: Option<&RedisStats>,
        sidecar: impl FnOnce() -> Sidecar,
    ) -> Reply {
        let Some(backend) = backend else {
            let sidecar = sidecar();
            let members = Members::unknown();
            return merged(StatusCode::OK, members, &sidecar, &Checks::of(None, redis));
        };
        match self.fetch(backend).await {
            Ok(answer) => match Members::read(&answer.body) {
                Some(members) => {
                    let check = Check {
                        ok: answer.status.is_success(),
                        ms: Some(milliseconds(answer.took)),
                        error: (!answer.status.is_success())
                            .then(|| format!("answered {}", answer.status.as_u16()).into()),
                    };
                    merged(answer.status, members, &sidecar(), &Checks::of(Some(check), redis))
                }
                None => Reply::relayed(answer.status, answer.content_type, answer.body),
            },
            Err(down) => {
                let mut sidecar = sidecar();
                // The score waits for several failed checks; who asks for health now is told what is so now.
                sidecar.status = Status::Unhealthy;
                sidecar.health_score = sidecar.health_score.min(DOWN_SCORE);
                let members = self.last.lock().members.clone().unwrap_or_else(Members::unknown);
                let check = Check { ok: false, ms: None, error: Some(down.0) };
                merged(StatusCode::SERVICE_UNAVAILABLE, members, &sidecar, &Checks::of(Some(check), redis))
                    .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
        }
    }
}

impl Checks {
    fn of(backend: Option<Check>, redis: Option<&RedisStats>) -> Self {
        let redis = redis.map(|stats| Check {
            ok: stats.is_up(),
            ms: stats.ping_ms().map(|ms| (ms * 100.0).round() / 100.0),
            error: stats.error().map(Into::into),
        });
        Self { backend, redis, postgres: None, claude: None }
    }
}

fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e5).round() / 100.0
}

fn merged(status: StatusCode, mut members: Members, sidecar: &Sidecar, checks: &Checks) -> Reply {
    members.lower(sidecar.status);
    match serde_json::to_vec(&Merged { members: &members, sidecar, checks }) {
        Ok(body) => Reply::new(status, Kind::Json, body),
        Err(_) => Reply::detail(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written as JSON"),
    }
}

/// The members of a JSON object in their order, each value as the text that came.
#[derive(Clone, Debug)]
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Reads an object; none for anything else. Of a repeated member the last value counts, as in Python.
    fn read(body: &Bytes) -> Option<Self> {
        let Self(pairs) = serde_json::from_slice(body).ok()?;
        let mut place: HashMap<String, usize> = HashMap::with_capacity(pairs.len());
        let mut members: Vec<(String, Box<RawValue>)> = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            match place.get(&name).and_then(|index| members.get_mut(*index)) {
                Some(member) => member.1 = value,
                None => {
                    place.insert(name.clone(), members.len());
                    members.push((name, value));
                }
            }
        }
        Some(Self(members))
    }

    /// The known members, all of them `null`: nothing is known.
    fn unknown() -> Self {
        Self(KNOWN.iter().map(|name| ((*name).to_owned(), RawValue::NULL.to_owned())).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(member, _)| member == name)
    }

    /// Makes `status` say at least as much harm as `status`. A word that we do not know, and a status that is no
    /// text, stay as they are: replacing them could make a failure look smaller.
    fn lower(&mut self, status: Status) {
        let Some((_, value)) = self.0.iter_mut().find(|(name, _)| name == "status") else { return };
        let is_lower = match serde_json::from_str::<Option<Cow<'_, str>>>(value.get()) {
            Ok(Some(word)) => harm_of(&word).is_some_and(|said| said < harm(status)),
            Ok(None) => true,
            Err(_) => false,
        };
        if is_lower && let Ok(word) = serde_json::value::to_raw_value(status.as_str()) {
            *value = word;
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The backend's members, then ours; where the backend owns one of our names, ours goes under `touchline`.
struct Merged<'a> {
    members: &'a Members,
    sidecar: &'a Sidecar,
    checks: &'a Checks,
}

/// Ours, where their names are taken.
#[derive(Serialize)]
struct Aside<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sidecar: Option<&'a Sidecar>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<&'a Checks>,
}

impl Serialize for Merged<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let aside = Aside {
            sidecar: self.members.has("sidecar").then_some(self.sidecar),
            checks: self.members.has("checks").then_some(self.checks),
        };
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.members.0 {
            map.serialize_entry(name, value)?;
        }
        if aside.sidecar.is_none() {
            map.serialize_entry("sidecar", self.sidecar)?;
        }
        if aside.checks.is_none() {
            map.serialize_entry("checks", self.checks)?;
        }
        if (aside.sidecar.is_some() || aside.checks.is_some()) && !self.members.has("touchline") {
            map.serialize_entry("touchline", &aside)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
