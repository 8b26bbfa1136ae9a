//! Query keys of the admin paths: the window and the strict switch. Values are plain words, so nothing is
//! percent-decoded: an encoded value is an unknown one.

use http::StatusCode;

use crate::admin::answer::Reply;
use crate::telemetry::Window;

/// The last value of `key`, as FastAPI takes it.
fn last<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('=').or(Some((pair, ""))))
        .rfind(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

/// `?window=1m|5m|1h`, `default` when absent.
pub(crate) fn window(query: &str, default: Window) -> Result<Window, Reply> {
    let Some(word) = last(query, "window") else { return Ok(default) };
    Window::from_name(word)
        .ok_or_else(|| Reply::detail(StatusCode::BAD_REQUEST, "window must be 1m, 5m or 1h"))
}

/// `?strict=1`: answer 503 when the score is below the bar.
pub(crate) fn is_strict(query: &str) -> Result<bool, Reply> {
    match last(query, "strict") {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(Reply::detail(StatusCode::BAD_REQUEST, "strict must be 0 or 1")),
    }
}

/// `?refresh=1`: the page loads itself again.
pub(crate) fn is_refreshing(query: &str) -> bool {
    last(query, "refresh") == Some("1")
}

/// `?format=json|yaml`: whether it is to be YAML; none when absent.
pub(crate) fn yaml(query: &str) -> Result<Option<bool>, Reply> {
    match last(query, "format") {
        None => Ok(None),
        Some("json") => Ok(Some(false)),
        Some("yaml") => Ok(Some(true)),
        Some(_) => Err(Reply::detail(StatusCode::BAD_REQUEST, "format must be json or yaml")),
    }
}

/// The value of a key that may hold any text: percent-decoded, `+` for a space.
pub(crate) fn text(query: &str, key: &str) -> Result<Option<String>, Reply> {
    let Some(written) = last(query, key) else { return Ok(None) };
    let wrong = || Reply::detail(StatusCode::BAD_REQUEST, &format!("the value of {key} is not well encoded"));
    let mut decoded = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
                let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
                decoded.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
                rest = after;
            }
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map(Some).map_err(|_| wrong())
}

/// `?scope=pod|merged`: whether other replicas are to be asked, which needs some to ask.
pub(crate) fn is_merged(query: &str, can_merge: bool) -> Result<bool, Reply> {
    match last(query, "scope") {
        None | Some("pod") => Ok(false),
        Some("merged") if can_merge => Ok(true),
        Some("merged") => Err(Reply::detail(
            StatusCode::CONFLICT,
            "there are no other replicas to merge with: name them in admin.peers",
        )),
        Some(_) => Err(Reply::detail(StatusCode::BAD_REQUEST, "scope must be pod or merged")),
    }
}

/// `?scope=pod` where nothing can be merged.
pub(crate) fn pod_only(query: &str) -> Result<(), Reply> {
    if is_merged(query, true)? {
        let detail = "this path tells of one pod only; snapshot and events can be merged";
        return Err(Reply::detail(StatusCode::BAD_REQUEST, detail));
    }
    Ok(())
}

/// Refuses keys other than `known`. The contract paths ignore them, as their callers may send more than we read.
pub(crate) fn only(query: &str, known: &[&str]) -> Result<(), Reply> {
    let mut names =
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split('=').next().unwrap_or(pair));
    if names.all(|name| known.contains(&name)) {
        return Ok(());
    }
    let detail = if known.is_empty() {
        "this path takes no query".to_owned()
    } else {
        format!("unknown query key; known: {}", known.join(", "))
    };
    Err(Reply::detail(StatusCode::BAD_REQUEST, &detail))
}

#[cfg(test)]
mod tests {
    use super::{is_strict, only, window};
    use crate::telemetry::Window;

    #[test]
    fn window_takes_the_three_words_and_nothing_else() {
        let cases = [
            ("", Some(Window::OneHour)),
            ("window=1m", Some(Window::OneMinute)),
            ("a=b&window=5m&c", Some(Window::FiveMinutes)),
            ("window=1m&window=1h", Some(Window::OneHour)),
            ("window=2m", None),
            ("window=", None),
            ("window", None),
            ("window=1M", None),
            ("window=%31m", None),
            ("window=1m%00", None),
            ("Window=2m", Some(Window::OneHour)),
        ];

        for (query, expected) in cases {
            assert_eq!(window(query, Window::OneHour).ok(), expected, "{query:?}");
        }
    }

    #[test]
    fn strict_is_a_switch() {
        let cases = [
            ("", Some(false)),
            ("strict=1", Some(true)),
            ("strict=true", Some(true)),
            ("strict=0", Some(false)),
            ("strict=yes", None),
            ("strict", None),
        ];

        for (query, expected) in cases {
            assert_eq!(is_strict(query).ok(), expected, "{query:?}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_where_the_path_is_ours() {
        assert!(only("", &[]).is_ok());
        assert!(only("window=1m&", &["window"]).is_ok());
        assert!(only("window=1m&x", &["window"]).is_err());
        assert!(only("x", &[]).is_err());
    }
}
