//! Names of identities: what stands for a user in keys and purge marks.
//!
//! A name is an HMAC-SHA256 over everything that tells one user's answers from another's, each part with its length
//! before it, so that no two different identities give the same input. Whoever reads a key learns neither a user's name
//! nor whether two secrets hash alike. A second one over the subject alone lies beside it: a purge names a subject, and
//! ends its entries whatever their issuer and further claims.
//!
//! Nothing here verifies anything: only what the ingress plane has verified may be named.

use std::fmt;

use aws_lc_rs::hmac;

use super::scope::Scope;
use crate::config;

/// Bytes of a name.
pub(super) const NAME: usize = 32;

/// Bytes that begin the input of each kind of name, so that none can be taken for another.
const OF_IDENTITY: u8 = b'I';
const OF_SUBJECT: u8 = b'S';
const OF_CREDENTIAL: u8 = b'C';

/// Bytes before a subject, by its kind.
const TEXT: u8 = b't';
const NUMBER: u8 = b'n';
const OPAQUE: u8 = b'o';

/// The name of a verified identity, and that of its subject.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdentityTag {
    pub(super) identity: [u8; NAME],
    pub(super) subject: [u8; NAME],
}

/// A verified identity.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// What tells sources of identities apart: their kind, and the claim, field, cookie or file of keys.
    pub source: &'a [String],
    /// Who vouches for the subject, if it says so.
    pub issuer: Option<&'a str>,
    /// Whose answers these are.
    pub subject: Subject<'a>,
    /// The further claims on which answers depend, as names and JSON texts.
    pub claims: &'a [(String, String)],
}

/// Whose answers these are.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// A name.
    Text(&'a str),
    /// A whole number, in decimal digits.
    Number(&'a str),
    /// Whoever holds this credential. It cannot be named by a purge.
    Credential(&'a [u8]),
}

/// What names are made with.
pub(super) struct Namer {
    /// None where no secret could be had: then there are no names, and nothing is cached for anybody.
    key: Option<hmac::Key>,
    is_shared: bool,
}

impl Namer {
    /// Names made with the secret of the configuration, or with one that this process makes for itself.
    pub(super) fn new(secret: Option<&config::Secret>) -> Self {
        let key = match secret {
            Some(secret) => Some(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())),
            None => {
                let mut bytes = [0; NAME];
                let filled = getrandom::fill(&mut bytes);
                filled.ok().map(|()| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
            }
        };
        Self { key, is_shared: secret.is_some() }
    }

    /// Whether other processes make the same names.
    pub(super) const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The name of an identity.
    pub(super) fn tag(&self, who: &Who<'_>) -> Option<IdentityTag> {
        let mut input = Input::new(self.key.as_ref()?, OF_IDENTITY);
        input.count(who.source.len());
        who.source.iter().for_each(|part| input.part(part.as_bytes()));
        input.count(usize::from(who.issuer.is_some()));
        who.issuer.iter().for_each(|issuer| input.part(issuer.as_bytes()));
        let (kind, subject) = who.subject.parts();
        input.part(&[kind]);
        input.part(subject);
        input.count(who.claims.len());
        for (name, value) in who.claims {
            input.part(name.as_bytes());
            input.part(value.as_bytes());
        }
        let subject = match who.subject {
            Subject::Text(name) | Subject::Number(name) => self.subject(name)?,
            Subject::Credential(secret) => self.name(OF_CREDENTIAL, secret)?,
        };
        Some(IdentityTag { identity: input.finish(), subject })
    }

    /// What a purge of a subject ends.
    pub(super) fn scope(&self, subject: &str) -> Option<Scope> {
        self.subject(subject).map(Scope::Identity)
    }

    fn subject(&self, subject: &str) -> Option<[u8; NAME]> {
        self.name(OF_SUBJECT, subject.as_bytes())
    }

    fn name(&self, kind: u8, text: &[u8]) -> Option<[u8; NAME]> {
        let mut input = Input::new(self.key.as_ref()?, kind);
        input.part(text);
        Some(input.finish())
    }
}

impl fmt::Debug for Namer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namer").field("is_shared", &self.is_shared).finish_non_exhaustive()
    }
}

impl<'a> Subject<'a> {
    const fn parts(self) -> (u8, &'a [u8]) {
        match self {
            Self::Text(name) => (TEXT, name.as_bytes()),
            Self::Number(digits) => (NUMBER, digits.as_bytes()),
            Self::Credential(secret) => (OPAQUE, secret),
        }
    }
}

impl fmt::Debug for Subject<'_> {
    /// Neither a user nor a secret is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text",
            Self::Number(_) => "Number",
            Self::Credential(_) => "Credential",
        })
    }
}

impl fmt::Debug for IdentityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityTag")
    }
}

/// The input of one name.
struct Input(hmac::Context);

impl Input {
    fn new(key: &hmac::Key, kind: u8) -> Self {
        let mut context = hmac::Context::with_key(key);
        context.update(&[kind]);
        Self(context)
    }

    fn count(&mut self, count: usize) {
        self.0.update(&(count as u64).to_be_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn finish(self) -> [u8; NAME] {
        let mut name = [0; NAME];
        // A tag of HMAC-SHA256 has just this length.
        for (place, byte) in name.iter_mut().zip(self.0.sign().as_ref()) {
            *place = *byte;
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::vec, option, prelude::any, prop_assert_eq, proptest, sample::select, strategy::Strategy,
    };

    use super::{IdentityTag, Namer, Subject, Who};
    use crate::{cache::scope::Scope, config::Secret};

    fn namer(secret: &str) -> Namer {
        let mut secret = Secret::new(secret);
        secret.resolve(&crate::config::Folder::of(std::path::Path::new(""))).unwrap();
        Namer::new(Some(&secret))
    }

    /// An identity in an owned form; equal exactly if the names must be.
    #[derive(Clone, Debug, PartialEq)]
    struct Owned {
        source: Vec<String>,
        issuer: Option<String>,
        kind: u8,
        subject: String,
        claims: Vec<(String, String)>,
    }

    impl Owned {
        fn tag(&self, namer: &Namer) -> IdentityTag {
            let subject = match self.kind {
                0 => Subject::Text(&self.subject),
                1 => Subject::Number(&self.subject),
                _ => Subject::Credential(self.subject.as_bytes()),
            };
            let who =
                Who { source: &self.source, issuer: self.issuer.as_deref(), subject, claims: &self.claims };
            namer.tag(&who).unwrap()
        }
    }

    /// Few letters, so that equal and nearly equal parts come up often.
    fn text() -> impl Strategy<Value = String> {
        vec(select(vec!["a", "b", "", "\u{0}", "tenant", "\"a\""]), 0..3).prop_map(|parts| parts.concat())
    }

    fn owned() -> impl Strategy<Value = Owned> {
        let claims = vec((text(), text()), 0..3);
        (vec(text(), 0..3), option::of(text()), 0_u8..3, text(), claims).prop_map(
            |(source, issuer, kind, subject, claims)| Owned { source, issuer, kind, subject, claims },
        )
    }

    proptest! {
        #[test]
        fn names_are_equal_exactly_if_identities_are(one in owned(), two in owned(), part in 0_u8..6) {
            let namer = namer("a secret of the replicas");
            // Mostly pairs that differ in one part, as those are the ones that could collide.
            let two = match part {
                0 => Owned { source: two.source, ..one.clone() },
                1 => Owned { issuer: two.issuer, ..one.clone() },
                2 => Owned { kind: two.kind, ..one.clone() },
                3 => Owned { subject: two.subject, ..one.clone() },
                4 => Owned { claims: two.claims, ..one.clone() },
                _ => two,
            };

            let (left, right) = (one.tag(&namer), two.tag(&namer));

            prop_assert_eq!(left.identity == right.identity, one == two);
            let is_named = |owned: &Owned| owned.kind < 2;
            let is_same = one.subject == two.subject && is_named(&one) == is_named(&two);
            prop_assert_eq!(left.subject == right.subject, is_same);
        }

        #[test]
        fn a_name_says_nothing_without_the_secret(one in owned(), is_own in any::<bool>()) {
            let other = if is_own { Namer::new(None) } else { namer("another secret of replicas") };

            let (left, right) = (one.tag(&namer("a secret of the replicas")), one.tag(&other));

            prop_assert_eq!(left.identity == right.identity || left.subject == right.subject, false);
        }
    }

    #[test]
    fn replicas_with_one_secret_give_one_name_and_a_purge_finds_it() {
        let who = |claims: &[(String, String)]| {
            let source = ["jwt".to_owned(), "sub".to_owned()];
            let (one, two) = (namer("a secret of the replicas"), namer("a secret of the replicas"));
            let who = Who { source: &source, issuer: Some("me"), subject: Subject::Text("7"), claims };
            assert_eq!(one.tag(&who), two.tag(&who));
            one.tag(&who).unwrap()
        };

        let plain = who(&[]);
        let admin = who(&[("role".to_owned(), "\"admin\"".to_owned())]);

        assert_ne!(plain, admin);
        for tag in [plain, admin] {
            assert_eq!(namer("a secret of the replicas").scope("7"), Some(Scope::Identity(tag.subject)));
        }
        assert!(namer("a secret of the replicas").is_shared() && !Namer::new(None).is_shared());
        assert_eq!(format!("{plain:?} {:?}", Subject::Text("7")), "IdentityTag Text");
    }
}
