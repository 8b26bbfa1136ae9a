//! JSON Web Key Sets (RFC 7517): which of their keys can verify which signatures.
//!
//! A key verifies by algorithms of its own type alone, and by a single one where it names it: an RSA key is never taken
//! for the secret of an HMAC. What cannot be used is left out with its reason, since issuers publish keys for
//! encryption and of new kinds beside the others; a set of which nothing is left is refused.

use jsonwebtoken::{
    DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::{error::ValueError, identity::Algorithm};

/// The shortest RSA modulus and HMAC secrets (RFC 7518 sections 3.2 and 3.3).
const RSA_BYTES: usize = 256;
const HS256_BYTES: usize = 32;
const HS384_BYTES: usize = 48;
const HS512_BYTES: usize = 64;

/// Reasons that are told of keys that cannot be used.
const TOLD: usize = 3;

/// The usable keys of a set.
#[derive(Clone, Debug)]
pub struct Jwks {
    keys: Vec<VerifyingKey>,
}

/// A key that verifies signatures.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    /// Its `kid`.
    pub id: Option<String>,
    /// What it verifies.
    pub algorithms: Vec<Algorithm>,
    /// The key itself.
    pub key: DecodingKey,
}

#[derive(Deserialize)]
struct Written {
    keys: Vec<Value>,
}

impl Jwks {
    /// Reads a key set. The error says why no key of it can be used.
    pub fn parse(text: &[u8]) -> Result<Self, ValueError> {
        let written: Written = serde_json::from_slice(text).map_err(|error| {
            let fault = ValueError::new(format!("this is not a JSON Web Key Set: {error}"));
            let is_pem = text.trim_ascii_start().starts_with(b"-----BEGIN");
            fault.hint(if is_pem {
                "a PEM file has to be turned into one; most issuers publish theirs at a `jwks_uri`"
            } else {
                "it looks like { \"keys\": [ { \"kty\": \"RSA\", \"kid\": .., \"n\": .., \"e\": .. } ] }"
            })
        })?;
        let count = written.keys.len();
        let mut keys = Vec::new();
        let mut unusable = Vec::new();
        for (index, key) in written.keys.into_iter().enumerate() {
            match VerifyingKey::of(key) {
                Ok(key) => keys.push(key),
                Err(why) => unusable.push(format!("key {} {why}", index + 1)),
            }
        }
        if !keys.is_empty() {
            return Ok(Self { keys });
        }
        if count == 0 {
            return Err(ValueError::new("the key set is empty"));
        }
        unusable.truncate(TOLD);
        let fault = ValueError::new(format!("none of its {count} keys can verify a signature"));
        Err(fault.hint(unusable.join("; ")))
    }

    /// All keys.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// The keys that may have made a signature: those of the algorithm, and with the name where the token gives one.
    pub fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        id: Option<&'a str>,
    ) -> impl Iterator<Item = &'a VerifyingKey> {
        self.keys.iter().filter(move |key| {
            key.algorithms.contains(&algorithm) && id.is_none_or(|id| key.id.as_deref() == Some(id))
        })
    }
}

impl VerifyingKey {
    fn of(written: Value) -> Result<Self, &'static str> {
        // The library's own error may repeat parts of a secret key.
        let jwk: Jwk = serde_json::from_value(written).map_err(|_| "is not a JSON Web Key")?;
        let common = &jwk.common;
        let is_for_signing = match (&common.public_key_use, &common.key_operations) {
            (Some(usage), _) if *usage != PublicKeyUse::Signature => false,
            (_, Some(operations)) => operations.contains(&KeyOperations::Verify),
            (_, None) => true,
        };
        if !is_for_signing {
            return Err("is not for signatures");
        }
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| "is of a kind that is not known here")?;
        let mut algorithms = algorithms_of(&jwk, &key)?;
        if let Some(named) = &common.key_algorithm {
            let named = named.to_string();
            algorithms.retain(|algorithm| algorithm.as_str() == named);
            if algorithms.is_empty() {
                return Err("has an `alg` that does not fit its kind");
            }
        }
        Ok(Self { id: common.key_id.clone(), algorithms, key })
    }
}

/// What a key may verify, by its type and size.
fn algorithms_of(jwk: &Jwk, key: &DecodingKey) -> Result<Vec<Algorithm>, &'static str> {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => {
            let DecodingKeyKind::RsaModulusExponent { n, .. } = key.kind() else {
                return Err("is not an RSA key");
            };
            if n.iter().skip_while(|byte| **byte == 0).count() < RSA_BYTES {
                return Err("is an RSA key of less than 2048 bits");
            }
            Ok(vec![RS256, RS384, RS512, PS256, PS384, PS512])
        }
        AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
            EllipticCurve::P256 if length == 65 => Ok(vec![ES256]),
            EllipticCurve::P384 if length == 97 => Ok(vec![ES384]),
            EllipticCurve::P256 | EllipticCurve::P384 => Err("has coordinates of the wrong length"),
            _ => Err("is on a curve that is not known here"),
        },
        AlgorithmParameters::OctetKeyPair(parameters) => match parameters.curve {
            EllipticCurve::Ed25519 if length == 32 => Ok(vec![EdDSA]),
            EllipticCurve::Ed25519 => Err("has a public key of the wrong length"),
            _ => Err("is on a curve that is not known here"),
        },
        AlgorithmParameters::OctetKey(_) => {
            let known = [(HS256, HS256_BYTES), (HS384, HS384_BYTES), (HS512, HS512_BYTES)];
            let fits = known.into_iter().filter(|(_, least)| length >= *least);
            let fits: Vec<Algorithm> = fits.map(|(algorithm, _)| algorithm).collect();
            if fits.is_empty() { Err("is a secret of less than 32 bytes") } else { Ok(fits) }
        }
        _ => Err("is of a kind that is not known here"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Jwks};

    const X: &str = r#""x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU""#;
    const Y: &str = r#""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

    fn set(keys: &[String]) -> Vec<u8> {
        format!(r#"{{"keys":[{}]}}"#, keys.join(",")).into_bytes()
    }

    fn rsa(bytes: usize, more: &str) -> String {
        // 4 characters of base64url are 3 bytes; the value need not be a product of primes to be read.
        let n = format!("w{}", "A".repeat(bytes * 4 / 3));
        format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"{more}}}"#)
    }

    fn secret(bytes: usize) -> String {
        format!(r#"{{"kty":"oct","k":"{}"}}"#, "A".repeat(bytes.div_ceil(3) * 4))
    }

    #[test]
    fn a_key_verifies_by_algorithms_of_its_type_alone() {
        use Algorithm::{ES256, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
        let table: [(String, &[Algorithm]); 7] = [
            (rsa(257, ""), &[RS256, RS384, RS512, PS256, PS384, PS512]),
            (rsa(257, r#","alg":"PS256","use":"sig""#), &[PS256]),
            (rsa(257, r#","key_ops":["verify"]"#), &[RS256, RS384, RS512, PS256, PS384, PS512]),
            (format!(r#"{{"kty":"EC","crv":"P-256",{X},{Y}}}"#), &[ES256]),
            (format!(r#"{{"kty":"OKP","crv":"Ed25519",{X}}}"#), &[EdDSA]),
            (secret(33), &[HS256]),
            (secret(66), &[HS256, HS384, HS512]),
        ];

        for (key, algorithms) in table {
            let jwks = Jwks::parse(&set(std::slice::from_ref(&key))).unwrap();

            assert_eq!(jwks.keys()[0].algorithms, algorithms, "{key}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let table = [
            (rsa(128, ""), "less than 2048 bits"),
            (rsa(257, r#","use":"enc""#), "not for signatures"),
            (rsa(257, r#","key_ops":["encrypt"]"#), "not for signatures"),
            (rsa(257, r#","alg":"RSA-OAEP""#), "does not fit"),
            (rsa(257, r#","alg":"HS256""#), "does not fit"),
            (secret(24), "less than 32 bytes"),
            (format!(r#"{{"kty":"EC","crv":"P-384",{X},{Y}}}"#), "wrong length"),
            (format!(r#"{{"kty":"EC","crv":"P-521",{X},{Y}}}"#), "curve"),
            (format!(r#"{{"kty":"OKP","crv":"Ed448",{X}}}"#), "not known"),
            (r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}"#.to_owned(), "not known"),
            ("7".to_owned(), "not a JSON Web Key"),
        ];

        for (key, why) in table {
            let error = Jwks::parse(&set(std::slice::from_ref(&key))).unwrap_err();

            assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(why)), "{key}: {error:?}");
        }
        for text in ["", "[]", "{}", "{\"keys\":7}", "-----BEGIN PUBLIC KEY-----"] {
            assert!(Jwks::parse(text.as_bytes()).unwrap_err().message.contains("not a JSON Web Key Set"));
        }
    }

    #[test]
    fn one_bad_key_does_not_spoil_the_set_and_names_choose() {
        let named = |id: &str| format!(r#"{{"kty":"EC","crv":"P-256","kid":"{id}",{X},{Y}}}"#);

        let jwks = Jwks::parse(&set(&[named("a"), "null".to_owned(), named("b"), secret(33)])).unwrap();

        let count = |algorithm, id| jwks.candidates(algorithm, id).count();
        assert_eq!(jwks.keys().len(), 3);
        assert_eq!(count(Algorithm::ES256, None), 2);
        assert_eq!(count(Algorithm::ES256, Some("b")), 1);
        assert_eq!(count(Algorithm::ES256, Some("c")), 0);
        assert_eq!(count(Algorithm::HS256, Some("a")), 0);
    }
}
