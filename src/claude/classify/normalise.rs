//! Text as the rules and the model see it: Unicode NFKC, lower case, straight quotes, no zero-width characters, no
//! accents on Latin letters, runs of a character cut to two. ASCII takes a fast path.

use unicode_normalization::{UnicodeNormalization as _, char::decompose_canonical};

/// The most bytes of one turn that are read; the middle of a longer one is left out.
const MAX_BYTES: usize = 64 * 1024;

/// The text in its normal form.
#[must_use]
pub fn normalise(text: &str) -> String {
    if text.len() > MAX_BYTES {
        let head = text.floor_char_boundary(MAX_BYTES / 2);
        let tail = text.ceil_char_boundary(text.len() - MAX_BYTES / 2);
        return format!("{} {}", normalise(&text[..head]), normalise(&text[tail..]));
    }
    if text.is_ascii() {
        return ascii(text.as_bytes());
    }
    let mut out = Cut::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.bytes().position(|byte| !byte.is_ascii()).unwrap_or(rest.len());
        out.extend_ascii(&rest.as_bytes()[..plain]);
        rest = &rest[plain..];
        let other = rest.bytes().position(|byte| byte.is_ascii()).unwrap_or(rest.len());
        if rest[..other].chars().all(is_composed) {
            rest[..other].chars().flat_map(char::to_lowercase).for_each(|character| out.push(character));
        } else {
            rest[..other].nfkc().flat_map(char::to_lowercase).for_each(|character| out.push(character));
        }
        rest = &rest[other..];
    }
    out.text
}

/// The normal form of ASCII text. Few texts have runs to cut; the others take loops that the compiler turns into vector
/// code.
fn ascii(text: &[u8]) -> String {
    let mut out = text.to_ascii_lowercase();
    if has_long_run(&out) {
        let (mut last, mut run) = (0, 0_u32);
        out.retain(|&byte| {
            run = if byte == last { run + 1 } else { 1 };
            last = byte;
            run <= 2 || byte.is_ascii_digit()
        });
    }
    for byte in &mut out {
        *byte = spaced(straight(*byte));
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Whether a character other than a digit stands three times in a row.
fn has_long_run(text: &[u8]) -> bool {
    let (seconds, thirds) = (text.get(1..).unwrap_or_default(), text.get(2..).unwrap_or_default());
    let runs = text.iter().zip(seconds).zip(thirds).fold(0, |runs, ((first, second), third)| {
        runs | (u8::from(first == second) & u8::from(second == third) & u8::from(!third.is_ascii_digit()))
    });
    runs != 0
}

const fn straight(byte: u8) -> u8 {
    if byte == b'`' { b'\'' } else { byte }
}

const fn spaced(byte: u8) -> u8 {
    if byte.is_ascii_control() { b' ' } else { byte }
}

/// Output that drops the third of a run.
struct Cut {
    text: String,
    last: char,
    run: u32,
}

impl Cut {
    fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), last: '\0', run: 0 }
    }

    /// ASCII in any case. After its first two characters what went before can no longer make a run.
    fn extend_ascii(&mut self, text: &[u8]) {
        let text: Vec<u8> = text.iter().map(|byte| straight(byte.to_ascii_lowercase())).collect();
        if text.len() <= 2 || has_long_run(&text) {
            text.iter().for_each(|&byte| self.push_ascii(byte));
            return;
        }
        let (start, rest) = text.split_at(2);
        start.iter().for_each(|&byte| self.push_ascii(byte));
        self.text.extend(rest.iter().map(|&byte| char::from(spaced(byte))));
        if let Some(&last) = rest.last() {
            self.last = char::from(last);
            self.run = text.iter().rev().take_while(|&&byte| byte == last).fold(0, |run, _| run + 1);
        }
    }

    fn push_ascii(&mut self, byte: u8) {
        if self.repeats(char::from(byte)) && !byte.is_ascii_digit() {
            return;
        }
        self.text.push(char::from(spaced(byte)));
    }

    fn push(&mut self, character: char) {
        if is_invisible(character) {
            return;
        }
        let character = plain(character);
        if !self.repeats(character) {
            self.text.push(character);
        }
    }

    /// Whether this is at least the third of the same character in a row.
    fn repeats(&mut self, character: char) -> bool {
        self.run = if character == self.last { self.run + 1 } else { 1 };
        self.last = character;
        self.run > 2
    }
}

/// Frequent characters that NFKC leaves alone, whichever of them stand side by side.
const fn is_composed(character: char) -> bool {
    matches!(character,
        '\u{c0}'..='\u{131}' | '\u{141}'..='\u{148}' | '\u{14a}'..='\u{17e}' | '\u{400}'..='\u{45f}'
        | '\u{621}'..='\u{63a}' | '\u{641}'..='\u{64a}' | '\u{2013}' | '\u{2014}' | '\u{2018}' | '\u{2019}'
        | '\u{201c}' | '\u{201d}' | '\u{3001}' | '\u{3002}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{1f300}'..='\u{1f64f}')
}

/// Zero-width characters, marks of direction, soft hyphens, variation selectors, skin tones.
const fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{1f3fb}'..='\u{1f3ff}'
        | '\u{64b}'..='\u{652}' | '\u{307}')
}

/// Straight quotes, and Latin letters without their accents.
fn plain(character: char) -> char {
    match character {
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2032}' | '\u{b4}' | '`' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}' => '"',
        '\u{2013}' | '\u{2014}' | '\u{2212}' => '-',
        'ı' => 'i',
        'ł' => 'l',
        'ø' => 'o',
        '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => {
            let mut first = None;
            decompose_canonical(character, |part| {
                first.get_or_insert(part);
            });
            first.unwrap_or(character)
        }
        'ё' => 'е',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use unicode_normalization::UnicodeNormalization as _;

    use super::{is_composed, normalise};

    #[test]
    fn writes_the_same_words_in_one_way() {
        for (text, expected) in [
            ("", ""),
            ("Hello THERE", "hello there"),
            ("sooooo goooood", "soo good"),
            ("100000", "100000"),
            ("It\u{2019}s \u{201c}fine\u{201d}", "it's \"fine\""),
            ("kill\u{200b} my\u{ad}self", "kill myself"),
            ("ｋｉｌｌ", "kill"),
            ("Entwicklungsplan für Übung", "entwicklungsplan fur ubung"),
            ("já não", "ja nao"),
            ("ÇALIŞMA", "calisma"),
            ("👍🏽", "👍"),
            ("a\u{0}b", "a b"),
            ("Sooo\ngood `x` 1000é", "soo good 'x' 1000e"),
            ("Sooo\ngood 1000", "soo good 1000"),
            ("がんばる", "がんばる"),
            ("\u{200b}\u{200d}", ""),
        ] {
            assert_eq!(normalise(text), expected, "{text:?}");
        }
    }

    #[test]
    fn characters_that_are_called_composed_are_left_alone() {
        let all: String = ('\0'..=char::MAX).filter(|&character| is_composed(character)).collect();

        assert!(all.nfkc().eq(all.chars()));
        assert!(all.chars().rev().nfkc().eq(all.chars().rev()));
    }

    #[test]
    fn runs_are_cut_across_the_edges_of_ascii() {
        for (text, expected) in [
            ("éee aaa", "ee aa"),
            ("aaé``\u{2019}", "aae''"),
            ("é000\u{ff10}1", "e0001"),
            ("\u{1f600}!!\u{200b}!", "\u{1f600}!!"),
        ] {
            assert_eq!(normalise(text), expected, "{text:?}");
        }
    }

    #[test]
    fn reads_a_bounded_part_of_a_long_text() {
        let long = "é".repeat(2_000_000);

        assert!(normalise(&long).len() <= 70_000);
        assert!(normalise(&"ab".repeat(2_000_000)).len() <= 70_000);
    }
}
