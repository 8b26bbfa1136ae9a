//! Where identities are read from, what is remembered of them, and how long they last.

use std::{fs, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::Algorithm as Library;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Asking, Identifier, Identifiers, Identity, Life, Unverified,
    keys::Look,
    samples::{Issuer, NOW, set, user, with},
};
use crate::{
    cache::{Cache, Settings, rfc9111::Meta},
    config,
};

/// A folder with a file of keys.
struct Fixture {
    folder: TempDir,
    cache: Cache,
    issuer: Issuer,
}

impl Fixture {
    fn new() -> Self {
        let issuer = Issuer::new("e", Library::ES256);
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self { folder, cache: Cache::new(&Settings::from(&config::Cache::default())), issuer };
        fixture.write(&set(&[&fixture.issuer]));
        fixture
    }

    fn write(&self, keys: &[u8]) {
        fs::write(self.folder.path().join("jwks.json"), keys).unwrap();
    }

    /// The settings of a route, in JSON; a token's keys are those of the folder.
    fn written(&self, settings: &Value) -> config::Identity {
        let mut settings = settings.clone();
        if settings.get("jwt_claim").is_some() {
            settings["keys"] = json!("jwks.json");
        }
        let mut written: config::Identity = serde_json::from_value(settings).unwrap();
        written.keys.iter_mut().for_each(|keys| keys.resolve(self.folder.path()).unwrap());
        written
    }

    fn identifier(&self, settings: &Value) -> Arc<Identifier> {
        Identifiers::default().compile("/", &self.written(settings)).unwrap()
    }

    fn ask(&self, identifier: &Identifier, lines: &[(&str, &str)]) -> Result<Identity, Unverified> {
        self.ask_at(identifier, lines, NOW)
    }

    fn ask_at(
        &self,
        identifier: &Identifier,
        lines: &[(&str, &str)],
        now_s: i64,
    ) -> Result<Identity, Unverified> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let is_trusted = headers.remove("untrusted").is_none();
        identifier.identify(Asking { headers: &headers, is_trusted, now_s }, &self.cache)
    }
}

#[test]
fn a_bearer_token_stands_once_in_authorization() {
    let fixture = Fixture::new();
    let identifier = fixture.identifier(&json!({ "jwt_claim": "sub" }));
    let token = fixture.issuer.token(&user("7"));
    let ask = |lines: &[(&str, &str)]| fixture.ask(&identifier, lines);
    let bearer = format!("Bearer {token}");
    let huge = format!("Bearer {}", "a".repeat(9000));

    let mine = ask(&[("authorization", &bearer), ("cookie", "a=b")]).unwrap();

    assert_eq!(mine.life, Life::Until(NOW + 3600));
    assert_eq!(ask(&[("authorization", &format!("bEaReR   {token} "))]), Ok(mine));
    let table: [(&[(&str, &str)], Unverified); 9] = [
        (&[], Unverified::Absent),
        (&[("authorization", "")], Unverified::Absent),
        (&[("authorization", "Basic YTpi")], Unverified::Absent),
        (&[("authorization", "Bearer")], Unverified::Malformed),
        (&[("authorization", &token)], Unverified::Malformed),
        (&[("authorization", &format!("Bearer,{token}"))], Unverified::Malformed),
        (&[("authorization", &bearer), ("authorization", &bearer)], Unverified::Ambiguous),
        (&[("authorization", &huge)], Unverified::TooLong),
        (&[("x-authorization", &bearer)], Unverified::Absent),
    ];
    for (lines, why) in table {
        assert_eq!(ask(lines), Err(why), "{lines:?}");
    }
    assert_eq!(identifier.field(), "authorization");
}

#[test]
fn a_token_in_a_cookie_stands_once_among_all_cookies() {
    let fixture = Fixture::new();
    let identifier = fixture.identifier(&json!({ "jwt_claim": "sub", "cookie": "token" }));
    let token = fixture.issuer.token(&user("7"));
    let ask = |lines: &[(&str, &str)]| fixture.ask(&identifier, lines);

    assert!(ask(&[("cookie", "a=b"), ("cookie", &format!("c=d; token={token}"))]).is_ok());
    assert_eq!(ask(&[("cookie", &format!("token={token}; token={token}"))]), Err(Unverified::Ambiguous));
    assert_eq!(ask(&[("cookie", "token=; token=a")]), Err(Unverified::Ambiguous));
    assert_eq!(ask(&[("cookie", "token=")]), Err(Unverified::Absent));
    assert_eq!(ask(&[("cookie", &format!("Token={token}"))]), Err(Unverified::Absent));
    assert_eq!(ask(&[("authorization", &format!("Bearer {token}"))]), Err(Unverified::Absent));
    assert_eq!((identifier.field().as_str(), identifier.cookie()), ("cookie", Some("token")));
}

#[test]
fn a_name_in_a_field_counts_from_a_trusted_proxy_alone() {
    let fixture = Fixture::new();
    let identifier = fixture.identifier(&json!({ "header": "X-User-Id" }));
    let ask = |lines: &[(&str, &str)]| fixture.ask(&identifier, lines);

    let mine = ask(&[("x-user-id", " 7 ")]).unwrap();

    assert_eq!(mine.life, Life::Unbounded);
    assert_eq!(ask(&[("x-user-id", "7")]), Ok(mine));
    assert_ne!(ask(&[("x-user-id", "8")]), Ok(mine));
    assert_eq!(ask(&[("x-user-id", "7"), ("untrusted", "")]), Err(Unverified::Untrusted));
    assert_eq!(ask(&[("x-user-id", "7"), ("x-user-id", "8")]), Err(Unverified::Ambiguous));
    assert_eq!(ask(&[("x-user-id", " ")]), Err(Unverified::Absent));
    assert_eq!(ask(&[("x-user-id", &"7".repeat(1025))]), Err(Unverified::TooLong));
}

#[test]
fn a_credential_is_taken_as_it_is_and_for_a_minute() {
    let fixture = Fixture::new();
    let field = fixture.identifier(&json!({ "credential": "Authorization" }));
    let cookie = fixture.identifier(&json!({ "credential": { "cookie": "session" } }));

    let mine = fixture.ask(&field, &[("authorization", "Token abc")]).unwrap();

    assert_eq!(mine.life, Life::For(Duration::from_secs(60)));
    assert_ne!(fixture.ask(&field, &[("authorization", "Token abd")]), Ok(mine));
    let other = fixture.ask(&cookie, &[("cookie", "session=Token abc")]).unwrap();
    assert_ne!(other.tag, mine.tag, "the same text in another place is another credential");
}

#[test]
fn users_are_told_apart_by_all_that_was_named() {
    let fixture = Fixture::new();
    let plain = fixture.identifier(&json!({ "jwt_claim": "sub" }));
    let narrow = fixture.identifier(&json!({ "jwt_claim": "sub", "claims": ["tenant"] }));
    let by_mail = fixture.identifier(&json!({ "jwt_claim": "mail" }));
    let tag = |identifier: &Identifier, changes: &Value| {
        let token = fixture.issuer.token(&with(&user("7"), changes));
        fixture.ask(identifier, &[("authorization", &format!("Bearer {token}"))]).unwrap().tag
    };
    let tenant = |name: &str| json!({ "tenant": name, "mail": "7" });

    assert_eq!(tag(&plain, &tenant("a")), tag(&plain, &tenant("b")));
    assert_eq!(tag(&plain, &json!({})), tag(&plain, &json!({ "exp": NOW + 9, "jti": "x" })));
    let others = [
        tag(&plain, &json!({})),
        tag(&plain, &json!({ "iss": "x" })),
        tag(&plain, &json!({ "sub": 7 })),
        tag(&plain, &json!({ "sub": "8" })),
        tag(&narrow, &tenant("a")),
        tag(&narrow, &tenant("b")),
        tag(&narrow, &json!({ "tenant": ["a"] })),
        tag(&by_mail, &tenant("a")),
    ];
    for (index, one) in others.iter().enumerate() {
        assert!(!others[..index].contains(one), "{index}");
    }
}

#[test]
fn a_remembered_token_ends_with_its_time_and_with_its_key() {
    let fixture = Fixture::new();
    let mut identifiers = Identifiers::default();
    let written = fixture.written(&json!({ "jwt_claim": "sub" }));
    let identifier = identifiers.compile("/a", &written).unwrap();
    let bearer = format!("Bearer {}", fixture.issuer.token(&user("7")));
    let ask = |now_s| fixture.ask_at(&identifier, &[("authorization", &bearer)], now_s);

    assert!(Arc::ptr_eq(&identifier, &identifiers.compile("/b", &written).unwrap()));
    let first = ask(NOW).unwrap();
    assert_eq!(ask(NOW + 3599), Ok(first));
    assert_eq!(ask(NOW + 3600), Err(Unverified::Expired));
    assert_eq!(ask(NOW), Ok(first));
    let next = Issuer::new("e", Library::ES256);
    fixture.write(&set(&[&next]));
    let rings = identifiers.into_rings();
    assert_eq!(rings.iter().map(|ring| ring.look()).collect::<Vec<_>>(), [Look::Renewed]);

    assert_eq!(ask(NOW), Err(Unverified::Signature), "its key was withdrawn");
}

#[test]
fn no_copy_outlives_what_vouches_for_it() {
    let fixture = Fixture::new();
    let tag = fixture.ask(&fixture.identifier(&json!({ "header": "x-a" })), &[("x-a", "7")]).unwrap().tag;
    let meta = Meta {
        source: crate::cache::rfc9111::Source::Rule,
        born_ms: 1_000,
        expires_ms: 100_000,
        swr_ms: 5_000,
        sie_ms: 900_000,
        disconnect_ms: 900_000,
        no_cache: false,
        max_stale: true,
        validator: true,
        generated_etag: false,
        date: NOW,
        last_modified: None,
    };
    let bound = |life| Identity { tag, life }.bound(meta, 1_000, NOW);
    let ends = |life| bound(life).map(|meta| (meta.expires_ms, meta.swr_ms, meta.sie_ms, meta.max_stale));

    assert_eq!(bound(Life::Unbounded), Some(meta));
    assert_eq!(ends(Life::For(Duration::from_secs(60))), Some((61_000, 0, 0, false)));
    assert_eq!(ends(Life::Until(NOW + 50)), Some((50_000, 0, 0, false)));
    assert_eq!(ends(Life::Until(NOW + 110)), Some((100_000, 5_000, 10_000, false)));
    assert_eq!(ends(Life::Until(i64::MAX)), Some((100_000, 5_000, 900_000, false)));
    for end in [NOW + 1, NOW, NOW - 9, i64::MIN] {
        assert_eq!(ends(Life::Until(end)), None);
    }
}
