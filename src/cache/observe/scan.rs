//! JSON as it passes, without insignificant spaces and without some members. Nothing is parsed into values and nothing but
//! the name at hand is held, so a body of any length costs the same few bytes.
//!
//! What comes out is not JSON any more: commas between the members of objects that may lose one are left out, so that an
//! object reads the same whether an ignored member is in it or not. For valid JSON two outputs are equal just if the texts
//! are equal but for spaces and ignored members.

use std::sync::Arc;

use crate::config::Advise;

/// The longest name that is compared; an ignored member has a shorter one.
const MAX_NAME: usize = 128;

/// The members that do not count, as paths of names from the outermost object.
#[derive(Debug, Default)]
pub(super) struct Ignored(Vec<Vec<String>>);

/// Leaves out what does not count.
#[derive(Debug)]
pub(super) struct Scanner {
    ignored: Arc<Ignored>,
    levels: [Level; Advise::MAX_DEPTH],
    depth: usize,
    place: Place,
    is_escaped: bool,
    /// The name being read, with its quotes.
    name: Vec<u8>,
    /// The paths that lead through the member whose value comes next.
    through: u32,
    /// The depth of the object whose member is being left out.
    skipping: Option<usize>,
    has_begun: bool,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Between,
    Name,
    Text,
}

/// An open object or list.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// The paths that lead into it, one bit each. Zero: nothing in it is ignored.
    paths: u32,
    wants_name: bool,
}

impl Ignored {
    /// Takes the names of the configuration.
    #[must_use]
    pub(super) fn new(advise: &Advise) -> Self {
        let path = |name: &String| name.split('.').map(str::to_owned).collect();
        Self(advise.ignore.iter().take(Advise::MAX_IGNORED).map(path).collect())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of `paths`, those that go on with this name, and whether one of them ends with it.
    fn step(&self, paths: u32, depth: usize, name: &[u8]) -> (u32, bool) {
        let (mut through, mut ends) = (0, false);
        for (index, path) in self.0.iter().enumerate() {
            let bit = 1_u32.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
            let fits = path.get(depth - 1).is_some_and(|known| known.as_bytes() == name);
            if paths & bit != 0 && fits {
                ends |= path.len() == depth;
                through |= bit;
            }
        }
        (through, ends)
    }
}

impl Scanner {
    pub(super) fn new(ignored: Arc<Ignored>) -> Self {
        Self {
            ignored,
            levels: [Level::default(); Advise::MAX_DEPTH],
            depth: 0,
            place: Place::Between,
            is_escaped: false,
            name: Vec::new(),
            through: 0,
            skipping: None,
            has_begun: false,
        }
    }

    /// True when what came so far is a whole value.
    pub(super) fn is_whole(&self) -> bool {
        self.has_begun && self.depth == 0 && self.place == Place::Between
    }

    /// Reads on, and appends what counts to `out`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some((byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Between => self.between(*byte, out),
                Place::Name => self.name_byte(*byte, out),
                Place::Text => {
                    bytes = self.text(bytes, out);
                    continue;
                }
            }
            bytes = rest;
        }
    }

    fn between(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => return,
            b'"' => return self.open_text(out),
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => {
                if self.skipping == Some(self.depth) {
                    self.skipping = None;
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b',' => {
                if self.skipping == Some(self.depth) {
                    self.skipping = None;
                }
                if let Some(level) = self.level().filter(|level| level.paths != 0) {
                    level.wants_name = true;
                    return;
                }
            }
            _ => {}
        }
        self.has_begun = true;
        self.put(&[byte], out);
    }

    fn open(&mut self, byte: u8) {
        let outermost = if self.depth == 0 { u32::MAX } else { 0 };
        let paths = if byte == b'{' { self.through | outermost } else { 0 };
        self.through = 0;
        self.depth = self.depth.saturating_add(1);
        let wants_name = paths != 0;
        if let Some(level) = self.level() {
            *level = Level { paths, wants_name };
        }
    }

    fn open_text(&mut self, out: &mut Vec<u8>) {
        self.has_begun = true;
        let is_skipping = self.skipping.is_some();
        if let Some(level) = self.level().filter(|level| level.wants_name && !is_skipping) {
            level.wants_name = false;
            self.place = Place::Name;
            self.name.clear();
            self.name.push(b'"');
        } else {
            self.place = Place::Text;
            self.put(b"\"", out);
        }
    }

    fn name_byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.name.push(byte);
        if self.is_escaped {
            self.is_escaped = false;
        } else if byte == b'\\' {
            self.is_escaped = true;
        } else if byte == b'"' {
            self.place = Place::Between;
            let name = self.name.get(1..self.name.len() - 1).unwrap_or_default();
            let paths = self.levels.get(self.depth.wrapping_sub(1)).map_or(0, |level| level.paths);
            let (through, ends) = self.ignored.step(paths, self.depth, name);
            if ends {
                self.skipping = Some(self.depth);
                self.through = 0;
            } else {
                self.through = through;
                out.extend_from_slice(&self.name);
            }
            return;
        }
        if self.name.len() > MAX_NAME {
            self.place = Place::Text;
            self.through = 0;
            out.extend_from_slice(&self.name);
        }
    }

    /// Takes as much of a text as there is, and returns the rest.
    fn text<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = if self.is_escaped {
            self.is_escaped = false;
            1
        } else {
            match memchr::memchr2(b'"', b'\\', bytes) {
                None => bytes.len(),
                Some(at) => {
                    let is_escape = bytes.get(at) == Some(&b'\\');
                    self.is_escaped = is_escape;
                    self.place = if is_escape { Place::Text } else { Place::Between };
                    at + 1
                }
            }
        };
        let (taken, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        self.put(taken, out);
        rest
    }

    fn put(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.skipping.is_none() {
            out.extend_from_slice(bytes);
        }
    }

    /// The innermost open object or list, unless it lies too deep for anything in it to be ignored.
    fn level(&mut self) -> Option<&mut Level> {
        self.levels.get_mut(self.depth.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::{any, prop, prop_assert_eq, proptest};
    use serde_json::{Value, json};

    use super::{Ignored, Scanner};
    use crate::config::Advise;

    fn ignored(names: &[&str]) -> Arc<Ignored> {
        let ignore = names.iter().map(|name| (*name).to_owned()).collect();
        Arc::new(Ignored::new(&Advise { ignore }))
    }

    /// What is left of a text that comes in pieces, if it is whole.
    fn left(names: &[&str], text: &str, piece: usize) -> Option<String> {
        let mut scanner = Scanner::new(ignored(names));
        let mut out = Vec::new();
        text.as_bytes().chunks(piece.max(1)).for_each(|bytes| scanner.feed(bytes, &mut out));
        scanner.is_whole().then(|| String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn ignored_members_of_the_outermost_object_make_no_difference() {
        let same = [
            r#"{"a":[1,{"timestamp":2}],"b":"x"}"#,
            r#"{"timestamp":"2026","a":[1,{"timestamp":2}],"b":"x"}"#,
            r#"{"a":[1,{"timestamp":2}],"timestamp":{"x":[1,"}"]},"b":"x"}"#,
            r#"{"a":[1,{"timestamp":2}],"b":"x","timestamp":"a\"},b"}"#,
            "{ \"a\": [1, {\"timestamp\": 2}],\n \"timestamp\" : null ,\"b\": \"x\" }\n",
            r#"{"cached":true,"a":[1,{"timestamp":2}],"timestamp":1,"b":"x"}"#,
        ];
        let other = [
            r#"{"a":[1,{"timestamp":3}],"b":"x"}"#,
            r#"{"a":[1,{"timestamp":2}],"b":"timestamp"}"#,
            r#"{"a":[1,{"timestamp":2}],"b":"x","Timestamp":1}"#,
            r#"{"a":[1,{"timestamp":2}],"b":"x "}"#,
            r#"[{"a":[1,{"timestamp":2}],"b":"x"}]"#,
        ];
        for piece in [1, 2, 7, 1000] {
            let expected = left(&["timestamp", "cached"], same[0], piece);
            assert!(expected.is_some());
            for text in same {
                assert_eq!(left(&["timestamp", "cached"], text, piece), expected, "{text}");
            }
            for text in other {
                assert_ne!(left(&["timestamp", "cached"], text, piece), expected, "{text}");
            }
        }
    }

    #[test]
    fn a_dotted_name_reaches_into_objects_and_not_into_lists() {
        let names = ["meta.at", "a.b.c.d"];
        let at = |text| left(&names, text, 3).unwrap();

        assert_eq!(at(r#"{"meta":{"at":1,"n":2}}"#), at(r#"{"meta":{"n":2,"at":[]}}"#));
        assert_eq!(at(r#"{"a":{"b":{"c":{"d":1}}}}"#), at(r#"{"a":{"b":{"c":{}}}}"#));
        assert_ne!(at(r#"{"meta":[{"at":1}]}"#), at(r#"{"meta":[{"at":2}]}"#));
        assert_ne!(at(r#"{"at":1}"#), at(r#"{"at":2}"#));
        assert_ne!(at(r#"{"meta":1}"#), at(r#"{"meta":2}"#));
        assert_ne!(at(r#"{"x":{"meta":{"at":1}}}"#), at(r#"{"x":{"meta":{"at":2}}}"#));
    }

    #[test]
    fn what_is_no_json_or_not_all_of_it_is_told() {
        for text in ["", " ", "{", r#"{"a""#, r#"{"a":"x"#, r#"{"timestamp":1"#, "[1,[2]", "{\"a\\"] {
            assert_eq!(left(&["timestamp"], text, 2), None, "{text}");
        }
        for text in ["1", "null", "[]", "{}", r#""x""#] {
            assert!(left(&["timestamp"], text, 2).is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn only_the_ignored_members_are_lost(
            members in prop::collection::btree_map("[a-c]{1,2}|t", any::<(i8, String)>(), 0..6),
            nested in any::<bool>(),
            piece in 1..20_usize,
        ) {
            let value = |(number, text): &(i8, String)| json!({ "n": number, "t": [text, {"t": number}] });
            let object: serde_json::Map<String, Value> =
                members.iter().map(|(name, content)| (name.clone(), value(content))).collect();
            let mut without = object.clone();
            without.shift_remove("t");
            let (one, other) = if nested {
                (json!({ "o": object, "z": 1 }), json!({ "o": without, "z": 1 }))
            } else {
                (Value::Object(object), Value::Object(without))
            };

            let names = if nested { ["o.t"] } else { ["t"] };
            let of_pretty = left(&names, &serde_json::to_string_pretty(&one).unwrap(), piece);

            prop_assert_eq!(&of_pretty, &left(&names, &other.to_string(), 1000));
            let none = left(&["none"], &one.to_string(), piece);
            prop_assert_eq!(none == left(&["none"], &other.to_string(), piece), one == other);
        }

        #[test]
        fn nothing_that_a_backend_sends_upsets_it(
            bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\t1 ".to_vec()), 0..200),
            piece in 1..9_usize,
        ) {
            let text = String::from_utf8(bytes).unwrap();

            prop_assert_eq!(left(&["t", "t.t"], &text, piece), left(&["t", "t.t"], &text, 1000));
        }
    }
}
