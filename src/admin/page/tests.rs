//! The page holds no script, shows text of others as text, and is well formed in every state.

use std::sync::{Arc, atomic::Ordering};

use http::header;

use super::{Escaped, Latency, Template, uptime};
use crate::admin::{
    AdminService,
    fakes::{Fake, admin, admin_with_traffic, ask},
};

#[test]
fn text_of_others_stays_text() {
    assert_eq!(
        Escaped("<img onerror='x'>&\"\u{7}").to_string(),
        "&lt;img onerror=&#39;x&#39;&gt;&amp;&quot;\u{fffd}"
    );
    assert_eq!(Template("/a/{id}/b").to_string(), "/a/<em>{id}</em>/b");
    assert_eq!(Template("{<b>").to_string(), "<em>{&lt;b&gt;}</em>");
}

#[test]
fn numbers_read_well() {
    assert_eq!(
        [0.214, 1.87, 88.2, 2310.0].map(|ms| Latency(ms).to_string()),
        ["0.21 ms", "1.9 ms", "88 ms", "2.31 s"]
    );
    assert_eq!([5, 65, 22_331, 180_000].map(uptime), ["5 s", "1 m 5 s", "6 h 12 m", "2 d 2 h"]);
}

#[tokio::test]
async fn the_page_shows_verdict_and_routes_without_scripts() {
    let service = AdminService::new(Arc::new(admin_with_traffic(&Arc::new(Fake::default()))));

    let page = ask(&service, "GET /", &[], "").await;
    let style = ask(&service, "GET /dashboard.css", &[], "").await;

    assert_eq!(page.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    for part in [
        "· coach-api</title>",
        "<code>/api/user/reputation/<em>{user_id}</em></code>",
        "100.0%",
        "first byte",
        "over its limit",
        "not cached",
    ] {
        assert!(page.text.contains(part), "{part}");
    }
    assert!(page.text.contains("&lt;img src=x onerror=alert(1)&gt;"));
    for foreign in ["<script>", "<img", " style=", "http://", "https://", "javascript:"] {
        assert!(!page.text.contains(foreign), "{foreign}");
    }
    assert_eq!(
        (style.status, style.headers[header::CONTENT_TYPE].to_str().unwrap()),
        (200, "text/css; charset=utf-8")
    );
}

#[tokio::test]
async fn an_idle_page_says_what_it_waits_for() {
    let fake = Arc::new(Fake::default());
    let service = AdminService::new(Arc::new(admin(&fake, None, None)));
    fake.is_unready.store(true, Ordering::SeqCst);

    let page = ask(&service, "GET /?window=1m", &[], "").await;

    assert!(page.text.contains("Waiting for the first request"));
    assert!(
        page.text
            .contains("<h1>Not ready, traffic is sent elsewhere: draining. Healthy: nothing is wrong.</h1>")
    );
    assert!(page.text.contains("100 · healthy · coach-api"));
    assert!(!page.headers.contains_key("refresh"));
}

#[tokio::test]
async fn the_page_loads_itself_again_only_if_asked_to() {
    let service = AdminService::new(Arc::new(admin(&Arc::new(Fake::default()), None, None)));

    let page = ask(&service, "GET /?window=5m&refresh=1", &[], "").await;

    assert_eq!(page.headers["refresh"], "10");
    assert!(page.text.contains("?window=1h&amp;refresh=1"));
}
