//! How well the router does on labelled items.

use std::collections::BTreeMap;

use super::items::Item;
use crate::config::{MessageType, ModelTier};

/// A share of some items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Items that count.
    pub hits: usize,
    /// All items.
    pub items: usize,
}

impl Share {
    /// The ratio; 1 of nothing.
    #[must_use]
    pub fn ratio(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts of items are small")]
        let ratio = self.hits as f64 / self.items as f64;
        if self.items == 0 { 1.0 } else { ratio }
    }

    /// One more item.
    pub fn count(&mut self, hit: bool) {
        self.items += 1;
        self.hits += usize::from(hit);
    }
}

/// What the router did with labelled items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Items with the right tier.
    pub tier_accuracy: Share,
    /// Items with the right type; `other` counts as `unknown`.
    pub type_accuracy: Share,
    /// The same by the label's type.
    pub by_type: BTreeMap<MessageType, Share>,
    /// Items by the label's tier and the router's.
    pub confusion: [[usize; ModelTier::COUNT]; ModelTier::COUNT],
    /// Serious items that the router would send to economy.
    pub serious_to_economy: Vec<String>,
    /// Serious items.
    pub serious: usize,
    /// Of the items sent to economy, those labelled so.
    pub economy_precision: Share,
    /// Of the items labelled economy, those sent there.
    pub economy_recall: Share,
    /// Of all items, those sent to economy.
    pub economy_share: Share,
    /// Of the items labelled premium, those sent there.
    pub premium_recall: Share,
    /// Of the items sent to premium, those labelled so.
    pub premium_precision: Share,
    /// Tier accuracy by language.
    pub by_language: BTreeMap<String, Share>,
    /// Tier accuracy by the number of turns.
    pub by_turns: BTreeMap<usize, Share>,
}

/// What a release must reach on items that nobody tuned on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bars {
    /// Economy precision.
    pub economy_precision: f64,
    /// Economy recall.
    pub economy_recall: f64,
    /// Premium recall.
    pub premium_recall: f64,
    /// Tier accuracy.
    pub tier_accuracy: f64,
}

impl Default for Bars {
    fn default() -> Self {
        Self { economy_precision: 0.95, economy_recall: 0.65, premium_recall: 0.80, tier_accuracy: 0.88 }
    }
}

impl Report {
    /// Counts one item and the type and tier that the router gave it.
    pub fn add(&mut self, item: &Item, kind: MessageType, tier: ModelTier) {
        let right = tier == item.tier;
        self.tier_accuracy.count(right);
        self.type_accuracy.count(kind == item.kind);
        self.by_type.entry(item.kind).or_default().count(kind == item.kind);
        self.confusion[item.tier.index()][tier.index()] += 1;
        self.serious += usize::from(item.serious);
        if item.serious && tier == ModelTier::Economy {
            self.serious_to_economy.push(item.id.clone());
        }
        self.economy_share.count(tier == ModelTier::Economy);
        if tier == ModelTier::Economy {
            self.economy_precision.count(right);
        }
        if tier == ModelTier::Premium {
            self.premium_precision.count(right);
        }
        if item.tier == ModelTier::Economy {
            self.economy_recall.count(right);
        }
        if item.tier == ModelTier::Premium {
            self.premium_recall.count(right);
        }
        self.by_language.entry(item.lang.clone()).or_default().count(right);
        self.by_turns.entry(item.messages.len()).or_default().count(right);
    }

    /// How many items were counted.
    #[must_use]
    pub const fn items(&self) -> usize {
        self.tier_accuracy.items
    }

    /// What matters most, by name and in words.
    #[must_use]
    pub fn figures(&self, bars: Bars) -> [(&'static str, String); 8] {
        let percent = |share: Share| format!("{:.1} %", share.ratio() * 100.0);
        let held = |share: Share, least: f64| format!("{} (at least {:.0} %)", percent(share), least * 100.0);
        let serious = match self.serious_to_economy.as_slice() {
            [] => format!("none of {}", self.serious),
            ids => format!("{} of {}: {}", ids.len(), self.serious, ids.join(", ")),
        };
        let missed = self.missed(bars);
        [
            ("tier accuracy", held(self.tier_accuracy, bars.tier_accuracy)),
            ("economy precision", held(self.economy_precision, bars.economy_precision)),
            ("economy recall", held(self.economy_recall, bars.economy_recall)),
            ("premium recall", held(self.premium_recall, bars.premium_recall)),
            ("premium precision", percent(self.premium_precision)),
            ("economy share", percent(self.economy_share)),
            ("serious to economy", serious),
            ("missed", if missed.is_empty() { "no bar".to_owned() } else { missed.join(", ") }),
        ]
    }

    /// The bars that are missed, in words.
    #[must_use]
    pub fn missed(&self, bars: Bars) -> Vec<&'static str> {
        let mut missed = Vec::new();
        for (reached, name) in [
            (self.serious_to_economy.is_empty(), "serious_to_economy"),
            (self.economy_precision.ratio() >= bars.economy_precision, "economy_precision"),
            (self.economy_recall.ratio() >= bars.economy_recall, "economy_recall"),
            (self.premium_recall.ratio() >= bars.premium_recall, "premium_recall"),
            (self.tier_accuracy.ratio() >= bars.tier_accuracy, "tier_accuracy"),
        ] {
            if !reached {
                missed.push(name);
            }
        }
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::super::items::Item;
    use super::{Bars, Report};
    use crate::config::{MessageType, ModelTier};

    fn item(tier: &str, kind: &str, serious: bool) -> Item {
        let line = format!(
            r#"{{"id":"x1","system":null,"messages":[{{"role":"user","content":"hi"}}],"type":"{kind}","tier":"{tier}","serious":{serious},"lang":"en"}}"#
        );
        Item::parse_all(&line).unwrap().remove(0)
    }

    #[test]
    fn counts_what_the_bars_ask_for() {
        let mut report = Report::default();
        report.add(&item("economy", "greeting", false), MessageType::Greeting, ModelTier::Economy);
        report.add(&item("standard", "coaching", true), MessageType::SmallTalk, ModelTier::Economy);
        report.add(&item("premium", "assessment", false), MessageType::Assessment, ModelTier::Premium);

        assert_eq!(report.items(), 3);
        assert_eq!(report.serious_to_economy, ["x1"]);
        assert!((report.economy_precision.ratio() - 0.5).abs() < 1e-9);
        assert!((report.economy_recall.ratio() - 1.0).abs() < 1e-9);
        assert_eq!(report.confusion, [[1, 0, 0], [1, 0, 0], [0, 0, 1]]);
        assert_eq!(
            report.missed(Bars::default()),
            ["serious_to_economy", "economy_precision", "tier_accuracy"]
        );
    }
}
