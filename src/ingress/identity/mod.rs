//! Whose request is it? Reads the identity of a request by the settings of its route, and says so only where that is
//! certain: everything else goes past the cache.
//!
//! `token` verifies signed tokens (pure), `keys` holds the keys of their issuers and reads them anew. A verified token
//! is remembered by its digest, so that a hit costs a hash and no signature; what was verified with keys that have been
//! replaced since is verified again.

mod keys;
#[cfg(test)]
mod samples;
mod token;

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, header};
use sha2::{Digest, Sha256};

use self::token::{Claims, Terms};
use super::{CompileError, exchange::Exchange};
use crate::{
    cache::{Cache, IdentityTag, Subject, Who, cookie_values, rfc9111::Meta},
    config,
};

pub(super) use keys::KeyRing;
pub use keys::spawn as spawn_watching_keys;

/// The longest token or credential. Cookies and fields of browsers end at half of it.
const MAX_CREDENTIAL: usize = 8 * 1024;

/// The longest name of a user in a field.
const MAX_NAME: usize = 1024;

/// How long an entry of an opaque credential lives: nobody tells us when the credential ends.
const CREDENTIAL_LIFE: Duration = Duration::from_secs(60);

/// Tokens that are remembered for each source of identities: some 200 bytes each.
const REMEMBERED: u64 = 8192;

/// A verified identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) tag: IdentityTag,
    life: Life,
}

/// How long the word for an identity holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// For this request, and it says nothing about others.
    Unbounded,
    /// Until this second since 1970.
    Until(i64),
    /// For so long from now.
    For(Duration),
}

/// Why it is not known whose a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unverified {
    /// There is nothing that says it.
    Absent,
    /// There is more than one word on it.
    Ambiguous,
    /// It is longer than is looked at.
    TooLong,
    /// The field came from a client or from a proxy that is not trusted.
    Untrusted,
    /// It is not what it should be by its form.
    Malformed,
    /// The algorithm is not allowed.
    Algorithm,
    /// No key has the name and the type.
    Key,
    /// The signature is not of the key.
    Signature,
    /// The token has ended, or says not when.
    Expired,
    /// The token has not begun.
    NotYet,
    /// The token is from somebody else.
    Issuer,
    /// The token is for somebody else.
    Audience,
    /// A claim is missing or of the wrong kind.
    Claim,
    /// There is no secret to name identities with.
    NoSecret,
}

impl Unverified {
    /// The word in log lines.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Ambiguous => "ambiguous",
            Self::TooLong => "too_long",
            Self::Untrusted => "untrusted",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claim => "claim",
            Self::NoSecret => "no_secret",
        }
    }
}

/// How the identities of a route are read.
pub(super) struct Identifier {
    source: Source,
    place: Place,
    /// What tells its identities from those of other sources.
    realm: Vec<String>,
}

enum Source {
    Token(Box<Tokens>),
    Name,
    Credential,
}

/// Where the word is.
enum Place {
    Field(HeaderName),
    Cookie(String),
}

/// Verifies tokens and remembers which it has verified.
struct Tokens {
    ring: Arc<KeyRing>,
    terms: Terms,
    verified: moka::sync::Cache<[u8; 32], Verified>,
}

#[derive(Clone, Copy)]
struct Verified {
    tag: IdentityTag,
    expires_s: i64,
    /// The keys that were in force.
    generation: u64,
}

/// The identifiers of a configuration; routes with the same settings share one.
#[derive(Default)]
pub(super) struct Identifiers {
    known: Vec<(config::Identity, Arc<Identifier>)>,
    rings: Vec<Arc<KeyRing>>,
}

impl Identifiers {
    /// The identifier for the settings of a route.
    pub(super) fn compile(
        &mut self,
        route: &str,
        written: &config::Identity,
    ) -> Result<Arc<Identifier>, CompileError> {
        if let Some((_, known)) = self.known.iter().find(|(known, _)| known == written) {
            return Ok(Arc::clone(known));
        }
        let identifier = self.make(written).map_err(|fault| CompileError::new(route, &*fault))?;
        let identifier = Arc::new(identifier);
        self.known.push((written.clone(), Arc::clone(&identifier)));
        Ok(identifier)
    }

    /// The keys that have to be watched.
    pub(super) fn into_rings(self) -> Vec<Arc<KeyRing>> {
        self.rings
    }

    fn make(&mut self, written: &config::Identity) -> Result<Identifier, Box<dyn std::error::Error>> {
        let field = |name: &str| name.parse::<HeaderName>().map(Place::Field);
        let realm = |parts: &[&str]| -> Vec<String> { parts.iter().map(|part| (*part).to_owned()).collect() };
        if let (Some(claim), Some(file)) = (&written.jwt_claim, &written.keys) {
            let ring = self.ring(file)?;
            let place = written.cookie.clone().map_or(Place::Field(header::AUTHORIZATION), Place::Cookie);
            let path = file.path().to_string_lossy();
            return Ok(Identifier {
                source: Source::Token(Box::new(Tokens {
                    ring,
                    terms: Terms::new(claim, written),
                    verified: moka::sync::Cache::new(REMEMBERED),
                })),
                place,
                realm: realm(&["jwt", claim, &path]),
            });
        }
        if let Some(name) = &written.header {
            let realm = realm(&["header", &name.to_ascii_lowercase()]);
            return Ok(Identifier { source: Source::Name, place: field(name)?, realm });
        }
        let (place, realm) = match &written.credential {
            Some(config::Credential::Field(name)) => {
                (field(name)?, realm(&["field", &name.to_ascii_lowercase()]))
            }
            Some(config::Credential::Cookie { cookie }) => {
                (Place::Cookie(cookie.clone()), realm(&["cookie", cookie]))
            }
            None => return Err("an identity has no source".into()),
        };
        Ok(Identifier { source: Source::Credential, place, realm })
    }

    fn ring(&mut self, file: &config::KeysFile) -> Result<Arc<KeyRing>, config::ValueError> {
        if let Some(known) = self.rings.iter().find(|ring| ring.path() == file.path()) {
            return Ok(Arc::clone(known));
        }
        let ring = Arc::new(KeyRing::new(file)?);
        self.rings.push(Arc::clone(&ring));
        Ok(ring)
    }
}

/// A request, as far as its identity is concerned.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) headers: &'a HeaderMap,
    /// Whether it came from a proxy that is trusted.
    pub(super) is_trusted: bool,
    /// Seconds since 1970.
    pub(super) now_s: i64,
}

impl Identifier {
    /// Whose request it is.
    pub(super) fn identify(&self, asking: Asking<'_>, cache: &Cache) -> Result<Identity, Unverified> {
        if matches!(self.source, Source::Name) && !asking.is_trusted {
            return Err(Unverified::Untrusted);
        }
        let value = self.place.read(asking.headers)?;
        match &self.source {
            Source::Token(tokens) => tokens.identify(self, value, asking.now_s, cache),
            Source::Name => {
                let name = std::str::from_utf8(value).map_err(|_| Unverified::Malformed)?.trim();
                if name.is_empty() {
                    return Err(Unverified::Absent);
                }
                if name.len() > MAX_NAME {
                    return Err(Unverified::TooLong);
                }
                let tag = self.tag(None, Subject::Text(name), &[], cache)?;
                Ok(Identity { tag, life: Life::Unbounded })
            }
            Source::Credential => {
                let tag = self.tag(None, Subject::Credential(value), &[], cache)?;
                Ok(Identity { tag, life: Life::For(CREDENTIAL_LIFE) })
            }
        }
    }

    /// The request field in which the identity comes.
    pub(super) fn field(&self) -> &HeaderName {
        match &self.place {
            Place::Field(name) => name,
            Place::Cookie(_) => &header::COOKIE,
        }
    }

    /// The cookie in which the identity comes, if it is one.
    pub(super) fn cookie(&self) -> Option<&str> {
        match &self.place {
            Place::Field(_) => None,
            Place::Cookie(name) => Some(name),
        }
    }

    fn tag(
        &self,
        issuer: Option<&str>,
        subject: Subject<'_>,
        claims: &[(String, String)],
        cache: &Cache,
    ) -> Result<IdentityTag, Unverified> {
        let who = Who { source: &self.realm, issuer, subject, claims };
        cache.identity_tag(&who).ok_or(Unverified::NoSecret)
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identifier({})", self.realm.join(" "))
    }
}

impl Place {
    /// The one word that stands there.
    fn read<'a>(&'a self, headers: &'a HeaderMap) -> Result<&'a [u8], Unverified> {
        let (first, second) = match self {
            Self::Field(name) => {
                let mut lines = headers.get_all(name).iter().map(|line| line.as_bytes().trim_ascii());
                (lines.next(), lines.next())
            }
            Self::Cookie(name) => {
                let mut values = cookie_values(headers, name);
                (values.next(), values.next())
            }
        };
        match (first, second) {
            (None | Some([]), None) => Err(Unverified::Absent),
            (Some(value), None) if value.len() > MAX_CREDENTIAL => Err(Unverified::TooLong),
            (Some(value), None) => Ok(value),
            (_, Some(_)) => Err(Unverified::Ambiguous),
        }
    }
}

impl Tokens {
    fn identify(
        &self,
        of: &Identifier,
        value: &[u8],
        now_s: i64,
        cache: &Cache,
    ) -> Result<Identity, Unverified> {
        let token = match of.place {
            Place::Field(_) => bearer(value)?,
            Place::Cookie(_) => value,
        };
        let digest: [u8; 32] = Sha256::digest(token).into();
        let keys = self.ring.keys();
        let known = self.verified.get(&digest).filter(|known| known.generation == keys.generation);
        if let Some(known) = known {
            // One that has ended since is not worth its place any more.
            if known.expires_s <= now_s {
                self.verified.invalidate(&digest);
                return Err(Unverified::Expired);
            }
            return Ok(Identity { tag: known.tag, life: Life::Until(known.expires_s) });
        }
        let Claims { issuer, subject, further, expires_s } =
            token::verify(token, &keys.jwks, &self.terms, now_s)?;
        let tag = of.tag(issuer.as_deref(), subject.as_subject(), &further, cache)?;
        self.verified.insert(digest, Verified { tag, expires_s, generation: keys.generation });
        Ok(Identity { tag, life: Life::Until(expires_s) })
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
fn bearer(value: &[u8]) -> Result<&[u8], Unverified> {
    let space = value.iter().position(|byte| *byte == b' ').ok_or(Unverified::Malformed)?;
    let (scheme, token) = value.split_at_checked(space).ok_or(Unverified::Malformed)?;
    if scheme.eq_ignore_ascii_case(b"bearer") { Ok(token.trim_ascii()) } else { Err(Unverified::Absent) }
}

impl Identity {
    /// The numbers of a copy that was fetched with it, good for nothing once it has ended. None: it has ended already.
    fn bound(self, meta: Meta, now_ms: u64, now_s: i64) -> Option<Meta> {
        let left_ms = match self.life {
            Life::Unbounded => return Some(meta),
            // The second that is running counts as over.
            Life::Until(end_s) => {
                u64::try_from(end_s.saturating_sub(now_s).saturating_sub(1)).unwrap_or(0).saturating_mul(1000)
            }
            Life::For(life) => u64::try_from(life.as_millis()).unwrap_or(u64::MAX),
        };
        (left_ms > 0).then(|| meta.ended_by(now_ms.saturating_add(left_ms)))
    }
}

/// The numbers of a copy of the answer to this request. None: what vouches for its identity ends before it begins.
pub(super) fn bound(exchange: &Exchange, meta: Meta) -> Option<Meta> {
    let Some(identity) = exchange.identity else { return Some(meta) };
    let clock = exchange.ingress().clock;
    identity.bound(meta, clock.now_ms(), clock.wall_s())
}

#[cfg(test)]
mod tests;
