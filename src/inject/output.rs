//! The forms in which a result is printed: the manifests, JSON, patches, or a difference.

use super::{
    Outcome,
    patch::strategic,
    stream::Id,
    yaml::{self, Value},
};

/// An object that is there before, afterwards, or both.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) id: Id,
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
}

/// The manifests, as one stream.
pub(super) fn yaml(outcome: &Outcome) -> String {
    let mut made = String::new();
    for source in &outcome.after {
        let is_first = made.trim().is_empty();
        if !is_first && !source.text.is_empty() {
            if !made.ends_with('\n') {
                made.push('\n');
            }
            let text = source.text.trim_start_matches('\u{feff}');
            if !text.starts_with("---") && !text.starts_with('%') {
                made.push_str("---\n");
            }
        }
        made.push_str(&source.text);
    }
    made
}

/// Every object as JSON, one after the other.
pub(super) fn json(outcome: &Outcome) -> String {
    let objects = outcome.pairs.iter().filter_map(|pair| pair.new.as_ref());
    objects.map(|object| format!("{:#}\n", object.json())).collect()
}

/// A strategic merge patch for each object that changes, with how it is applied.
pub(super) fn patch(outcome: &Outcome) -> String {
    let mut made = String::new();
    for Pair { id, old, new } in &outcome.pairs {
        let kind = id.kind.to_lowercase();
        let namespace = if id.namespace.is_empty() { String::new() } else { format!(" -n {}", id.namespace) };
        let part = match (old, new) {
            (Some(old), Some(new)) => match strategic(old, new) {
                Some(patch) => format!(
                    "# {id}: kubectl{namespace} patch {kind} {} --patch-file FILE\n{}",
                    id.name,
                    yaml::manifest(&patch)
                ),
                None => continue,
            },
            (None, Some(new)) => format!("# {id} is new: kubectl apply -f FILE\n{}", yaml::manifest(new)),
            (Some(_), None) => format!("# {id} goes: kubectl{namespace} delete {kind} {}\n", id.name),
            (None, None) => continue,
        };
        if !made.is_empty() {
            made.push_str("---\n");
        }
        made.push_str(&part);
    }
    made
}

/// The difference between the texts, as `diff -u` prints it.
pub(super) fn diff(outcome: &Outcome) -> String {
    let mut made = String::new();
    for (before, after) in outcome.before.iter().zip(&outcome.after) {
        if before.text != after.text {
            let diff = similar::TextDiff::from_lines(&before.text, &after.text);
            let (old, new) = (format!("a/{}", before.name), format!("b/{}", before.name));
            made.push_str(&diff.unified_diff().context_radius(3).header(&old, &new).to_string());
        }
    }
    made
}
