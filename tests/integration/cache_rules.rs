//! What a route says about its answers: which are stored, for whom, under which variant, for how long; groups of answers;
//! and chance against stampedes.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Step, answer, ok, send, text},
    client::{Answer, get, get_with, raw, request, request_text},
    until_async,
};

/// A backend whose answers say how many there were before; `fields` are theirs.
async fn counting(status: &'static str, fields: &'static [&'static str]) -> Backend {
    let count = Arc::new(AtomicUsize::new(0));
    Backend::start(move |_| answer(status, fields, &format!("answer {}", count.fetch_add(1, SeqCst)))).await
}

/// The statuses of the cache for these targets, in turn.
async fn statuses(proxy: &Proxy, targets: &[&str]) -> Vec<String> {
    let mut statuses = Vec::new();
    for target in targets {
        statuses.push(get(proxy.address, target).await.cache().to_owned());
    }
    statuses
}

async fn ask_host(proxy: &Proxy, method: &str, host: &str, target: &str) -> Answer {
    let text = request_text(method, target, &["Content-Length: 0"], "").replace("coach.example", host);
    raw(proxy.address, text).await
}

/// The seconds that a hit says it has left.
fn ttl_s(answer: &Answer) -> i64 {
    let detail = answer.detail();
    let ttl = detail.split("ttl=").nth(1).unwrap_or_else(|| panic!("{detail}"));
    ttl.split(';').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_route_overrules_only_the_words_of_the_backend_that_it_names() {
    let cases: &[(&'static [&'static str], &str, &str)] = &[
        (&["Cache-Control: no-store"], "no_store", "no_store"),
        (&["Cache-Control: private"], "private", "private"),
        (&["Cache-Control: no-cache"], "no_cache", "no_cache"),
        (&["Cache-Control: max-age=0"], "max_age", "stale_on_arrival"),
        (&["Expires: 0"], "max_age", "stale_on_arrival"),
        (&["Set-Cookie: a=b"], "set_cookie", "set_cookie"),
    ];
    let words = ["no_store", "private", "no_cache", "max_age", "set_cookie"];
    for (fields, word, reason) in cases {
        let backend = counting("200 OK", fields).await;
        let others: Vec<&str> = words.into_iter().filter(|other| other != word).collect();
        let routes = format!(
            "{{ path: /named, cache: {{ ttl: 1m, override: [{word}] }} }}, {{ path: /others, cache: {{ ttl: 1m, override: [{}] }} }}",
            others.join(", ")
        );
        let proxy = Setup::before(&backend).routes(&routes).start();

        assert_eq!(statuses(&proxy, &["/named", "/named"]).await, ["miss", "hit"], "{fields:?}");
        let refused = get(proxy.address, "/others").await;
        assert!(refused.detail().ends_with(&format!("detail={reason}")), "{fields:?} {}", refused.detail());
        let again = get(proxy.address, "/others").await;
        assert!(again.detail().ends_with("detail=hit_for_miss"), "{fields:?} {}", again.detail());
        let mine = get_with(proxy.address, "/named", &["Authorization: Bearer x"]).await;
        assert_eq!(mine.cache(), "bypass", "{fields:?}: a rule's copy went to someone known");
    }
}

#[tokio::test]
async fn a_cookie_is_stripped_from_the_copy_or_stored_with_it_and_the_first_client_has_it_in_any_case() {
    let backend = counting("200 OK", &["Set-Cookie: session=1"]).await;
    let proxy = Setup::before(&backend)
        .routes("{ path: /refuse, cache: { ttl: 1m } }, { path: /strip, cache: { ttl: 1m, set_cookie: strip } }, { path: /store, cache: { ttl: 1m, set_cookie: store } }")
        .start();

    for (path, status, cookie) in
        [("/refuse", "bypass", "session=1"), ("/strip", "hit", ""), ("/store", "hit", "session=1")]
    {
        let first = get(proxy.address, path).await;
        let second = get(proxy.address, path).await;

        assert_eq!((first.cache(), first.field("set-cookie")), ("miss", "session=1"), "{path}");
        assert_eq!((second.cache(), second.field("set-cookie")), (status, cookie), "{path}");
    }
}

#[tokio::test]
async fn what_is_gone_is_remembered_as_long_as_the_route_says() {
    let backend = counting("404 Not Found", &[]).await;
    let proxy = Setup::before(&backend)
        .routes("{ path: /default, cache: { ttl: 1m } }, { path: /longer, cache: { ttl: 1m, negative_ttl: 40s } }, { path: /never, cache: { ttl: 1m, negative_ttl: 0s } }")
        .start();

    assert_eq!(statuses(&proxy, &["/default", "/longer", "/never"]).await, ["miss"; 3]);

    let default = get(proxy.address, "/default").await;
    let longer = get(proxy.address, "/longer").await;
    let never = get(proxy.address, "/never").await;
    assert_eq!((default.cache(), default.status), ("hit", 404));
    assert!((0..=5).contains(&ttl_s(&default)), "{}", default.detail());
    assert!((30..=40).contains(&ttl_s(&longer)), "{}", longer.detail());
    assert!(never.detail().ends_with("detail=hit_for_miss"), "{}", never.detail());
}

#[tokio::test]
async fn a_route_may_tell_answers_apart_that_the_backend_does_not() {
    let backend = Backend::start(|request| ok(request.field("x-device").unwrap_or("none"))).await;
    let proxy = Setup::before(&backend).cached("ttl: 1m, vary: [X-Device]").start();

    for round in ["miss", "hit"] {
        for device in ["phone", "desk"] {
            let answer = get_with(proxy.address, "/cached/a", &[&format!("X-Device: {device}")]).await;
            assert_eq!((answer.text().as_str(), answer.cache()), (device, round));
        }
        let none = get(proxy.address, "/cached/a").await;
        assert_eq!((none.text().as_str(), none.cache()), ("none", round));
    }
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn with_known_languages_the_backend_is_asked_for_the_best_one_and_copies_are_told_apart_by_it() {
    let backend = Backend::start(|request| {
        answer("200 OK", &["Vary: Accept-Language"], request.field("accept-language").unwrap_or("none"))
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m, languages: [en, de]").start();

    for (wanted, got, status) in [
        (Some("de-CH, fr;q=0.9, en;q=0.2"), "de", "miss"),
        (Some("de"), "de", "hit"),
        (Some("fr;q=0.9, DE;q=0.5"), "de", "hit"),
        (Some("*"), "en", "miss"),
        (Some("en-GB,en;q=0.8"), "en", "hit"),
        (Some("fr"), "none", "miss"),
        (None, "none", "hit"),
        (Some("x y z"), "none", "hit"),
    ] {
        let line = wanted.map(|wanted| format!("Accept-Language: {wanted}"));
        let lines: Vec<&str> = line.as_deref().into_iter().collect();
        let answer = get_with(proxy.address, "/cached/a", &lines).await;

        assert_eq!((answer.text().as_str(), answer.cache()), (got, status), "{wanted:?}");
    }
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn only_the_named_media_types_are_stored_by_a_rule() {
    let backend = Backend::start(|request| match request.target() {
        "/cached/json" => answer("200 OK", &["Content-Type: application/json; charset=utf-8"], "{}"),
        "/cached/html" => answer("200 OK", &["Content-Type: text/html"], "hi"),
        "/cached/image" => answer("200 OK", &["Content-Type: image/png"], "hi"),
        "/cached/declared" => {
            answer("200 OK", &["Content-Type: image/png", "Cache-Control: max-age=60"], "hi")
        }
        _ => ok("hi"),
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 1m, media_types: [application/json, text/*]").start();

    for (path, is_stored) in
        [("json", true), ("html", true), ("image", false), ("none", false), ("declared", true)]
    {
        let path = format!("/cached/{path}");
        let first = get(proxy.address, &path).await;
        let second = get(proxy.address, &path).await;

        assert_eq!(first.detail().ends_with("detail=media_type"), !is_stored, "{path} {}", first.detail());
        assert_eq!(second.cache() == "hit", is_stored, "{path}");
    }
}

#[tokio::test]
async fn a_request_that_is_kept_away_is_neither_answered_from_the_cache_nor_stored() {
    let backend = Backend::start(|request| {
        let seen = [
            request.target(),
            request.field("cookie").unwrap_or(""),
            request.field("x-preview").unwrap_or(""),
        ];
        answer("200 OK", &["Cache-Control: max-age=60"], &seen.join("|"))
    })
    .await;
    let rule = "ttl: 1m, public: true, bypass_when: { query: { use_cache: \"false\" }, headers: { X-Preview: \"1\" }, cookies: { preview: \"*\" } }";
    let proxy = Setup::before(&backend).cached(rule).start();
    get(proxy.address, "/cached/a").await;

    for (target, line, seen) in [
        ("/cached/a?use_cache=false", "X-A: 1", "/cached/a?use_cache=false||"),
        ("/cached/a", "X-Preview: 1", "/cached/a||1"),
        ("/cached/a", "Cookie: b=c; preview=x", "/cached/a|b=c; preview=x|"),
    ] {
        for _ in 0..2 {
            let passed = get_with(proxy.address, target, &[line]).await;

            assert_eq!((passed.cache(), passed.text().as_str()), ("bypass", seen));
            assert_eq!(passed.detail(), "touchline; fwd=bypass; detail=bypass_when");
        }
    }
    let hit = get_with(proxy.address, "/cached/a", &["X-Preview: 0", "Cookie: b=c"]).await;
    assert_eq!((hit.cache(), hit.text().as_str()), ("hit", "/cached/a||"));
    assert_eq!(backend.count(), 7);
}

#[tokio::test]
async fn fields_that_the_operator_calls_credentials_are_credentials() {
    let backend = Backend::start(|request| ok(request.field("x-session-token").unwrap_or("nobody"))).await;
    let proxy = Setup::before(&backend)
        .top("cache", "{ credentials: [X-Session-Token] }")
        .routes("{ path: /mine, cache: { ttl: 1m } }, { path: /ours, cache: { ttl: 1m, public: true } }")
        .start();

    for token in ["a", "b", "a"] {
        let mine = get_with(proxy.address, "/mine", &[&format!("X-Session-Token: {token}")]).await;

        assert_eq!((mine.cache(), mine.text().as_str()), ("bypass", token));
        assert!(mine.detail().ends_with("detail=credential"), "{}", mine.detail());
    }
    assert_eq!(get(proxy.address, "/mine").await.text(), "nobody");
    let ours = ["X-Session-Token: a"];
    assert_eq!(get_with(proxy.address, "/ours", &ours).await.cache(), "miss");
    assert_eq!(get(proxy.address, "/ours").await.cache(), "hit", "the operator said that it is for all");
}

#[tokio::test]
async fn a_flood_of_new_keys_is_not_stored_and_does_not_touch_what_is() {
    let backend = counting("200 OK", &[]).await;
    let proxy = Setup::before(&backend)
        .top("cache", "{ max_new_keys: 3 }")
        .routes("{ path: /flooded, cache: { ttl: 1m, refresh_on: { query: { fresh: \"1\" } } } }, { path: /other, cache: { ttl: 1m } }")
        .start();

    for number in 0..6 {
        let answer = get(proxy.address, &format!("/flooded?q={number}")).await;

        let is_stored = number < 3;
        assert_eq!(answer.detail().ends_with("stored"), is_stored, "{number}: {}", answer.detail());
        assert_eq!(answer.detail().ends_with("detail=too_many_keys"), !is_stored, "{number}");
    }

    assert_eq!(
        statuses(&proxy, &["/flooded?q=0", "/flooded?q=2", "/flooded?q=5"]).await,
        ["hit", "hit", "miss"]
    );
    let renewed = get(proxy.address, "/flooded?q=0&fresh=1").await;
    assert!(renewed.detail().ends_with("stored"), "a known key is no new one: {}", renewed.detail());
    assert_eq!(get(proxy.address, "/flooded?q=0").await.body, renewed.body);
    assert_eq!(
        statuses(&proxy, &["/other", "/other"]).await,
        ["miss", "hit"],
        "each route has its own share"
    );
    assert_eq!(proxy.metric("touchline_cache_entries", "").await, 4.0);
}

#[tokio::test]
async fn lives_by_a_rule_end_at_different_moments_and_declared_ones_do_not() {
    let backend = Backend::start(|request| match request.target().starts_with("/declared") {
        true => answer("200 OK", &["Cache-Control: max-age=36000"], "hi"),
        false => ok("hi"),
    })
    .await;
    for (profile, prefix, is_spread) in
        [("default", "/cached", true), ("default", "/declared", false), ("rfc", "/cached", false)]
    {
        let proxy = Setup::before(&backend)
            .top("cache", &format!("{{ profile: {profile} }}"))
            .cached("ttl: 10h")
            .start();
        let mut lives = HashSet::new();
        for number in 0..20 {
            let path = format!("{prefix}/{number}");
            get(proxy.address, &path).await;
            let hit = get(proxy.address, &path).await;
            assert_eq!(hit.cache(), "hit");
            assert!((34_195..=36_000).contains(&ttl_s(&hit)), "{}", hit.detail());
            lives.insert(ttl_s(&hit));
        }
        let least = *lives.iter().min().unwrap();
        assert_eq!(lives.len() > 5, is_spread, "{profile} {prefix}: {lives:?}");
        assert_eq!(least < 35_900, is_spread, "{profile} {prefix}: {lives:?}");
    }
}

#[tokio::test]
async fn a_copy_in_demand_is_fetched_anew_before_it_ends_and_nobody_waits() {
    let count = Arc::new(AtomicUsize::new(0));
    let backend = Backend::start(move |_| {
        let body = format!("answer {}", count.fetch_add(1, SeqCst));
        vec![Step::Wait(Duration::from_millis(200)), Step::Send(text("200 OK", &[], &body).into_bytes())]
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 4s").start();
    get(proxy.address, "/cached/a").await;
    let stored = Instant::now();

    let mut last = 0;
    while last == 0 {
        let hit = get(proxy.address, "/cached/a").await;

        assert_eq!(hit.cache(), "hit", "the copy ended before it was fetched anew");
        last = hit.text()["answer ".len()..].parse().unwrap();
        assert!(stored.elapsed() < Duration::from_secs(4), "the old copy outlived itself");
    }

    assert_eq!((last, backend.count()), (1, 2), "more than one request fetched it anew");
}

#[tokio::test]
async fn what_the_backend_declares_is_not_fetched_before_it_ends() {
    let count = Arc::new(AtomicUsize::new(0));
    let backend = Backend::start(move |_| {
        let body = format!("answer {}", count.fetch_add(1, SeqCst));
        let fields = ["Cache-Control: max-age=1"];
        vec![Step::Wait(Duration::from_millis(200)), Step::Send(text("200 OK", &fields, &body).into_bytes())]
    })
    .await;
    let proxy = Setup::before(&backend).cached("ttl: 4s").start();
    get(proxy.address, "/cached/a").await;

    until_async("the copy has ended", || async {
        let answer = get(proxy.address, "/cached/a").await;
        assert!(answer.cache() != "hit" || answer.text() == "answer 0", "{}", answer.detail());
        answer.cache() != "hit"
    })
    .await;
}

/// A backend of the groups that a target names: `/cached/NAME?group,group`. A POST to `/end/STATUS?group` ends them.
async fn grouped() -> Backend {
    Backend::start(|request| {
        let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
        let groups =
            query.split(',').filter(|group| !group.is_empty()).map(|group| format!("\"{group}\";x=1"));
        let groups = groups.collect::<Vec<_>>().join(", ");
        match path.strip_prefix("/end/") {
            Some(status) => {
                answer(&format!("{status} X"), &[&format!("Cache-Group-Invalidation: {groups}")], "")
            }
            None => {
                answer("200 OK", &[&format!("Cache-Groups: {groups}"), "Cache-Control: max-age=60"], "hi")
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_write_ends_the_groups_that_its_answer_names_on_its_origin() {
    let backend = grouped().await;
    let proxy =
        Setup::before(&backend).routes("{ path: \"/tagged\", cache: { ttl: 1m, tags: [scripts] } }").start();
    let targets = ["/a?scripts", "/b?styles,scripts", "/c?styles", "/d?Scripts", "/d", "/tagged"];
    let fill = async || {
        statuses(&proxy, &targets).await;
        ask_host(&proxy, "GET", "other.example", "/a?scripts").await;
        assert_eq!(statuses(&proxy, &targets).await, ["hit"; 6]);
    };
    fill().await;
    let hit = get(proxy.address, "/b?styles,scripts").await;
    assert_eq!(
        hit.field("cache-groups"),
        "\"styles\";x=1, \"scripts\";x=1",
        "it is for all caches on the way"
    );

    for (method, target) in [
        ("GET", "/end/200?scripts"),
        ("HEAD", "/end/200?scripts"),
        ("OPTIONS", "/end/200?scripts"),
        ("POST", "/end/400?scripts"),
        ("POST", "/end/500?scripts"),
        ("POST", "/end/200?none"),
        ("POST", "/end/200"),
    ] {
        raw(proxy.address, request_text(method, target, &["Content-Length: 0"], "")).await;
        assert_eq!(statuses(&proxy, &targets).await, ["hit"; 6], "{method} {target}");
    }
    ask_host(&proxy, "POST", "other.example:8080", "/end/200?scripts").await;
    assert_eq!(statuses(&proxy, &targets).await, ["hit"; 6], "another origin");

    for (method, target) in
        [("POST", "/end/200?scripts"), ("DELETE", "/end/204?x,scripts"), ("PATCH", "/end/303?scripts")]
    {
        request(proxy.address, method, target, "x").await;
        assert_eq!(
            statuses(&proxy, &targets).await,
            ["miss", "miss", "hit", "hit", "hit", "hit"],
            "{method}"
        );
        let other = ask_host(&proxy, "GET", "other.example", "/a?scripts").await;
        assert_eq!(other.cache(), "hit", "{method}: another origin");
        fill().await;
    }
    ask_host(&proxy, "POST", "Coach.Example:80", "/end/200?styles").await;
    assert_eq!(statuses(&proxy, &targets).await, ["hit", "miss", "miss", "hit", "hit", "hit"]);
}

#[tokio::test]
async fn groups_and_tags_do_not_end_one_another() {
    let backend = grouped().await;
    let proxy =
        Setup::before(&backend).routes("{ path: \"/tagged\", cache: { ttl: 1m, tags: [scripts] } }").start();
    statuses(&proxy, &["/a?scripts", "/tagged?x"]).await;

    for tag in ["scripts", "scr*", "*"] {
        proxy.post("/cache/purge", &format!("{{\"tag\":\"{tag}\"}}")).await;
        assert_eq!(get(proxy.address, "/a?scripts").await.cache(), "hit", "{tag}");
    }

    proxy.post("/cache/purge", "{\"url\":\"/a?scripts\"}").await;
    assert_eq!(get(proxy.address, "/a?scripts").await.cache(), "miss");
}

#[tokio::test]
async fn an_answer_of_more_groups_than_an_entry_may_have_is_not_stored() {
    let backend = grouped().await;
    let proxy = Setup::before(&backend).start();
    let target = |count: usize| {
        let groups: Vec<String> = (0..count).map(|number| format!("{number:0>32}")).collect();
        format!("/a?{}", groups.join(","))
    };

    for (count, status) in [(32, "hit"), (64, "hit"), (65, "miss")] {
        let target = target(count);
        get(proxy.address, &target).await;
        assert_eq!(get(proxy.address, &target).await.cache(), status, "{count}");
    }
    request(proxy.address, "POST", &target(64).replace("/a", "/end/200"), "x").await;
    assert_eq!(get(proxy.address, &target(32)).await.cache(), "miss", "each of 64 groups ended");
}

#[tokio::test]
async fn a_304_that_names_other_groups_and_tags_moves_the_copy_there() {
    let backend = Backend::start(|request| match (request.method(), request.field("if-none-match")) {
        ("POST", _) => answer("200 OK", &["Cache-Group-Invalidation: \"new\""], ""),
        (_, Some("\"one\"")) => send(
            "HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\nCache-Groups: \"new\"\r\nSurrogate-Key: new-tag\r\nCache-Control: max-age=60\r\n\r\n",
        ),
        _ => answer(
            "200 OK",
            &["ETag: \"one\"", "Cache-Groups: \"old\"", "Surrogate-Key: old-tag", "Cache-Control: max-age=60"],
            "body",
        ),
    })
    .await;
    for (purge, is_ended) in
        [("{\"tag\":\"old-tag\"}", false), ("{\"tag\":\"new-tag\"}", true), ("POST", true)]
    {
        let proxy = Setup::before(&backend).start();
        get(proxy.address, "/a").await;
        let renewed = get_with(proxy.address, "/a", &["Cache-Control: no-cache"]).await;
        assert_eq!((renewed.cache(), renewed.field("cache-groups")), ("revalidated", "\"new\""));

        if purge == "POST" {
            request(proxy.address, "POST", "/b", "x").await;
        } else {
            assert_eq!(proxy.post("/cache/purge", purge).await.status, 200);
        }

        assert_eq!(get(proxy.address, "/a").await.cache() == "miss", is_ended, "{purge}");
    }
}

#[tokio::test]
async fn the_places_that_a_write_names_are_ended_under_the_keys_of_their_routes() {
    let backend = Backend::start(|request| match request.method() {
        "POST" => answer("201 Created", &["Location: /list?page=1&utm=1"], ""),
        _ => ok("list"),
    })
    .await;
    let proxy = Setup::before(&backend)
        .routes("{ path: /list, cache: { ttl: 1m, key: { query: { only: [page] } } } }")
        .start();
    let ask = async |host: &str| ask_host(&proxy, "GET", host, "/list?page=1").await.cache().to_owned();
    // A GET with `Content-Length: 0` has no body.
    assert_eq!(ask("coach.example").await, "miss");
    assert_eq!(ask("coach.example:80").await, "hit");

    ask_host(&proxy, "POST", "coach.example:80", "/items").await;

    assert_eq!(ask("coach.example").await, "miss");
}
