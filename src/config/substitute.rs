//! `${NAME}` in values: filled in from the environment after the file was parsed.
//!
//! Only the text of scalars changes, never the structure: what a variable holds cannot add a key or close a quote, and
//! lines and columns stay those of the file. Keys and comments are left alone. A value from the environment is never
//! part of a message.

use std::cell::RefCell;

use super::{
    error::ValueError,
    path::YamlPath,
    problem::{Found, Mark, Source},
    tree::{Kind, Node, Scalar},
};

/// Looks up a variable of the environment.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Fills in every scalar of the tree; returns what could not be filled in.
///
/// A value that becomes empty by it counts as not written, so that `${NAME:-}` leaves the default in force.
pub(super) fn substitute(root: &mut Node, lookup: Lookup<'_>, source: &Source<'_>) -> Vec<(YamlPath, Found)> {
    let mut filler = Filler { lookup, source, problems: Vec::new() };
    filler.node(root, &YamlPath::default());
    filler.problems
}

struct Filler<'a> {
    lookup: Lookup<'a>,
    source: &'a Source<'a>,
    problems: Vec<(YamlPath, Found)>,
}

impl Filler<'_> {
    fn node(&mut self, node: &mut Node, path: &YamlPath) {
        let mark = node.mark;
        match &mut node.kind {
            Kind::Scalar(scalar) => self.scalar(scalar, mark, path),
            Kind::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.node(item, &path.index(index));
                }
                items.retain(|item| !is_emptied(item));
            }
            Kind::Map(entries) => {
                for entry in entries.iter_mut() {
                    self.node(&mut entry.value, &path.key(&entry.key));
                }
                entries.retain(|entry| !is_emptied(&entry.value));
            }
        }
    }

    fn scalar(&mut self, scalar: &mut Scalar, mark: Mark, path: &YamlPath) {
        if !scalar.text.contains('$') {
            return;
        }
        match expand(&scalar.text, self.lookup) {
            Ok(text) if text != scalar.text => {
                scalar.written = Some(std::mem::replace(&mut scalar.text, text));
            }
            Ok(_) => {}
            Err(faults) => {
                for (reference, error) in faults {
                    let mut found = Found::error(path, self.point(mark, &reference), error.message);
                    found.hint = error.hint;
                    self.problems.push((path.clone(), found));
                }
            }
        }
    }

    /// The mark of the reference itself where it stands in the value's first line, else of the value.
    fn point(&self, mark: Mark, reference: &str) -> Mark {
        let line = self.source.line(mark.line);
        let start =
            line.char_indices().nth(mark.column.saturating_sub(1)).map_or(line.len(), |(byte, _)| byte);
        let found = line.get(start..).and_then(|value| value.find(reference));
        match found.and_then(|byte| line.get(..start + byte)) {
            Some(before) => {
                Mark { column: before.chars().count() + 1, width: reference.chars().count(), ..mark }
            }
            None => mark,
        }
    }
}

/// The variables of the environment that give a text its value, each once. A default that stands in the text is none.
pub(super) fn variables(written: &str, lookup: Lookup<'_>) -> Vec<String> {
    let names = RefCell::new(Vec::new());
    let _ = expand(written, &|name| {
        let value = lookup(name);
        let mut names = names.borrow_mut();
        if value.as_ref().is_some_and(|value| !value.is_empty()) && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        value
    });
    names.into_inner()
}

fn is_emptied(node: &Node) -> bool {
    node.scalar().is_some_and(|scalar| scalar.text.is_empty() && scalar.written.is_some())
}

/// The text with its references filled in, or each reference that cannot be with the reason.
fn expand(text: &str, lookup: Lookup<'_>) -> Result<String, Vec<(String, ValueError)>> {
    let (mut result, mut faults) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((inner, after)) = after.split_once('}') else {
                let error =
                    ValueError::new("`${` is never closed").hint("write ${NAME}, or $${ for the characters");
                faults.push(("${".to_owned(), error));
                rest = "";
                break;
            };
            match resolve(inner, lookup) {
                Ok(value) => result.push_str(&value),
                Err(error) => faults.push((format!("${{{inner}}}"), error)),
            }
            rest = after;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    if faults.is_empty() { Ok(result) } else { Err(faults) }
}

/// The value of `NAME`, `NAME:-default` or `NAME:?message`.
fn resolve(inner: &str, lookup: Lookup<'_>) -> Result<String, ValueError> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = inner.find(|c| !is_name_char(c)).unwrap_or(inner.len());
    let (name, rest) = inner.split_at_checked(end).unwrap_or((inner, ""));
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(ValueError::new(format!("`${{{inner}}}` does not name an environment variable"))
            .hint("names have letters, digits and `_`; write $${ for the characters themselves"));
    }
    if inner.contains("${") {
        return Err(ValueError::new("one `${..}` cannot stand inside another"));
    }
    let value = lookup(name);
    if rest.is_empty() {
        return value.ok_or_else(|| {
            ValueError::new(format!("the environment variable {name} is not set"))
                .hint(format!("set it, or give a default: ${{{name}:-value}}"))
        });
    }
    let value = value.filter(|value| !value.is_empty());
    if let Some(default) = rest.strip_prefix(":-") {
        return Ok(value.unwrap_or_else(|| default.to_owned()));
    }
    if let Some(message) = rest.strip_prefix(":?") {
        return value.ok_or_else(|| {
            let message = if message.is_empty() { "it is required" } else { message };
            ValueError::new(format!("the environment variable {name} is not set: {message}"))
        });
    }
    Err(ValueError::new(format!("`${{{inner}}}` is not understood"))
        .hint(format!("write ${{{name}}}, ${{{name}:-default}} or ${{{name}:?message}}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "EVIL" => Some("x\nadmin: off # \"}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn references_are_filled_in() {
        for (text, expected) in [
            ("${SET}", "value"),
            ("a-${SET}-b", "a-value-b"),
            ("${ABSENT:-30s}", "30s"),
            ("${EMPTY:-30s}", "30s"),
            ("${EMPTY}", ""),
            ("${ABSENT:-}", ""),
            ("${SET:?needed}", "value"),
            ("$${SET}", "${SET}"),
            ("$SET $", "$SET $"),
            ("$$", "$"),
        ] {
            assert_eq!(expand(text, &lookup).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_text_has_its_value_from_the_variables_that_are_set() {
        for (text, names) in [
            ("${SET}", &["SET"][..]),
            ("a ${ABSENT:-b} ${SET} ${SET:-c}", &["SET"]),
            ("${EMPTY:-30s}", &[]),
            ("$${SET}", &[]),
        ] {
            assert_eq!(variables(text, &lookup), names, "{text}");
        }
    }

    #[test]
    fn every_reference_that_cannot_be_filled_in_is_reported() {
        let faults = expand("${ABSENT} ${EMPTY:?say why} ${9} ${A b} ${OPEN", &lookup).unwrap_err();

        let messages: Vec<_> = faults.iter().map(|(_, error)| error.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "the environment variable ABSENT is not set",
                "the environment variable EMPTY is not set: say why",
                "`${9}` does not name an environment variable",
                "`${A b}` is not understood",
                "`${` is never closed",
            ]
        );
    }

    #[test]
    fn a_value_cannot_change_the_structure() {
        let text = "a: ${EVIL}\nb: 1\n";
        let mut root = super::super::tree::parse(text, &Source::new("t", text)).unwrap();

        let problems = substitute(&mut root, &lookup, &Source::new("t", text));

        assert!(problems.is_empty());
        let Kind::Map(entries) = &root.kind else { panic!("a map") };
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].value.scalar().unwrap().text, "x\nadmin: off # \"}");
    }
}
