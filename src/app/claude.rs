//! The Claude plane, plugged in: its upstream with TLS, its secret, its gate, and what it shares with other replicas.

mod counts;
pub(super) mod keeping;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::{
    cache::Cache,
    claude::{Adding, Claude, Parts, Reading, SharedStates, SharedSums, Writing},
    config::{self, BackendAddress, Config},
    net::{drain::Drain, listener::Gate},
    telemetry::{self, Listener, Telemetry},
    upstream::{Tls, Upstream},
};

/// Connections of the backend: its pool of threads, several times over.
const CONNECTIONS: u32 = 4096;

/// The plane and the gate that all its workers share; none without its section.
pub(super) fn plane(
    config: &Config,
    telemetry: &Arc<Telemetry>,
    cache: &Arc<Cache>,
    drain: &Drain,
) -> anyhow::Result<Option<(Arc<Claude>, Arc<Gate>)>> {
    let Some(section) = &config.claude else { return Ok(None) };
    let parts = Parts {
        telemetry: Arc::clone(telemetry),
        upstream: upstream(section, telemetry)?,
        drain: drain.clone(),
        key: key(config),
        sums: cache.redis().map(|_| Arc::new(Sums(Arc::clone(cache))) as _),
        // Without a secret that replicas have in common they know a conversation by different names.
        states: config
            .cache
            .identity_secret
            .as_ref()
            .and_then(|_| cache.redis())
            .map(|_| Arc::new(States(Arc::clone(cache))) as _),
        chance: telemetry::random,
    };
    let claude = Claude::new(section, parts).context("compiling the claude section")?;
    let gate = Gate::new(CONNECTIONS, 0, telemetry.listener(Listener::Claude));
    Ok(Some((claude, gate)))
}

/// The sums of budgets, over the cache's connections to Redis. Which of them hold is told by the cache's own lines: that
/// Redis is up, down, or keeps no sums.
struct Sums(Arc<Cache>);

impl SharedSums for Sums {
    fn add<'a>(&'a self, name: &'a str, amount: i64, life: Duration) -> Adding<'a> {
        Box::pin(self.0.add_to_sum(name, amount, life))
    }
}

/// The API as another configuration describes it, or as it is where that describes the same.
pub(super) fn renewed_upstream(
    claude: &Claude,
    (old, new): (&config::Claude, &config::Claude),
    telemetry: &Telemetry,
) -> anyhow::Result<Arc<Upstream>> {
    let is_same = (&old.upstream, &old.ca) == (&new.upstream, &new.ca)
        && Claude::upstream_settings(old) == Claude::upstream_settings(new);
    // The file of certificates may have changed under its name.
    if is_same && new.ca.is_none() { Ok(claude.upstream()) } else { upstream(new, telemetry) }
}

/// States of conversations, likewise.
struct States(Arc<Cache>);

impl SharedStates for States {
    fn read<'a>(&'a self, tag: &'a str, names: &'a [String]) -> Reading<'a> {
        Box::pin(self.0.read_states(tag, names))
    }

    fn write<'a>(&'a self, tag: &'a str, name: &'a str, value: &'a [u8], life: Duration) -> Writing<'a> {
        Box::pin(async move {
            // What is not written is not known elsewhere, and nothing worse.
            let _ = self.0.write_state(tag, name, value, life).await;
        })
    }
}

fn upstream(section: &config::Claude, telemetry: &Telemetry) -> anyhow::Result<Arc<Upstream>> {
    let api = &section.upstream;
    let tls = api.is_tls.then(|| Tls::new(&api.host, section.ca.as_deref().map(Path::new)));
    let tls = tls.transpose().context("setting up TLS to claude.upstream")?;
    let address = BackendAddress::Tcp { host: api.host.clone(), port: api.port };
    let settings = Claude::upstream_settings(section);
    let limits = config::Limits::default();
    let upstream = Upstream::at((address, tls), &settings, &limits, telemetry.upstream("claude"));
    Ok(upstream.named(&api.authority()))
}

/// What names are hashed with: the operator's secret, so that they are the same in all replicas and after a restart, else
/// a random one of this process.
fn key(config: &Config) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"touchline claude");
    match &config.cache.identity_secret {
        Some(secret) => hash.update(secret.expose()),
        None => (0..4).for_each(|_| hash.update(telemetry::random().to_le_bytes())),
    }
    hash.finalize().into()
}
