//! The sections about everything, over several pods: whose verdict is the worst, sums of counts, one chart. Who gives
//! which part is settled by others; the first part is this pod's own.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Chart, Counted, Health, Mark, Meta, Moment, Peers, Reason, Slot, Tiles, at, podded};
use crate::telemetry::Exact;

/// Slots of a chart.
const SLOTS: u64 = 90;
/// The length of a slot in seconds.
const SLOT_S: u64 = 10;
/// The most marks and reasons of a merged answer.
const MARKS: usize = 200;
const REASONS: usize = 50;

/// The chart of one pod. Slots begin with the process; here each has the number of the ten seconds since 1970 in which
/// it began, so that those of all pods fall together.
#[derive(Serialize, Deserialize)]
pub(in crate::admin::live) struct ChartPart {
    slots: Vec<(u64, [u32; 4])>,
    marks: Vec<Mark>,
}

impl ChartPart {
    pub(in crate::admin::live) fn new(moment: &Moment<'_>) -> Self {
        let slots = moment.admin.telemetry.chart(moment.now);
        let marks = moment.marks(slots.first().map(|slot| slot.at));
        let slots = slots.into_iter();
        let slots =
            slots.map(|slot| (ten(slot.at), [slot.hit, slot.miss, slot.bypass, slot.error])).collect();
        Self { slots, marks }
    }
}

/// The number of ten seconds since 1970.
fn ten(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / SLOT_S)
}

impl Chart {
    /// The charts of several pods, each with its name, as one that ends at `now`.
    pub(in crate::admin::live) fn joined<'a>(
        parts: impl Iterator<Item = (&'a str, &'a ChartPart)>,
        now: SystemTime,
    ) -> Self {
        let last = ten(now);
        // Clocks differ a little; one that is far off would make a chart of nothing.
        let shown = last.saturating_sub(SLOTS - 1)..=last;
        let mut sums: BTreeMap<u64, [u32; 4]> = BTreeMap::new();
        let mut marks = Vec::new();
        let (pods, parts): (Vec<_>, Vec<_>) = parts.unzip();
        for (pod, part) in pods.iter().zip(parts) {
            for (place, counts) in part.slots.iter().filter(|(place, _)| shown.contains(place)) {
                let sum = sums.entry(*place).or_default();
                sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
            }
            let own = part.marks.iter().cloned();
            marks.extend(own.map(|mark| if pods.len() > 1 { mark.of_pod(pod) } else { mark }));
        }
        // Times are written so that later ones are greater.
        marks.sort_by(|a, b| a.at.cmp(&b.at));
        marks.drain(..marks.len().saturating_sub(MARKS));
        let first = sums.keys().next().copied().unwrap_or(last);
        let slot = |place: u64| {
            let [hit, miss, bypass, error] = sums.get(&place).copied().unwrap_or_default();
            Slot { at: at(UNIX_EPOCH + Duration::from_secs(place * SLOT_S)), hit, miss, bypass, error }
        };
        Self { slot_s: 10, slots: (first..=last).map(slot).collect(), marks }
    }
}

impl Mark {
    fn of_pod(self, pod: &str) -> Self {
        Self { text: podded(pod, &self.text), ..self }
    }
}

impl Meta {
    /// That of an answer for several pods, given by this one.
    pub(in crate::admin::live) fn merged(self, peers: Peers) -> Self {
        Self { scope: "merged".into(), peers: Some(peers), ..self }
    }
}

impl Tiles {
    /// The counts of several pods, each with the seconds that its window spans, and their plain requests.
    pub(in crate::admin::live) fn joined<'a>(
        parts: impl Iterator<Item = (f64, &'a Counted, &'a Exact)>,
    ) -> Self {
        let (mut per_s, mut sum, mut plain) = (0.0, Counted::default(), Vec::new());
        for (seconds, counted, own) in parts {
            per_s += counted.per_s(seconds);
            sum.requests = sum.requests.saturating_add(counted.requests);
            sum.errors_5xx = sum.errors_5xx.saturating_add(counted.errors_5xx);
            sum.hits = sum.hits.saturating_add(counted.hits);
            sum.outcomes = sum.outcomes.saturating_add(counted.outcomes);
            plain.push(own);
        }
        Self::new(per_s, sum, &Exact::total(plain).0)
    }
}

impl Health {
    /// The verdict on several pods, each with its name: that of the worst. None without any.
    pub(in crate::admin::live) fn joined(parts: &[(&str, &Self)]) -> Option<Self> {
        let (_, worst) = parts.iter().min_by_key(|(_, health)| health.score)?;
        let others_say = |pod: usize, told: &dyn Fn(&Self) -> bool| {
            parts.iter().enumerate().all(|(at, (_, health))| at == pod || told(health))
        };
        let (mut reasons, mut fine): (Vec<Reason>, Vec<String>) = Default::default();
        for (at, (pod, health)) in parts.iter().enumerate() {
            for reason in &health.reasons {
                if !others_say(at, &|other| other.reasons.iter().any(|said| said.is_same(reason))) {
                    reasons.push(Reason { text: podded(pod, &reason.text), ..reason.clone() });
                } else if at == 0 {
                    reasons.push(reason.clone());
                }
            }
            let common = |line: &&String| at == 0 && others_say(at, &|other| other.fine.contains(*line));
            fine.extend(health.fine.iter().filter(common).cloned());
        }
        reasons.sort_by(|a, b| b.points.cmp(&a.points).then_with(|| a.since.cmp(&b.since)));
        reasons.truncate(REASONS);
        let healthy = parts.iter().filter(|(_, health)| health.status == "healthy").count();
        if parts.len() > 1 && healthy > 0 {
            fine.insert(0, format!("{healthy} of {} pods are healthy", parts.len()));
        }
        let headline = match worst.headline.split_once(": ") {
            Some((word, causes)) if healthy < parts.len() && parts.len() > 1 => {
                format!("{word} on {} of {} pods: {causes}", parts.len() - healthy, parts.len())
            }
            _ => worst.headline.clone(),
        };
        Some(Self { score: worst.score, status: worst.status.clone(), headline, reasons, fine })
    }
}

impl Reason {
    fn is_same(&self, other: &Self) -> bool {
        self.code == other.code && self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::{Value, from_value, json, to_value};

    use super::{Chart, ChartPart, Health};

    #[test]
    fn slots_of_pods_fall_together_and_add_up() {
        let a: ChartPart = from_value(json!({"slots": [[100, [1, 2, 3, 4]], [101, [1, 0, 0, 0]]], "marks":
            [{"at": "2026-11-23T14:05:53.000000+00:00", "kind": "purge", "text": "purge of all"}]}))
        .unwrap();
        let b: ChartPart = from_value(json!({"slots": [[99, [1, 0, 0, 0]], [100, [10, 20, 30, 40]],
            [9_999_999, [7, 7, 7, 7]], [3, [7, 7, 7, 7]]], "marks":
            [{"at": "2026-11-23T14:05:52.000000+00:00", "kind": "start", "text": "started"}]}))
        .unwrap();

        let chart = Chart::joined([("a", &a), ("b", &b)].into_iter(), UNIX_EPOCH + Duration::from_secs(1029));

        let chart: Value = to_value(&chart).unwrap();
        let hits: Vec<_> =
            chart["slots"].as_array().unwrap().iter().map(|slot| slot["hit"].clone()).collect();
        assert_eq!(hits, [1, 11, 1, 0]);
        assert_eq!(chart["slots"][1]["at"], "1970-01-01T00:16:40.000000+00:00");
        assert_eq!(chart["slots"][1]["error"], 44);
        let texts: Vec<_> =
            chart["marks"].as_array().unwrap().iter().map(|mark| mark["text"].clone()).collect();
        assert_eq!(texts, ["b: started", "a: purge of all"]);
    }

    #[test]
    fn the_verdict_is_that_of_the_worst_pod() {
        let reason =
            |text: &str, points: u8| json!({"code": "redis", "points": points, "text": text, "since": "x"});
        let health = |score: u8, status: &str, reasons: Value| -> Health {
            let headline =
                if score == 100 { "Healthy: nothing is wrong." } else { "Degraded: Redis does not answer." };
            from_value(json!({"score": score, "status": status, "headline": headline, "reasons": reasons,
                "fine": ["ready for traffic", format!("score {score}")]}))
            .unwrap()
        };
        let (bad, worse) = (
            health(80, "degraded", json!([reason("gone", 20)])),
            health(75, "degraded", json!([reason("gone", 20), reason("slow", 5)])),
        );
        let good = health(100, "healthy", json!([]));
        let of = |parts: &[(&str, &Health)]| to_value(Health::joined(parts).unwrap()).unwrap();
        let texts = |health: &Value| -> Vec<String> {
            let reasons = health["reasons"].as_array().unwrap();
            reasons.iter().map(|reason| reason["text"].as_str().unwrap().to_owned()).collect()
        };

        let two = of(&[("a", &bad), ("b", &worse)]);
        let three = of(&[("a", &bad), ("b", &worse), ("c", &good)]);

        assert_eq!((&two["score"], texts(&two)), (&75.into(), vec!["gone".to_owned(), "b: slow".to_owned()]));
        assert_eq!(two["headline"], "Degraded on 2 of 2 pods: Redis does not answer.");
        assert_eq!(two["fine"], json!(["ready for traffic"]));
        assert_eq!(texts(&three), ["a: gone", "b: gone", "b: slow"]);
        assert_eq!(three["headline"], "Degraded on 2 of 3 pods: Redis does not answer.");
        assert_eq!(three["fine"], json!(["1 of 3 pods are healthy", "ready for traffic"]));
        assert_eq!(of(&[("a", &good), ("b", &good)])["headline"], "Healthy: nothing is wrong.");
        assert!(Health::joined(&[]).is_none());
    }
}
