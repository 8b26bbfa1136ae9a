//! What is wrong with a file, and how that is shown: a block with the place, the line and a caret under the fault.

use std::fmt;

/// Longest part of a line that is shown; a longer line is cut around the fault.
const SHOWN: usize = 96;

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted; someone should look.
    Warning,
}

impl Severity {
    /// The word that starts the problem's block.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One problem of a file. Its `Display` draws the block that `touchline check` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// Name of the file as it was given.
    pub file: String,
    /// Place by keys, such as `ingress.routes[2].cache.ttl`; empty for the file as a whole.
    pub path: String,
    /// Line from 1; 0 when the file could not be read at all.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
    /// The line itself, with secrets masked and long ends cut; empty when there is none.
    pub snippet: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where the caret stands in the snippet, from 0, and how long it is.
    pub(super) caret: (usize, usize),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity.as_str(), printable(&self.message))?;
        let gutter = self.line.to_string().len();
        let place =
            if self.path.is_empty() { String::new() } else { format!(" ({})", printable(&self.path)) };
        let margin = " ".repeat(gutter);
        if self.line == 0 {
            write!(f, "\n{margin}--> {}", self.file)?;
        } else {
            write!(f, "\n{margin}--> {}:{}:{}{place}", self.file, self.line, self.column)?;
            if !self.snippet.is_empty() {
                let (offset, width) = self.caret;
                let (blank, caret) = (" ".repeat(offset), "^".repeat(width.max(1)));
                write!(f, "\n{margin} |\n{} | {}\n{margin} | {blank}{caret}", self.line, self.snippet)?;
            }
        }
        match &self.hint {
            Some(hint) => write!(f, "\n{margin} = help: {}", printable(hint)),
            None => Ok(()),
        }
    }
}

/// All problems of a file, in the order of their lines. At least one is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column, problem.severity));
        Self(problems)
    }

    /// The problems, errors and warnings.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|problem| problem.severity == Severity::Error).count()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            write!(f, "{problem}\n\n")?;
        }
        let (errors, warnings) = (self.errors(), self.0.len() - self.errors());
        write!(f, "{}", count(errors, "error"))?;
        if warnings > 0 {
            write!(f, " and {}", count(warnings, "warning"))?;
        }
        match self.0.first() {
            Some(problem) => write!(f, " in {}", problem.file),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problems {}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The text without characters that could move a terminal's cursor or end a log line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A file under examination: its name and its lines.
pub(super) struct Source<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
}

/// A stretch of one line: line and column from 1, width in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) width: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, lines: text.split('\n').map(|line| line.trim_end_matches('\r')).collect() }
    }

    /// The line with this number, from 1.
    pub(super) fn line(&self, number: usize) -> &'a str {
        number.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or("")
    }

    /// Draws the problem: takes the line, masks secrets in it, cuts it to a readable length.
    pub(super) fn problem(&self, found: Found) -> Problem {
        let Found { severity, path, mark, message, hint } = found;
        let line = self.line(mark.line);
        let total = line.chars().count();
        let start = mark.column.saturating_sub(1).min(total);
        let end = (start + mark.width.max(1)).min(total.max(start + 1));
        let shown = if self.continues_secret(mark.line) {
            "***".chars().map(|c| (0, c)).collect()
        } else {
            mask(line)
        };
        let offset = shown.iter().take_while(|(index, _)| *index < start).count();
        let width = shown.iter().filter(|(index, _)| (start..end).contains(index)).count();
        let (snippet, offset) = cut(&shown, offset);
        let width = width.clamp(1, (snippet.chars().count().saturating_sub(offset)).max(1));
        Problem {
            severity,
            file: self.name.to_owned(),
            path,
            line: mark.line,
            column: mark.column,
            snippet,
            message,
            hint,
            caret: (offset, width),
        }
    }

    /// Whether the line is the text of a block (`token: |`) under a key that names a secret.
    fn continues_secret(&self, number: usize) -> bool {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let here = indent(self.line(number));
        let above = (1..number).rev().map(|above| self.line(above)).filter(|line| !line.trim().is_empty());
        let Some(parent) = above.into_iter().find(|line| indent(line) < here) else { return false };
        let Some((key, value)) = parent.split_once(':') else { return false };
        is_secret_word(key)
            && matches!(value.trim().trim_end_matches(['-', '+']), "" | "|" | ">")
            && !self.line(number).contains(':')
    }
}

/// A problem before it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) severity: Severity,
    pub(super) path: String,
    pub(super) mark: Mark,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Found {
    /// An error at a place.
    pub(super) fn error(path: impl Into<String>, mark: Mark, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, path: path.into(), mark, message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The characters of a line with their positions, values of secret-looking keys and user names in URLs replaced.
///
/// The line is shown before or without a parse, so this goes by the look of it: better one value too many hidden.
fn mask(line: &str) -> Vec<(usize, char)> {
    let chars: Vec<char> = line.chars().collect();
    let mut shown = Vec::with_capacity(chars.len());
    let mut index = 0;
    while let Some(&c) = chars.get(index) {
        shown.push((index, if c.is_control() { ' ' } else { c }));
        index += 1;
        let rest = chars.get(index..).unwrap_or_default();
        let hidden = match c {
            ':' if is_secret_key(&chars, index - 1) => secret_value(rest),
            '/' if shown.len() > 1 && chars.get(index.wrapping_sub(2)) == Some(&'/') => user_info(rest),
            _ => None,
        };
        if let Some((lead, length)) = hidden {
            shown.extend(rest.iter().take(lead).enumerate().map(|(n, c)| (index + n, *c)));
            shown.extend([(index + lead, '*'), (index + lead, '*'), (index + lead, '*')]);
            index += lead + length;
        }
    }
    shown
}

/// Whether the word before the colon names a secret.
fn is_secret_key(chars: &[char], colon: usize) -> bool {
    let is_word = |c: &&char| c.is_alphanumeric() || matches!(c, '_' | '-' | '"' | '\'');
    let word: String = chars.iter().take(colon).rev().take_while(is_word).collect();
    is_secret_word(&word.chars().rev().collect::<String>())
}

pub(super) fn is_secret_word(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    ["tok", "secret", "passw", "pwd", "api_key", "apikey"].iter().any(|part| word.contains(part))
}

/// White space to keep and characters to hide of a secret's value; nothing for `{ file: .. }` and `${NAME}`.
fn secret_value(rest: &[char]) -> Option<(usize, usize)> {
    let lead = rest.iter().take_while(|c| c.is_whitespace()).count();
    let value = rest.get(lead..).unwrap_or_default();
    let first = value.first()?;
    if *first == '{' || *first == '#' || value.starts_with(&['"', '$', '{']) || value.starts_with(&['$', '{'])
    {
        return None;
    }
    let quote = ['"', '\''].into_iter().find(|quote| quote == first);
    let length = match quote {
        Some(quote) => value.iter().skip(1).take_while(|c| **c != quote).count() + 2,
        None => value.iter().take_while(|c| !matches!(c, ',' | '}')).count(),
    };
    Some((lead, length.min(value.len())))
}

/// The `user:password` before an `@` in a URL.
fn user_info(rest: &[char]) -> Option<(usize, usize)> {
    let authority = rest.iter().take_while(|c| !matches!(c, '/' | ' ' | '"' | '\'')).collect::<Vec<_>>();
    authority.iter().rposition(|c| **c == '@').map(|length| (0, length))
}

/// At most [`SHOWN`] characters around the caret, and where the caret then stands.
fn cut(shown: &[(usize, char)], offset: usize) -> (String, usize) {
    if shown.len() <= SHOWN {
        return (shown.iter().map(|(_, c)| c).collect::<String>().trim_end().to_owned(), offset);
    }
    let start = offset.saturating_sub(SHOWN / 2).min(shown.len() - SHOWN);
    let middle: String = shown.iter().skip(start).take(SHOWN).map(|(_, c)| c).collect();
    let (before, shift) = if start > 0 { ("...", 3) } else { ("", 0) };
    let after = if start + SHOWN < shown.len() { "..." } else { "" };
    (format!("{before}{middle}{after}"), offset - start + shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(line: &str, column: usize, width: usize) -> String {
        let source = Source::new("proxy.yaml", line);
        source
            .problem(Found::error("a.b", Mark { line: 1, column, width }, "bad").hint("mend it"))
            .to_string()
    }

    #[test]
    fn a_block_has_place_line_caret_and_help() {
        assert_eq!(
            draw("  ttl: 30", 8, 2),
            "error: bad\n --> proxy.yaml:1:8 (a.b)\n  |\n1 |   ttl: 30\n  |        ^^\n  = help: mend it"
        );
    }

    #[test]
    fn secrets_in_a_shown_line_are_masked_and_the_caret_follows() {
        let drawn = draw("control: { token: hunter2, listen: x }", 36, 1);

        assert!(!drawn.contains("hunter2"), "{drawn}");
        assert!(
            drawn.contains("1 | control: { token: ***, listen: x }\n  |                                ^"),
            "{drawn}"
        );
        assert!(!draw("tokn: hunter2", 1, 4).contains("hunter2"));
        assert!(!draw("a: http://user:hunter2@host/", 4, 3).contains("hunter2"));
        assert!(draw("token: { file: /run/token }", 1, 5).contains("/run/token"));
    }

    #[test]
    fn the_text_of_a_secret_block_is_not_shown() {
        let source = Source::new("proxy.yaml", "control:\n  token: |\n    hunter2\n  listen 1");
        let at = |line| Found::error("", Mark { line, column: 5, width: 1 }, "bad");

        assert_eq!(source.problem(at(3)).snippet, "***");
        assert_eq!(source.problem(at(4)).snippet, "  listen 1");
    }

    #[test]
    fn a_long_line_is_cut_around_its_fault() {
        let line = format!("a: [{}, bad, {}]", "x, ".repeat(100), "y, ".repeat(100));
        let column = line.find("bad").unwrap() + 1;

        let drawn = draw(&line, column, 3);

        let lines: Vec<&str> = drawn.lines().collect();
        let caret = lines[4].find('^').unwrap();
        assert_eq!(&lines[3][caret..caret + 3], "bad");
        assert!(lines[3].len() < 120);
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert!(!draw("a: \u{1b}[31mred", 4, 3).contains('\u{1b}'));
    }
}
