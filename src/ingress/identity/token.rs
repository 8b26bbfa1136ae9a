//! Signed tokens (JWT, RFC 7519) for those who did not make them: pure, without a clock.
//!
//! The header of a token is the word of whoever sent it. So it chooses among the keys and algorithms that the operator
//! allowed and nothing more: keys that it brings along (`jwk`, `jku`, `x5c`) are not looked at, `crit` is refused, and a
//! key only ever verifies by algorithms of its own type. Claims are read after the signature has been verified.
//!
//! A token that ends is not given a moment more: what is refused here goes to the backend, which judges for itself.

use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use serde_json::{Map, Value};

use super::Unverified;
use crate::{
    cache::Subject,
    config::{self, Algorithm, Jwks},
};

/// How far the issuer's clock may be ahead when a token has just begun, in seconds.
const LEEWAY_S: i64 = 5;

/// Keys that are tried for one token. Issuers change them one by one, so two of a type are common.
const TRIES: usize = 4;

/// The longest text of one claim that becomes part of an identity.
const MAX_CLAIM: usize = 4096;

/// What the operator wants of tokens.
pub(super) struct Terms {
    claim: String,
    algorithms: Vec<Algorithm>,
    issuer: Option<String>,
    audience: Vec<String>,
    further: Vec<String>,
}

/// What a verified token says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) issuer: Option<String>,
    pub(super) subject: Name,
    /// The further claims by name, as JSON text.
    pub(super) further: Vec<(String, String)>,
    /// Seconds since 1970.
    pub(super) expires_s: i64,
}

/// The value of the claim that names the user.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    Text(String),
    Number(String),
}

impl Terms {
    pub(super) fn new(claim: &str, written: &config::Identity) -> Self {
        Self {
            claim: claim.to_owned(),
            algorithms: written.algorithms.clone(),
            issuer: written.issuer.clone(),
            audience: written.audience.clone(),
            further: written.claims.clone(),
        }
    }
}

impl Name {
    pub(super) fn as_subject(&self) -> Subject<'_> {
        match self {
            Self::Text(name) => Subject::Text(name),
            Self::Number(digits) => Subject::Number(digits),
        }
    }
}

/// Verifies a token and reads what it says.
pub(super) fn verify(token: &[u8], keys: &Jwks, terms: &Terms, now_s: i64) -> Result<Claims, Unverified> {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !token.iter().all(is_token_byte) || token.iter().filter(|byte| **byte == b'.').count() != 2 {
        return Err(Unverified::Malformed);
    }
    let header = decode_header(token).map_err(|_| Unverified::Algorithm)?;
    if header.crit.is_some() {
        return Err(Unverified::Malformed);
    }
    let algorithm = terms.algorithms.iter().find(|known| to_library(**known) == header.alg);
    let algorithm = *algorithm.ok_or(Unverified::Algorithm)?;
    let mut said = Err(Unverified::Key);
    for candidate in keys.candidates(algorithm, header.kid.as_deref()).take(TRIES) {
        said = claims_of(token, &candidate.key, algorithm);
        if said != Err(Unverified::Signature) {
            break;
        }
    }
    read(&said?, terms, now_s)
}

/// The claims of a token whose signature the key made.
fn claims_of(
    token: &[u8],
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<Map<String, Value>, Unverified> {
    let mut validation = Validation::new(to_library(algorithm));
    // The library would read the system's clock; `read` judges by the cache's.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    decode(token, key, &validation).map(|verified| verified.claims).map_err(|error| match error.kind() {
        // Signed, and not what a token holds: the library reads claims of its own more strictly than JSON.
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => Unverified::Malformed,
        _ => Unverified::Signature,
    })
}

/// Holds the claims to the terms.
fn read(said: &Map<String, Value>, terms: &Terms, now_s: i64) -> Result<Claims, Unverified> {
    let expires_s = said.get("exp").and_then(seconds).ok_or(Unverified::Expired)?;
    if expires_s <= now_s {
        return Err(Unverified::Expired);
    }
    if let Some(begin) = said.get("nbf") {
        let begin_s = seconds(begin).ok_or(Unverified::NotYet)?;
        if begin_s > now_s.saturating_add(LEEWAY_S) {
            return Err(Unverified::NotYet);
        }
    }
    let issuer = match said.get("iss") {
        Some(Value::String(issuer)) => Some(issuer.clone()),
        None => None,
        Some(_) => return Err(Unverified::Issuer),
    };
    if terms.issuer.is_some() && terms.issuer != issuer {
        return Err(Unverified::Issuer);
    }
    if !terms.audience.is_empty() && !is_meant(said.get("aud"), &terms.audience) {
        return Err(Unverified::Audience);
    }
    let subject = match said.get(&terms.claim) {
        Some(Value::String(name)) if !name.is_empty() && name.len() <= MAX_CLAIM => Name::Text(name.clone()),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Name::Number(number.to_string()),
        _ => return Err(Unverified::Claim),
    };
    let text =
        |name: &String| Some((name.clone(), said.get(name).filter(|value| is_plain(value))?.to_string()));
    let further: Option<Vec<(String, String)>> = terms.further.iter().map(text).collect();
    let further = further.ok_or(Unverified::Claim)?;
    if further.iter().any(|(_, value)| value.len() > MAX_CLAIM) {
        return Err(Unverified::Claim);
    }
    Ok(Claims { issuer, subject, further, expires_s })
}

/// Seconds since 1970, rounded towards the past (RFC 7519 section 2, `NumericDate`).
fn seconds(value: &Value) -> Option<i64> {
    /// Far beyond any sensible date, and exact as a float.
    const LATEST: f64 = 1e15;
    let Value::Number(number) = value else { return None };
    if let Some(whole) = number.as_i64() {
        return Some(whole);
    }
    let fraction = number.as_f64().filter(|seconds| seconds.abs() <= LATEST)?;
    #[expect(clippy::cast_possible_truncation, reason = "the number is within the exact range of a float")]
    let whole = fraction.floor() as i64;
    Some(whole)
}

/// Whether one of the services that a token is for is wanted (RFC 7519 section 4.1.3).
fn is_meant(aud: Option<&Value>, wanted: &[String]) -> bool {
    let is_wanted =
        |value: &Value| value.as_str().is_some_and(|name| wanted.iter().any(|known| known == name));
    match aud {
        Some(Value::Array(services)) => services.iter().any(is_wanted),
        Some(service) => is_wanted(service),
        None => false,
    }
}

/// Texts, whole numbers, truths and lists of these: what has one JSON text for one meaning.
fn is_plain(value: &Value) -> bool {
    let is_single = |value: &Value| match value {
        Value::String(_) | Value::Bool(_) => true,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    match value {
        Value::Array(items) => items.iter().all(is_single),
        value => is_single(value),
    }
}

const fn to_library(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
    }
}

#[cfg(test)]
mod tests;
