//! `cache.identity` of a route: how it is told whose answer is whose.

use std::{fmt, fs, path::Path, path::PathBuf, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{error::ValueError, jwks::Jwks};

/// Largest file of keys that is read; a hundred RSA keys take a tenth of it.
const LARGEST: u64 = 1 << 20;

/// How it is told whose answer is whose, so that each user has entries of their own. Exactly one of `jwt_claim`,
/// `header` and `credential` says where that is read from. A request that does not say it goes to the backend and is
/// neither answered from the cache nor stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// Claim of a signed token (JWT) that names the user, such as `sub`; its value is text or a whole number. The token
    /// comes as `Authorization: Bearer`, or in `cookie`. It needs `keys`, and it must have an `exp`: no entry outlives
    /// the token that it was fetched with. Default: none.
    #[schemars(extend("x-kind" = "text"))]
    pub jwt_claim: Option<String>,
    /// File with the public keys of the issuer, a JSON Web Key Set (RFC 7517). It is read again when it changes; one that
    /// cannot be used keeps the last good keys in force. Default: none.
    pub keys: Option<KeysFile>,
    /// Algorithms that a signature may have; each only counts with a key of its own type. HMAC, where whoever checks a
    /// token can also make one, must be named: `[HS256]`.
    /// Default: [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA].
    pub algorithms: Vec<Algorithm>,
    /// The `iss` that a token must have. Set it as the backend does. Default: none.
    #[schemars(extend("x-kind" = "text"))]
    pub issuer: Option<String>,
    /// Values of which the `aud` of a token must have one. Set them as the backend does: without them a token that was
    /// made for another service counts as well. Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub audience: Vec<String>,
    /// Further claims on which answers depend, such as `tenant`, `role` or `scope`. Users are told apart by them too; a
    /// token without one of them does not count. Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub claims: Vec<String>,
    /// Cookie that holds the token in place of `Authorization`. Default: none.
    #[schemars(extend("x-kind" = "field"))]
    pub cookie: Option<String>,
    /// Request field with the name of the user, as a proxy in front writes it. It counts only from
    /// `ingress.trusted_proxies`, which must take the client's own off. Default: none.
    #[schemars(extend("x-kind" = "field"))]
    pub header: Option<String>,
    /// Request field (`Authorization`) or cookie (`{ cookie: session }`) with a secret that only the backend can read.
    /// Requests with the same secret share entries, which live at most a minute, as nobody tells us when the secret ends.
    /// Default: none.
    pub credential: Option<Credential>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            jwt_claim: None,
            keys: None,
            algorithms: Algorithm::SAFE.to_vec(),
            issuer: None,
            audience: Vec::new(),
            claims: Vec::new(),
            cookie: None,
            header: None,
            credential: None,
        }
    }
}

/// A signature algorithm of RFC 7518 or RFC 8037. `none` is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// RSA with PKCS #1 padding and SHA-256.
    RS256,
    /// RSA with PKCS #1 padding and SHA-384.
    RS384,
    /// RSA with PKCS #1 padding and SHA-512.
    RS512,
    /// RSA with PSS padding and SHA-256.
    PS256,
    /// RSA with PSS padding and SHA-384.
    PS384,
    /// RSA with PSS padding and SHA-512.
    PS512,
    /// ECDSA on P-256.
    ES256,
    /// ECDSA on P-384.
    ES384,
    /// Ed25519.
    EdDSA,
    /// HMAC with SHA-256 and a secret shared with the issuer.
    HS256,
    /// HMAC with SHA-384 and a secret shared with the issuer.
    HS384,
    /// HMAC with SHA-512 and a secret shared with the issuer.
    HS512,
}

impl Algorithm {
    /// Those whose keys are public.
    pub const SAFE: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The word in the file and in tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
        }
    }
}

/// Where an opaque credential is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Credential {
    /// In a request field.
    Field(String),
    /// In a cookie.
    Cookie {
        /// Its name.
        #[serde(default)]
        cookie: String,
    },
}

impl JsonSchema for Credential {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Credential".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "x-kind": "field" },
                {
                    "type": "object",
                    "properties": {
                        "cookie": {
                            "type": "string",
                            "x-kind": "field",
                            "description": "Cookie that holds the credential."
                        }
                    },
                    "required": ["cookie"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

/// A file of keys: its name as written, where that is, and what it held when the configuration was read.
#[derive(Clone, PartialEq, Eq)]
pub struct KeysFile {
    written: String,
    path: PathBuf,
    content: Arc<[u8]>,
}

impl KeysFile {
    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file held when the configuration was read: a key set that can be used.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Reads a file of keys as it is now. The content is a secret where HMAC is used.
    pub fn read(path: &Path) -> Result<Vec<u8>, ValueError> {
        let name = path.display();
        let failed =
            |error: std::io::Error| ValueError::new(format!("reading the file of keys {name}: {error}"));
        let meta = fs::metadata(path).map_err(failed)?;
        if !meta.is_file() {
            return Err(ValueError::new(format!("{name} is not a file")));
        }
        if meta.len() > LARGEST {
            return Err(ValueError::new(format!("the file of keys {name} is larger than 1MiB")));
        }
        fs::read(path).map_err(failed)
    }

    /// Reads the file; a relative path starts at `base`, the folder of the configuration file.
    pub(crate) fn resolve(&mut self, base: &Path) -> Result<(), ValueError> {
        self.path = base.join(&self.written);
        let content = Self::read(&self.path)?;
        Jwks::parse(&content).map_err(|error| ValueError {
            message: format!("{}: {}", self.path.display(), error.message),
            hint: error.hint,
        })?;
        self.content = content.into();
        Ok(())
    }
}

impl fmt::Debug for KeysFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeysFile({:?})", self.written)
    }
}

impl Serialize for KeysFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for KeysFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = String::deserialize(deserializer)?;
        Ok(Self { path: PathBuf::from(&written), written, content: Arc::from([]) })
    }
}

impl JsonSchema for KeysFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeysFile".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "file" })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Credential, Identity, KeysFile};

    const EC: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

    fn file(name: &str) -> KeysFile {
        serde_json::from_str(&format!("{name:?}")).unwrap()
    }

    #[test]
    fn a_file_of_keys_lies_beside_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("jwks.json"), EC).unwrap();
        let mut keys = file("jwks.json");

        keys.resolve(folder.path()).unwrap();

        assert_eq!(keys.content(), EC.as_bytes());
        assert_eq!(keys.path(), folder.path().join("jwks.json"));
        assert_eq!(serde_json::to_string(&keys).unwrap(), "\"jwks.json\"");
        assert_eq!(format!("{keys:?}"), "KeysFile(\"jwks.json\")");
    }

    #[test]
    fn what_is_no_file_of_keys_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        fs::write(folder.path().join("none"), r#"{"keys":[]}"#).unwrap();
        fs::write(folder.path().join("large"), vec![b' '; 2 << 20]).unwrap();

        for name in ["absent", "empty", "none", "large", "."] {
            let error = file(name).resolve(folder.path()).unwrap_err();
            assert!(error.message.contains(&folder.path().display().to_string()), "{name}: {error}");
        }
    }

    #[test]
    fn a_credential_is_a_field_or_a_cookie() {
        let read = |text: &str| serde_json::from_str::<Identity>(text).unwrap().credential.unwrap();

        assert_eq!(read(r#"{"credential":"X-API-Key"}"#), Credential::Field("X-API-Key".into()));
        assert_eq!(
            read(r#"{"credential":{"cookie":"session"}}"#),
            Credential::Cookie { cookie: "session".into() }
        );
    }
}
