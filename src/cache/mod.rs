//! The cache: what is kept of answers, under which key, for how long it counts, and how it ends.
//!
//! `rfc9111` decides (pure); `key`, `query`, `body` (with `json` and `graphql`), `identity` and `tags` name; `entry`, `coded`,
//! `variants` and `memory` keep; `encode` makes codings of bodies; `flight` and `hit_for_miss` see to it that one request
//! fetches for many; `fill` copies bodies on their way; `new_keys` bounds what a route may add; `scope`, `purge` and
//! `prefixes` end entries; `observe` pretends; `redis` and `replicas` share all of it with other replicas, and `shared`
//! what other planes have to share there; `store` puts these together for the
//! ingress plane and `stats` counts. Nothing here calls upstream, spawns a task or, `clock` and the deadlines of `redis`
//! apart, reads a clock.
//!
//! The order of a request: [`Cache::key`], [`Cache::lookup`]; `rfc9111` judges what was found; if a fetch is needed
//! [`Cache::join`] says who makes it and the others [`Cache::follow`]. Who fetches reads [`Cache::generation`] first,
//! copies the body with [`Cache::fill`], and hands it to [`Cache::store`] and [`Lead::publish`]; [`Cache::release`]
//! if it may not be stored; if the fetch failed the lead is dropped.

mod body;
mod clock;
mod coded;
mod encode;
mod entry;
mod error;
mod fill;
mod flight;
mod graphql;
mod hit_for_miss;
mod hot;
mod identity;
mod json;
mod key;
mod memory;
mod new_keys;
pub mod observe;
mod prefixes;
mod purge;
mod query;
mod redis;
mod replicas;
pub mod rfc9111;
#[cfg(test)]
mod samples;
mod scope;
mod shared;
mod stats;
mod store;
mod tags;
mod variants;

pub use body::{BodyPart, body_members, is_readable};
pub use clock::Clock;
pub use coded::Representation;
pub use encode::encode;
pub use entry::{Entry, NewEntry, strong_etag};
pub use error::TagError;
pub use fill::Fill;
pub use flight::{Landed, Lead, Waiter};
pub use graphql::{is_clean_answer, is_query};
pub use identity::{IdentityTag, Subject, Who};
pub use key::{Key, KeyParts, KeyRule, Scheme, Target, canonical_authority, cookie_values};
pub use memory::Retired;
pub use new_keys::NewKeys;
pub use purge::{Culprit, Generation};
pub use query::{QueryRule, parameter};
pub use redis::{HeldNote, OpenedNote};
pub use scope::Scope;
pub use stats::CacheStats;
pub use store::{Cache, Lookup, Peek, PurgeOutcome, Settings, Turn};
pub use tags::{MAX_TAG_BYTES, MAX_TAGS, Tag, TagTemplate, TagValues};

/// A length as a number to count with.
fn to_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
