//! `claude.budgets`: limits on what is spent.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    share::Share,
    tier::ModelTier,
    units::{self, Time},
    usd::Usd,
};

/// A limit on what is spent in a window. Windows are fixed: a day begins at midnight UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "limit"]))]
pub struct Budget {
    /// Its name in metrics, logs and errors. Required.
    #[schemars(extend("x-kind" = "name"))]
    pub name: String,
    /// How long a window lasts. Default: 24h.
    #[serde(with = "units::duration")]
    #[schemars(with = "Time")]
    pub window: Duration,
    /// What may be spent in a window; then calls are answered with 429 until it ends. Required.
    pub limit: Usd,
    /// The share of the limit after which calls go one tier down. Default: 80%.
    pub soft: Share,
    /// Whose spending is added up: that of all calls, of one tier, or of each identity by itself. Default: all.
    pub by: BudgetBy,
    /// The tier, with `by: tier`. Default: none.
    pub tier: Option<ModelTier>,
    /// Whether serious turns are answered beyond the limit. They are counted. Default: false.
    pub serious_exempt: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            name: String::new(),
            window: Duration::from_secs(86_400),
            limit: Usd::from_micros(0),
            soft: Share::percent(80),
            by: BudgetBy::All,
            tier: None,
            serious_exempt: false,
        }
    }
}

/// Whose spending is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetBy {
    /// That of all calls.
    All,
    /// That of one tier.
    Tier,
    /// That of each identity: `metadata.user_id`, else the credential.
    Identity,
}
