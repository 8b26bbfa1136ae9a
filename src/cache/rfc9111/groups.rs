//! Cache groups (RFC 9875): which groups an answer belongs to, and which it ends. A group is a string that is compared byte
//! for byte, and holds within one origin alone: whoever makes a name of it adds the origin.
//!
//! Section 2.2.1 lets a cache end all groups of a copy that an unsafe request ends. That is not done: then a client could
//! empty a site's cache with a POST that changes nothing. Groups end on the backend's word.

use http::{HeaderMap, HeaderName};

use super::dictionary::string_list;

const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// The groups that an answer belongs to. A field that is no list of strings names none.
#[must_use]
pub fn cache_groups(response: &HeaderMap) -> Vec<Vec<u8>> {
    groups(response, &CACHE_GROUPS)
}

/// The groups that an answer ends. It counts only where [`super::invalidates`] says so: on an answer to an unsafe method
/// that is no error.
#[must_use]
pub fn invalidated_groups(response: &HeaderMap) -> Vec<Vec<u8>> {
    groups(response, &CACHE_GROUP_INVALIDATION)
}

fn groups(response: &HeaderMap, name: &HeaderName) -> Vec<Vec<u8>> {
    let mut groups = string_list(response, name).unwrap_or_default();
    groups.sort_unstable();
    groups.dedup();
    groups
}

#[cfg(test)]
mod tests {
    use super::{cache_groups, invalidated_groups};
    use crate::cache::rfc9111::fixture::{Lines, headers};

    fn read(lines: Lines<'_>) -> Vec<String> {
        cache_groups(&headers(lines)).into_iter().map(|group| String::from_utf8(group).unwrap()).collect()
    }

    #[test]
    fn groups_are_strings_of_a_list_over_all_lines() {
        for (values, groups) in [
            (&["\"scripts\""][..], &["scripts"][..]),
            (&["\"b\", \"a\""], &["a", "b"]),
            (&["\"a\";x=1;y=?0, \"B c\" ;z"], &[]),
            (&["\"a\";x=1;y=?0 , \t\"B c\";z "], &["B c", "a"]),
            (&["\"a\"", "\"b\", \"a\""], &["a", "b"]),
            (&["\"quote \\\" and \\\\\""], &["quote \" and \\"]),
            (&["\"A\", \"a\""], &["A", "a"]),
            (&["\"\""], &[""]),
            (&[""], &[]),
            (&["  "], &[]),
        ] {
            let lines: Vec<_> = values.iter().map(|value| ("cache-groups", *value)).collect();
            assert_eq!(read(&lines), groups, "{values:?}");
        }
        assert!(read(&[]).is_empty());
    }

    #[test]
    fn a_field_with_an_error_names_no_group() {
        for value in [
            "a",
            "\"a\", b",
            "\"a\", 1",
            "\"a\",",
            ", \"a\"",
            "\"a\" \"b\"",
            "\"a",
            "(\"a\" \"b\")",
            "\"a\", ()",
            "\"\u{e9}\"",
            "\"a\\n\"",
            "\"a\";X",
            "%\"a\"",
        ] {
            assert!(read(&[("cache-groups", value)]).is_empty(), "{value}");
        }
    }

    /// RFC 9875 section 2: at least 32 groups of at least 32 characters.
    #[test]
    fn as_many_and_as_long_groups_are_read_as_the_standard_asks_for() {
        let groups: Vec<String> = (0..64).map(|number| format!("{number:0>200}")).collect();
        let value = groups.iter().map(|group| format!("\"{group}\"")).collect::<Vec<_>>().join(", ");

        assert_eq!(read(&[("cache-groups", &value)]), groups);
        assert_eq!(invalidated_groups(&headers(&[("cache-group-invalidation", &value)])).len(), 64);
        assert!(invalidated_groups(&headers(&[("cache-groups", &value)])).is_empty());
    }
}
