//! A template from the look of a path, for requests of which neither the configuration nor the backend's own document knows
//! one. What looks like an id is taken for one, and so is everything below a place where too many different words stood.

use std::collections::HashMap;

use crate::config::PathTemplate;

/// Bounds on one path.
const MAX_PATH: usize = 256;
const MAX_SEGMENTS: usize = 8;

/// Different words in one place; more of them are values.
const MAX_WORDS: usize = 16;

/// Words held in all.
const MAX_HELD: usize = 500;

/// Digits that make a word an id.
const MANY_DIGITS: usize = 3;

/// The words that stood behind each beginning of a template.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    words: HashMap<String, Vec<Box<str>>>,
    held: usize,
}

impl Guesses {
    /// The template of a path; none for paths that are too long, too many or too strange.
    pub(super) fn template(&mut self, path: &str) -> Option<String> {
        let rest = path.strip_prefix('/').filter(|_| path.len() <= MAX_PATH)?;
        if rest.split('/').count() > MAX_SEGMENTS {
            return None;
        }
        let (mut template, mut parameters) = (String::new(), 0);
        for word in rest.split('/') {
            let is_word = !is_id(word) && self.knows(&template, word)?;
            template.push('/');
            if is_word {
                template.push_str(word);
                continue;
            }
            parameters += 1;
            template.push_str(&if parameters == 1 {
                "{id}".to_owned()
            } else {
                format!("{{id{parameters}}}")
            });
        }
        PathTemplate::parse(&template).ok().map(|_| template)
    }

    /// Whether the word is one of the few that stand in its place; none when no more can be held.
    fn knows(&mut self, before: &str, word: &str) -> Option<bool> {
        if let Some(words) = self.words.get(before) {
            if words.iter().any(|known| **known == *word) {
                return Some(true);
            }
            if words.len() >= MAX_WORDS {
                return Some(false);
            }
        }
        if self.held >= MAX_HELD {
            return None;
        }
        self.held += 1;
        self.words.entry(before.to_owned()).or_default().push(word.into());
        Some(true)
    }
}

/// Numbers, hexadecimal names, tokens, addresses: what has many digits or signs that words have not.
fn is_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let is_number = digits > 0 && digits == word.len();
    is_number || digits >= MANY_DIGITS || word.contains(['@', '%', ':', '='])
}

#[cfg(test)]
mod tests {
    use super::{Guesses, MAX_HELD};

    #[test]
    fn ids_become_parameters_and_words_stay() {
        let table = [
            ("/", Some("/")),
            ("/api/v1/users/42", Some("/api/v1/users/{id}")),
            ("/api/v1/users/7f3a9c01/notes/3", Some("/api/v1/users/{id}/notes/{id2}")),
            ("/u/550e8400-e29b-41d4-a716-446655440000", Some("/u/{id}")),
            ("/mail/a@b.example", Some("/mail/{id}")),
            ("/a%20b", Some("/{id}")),
            ("/a{b}c", None),
            ("*", None),
            ("/1/2/3/4/5/6/7/8/9", None),
        ];
        let mut guesses = Guesses::default();
        for (path, template) in table {
            assert_eq!(guesses.template(path).as_deref(), template, "{path}");
        }
    }

    #[test]
    fn too_many_words_in_one_place_are_values() {
        let mut guesses = Guesses::default();
        let name = |n: u8| format!("/user/{}", char::from(b'a' + n));
        for n in 0..16 {
            assert_eq!(guesses.template(&name(n)), Some(name(n)));
        }

        assert_eq!(guesses.template(&name(16)).as_deref(), Some("/user/{id}"));
        assert_eq!(guesses.template(&name(3)), Some(name(3)), "a known word stays one");
    }

    #[test]
    fn a_flood_of_paths_ends_in_no_guess() {
        let mut guesses = Guesses::default();
        let word = |n: usize| char::from(b'a' + u8::try_from(n % 16).unwrap());
        let path = |n: usize| format!("/{}/{}/{}", word(n), word(n / 16), word(n / 256));
        let found = (0..4096).filter(|n| guesses.template(&path(*n)).is_some()).count();

        assert_eq!(guesses.held, MAX_HELD);
        assert!(found < 500, "{found}");
        assert!(guesses.template(&path(0)).is_some(), "what is known stays known");
    }
}
