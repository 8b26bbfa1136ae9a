//! The lease of a fetch: the right of one replica to fetch for all. Who does not get it looks again for what the other
//! brings.

use std::{sync::Arc, time::Duration};

use super::{
    tier::{Asked, Failed, RedisTier, shard_of},
    value::{HEAD, is_list},
};
use crate::cache::{entry::NewEntry, key::Key};

/// The duty to fetch for all replicas. Dropping it gives it back.
pub(in crate::cache) struct Lease {
    tier: Arc<RedisTier>,
    name: String,
    token: [u8; 16],
    shard: usize,
}

/// What asking for a lease brings.
pub(in crate::cache) struct Leased {
    /// What is stored now.
    pub(in crate::cache) found: Option<Box<NewEntry>>,
    /// The lease; none while another replica has it.
    pub(in crate::cache) lease: Option<Lease>,
}

impl RedisTier {
    /// Asks for the duty to fetch, and looks once more. `wanted` is the resource, or the variant of it that is fetched;
    /// without a word the lease ends after `life`. `seen` is the beginning of the value that was seen last.
    pub(in crate::cache) async fn lease(
        self: &Arc<Self>,
        wanted: &Key,
        Asked { key: resource, request, now }: Asked<'_>,
        life: Duration,
        seen: &mut Vec<u8>,
    ) -> Result<Leased, Failed> {
        let shard = shard_of(resource, self.queues.len());
        let Some(mut connection) = self.connection(shard) else { return Err(Failed) };
        let (lease, entry) = (self.names.lease(resource, wanted), self.names.entry(resource));
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(|_| Failed)?;
        let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut both = redis::pipe();
        both.cmd("SET").arg(&lease).arg(&token).arg("NX").arg("PX").arg(life_ms);
        both.cmd("GETRANGE").arg(&entry).arg(0).arg(HEAD - 1);
        // From here on it is given back whatever happens: also where the word that it was granted comes too late.
        let mut lease = Lease { tier: Arc::clone(self), name: lease, token, shard };
        let (granted, head): (Option<String>, Vec<u8>) = self.ask(both.query_async(&mut connection)).await?;
        if granted.is_none() {
            lease.name.clear();
        }
        let lease = granted.map(|_| lease);
        // The beginning tells whether it is another value than the last time. The list of what an answer varies by stays the
        // same, whatever becomes of the variants.
        let is_same = head.is_empty() || (*seen == head && !is_list(&head));
        if is_same {
            return Ok(Leased { found: None, lease });
        }
        *seen = head;
        let value = self.value_of(&mut connection, &entry).await?;
        let asked = Asked { key: resource, request, now };
        let found = self.open(&mut connection, (&entry, value), asked).await?;
        Ok(Leased { found, lease })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One that was not granted has no name.
        if self.name.is_empty() {
            return;
        }
        self.tier.release(std::mem::take(&mut self.name), self.token, self.shard);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease")
    }
}
