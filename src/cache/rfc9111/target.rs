//! URI references in answers, resolved against the request's target (RFC 3986 section 5) without leaving its
//! authority.

/// The path and query that `reference` stands for, if it is of the same authority. The fragment is left out.
pub(super) fn resolve(authority: &[u8], target: &[u8], reference: &[u8]) -> Option<Vec<u8>> {
    let reference = before(reference.trim_ascii(), b"#");
    if reference.iter().any(|byte| byte.is_ascii_control() || *byte == b' ') {
        return None;
    }
    let (path, query) = split_query(target);
    let (scheme, rest) = split_scheme(reference);
    if let Some(scheme) = scheme
        && !scheme.eq_ignore_ascii_case(b"http")
        && !scheme.eq_ignore_ascii_case(b"https")
    {
        return None;
    }
    if let Some(rest) = rest.strip_prefix(b"//") {
        let named = before(rest, b"/?");
        if !same_authority(named, authority) {
            return None;
        }
        let (path, query) = split_query(rest.get(named.len()..).unwrap_or_default());
        return Some(joined(&normal_path(path), query));
    }
    if scheme.is_some() {
        return None;
    }
    let (new_path, new_query) = split_query(rest);
    Some(match new_path.first() {
        None => joined(path, new_query.or(query)),
        Some(b'/') => joined(&normal_path(new_path), new_query),
        Some(_) => {
            let directory = path
                .iter()
                .rposition(|byte| *byte == b'/')
                .map_or(b"/".as_slice(), |at| path.get(..=at).unwrap_or_default());
            joined(&normal_path(&[directory, new_path].concat()), new_query)
        }
    })
}

/// Equal but for case and a default port.
fn same_authority(one: &[u8], other: &[u8]) -> bool {
    without_port(one).eq_ignore_ascii_case(without_port(other))
}

fn without_port(authority: &[u8]) -> &[u8] {
    [b":80".as_slice(), b":443", b":"]
        .iter()
        .find_map(|port| authority.strip_suffix(*port))
        .unwrap_or(authority)
}

/// The scheme of an absolute URI, and what follows it.
fn split_scheme(reference: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let head = before(reference, b"/?");
    let Some(colon) = head.iter().position(|byte| *byte == b':') else { return (None, reference) };
    (reference.get(..colon), reference.get(colon + 1..).unwrap_or_default())
}

fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let path = before(target, b"?");
    (path, target.get(path.len() + 1..))
}

/// Everything before the first byte of `ends`.
fn before<'a>(text: &'a [u8], ends: &[u8]) -> &'a [u8] {
    text.split(|byte| ends.contains(byte)).next().unwrap_or_default()
}

fn joined(path: &[u8], query: Option<&[u8]>) -> Vec<u8> {
    match query {
        Some(query) => [path, b"?", query].concat(),
        None => path.to_vec(),
    }
}

/// Dot segments removed (RFC 3986 section 5.2.4).
fn normal_path(path: &[u8]) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_directory = true;
    for segment in path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/') {
        ends_in_directory = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    if ends_in_directory {
        segments.push(b"");
    }
    let mut normal = Vec::with_capacity(path.len() + 1);
    for segment in segments {
        normal.push(b'/');
        normal.extend_from_slice(segment);
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::resolve;

    fn resolved(reference: &str) -> Option<String> {
        let target = resolve(b"Example.org:80", b"/a/b?q=1", reference.as_bytes());
        target.map(|target| String::from_utf8(target).unwrap())
    }

    #[test]
    fn references_of_the_same_authority_become_targets() {
        for (reference, target) in [
            ("", "/a/b?q=1"),
            ("#part", "/a/b?q=1"),
            ("?q=2", "/a/b?q=2"),
            ("c", "/a/c"),
            ("c?x", "/a/c?x"),
            ("./c/../d/", "/a/d/"),
            ("..", "/"),
            ("../../../x", "/x"),
            ("/x//y", "/x//y"),
            ("/x/.", "/x/"),
            ("//example.org", "/"),
            ("//EXAMPLE.ORG/x?y#z", "/x?y"),
            ("http://example.org:80/x", "/x"),
            ("https://example.org/x", "/x"),
            ("HTTPS://example.org:443?x", "/?x"),
        ] {
            assert_eq!(resolved(reference).as_deref(), Some(target), "{reference}");
        }
    }

    #[test]
    fn other_authorities_and_other_schemes_are_none_of_our_business() {
        for reference in [
            "//example.com/x",
            "http://example.org:81/x",
            "http://sub.example.org/",
            "mailto:a@b",
            "http:x",
            "/a b",
            "http://u@example.org/",
        ] {
            assert_eq!(resolved(reference), None, "{reference}");
        }
    }
}
