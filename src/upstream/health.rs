//! Whether an upstream answers, asked from time to time so that a probe of ours costs no call of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Request, header};
use tracing::{info, warn};

use super::{Call, Client, Error, Head, Timing, Upstream, stream::Stream};
use crate::{
    net::{
        Body,
        drain::{Drain, Phase},
    },
    telemetry::UpstreamStats,
};

/// How often the upstream is asked.
const PAUSE: Duration = Duration::from_secs(1);

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many unanswered questions in a row are worth a word: one may be lost to a restart.
const PATIENT_FOR: u32 = 2;

/// The last findings.
#[derive(Default)]
pub struct Health {
    has_answered: AtomicBool,
    failures: AtomicU32,
}

impl Health {
    /// True once the upstream has answered at all.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Acquire)
    }

    /// Begins with the findings about another upstream in whose place this one comes.
    pub fn follow(&self, other: &Self) {
        self.has_answered.store(other.has_answered(), Ordering::Release);
    }

    /// How many questions in a row went unanswered.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Acquire)
    }

    fn record(&self, stats: &UpstreamStats, result: &Result<Duration, Error>) {
        match result {
            Ok(time) => {
                self.has_answered.store(true, Ordering::Release);
                stats.set_up(true, Some(time.as_secs_f64() * 1000.0));
                stats.set_failed_probes(0);
                if self.failures.swap(0, Ordering::AcqRel) >= PATIENT_FOR {
                    info!(upstream = stats.name(), "the upstream answers again");
                }
            }
            // That we are busy, or have just seen it fail, says nothing new about the upstream.
            Err(Error::Overload | Error::BreakerOpen) => {}
            Err(error) => {
                let failures = self.failures.fetch_add(1, Ordering::AcqRel) + 1;
                stats.set_failed_probes(failures);
                if failures >= PATIENT_FOR {
                    stats.set_up(false, None);
                }
                if failures == PATIENT_FOR {
                    warn!(upstream = stats.name(), %error, "the upstream does not answer");
                }
            }
        }
    }
}

/// Asks from now until shutdown: by a GET of `path`, or by opening a connection where there is none.
pub fn spawn(upstream: Arc<Upstream>, path: Option<String>, drain: &Drain) {
    let mut closing = drain.reached(Phase::Closing);
    let client = Client::new(Arc::clone(&upstream));
    drain.spawn(async move {
        loop {
            let result = ask(&client, path.as_deref()).await;
            upstream.health.record(upstream.stats(), &result);
            tokio::select! {
                () = &mut closing => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    });
}

async fn ask(client: &Client, path: Option<&str>) -> Result<Duration, Error> {
    let start = tokio::time::Instant::now();
    let upstream = client.upstream();
    let Some(path) = path else {
        Stream::connect(upstream.address(), upstream.tls(), upstream.connect_limit()).await?;
        return Ok(start.elapsed());
    };
    let mut request = Request::new(());
    *request.uri_mut() = path.parse().map_err(|_| Error::BadResponse)?;
    request.headers_mut().insert(header::HOST, client.upstream().authority().clone());
    let (parts, ()) = request.into_parts();
    let call = Call {
        body: Body::Empty,
        interim: None,
        first_byte: Some(PATIENCE),
        bulkhead: None,
        is_fresh: false,
    };
    let reply = client.call(Head::of(&parts), call, &mut Timing::default()).await?;
    if reply.response.status().is_server_error() { Err(Error::BadResponse) } else { Ok(start.elapsed()) }
}
