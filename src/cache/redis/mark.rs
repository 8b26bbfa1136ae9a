//! A purge as it lies in the stream that all replicas read: fields and values that a person can read too.
//!
//! `by` (the replica), `at` (its own count), `soft`, `what` (the word of the scope) and the parts of the scope. What
//! cannot be read, because a newer replica wrote it, ends everything: too much may be purged but never too little.

use std::collections::HashMap;

use crate::cache::{purge::Generation, scope::Scope};

/// Tells replicas apart: hexadecimal digits, chosen at random when a process starts.
pub(super) type Replica = [u8; 16];

/// A purge with who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) by: Replica,
    /// The number of the purge in the counting of its maker.
    pub(super) at: Generation,
    pub(super) soft: bool,
    pub(super) scope: Scope,
}

impl Mark {
    /// The fields with their values, in order.
    pub(super) fn fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut fields = vec![
            ("by", self.by.to_vec()),
            ("at", self.at.number().to_string().into_bytes()),
            ("soft", vec![if self.soft { b'1' } else { b'0' }]),
        ];
        let what = |word: &'static str| ("what", word.as_bytes().to_vec());
        match &self.scope {
            Scope::All => fields.push(what("all")),
            Scope::Tag(tag) => fields.extend([what("tag"), ("tag", tag.clone().into())]),
            Scope::TagPrefix(tag) => fields.extend([what("tags"), ("tag", tag.clone().into())]),
            Scope::Route(route) => fields.extend([what("route"), ("route", route.clone().into())]),
            Scope::Identity(name) => fields.extend([what("identity"), ("name", name.to_vec())]),
            Scope::Url { authority, path, query } => {
                fields.extend([what("url"), ("path", path.clone())]);
                fields.extend(authority.clone().map(|authority| ("host", authority)));
                fields.extend(query.clone().map(|query| ("query", query)));
            }
            Scope::Prefix { authority, path } => {
                fields.extend([what("prefix"), ("path", path.clone())]);
                fields.extend(authority.clone().map(|authority| ("host", authority)));
            }
        }
        fields
    }

    /// Reads the fields of a stream entry.
    pub(super) fn read(fields: &HashMap<Vec<u8>, Vec<u8>>) -> Self {
        let text = |name: &str| fields.get(name.as_bytes()).and_then(|value| std::str::from_utf8(value).ok());
        let by =
            fields.get(&b"by"[..]).and_then(|by| Replica::try_from(by.as_slice()).ok()).unwrap_or_default();
        let at = Generation::of_number(text("at").and_then(|at| at.parse().ok()).unwrap_or(0));
        let scope = scope_of(fields, &text);
        let soft = scope.is_some() && text("soft") == Some("1");
        Self { by, at, soft, scope: scope.unwrap_or(Scope::All) }
    }
}

fn scope_of<'a>(
    fields: &HashMap<Vec<u8>, Vec<u8>>,
    text: &impl Fn(&str) -> Option<&'a str>,
) -> Option<Scope> {
    let bytes = |name: &str| fields.get(name.as_bytes()).cloned();
    let authority = bytes("host");
    Some(match text("what")? {
        "all" => Scope::All,
        "tag" => Scope::Tag(text("tag")?.to_owned()),
        "tags" => Scope::TagPrefix(text("tag")?.to_owned()),
        "route" => Scope::Route(text("route")?.to_owned()),
        "identity" => Scope::Identity(bytes("name")?.try_into().ok()?),
        "url" => Scope::Url { authority, path: bytes("path")?, query: bytes("query") },
        "prefix" => Scope::Prefix { authority, path: bytes("path")? },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Mark, Scope};
    use crate::cache::purge::Generation;

    fn through(mark: &Mark) -> Mark {
        let fields = mark.fields().into_iter().map(|(name, value)| (name.into(), value)).collect();
        Mark::read(&fields)
    }

    #[test]
    fn every_scope_comes_back_as_it_was() {
        let scopes = [
            Scope::All,
            Scope::Tag("user:7".into()),
            Scope::TagPrefix(String::new()),
            Scope::Route("/api/{id}".into()),
            Scope::Identity([0xfe; 32]),
            Scope::url("/a?b=c").unwrap(),
            Scope::url("http://ex.org/a").unwrap(),
            Scope::url("/a?").unwrap(),
            Scope::prefix("https://ex.org/api/").unwrap(),
            Scope::Prefix { authority: None, path: vec![b'/', 0xff] },
        ];
        for scope in scopes {
            for soft in [false, true] {
                let mark = Mark { by: [7; 16], at: Generation::of_number(3), soft, scope: scope.clone() };
                assert_eq!(through(&mark), mark);
            }
        }
    }

    #[test]
    fn what_cannot_be_read_ends_everything() {
        let fields = |list: &[(&str, &str)]| -> HashMap<Vec<u8>, Vec<u8>> {
            list.iter().map(|(name, value)| ((*name).into(), value.as_bytes().to_vec())).collect()
        };
        for list in [
            &[][..],
            &[("what", "moon"), ("soft", "1")],
            &[("what", "tag"), ("soft", "1")],
            &[("what", "url"), ("by", "short")],
        ] {
            let mark = Mark::read(&fields(list));
            assert_eq!((mark.scope, mark.soft), (Scope::All, false), "{list:?}");
        }
    }
}
