//! Lines of painted text. Whatever goes to the terminal goes through here, and comes out harmless.

use unicode_width::UnicodeWidthChar;

/// Characters of one text that are looked at; no line of a terminal is that long.
const LONGEST: usize = 2048;

/// How a text is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// As it is.
    Plain,
    /// A heading, or what is looked at first.
    Strong,
    /// What matters less, or is out of date.
    Soft,
    /// Good news.
    Good,
    /// Something to look at.
    Warn,
    /// Bad news.
    Bad,
    /// A line of YAML, or a parameter of a template.
    Code,
}

impl Paint {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Soft => Some("2"),
            Self::Good => Some("32"),
            Self::Warn => Some("1;33"),
            Self::Bad => Some("1;31"),
            Self::Code => Some("36"),
        }
    }
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    spans: Vec<(String, Paint)>,
    is_selected: bool,
}

impl Line {
    /// A line of one text.
    pub(super) fn of(text: &str, paint: Paint) -> Self {
        Self::default().with(text, paint)
    }

    /// The same with more text at its end.
    pub(super) fn with(mut self, text: &str, paint: Paint) -> Self {
        self.push(text, paint);
        self
    }

    /// Adds text at the end.
    pub(super) fn push(&mut self, text: &str, paint: Paint) {
        if !text.is_empty() {
            self.spans.push((harmless(text), paint));
        }
    }

    /// Adds all of another line at the end.
    pub(super) fn append(&mut self, other: Self) {
        self.spans.extend(other.spans);
    }

    /// Columns that it takes.
    pub(super) fn width(&self) -> usize {
        self.spans.iter().map(|(text, _)| columns(text)).sum()
    }

    /// Adds spaces until it takes that many columns.
    pub(super) fn pad(&mut self, width: usize) {
        let missing = width.saturating_sub(self.width());
        if missing > 0 {
            self.spans.push((" ".repeat(missing), Paint::Plain));
        }
    }

    /// Cuts it to at most that many columns; a line that was cut ends in an ellipsis.
    pub(super) fn fit(mut self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut left = width;
        let mut kept = Vec::new();
        for (text, paint) in self.spans {
            let taken = columns(&text);
            if taken < left {
                left -= taken;
                kept.push((text, paint));
                continue;
            }
            // More follows, be it of this text or of the next one, or the whole line would have fitted.
            kept.push((cut(&text, left), paint));
            break;
        }
        self.spans = kept;
        self
    }

    /// Paints all of it as out of date.
    pub(super) fn faded(mut self) -> Self {
        for (_, paint) in &mut self.spans {
            *paint = Paint::Soft;
        }
        self
    }

    /// Marks it as the one that keys act on.
    pub(super) fn selected(mut self) -> Self {
        self.is_selected = true;
        self
    }

    /// The bare text.
    #[cfg(test)]
    pub(super) fn plain(&self) -> String {
        self.ansi(false)
    }

    /// The text with escape sequences for colours, if they are wanted, and without spaces at its end.
    pub(super) fn ansi(&self, has_colour: bool) -> String {
        let mut out = String::new();
        for (text, paint) in &self.spans {
            let mut codes = Vec::new();
            codes.extend(paint.code());
            if self.is_selected {
                codes.push("7");
            }
            if !has_colour || codes.is_empty() {
                out.push_str(text);
                continue;
            }
            out.push_str("\x1b[");
            out.push_str(&codes.join(";"));
            out.push('m');
            out.push_str(text);
            out.push_str("\x1b[0m");
        }
        let end = out.trim_end_matches(' ').len();
        out.truncate(end);
        out
    }
}

/// The text with everything escaped that is no visible character of one or two columns: controls, which a terminal
/// obeys, marks that turn the direction of writing, and what joins with its neighbours.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(LONGEST) {
        if is_harmless(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

/// The same JSON with all such characters in its own escapes. Line ends stay.
pub(super) fn harmless_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || is_harmless(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

fn is_harmless(c: char) -> bool {
    let is_layout = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    !is_layout && c.width().is_some_and(|width| width > 0)
}

/// Columns that a harmless text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The beginning of a text, so that it takes at most that many columns with the ellipsis at its end.
fn cut(text: &str, width: usize) -> String {
    let mut out = String::new();
    let Some(mut left) = width.checked_sub(1) else { return out };
    for c in text.chars() {
        let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else { break };
        left = rest;
        out.push(c);
    }
    out.push('…');
    out
}

/// The text, harmless, in exactly that many columns: cut, or with spaces at its end.
pub(super) fn left(text: &str, width: usize) -> String {
    let text = harmless(text);
    let taken = columns(&text);
    if taken > width { cut(&text, width) } else { text + &" ".repeat(width - taken) }
}

/// The same with the spaces before it.
pub(super) fn right(text: &str, width: usize) -> String {
    let text = harmless(text);
    let taken = columns(&text);
    if taken > width { cut(&text, width) } else { " ".repeat(width - taken) + &text }
}

/// Lines joined side by side as long as they fit, with a gap between them; at most `most` lines, the last of which says
/// by an ellipsis that there is more.
pub(super) fn flowed(parts: Vec<Line>, width: usize, most: usize) -> Vec<Line> {
    const GAP: &str = "   ";
    let mut lines: Vec<Line> = Vec::new();
    for part in parts {
        let is_full = lines.len() == most;
        match lines.last_mut() {
            Some(line) if is_full || line.width() + GAP.len() + part.width() <= width => {
                line.push(GAP, Paint::Plain);
                line.append(part);
            }
            _ => lines.push(part),
        }
    }
    lines.into_iter().map(|line| line.fit(width)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Line, Paint, columns, flowed, harmless, harmless_json, left, right};

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let hostile =
            "a\x1b[2J\x1b]0;title\x07b\r\nc\u{9b}31m\u{202e}d\u{200b}\u{2066}e\u{301}\u{ad}\0\u{7f}";

        let line = Line::of(hostile, Paint::Plain).plain();

        assert!(line.chars().all(|c| !c.is_control() && columns(&c.to_string()) > 0), "{line:?}");
        assert_eq!(
            line,
            "a\\u{1b}[2J\\u{1b}]0;title\\u{7}b\\r\\nc\\u{9b}31m\\u{202e}d\\u{200b}\\u{2066}e\\u{301}\\u{ad}\\u{0}\\u{7f}"
        );
        assert_eq!(harmless("größe 中文 €"), "größe 中文 €");
        assert_eq!(harmless(&"x".repeat(100_000)).len(), 2048);
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"path": "/a\u{9b}31m\u{202e}\u{7f}\u{e0001}ü\u{1b}\n", "n": 1});
        let text = serde_json::to_string_pretty(&value).unwrap();

        let shown = harmless_json(&text);

        assert!(shown.chars().all(|c| c == '\n' || columns(&c.to_string()) > 0), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn lines_are_cut_by_columns_not_by_bytes() {
        let line = Line::of("中文中文", Paint::Plain).with("abc", Paint::Bad);

        assert_eq!(line.width(), 11);
        assert_eq!(line.clone().fit(11).plain(), "中文中文abc");
        assert_eq!(line.clone().fit(10).plain(), "中文中文a…");
        assert_eq!(line.clone().fit(8).plain(), "中文中…");
        assert_eq!(line.clone().fit(1).plain(), "…");
        assert_eq!(line.fit(0).plain(), "");
        for width in 0..8 {
            for text in ["", "a", "中文中文", "abcdefghij"] {
                assert_eq!(columns(&right(text, width)), columns(&left(text, width)), "{text} {width}");
                assert!(columns(&left(text, width)) <= width);
            }
        }
    }

    #[test]
    fn colour_only_frames_the_same_words() {
        let line = Line::of("ok", Paint::Good).with(" fine ", Paint::Plain).selected();

        assert_eq!(line.ansi(true), "\x1b[32;7mok\x1b[0m\x1b[7m fine \x1b[0m");
        assert_eq!(line.ansi(false), "ok fine");
        assert_eq!(line.faded().ansi(true), "\x1b[2;7mok\x1b[0m\x1b[2;7m fine \x1b[0m");
    }

    #[test]
    fn parts_flow_into_as_few_lines_as_they_need() {
        let parts = || ["aaaa", "bbbb", "cccc"].map(|text| Line::of(text, Paint::Plain)).to_vec();
        let shown =
            |width, most| -> Vec<String> { flowed(parts(), width, most).iter().map(Line::plain).collect() };

        assert_eq!(shown(80, 3), ["aaaa   bbbb   cccc"]);
        assert_eq!(shown(11, 3), ["aaaa   bbbb", "cccc"]);
        assert_eq!(shown(4, 3), ["aaaa", "bbbb", "cccc"]);
        assert_eq!(shown(11, 1), ["aaaa   bbb…"]);
    }
}
