//! Many users of one proxy in random order: whatever happens, every answer is one that was made for its receiver.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::{
    identity::{Issuer, now, pair, proxy, purged, signed},
    support::{
        app::Proxy,
        backend::{Backend, Request, Step, text},
        client::{Answer, get_with, raw, request, request_text},
        spawn,
    },
};

const PATHS: [&str; 3] = ["/cached/a", "/cached/b?q=1", "/cached/c"];

/// A generator of plain random numbers (xorshift), so that a failure can be run again by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

/// What the test knows of what has been served.
#[derive(Default)]
struct Model {
    /// Whose each entity tag is.
    owners: HashMap<String, String>,
    /// Answers made up to here are purged, by user and path.
    floors: HashMap<(String, &'static str), usize>,
}

impl Model {
    /// Holds an answer to what its receiver may see. `user` is none for whoever is not known.
    fn check(&mut self, user: Option<&str>, path: &'static str, answer: &Answer, what: &str) {
        let mine = user.unwrap_or("nobody");
        let context = format!("{what} for {mine} at {path}: {}", answer.head);
        if user.is_none() {
            assert_eq!(answer.cache(), "bypass", "{context}");
        }
        let tag = answer.field("etag").to_owned();
        if let Some(owner) = self.owners.get(&tag) {
            assert_eq!(owner, mine, "{context}");
        }
        match answer.status {
            200 if !answer.body.is_empty() => {
                let body = answer.text();
                let [owner, at, nth] = body.split(' ').collect::<Vec<_>>()[..] else {
                    panic!("{context} {body}")
                };
                assert_eq!((owner, at), (mine, path), "{context}");
                let floor = self.floors.get(&(mine.to_owned(), path)).copied().unwrap_or(0);
                assert!(nth.parse::<usize>().unwrap() > floor, "{context} {body}: purged at {floor}");
                if !tag.is_empty() {
                    self.owners.insert(tag, mine.to_owned());
                }
            }
            200 => assert_eq!(what, "head", "{context}"),
            206 => assert_eq!(answer.body, mine.as_bytes()[..4], "{context}"),
            304 => assert_eq!(self.owners.get(&tag).map(String::as_str), Some(mine), "{context}"),
            status => panic!("{status} {context}"),
        }
    }

    fn purge(
        &mut self,
        is_ended: impl Fn(&str) -> bool,
        users: &[String],
        paths: &[&'static str],
        made: usize,
    ) {
        for user in users.iter().filter(|user| is_ended(user)) {
            for path in paths {
                self.floors.insert((user.clone(), path), made);
            }
        }
    }
}

/// Says who asks by the list of all good tokens, and counts its answers.
async fn honest(good: HashMap<String, String>) -> (Backend, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let owner = move |request: &Request| match request.fields("authorization").as_slice() {
        [one] => good.get(*one).cloned(),
        _ => None,
    };
    let backend = Backend::start(move |request| {
        let nth = count.fetch_add(1, SeqCst) + 1;
        let owner = owner(request).unwrap_or_else(|| "nobody".to_owned());
        let body = format!("{owner} {} {nth}", request.target());
        let whole = text("200 OK", &[], &body);
        let head = whole.find("\r\n\r\n").unwrap() + 4;
        vec![Step::Send(if request.method() == "HEAD" { whole[..head].into() } else { whole.into() })]
    })
    .await;
    (backend, made)
}

/// Users of two tenants with two tokens each, of which half share a name with a user of the other tenant.
fn crowd(issuer: &Issuer) -> Vec<(String, String)> {
    let mut tokens = Vec::new();
    for name in ["u1", "u2", "u3"] {
        for tenant in ["x", "y"] {
            for id in ["1", "2"] {
                let claims = json!({ "sub": name, "tenant": tenant, "jti": id, "exp": now() + 3600 });
                tokens.push((format!("{name}@{tenant}"), format!("Bearer {}", issuer.token(&claims))));
            }
        }
    }
    tokens
}

/// What nobody may take for a user of the crowd.
fn strangers(issuer: &Issuer, tokens: &[(String, String)]) -> Vec<Vec<String>> {
    let claims = json!({ "sub": "u1", "tenant": "x", "exp": now() + 3600 });
    let line = |token: &str| format!("Authorization: Bearer {token}");
    let good = &tokens[0].1["Bearer ".len()..];
    let (message, _) = good.rsplit_once('.').unwrap();
    let (_, other_signature) = tokens[4].1.rsplit_once('.').unwrap();
    vec![
        vec![],
        vec![line(&signed(&pair("1").0, "1", &claims))],
        vec![line(&signed(&issuer.key, "2", &claims))],
        vec![line(&issuer.token(&json!({ "sub": "u1", "tenant": "x", "exp": now() - 1 })))],
        vec![line(&issuer.token(&json!({ "sub": "u1", "exp": now() + 3600 })))],
        vec![line(&issuer.token(&json!({ "sub": ["u1"], "tenant": "x", "exp": now() + 3600 })))],
        vec![line(&format!("{message}.{other_signature}"))],
        vec![line(&format!("{message}."))],
        vec![line(&encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(b"")).unwrap())],
        vec![line(good), line(&tokens[4].1["Bearer ".len()..])],
        vec![format!("Cookie: token={good}")],
        vec!["X-User-Id: u1".to_owned()],
    ]
}

/// One request of a user, in one of the ways in which a client may ask.
async fn ask(proxy: &Proxy, dice: &mut Dice, model: &mut Model, user: &(String, String), path: &'static str) {
    let (name, token) = user;
    let line = format!("Authorization: {token}");
    let tags: Vec<&String> = model.owners.keys().collect();
    let tag = if tags.is_empty() { "\"x\"".to_owned() } else { tags[dice.roll(tags.len())].clone() };
    let condition = format!("If-None-Match: {tag}");
    let (what, method, more) = match dice.roll(9) {
        0 => ("head", "HEAD", vec![]),
        1 => ("range", "GET", vec!["Range: bytes=0-3"]),
        2 => ("condition", "GET", vec![condition.as_str()]),
        3 => ("a reload", "GET", vec!["Cache-Control: no-cache"]),
        4 => ("another key", "GET", vec!["X-API-Key: k"]),
        5 => ("cookies", "GET", vec!["Cookie: session=u1@x"]),
        _ => ("get", "GET", vec![]),
    };
    let mut lines = vec![line.as_str()];
    lines.extend(more);
    let answer = raw(proxy.address, request_text(method, path, &lines, "")).await;
    if what == "another key" {
        assert_eq!(answer.cache(), "bypass");
    }
    model.check(Some(name), path, &answer, what);
}

/// All users and a stranger ask for one path at once.
async fn burst(proxy: &Proxy, model: &mut Model, tokens: &[(String, String)], path: &'static str) {
    let asking: Vec<_> = tokens
        .iter()
        .map(|(name, token)| (Some(name.clone()), format!("Authorization: {token}")))
        .chain([(None, "Accept: */*".to_owned())])
        .map(|(name, line)| {
            let address = proxy.address;
            spawn(async move { (name, get_with(address, path, &[&line]).await) })
        })
        .collect();
    for task in asking {
        let (name, answer) = task.await.unwrap();
        model.check(name.as_deref(), path, &answer, "burst");
    }
}

/// Purges in one of the ways in which that is done; what was made so far must not be seen again.
async fn purge(proxy: &Proxy, dice: &mut Dice, model: &mut Model, users: &[String], made: usize) {
    let path = PATHS[dice.roll(PATHS.len())];
    match dice.roll(4) {
        0 => {
            let subject = ["u1", "u2", "u3"][dice.roll(3)];
            let order = json!({ "identity": subject }).to_string();
            purged(proxy, &order).await;
            model.purge(|user| user.starts_with(&format!("{subject}@")), users, &PATHS, made);
        }
        1 => {
            purged(proxy, &json!({ "url": path }).to_string()).await;
            model.purge(|_| true, users, &[path], made);
        }
        2 => {
            request(proxy.address, "POST", path, "x").await;
            model.purge(|_| true, users, &[path], made);
        }
        _ => {
            // One that names nobody ends nothing that is checked here; it must not break anything either.
            purged(proxy, r#"{"identity":"nobody"}"#).await;
        }
    }
}

#[tokio::test]
async fn whatever_happens_every_user_sees_what_was_made_for_them_and_strangers_see_nothing_stored() {
    for seed in [0x9E37_79B9_7F4A_7C15, 0xD1B5_4A32_D192_ED03] {
        let issuer = Issuer::new();
        let tokens = crowd(&issuer);
        let (backend, made) =
            honest(tokens.iter().map(|(name, token)| (token.clone(), name.clone())).collect()).await;
        let proxy = proxy(&backend, &issuer, ", claims: [tenant]");
        let strangers = strangers(&issuer, &tokens);
        let users: Vec<String> = tokens.iter().map(|(name, _)| name.clone()).collect();
        let (mut dice, mut model) = (Dice(seed), Model::default());

        for _ in 0..400 {
            let path = PATHS[dice.roll(PATHS.len())];
            match dice.roll(20) {
                0 => {
                    let made = made.load(SeqCst);
                    purge(&proxy, &mut dice, &mut model, &users, made).await;
                }
                1 => burst(&proxy, &mut model, &tokens, path).await,
                2..=6 => {
                    let lines = &strangers[dice.roll(strangers.len())];
                    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                    let answer = get_with(proxy.address, path, &lines).await;
                    model.check(None, path, &answer, "a stranger");
                }
                _ => {
                    let user = &tokens[dice.roll(tokens.len())];
                    ask(&proxy, &mut dice, &mut model, user, path).await;
                }
            }
        }

        let hits = proxy.metric("touchline_ingress_requests_total", "cache=\"hit\"").await;
        assert!(hits > 50.0, "seed {seed:x}: only {hits} hits, so little was tried");
    }
}
