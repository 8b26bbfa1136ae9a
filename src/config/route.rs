//! `ingress.routes`: rules for path templates.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap as _};

use super::{
    cache::CacheMode,
    identity::Identity,
    units::{self, ByteSize, SizeOrZero, Time, TimeOrZero},
};

/// A rule for the requests that match a path template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["path"]))]
pub struct Route {
    /// Path template in the style of FastAPI: `/api/session/{session_id}`. `{name}` stands for one segment; as the
    /// last segment `{name*}` or `{name:path}` stands for the rest of the path. Required.
    #[schemars(extend("x-kind" = "template"))]
    pub path: String,
    /// Name in metrics and logs. Without it: the template. Default: none.
    #[schemars(extend("x-kind" = "name"))]
    pub name: Option<String>,
    /// Methods that match. Empty matches every method. Default: [].
    #[schemars(extend("x-items" = "method"))]
    pub methods: Vec<String>,
    /// Host name that matches. Without it: every host. Default: none.
    #[schemars(extend("x-kind" = "host"))]
    pub host: Option<String>,
    /// Whether matching requests are refused with 403. The path is then matched under every reading that a server
    /// might make of it, and beats every more specific route; an ambiguous path of more than 2 KiB is refused too.
    /// Default: false.
    pub deny: bool,
    /// A request that takes longer is logged as slow. Without it: `ingress.slow_after`. Default: none.
    #[serde(with = "units::optional_duration")]
    #[schemars(with = "Option<Time>")]
    pub slow_after: Option<Duration>,
    /// What is cached. Without it: only what the backend itself declares fresh. Default: none.
    pub cache: Option<RouteCache>,
    /// Tags, or URL templates when they start with `/`, whose entries end after a 2xx or 3xx answer. They may use
    /// `{parameter}` of the path, `{query.NAME}`, and `{body.NAME}`: a top-level member of a JSON body of at most 64 KiB.
    /// A trailing `*` ends every tag that starts so; so does a value that is absent, from its place on. Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub invalidates: Vec<String>,
    /// Largest request body; beyond it 413. Without it: `ingress.limits.body`. Default: none.
    #[schemars(with = "Option<SizeOrZero>")]
    pub body: Option<ByteSize>,
    /// How long the backend may take to the head of its answer. Without it: `ingress.upstream.first_byte`.
    /// Default: none.
    #[serde(with = "units::optional_duration")]
    #[schemars(with = "Option<Time>")]
    pub first_byte: Option<Duration>,
    /// Requests of this route at the backend at once, within `ingress.upstream.in_flight`. Default: none.
    #[schemars(range(min = 1))]
    pub in_flight: Option<u32>,
}

/// What is cached on a route, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteCache {
    /// Whether the cache acts on this route. Without it: `cache.mode`. Default: none.
    pub mode: Option<CacheMode>,
    /// Lifetime of answers that say nothing about theirs. Without it such answers are not stored. Default: none.
    #[serde(with = "units::optional_duration")]
    #[schemars(with = "Option<TimeOrZero>")]
    pub ttl: Option<Duration>,
    /// Lifetimes of single statuses, in place of `ttl`: `{ 404: 5s }`; `0s` never stores one. Default: {}.
    #[serde(with = "units::durations_by_status")]
    #[schemars(with = "BTreeMap<String, TimeOrZero>", extend("propertyNames" = { "x-kind": "status", "pattern": "^[2-5][0-9][0-9]$" }))]
    pub ttl_by_status: BTreeMap<u16, Duration>,
    /// Whether the answer is the same for everyone, so that requests with `Authorization` or cookies may share it.
    /// `Authorization` goes to the backend on a fetch that fills; cookies that are not in the key do not. Default: false.
    pub public: bool,
    /// How it is told whose answer is whose, where every user has answers of their own. Default: none.
    pub identity: Option<Identity>,
    /// Names to end entries by. They may use `{parameter}` of the path, `{query.NAME}` and, where `key.body` is set,
    /// `{body.NAME}`. Those that an answer names in `Surrogate-Key`, `xkey` or `Cache-Tag` come beside them; with
    /// more than 64 in all it is not stored. Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub tags: Vec<String>,
    /// How long after its end an entry is still served while a fresh one is fetched behind it. Default: 0s.
    #[serde(with = "units::duration")]
    #[schemars(with = "TimeOrZero")]
    pub stale_while_revalidate: Duration,
    /// How long after its end an entry is served when the backend answers 500, 502, 503 or 504. Default: 0s.
    #[serde(with = "units::duration")]
    #[schemars(with = "TimeOrZero")]
    pub stale_if_error: Duration,
    /// Largest body that is stored. Without it: `cache.max_body`. Default: none.
    #[schemars(extend("x-max" = "8MiB"))]
    pub max_body: Option<ByteSize>,
    /// Whether text and JSON above 1KiB are stored plain, once for all clients, and sent in `br` or `gzip` to those who
    /// want that. The backend is then asked for plain bodies. Needs `public: true`: where a compressed answer holds both
    /// a secret and something that a stranger can choose, its length alone lets the stranger guess the secret (the
    /// BREACH attack), so answers that are not the same for everyone are never compressed here. Default: false.
    pub compress: bool,
    /// Whether a client's reload (`Cache-Control: no-cache`) reaches the backend. Default: ignore.
    pub client_reload: ClientReload,
    /// Lifetime of a 404 or 410 that says nothing about its own; never longer than `ttl`. `0s` never stores one, and
    /// `ttl_by_status` beats it. Default: 5s.
    #[serde(with = "units::duration")]
    #[schemars(with = "TimeOrZero")]
    pub negative_ttl: Duration,
    /// What an answer says against being stored and is not listened to: the rule gives it its `ttl` all the same. Only for
    /// answers of which you know that they are the same for everyone; each one is a warning. Default: [].
    #[serde(rename = "override")]
    pub overrides: Vec<Override>,
    /// What becomes of an answer that sets a cookie. The client that it was fetched for gets its cookie in any case.
    /// Default: refuse.
    pub set_cookie: SetCookie,
    /// Request fields that tell answers apart although the backend does not name them in `Vary`. Default: [].
    #[schemars(extend("x-items" = "field"))]
    pub vary: Vec<String>,
    /// Languages that the backend has, the one it falls back to first. Where answers depend on `Accept-Language` they are
    /// then told apart by the best of these alone, and the backend is asked for it alone. Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub languages: Vec<String>,
    /// Media types that are stored by this rule, such as `application/json` or `text/*`. Empty stores all of them.
    /// Default: [].
    #[schemars(extend("x-items" = "text"))]
    pub media_types: Vec<String>,
    /// Requests that pass by the cache: they are not looked up, and their answers are not stored. Default: none.
    pub bypass_when: Option<BypassWhen>,
    /// What tells entries apart beside method, host and path.
    pub key: RouteKey,
    /// Requests that fetch anew and replace the entry. Default: none.
    pub refresh_on: Option<RefreshOn>,
}

impl Default for RouteCache {
    fn default() -> Self {
        Self {
            mode: None,
            ttl: None,
            ttl_by_status: BTreeMap::new(),
            public: false,
            identity: None,
            tags: Vec::new(),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            max_body: None,
            compress: false,
            client_reload: ClientReload::Ignore,
            negative_ttl: Self::NEGATIVE_TTL,
            overrides: Vec::new(),
            set_cookie: SetCookie::Refuse,
            vary: Vec::new(),
            languages: Vec::new(),
            media_types: Vec::new(),
            bypass_when: None,
            key: RouteKey::default(),
            refresh_on: None,
        }
    }
}

impl RouteCache {
    /// The life of a 404 or 410: long enough to shield the backend, short enough to be forgiven.
    const NEGATIVE_TTL: Duration = Duration::from_secs(5);
}

/// What an answer may say against being stored that a rule does not listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Override {
    /// `Cache-Control: no-store`.
    NoStore,
    /// `Cache-Control: private`.
    Private,
    /// `Cache-Control: no-cache`.
    NoCache,
    /// A lifetime of nothing: `max-age=0`, `s-maxage=0`, or an `Expires` that has passed.
    MaxAge,
    /// `Set-Cookie`, which is then taken off the stored copy unless `set_cookie: store` says otherwise.
    SetCookie,
}

impl Override {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoStore => "no_store",
            Self::Private => "private",
            Self::NoCache => "no_cache",
            Self::MaxAge => "max_age",
            Self::SetCookie => "set_cookie",
        }
    }
}

/// What becomes of an answer that sets a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetCookie {
    /// It is not stored.
    Refuse,
    /// It is stored without the cookie.
    Strip,
    /// It is stored with the cookie, and everyone gets that cookie.
    Store,
}

impl SetCookie {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Strip => "strip",
            Self::Store => "store",
        }
    }
}

/// Requests that pass by the cache. One that meets any of the conditions does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BypassWhen {
    /// Query parameters with the value that means it, as it is written in a URL: `{ use_cache: "false" }`. The value `*`
    /// stands for any. Default: {}.
    pub query: BTreeMap<String, String>,
    /// Request fields with the value that means it; `*` stands for any. Default: {}.
    pub headers: BTreeMap<String, String>,
    /// Cookies with the value that means it; `*` stands for any. Default: {}.
    pub cookies: BTreeMap<String, String>,
}

/// Whether a client's reload reaches the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientReload {
    /// The stored answer is served: a client that reloads in a loop does not reach the backend.
    Ignore,
    /// The backend is asked.
    Allow,
}

impl ClientReload {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Allow => "allow",
        }
    }
}

/// What tells the entries of a route apart beside method, host and path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteKey {
    /// Query parameters in the key: `all`, `{ only: [..] }` or `{ ignore: [..] }`. The others do not reach the
    /// backend on a request that fills the cache. Default: all.
    pub query: QueryKey,
    /// Request fields in the key. Default: [].
    #[schemars(extend("x-items" = "field"))]
    pub headers: Vec<String>,
    /// Cookies in the key. The others do not reach the backend on a request that fills the cache. Default: [].
    #[schemars(extend("x-items" = "field"))]
    pub cookies: Vec<String>,
    /// Says that a POST of this route only reads, so that its answer may be stored under its body, and how bodies are
    /// told apart. The route has to name POST in `methods`. A body that is longer than 64 KiB or cannot be read so goes
    /// past the cache. Default: none.
    pub body: Option<BodyKey>,
}

/// How request bodies are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyKey {
    /// As JSON: the order of members and white space between them do not count.
    Json,
    /// Byte by byte, whatever they hold.
    Raw,
    /// As GraphQL requests in JSON. Only what is certainly a query is answered from the cache; all else counts as a
    /// write. An answer with `errors` is not stored.
    Graphql,
}

impl BodyKey {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Raw => "raw",
            Self::Graphql => "graphql",
        }
    }
}

/// Which query parameters are part of the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum QueryKey {
    /// All of them, in their order.
    #[default]
    All,
    /// Only these.
    Only(Vec<String>),
    /// All but these.
    Ignore(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenQuery {
    Word(String),
    Lists(WrittenLists),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLists {
    only: Option<Vec<String>>,
    ignore: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for QueryKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match WrittenQuery::deserialize(deserializer)? {
            WrittenQuery::Word(word) if word == "all" => Ok(Self::All),
            WrittenQuery::Word(word) => Err(D::Error::custom(format!("`{word}` is not `all`"))),
            WrittenQuery::Lists(WrittenLists { only: Some(names), ignore: None }) => Ok(Self::Only(names)),
            WrittenQuery::Lists(WrittenLists { only: None, ignore: Some(names) }) => Ok(Self::Ignore(names)),
            WrittenQuery::Lists(WrittenLists { only: None, ignore: None }) => Ok(Self::All),
            WrittenQuery::Lists(_) => Err(D::Error::custom("`only` and `ignore` exclude each other")),
        }
    }
}

impl Serialize for QueryKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (word, names) = match self {
            Self::All => return serializer.serialize_str("all"),
            Self::Only(names) => ("only", names),
            Self::Ignore(names) => ("ignore", names),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(word, names)?;
        map.end()
    }
}

impl JsonSchema for QueryKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "QueryKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = |description: &str| serde_json::json!({ "type": "array", "items": { "type": "string", "x-kind": "query" }, "description": description });
        json_schema!({
            "anyOf": [
                { "enum": ["all"] },
                {
                    "type": "object",
                    "properties": {
                        "only": names("Only these parameters are in the key."),
                        "ignore": names("All parameters but these are in the key."),
                    },
                    "maxProperties": 1,
                    "additionalProperties": false
                }
            ]
        })
    }
}

/// Requests that fetch anew and replace the entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshOn {
    /// Query parameters with the value that means it: `{ use_cache: "false" }`. They are not in the key.
    /// Default: {}.
    pub query: BTreeMap<String, String>,
}
