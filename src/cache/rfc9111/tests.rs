//! Properties of the decisions as a whole.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any},
    prop_assert, prop_assert_eq, prop_oneof, proptest,
    sample::{select, subsequence},
};

use super::{
    Coding, Failure, Policy, RequestHead, ResponseHead, Reuse, Stored, Times, add_plain_tags, admit,
    coded_head, condition, fixture, format_date, head_contradicts, invalidated_targets, invalidates,
    is_plain_path, known_tag, make_conditional, may_reuse, may_serve_on_failure, may_store, merge,
    normal_encoding, not_modified_head, on_absent, parse_date, partial_content_head,
};

mod model;

/// Fields that some decision reads, and one that none does.
const NAMES: &[&str] = &[
    "cache-control",
    "cdn-cache-control",
    "pragma",
    "expires",
    "date",
    "age",
    "last-modified",
    "etag",
    "vary",
    "connection",
    "set-cookie",
    "content-location",
    "location",
    "content-length",
    "content-type",
    "content-encoding",
    "content-language",
    "access-control-allow-origin",
    "if-none-match",
    "if-modified-since",
    "if-range",
    "range",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cookie",
    "x-other",
];

/// Words that field values are made of, so that random values are nearly right.
const WORDS: &[&str] = &[
    "max-age",
    "s-maxage",
    "no-store",
    "no-cache",
    "private",
    "public",
    "=",
    ",",
    ", ",
    ";",
    "\"",
    "\\",
    "*",
    "W/",
    "\"a\"",
    "0",
    "60",
    "-1",
    "99999999999999999999",
    "bytes=",
    "0-1",
    "-",
    "q=0.5",
    "en",
    "de",
    "br",
    "gzip",
    "GMT",
    "Sun, 06 Nov 1994 ",
    "08:49:37",
    " ",
    "/",
    "..",
    "//",
    "%2e",
    "?",
    "#",
    "http:",
    "example.org",
    "(",
    ")",
    ":",
    "@",
    "%\"",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    let nearly_right = vec(select(WORDS), 0..12).prop_map(|words| words.concat().into_bytes());
    let date = any::<i64>().prop_map(|unix| format_date(unix % (1 << 33)).into_bytes());
    prop_oneof![4 => nearly_right, 1 => date, 1 => vec(any::<u8>(), 0..40)]
}

fn head() -> impl Strategy<Value = HeaderMap> {
    vec((select(NAMES), value()), 0..12).prop_map(|lines| {
        let lines = lines.iter().filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?))
        });
        let mut head = HeaderMap::new();
        for (name, value) in lines {
            head.append(name, value);
        }
        head
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    select(vec![fixture::default(), fixture::rfc(), fixture::ruled(), fixture::compressing()])
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![6 => Just(Method::GET), 1 => Just(Method::HEAD), 1 => Just(Method::POST)]
}

/// `Cache-Control` members; the restrictive ones come first.
const RESTRICTIVE: usize = 8;
const DIRECTIVES: &[&str] = &[
    "no-store",
    "private",
    "no-cache",
    "max-age=0",
    "max-age=x",
    "private=\"\"",
    "x=\"",
    "max-age=60, max-age=61",
    "max-age=60",
    "public",
    "s-maxage=60",
    "stale-while-revalidate=60",
    "stale-if-error=60",
    "max-age=60, x=\"no-store\"",
];

/// Whether an answer with these `Cache-Control` lines can ever be used without asking the backend first.
fn is_usable_unasked(lines: &[&str], policy: &Policy) -> bool {
    let mut lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
    lines.push(("etag", "\"a\""));
    let Ok(storable) = fixture::store_plain(&lines, policy) else { return false };
    let none = HeaderMap::new();
    let request = fixture::get(&none);
    let is_served = may_reuse(&request, &storable.meta, fixture::NOW_MS, policy);
    matches!(is_served, Reuse::Fresh | Reuse::Stale(_))
        || may_serve_on_failure(&storable.meta, fixture::NOW_MS, Failure::Disconnect).is_some()
}

proptest! {
    #[test]
    fn no_bytes_make_a_decision_panic(
        (request, response, policy) in (head(), head(), policy()),
        (method, target, status) in (method(), value(), 100_u16..1000),
        (sent_ms, received_ms, now_ms) in any::<(u64, u64, u64)>(),
        (received_unix, length) in any::<(i64, u64)>(),
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        let times = Times { sent_ms, received_ms, received_unix };
        let asked = RequestHead::new(&method, b"example.org", &target, &request);
        let answered = ResponseHead { status, headers: &response };

        let _ = admit(&asked, &policy);
        let _ = (on_absent(&asked), normal_encoding(&request), is_plain_path(&target));
        let _ = (invalidates(&method, status), invalidated_targets(&asked, &response));
        if let Ok(storable) = may_store(&asked, &answered, times, &policy) {
            let kept = storable.head(&response);
            let stored = Stored { status, headers: &kept, meta: &storable.meta };
            let _ = may_reuse(&asked, &storable.meta, now_ms, &policy);
            let _ = may_serve_on_failure(&storable.meta, now_ms, Failure::Status(status));
            let _ = (storable.meta.age_s(now_ms), storable.meta.ttl_s(now_ms), storable.meta.expired(now_ms));
            let _ = condition(&asked, &stored, length, received_unix);
            let _ = merge(&asked, &stored, &request, times, &policy);
            let _ = head_contradicts(&stored, &answered);
            let _ = (not_modified_head(&kept), partial_content_head(&kept, 0, length, length));
            let _ = known_tag(&request, &kept, Coding::ALL.into_iter());
            let _ = coded_head(&kept, Coding::Gzip, length);
            let mut validating = request.clone();
            make_conditional(&mut validating, &stored);
            add_plain_tags(&mut validating);
            prop_assert!(storable.selection.matches(&request), "an answer fits its own request");
            prop_assert!(!kept.contains_key("connection") && !kept.contains_key("age"));
        }
    }

    #[test]
    fn no_bytes_make_a_date_panic_and_every_date_is_read_as_it_is_written(
        text in vec(any::<u8>(), 0..40), unix in 0..=253_402_300_799_i64, now_unix in any::<i64>(),
    ) {
        let _ = parse_date(&text, now_unix);
        prop_assert_eq!(parse_date(format_date(unix).as_bytes(), now_unix), Some(unix));
    }

    #[test]
    fn restrictive_directives_win_in_any_order_and_on_any_line(
        permissive in subsequence(DIRECTIVES.get(RESTRICTIVE..).unwrap().to_vec(), 0..4),
        restrictive in select(DIRECTIVES.get(..RESTRICTIVE).unwrap().to_vec()),
        (at, is_one_line, policy) in (any::<usize>(), any::<bool>(), policy()),
    ) {
        // A stale window and `s-maxage` are permissions of their own beside `max-age=0`.
        let is_absolute = !restrictive.starts_with("max-age");
        let mut lines: Vec<&str> = permissive
            .into_iter()
            .filter(|line| is_absolute || !(line.starts_with("s-") || line.starts_with("stale")))
            .collect();
        lines.insert(at % (lines.len() + 1), restrictive);
        let joined = lines.join(", ");
        let lines = if is_one_line { vec![joined.as_str()] } else { lines };

        prop_assert!(!is_usable_unasked(&lines, &policy), "{:?}", lines);
    }

    #[test]
    fn one_more_restriction_never_makes_an_answer_more_usable(
        before in subsequence(DIRECTIVES.to_vec(), 0..5),
        restrictive in select(DIRECTIVES.get(..RESTRICTIVE).unwrap().to_vec()),
        (at, policy) in (any::<usize>(), policy()),
    ) {
        let mut after = before.clone();
        after.insert(at % (before.len() + 1), restrictive);

        let is_more_usable = is_usable_unasked(&after, &policy) && !is_usable_unasked(&before, &policy);
        prop_assert!(!is_more_usable, "{:?} {:?}", before, after);
    }

    #[test]
    fn a_targeted_field_with_an_error_changes_nothing(
        (answer, policy) in (head(), policy()),
        garbage in "[&=,;A-Z]{1,8}",
    ) {
        let mut plain = answer;
        plain.remove("cdn-cache-control");
        let mut with_error = plain.clone();
        with_error.insert("cdn-cache-control", format!("max-age=60, {garbage}").parse().unwrap());
        let none = HeaderMap::new();
        let store = |headers| {
            let answer = ResponseHead { status: StatusCode::OK, headers };
            may_store(&fixture::get(&none), &answer, fixture::AT_NOW, &policy)
        };

        prop_assert_eq!(store(&plain), store(&with_error));
    }
}
