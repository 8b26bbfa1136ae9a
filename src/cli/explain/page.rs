//! A page of sections with rows in columns, for a terminal of any width. What stands in the rows is not decided here.

/// Where values begin: behind a margin, a label and a gap.
const MARGIN: usize = 2;
const LABEL: usize = 22;
const VALUE: usize = MARGIN + LABEL + 2;

/// Where notes begin, if the value leaves room before it.
const NOTE: usize = VALUE + 24;

/// The least and the greatest width of text. Lines that are longer are hard to read, whatever the terminal has.
const NARROW: usize = 60;
const WIDE: usize = 120;

/// How a text is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Paint {
    /// As it is.
    Plain,
    /// A heading.
    Strong,
    /// What matters less.
    Soft,
    /// Good news.
    Good,
    /// Something to look at.
    Warn,
    /// Bad news.
    Bad,
    /// A line of YAML or a command.
    Code,
}

/// A page in the making.
pub(in crate::cli) struct Page {
    width: usize,
    has_colour: bool,
    text: String,
}

impl Page {
    /// An empty page for a terminal of so many columns.
    pub(in crate::cli) fn new(columns: usize, has_colour: bool) -> Self {
        Self { width: columns.clamp(NARROW, WIDE), has_colour, text: String::new() }
    }

    /// The finished page.
    pub(in crate::cli) fn finish(self) -> String {
        self.text
    }

    /// A line by itself.
    pub(in crate::cli) fn line(&mut self, text: &str, paint: Paint) {
        self.painted(text, paint);
        self.text.push('\n');
    }

    /// The heading of a section.
    pub(in crate::cli) fn section(&mut self, name: &str, note: &str) {
        self.text.push('\n');
        self.painted(name, Paint::Strong);
        if !note.is_empty() {
            self.text.push_str("  ");
            self.painted(note, Paint::Soft);
        }
        self.text.push('\n');
    }

    /// A label, its value, and a note beside or below it.
    pub(in crate::cli) fn row(&mut self, label: &str, value: &str, note: &str) {
        self.painted_row(label, (value, Paint::Plain), note);
    }

    /// The same with a painted value.
    pub(in crate::cli) fn painted_row(&mut self, label: &str, (value, paint): (&str, Paint), note: &str) {
        let mut at = MARGIN + columns(label);
        self.gap(MARGIN);
        self.painted(label, Paint::Soft);
        let lines = wrapped(value, self.width - VALUE);
        if at + 2 > VALUE {
            // A label that fills the column pushes its value away only as far as it must.
            let first = lines.first().map_or(0, |line| columns(line));
            if at + 2 + first > self.width {
                self.text.push('\n');
                at = 0;
            } else {
                self.gap(2);
                at += 2;
            }
        }
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                self.text.push('\n');
                at = 0;
            }
            let start = at.max(VALUE);
            self.gap(start - at);
            self.painted(line, paint);
            at = start + columns(line);
        }
        self.note(note, at);
        self.text.push('\n');
    }

    /// A sentence in the column of values.
    pub(in crate::cli) fn sentence(&mut self, label: &str, text: &str, paint: Paint) {
        self.painted_row(label, (text, paint), "");
    }

    fn note(&mut self, note: &str, at: usize) {
        if note.is_empty() {
            return;
        }
        let start = NOTE.max(at + 2);
        if start + columns(note) <= self.width {
            self.gap(start - at);
            self.painted(note, Paint::Soft);
            return;
        }
        for line in wrapped(note, self.width - VALUE) {
            self.text.push('\n');
            self.gap(VALUE);
            self.painted(&line, Paint::Soft);
        }
    }

    fn gap(&mut self, columns: usize) {
        self.text.extend(std::iter::repeat_n(' ', columns));
    }

    fn painted(&mut self, text: &str, paint: Paint) {
        if text.is_empty() {
            return;
        }
        let code = match paint {
            Paint::Plain => None,
            Paint::Strong => Some("1"),
            Paint::Soft => Some("2"),
            Paint::Good => Some("1;32"),
            Paint::Warn => Some("1;33"),
            Paint::Bad => Some("1;31"),
            Paint::Code => Some("36"),
        };
        let text = text.chars().map(harmless);
        match code.filter(|_| self.has_colour) {
            Some(code) => {
                self.text.push_str("\x1b[");
                self.text.push_str(code);
                self.text.push('m');
                self.text.extend(text);
                self.text.push_str("\x1b[0m");
            }
            None => self.text.extend(text),
        }
    }
}

/// A character that neither moves the cursor nor turns the direction of writing: much here comes from backends.
fn harmless(c: char) -> char {
    let is_turning = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || is_turning { char::REPLACEMENT_CHARACTER } else { c }
}

/// Columns that a text takes; all that is written here is one column to a character.
fn columns(text: &str) -> usize {
    text.chars().count()
}

/// Lines of at most `width` columns, broken at spaces. A word that is longer, such as a URL, is never cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if columns(line) + 1 + columns(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Page, Paint, columns, wrapped};

    #[test]
    fn text_is_broken_at_spaces_and_words_are_whole() {
        assert_eq!(wrapped("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrapped("a longest b", 3), ["a", "longest", "b"]);
        assert_eq!(wrapped("", 3), [""]);
    }

    #[test]
    fn rows_stand_in_columns_and_notes_go_below_where_there_is_no_room() {
        let mut page = Page::new(80, false);
        page.row("mode", "serve", "default");
        page.row("mode", &"x".repeat(50), "cache.mode, and more than there is room for");
        page.row("a_label_of_many_characters_indeed", "value", "");

        let text = page.finish();
        let lines: Vec<&str> = text.lines().collect();

        assert_eq!(lines[0], format!("  mode{}serve{}default", " ".repeat(20), " ".repeat(19)));
        assert_eq!(lines[2], format!("{}cache.mode, and more than there is room for", " ".repeat(26)));
        assert_eq!(lines[3], "  a_label_of_many_characters_indeed  value");
        assert!(lines.iter().all(|line| columns(line) <= 80));
    }

    #[test]
    fn what_comes_from_a_backend_cannot_play_with_the_terminal() {
        let mut page = Page::new(80, false);
        page.row("tags", "a\x1b[2J\u{202e}b\r\nc\u{9b}", "");

        assert_eq!(page.finish().matches(char::REPLACEMENT_CHARACTER).count(), 5);
    }

    #[test]
    fn colour_is_there_only_where_it_is_wanted() {
        let page = |has_colour| {
            let mut page = Page::new(80, has_colour);
            page.section("Route", "");
            page.painted_row("mode", ("serve", Paint::Good), "");
            page.finish()
        };

        assert!(!page(false).contains('\x1b'));
        let coloured = page(true);
        assert!(coloured.contains("\x1b[1;32mserve\x1b[0m"), "{coloured:?}");
        let mut bare = coloured;
        for code in ["1", "2", "1;32", "0"] {
            bare = bare.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(bare, page(false));
    }
}
