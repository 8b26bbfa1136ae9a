//! A stream of documents cut into the texts of its documents.

/// Cuts a stream so that the parts together are the stream again, and each holds at most one document.
///
/// A line that begins with `---` begins a document, wherever it stands: YAML allows it within no value. What comes
/// before the first document, or after a `...`, belongs to the document that follows. Documents of JSON may follow
/// one another without a line between them.
pub(crate) fn chunks(text: &str) -> Vec<&str> {
    if text.trim_start().starts_with('{')
        && let Some(ends) = ends_of_json(text)
    {
        return cut(text, &ends);
    }
    let mut starts = Vec::new();
    let mut has_content = false;
    let mut has_marker = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let is_marker = is_marker(line.trim_start_matches('\u{feff}'), "---");
        if is_marker {
            if has_content || has_marker {
                starts.push(at);
            }
            has_content = false;
            has_marker = true;
        } else if is_marker_of_end(line) {
            starts.push(at + line.len());
            has_content = false;
            has_marker = false;
        } else if !is_blank(line) {
            has_content = true;
        }
        at += line.len();
    }
    cut(text, &starts)
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

fn is_marker_of_end(line: &str) -> bool {
    is_marker(line, "...")
}

/// Nothing, a comment, or a directive; a directive within a document is text, but then text came before it.
fn is_blank(line: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}');
    line.trim().is_empty() || line.trim_start().starts_with('#') || line.starts_with('%')
}

/// Where the documents of a stream of JSON end, if it is one of at least two.
fn ends_of_json(text: &str) -> Option<Vec<usize>> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    let mut ends = Vec::new();
    while let Some(next) = stream.next() {
        next.ok()?;
        let end = stream.byte_offset();
        // The end of the line belongs to the document.
        let rest = text.get(end..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
        ends.push(if rest.get(blank..).is_some_and(|rest| rest.starts_with('\n')) {
            end + blank + 1
        } else {
            end
        });
    }
    (ends.len() > 1).then_some(ends)
}

fn cut<'a>(text: &'a str, places: &[usize]) -> Vec<&'a str> {
    let mut parts = Vec::with_capacity(places.len() + 1);
    let mut done = 0;
    for place in places {
        parts.push(text.get(done..*place).unwrap_or_default());
        done = *place;
    }
    parts.push(text.get(done..).unwrap_or_default());
    parts.retain(|part| !part.is_empty());
    parts
}
