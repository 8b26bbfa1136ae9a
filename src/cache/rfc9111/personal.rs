//! What the receiver of one user's own answer may do with it: keep it for this user, and nothing else.
//!
//! The backend's words about shared caches were meant for caches that tell users apart as this one does, or were no more
//! than a default. Whatever stands between this one and the user does not, so it must not store the answer. The stored
//! copy keeps the words as they came, since later decisions turn on them.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::directives::{Member, Members, Value};

/// Directives that speak to shared caches, and `private` itself, which is written anew.
const TO_SHARED: [&str; 4] = ["public", "s-maxage", "proxy-revalidate", "private"];

/// A field of the same kind that is older than the targeted ones (RFC 9213).
const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Writes `Cache-Control: private` in place of what the head says to shared caches, and takes the targeted fields off.
pub fn make_private(head: &mut HeaderMap, targeted: &[HeaderName]) {
    let mut text = b"private".to_vec();
    for line in head.get_all(header::CACHE_CONTROL) {
        for member in Members(line.as_bytes()) {
            push(&mut text, &member);
        }
    }
    for name in targeted.iter().filter(|name| **name != header::CACHE_CONTROL) {
        head.remove(name);
    }
    head.remove(SURROGATE_CONTROL);
    let value = HeaderValue::from_bytes(&text);
    head.insert(
        header::CACHE_CONTROL,
        value.unwrap_or_else(|_| HeaderValue::from_static("private, no-store")),
    );
}

fn push(text: &mut Vec<u8>, member: &Member<'_>) {
    let (name, value) = match member {
        Member::Directive(name, value) => (*name, *value),
        // What cannot be told forbids everything.
        Member::Broken => (&b"no-store"[..], Value::None),
    };
    if name.is_empty() || TO_SHARED.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
        return;
    }
    text.extend_from_slice(b", ");
    text.extend_from_slice(name);
    match value {
        Value::None => {}
        Value::Bare(value) => {
            text.push(b'=');
            text.extend_from_slice(value);
        }
        Value::Quoted(value) => {
            text.extend_from_slice(b"=\"");
            text.extend_from_slice(value);
            text.push(b'"');
        }
        // As it was read: an argument that is no number.
        Value::Malformed => text.extend_from_slice(b"=\"\""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prop_assert, proptest, sample::select};

    use super::make_private;
    use crate::cache::rfc9111::{directives::ResponseDirectives, fixture::headers};

    #[test]
    fn words_for_shared_caches_give_way_to_private() {
        let table: &[(&[&str], &str)] = &[
            (&[], "private"),
            (&["public"], "private"),
            (&["public, max-age=60, s-maxage=600"], "private, max-age=60"),
            (&["PUBLIC", "S-MaxAge=\"7\", Max-Age=\"60\""], "private, Max-Age=\"60\""),
            (
                &["no-cache=\"a, public\", must-revalidate"],
                "private, no-cache=\"a, public\", must-revalidate",
            ),
            (&["private=\"x-a\", max-age=1"], "private, max-age=1"),
            (&["private, private"], "private"),
            (&["max-age=60, x=\"unended"], "private, max-age=60, no-store"),
            (&["public = 1, max-age =9"], "private"),
            (&[",, ,"], "private"),
        ];

        for (lines, expected) in table {
            let lines: Vec<(&str, &str)> = lines.iter().map(|line| ("cache-control", *line)).collect();
            let mut head = headers(&lines);

            make_private(&mut head, &[]);

            let said: Vec<_> = head.get_all("cache-control").iter().collect();
            assert_eq!(said, [expected], "{lines:?}");
        }
    }

    #[test]
    fn fields_for_other_caches_go() {
        let mut head = headers(&[
            ("cdn-cache-control", "max-age=60"),
            ("surrogate-control", "max-age=60"),
            ("cache-control", "max-age=5"),
            ("etag", "\"a\""),
        ]);

        make_private(&mut head, &["cdn-cache-control".parse().unwrap(), "cache-control".parse().unwrap()]);

        assert_eq!(head, headers(&[("cache-control", "private, max-age=5"), ("etag", "\"a\"")]));
    }

    proptest! {
        #[test]
        fn nothing_is_permitted_that_was_not_and_nothing_to_others(
            parts in vec(select(vec![
                "public", "s-maxage=9", "max-age=60", "no-store", "no-cache", "private=\"a\"", "\"", "=", ",", " ", "\\",
                "must-revalidate", "no-cache=\"b\"", "max-age=\"1\"x",
            ]), 0..8),
        ) {
            let line = parts.join(",");
            let mut head = headers(&[("cache-control", &line)]);
            let before = ResponseDirectives::of(&head);

            make_private(&mut head, &[]);

            let after = ResponseDirectives::of(&head);
            prop_assert!(after.private && !after.public && after.s_maxage.is_none());
            prop_assert!(after.no_store >= before.no_store, "{line}");
            prop_assert!(after.no_cache >= before.no_cache, "{line}");
            prop_assert!(after.must_revalidate >= before.must_revalidate, "{line}");
            prop_assert!(after.max_age.unwrap_or(0) <= before.max_age.unwrap_or(0), "{line}");
        }
    }
}
