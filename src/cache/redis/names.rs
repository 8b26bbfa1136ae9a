//! The names of things in Redis.

use super::mark::Replica;
use crate::cache::key::{Key, VariantDigest, hex};

/// Makes names that begin as configured.
#[derive(Debug)]
pub(super) struct Names {
    prefix: Box<str>,
    pub(super) marks: String,
    pub(super) events: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into(), marks: format!("{prefix}marks"), events: format!("{prefix}events") }
    }

    /// What is written to see whether the server takes writes.
    pub(super) fn probe(&self, replica: &Replica, connection: usize) -> String {
        format!("{}up:{}:{connection}", self.prefix, String::from_utf8_lossy(replica))
    }

    /// An answer, or the list of what it varies by.
    pub(super) fn entry(&self, resource: &Key) -> String {
        format!("{}e:{{{}}}", self.prefix, resource.name())
    }

    /// One variant of an answer.
    pub(super) fn variant(&self, resource: &Key, digest: &VariantDigest) -> String {
        format!("{}v:{{{}}}:{}", self.prefix, resource.name(), hex(digest))
    }

    /// A sum that replicas share.
    pub(super) fn sum(&self, name: &str) -> String {
        format!("{}s:{name}", self.prefix)
    }

    /// A state that replicas share, among those with the same tag.
    pub(super) fn state(&self, tag: &str, name: &str) -> String {
        format!("{}c:{{{tag}}}:{name}", self.prefix)
    }

    /// What a process left for the next one of its name.
    pub(super) fn note(&self, name: &str) -> String {
        format!("{}n:{{{name}}}", self.prefix)
    }

    /// Which process holds the name of a note.
    pub(super) fn holder(&self, name: &str) -> String {
        format!("{}n:{{{name}}}:by", self.prefix)
    }

    /// The lease of a fetch. `wanted` is the resource, or the variant of it that is fetched.
    pub(super) fn lease(&self, resource: &Key, wanted: &Key) -> String {
        let name = resource.name();
        if resource == wanted {
            format!("{}l:{{{name}}}", self.prefix)
        } else {
            format!("{}l:{{{name}}}:{}", self.prefix, wanted.name())
        }
    }
}
