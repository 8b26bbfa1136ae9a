//! An explanation as a page: the verdict first, as it is read in a hurry, then the way to it in the order of the stages.

use std::time::Duration;

use super::page::{Page, Paint};
use crate::{
    admin::{EntryFound, StoredEntry},
    config,
    ingress::{Answered, Explanation, KeyShown, Refused, RouteShown, Said, Sent, Setting, StoredShown, Why},
    telemetry::Reason,
};

/// Digits of a key's name that are shown: enough to find it among all others.
const DIGITS: usize = 16;

/// What the running process said.
pub(super) enum Store {
    /// What it has stored.
    Found(Box<EntryFound>),
    /// Why it said nothing.
    Silent(String),
}

/// The page.
pub(super) fn write(page: &mut Page, told: &Explanation, store: Option<&Store>, hash: &str) {
    page.line(&format!("{} {}", told.request.method, told.request.url), Paint::Strong);
    page.line("", Paint::Plain);
    verdict(page, told);
    let refreshes = told.admission.as_ref().is_some_and(|admitted| admitted.refreshes);
    if let (Some(Store::Found(found)), false) = (store, refreshes) {
        now(page, found);
    }
    if !told.request.assumed.is_empty() {
        page.row("assumed", &told.request.assumed.join("; "), "");
    }
    if let Some(shown) = &told.route {
        route(page, shown, told.refused.as_ref());
    }
    if !told.settings.is_empty() {
        settings(page, &told.settings);
    }
    if let Some(shown) = &told.key {
        key(page, shown, &told.request.method);
    }
    if let Some(admitted) = &told.admission {
        page.section("Lookup", "");
        match &admitted.why {
            Some(why) => reason(page, admitted.status, why),
            None if admitted.refreshes => {
                page.row("admitted", "fetched anew each time, and kept", "refresh_on");
            }
            None => page.row("admitted", "the cache is asked", ""),
        }
    }
    if let Some(shown) = &told.sent {
        sent(page, shown);
    }
    let is_bypass = told.admission.as_ref().is_some_and(|admitted| admitted.why.is_some());
    match (&told.answer, &told.no_answer) {
        (Some(shown), _) => answer(page, shown, is_bypass),
        (None, Some(why)) => {
            page.section("Answer", "");
            page.row("none", why, "");
        }
        (None, None) => {}
    }
    if let Some(store) = store {
        stored_now(page, store, told, hash);
    }
}

/// What it all comes to.
fn verdict(page: &mut Page, told: &Explanation) {
    if let Some(refused) = &told.refused {
        let what = format!("refused with {} ({})", refused.status, refused.reason);
        page.sentence("verdict", &what, Paint::Bad);
        page.sentence("", refused.detail, Paint::Plain);
        return;
    }
    let bypass = told.admission.as_ref().and_then(|admitted| admitted.why.as_ref());
    if let Some(why) = bypass {
        page.sentence("verdict", &format!("not cached: bypass ({})", why.reason), Paint::Warn);
        advice(page, why);
        return;
    }
    match (&told.answer, &told.no_answer) {
        (Some(Answered { not_stored: Some(why), .. }), _) => {
            page.sentence(
                "verdict",
                &format!("not cached: the answer is not kept ({})", why.reason),
                Paint::Warn,
            );
            advice(page, why);
        }
        (Some(Answered { stored: Some(stored), .. }), _) => {
            let text = if stored.validated_each_time {
                "kept, but the backend is asked before each use".to_owned()
            } else if stored.fresh_ms > 0 {
                format!("cached for {}, on the word of the {}", span(stored.fresh_ms), stored.source)
            } else {
                "kept, but stale at once: the backend is asked before each use".to_owned()
            };
            let is_good = !stored.validated_each_time && stored.fresh_ms > 0;
            page.sentence("verdict", &text, if is_good { Paint::Good } else { Paint::Warn });
        }
        (_, Some(why)) if told.admission.is_some() => {
            page.sentence("verdict", &format!("looked up, but {why}"), Paint::Warn);
        }
        (_, Some(why)) => page.sentence("verdict", why, Paint::Warn),
        _ => page.sentence("verdict", "the cache takes no part", Paint::Warn),
    }
}

/// What the next request gets from the store.
fn now(page: &mut Page, found: &EntryFound) {
    let text = match (&found.entry, &found.absence) {
        _ if found.bypass.is_some() => return,
        (Some(entry), None) if entry.ttl_s >= 0 => {
            format!("a hit: in memory, fresh for {}", seconds(entry.ttl_s))
        }
        (Some(_), None) => "in memory, but stale".to_owned(),
        (_, Some(absence)) => format!("a miss: {}", meaning(absence)),
        (None, None) => return,
    };
    page.row("right now", &text, "");
}

pub(in crate::cli) fn advice(page: &mut Page, why: &Why) {
    page.sentence("", why.meaning, Paint::Plain);
    page.sentence("what to do", why.remedy, Paint::Plain);
    if let Some(line) = &why.line {
        page.painted_row("line to add", (&line.yaml, Paint::Code), &format!("in {}", line.below));
    }
}

/// A reason where it was found; what to do about it stands with the verdict.
pub(in crate::cli) fn reason(page: &mut Page, label: &str, why: &Why) {
    page.painted_row(label, (why.reason, Paint::Warn), "");
    page.sentence("", why.meaning, Paint::Plain);
}

pub(in crate::cli) fn route(page: &mut Page, shown: &RouteShown, refused: Option<&Refused>) {
    page.section("Route", "");
    page.row("matched", &shown.path, shown.place.as_deref().unwrap_or("no route of the configuration"));
    if shown.name != shown.path {
        page.row("name", &shown.name, "");
    }
    if !shown.methods.is_empty() {
        page.row("methods", &shown.methods.join(", "), "");
    }
    if let Some(host) = &shown.host {
        page.row("host", host, "");
    }
    for (index, near) in shown.near.iter().enumerate() {
        let label = if index == 0 { "nearly" } else { "" };
        let place = near.place.strip_prefix("ingress.").unwrap_or(&near.place);
        page.row(label, &near.path, &format!("{place}: {}", near.why));
    }
    match refused.and_then(|refused| refused.denied_by.as_ref()) {
        Some(place) => page.painted_row("denied", ("yes", Paint::Bad), place),
        None => page.row("denied", "no", ""),
    }
}

pub(in crate::cli) fn settings(page: &mut Page, settings: &[Setting]) {
    page.section("Rule in force", "");
    for setting in settings {
        // The name is the end of the place already.
        let section =
            setting.place.strip_suffix(&setting.name).unwrap_or(&setting.place).trim_end_matches('.');
        let note = match setting.from {
            Said::Route | Said::Cache | Said::Ingress => section,
            Said::Default => "default",
        };
        page.row(&setting.name, &setting.value, note);
    }
}

pub(in crate::cli) fn key(page: &mut Page, shown: &KeyShown, method: &str) {
    let digits = shown.name.get(..DIGITS).unwrap_or(&shown.name);
    let is_read = matches!(method, "GET" | "HEAD");
    let note = if is_read { digits.to_owned() } else { format!("{digits}, of a GET for the same URL") };
    page.section("Key", &note);
    for part in &shown.parts {
        page.row(&part.name, part.value.as_deref().unwrap_or("none"), "");
    }
}

fn sent(page: &mut Page, shown: &Sent) {
    let note = if shown.fills {
        "without what is not in the key"
    } else {
        "as it came, as the answer is not for the cache"
    };
    page.section("To the backend", note);
    page.row("target", &shown.target, "");
    let lists = [
        ("without parameters", &shown.query),
        ("without cookies", &shown.cookies),
        ("without fields", &shown.fields),
    ];
    for (label, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        page.row(label, &names.join(", "), "");
    }
    for changed in &shown.changed {
        page.row(&changed.name, &changed.to, &format!("was {}", changed.from));
    }
    page.row("written by touchline", &shown.written.join(", "), "");
}

fn answer(page: &mut Page, shown: &Answered, is_bypass: bool) {
    page.section("Answer", &format!("after {:.1} ms", shown.took_ms));
    page.row("status", &shown.status.to_string(), "");
    for (name, value) in &shown.fields {
        page.row(name, value, "");
    }
    match (&shown.stored, &shown.not_stored) {
        (Some(stored), _) => kept(page, stored),
        (None, Some(why)) if is_bypass => {
            page.section("Not kept either way", "even if the request were looked up");
            reason(page, "reason", why);
            page.sentence("what to do", why.remedy, Paint::Plain);
        }
        (None, Some(why)) => {
            page.section("Not kept", "");
            reason(page, "reason", why);
        }
        (None, None) => {}
    }
}

fn kept(page: &mut Page, stored: &StoredShown) {
    page.section("Kept", "");
    page.row("fresh for", &span(stored.fresh_ms.max(0)), "");
    page.row("on the word of the", stored.source, &stored.by);
    if stored.age_ms >= 1000 {
        page.row("age when it came", &seconds(stored.age_ms / 1000), "");
    }
    let windows = [
        ("while revalidating", stored.while_revalidate_ms),
        ("if it fails", stored.if_error_ms),
        ("if it is unreachable", stored.on_disconnect_ms),
    ];
    for (label, window) in windows.into_iter().filter(|(_, window)| *window > 0) {
        page.row(label, &format!("stale for {}", span(window)), "");
    }
    if stored.validated_each_time {
        page.row("each use", "the backend is asked first", "no-cache");
    }
    let validator = match (stored.own_etag, stored.has_validator) {
        (true, true) => "yes, and an ETag of ours",
        (false, true) => "yes",
        (true, false) => "for clients only: an ETag of ours",
        (false, false) => "no",
    };
    page.row("can be validated", validator, "");
    for (index, (name, value)) in stored.vary.iter().enumerate() {
        let label = if index == 0 { "varies by" } else { "" };
        page.row(label, name, value.as_deref().unwrap_or("absent in this request"));
    }
    if !stored.tags.is_empty() {
        page.row("tags", &stored.tags.join(", "), "");
    }
    page.row("body", &bytes(stored.body_bytes), &format!("{} in memory", bytes(stored.bytes)));
}

fn stored_now(page: &mut Page, store: &Store, told: &Explanation, hash: &str) {
    let found = match store {
        Store::Silent(why) => {
            page.section("Stored now", "");
            page.row("not known", why, "");
            return;
        }
        Store::Found(found) => found,
    };
    page.section("Stored now", "");
    if found.config_hash != hash {
        let text = format!("it runs with another configuration: {}, this file is {hash}", found.config_hash);
        page.painted_row("note", (&text, Paint::Warn), "");
    }
    let own_key = told.key.as_ref().map(|key| key.name.as_str());
    if own_key.is_some_and(|own| own != found.key) {
        let digits = found.key.get(..DIGITS).unwrap_or(&found.key);
        page.painted_row("note", (&format!("the key differs there: {digits}"), Paint::Warn), "");
    }
    if let Some(bypass) = &found.bypass {
        page.row("asked", "no", bypass);
    }
    if let Some(absence) = &found.absence {
        page.row("served", "no", &meaning(absence));
    }
    if let Some(entry) = &found.entry {
        stored_entry(page, entry);
    }
    if let Some(purged) = &found.purged {
        let what = if purged.soft { "made stale by a soft purge" } else { "ended by a purge" };
        let note = format!("of {}, generation {}", purged.scope, purged.generation);
        page.painted_row("purged", (what, Paint::Warn), &note);
    }
    if found.variants > 0 {
        page.row("variants", &found.variants.to_string(), "");
    }
    if found.hit_for_miss {
        page.row("hit for miss", "yes", Reason::HitForMiss.advice().meaning);
    }
}

fn stored_entry(page: &mut Page, entry: &StoredEntry) {
    page.row("status", &entry.status.to_string(), "");
    page.row("word of", &entry.source, "");
    page.row("age", &seconds(i64::try_from(entry.age_s).unwrap_or(i64::MAX)), "");
    if entry.ttl_s >= 0 {
        page.row("fresh for", &seconds(entry.ttl_s), "");
    } else {
        page.row("stale since", &seconds(entry.ttl_s.saturating_neg()), "");
    }
    page.row("hits", &entry.hits.to_string(), "");
    page.row("body", &bytes(entry.body_bytes), &format!("{} in memory", bytes(entry.bytes)));
    page.row("fetched in", &format!("{} ms", entry.fetch_ms), "");
    page.row("generation", &entry.generation.to_string(), "");
    if !entry.vary.is_empty() {
        page.row("varies by", &entry.vary.join(", "), "");
    }
    if !entry.tags.is_empty() {
        page.row("tags", &entry.tags.join(", "), "");
    }
}

/// The sentence of a reason by its word; another version may have one that is not known here.
fn meaning(word: &str) -> String {
    let known = Reason::ALL.into_iter().find(|reason| reason.as_str() == word);
    known.map_or_else(|| word.to_owned(), |reason| format!("{word}. {}", reason.advice().meaning))
}

/// Milliseconds below a second, else whole seconds: what the fetch itself took of a lifetime is of no interest.
fn span(ms: i64) -> String {
    let ms = u64::try_from(ms).unwrap_or_default();
    if ms < 1000 {
        return config::format_duration(Duration::from_millis(ms));
    }
    seconds(i64::try_from(ms.div_ceil(1000)).unwrap_or(i64::MAX))
}

/// Seconds as `1d 2h 3m 4s`, the two largest units.
fn seconds(seconds: i64) -> String {
    let total = u64::try_from(seconds).unwrap_or_default();
    let units = [(total / 86_400, "d"), (total / 3600 % 24, "h"), (total / 60 % 60, "m"), (total % 60, "s")];
    let parts: Vec<String> = units
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Bytes, from a kibibyte on with one decimal.
fn bytes(count: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = count.saturating_mul(10) / unit;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match count {
        0..=1023 => format!("{count} B"),
        1024..=1_048_575 => format!("{} KiB", tenths(1024)),
        _ => format!("{} MiB", tenths(1024 * 1024)),
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, meaning, seconds, span};

    #[test]
    fn times_and_sizes_are_short() {
        let table = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (1799, "29m 59s"),
            (3600, "1h"),
            (3601, "1h"),
            (90_061, "1d 1h"),
            (-4, "0s"),
        ];
        for (value, text) in table {
            assert_eq!(seconds(value), text, "{value}");
        }
        assert_eq!(
            (span(300).as_str(), span(1_800_000).as_str(), span(59_999).as_str()),
            ("300ms", "30m", "1m")
        );
        assert_eq!(
            (bytes(0), bytes(1023), bytes(1536), bytes(9_500_000)),
            ("0 B".into(), "1023 B".into(), "1.5 KiB".into(), "9.0 MiB".into())
        );
    }

    #[test]
    fn a_word_of_another_version_is_told_as_it_is() {
        assert_eq!(meaning("something_new"), "something_new");
        assert!(meaning("absent").starts_with("absent. Nothing is stored"));
    }
}
