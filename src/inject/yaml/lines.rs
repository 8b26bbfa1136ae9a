//! Lines of a text, and how edits of lines become a text.

/// The byte order mark, which belongs to no line.
const MARK: &str = "\u{feff}";

/// One change to a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// Whole lines, each with its end, that come in where a line begins.
    Insert { at: usize, lines: String },
    /// Whole lines that go.
    Delete { from: usize, to: usize },
    /// A part of a line, or of some.
    Replace { from: usize, to: usize, with: String },
}

impl Edit {
    fn place(&self) -> usize {
        match self {
            Self::Insert { at, .. } => *at,
            Self::Delete { from, .. } | Self::Replace { from, .. } => *from,
        }
    }
}

/// Where the line of a byte begins.
pub(super) fn start_of(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    match before.rfind('\n') {
        Some(newline) => newline + 1,
        None if text.starts_with(MARK) => MARK.len().min(at),
        None => 0,
    }
}

/// Where the line after that of a byte begins.
pub(super) fn end_of(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |newline| at + newline + 1)
}

/// The columns before a byte.
pub(super) fn column_of(text: &str, at: usize) -> usize {
    text.get(start_of(text, at)..at).map_or(0, |before| before.chars().count())
}

/// Whether only spaces stand before a byte on its line.
pub(super) fn is_first(text: &str, at: usize) -> bool {
    text.get(start_of(text, at)..at).is_some_and(|before| before.chars().all(|c| c == ' '))
}

/// Makes the edits, which may not overlap but in what they delete; those of one place in their order.
pub(super) fn apply(text: &str, edits: Vec<Edit>) -> String {
    let newline = if uses_crlf(text) { "\r\n" } else { "\n" };
    let is_open = !text.is_empty() && !text.ends_with('\n');
    let mut made = String::with_capacity(text.len() + 4096);
    let mut done = 0;
    for edit in settled(text, edits, is_open) {
        let place = edit.place();
        if place > done {
            made.push_str(text.get(done..place).unwrap_or_default());
            done = place;
        }
        match edit {
            Edit::Insert { at, lines } => {
                // After a last line without an end, the end comes before the new lines instead of after them.
                let is_after_open = is_open && at == text.len();
                let lines = lines.replace('\n', newline);
                if is_after_open {
                    made.push_str(newline);
                    made.push_str(lines.strip_suffix(newline).unwrap_or(&lines));
                } else {
                    made.push_str(&lines);
                }
            }
            Edit::Delete { to, .. } => done = done.max(to),
            Edit::Replace { to, with, .. } => {
                made.push_str(&with.replace('\n', newline));
                done = done.max(to);
            }
        }
    }
    made.push_str(text.get(done..).unwrap_or_default());
    made
}

/// The edits in order. Lines that go from the end of a text whose last line has no end take the end before them along.
fn settled(text: &str, mut edits: Vec<Edit>, is_open: bool) -> Vec<Edit> {
    edits.sort_by_key(Edit::place);
    let mut settled: Vec<Edit> = Vec::with_capacity(edits.len());
    for edit in edits {
        if let (Edit::Delete { from, to }, Some(Edit::Delete { to: before, .. })) =
            (&edit, settled.last_mut())
            && *from <= *before
        {
            *before = (*before).max(*to);
            continue;
        }
        settled.push(edit);
    }
    for edit in &mut settled {
        if let Edit::Delete { from, to } = edit
            && is_open
            && *to == text.len()
        {
            let before = text.get(..*from).unwrap_or_default();
            *from = before
                .strip_suffix('\n')
                .map_or(before, |rest| rest.strip_suffix('\r').unwrap_or(rest))
                .len();
        }
    }
    settled
}

/// Whether the first line ends as on Windows.
pub(super) fn uses_crlf(text: &str) -> bool {
    text.find('\n').is_some_and(|newline| text.get(..newline).unwrap_or_default().ends_with('\r'))
}
