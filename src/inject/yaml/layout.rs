//! How a document is laid out, so that what comes in looks like what is there.

use super::{
    lines,
    node::{Document, Kind, Node},
};

/// Levels that are looked at for an example.
const MAX_DEPTH: usize = 12;

/// Indentation, in columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// A map below its key.
    pub(super) step: usize,
    /// The dashes of a list below its key.
    pub(super) dash: usize,
    /// The value after its dash.
    pub(super) gap: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self { step: 2, dash: 0, gap: 2 }
    }
}

impl Layout {
    /// The layout of a document, by its first map within a map, and its first list.
    pub(super) fn of(document: &Document) -> Self {
        let mut seen = Seen::default();
        if let Some(root) = &document.root {
            seen.look(&document.text, root, 0);
        }
        let usual = Self::default();
        let step = seen.step.unwrap_or(usual.step);
        Self { step, dash: seen.dash.unwrap_or(usual.dash), gap: seen.gap.unwrap_or(usual.gap) }
    }
}

#[derive(Default)]
struct Seen {
    step: Option<usize>,
    dash: Option<usize>,
    gap: Option<usize>,
}

impl Seen {
    fn look(&mut self, text: &str, node: &Node, depth: usize) {
        if depth > MAX_DEPTH || node.is_flow || (self.step.is_some() && self.dash.is_some()) {
            return;
        }
        match &node.kind {
            Kind::Map(entries) => {
                for entry in entries {
                    self.pair(text, lines::column_of(text, entry.key_start), &entry.value);
                    self.look(text, &entry.value, depth + 1);
                }
            }
            Kind::List(items) => {
                for item in items.iter().take(1) {
                    self.look(text, item, depth + 1);
                }
            }
            Kind::Scalar(_) | Kind::Alias(_) => {}
        }
    }

    /// A key in a column, with its value.
    fn pair(&mut self, text: &str, column: usize, value: &Node) {
        if value.is_flow {
            return;
        }
        let inner = lines::column_of(text, value.start);
        match &value.kind {
            Kind::Map(_) if inner > column => {
                self.step.get_or_insert(inner - column);
            }
            Kind::List(items) if inner >= column && self.dash.is_none() => {
                self.dash = Some(inner - column);
                let first = items.first().map(|item| lines::column_of(text, item.start));
                // A longer gap is an alignment of its own, or the value stands on another line.
                self.gap =
                    first.and_then(|first| first.checked_sub(inner)).filter(|gap| (2..=4).contains(gap));
            }
            _ => {}
        }
    }
}
