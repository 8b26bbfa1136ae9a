//! Rules for `identity`: one source, what that source needs, and nothing that would mix users or share nothing.

use super::Finding;
use crate::config::{
    Algorithm, Cache, Credential, Identity, Ingress, Jwks, RouteCache, format_duration, path::YamlPath,
};

/// The shortest secret that names are hashed with.
const SECRET: usize = 16;

/// How long entries of an opaque credential live at most.
const CREDENTIAL_LIFE: std::time::Duration = std::time::Duration::from_secs(60);

/// Claims that are of one token and not of its user.
const OF_TOKEN: [&str; 4] = ["exp", "iat", "nbf", "jti"];

/// Fields that speak of a connection or of the way of a request, and never reach a route.
const NEVER_THERE: [&str; 13] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-proto",
    "traceparent",
    "x-request-id",
];

/// Checks the identity of the route whose cache settings stand at `at`.
pub(super) fn check(at: &YamlPath, cache: &RouteCache, ingress: &Ingress, findings: &mut Vec<Finding>) {
    let Some(identity) = &cache.identity else { return };
    let path = at.key("identity");
    if cache.public {
        findings.push(
            Finding::error(path.clone(), "the answer cannot be the same for everyone and another for each")
                .hint("keep one of `public` and `identity`")
                .reads(at.key("public")),
        );
    }
    sources(identity, &path, findings);
    token(identity, &path, cache, findings);
    fields(identity, &path, cache, ingress, findings);
    if identity.credential.is_some()
        && let Some(ttl) = cache.ttl.filter(|ttl| *ttl > CREDENTIAL_LIFE)
    {
        let message = format!("entries of a `credential` live at most 1m, not {}", format_duration(ttl));
        findings.push(
            Finding::warning(at.key("ttl"), message)
                .hint("nobody tells the proxy when a credential ends; a `jwt_claim` says so itself")
                .reads(path.key("credential")),
        );
    }
}

/// Checks the secret that names are hashed with.
pub(super) fn secret(cache: &Cache, findings: &mut Vec<Finding>) {
    if cache.identity_secret.as_ref().is_some_and(|secret| secret.expose().len() < SECRET) {
        findings.push(
            Finding::error(YamlPath::at("cache.identity_secret"), "the secret has less than 16 characters")
                .hint("make one with `openssl rand -hex 32`"),
        );
    }
}

/// Exactly one source, and only the keys that belong to it.
fn sources(identity: &Identity, path: &YamlPath, findings: &mut Vec<Finding>) {
    let sources = [
        ("jwt_claim", identity.jwt_claim.is_some()),
        ("header", identity.header.is_some()),
        ("credential", identity.credential.is_some()),
    ];
    let written: Vec<&str> = sources.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    match written.as_slice() {
        [] => findings.push(
            Finding::error(path.clone(), "`identity` does not say where it is read from")
                .hint("write one of `jwt_claim` (with `keys`), `header` and `credential`")
                .reads(path.key("jwt_claim"))
                .reads(path.key("header"))
                .reads(path.key("credential")),
        ),
        [_] => {}
        [first, others @ ..] => {
            for other in others {
                let message = format!("`{other}` and `{first}` exclude each other");
                findings.push(
                    Finding::error(path.key(other), message)
                        .hint("an identity has one source; keep one of them")
                        .reads(path.key(first)),
                );
            }
        }
    }
    if identity.jwt_claim.is_some() || written.is_empty() {
        return;
    }
    let of_token = [
        ("keys", identity.keys.is_some()),
        ("algorithms", identity.algorithms != Algorithm::SAFE),
        ("issuer", identity.issuer.is_some()),
        ("audience", !identity.audience.is_empty()),
        ("claims", !identity.claims.is_empty()),
        ("cookie", identity.cookie.is_some()),
    ];
    for (name, _) in of_token.into_iter().filter(|(_, is_set)| *is_set) {
        let finding = Finding::error(path.key(name), format!("`{name}` only counts beside `jwt_claim`"));
        findings.push(match (name, &identity.credential) {
            ("cookie", Some(_)) => finding.hint("write `credential: { cookie: NAME }`"),
            _ => finding.hint("a header or an opaque credential has nothing to verify or to read"),
        });
    }
}

/// What a verified token needs.
fn token(identity: &Identity, path: &YamlPath, cache: &RouteCache, findings: &mut Vec<Finding>) {
    let Some(claim) = &identity.jwt_claim else { return };
    let named = std::iter::once((path.key("jwt_claim"), claim)).chain(
        identity.claims.iter().enumerate().map(|(index, name)| (path.key("claims").index(index), name)),
    );
    for (place, name) in named {
        if OF_TOKEN.contains(&name.as_str()) {
            let message = format!("claim `{name}` is of one token and not of its user");
            findings.push(Finding::error(place, message).hint(
                "every new token would have entries of its own; name what tells users apart, such as `sub`",
            ));
        } else if name == "iss" {
            findings.push(Finding::error(place, "`iss` is always part of the identity").hint("take it out"));
        } else if name == claim && place != path.key("jwt_claim") {
            findings.push(
                Finding::error(place, format!("`{name}` is the `jwt_claim` already"))
                    .reads(path.key("jwt_claim")),
            );
        }
    }
    repeats(&identity.claims, &path.key("claims"), findings);
    repeats(&identity.audience, &path.key("audience"), findings);
    if let Some(cookie) = &identity.cookie {
        keyed_cookie(cookie, &path.key("cookie"), cache, findings);
    }
    algorithms(identity, path, findings);
}

/// The file of keys, and whether a key of it suits an algorithm that is allowed.
fn algorithms(identity: &Identity, path: &YamlPath, findings: &mut Vec<Finding>) {
    let words: Vec<String> = identity.algorithms.iter().map(|known| known.as_str().to_owned()).collect();
    repeats(&words, &path.key("algorithms"), findings);
    if words.is_empty() {
        findings.push(
            Finding::error(path.key("algorithms"), "no signature is allowed")
                .hint("name algorithms such as [RS256], or take the key out"),
        );
        return;
    }
    let Some(keys) = &identity.keys else {
        findings.push(
            Finding::error(path.clone(), "`jwt_claim` needs `keys` to verify tokens with")
                .hint("add `keys: /etc/touchline/jwks.json`, the JSON Web Key Set of the issuer")
                .reads(path.key("keys")),
        );
        return;
    };
    // A file that cannot be read has been told already.
    let Ok(jwks) = Jwks::parse(keys.content()) else { return };
    let is_allowed = |algorithm: &Algorithm| identity.algorithms.contains(algorithm);
    if jwks.keys().iter().any(|key| key.algorithms.iter().any(is_allowed)) {
        return;
    }
    let mut kinds: Vec<&str> =
        jwks.keys().iter().flat_map(|key| &key.algorithms).map(|known| known.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    findings.push(
        Finding::error(path.key("keys"), format!("no key of the file suits {}", words.join(", ")))
            .hint(format!("its keys are for {}; see `algorithms`", kinds.join(", ")))
            .reads(path.key("algorithms")),
    );
}

/// Reports entries of a list that repeat an earlier one; what tokens say is told apart by its case.
fn repeats(items: &[String], path: &YamlPath, findings: &mut Vec<Finding>) {
    for (index, item) in items.iter().enumerate() {
        if items.iter().take(index).any(|earlier| earlier == item) {
            findings.push(Finding::error(path.index(index), format!("`{item}` is listed twice")));
        }
    }
}

/// What a name or a credential in a field or cookie needs.
fn fields(
    identity: &Identity,
    path: &YamlPath,
    cache: &RouteCache,
    ingress: &Ingress,
    findings: &mut Vec<Finding>,
) {
    if let Some(name) = &identity.header {
        let at = path.key("header");
        if ingress.trusted_proxies.is_empty() {
            let message =
                format!("`{name}` is believed from `ingress.trusted_proxies` alone, and there are none");
            findings.push(
                Finding::error(at.clone(), message)
                    .hint("list the proxy that writes it: from anyone else a client could name another user")
                    .reads(YamlPath::at("ingress.trusted_proxies")),
            );
        }
        if ["authorization", "cookie"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            findings.push(
                Finding::error(at, format!("`{name}` is the client's own word"))
                    .hint("use `jwt_claim` to verify it, or `credential` to take it as it is"),
            );
        } else {
            is_there(name, &at, findings);
        }
    }
    let at = path.key("credential");
    if let Some(Credential::Cookie { cookie }) = &identity.credential {
        keyed_cookie(cookie, &at, cache, findings);
    }
    if let Some(Credential::Field(name)) = &identity.credential {
        if name.eq_ignore_ascii_case("cookie") {
            findings.push(
                Finding::error(at, "`Cookie` holds all cookies, not one credential")
                    .hint("name the cookie: `credential: { cookie: session }`"),
            );
        } else {
            is_there(name, &at, findings);
        }
    }
}

fn is_there(name: &str, at: &YamlPath, findings: &mut Vec<Finding>) {
    if name.eq_ignore_ascii_case("host") || NEVER_THERE.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        findings.push(
            Finding::error(at.clone(), format!("`{name}` says nothing about a user"))
                .hint("it speaks of a connection or of the way of a request"),
        );
    }
}

/// The token itself never becomes part of a key.
fn keyed_cookie(name: &str, at: &YamlPath, cache: &RouteCache, findings: &mut Vec<Finding>) {
    if cache.key.cookies.iter().any(|keyed| keyed == name) {
        findings.push(
            Finding::error(at.clone(), format!("cookie `{name}` is listed in `key.cookies` as well"))
                .hint("the identity stands for it; take it out there"),
        );
    }
}
