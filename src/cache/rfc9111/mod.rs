//! HTTP caching as pure decisions (RFC 9111): what may be stored, reused, validated, merged, served in part,
//! invalidated.
//!
//! Borrowed heads, times as numbers and a [`Policy`] go in; values come out. There is no I/O, no clock and no
//! state here. Where copies are kept, who fetches and what is sent is decided elsewhere.
//!
//! The order of a request's life:
//! 1. [`RequestHead::new`] looks at each request field once; [`admit()`] says whether the store is asked at
//!    all.
//! 2. The store finds the copies of a key and keeps those whose [`Selection::matches`] the request; the
//!    newest `Date` wins.
//! 3. [`may_reuse`] judges that copy, [`on_absent`] the lack of one; [`condition()`] picks 200, 206, 304 or
//!    416 for a hit.
//! 4. A copy that must be validated is asked about with [`make_conditional`]; a 304 goes to [`merge()`], a
//!    failure to [`may_serve_on_failure`].
//! 5. Any other answer goes to [`may_store`], and what it allows is kept with [`Storable::head`].
//! 6. After an unsafe method [`invalidates`], [`invalidated_targets`] and [`invalidated_groups`] name what must go.
//!
//! What is left to chance comes in as a number: [`jittered`] ends, and [`is_refresh_due`] the refresh of a copy that is
//! still fresh.

mod admit;
mod bypass;
mod coding;
mod condition;
mod dates;
mod dictionary;
mod directives;
mod etag;
mod fields;
#[cfg(test)]
mod fixture;
mod freshness;
mod groups;
mod head;
mod invalidate;
mod language;
mod media;
mod merge;
mod meta;
mod overrule;
mod path;
mod personal;
mod policy;
mod reuse;
mod spread;
mod storable;
mod target;
mod vary;

pub use admit::{Admission, admit};
pub use bypass::BypassWhen;
pub use coding::{
    Accepted, Coding, add_plain_tags, coded_head, forbids_transforming, is_encodable, is_long_enough,
    known_tag, vary_by_coding,
};
pub use condition::{Condition, condition};
pub use dates::{format_date, parse_date};
pub use etag::{is_etag, strong_match, weak_match};
pub use fields::{not_modified_head, partial_content_head, unsatisfiable_head};
pub use groups::{cache_groups, invalidated_groups};
pub use head::{RequestHead, ResponseHead, Stored, Times};
pub use invalidate::{head_contradicts, invalidated_targets, invalidates};
pub use language::Languages;
pub use media::MediaRange;
pub use merge::{Merge, make_conditional, make_unconditional, merge};
pub use meta::{Meta, Source};
pub use path::is_plain_path;
pub use personal::make_private;
pub use policy::{Policy, Rule};
pub use reuse::{Failure, Reuse, may_reuse, may_serve_on_failure, on_absent};
pub use spread::{is_near_end, is_refresh_due, jittered};
pub use storable::{Storable, may_store};
pub use vary::{Selection, normal_encoding};

#[cfg(test)]
mod tests;
