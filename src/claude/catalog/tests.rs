//! The shipped table against the published one, and what is laid over it.

use super::*;

/// A day after the halving of Sonnet's cache reads, in seconds since 1970.
const NOW: u64 = 1_795_000_000;
/// The first second of 2026-10-07.
const HALVED: u64 = 1_791_331_200;

fn shipped() -> Catalog {
    Catalog::compile(&Models::new()).unwrap()
}

fn written(json: &str) -> Models {
    serde_json::from_str(json).unwrap()
}

fn rates(model: &Model, prompt: u64) -> [u64; 5] {
    let rates = model.price_at(NOW).unwrap().rates(prompt);
    [rates.input, rates.output, rates.cache_write_5m, rates.cache_write_1h, rates.cache_read]
}

#[test]
fn the_shipped_prices_are_the_published_ones() {
    let catalog = shipped();
    for (id, prompt, [input, output, write_5m, write_1h, read]) in [
        ("claude-haiku-5-5", 100_000, ["0.10", "0.50", ".125", ".20", ".01"]),
        ("claude-haiku-5-5", 100_001, ["0.50", "2.50", ".625", "1", ".05"]),
        ("claude-sonnet-5-5", 500_000, ["2", "10", "2.50", "4", ".10"]),
        ("claude-opus-5-5", 500_000, ["4", "20", "5", "8", ".20"]),
        ("claude-haiku-4-5", 150_000, ["1", "5", "1.25", "2", ".10"]),
        ("claude-haiku-4-5-20251001", 1, ["1", "5", "1.25", "2", ".10"]),
        ("claude-sonnet-4-6", 500_000, ["3", "15", "3.75", "6", ".30"]),
    ] {
        let expected = [input, output, write_5m, write_1h, read].map(|text| {
            let text = if text.starts_with('.') { format!("0{text}usd") } else { format!("{text}usd") };
            UsdPerMillion::parse(&text).unwrap().picos_per_token()
        });

        assert_eq!(rates(catalog.find(id).unwrap(), prompt), expected, "{id} at {prompt}");
    }
    let fast = catalog.find("claude-opus-5-5").unwrap().price_at(NOW).unwrap().fast().unwrap();
    assert_eq!((fast.input, fast.output, fast.cache_read), (8_000_000, 40_000_000, 400_000));
    assert!(catalog.find("claude-sonnet-5-5").unwrap().price_at(NOW).unwrap().fast().is_none());
}

#[test]
fn the_row_of_the_day_counts_from_its_first_second() {
    let catalog = shipped();
    let sonnet = catalog.find("claude-sonnet-5-5").unwrap();
    let read_at = |unix_s| sonnet.price_at(unix_s).unwrap().rates(0).cache_read;

    assert_eq!([read_at(0), read_at(HALVED - 1)], [200_000; 2]);
    assert_eq!([read_at(HALVED), read_at(u64::MAX)], [100_000; 2]);
}

#[test]
fn the_shipped_limits_and_capabilities_are_the_published_ones() {
    let catalog = shipped();
    let ids =
        ["claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5", "claude-sonnet-4-6"];
    let of = |id: &str| catalog.find(id).unwrap();

    assert_eq!(catalog.models().count(), 5);
    assert_eq!(ids.map(|id| of(id).context), [1_000_000, 1_000_000, 1_000_000, 200_000, 1_000_000]);
    assert_eq!(ids.map(|id| of(id).max_output), [128_000, 128_000, 128_000, 64_000, 64_000]);
    assert_eq!(ids.map(|id| of(id).min_cacheable), [512, 512, 512, 4_096, 1_024]);
    assert_eq!(
        ids.map(|id| of(id).takes.effort.map(Effort::as_str)),
        [Some("medium"), Some("high"), Some("medium"), None, Some("high")]
    );
    assert_eq!(ids.map(|id| of(id).takes.forced_tools), [true, false, false, true, true]);
    assert_eq!(ids.map(|id| of(id).takes.prefill), [false, false, false, true, false]);
    assert_eq!(
        ids.map(|id| of(id).takes.sampling),
        [Sampling::LoneDefault, Sampling::DefaultOnly, Sampling::DefaultOnly, Sampling::Any, Sampling::Any]
    );
    assert!(
        catalog.find("claude-haiku-5-5-20261001").is_none() && catalog.find("claude-fable-5-1").is_none()
    );
}

#[test]
fn models_read_their_own_thinking_only() {
    let catalog = shipped();
    for model in catalog.models() {
        for other in catalog.models() {
            assert_eq!(model.reads_thinking_of(&catalog, &other.id), model.id == other.id);
        }
        assert!(!model.reads_thinking_of(&catalog, "claude-fable-5-1"));
    }
    let haiku = catalog.find("claude-haiku-4-5").unwrap();
    assert!(haiku.reads_thinking_of(&catalog, "claude-haiku-4-5-20251001"));
}

#[test]
fn tokens_are_scaled_between_tokenizers_only() {
    let catalog = shipped();
    let [newer, other, older] =
        ["claude-haiku-5-5", "claude-sonnet-5-5", "claude-haiku-4-5"].map(|id| catalog.find(id).unwrap());

    assert_eq!(newer.tokens_of(1_000, older), 1_300);
    assert_eq!(older.tokens_of(1_300, newer), 1_000);
    assert_eq!(older.tokens_of(1, newer), 1);
    assert_eq!(newer.tokens_of(1_001, other), 1_001);
    assert_eq!(newer.tokens_of(u64::MAX, older), u64::MAX);
    assert!(newer.is_kin(other) && !newer.is_kin(older));
}

#[test]
fn written_values_replace_the_shipped_ones_key_by_key() {
    let models = written(
        r#"{ "claude-sonnet-4-6": { "max_output": 128000, "betas": ["context-1m-2025-08-07"] },
             "claude-opus-5-5": { "prices": [{ "input": "5usd", "output": "25usd", "cache_read": "0.5usd" }] } }"#,
    );

    let catalog = Catalog::compile(&models).unwrap();
    let sonnet = catalog.find("claude-sonnet-4-6").unwrap();

    assert_eq!((sonnet.max_output, sonnet.context), (128_000, 1_000_000));
    assert_eq!(sonnet.takes.betas, ["context-1m-2025-08-07"]);
    assert_eq!(sonnet.takes.sampling, Sampling::Any);
    let dated = Catalog::compile(&written(r#"{ "claude-haiku-4-5-20251001": { "context": 9 } }"#)).unwrap();
    assert_eq!(dated.find("claude-haiku-4-5").unwrap().context, 9, "the dated id is the same model");
    let opus = catalog.find("claude-opus-5-5").unwrap();
    assert_eq!(rates(opus, 1), [5_000_000, 25_000_000, 6_250_000, 10_000_000, 500_000]);
    assert!(opus.price_at(NOW).unwrap().fast().is_none());
}

#[test]
fn a_new_model_needs_its_figures_and_takes_nothing_that_is_not_written() {
    let prices =
        r#""prices": [{ "from": "2027-01-01", "input": "1usd", "output": "2usd", "cache_read": "0.1usd" }]"#;
    let whole = format!(r#"{{ "new": {{ "generation": "6", "context": 9, "max_output": 9, {prices} }} }}"#);

    let catalog = Catalog::compile(&written(&whole)).unwrap();
    let model = catalog.find("new").unwrap();

    assert!(model.price_at(NOW).is_none() && model.price_at(NOW + 86_400 * 365).is_some());
    assert_eq!((model.min_cacheable, model.takes.sampling), (4_096, Sampling::None));
    assert!(model.takes.thinks_by_default && !model.takes.images && model.takes.thinking.is_empty());
    for (json, error) in [
        (r#"{ "new": { "generation": "6", "context": 9, "max_output": 9 } }"#.to_owned(), "has no `prices`"),
        (format!(r#"{{ "new": {{ {prices} }} }}"#), "has no `generation`"),
        (format!(r#"{{ "new": {{ "generation": "6", "context": 9, {prices} }} }}"#), "has no `max_output`"),
        (r#"{ "claude-haiku-4-5": { "context": 0 } }"#.to_owned(), "has a `context` of 0"),
        (r#"{ "claude-haiku-4-5": { "also": ["claude-opus-5-5"] } }"#.to_owned(), "is an id of both"),
        (r#"{ "claude-haiku-4-5": { "effort": "low" } }"#.to_owned(), "not in its `efforts`"),
        (
            r#"{ "claude-haiku-4-5": { "prices": [{ "from": "2027-01-01" }, {}, { "from": "2027-01-01" }] } }"#
                .to_owned(),
            "has two rows of prices from 2027-01-01",
        ),
        (r#"{ "claude-haiku-4-5": { "prices": [{}, {}] } }"#.to_owned(), "two rows of prices from the beginning"),
    ] {
        let message = Catalog::compile(&written(&json)).unwrap_err().to_string();

        assert!(message.contains(error), "{json}: {message}");
    }
}

#[test]
fn limits_are_corrected_by_what_the_api_says() {
    let told = |id: &str, context, max_output| Correction { id: id.to_owned(), context, max_output };
    let corrected = shipped().corrected(&[
        told("claude-haiku-4-5-20251001", Some(1_000_000), None),
        told("claude-sonnet-4-6", Some(0), Some(128_000)),
        told("claude-fable-5-1", Some(1), Some(1)),
    ]);

    let of = |id: &str| corrected.find(id).map(|model| (model.context, model.max_output));
    assert_eq!(of("claude-haiku-4-5"), Some((1_000_000, 64_000)));
    assert_eq!(of("claude-sonnet-4-6"), Some((1_000_000, 128_000)));
    assert_eq!(of("claude-fable-5-1"), None);
}

#[test]
fn a_refusal_is_remembered_for_an_hour_for_this_model_and_feature_alone() {
    let catalog = shipped();
    let [images, prefill] = [Feature::Images, Feature::Prefill].map(|feature| Features::NONE.with(feature));
    catalog.learned().refuse("claude-haiku-5-5", images, NOW);
    let reloaded = shipped().with_learned(Arc::clone(catalog.learned())).corrected(&[]);
    let refused = |model, features, now_s| reloaded.learned().refused(model, features, now_s);

    assert_eq!(refused("claude-haiku-5-5", images, NOW + 3_599), Some(Feature::Images));
    assert_eq!(refused("claude-haiku-5-5", images, NOW + 3_600), None);
    assert_eq!(refused("claude-haiku-5-5", prefill, NOW), None);
    assert_eq!(refused("claude-opus-5-5", images, NOW), None);
    catalog.learned().refuse("claude-opus-5-5", Features::NONE, NOW);
    assert_eq!(refused("claude-opus-5-5", Features::NONE, NOW), Some(Feature::Model));
}

#[test]
fn what_is_learned_is_bounded() {
    let learned = Learned::default();
    for index in 0..1_000 {
        learned.refuse(&format!("model-{index}"), Features::NONE, NOW);
    }

    let known =
        (0..1_000).filter(|index| learned.refused(&format!("model-{index}"), Features::NONE, NOW).is_some());
    assert_eq!(known.count(), 64);
    let words: std::collections::BTreeSet<&str> =
        Feature::ALL.iter().map(|feature| feature.as_str()).collect();
    assert_eq!(words.len(), Feature::ALL.len());
    let all = Feature::ALL.into_iter().fold(Features::NONE, Features::with);
    assert!(all.iter().eq(Feature::ALL));
}

#[test]
fn the_checker_knows_the_shipped_models() {
    let catalog = Catalog::compile(&Models::new()).unwrap();
    let mut ids: Vec<_> = catalog.by_id.keys().map(String::as_str).collect();
    let mut known = crate::config::SHIPPED_MODELS.to_vec();
    ids.sort_unstable();
    known.sort_unstable();

    assert_eq!(ids, known);
}
