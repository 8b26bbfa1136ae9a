//! Where a text stops being YAML, in words for someone who does not know the parser.
//!
//! The parser reports where it could not go on; the slip is often a line above. The common slips are recognised by the
//! look of the lines around.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::problem::{Found, Mark, Source};

/// Explains the parser's error.
pub(super) fn explain(error: &ScanError, source: &Source<'_>) -> Found {
    let place = Mark { line: error.marker().line().max(1), column: error.marker().col() + 1, width: 1 };
    let line = source.line(place.line);
    match error.kind() {
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            tab(place, line)
        }
        ErrorKind::RecursionLimitExceeded => found(place, "maps and lists are nested too deeply".to_owned()),
        ErrorKind::UnknownAnchor => found(place, "the alias has no anchor before it".to_owned())
            .hint("text that starts with `*` needs quotes"),
        ErrorKind::UnclosedQuotedScalar => {
            found(place, "the quote that opens here is never closed".to_owned())
        }
        kind => {
            let before: String = line.chars().take(place.column.saturating_sub(1)).collect();
            if opened(&before) > 0 {
                return found(place, format!("not valid YAML: {kind}")).hint(
                    "within `{ }` and `[ ]`, text with `{`, `}`, `[`, `]` or `,` needs quotes: \"/api/{id}\"",
                );
            }
            no_colon(place.line, source)
                .or_else(|| too_deep(place, source))
                .or_else(|| never_closed(place, source))
                .unwrap_or_else(|| found(place, format!("not valid YAML: {kind}")))
        }
    }
}

fn found(place: Mark, message: String) -> Found {
    Found::error("", place, message)
}

fn tab(place: Mark, line: &str) -> Found {
    let column = line.chars().position(|c| c == '\t').map_or(place.column, |position| position + 1);
    found(Mark { column, ..place }, "a tab cannot indent YAML".to_owned()).hint("use spaces")
}

/// Brackets and braces that the text opens and does not close.
fn opened(text: &str) -> usize {
    text.chars().fold(0_usize, |depth, c| match c {
        '{' | '[' => depth + 1,
        '}' | ']' => depth.saturating_sub(1),
        _ => depth,
    })
}

/// The nearest line above with content, and its number.
fn above<'a>(number: usize, source: &Source<'a>) -> Option<(usize, &'a str)> {
    let has_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    (1..number).rev().map(|above| (above, source.line(above))).find(|(_, line)| has_content(line))
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|c| *c == ' ').count()
}

/// `backend:http://..` or `backend http://..` in this line or the one above.
fn no_colon(number: usize, source: &Source<'_>) -> Option<Found> {
    let here = Some((number, source.line(number))).filter(|(_, line)| !line.trim().is_empty());
    let (number, line) = here.into_iter().chain(above(number, source)).find(|(_, line)| lacks_colon(line))?;
    let text = line.trim();
    let place = Mark { line: number, column: indent(line) + 1, width: text.chars().count() };
    let end = text.find([':', ' ', '=']).unwrap_or(text.len());
    let (key, value) = text.split_at_checked(end)?;
    let value = value.trim_start_matches([':', ' ', '=']);
    let error = found(place, "not valid YAML: there is no `: ` between key and value".to_owned());
    let is_key = key.chars().all(|c| c.is_alphanumeric() || c == '_');
    Some(if is_key && !value.is_empty() && !looks_secret(key) {
        error.hint(format!("did you mean `{key}: {value}`?"))
    } else {
        error.hint("a colon and a space stand between them")
    })
}

fn looks_secret(key: &str) -> bool {
    super::problem::is_secret_word(key)
}

fn lacks_colon(line: &str) -> bool {
    let text = line.trim();
    let is_other = text.starts_with(['-', '#', '{', '[', ']', '}', '"', '\'', '&', '*', '|', '>']);
    !text.is_empty() && !is_other && !text.contains(": ") && !text.ends_with([':', ',', ']', '}'])
}

/// A key below a line that already has its value.
fn too_deep(place: Mark, source: &Source<'_>) -> Option<Found> {
    let line = source.line(place.line);
    let (_, over) = above(place.line, source)?;
    let key_column = indent(over) + if over.trim_start().starts_with("- ") { 2 } else { 0 };
    let (_, value) = over.split_once(": ")?;
    let is_complete =
        !value.trim().is_empty() && !value.trim().starts_with(['#', '|', '>', '&']) && opened(value) == 0;
    if !is_complete || indent(line) <= key_column {
        return None;
    }
    let place = Mark { column: indent(line) + 1, ..place };
    Some(
        found(
            place,
            "this line is indented deeper than the one above it, which has its value already".to_owned(),
        )
        .hint("keys of one map start in the same column"),
    )
}

/// A bracket that is open since a line above.
fn never_closed(place: Mark, source: &Source<'_>) -> Option<Found> {
    let (number, line) = above(place.line, source)?;
    if opened(line) == 0 {
        return None;
    }
    let column = line.chars().position(|c| matches!(c, '[' | '{'))? + 1;
    let place = Mark { line: number, column, width: 1 };
    Some(found(place, "the list or map that opens here is not closed before the next key".to_owned()))
}
