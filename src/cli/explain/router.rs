//! `touchline explain router`: which model would answer this, and why; or how well the router does on a labelled file.

use std::{
    fs,
    io::{Read as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{
    Look,
    page::{Page, Paint},
};
use crate::{
    claude::{
        self, Explained,
        classify::{
            CLASSES, Classifier, Verdict,
            evaluate::{Bars, Report, Share},
            items::{Item, Split},
            tier_scores,
        },
        money::PicoUsd,
    },
    cli::file::{REFUSED, USAGE},
    config::{self, ModelTier, Transform, Transforms},
};

/// The exit code of a router that is below its bars.
const BELOW: u8 = 1;

/// Tokens that an answer may have where only a text is given.
const MAX_TOKENS: u32 = 2048;

/// Types whose probability is shown.
const SHOWN: usize = 4;

const EXAMPLES: &str = "\
Examples:
  touchline explain router 'ok thanks, see you Friday!'
  touchline explain router --system 'You score confidence assessments.' '12, 9, 4'
  touchline explain router request.json
  touchline explain router --file labelled.jsonl --json";

/// Arguments of `touchline explain router`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The configuration to decide by; without it, proxy.yaml if there is one with a claude section, else the defaults
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The model that the call asks for, where only a text is given
    #[arg(long, value_name = "MODEL", default_value = "claude-sonnet-5-5")]
    model: String,
    /// The system prompt of the call, where only a text is given
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// The version of the API that the call is made in
    #[arg(long, value_name = "VERSION", default_value = "2023-06-01")]
    version: String,
    /// Judge the router by a labelled file, one item a line; exits with 1 where it is below its bars
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// The part of the labelled file to judge by: dev is held back from training
    #[arg(long, value_enum, value_name = "PART", default_value_t = Part::All, requires = "file")]
    split: Part,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// What the user says, or a file with the JSON body of a call to /v1/messages; - reads one from standard input
    #[arg(value_name = "TEXT | FILE", required_unless_present = "file")]
    text: Option<String>,
}

/// Parts of a labelled file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What the shipped classifier may be trained on.
    Train,
    /// What it may not.
    Dev,
    /// All of it.
    All,
}

/// Explains a decision, or judges the router.
pub(super) fn run(
    arguments: &Arguments,
    look: Look,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let section = match section(arguments.config.as_deref()) {
        Ok(section) => section,
        Err(problems) => {
            writeln!(err, "{problems}")?;
            return Ok(ExitCode::from(REFUSED));
        }
    };
    if let Some(file) = &arguments.file {
        return judge(arguments, file, &section, look, out);
    }
    let text = arguments.text.as_deref().unwrap_or_default();
    let body = body_of(arguments, text)?;
    let told = match claude::explain(&section, body, &arguments.version) {
        Ok(told) => told,
        Err(error) => {
            writeln!(err, "touchline: {:#}", anyhow::Error::from(error))?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &as_json(&told))?;
        writeln!(out)?;
    } else {
        out.write_all(as_text(&told, look).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The claude section of a configuration. One that is not named may be missing.
fn section(path: Option<&Path>) -> Result<config::Claude, config::Problems> {
    let usual = Path::new("proxy.yaml");
    let path = match path {
        Some(path) => path,
        None if usual.exists() => usual,
        None => return Ok(config::Claude::default()),
    };
    Ok(config::load_file(path)?.config.claude.unwrap_or_default())
}

/// The body of the call: a file or standard input as it is, else one that says the text.
fn body_of(arguments: &Arguments, text: &str) -> anyhow::Result<Bytes> {
    if text == "-" {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body).context("reading the request from standard input")?;
        return Ok(body.into());
    }
    if Path::new(text).is_file() {
        return Ok(fs::read(text).with_context(|| format!("reading {text}"))?.into());
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(arguments.model));
    body.insert("max_tokens".to_owned(), json!(MAX_TOKENS));
    if let Some(system) = &arguments.system {
        body.insert("system".to_owned(), json!(system));
    }
    body.insert("messages".to_owned(), json!([{ "role": "user", "content": text }]));
    Ok(Value::Object(body).to_string().into())
}

fn as_text(told: &Explained, look: Look) -> String {
    let mut page = Page::new(look.columns, look.has_colour);
    let tier = told.tier.map_or("no tier", ModelTier::as_str);
    page.line(&format!("{} answers ({tier})", told.model), Paint::Strong);
    page.row("asked for", &told.requested, "");
    let reason = match told.wanted.filter(|_| told.wanted != told.tier) {
        Some(wanted) => format!("{}; {} was wanted", told.reason, wanted.as_str()),
        None => told.reason.to_owned(),
    };
    page.row("reason", &reason, "");
    if !told.transforms.is_none() {
        page.row("transforms", &words(told.transforms).join(", "), "");
    }
    page.row("type", told.kind.as_str(), "");
    if told.is_serious {
        page.row("serious", "yes: the economy tier is barred, now and in the turns that follow", "");
    }
    page.row(
        "prompt",
        &format!("about {} tokens, an answer of about {}", told.prompt_tokens, told.output_tokens),
        "",
    );
    if let Some(verdict) = &told.verdict {
        signals(&mut page, verdict);
    }
    if !told.hits.is_empty() {
        page.section("words that were found", "");
        for hit in &told.hits {
            page.row(&hit.place, &format!("{}: {}", hit.list, hit.words.join(", ")), "");
        }
    }
    page.section("models", "");
    for alternative in &told.alternatives {
        let said = match (&alternative.refused, &alternative.priced) {
            (Some(reason), _) => format!("may not take the call: {reason}"),
            (None, Some(priced)) => format!(
                "this turn {} instead of {}, coming back {} more: {} {}",
                dollars(priced.go),
                dollars(priced.stay),
                dollars(priced.back),
                if priced.gain < 0 { "costs" } else { "saves" },
                dollars(priced.gain.abs()),
            ),
            (None, None) if alternative.model == told.requested => "the model that was asked for".to_owned(),
            (None, None) => "has no price".to_owned(),
        };
        let said = if alternative.transforms.is_none() {
            said
        } else {
            format!("{said}; with {}", words(alternative.transforms).join(", "))
        };
        page.row(&alternative.model, &said, "");
    }
    page.finish()
}

fn words(transforms: Transforms) -> Vec<&'static str> {
    transforms.iter().map(Transform::as_str).collect()
}

fn signals(page: &mut Page, verdict: &Verdict) {
    let signals = &verdict.signals;
    page.section("signals", "");
    let tiers = tier_scores(&signals.scores);
    let tiers = ModelTier::ALL.into_iter().zip(tiers);
    let tiers: Vec<_> = tiers.map(|(tier, score)| format!("{} {}", tier.as_str(), percent(score))).collect();
    page.row("classifier", &tiers.join(", "), "");
    let mut types: Vec<_> = CLASSES.iter().zip(signals.scores.classes).collect();
    types.sort_by(|a, b| b.1.total_cmp(&a.1));
    let types: Vec<_> = types
        .into_iter()
        .take(SHOWN)
        .map(|((kind, tier), score)| match kind {
            config::MessageType::Unknown => format!("other ({}) {}", tier.as_str(), percent(score)),
            kind => format!("{} {}", kind.as_str(), percent(score)),
        })
        .collect();
    page.row("types", &types.join(", "), "");
    let serious = match (signals.serious_by, signals.serious_turn) {
        (Some(by), Some(0)) => format!("by {}, in the last user turn", by.as_str()),
        (Some(by), Some(ago)) => format!("by {}, {ago} user turns before the last", by.as_str()),
        (Some(by), None) => format!("by {}", by.as_str()),
        (None, _) => format!("no ({} by the classifier)", percent(signals.scores.serious)),
    };
    page.row("serious", &serious, "");
    page.row("economy", economy_words(signals.economy.as_str()), "");
    if signals.accepts_offer {
        page.row("context", "a short acceptance of what was offered before", "");
    }
}

/// What came of the question whether the economy tier will do, in words.
fn economy_words(word: &'static str) -> &'static str {
    match word {
        "agreed" => "agreed: a rule and the classifier both say so",
        "barred" => "barred by a serious turn",
        "long_turn" => "no: the user's turn is too long",
        "long_history" => "no: the history is too long",
        "other_type" => "no: the type is not one of that tier",
        "unlikely" => "no: the classifier is not sure enough",
        "rule_objects" => "no: a rule speaks against it",
        other => other,
    }
}

fn as_json(told: &Explained) -> Value {
    json!({
        "model": told.model,
        "requested_model": told.requested,
        "tier": told.tier.map(ModelTier::as_str),
        "wanted": told.wanted.map(ModelTier::as_str),
        "reason": told.reason,
        "transforms": words(told.transforms),
        "type": told.kind.as_str(),
        "serious": told.is_serious,
        "prompt_tokens": told.prompt_tokens,
        "output_tokens": told.output_tokens,
        "signals": told.verdict.as_ref().map(signals_json),
        "words": told.hits.iter().map(|hit| json!({
            "place": hit.place, "list": hit.list, "words": hit.words,
        })).collect::<Vec<_>>(),
        "models": told.alternatives.iter().map(|alternative| json!({
            "model": alternative.model,
            "tier": alternative.tier.as_str(),
            "refused": alternative.refused,
            "transforms": words(alternative.transforms),
            "stay_usd": alternative.priced.map(|priced| usd(priced.stay)),
            "go_usd": alternative.priced.map(|priced| usd(priced.go)),
            "back_usd": alternative.priced.map(|priced| usd(priced.back)),
            "gain_usd": alternative.priced.map(|priced| usd(priced.gain)),
            "moves": alternative.priced.map(|priced| priced.moves),
        })).collect::<Vec<_>>(),
    })
}

fn signals_json(verdict: &Verdict) -> Value {
    let signals = &verdict.signals;
    let tiers = ModelTier::ALL.into_iter().zip(tier_scores(&signals.scores));
    let tiers: Map<_, _> = tiers.map(|(tier, score)| (tier.as_str().to_owned(), json!(score))).collect();
    let types = CLASSES.iter().zip(signals.scores.classes).map(|((kind, tier), score)| {
        let name = match kind {
            config::MessageType::Unknown => format!("other_{}", tier.as_str()),
            kind => kind.as_str().to_owned(),
        };
        (name, json!(score))
    });
    json!({
        "tiers": tiers,
        "types": types.collect::<Map<_, _>>(),
        "serious": signals.scores.serious,
        "serious_by": signals.serious_by.map(claude::classify::SeriousBy::as_str),
        "serious_turn": signals.serious_turn,
        "economy": signals.economy.as_str(),
        "accepts_offer": signals.accepts_offer,
        "words": signals.last_words,
        "history_words": signals.history_words,
        "system_rule": signals.system_rule,
    })
}

/// Judges the router by a labelled file: the content alone, without prices, guards and conversations.
fn judge(
    arguments: &Arguments,
    file: &Path,
    section: &config::Claude,
    look: Look,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let items = Item::parse_all(&text).with_context(|| format!("reading {}", file.display()))?;
    let split = match arguments.split {
        Part::Train => Split::Train,
        Part::Dev => Split::Dev,
        Part::All => Split::All,
    };
    let classifier =
        Classifier::compile(claude::classifier_settings(section)).context("compiling claude.router")?;
    let report = classifier.evaluate(&items, split);
    if report.items() == 0 {
        bail!("there is no item of that part in {}", file.display());
    }
    let missed = report.missed(Bars::default());
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &report_json(&report, &missed))?;
        writeln!(out)?;
    } else {
        out.write_all(report_text(&report, look).as_bytes())?;
    }
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BELOW) })
}

fn report_json(report: &Report, missed: &[&'static str]) -> Value {
    let tiers = |row: &[usize; ModelTier::COUNT]| -> Map<String, Value> {
        ModelTier::ALL
            .into_iter()
            .zip(row)
            .map(|(tier, count)| (tier.as_str().to_owned(), json!(count)))
            .collect()
    };
    let confusion: Map<_, _> = ModelTier::ALL
        .into_iter()
        .zip(&report.confusion)
        .map(|(tier, row)| (tier.as_str().to_owned(), Value::Object(tiers(row))))
        .collect();
    let shares = |all: Vec<(String, Share)>| -> Map<String, Value> {
        all.into_iter()
            .map(|(name, share)| (name, json!({ "items": share.items, "accuracy": share.ratio() })))
            .collect()
    };
    let kinds = report.by_type.iter().map(|(kind, share)| (kind.as_str().to_owned(), *share)).collect();
    let languages = report.by_language.iter().map(|(name, share)| (name.clone(), *share)).collect();
    let turns = report.by_turns.iter().map(|(count, share)| (count.to_string(), *share)).collect();
    json!({
        "items": report.items(),
        "accuracy": report.tier_accuracy.ratio(),
        "confusion": confusion,
        "serious_items": report.serious,
        "serious_to_economy": report.serious_to_economy,
        "economy_precision": report.economy_precision.ratio(),
        "economy_recall": report.economy_recall.ratio(),
        "economy_share": report.economy_share.ratio(),
        "premium_precision": report.premium_precision.ratio(),
        "premium_recall": report.premium_recall.ratio(),
        "type_accuracy": report.type_accuracy.ratio(),
        "by_type": shares(kinds),
        "by_language": shares(languages),
        "by_turns": shares(turns),
        "missed": missed,
    })
}

fn report_text(report: &Report, look: Look) -> String {
    let mut page = Page::new(look.columns, look.has_colour);
    page.line(&format!("{} items", report.items()), Paint::Strong);
    for (name, figure) in report.figures(Bars::default()) {
        page.row(name, &figure, "");
    }
    page.section("label, and what it was taken for", "");
    for (tier, row) in ModelTier::ALL.into_iter().zip(&report.confusion) {
        let cells = ModelTier::ALL.into_iter().zip(row);
        let cells: Vec<_> = cells.map(|(taken, count)| format!("{} {count}", taken.as_str())).collect();
        page.row(tier.as_str(), &cells.join(", "), "");
    }
    page.section("types", "");
    for (kind, share) in &report.by_type {
        page.row(kind.as_str(), &share_text(*share), "");
    }
    page.section("languages, by tier", "");
    for (language, share) in &report.by_language {
        page.row(language, &share_text(*share), "");
    }
    page.section("messages, by tier", "");
    for (count, share) in &report.by_turns {
        page.row(&count.to_string(), &share_text(*share), "");
    }
    page.finish()
}

fn share_text(share: Share) -> String {
    format!("{:.1} % of {}", share.ratio() * 100.0, share.items)
}

fn percent(score: f32) -> String {
    format!("{:.0} %", score * 100.0)
}

fn dollars(pico: i128) -> String {
    PicoUsd::new(pico).to_string()
}

#[expect(clippy::cast_precision_loss, reason = "JSON knows only floats")]
fn usd(pico: i128) -> f64 {
    pico as f64 / 1e12
}
