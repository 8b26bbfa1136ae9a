//! YAML as text that can be changed in place: what stands where, what it means, and how a changed value is written.
//!
//! A change is described by the value that a document is to have. `edit` turns the difference into insertions and
//! deletions of lines, so that everything else keeps its bytes; `emit` writes a document anew where that cannot be
//! done. Nothing here knows Kubernetes.

mod chunks;
mod edit;
mod emit;
mod layout;
mod lines;
mod node;
mod scalar;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    chunks::chunks,
    emit::manifest,
    node::Document,
    scalar::{Meaning, Scalar},
    value::{Map, Value, same},
};

/// A document with another value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Only the lines that differ were touched.
    InPlace(String),
    /// The document was written anew, without its comments.
    Anew(String),
}

/// The text of the document with `new` as its value; `None` if no text could be made that is read as that value.
pub(crate) fn change(document: &Document, new: &Value) -> Option<Changed> {
    let is_right = |text: &String| {
        Document::parse(text).is_ok_and(|again| again.value().is_some_and(|value| same(value, new)))
    };
    if let Some(text) = emit::json_like(document, new).filter(is_right) {
        return Some(Changed::InPlace(text));
    }
    if let Some(text) = edit::edit(document, new).filter(is_right) {
        return Some(Changed::InPlace(text));
    }
    if !document.can_be_written_anew() {
        return None;
    }
    Some(emit::anew(document, new)).filter(is_right).map(Changed::Anew)
}
