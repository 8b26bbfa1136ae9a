//! Issuers and tokens for the tests of this module. Their keys are made anew each time, but for an RSA key that only
//! tests know.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    },
};
use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk::Jwk};
use serde_json::{Value, json};

/// The moment of every test, in seconds since 1970.
pub(super) const NOW: i64 = 1_800_000_000;

const RSA: &[u8] = include_bytes!("../../../tests/data/identity/rsa.pem");

/// Who makes tokens.
pub(super) struct Issuer {
    pub(super) id: String,
    pub(super) key: EncodingKey,
    algorithm: Algorithm,
}

impl Issuer {
    /// An issuer with a key of its own for this algorithm; all with RSA have the same one.
    pub(super) fn new(id: &str, algorithm: Algorithm) -> Self {
        let random = SystemRandom::new();
        let key = match algorithm {
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
                EncodingKey::from_ec_der(pair.unwrap().as_ref())
            }
            Algorithm::ES384 => {
                let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random);
                EncodingKey::from_ec_der(pair.unwrap().as_ref())
            }
            Algorithm::EdDSA => {
                EncodingKey::from_ed_der(Ed25519KeyPair::generate_pkcs8v1(&random).unwrap().as_ref())
            }
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                let mut secret = [0; 64];
                getrandom::fill(&mut secret).unwrap();
                EncodingKey::from_secret(&secret)
            }
            _ => EncodingKey::from_rsa_pem(RSA).unwrap(),
        };
        Self { id: id.to_owned(), key, algorithm }
    }

    /// Its public key, or its secret.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        jwk.common.key_algorithm = None;
        serde_json::to_value(jwk).unwrap()
    }

    /// A token with its name and algorithm.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.signed(&json!({ "alg": self.algorithm, "kid": self.id }), claims)
    }

    /// A token with another header, signed by its algorithm all the same.
    pub(super) fn signed(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64url(&header.to_string()), base64url(&claims.to_string()));
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// A key set.
pub(super) fn set(issuers: &[&Issuer]) -> Vec<u8> {
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// Claims of a user, good for an hour.
pub(super) fn user(name: &str) -> Value {
    json!({ "sub": name, "exp": NOW + 3600 })
}

/// The claims with some of them replaced, or taken off where the value is `null`.
pub(super) fn with(claims: &Value, changes: &Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().shift_remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// Text in the alphabet of tokens (RFC 4648 section 5), without padding.
pub(super) fn base64url(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut encoded = String::new();
    for group in text.as_bytes().chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            encoded.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    encoded
}
