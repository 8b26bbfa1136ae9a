//! The answer of `touchline routes test` as a page: the verdict first, then the way to it in the order of the stages.

use super::decision;
use crate::{
    cli::explain::{
        Look,
        page::{Page, Paint},
        words,
    },
    ingress::{Explanation, Said, Setting},
};

/// The page.
pub(super) fn page(told: &Explanation, look: Look) -> String {
    let mut page = Page::new(look.columns, look.has_colour);
    page.line(&format!("{} {}", told.request.method, told.request.url), Paint::Strong);
    page.line("", Paint::Plain);
    verdict(&mut page, told);
    if !told.request.assumed.is_empty() {
        page.row("assumed", &told.request.assumed.join("; "), "");
    }
    if let Some(route) = &told.route {
        words::route(&mut page, route, told.refused.as_ref());
    }
    if let Some(refused) = &told.refused {
        for (index, reading) in refused.readings.iter().enumerate() {
            let label = if index == 0 { "read as" } else { "" };
            page.row(label, reading, "");
        }
    }
    if told.admission.is_some() {
        decided(&mut page, told);
    }
    limits(&mut page, &told.limits);
    page.finish()
}

/// What it all comes to.
fn verdict(page: &mut Page, told: &Explanation) {
    if let Some(refused) = &told.refused {
        let what = format!("refused with {} ({})", refused.status, refused.reason);
        page.sentence("verdict", &what, Paint::Bad);
        page.sentence("", refused.detail, Paint::Plain);
        return;
    }
    let Some(admitted) = &told.admission else {
        page.sentence(
            "verdict",
            told.no_answer.as_deref().unwrap_or("touchline answers it itself"),
            Paint::Warn,
        );
        return;
    };
    if let Some(why) = &admitted.why {
        page.sentence("verdict", &format!("not cached: bypass ({})", why.reason), Paint::Warn);
        words::advice(page, why);
        return;
    }
    let ttl = told.settings.iter().find(|setting| setting.name == "ttl" && setting.from == Said::Route);
    let kept = match ttl {
        Some(ttl) => format!("an answer is kept for {}, unless it says otherwise", ttl.value),
        None => "an answer is kept if it says itself for how long".to_owned(),
    };
    let asked = if admitted.refreshes { "fetched anew each time" } else { "the cache is asked" };
    page.sentence("verdict", &format!("{asked}; {kept}"), Paint::Good);
}

fn decided(page: &mut Page, told: &Explanation) {
    if !told.settings.is_empty() {
        words::settings(page, &told.settings);
    }
    if !told.tags.is_empty() {
        page.row("tags of this request", &told.tags.join(", "), "");
    }
    if let Some(key) = &told.key {
        words::key(page, key, &told.request.method);
    }
    page.section("Lookup", "");
    match told.admission.as_ref().and_then(|admitted| admitted.why.as_ref()) {
        Some(why) => words::reason(page, "bypass", why),
        None => page.row("cache", decision(told), ""),
    }
}

fn limits(page: &mut Page, limits: &[Setting]) {
    if limits.is_empty() {
        return;
    }
    page.section("Limits", "");
    for limit in limits {
        let note = match limit.from {
            Said::Default => "default",
            Said::Route | Said::Cache | Said::Ingress => &limit.place,
        };
        page.row(&limit.name, &limit.value, note);
    }
}
