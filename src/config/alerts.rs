//! `telemetry.alerts`: rules that are watched, and who is told.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    alert_rules::{AlertMetric, AlertRule, AlertSeverity, AlertWindow},
    api_address::ApiAddress,
    error::ValueError,
    secret::Secret,
    share::Share,
    switch::Switch,
    threshold::Threshold,
    units::{self, Time, TimeOrZero},
};

/// Alerts: rules over touchline's own numbers, and who is told. See docs/alerts.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Whether rules are watched at all. Restart. Default: true.
    pub enabled: bool,
    /// How often they are looked at. Restart. Default: 10s.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time", extend("x-min" = "100ms", "x-max" = "1m"))]
    pub interval: Duration,
    /// The objective that the burn rules measure against.
    pub slo: Slo,
    /// Changes of built-in rules by their names; `off` switches a rule off. Restart. Default: {}.
    #[schemars(with = "BTreeMap<String, Switch<RuleChange>>", extend("propertyNames" = { "x-kind": "rule", "enum": rule_names() }))]
    pub rules: BTreeMap<AlertRule, Switch<RuleChange>>,
    /// Rules of your own, at most 100. Restart. Default: [].
    pub own: Vec<OwnRule>,
    /// Who is told, at most 10. Restart. Default: [].
    pub notify: Vec<Receiver>,
    /// How long changes of a rule are collected before they are told. Restart. Default: 10s.
    #[serde(with = "units::duration")]
    #[schemars(with = "TimeOrZero", extend("x-max" = "1h"))]
    pub group_wait: Duration,
    /// After how long what still fires is told again. Restart. Default: 4h.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time", extend("x-min" = "1m"))]
    pub repeat: Duration,
    /// Address of the admin page as people reach it, for links in messages. Restart. Default: none.
    #[schemars(extend("x-kind" = "url"))]
    pub page: Option<String>,
}

impl Alerts {
    /// The most rules of one's own.
    pub const MAX_OWN: usize = 100;
    /// The most receivers.
    pub const MAX_RECEIVERS: usize = 10;
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            slo: Slo::default(),
            rules: BTreeMap::new(),
            own: Vec::new(),
            notify: Vec::new(),
            group_wait: Duration::from_secs(10),
            repeat: Duration::from_secs(4 * 3600),
            page: None,
        }
    }
}

fn rule_names() -> Vec<&'static str> {
    AlertRule::ALL.into_iter().map(AlertRule::as_str).collect()
}

/// The service level objective.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Slo {
    /// The share of requests that shall not end in 5xx, below 100%. Restart. Default: 99.9%.
    pub objective: Share,
}

impl Default for Slo {
    fn default() -> Self {
        Self { objective: Share::from_millionths(999_000) }
    }
}

/// What is different about a built-in rule. What is not written stays as it is built in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleChange {
    /// The limit of the critical level, or `off`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<Threshold>,
    /// For how long the critical limit has to be reached. Default: none.
    #[serde(skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    #[schemars(with = "Option<TimeOrZero>")]
    pub critical_for: Option<Duration>,
    /// The limit of the warning level, or `off`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<Threshold>,
    /// For how long the warning limit has to be reached. Default: none.
    #[serde(skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    #[schemars(with = "Option<TimeOrZero>")]
    pub warning_for: Option<Duration>,
    /// The limit of the info level, or `off`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<Threshold>,
    /// For how long the info limit has to be reached. Default: none.
    #[serde(skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    #[schemars(with = "Option<TimeOrZero>")]
    pub info_for: Option<Duration>,
    /// The time that the reading spans. The two windows of the burn rules are fixed. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<AlertWindow>,
    /// Fewer requests, lookups or calls than this in the window are no data. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u32>,
}

impl RuleChange {
    /// The limit and the time of a level, as far as they are changed.
    #[must_use]
    pub const fn level(&self, severity: AlertSeverity) -> (Option<Threshold>, Option<Duration>) {
        match severity {
            AlertSeverity::Critical => (self.critical, self.critical_for),
            AlertSeverity::Warning => (self.warning, self.warning_for),
            AlertSeverity::Info => (self.info, self.info_for),
        }
    }
}

/// A rule of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "metric"]))]
pub struct OwnRule {
    /// Its name in messages: letters, digits and `_`. Required.
    #[schemars(extend("x-kind" = "name"))]
    pub name: String,
    /// What it reads. Required.
    pub metric: AlertMetric,
    /// Only series with these labels. Default: {}.
    pub labels: BTreeMap<String, String>,
    /// It fires above this. Default: none.
    pub above: Option<Threshold>,
    /// It fires below this. Default: none.
    pub below: Option<Threshold>,
    /// The time that the reading spans; 5m unless it is written. Default: none.
    pub window: Option<AlertWindow>,
    /// Fewer requests, lookups or calls than this in the window are no data. Without it: 20 for percentiles, shares and
    /// burn, else 0. Default: none.
    pub samples: Option<u32>,
    /// For how long it has to be so. Default: 0s.
    #[serde(rename = "for", with = "units::duration")]
    #[schemars(with = "TimeOrZero")]
    pub hold: Duration,
    /// How much it matters. Default: warning.
    pub severity: AlertSeverity,
}

impl Default for OwnRule {
    fn default() -> Self {
        Self {
            name: String::new(),
            metric: AlertMetric::Errors,
            labels: BTreeMap::new(),
            above: None,
            below: None,
            window: None,
            samples: None,
            hold: Duration::ZERO,
            severity: AlertSeverity::Warning,
        }
    }
}

/// One who is told: exactly one of these keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("maxProperties" = 1))]
pub struct Receiver {
    /// An incoming webhook of Slack, Mattermost or Rocket.Chat. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<Hook>,
    /// A webhook that takes what Alertmanager sends to webhooks. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Hook>,
    /// An Alertmanager. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<Alertmanager>,
}

/// A receiver whose address is a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["url"]))]
pub struct Hook {
    /// Where messages are posted. It is a secret, as it often holds one. Required.
    pub url: Secret,
    /// Its name on pages and in metrics; `slack` or `webhook` unless it is written. Default: none.
    #[schemars(extend("x-kind" = "name"))]
    pub name: Option<String>,
    /// The least severity that it gets. Default: warning.
    pub severity: AlertSeverity,
    /// The value of `Authorization` in every message. Default: none.
    pub authorization: Option<Secret>,
    /// A file with the certificates that its own must lead to, in PEM; else those that the system trusts. Default: none.
    #[schemars(extend("x-kind" = "file"))]
    pub ca: Option<String>,
}

impl Default for Hook {
    fn default() -> Self {
        Self {
            url: Secret::new(""),
            name: None,
            severity: AlertSeverity::Warning,
            authorization: None,
            ca: None,
        }
    }
}

/// An Alertmanager.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["url"]))]
pub struct Alertmanager {
    /// Where it is, without `/api/v2/alerts`. Required.
    #[schemars(extend("x-kind" = "url"))]
    pub url: String,
    /// Its name on pages and in metrics; `alertmanager` unless it is written. Default: none.
    #[schemars(extend("x-kind" = "name"))]
    pub name: Option<String>,
    /// The least severity that it gets. Default: warning.
    pub severity: AlertSeverity,
    /// The value of `Authorization` in every message. Default: none.
    pub authorization: Option<Secret>,
    /// A file with the certificates that its own must lead to, in PEM; else those that the system trusts. Default: none.
    #[schemars(extend("x-kind" = "file"))]
    pub ca: Option<String>,
}

/// What a receiver wants to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReceiverKind {
    /// Attachments as Slack takes them.
    Slack,
    /// Alertmanager's webhook format.
    Webhook,
    /// Alertmanager's API.
    Alertmanager,
}

impl ReceiverKind {
    /// The key in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Webhook => "webhook",
            Self::Alertmanager => "alertmanager",
        }
    }
}

/// A receiver with what all kinds have in common.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverView<'a> {
    /// What it wants to get.
    pub kind: ReceiverKind,
    /// Its name, the kind unless it has one.
    pub name: &'a str,
    /// The least severity.
    pub severity: AlertSeverity,
    /// The address as text; perhaps a secret.
    pub url: &'a str,
    /// The value of `Authorization`.
    pub authorization: Option<&'a Secret>,
    /// The file with certificates.
    pub ca: Option<&'a str>,
}

impl Receiver {
    /// The one that is written; none when none is.
    #[must_use]
    pub fn view(&self) -> Option<ReceiverView<'_>> {
        let slack = self.slack.as_ref().map(|hook| hook.view(ReceiverKind::Slack));
        let webhook = || self.webhook.as_ref().map(|hook| hook.view(ReceiverKind::Webhook));
        slack.or_else(webhook).or_else(|| self.alertmanager.as_ref().map(Alertmanager::view))
    }

    /// Its secrets with the keys that lead to them.
    pub(super) fn secrets(&mut self) -> Vec<(&'static str, &'static str, &mut Secret)> {
        let mut all = Vec::new();
        for (key, hook) in [("slack", &mut self.slack), ("webhook", &mut self.webhook)] {
            if let Some(hook) = hook {
                all.push((key, "url", &mut hook.url));
                all.extend(hook.authorization.as_mut().map(|secret| (key, "authorization", secret)));
            }
        }
        let authorization =
            self.alertmanager.as_mut().and_then(|alertmanager| alertmanager.authorization.as_mut());
        all.extend(authorization.map(|secret| ("alertmanager", "authorization", secret)));
        all
    }
}

impl Hook {
    fn view(&self, kind: ReceiverKind) -> ReceiverView<'_> {
        ReceiverView {
            kind,
            name: self.name.as_deref().unwrap_or(kind.as_str()),
            severity: self.severity,
            url: self.url.expose(),
            authorization: self.authorization.as_ref(),
            ca: self.ca.as_deref(),
        }
    }
}

impl Alertmanager {
    fn view(&self) -> ReceiverView<'_> {
        let kind = ReceiverKind::Alertmanager;
        ReceiverView {
            kind,
            name: self.name.as_deref().unwrap_or(kind.as_str()),
            severity: self.severity,
            url: &self.url,
            authorization: self.authorization.as_ref(),
            ca: self.ca.as_deref(),
        }
    }
}

/// An http or https address with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebUrl {
    /// The server.
    pub server: ApiAddress,
    /// Path and query; at least `/`.
    pub target: String,
}

impl WebUrl {
    /// Reads `https://host/path`. The error does not repeat the text, which may be a secret.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let fault = |message: &str| {
            ValueError::new(message.to_owned()).hint("write https://HOST/PATH, or http://HOST:PORT/PATH")
        };
        let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
            return Err(fault("the address does not start with https:// or http://"));
        };
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(at).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(fault(
                "the address has a user name or password; `authorization` is the place for it",
            ));
        }
        if target.contains('#') || target.chars().any(|c| !c.is_ascii_graphic()) {
            return Err(fault("the address has characters that cannot be sent"));
        }
        let scheme = text.strip_suffix(rest).unwrap_or("https://");
        let server = ApiAddress::parse(&format!("{scheme}{authority}"))
            .map_err(|_| fault("the address has no host that can be called"))?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { server, target })
    }
}

#[cfg(test)]
mod tests {
    use super::{Receiver, WebUrl};

    #[test]
    fn addresses_are_read_with_their_paths() {
        let read = |text| {
            let url = WebUrl::parse(text).unwrap();
            (url.server.to_string(), url.target)
        };

        assert_eq!(
            read("https://hooks.slack.com/services/T/B?x=1"),
            ("https://hooks.slack.com".to_owned(), "/services/T/B?x=1".to_owned())
        );
        assert_eq!(read("http://am:9093"), ("http://am:9093".to_owned(), "/".to_owned()));
        assert_eq!(read("http://[::1]:9093/am"), ("http://[::1]:9093".to_owned(), "/am".to_owned()));
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for text in [
            "",
            "canary",
            "ftp://canary",
            "https://",
            "https://u:canary@host/",
            "http://canary canary/",
            "https://h/canary#x",
            "https://h/ca nary",
        ] {
            let error = WebUrl::parse(text).unwrap_err();
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn a_receiver_has_the_name_of_its_kind() {
        let read = |text: &str| serde_json::from_str::<Receiver>(text).unwrap();

        assert_eq!(read(r#"{"slack": {"url": "https://x"}}"#).view().unwrap().name, "slack");
        let named = read(r#"{"alertmanager": {"url": "http://am:9093", "name": "ours"}}"#);
        assert_eq!(named.view().unwrap().name, "ours");
        assert!(read("{}").view().is_none());
    }
}
