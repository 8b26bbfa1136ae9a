//! Every user has answers of their own: nobody gets another's, and nobody unknown gets a stored one.

use std::{
    fs,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Step, answer, ok, text},
    client::{Answer, get, get_with, raw, request, request_text},
    spawn, until, until_async,
};

/// Who makes tokens, and where the proxy finds the key.
pub(crate) struct Issuer {
    folder: TempDir,
    pub(crate) key: EncodingKey,
    jwk: Jwk,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let (key, jwk) = pair("1");
        let issuer = Self { folder: tempfile::tempdir().unwrap(), key, jwk };
        issuer.publish(std::slice::from_ref(&issuer.jwk));
        issuer
    }

    fn publish(&self, keys: &[Jwk]) {
        fs::write(self.folder.path().join("jwks.json"), json!({ "keys": keys }).to_string()).unwrap();
    }

    /// The settings of a route whose users have tokens.
    fn identity(&self, more: &str) -> String {
        let path = self.folder.path().join("jwks.json");
        format!("identity: {{ jwt_claim: sub, keys: {:?}{more} }}", path.display().to_string())
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        signed(&self.key, "1", claims)
    }

    /// `Authorization` of a user, good for an hour.
    fn bearer(&self, user: &str) -> String {
        format!("Authorization: Bearer {}", self.token(&json!({ "sub": user, "exp": now() + 3600 })))
    }
}

pub(crate) fn pair(id: &str) -> (EncodingKey, Jwk) {
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let key = EncodingKey::from_ec_der(pair.as_ref());
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some(id.to_owned());
    (key, jwk)
}

pub(crate) fn signed(key: &EncodingKey, id: &str, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(id.to_owned());
    encode(&header, claims, key).unwrap()
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A proxy that keeps the answers of users with tokens for a minute.
pub(crate) fn proxy(backend: &Backend, issuer: &Issuer, more: &str) -> Proxy {
    Setup::before(backend).cached(&format!("ttl: 1m, {}", issuer.identity(more))).start()
}

/// Echoes the credential that the backend saw, so that each user's answer differs.
async fn echo() -> Backend {
    Backend::start(|request| ok(request.field("authorization").unwrap_or("nobody"))).await
}

fn is_bypass(answer: &Answer, reason: &str) {
    assert_eq!(answer.cache(), "bypass", "{}", answer.head);
    assert!(answer.detail().ends_with(&format!("detail={reason}")), "{}", answer.detail());
}

/// Orders a purge, at the pace that the control listener allows.
pub(crate) async fn purged(proxy: &Proxy, order: &str) {
    until_async("a purge is let through", || async {
        match proxy.post("/cache/purge", order).await.status {
            200 => true,
            429 => false,
            status => panic!("{status} for {order}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_user_gets_answers_of_their_own_from_the_store() {
    let (backend, issuer) = (echo().await, Issuer::new());
    let proxy = proxy(&backend, &issuer, "");
    let (anna, bert) = (issuer.bearer("anna"), issuer.bearer("bert"));

    for user in [&anna, &bert] {
        for cache in ["miss", "hit", "hit"] {
            let answer = get_with(proxy.address, "/cached/a", &[user]).await;

            assert_eq!(answer.cache(), cache);
            assert_eq!(format!("Authorization: {}", answer.text()), *user);
            assert_eq!(answer.field("cache-control"), "private");
        }
    }
    // Another token of the same user is the same user.
    let again = issuer.token(&json!({ "sub": "anna", "exp": now() + 9000, "jti": "another" }));
    let answer = get_with(proxy.address, "/cached/a", &[&format!("Authorization: Bearer {again}")]).await;
    assert_eq!(answer.cache(), "hit");
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn who_is_not_known_goes_past_the_store_and_leaves_nothing_in_it() {
    let (backend, issuer) = (echo().await, Issuer::new());
    let proxy = proxy(&backend, &issuer, "");
    let anna = issuer.bearer("anna");
    get_with(proxy.address, "/cached/a", &[&anna]).await;
    let expired = issuer.token(&json!({ "sub": "anna", "exp": now() }));
    let endless = issuer.token(&json!({ "sub": "anna" }));
    let forged = signed(&pair("1").0, "1", &json!({ "sub": "anna", "exp": now() + 3600 }));
    let none = "eyJhbGciOiJub25lIiwia2lkIjoiMSJ9.eyJzdWIiOiJhbm5hIiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    let bearers: Vec<String> = [expired.as_str(), &endless, &forged, none, "x"]
        .iter()
        .map(|token| format!("Authorization: Bearer {token}"))
        .collect();
    let mut strangers: Vec<Vec<&str>> = bearers.iter().map(|line| vec![line.as_str()]).collect();
    strangers.extend([vec![], vec!["Cookie: token=x"], vec!["Authorization: Basic YTpi"]]);

    for lines in &strangers {
        for _ in 0..2 {
            let answer = get_with(proxy.address, "/cached/a", lines).await;

            is_bypass(&answer, "identity");
            let sent = lines.iter().find_map(|line| line.strip_prefix("Authorization: "));
            assert_eq!(answer.text(), sent.unwrap_or("nobody"));
        }
    }
    let twice = get_with(proxy.address, "/cached/a", &[&anna, &issuer.bearer("bert")]).await;
    assert_ne!(twice.cache(), "hit", "which of two counts nobody knows");
    assert_eq!(get_with(proxy.address, "/cached/a", &[&anna]).await.cache(), "hit");
}

#[tokio::test]
async fn another_credential_beside_the_token_bars_the_store_and_cookies_are_kept_back() {
    let (backend, issuer) = (echo().await, Issuer::new());
    let proxy = Setup::before(&backend)
        .cached(&format!("ttl: 1m, key: {{ cookies: [lang] }}, {}", issuer.identity("")))
        .start();
    let anna = issuer.bearer("anna");

    let with_key = get_with(proxy.address, "/cached/a", &[&anna, "X-API-Key: k"]).await;
    is_bypass(&with_key, "credential");
    assert_eq!(backend.request().field("x-api-key"), Some("k"));
    let first = get_with(proxy.address, "/cached/a", &[&anna, "Cookie: session=1; lang=de"]).await;
    let second = get_with(proxy.address, "/cached/a", &[&anna, "Cookie: lang=de; session=2"]).await;
    let third = get_with(proxy.address, "/cached/a", &[&anna, "Cookie: lang=en"]).await;

    assert_eq!([first.cache(), second.cache(), third.cache()], ["miss", "hit", "miss"]);
    let seen = &backend.requests()[1];
    assert_eq!(seen.field("cookie"), Some("lang=de"));
    assert_eq!(seen.field("authorization").map(|value| format!("Authorization: {value}")), Some(anna));
}

#[tokio::test]
async fn a_token_in_a_cookie_goes_to_the_backend_and_other_cookies_do_not() {
    let backend = Backend::start(|request| ok(request.field("cookie").unwrap_or("nobody"))).await;
    let issuer = Issuer::new();
    let proxy = proxy(&backend, &issuer, ", cookie: token");
    let cookie = |user: &str| format!("token={}", issuer.token(&json!({ "sub": user, "exp": now() + 3600 })));
    let (anna, bert) = (cookie("anna"), cookie("bert"));

    for (user, cache) in [(&anna, "miss"), (&anna, "hit"), (&bert, "miss")] {
        let answer = get_with(proxy.address, "/cached/a", &[&format!("Cookie: theme=dark; {user}")]).await;

        assert_eq!((answer.cache(), answer.text()), (cache, user.clone()));
    }
    let both = format!("Cookie: {anna}; {bert}");
    is_bypass(&get_with(proxy.address, "/cached/a", &[&both]).await, "identity");
    let beside =
        get_with(proxy.address, "/cached/a", &[&format!("Cookie: {anna}"), &issuer.bearer("x")]).await;
    is_bypass(&beside, "authorization");
}

#[tokio::test]
async fn a_name_in_a_field_is_believed_from_a_trusted_proxy_alone() {
    let backend = Backend::start(|request| ok(request.field("x-forwarded-user").unwrap_or("nobody"))).await;
    let setup = |trusted: &str| {
        let rule = "ttl: 1m, identity: { header: X-Forwarded-User }";
        Setup::before(&backend).ingress("trusted_proxies", trusted).cached(rule).start()
    };
    let (trusted, other) = (setup("[127.0.0.1]"), setup("[10.0.0.0/8]"));

    for (user, cache) in [("anna", "miss"), ("bert", "miss"), ("anna", "hit"), ("bert", "hit")] {
        let lines = [&format!("X-Forwarded-User: {user}"), "X-Forwarded-Email: anna@x"];
        let answer = get_with(trusted.address, "/cached/a", &lines).await;

        assert_eq!((answer.cache(), answer.text().as_str()), (cache, user));
    }
    assert_eq!(backend.requests()[0].field("x-forwarded-email"), None, "it is not in the key");
    is_bypass(&get(trusted.address, "/cached/a").await, "identity");
    for _ in 0..2 {
        let claimed = get_with(other.address, "/cached/a", &["X-Forwarded-User: anna"]).await;
        is_bypass(&claimed, "identity");
        assert_eq!(claimed.text(), "nobody");
    }
}

#[tokio::test]
async fn an_opaque_credential_has_entries_of_its_own_for_a_minute() {
    let backend = Backend::start(|request| ok(request.field("cookie").unwrap_or("nobody"))).await;
    let proxy = Setup::before(&backend)
        .cached("ttl: 1h, stale_if_error: 1h, identity: { credential: { cookie: session } }")
        .start();

    for (session, cache) in [("1", "miss"), ("2", "miss"), ("1", "hit"), ("2", "hit")] {
        let answer =
            get_with(proxy.address, "/cached/a", &[&format!("Cookie: x=y; session={session}")]).await;

        assert_eq!((answer.cache(), answer.text()), (cache, format!("session={session}")));
        if let Some(ttl) = answer.detail().strip_prefix("touchline; hit; ttl=") {
            assert!((50..=60).contains(&ttl.parse::<u32>().unwrap()), "{ttl}");
        }
    }
    is_bypass(&get_with(proxy.address, "/cached/a", &["Cookie: x=y"]).await, "identity");
}

#[tokio::test]
async fn no_entry_outlives_the_token_that_it_was_fetched_with() {
    let (backend, issuer) = (echo().await, Issuer::new());
    let proxy = proxy(&backend, &issuer, "");
    let bearer = |life: u64| {
        let claims = json!({ "sub": "anna", "exp": now() + life });
        format!("Authorization: Bearer {}", issuer.token(&claims))
    };
    let (short, long) = (bearer(20), bearer(3600));

    assert_eq!(get_with(proxy.address, "/cached/a", &[&short]).await.cache(), "miss");
    for token in [&short, &long] {
        let hit = get_with(proxy.address, "/cached/a", &[token]).await;
        let ttl: u32 = hit.detail().strip_prefix("touchline; hit; ttl=").unwrap().parse().unwrap();
        assert!((5..20).contains(&ttl), "{ttl}");
    }
    // A token on its last second brings nothing that could be kept.
    let last = get_with(proxy.address, "/cached/b", &[&bearer(1)]).await;
    assert_ne!(last.cache(), "hit");
    assert!(!last.detail().contains("stored"), "{}", last.detail());
}

#[tokio::test]
async fn what_the_backend_says_to_shared_caches_is_not_passed_on() {
    let fields =
        ["Cache-Control: public, max-age=60, s-maxage=600", "CDN-Cache-Control: max-age=60", "ETag: \"a\""];
    let backend = Backend::start(move |_| answer("200 OK", &fields, "mine")).await;
    let issuer = Issuer::new();
    let proxy = Setup::before(&backend).cached(&issuer.identity("")).start();
    let anna = issuer.bearer("anna");
    let ask = async |lines: &[&str]| {
        let mut all = vec![anna.as_str()];
        all.extend(lines);
        get_with(proxy.address, "/cached/a", &all).await
    };

    let answers = [
        ask(&[]).await,
        ask(&[]).await,
        ask(&["If-None-Match: \"a\""]).await,
        ask(&["Range: bytes=0-1"]).await,
    ];
    let head = raw(proxy.address, request_text("HEAD", "/cached/a", &[&anna], "")).await;

    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 200, 304, 206]);
    assert_eq!(answers.each_ref().map(Answer::cache), ["miss", "hit", "hit", "hit"]);
    for answer in answers.iter().chain([&head]) {
        assert_eq!(answer.field("cache-control"), "private, max-age=60", "{}", answer.head);
        assert!(answer.fields("cdn-cache-control").is_empty());
    }
    assert_eq!(backend.count(), 1);
    is_bypass(&get(proxy.address, "/cached/a").await, "identity");
}

#[tokio::test]
async fn a_copy_is_confirmed_with_its_own_token_and_stays_private() {
    let backend = Backend::start(|request| {
        let fields = ["Cache-Control: no-cache, public", "ETag: \"a\""];
        match request.field("if-none-match") {
            Some(_) => vec![Step::Send(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec())],
            None => answer("200 OK", &fields, request.field("authorization").unwrap_or("nobody")),
        }
    })
    .await;
    let issuer = Issuer::new();
    let proxy = proxy(&backend, &issuer, "");

    for (user, cache) in
        [("anna", "miss"), ("bert", "miss"), ("anna", "revalidated"), ("anna", "revalidated")]
    {
        let answer = get_with(proxy.address, "/cached/a", &[&issuer.bearer(user)]).await;

        assert_eq!((answer.status, answer.cache()), (200, cache), "{user}");
        assert_eq!(answer.field("cache-control"), "private, no-cache");
    }
    assert!(backend.requests().iter().all(|request| request.field("authorization").is_some()));
}

#[tokio::test]
async fn a_stale_copy_is_renewed_behind_the_answer_for_the_same_user() {
    let (backend, issuer) = (echo().await, Issuer::new());
    let rule = format!("ttl: 1m, stale_while_revalidate: 1m, {}", issuer.identity(""));
    let proxy = Setup::before(&backend).cached(&rule).start();
    let names = ["anna", "bert"];
    let users = names.map(|user| issuer.bearer(user));
    for user in &users {
        get_with(proxy.address, "/cached/a", &[user]).await;
    }

    for (name, user) in names.iter().zip(&users) {
        let before = backend.count();
        purged(&proxy, &json!({ "identity": name, "soft": true }).to_string()).await;
        let answer = get_with(proxy.address, "/cached/a", &[user]).await;

        assert_eq!((answer.cache(), format!("Authorization: {}", answer.text())), ("stale", user.clone()));
        until("it is fetched anew", || backend.count() > before).await;
        let sent = backend.requests().pop().unwrap();
        assert_eq!(
            sent.field("authorization").map(|value| format!("Authorization: {value}")),
            Some(user.clone())
        );
    }
}

#[tokio::test]
async fn an_answer_that_varies_by_the_token_fits_that_token_alone() {
    let backend = Backend::start(|request| {
        answer("200 OK", &["Vary: Authorization"], request.field("authorization").unwrap_or("nobody"))
    })
    .await;
    let issuer = Issuer::new();
    let proxy = proxy(&backend, &issuer, "");
    let token = |id: &str| {
        let claims = json!({ "sub": "anna", "exp": now() + 3600, "jti": id });
        format!("Authorization: Bearer {}", issuer.token(&claims))
    };
    let (one, two) = (token("1"), token("2"));

    for (token, cache) in [(&one, "miss"), (&two, "miss"), (&one, "hit"), (&two, "hit")] {
        let answer = get_with(proxy.address, "/cached/a", &[token]).await;

        assert_eq!((answer.cache(), format!("Authorization: {}", answer.text())), (cache, token.clone()));
    }
}

#[tokio::test]
async fn users_never_share_a_fetch_and_each_users_requests_do() {
    const EACH: usize = 8;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let backend = Backend::start(move |request| {
        let body = request.field("authorization").unwrap_or("nobody").to_owned();
        vec![Step::Gate(Arc::clone(&held)), Step::Send(text("200 OK", &[], &body).into_bytes())]
    })
    .await;
    let issuer = Issuer::new();
    let proxy = proxy(&backend, &issuer, "");
    let users = ["anna", "bert", "carl"].map(|user| issuer.bearer(user));

    let tasks: Vec<_> = (0..EACH * users.len())
        .map(|index| {
            let (user, address) = (users[index % users.len()].clone(), proxy.address);
            spawn(async move { (get_with(address, "/cached/a", &[&user]).await, user) })
        })
        .collect();
    until("every user's fetch is under way", || backend.count() >= users.len()).await;
    until_async("the others wait", || async {
        proxy.metric("touchline_cache_flight_waiters", "").await >= 3.0 * (EACH as f64 - 1.0)
    })
    .await;
    gate.add_permits(100);

    for task in tasks {
        let (answer, user) = task.await.unwrap();
        assert_eq!(format!("Authorization: {}", answer.text()), user);
        assert_eq!(answer.field("cache-control"), "private");
    }
    assert_eq!(backend.count(), users.len());
}

#[tokio::test]
async fn a_purge_by_identity_ends_all_that_a_user_has() {
    let (backend, issuer) = (echo().await, Issuer::new());
    let proxy = Setup::before(&backend)
        .routes(&format!(
            "{{ path: /a, cache: {{ ttl: 1m, {} }} }}, {{ path: /b, cache: {{ ttl: 1m, {} }} }}",
            issuer.identity(""),
            issuer.identity(", claims: [tenant]"),
        ))
        .start();
    let token = |user: &str, tenant: &str, issued: &str| {
        let claims = json!({ "sub": user, "tenant": tenant, "iss": issued, "exp": now() + 3600 });
        format!("Authorization: Bearer {}", issuer.token(&claims))
    };
    let mine = [token("anna", "x", "1"), token("anna", "y", "1"), token("anna", "x", "2")];
    let other = token("bert", "x", "1");
    let all = async || {
        let mut seen = Vec::new();
        for path in ["/a", "/b"] {
            for user in mine.iter().chain([&other]) {
                seen.push(get_with(proxy.address, path, &[user]).await.cache().to_owned());
            }
        }
        seen
    };
    // On /a the tenant does not tell users apart.
    let cold = ["miss", "hit", "miss", "miss", "miss", "miss", "miss", "miss"];
    assert_eq!(all().await, cold);
    assert_eq!(all().await, ["hit"; 8]);

    let purged = proxy.post("/cache/purge", r#"{"identity":"anna"}"#).await;

    assert_eq!((purged.status, purged.text().contains(r#""scope":"identity""#)), (200, true));
    assert_eq!(all().await, ["miss", "hit", "miss", "hit", "miss", "miss", "miss", "hit"]);
    assert_eq!(proxy.post("/cache/purge", r#"{"identity":""}"#).await.status, 400);
    assert_eq!(all().await, ["hit"; 8]);
}

#[tokio::test]
async fn a_write_to_a_target_ends_every_users_copy_of_it() {
    let (backend, issuer) = (echo().await, Issuer::new());
    let proxy = proxy(&backend, &issuer, "");
    let users = ["anna", "bert"].map(|user| issuer.bearer(user));
    for user in &users {
        get_with(proxy.address, "/cached/a", &[user]).await;
    }

    assert_eq!(request(proxy.address, "POST", "/cached/a", "x").await.status, 200);

    for user in &users {
        assert_eq!(get_with(proxy.address, "/cached/a", &[user]).await.cache(), "miss");
    }
}

#[tokio::test]
async fn keys_are_taken_over_and_withdrawn_while_running() {
    let (backend, issuer) = (echo().await, Issuer::new());
    let proxy = proxy(&backend, &issuer, "");
    let old = issuer.bearer("anna");
    let (key, jwk) = pair("2");
    let new = signed(&key, "2", &json!({ "sub": "anna", "exp": now() + 3600 }));
    let new = format!("Authorization: Bearer {new}");
    let cache = async |line: &str| get_with(proxy.address, "/cached/a", &[line]).await.cache().to_owned();
    assert_eq!([cache(&old).await, cache(&old).await, cache(&new).await], ["miss", "hit", "bypass"]);

    issuer.publish(&[issuer.jwk.clone(), jwk.clone()]);
    until_async("the new key counts", || async { cache(&new).await == "hit" }).await;
    assert_eq!(cache(&old).await, "hit");
    issuer.publish(&[jwk]);

    until_async("the old key is withdrawn", || async { cache(&old).await == "bypass" }).await;
    assert_eq!(cache(&new).await, "hit");
}
