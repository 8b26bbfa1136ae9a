//! Which tokens count, and that no forged one does.

use jsonwebtoken::{Algorithm as Library, EncodingKey, crypto};
use proptest::{collection::vec, prelude::any, prop_assert, proptest, sample::Index};
use serde_json::{Value, json};

use super::{Claims, Name, Terms, verify};
use crate::{
    config::{Algorithm, Identity, Jwks},
    ingress::identity::{
        Unverified,
        samples::{Issuer, NOW, base64url, set, user, with},
    },
};

/// One issuer with a key of each type.
struct House {
    rsa: Issuer,
    ec: Issuer,
    ec384: Issuer,
    ed: Issuer,
    secret: Issuer,
    keys: Jwks,
}

impl House {
    fn new() -> Self {
        let rsa = Issuer::new("r", Library::RS256);
        let ec = Issuer::new("e", Library::ES256);
        let ec384 = Issuer::new("f", Library::ES384);
        let ed = Issuer::new("d", Library::EdDSA);
        let secret = Issuer::new("h", Library::HS256);
        let keys = Jwks::parse(&set(&[&rsa, &ec, &ec384, &ed, &secret])).unwrap();
        Self { rsa, ec, ec384, ed, secret, keys }
    }

    fn verify(&self, token: &str, terms: &Terms) -> Result<Claims, Unverified> {
        verify(token.as_bytes(), &self.keys, terms, NOW)
    }
}

fn terms(written: &Identity) -> Terms {
    Terms::new("sub", written)
}

fn plain() -> Terms {
    terms(&Identity::default())
}

/// HMAC allowed as well.
fn all() -> Terms {
    let algorithms = Algorithm::SAFE.into_iter().chain([Algorithm::HS256, Algorithm::HS512]).collect();
    terms(&Identity { algorithms, ..Identity::default() })
}

#[test]
fn a_token_of_each_type_says_whose_it_is() {
    let house = House::new();
    let expected =
        Claims { issuer: None, subject: Name::Text("7".into()), further: Vec::new(), expires_s: NOW + 3600 };

    for issuer in [&house.rsa, &house.ec, &house.ec384, &house.ed, &house.secret] {
        assert_eq!(house.verify(&issuer.token(&user("7")), &all()).as_ref(), Ok(&expected), "{}", issuer.id);
    }
    for algorithm in [Library::RS384, Library::RS512, Library::PS256, Library::PS384, Library::PS512] {
        let token = Issuer::new("r", algorithm).token(&user("7"));
        assert_eq!(house.verify(&token, &plain()).as_ref(), Ok(&expected), "{algorithm:?}");
    }
    let nameless = house.ec.signed(&json!({ "alg": "ES256", "typ": "JWT" }), &user("7"));
    assert_eq!(house.verify(&nameless, &plain()), Ok(expected));
}

#[test]
fn a_header_chooses_nothing_that_was_not_allowed() {
    let house = House::new();
    let stranger = Issuer::new("e", Library::ES256);
    let own_secret = Issuer::new("h", Library::HS256);
    let none = |alg: &str| {
        format!(
            "{}.{}.",
            base64url(&json!({ "alg": alg, "kid": "r" }).to_string()),
            base64url(&user("7").to_string())
        )
    };
    // The public key of the issuer as the secret of an HMAC, in the forms that a library might hand over.
    let confused = |secret: &[u8], kid: Option<&str>| {
        let mut header = json!({ "alg": "HS256" });
        kid.iter().for_each(|kid| header["kid"] = json!(kid));
        let message = format!("{}.{}", base64url(&header.to_string()), base64url(&user("7").to_string()));
        let key = EncodingKey::from_secret(secret);
        format!("{message}.{}", crypto::sign(message.as_bytes(), &key, Library::HS256).unwrap())
    };
    let modulus = house.rsa.jwk()["n"].as_str().unwrap().to_owned();
    let pem = include_bytes!("../../../../tests/data/identity/rsa.pem");
    let signed = |header: Value| house.ec.signed(&header, &user("7"));
    let table = [
        ("none", none("none"), Unverified::Algorithm),
        ("None", none("None"), Unverified::Algorithm),
        ("no algorithm", signed(json!({ "kid": "e" })), Unverified::Algorithm),
        ("an unknown one", signed(json!({ "alg": "ES999", "kid": "e" })), Unverified::Algorithm),
        ("the modulus", confused(modulus.as_bytes(), Some("r")), Unverified::Key),
        ("the modulus without a name", confused(modulus.as_bytes(), None), Unverified::Signature),
        ("a pem", confused(pem, Some("r")), Unverified::Key),
        ("nothing as secret", confused(b"", None), Unverified::Signature),
        ("another secret", own_secret.token(&user("7")), Unverified::Signature),
        ("a name that nobody has", signed(json!({ "alg": "ES256", "kid": "x" })), Unverified::Key),
        ("an empty name", signed(json!({ "alg": "ES256", "kid": "" })), Unverified::Key),
        ("a key of another type", signed(json!({ "alg": "ES256", "kid": "r" })), Unverified::Key),
        ("another algorithm", signed(json!({ "alg": "ES384", "kid": "e" })), Unverified::Key),
        ("another key", stranger.token(&user("7")), Unverified::Signature),
        (
            "a key of its own",
            stranger
                .signed(&json!({ "alg": "ES256", "jwk": stranger.jwk(), "jku": "http://x/" }), &user("7")),
            Unverified::Signature,
        ),
        (
            "crit",
            signed(json!({ "alg": "ES256", "kid": "e", "crit": ["b64"], "b64": false })),
            Unverified::Malformed,
        ),
    ];

    for (what, token, why) in table {
        assert_eq!(house.verify(&token, &all()), Err(why), "{what}");
    }
    let hmac = house.secret.token(&user("7"));
    assert_eq!(house.verify(&hmac, &plain()), Err(Unverified::Algorithm), "not allowed unless named");
    let pss = Issuer::new("r", Library::PS256).token(&user("7"));
    let narrow = terms(&Identity { algorithms: vec![Algorithm::RS256], ..Identity::default() });
    assert_eq!(house.verify(&pss, &narrow), Err(Unverified::Algorithm));
}

#[test]
fn a_key_that_names_its_algorithm_verifies_by_no_other() {
    let issuer = Issuer::new("r", Library::PS256);
    let mut jwk = issuer.jwk();
    jwk["alg"] = json!("RS256");
    let keys = Jwks::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
    let token = |algorithm| Issuer::new("r", algorithm).token(&user("7"));

    assert_eq!(verify(token(Library::PS256).as_bytes(), &keys, &plain(), NOW), Err(Unverified::Key));
    assert!(verify(token(Library::RS256).as_bytes(), &keys, &plain(), NOW).is_ok());
}

#[test]
fn a_text_that_is_no_token_is_none() {
    let house = House::new();
    let good = house.ec.token(&user("7"));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let unsigned = |header: &str, payload: &str| {
        let message = format!("{header}.{payload}");
        format!("{message}.{}", crypto::sign(message.as_bytes(), &house.ec.key, Library::ES256).unwrap())
    };
    let table = [
        (String::new(), Unverified::Malformed),
        ("..".to_owned(), Unverified::Algorithm),
        (message.to_owned(), Unverified::Malformed),
        (format!("{good}.{signature}"), Unverified::Malformed),
        (format!("{good}="), Unverified::Malformed),
        (format!(" {good}"), Unverified::Malformed),
        (good.replace('.', "%2E"), Unverified::Malformed),
        (format!("{message}."), Unverified::Signature),
        (format!("{message}.{signature}A"), Unverified::Signature),
        (format!("{header}x.{payload}.{signature}"), Unverified::Algorithm),
        (unsigned(header, "e30x"), Unverified::Malformed),
        (unsigned(header, &base64url("[]")), Unverified::Malformed),
        (unsigned(header, &base64url("7")), Unverified::Malformed),
        (unsigned(header, &base64url(&"[".repeat(4000))), Unverified::Malformed),
        (unsigned(header, &base64url(r#"{"sub":"7","exp":1,"exp":9999999999}"#)), Unverified::Malformed),
        (unsigned(&base64url("{}"), payload), Unverified::Algorithm),
        (unsigned(&base64url(r#"{"alg":"ES256","alg":"none"}"#), payload), Unverified::Algorithm),
    ];

    for (token, why) in table {
        assert_eq!(house.verify(&token, &plain()), Err(why), "{token}");
    }
}

#[test]
fn a_token_counts_from_its_beginning_to_its_end() {
    let house = House::new();
    let at = |changes: Value| house.verify(&house.ec.token(&with(&user("7"), &changes)), &plain());
    let table = [
        (json!({ "exp": null }), Err(Unverified::Expired)),
        (json!({ "exp": "1900000000" }), Err(Unverified::Expired)),
        (json!({ "exp": [NOW + 9] }), Err(Unverified::Malformed)),
        (json!({ "exp": -1 }), Err(Unverified::Expired)),
        (json!({ "exp": NOW - 1 }), Err(Unverified::Expired)),
        (json!({ "exp": NOW }), Err(Unverified::Expired)),
        (json!({ "exp": 1e300 }), Err(Unverified::Expired)),
        (json!({ "exp": NOW + 1 }), Ok(NOW + 1)),
        (json!({ "exp": 1_800_000_001.9 }), Ok(NOW + 1)),
        (json!({ "exp": i64::MAX }), Ok(i64::MAX)),
        (json!({ "nbf": NOW + 6 }), Err(Unverified::NotYet)),
        (json!({ "nbf": "soon" }), Err(Unverified::NotYet)),
        (json!({ "nbf": true }), Err(Unverified::NotYet)),
        (json!({ "nbf": NOW + 5 }), Ok(NOW + 3600)),
        (json!({ "nbf": NOW - 5, "iat": NOW + 500 }), Ok(NOW + 3600)),
    ];

    for (changes, expected) in table {
        assert_eq!(at(changes.clone()).map(|claims| claims.expires_s), expected, "{changes}");
    }
}

#[test]
fn issuer_and_audience_are_those_that_were_set() {
    let house = House::new();
    let strict = terms(&Identity {
        issuer: Some("https://id.example/".into()),
        audience: vec!["coach".into(), "admin".into()],
        ..Identity::default()
    });
    let good = with(&user("7"), &json!({ "iss": "https://id.example/", "aud": "coach" }));
    let at = |changes: &Value, terms: &Terms| house.verify(&house.ec.token(&with(&good, changes)), terms);
    let table = [
        (json!({ "iss": null }), Unverified::Issuer),
        (json!({ "iss": "https://id.example" }), Unverified::Issuer),
        (json!({ "iss": ["https://id.example/"] }), Unverified::Issuer),
        (json!({ "aud": null }), Unverified::Audience),
        (json!({ "aud": "Coach" }), Unverified::Audience),
        (json!({ "aud": [] }), Unverified::Audience),
        (json!({ "aud": ["other"] }), Unverified::Audience),
        (json!({ "aud": [["coach"]] }), Unverified::Audience),
        (json!({ "aud": { "coach": 1 } }), Unverified::Audience),
    ];

    for (changes, why) in table {
        assert_eq!(at(&changes, &strict), Err(why), "{changes}");
    }
    for changes in [json!({}), json!({ "aud": ["x", "admin"] })] {
        assert_eq!(at(&changes, &strict).unwrap().issuer.as_deref(), Some("https://id.example/"));
    }
    assert!(at(&json!({ "iss": "other", "aud": "other" }), &plain()).is_ok());
    assert_eq!(at(&json!({ "iss": 7 }), &plain()), Err(Unverified::Issuer));
}

#[test]
fn claims_are_texts_and_whole_numbers() {
    let house = House::new();
    let named = |changes: Value| {
        let written = Identity { claims: vec!["tenant".into(), "role".into()], ..Identity::default() };
        let claims = with(&user("7"), &json!({ "tenant": "a", "role": ["x", 1, true] }));
        house.verify(&house.ec.token(&with(&claims, &changes)), &terms(&written))
    };
    for value in [json!([]), json!(["7"]), json!({ "a": 1 })] {
        assert_eq!(named(json!({ "sub": value })), Err(Unverified::Malformed), "{value}");
    }
    for value in [json!(true), json!(7.5), json!(1e40), json!("")] {
        assert_eq!(named(json!({ "sub": value })), Err(Unverified::Claim), "{value}");
    }
    assert_eq!(named(json!({ "sub": null })), Err(Unverified::Claim));
    assert_eq!(named(json!({ "sub": "x".repeat(4097) })), Err(Unverified::Claim));
    for value in [json!({}), json!(1.5), json!([[1]]), json!([null]), json!("x".repeat(5000))] {
        assert_eq!(named(json!({ "tenant": value })), Err(Unverified::Claim), "{value}");
    }
    assert_eq!(named(json!({ "role": null })), Err(Unverified::Claim));

    assert_eq!(named(json!({ "sub": 42 })).unwrap().subject, Name::Number("42".into()));
    let further = named(json!({})).unwrap().further;
    assert_eq!(further, [("tenant".into(), "\"a\"".into()), ("role".into(), "[\"x\",1,true]".into())]);
}

proptest! {
    #[test]
    fn a_token_that_was_touched_is_refused(at in any::<Index>(), byte in "[A-Za-z0-9_.-]") {
        let issuer = Issuer::new("e", Library::ES256);
        let keys = Jwks::parse(&set(&[&issuer])).unwrap();
        let mut token = issuer.token(&user("7"));
        let at = at.index(token.len());
        let is_touched = token[at..=at] != byte;
        token.replace_range(at..=at, &byte);

        prop_assert!(verify(token.as_bytes(), &keys, &plain(), NOW).is_err() == is_touched, "{}", token);
    }

    #[test]
    fn no_bytes_make_it_panic(parts in vec("[A-Za-z0-9_ =-]{0,12}|eyJhbGciOiJFUzI1NiJ9|e30", 0..5), raw in vec(any::<u8>(), 0..40)) {
        let keys = Jwks::parse(&set(&[&Issuer::new("e", Library::ES256)])).unwrap();

        prop_assert!(verify(parts.join(".").as_bytes(), &keys, &plain(), NOW).is_err());
        prop_assert!(verify(&raw, &keys, &plain(), NOW).is_err());
    }
}
