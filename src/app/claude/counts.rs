//! The counts of calls to Claude as bytes that outlive the process, and back.
//!
//! First a line with a version and a digest over the name that they are kept under and the text, then JSON. What the
//! counts by tier and of all calls come to follows from those by model, so they are not kept. Closed sets are kept as
//! words, so that another version may number them otherwise. A field that is missing was not counted yet.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    config::ModelTier,
    telemetry::claude::{Breakpoint, ModelKey, RoutingReason, Sum, Tokens, Totals},
};

/// What the first line begins with. Another version has another meaning.
const VERSION: &str = "touchline-claude 1 ";

/// All numbers together stay below this, so that what is counted on top of them has room.
const MOST: u128 = 1 << 62;

/// Lines of one list, and bytes of a name.
const MAX_LINES: usize = 2000;
const MAX_NAME: usize = 256;

/// The words of sets that are closed where they are counted.
const WORDS: [&str; 23] = [
    "connect",
    "closed",
    "429",
    "500",
    "502",
    "503",
    "504",
    "529",
    "bad_request",
    "not_found",
    "overloaded",
    "refusal",
    "hit",
    "miss",
    "stored",
    "drop_sampling",
    "budget_to_effort",
    "moved",
    "kept",
    "unread",
    "found",
    "missing",
    "unanswered",
];

/// Why bytes are not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotCounts {
    /// They are something else, or of another version.
    #[error("they are not of this version")]
    Foreign,
    /// They are not what was written under this name.
    #[error("they are not what was written under this name")]
    Changed,
    /// They make no sense.
    #[error("they make no sense")]
    Senseless,
}

/// Calls, the five kinds of tokens, and the three sums of money.
type Numbers = [u64; 9];

type Tier = Option<ModelTier>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    models: Vec<(Tier, String, Numbers)>,
    routes: Vec<(String, Numbers)>,
    statuses: Vec<(Tier, String, u16, u64)>,
    /// The wanted tier, the taken one, the reason.
    decisions: Vec<(Tier, Tier, String, u64)>,
    retries: Vec<(String, u64)>,
    fallbacks: Vec<(String, u64)>,
    transforms: Vec<(String, u64)>,
    batch_items: Vec<(String, u64)>,
    shared: Vec<(String, u64)>,
    response_cache: Vec<(String, u64)>,
    refusals: Vec<(ModelTier, u64)>,
    /// Whether they last an hour, and what came of them.
    breakpoints: Vec<(bool, String, u64)>,
    estimated: u64,
    usage_unknown: u64,
    not_counted: u64,
    would_save: i64,
    trimmed: u64,
    near_window: u64,
    bad_overrides: u64,
}

/// The bytes of counts that are kept under a name.
pub(super) fn encode(name: &str, totals: &Totals) -> Vec<u8> {
    // Nothing in it can fail to be written: no map has a key that is no text.
    let text = serde_json::to_string(&Kept::of(totals)).unwrap_or_default();
    format!("{VERSION}{}\n{text}", digest(name, &text)).into_bytes()
}

/// The counts that were kept under a name.
///
/// # Errors
/// When the bytes are not to be believed.
pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<Totals, NotCounts> {
    let text = std::str::from_utf8(bytes).map_err(|_| NotCounts::Foreign)?;
    let rest = text.strip_prefix(VERSION).ok_or(NotCounts::Foreign)?;
    let (written, json) = rest.split_once('\n').ok_or(NotCounts::Changed)?;
    if written != digest(name, json) {
        return Err(NotCounts::Changed);
    }
    let kept: Kept = serde_json::from_str(json).map_err(|_| NotCounts::Senseless)?;
    if kept.makes_sense() { Ok(kept.totals()) } else { Err(NotCounts::Senseless) }
}

/// Adds counts to those of this process.
pub(super) fn join(totals: &mut Totals, other: &Totals) {
    totals.all.join(&other.all);
    totals.tiers.iter_mut().zip(&other.tiers).for_each(|(sum, more)| sum.join(more));
    for (model, sum) in &other.models {
        totals.models.entry(model.clone()).or_default().join(sum);
    }
    for (route, sum) in &other.routes {
        totals.routes.entry(Arc::clone(route)).or_default().join(sum);
    }
    add_all(&mut totals.statuses, &other.statuses);
    add_all(&mut totals.decisions, &other.decisions);
    add_all(&mut totals.retries, &other.retries);
    add_all(&mut totals.fallbacks, &other.fallbacks);
    add_all(&mut totals.transforms, &other.transforms);
    add_all(&mut totals.batch_items, &other.batch_items);
    add_all(&mut totals.shared, &other.shared);
    add_all(&mut totals.response_cache, &other.response_cache);
    totals.refusals.iter_mut().zip(other.refusals).for_each(|(count, more)| *count += more);
    let breakpoints = totals.breakpoints.iter_mut().flatten();
    breakpoints.zip(other.breakpoints.iter().flatten()).for_each(|(count, more)| *count += more);
    totals.estimated += other.estimated;
    totals.usage_unknown += other.usage_unknown;
    totals.not_counted += other.not_counted;
    totals.would_save = totals.would_save.saturating_add(other.would_save);
    totals.trimmed += other.trimmed;
    totals.near_window += other.near_window;
    totals.bad_overrides += other.bad_overrides;
}

impl Kept {
    fn of(totals: &Totals) -> Self {
        let words = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
        };
        let breakpoints = [false, true].into_iter().zip(&totals.breakpoints).flat_map(|(is_hour, counts)| {
            let what = Breakpoint::ALL.into_iter().map(|what| what.as_str().to_owned());
            what.zip(counts).map(move |(what, count)| (is_hour, what, *count))
        });
        let reason = |index: usize| RoutingReason::ALL.get(index).map(|reason| reason.as_str().to_owned());
        Self {
            models: totals
                .models
                .iter()
                .map(|((tier, model), sum)| (*tier, model.to_string(), numbers(sum)))
                .collect(),
            routes: totals.routes.iter().map(|(route, sum)| (route.to_string(), numbers(sum))).collect(),
            statuses: totals
                .statuses
                .iter()
                .map(|(((tier, model), status), count)| (*tier, model.to_string(), *status, *count))
                .collect(),
            decisions: totals
                .decisions
                .iter()
                .filter_map(|((wanted, tier, index), count)| Some((*wanted, *tier, reason(*index)?, *count)))
                .collect(),
            retries: words(&totals.retries),
            fallbacks: words(&totals.fallbacks),
            transforms: words(&totals.transforms),
            batch_items: words(&totals.batch_items),
            shared: words(&totals.shared),
            response_cache: words(&totals.response_cache),
            refusals: ModelTier::ALL
                .into_iter()
                .zip(totals.refusals)
                .filter(|(_, count)| *count > 0)
                .collect(),
            breakpoints: breakpoints.filter(|(_, _, count)| *count > 0).collect(),
            estimated: totals.estimated,
            usage_unknown: totals.usage_unknown,
            not_counted: totals.not_counted,
            would_save: totals.would_save,
            trimmed: totals.trimmed,
            near_window: totals.near_window,
            bad_overrides: totals.bad_overrides,
        }
    }

    /// Whether it can have been counted, and can be added to.
    fn makes_sense(&self) -> bool {
        let names = self.models.iter().map(|(_, name, _)| name);
        let names = names.chain(self.routes.iter().map(|(name, _)| name));
        let mut names = names.chain(self.statuses.iter().map(|(_, name, ..)| name));
        let lines = [self.models.len(), self.routes.len(), self.statuses.len(), self.decisions.len()];
        let sums = self.models.iter().map(|(.., numbers)| numbers);
        let sums = sums.chain(self.routes.iter().map(|(_, numbers)| numbers)).flatten();
        let counts = self.statuses.iter().map(|(.., count)| count);
        let counts = counts.chain(self.decisions.iter().map(|(.., count)| count));
        let words = [&self.retries, &self.fallbacks, &self.transforms, &self.batch_items];
        let words = words.into_iter().chain([&self.shared, &self.response_cache]);
        let counts = counts.chain(words.flatten().map(|(_, count)| count));
        let counts = counts.chain(self.refusals.iter().map(|(_, count)| count));
        let counts = counts.chain(self.breakpoints.iter().map(|(.., count)| count));
        let single = [
            self.estimated,
            self.usage_unknown,
            self.not_counted,
            self.trimmed,
            self.near_window,
            self.bad_overrides,
            self.would_save.unsigned_abs(),
        ];
        let all = sums.chain(counts).chain(&single).map(|number| u128::from(*number)).sum::<u128>();
        all < MOST
            && lines.iter().all(|lines| *lines <= MAX_LINES)
            && names.all(|name| name.len() <= MAX_NAME)
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals {
            estimated: self.estimated,
            usage_unknown: self.usage_unknown,
            not_counted: self.not_counted,
            would_save: self.would_save,
            trimmed: self.trimmed,
            near_window: self.near_window,
            bad_overrides: self.bad_overrides,
            retries: of_words(&self.retries),
            fallbacks: of_words(&self.fallbacks),
            transforms: of_words(&self.transforms),
            batch_items: of_words(&self.batch_items),
            shared: of_words(&self.shared),
            response_cache: of_words(&self.response_cache),
            ..Totals::default()
        };
        for (tier, model, numbers) in &self.models {
            let sum = sum_of(numbers);
            totals.all.join(&sum);
            if let Some(of_tier) = tier.and_then(|tier| totals.tiers.get_mut(tier.index())) {
                of_tier.join(&sum);
            }
            totals.models.entry(model_key(*tier, model)).or_default().join(&sum);
        }
        for (route, numbers) in &self.routes {
            totals.routes.entry(Arc::from(route.as_str())).or_default().join(&sum_of(numbers));
        }
        for (tier, model, status, count) in &self.statuses {
            *totals.statuses.entry((model_key(*tier, model), *status)).or_default() += count;
        }
        for (wanted, tier, word, count) in &self.decisions {
            if let Some(reason) = RoutingReason::ALL.into_iter().find(|reason| reason.as_str() == word) {
                *totals.decisions.entry((*wanted, *tier, reason.index())).or_default() += count;
            }
        }
        for (tier, count) in &self.refusals {
            if let Some(refusals) = totals.refusals.get_mut(tier.index()) {
                *refusals += count;
            }
        }
        for (is_hour, word, count) in &self.breakpoints {
            let what = Breakpoint::ALL.into_iter().find(|what| what.as_str() == word);
            let counts = totals.breakpoints.get_mut(usize::from(*is_hour));
            if let Some(breakpoints) = counts.zip(what).and_then(|(all, what)| all.get_mut(what.index())) {
                *breakpoints += count;
            }
        }
        totals
    }
}

fn add_all<K: Ord + Clone>(counts: &mut BTreeMap<K, u64>, other: &BTreeMap<K, u64>) {
    for (key, more) in other {
        *counts.entry(key.clone()).or_default() += more;
    }
}

fn of_words(counts: &[(String, u64)]) -> BTreeMap<&'static str, u64> {
    let mut known = BTreeMap::new();
    for (word, count) in counts {
        if let Some(word) = WORDS.into_iter().find(|known| known == word) {
            *known.entry(word).or_default() += count;
        }
    }
    known
}

fn model_key(tier: Tier, model: &str) -> ModelKey {
    (tier, Arc::from(model))
}

const fn numbers(sum: &Sum) -> Numbers {
    let Tokens { input, output, cache_read, cache_write_5m, cache_write_1h } = sum.tokens;
    let Sum { calls, cost, baseline_requested, baseline_premium, .. } = *sum;
    [
        calls,
        input,
        output,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        cost,
        baseline_requested,
        baseline_premium,
    ]
}

const fn sum_of(numbers: &Numbers) -> Sum {
    let [
        calls,
        input,
        output,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        cost,
        baseline_requested,
        baseline_premium,
    ] = *numbers;
    let tokens = Tokens { input, output, cache_read, cache_write_5m, cache_write_1h };
    Sum { calls, tokens, cost, baseline_requested, baseline_premium }
}

/// The beginning of the digest over a name and a text.
fn digest(name: &str, text: &str) -> String {
    let hash = Sha256::new().chain_update(name).chain_update([0]).chain_update(text).finalize();
    hash.iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{MOST, NotCounts, VERSION, decode, digest, encode, join};
    use crate::{
        config::ModelTier,
        telemetry::claude::{Breakpoint, RoutingReason, Sum, Tokens, Totals},
    };

    const NAME: &str = "claude:pod-1:127.0.0.1:8081";

    fn sum(calls: u64) -> Sum {
        let tokens = Tokens {
            input: 10 * calls,
            output: 5 * calls,
            cache_read: 3 * calls,
            cache_write_5m: 2 * calls,
            cache_write_1h: calls,
        };
        Sum {
            calls,
            tokens,
            cost: 700 * calls,
            baseline_requested: 900 * calls,
            baseline_premium: 1500 * calls,
        }
    }

    fn totals() -> Totals {
        let haiku = (Some(ModelTier::Economy), Arc::from("claude-haiku-5-5"));
        let other = (None, Arc::from("other"));
        let mut totals = Totals {
            all: sum(5),
            estimated: 1,
            usage_unknown: 2,
            would_save: -40,
            trimmed: 3,
            near_window: 4,
            bad_overrides: 5,
            refusals: [1, 0, 2],
            ..Totals::default()
        };
        totals.tiers[ModelTier::Economy.index()] = sum(3);
        totals.models = [(haiku.clone(), sum(3)), (other.clone(), sum(2))].into();
        totals.routes = [(Arc::from("default"), sum(5))].into();
        totals.statuses = [((haiku, 200), 3), ((other, 529), 2)].into();
        let reason = RoutingReason::Gate.index();
        totals.decisions = [((Some(ModelTier::Economy), Some(ModelTier::Standard), reason), 4)].into();
        totals.retries = [("connect", 1), ("529", 2)].into();
        totals.fallbacks = [("bad_request", 1), ("overloaded", 1)].into();
        totals.breakpoints[1][Breakpoint::Read.index()] = 6;
        totals
    }

    #[test]
    fn what_is_read_back_is_what_was_written() {
        let bytes = encode(NAME, &totals());
        let read = decode(NAME, &bytes).unwrap();

        assert_eq!(format!("{read:?}"), format!("{:?}", totals()));
        assert_eq!(encode(NAME, &read), bytes);
        assert!(bytes.len() < 1000, "{}", bytes.len());
    }

    #[test]
    fn counts_made_meanwhile_are_added_to() {
        let mut own = totals();
        join(&mut own, &totals());

        assert_eq!((own.all, own.models.len()), (sum(10), 2));
        assert_eq!(own.tiers[0], sum(6));
        assert_eq!(own.routes["default"], sum(10));
        assert_eq!(own.statuses.values().sum::<u64>(), 10);
        assert_eq!(own.decisions.values().sum::<u64>(), 8);
        assert_eq!((own.retries["529"], own.fallbacks["overloaded"], own.refusals), (4, 2, [2, 0, 4]));
        assert_eq!((own.would_save, own.breakpoints[1][Breakpoint::Read.index()]), (-80, 12));
        let single = [own.estimated, own.usage_unknown, own.trimmed, own.near_window, own.bad_overrides];
        assert_eq!(single, [2, 4, 6, 8, 10]);
    }

    #[test]
    fn nothing_else_is_believed() {
        let written = String::from_utf8(encode(NAME, &totals())).unwrap();
        let framed = |json: &str| format!("{VERSION}{}\n{json}", digest(NAME, json)).into_bytes();
        let endless = format!(r#"{{"estimated":{MOST}}}"#);
        let overflowing = format!(r#"{{"routes":[["a",[1,2,3,4,5,6,{0},{0},7]]]}}"#, u64::MAX / 2);
        let long = format!(r#"{{"routes":[["{}",[0,0,0,0,0,0,0,0,0]]]}}"#, "a".repeat(300));
        let table: [(&str, Vec<u8>, NotCounts); 11] = [
            ("nothing", Vec::new(), NotCounts::Foreign),
            ("another's", b"hello".to_vec(), NotCounts::Foreign),
            ("no text", vec![0xff, 0xfe], NotCounts::Foreign),
            ("a later version", written.replace(VERSION, "touchline-claude 2 ").into(), NotCounts::Foreign),
            ("the half of it", written[..written.len() / 2].into(), NotCounts::Changed),
            (
                "another digit",
                written.replace("\"estimated\":1", "\"estimated\":7").into(),
                NotCounts::Changed,
            ),
            ("no JSON", framed("hello"), NotCounts::Senseless),
            ("a negative count", framed(r#"{"estimated":-1}"#), NotCounts::Senseless),
            ("too much", framed(&endless), NotCounts::Senseless),
            ("too much together", framed(&overflowing), NotCounts::Senseless),
            ("a long name", framed(&long), NotCounts::Senseless),
        ];

        for (what, bytes, why) in table {
            assert_eq!(decode(NAME, &bytes).err(), Some(why), "{what}");
        }
        assert_eq!(
            decode("claude:pod-2", written.as_bytes()).err(),
            Some(NotCounts::Changed),
            "another pod's"
        );
    }

    #[test]
    fn what_another_version_knows_and_this_one_does_not_is_left_out() {
        let json = r#"{"later":1,"retries":[["odd",3],["connect",1]],"decisions":[[null,null,"odd",3]],"trimmed":2}"#;
        let read = decode(NAME, format!("{VERSION}{}\n{json}", digest(NAME, json)).as_bytes()).unwrap();

        assert_eq!((read.retries.len(), read.decisions.len(), read.trimmed), (1, 0, 2));
    }
}
