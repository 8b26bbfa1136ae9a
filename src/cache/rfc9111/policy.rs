//! What the operator decided about a route: the profile, the rule and the bounds.

use std::time::Duration;

use http::HeaderName;

use super::{bypass::BypassWhen, language::Languages, media::MediaRange};
use crate::config::{Cache, CacheMode, ClientReload, Override, Profile, RouteCache, SetCookie};

/// How long answers of a route live that say nothing themselves, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Lifetime of 200, 203, 204, 300, 301 and 308, and at most [`Rule::negative_ttl`] of it for 404 and 410.
    pub ttl: Option<Duration>,
    /// Lifetimes of single statuses; they beat `ttl`. Statuses that no rule may store are ignored.
    pub ttl_by_status: Vec<(u16, Duration)>,
    /// The operator's word that the answers are the same for everybody: credentials do not stand in the way.
    pub public: bool,
    /// Every user has answers of their own: only requests of which it is known whose they are have to do with the store.
    pub identity: bool,
    /// Window for stale copies while one request refreshes.
    pub stale_while_revalidate: Duration,
    /// Window for stale copies in place of an error.
    pub stale_if_error: Duration,
    /// Whether a client's `no-cache` and its kin reach the backend. A reload loop must not, unless this is
    /// set.
    pub client_reload: bool,
    /// Whether the request's `Origin`, or its absence, is part of the key.
    pub origin_keyed: bool,
    /// Whether the cookies that matter are part of the key and the others are kept from the backend.
    pub cookies_keyed: bool,
    /// The longest life of a 404 or 410 that no other key names.
    pub negative_ttl: Duration,
    /// What an answer says against being stored that is not listened to.
    pub overrides: Vec<Override>,
    /// What becomes of answers that set a cookie.
    pub set_cookie: SetCookie,
    /// Request fields that tell answers apart beside those that the answer names.
    pub vary: Vec<HeaderName>,
    /// What the backend speaks, where that is known.
    pub languages: Option<Languages>,
    /// The media types that the rule stores; empty is all.
    pub media_types: Vec<MediaRange>,
    /// Requests that pass by the cache.
    pub bypass_when: Option<BypassWhen>,
}

/// Everything a decision needs to know besides the heads and the time. Compiled once per route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether the cache takes part on this route.
    pub mode: CacheMode,
    /// How the standard is read.
    pub profile: Profile,
    /// The route's rule, if it has one.
    pub rule: Option<Rule>,
    /// Whether freshness that the backend declares is honoured.
    pub origin: bool,
    /// No copy stays fresh longer than this after its receipt.
    pub max_ttl: Duration,
    /// Bound on the life of origin-declared 4xx and 5xx in the default profile.
    pub error_max_ttl: Duration,
    /// How long after expiry a copy is served when the backend cannot be reached; zero turns it off.
    pub stale_on_disconnect: Duration,
    /// Answers that announce a longer body are not stored.
    pub max_body_bytes: u64,
    /// Copies are coded here: the backend is asked for plain bodies, and one plain copy fits every client.
    pub compress: bool,
    /// Targeted fields (RFC 9213) in order of preference; the first valid one replaces `Cache-Control` and
    /// `Expires`.
    pub targeted: Vec<HeaderName>,
    /// Further request fields that count as credentials under a rule.
    pub credentials: Vec<HeaderName>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::from_config(&Cache::default(), None)
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            ttl: None,
            ttl_by_status: Vec::new(),
            public: false,
            identity: false,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            client_reload: false,
            origin_keyed: true,
            cookies_keyed: false,
            negative_ttl: RouteCache::default().negative_ttl,
            overrides: Vec::new(),
            set_cookie: SetCookie::Refuse,
            vary: Vec::new(),
            languages: None,
            media_types: Vec::new(),
            bypass_when: None,
        }
    }
}

impl Policy {
    /// Compiles the settings of the cache and of one route. Names that are no field names were refused when
    /// the configuration was checked; here they are skipped.
    #[must_use]
    pub fn from_config(cache: &Cache, route: Option<&RouteCache>) -> Self {
        Self {
            mode: route.and_then(|route| route.mode).unwrap_or(cache.mode),
            profile: cache.profile,
            rule: route.map(Rule::from_config),
            origin: cache.origin,
            max_ttl: cache.max_ttl,
            error_max_ttl: cache.error_max_ttl,
            stale_on_disconnect: cache.stale_on_disconnect,
            max_body_bytes: route.and_then(|route| route.max_body).unwrap_or(cache.max_body).bytes(),
            compress: route.is_some_and(|route| route.compress && route.public),
            targeted: cache.targeted.iter().filter_map(|name| name.parse().ok()).collect(),
            credentials: cache.credentials.iter().filter_map(|name| name.parse().ok()).collect(),
        }
    }

    /// Whether a rule gives a lifetime to answers that say nothing.
    #[must_use]
    pub fn has_rule(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.ttl.is_some() || !rule.ttl_by_status.is_empty())
    }

    /// Whether every user has answers of their own.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.identity)
    }

    /// Whether an answer to a POST may become the copy for later GETs of its URI (RFC 9110 section 9.3.3). Not
    /// where a route says how answers are cached: its keys and its requests to the backend are made for GET.
    #[must_use]
    pub fn stores_post(&self) -> bool {
        self.is_rfc() && self.rule.is_none()
    }

    /// What the backend of this route speaks, where that is known: then it is asked for the best of these alone, and
    /// copies are told apart by it.
    #[must_use]
    pub fn languages(&self) -> Option<&Languages> {
        self.rule.as_ref()?.languages.as_ref()
    }

    /// The request fields that tell answers of this route apart, whatever they say themselves.
    pub(super) fn vary(&self) -> &[HeaderName] {
        self.rule.as_ref().map(|rule| rule.vary.as_slice()).unwrap_or_default()
    }

    /// What becomes of answers that set a cookie. In profile `rfc` they are like any other unless the route says more.
    pub(super) fn set_cookie(&self) -> SetCookie {
        let of_route = self.rule.as_ref().map_or(SetCookie::Refuse, |rule| match rule.set_cookie {
            SetCookie::Refuse if rule.overrides.contains(&Override::SetCookie) => SetCookie::Strip,
            said => said,
        });
        if self.is_rfc() && of_route == SetCookie::Refuse { SetCookie::Store } else { of_route }
    }

    pub(super) fn is_rfc(&self) -> bool {
        self.profile == Profile::Rfc
    }
}

impl Rule {
    /// Compiles a route's settings.
    #[must_use]
    pub fn from_config(route: &RouteCache) -> Self {
        Self {
            ttl: route.ttl,
            ttl_by_status: route.ttl_by_status.iter().map(|(status, ttl)| (*status, *ttl)).collect(),
            public: route.public,
            identity: route.identity.is_some(),
            stale_while_revalidate: route.stale_while_revalidate,
            stale_if_error: route.stale_if_error,
            client_reload: route.client_reload == ClientReload::Allow,
            origin_keyed: true,
            cookies_keyed: !route.key.cookies.is_empty(),
            negative_ttl: route.negative_ttl,
            overrides: route.overrides.clone(),
            set_cookie: route.set_cookie,
            vary: route.vary.iter().filter_map(|name| name.parse().ok()).collect(),
            languages: Languages::new(&route.languages),
            media_types: route.media_types.iter().filter_map(|range| MediaRange::parse(range)).collect(),
            bypass_when: route.bypass_when.as_ref().map(BypassWhen::from_config),
        }
    }

    /// The lifetime that the rule gives to a status, if it may give one.
    pub(super) fn lifetime(&self, status: u16) -> Option<Duration> {
        let is_negative = matches!(status, 404 | 410);
        if !is_negative && !matches!(status, 200 | 203 | 204 | 300 | 301 | 308) {
            return None;
        }
        if let Some((_, ttl)) = self.ttl_by_status.iter().find(|(named, _)| *named == status) {
            return Some(*ttl);
        }
        let ttl = self.ttl?;
        Some(if is_negative { ttl.min(self.negative_ttl) } else { ttl })
    }
}

#[cfg(test)]
mod tests;
