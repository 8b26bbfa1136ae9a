//! The line of a call to Claude: what was decided, used and paid, and not one word of what was said.

use std::{fmt::Write as _, time::SystemTime};

use super::{write_string, write_timestamp};
use crate::{
    config::ModelTier,
    telemetry::{claude::Call, record::Outcome},
};

pub(super) fn write_to(out: &mut String, call: &Call, at: SystemTime, sample_rate: u32) {
    out.push_str("{\"ts\":\"");
    write_timestamp(out, at);
    out.push_str("\",\"plane\":\"claude\",\"route\":");
    write_string(out, call.route.as_bytes());
    let _ = write!(out, ",\"http.response.status_code\":{}", call.status);
    out.push_str(",\"model\":");
    write_string(out, call.model.as_bytes());
    out.push_str(",\"requested_model\":");
    write_string(out, call.requested.as_bytes());
    let words = [
        ("tier", call.tier.map(ModelTier::as_str)),
        ("wanted", call.wanted.filter(|_| call.wanted != call.tier).map(ModelTier::as_str)),
        ("reason", Some(call.reason.as_str())),
        ("kind", call.is_stream.then_some("stream")),
        ("outcome", Some(call.outcome.as_str()).filter(|_| call.outcome != Outcome::Done)),
        ("breakpoints", call.breakpoint.map(|(what, _)| what.as_str())),
    ];
    for (name, word) in words.into_iter().filter_map(|(name, word)| Some((name, word?))) {
        let _ = write!(out, ",\"{name}\":\"{word}\"");
    }
    if !call.transforms.is_none() {
        let words: Vec<_> = call.transforms.iter().map(|one| format!("\"{}\"", one.as_str())).collect();
        let _ = write!(out, ",\"transforms\":[{}]", words.join(","));
    }
    if let Outcome::Error(reason) = call.outcome {
        let _ = write!(out, ",\"error\":\"{reason}\"");
    }
    if let Some(tokens) = &call.tokens {
        for (kind, count) in tokens.by_kind() {
            let _ = write!(out, ",\"{kind}_tokens\":{count}");
        }
    }
    if let Some(cost) = call.cost {
        let saved = i128::from(call.baseline_requested) - i128::from(cost);
        let _ = write!(out, ",\"cost_usd\":{}", dollars(i128::from(cost)));
        let _ = write!(out, ",\"saved_usd\":{}", dollars(saved));
    }
    let flags = [
        ("estimated", call.is_estimated),
        ("fell_back", call.fell_back),
        ("refused", call.refused),
        ("kept", call.is_kept),
    ];
    for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
        let _ = write!(out, ",\"{name}\":true");
    }
    for (name, count) in [("retries", u32::from(call.retries)), ("trimmed_turns", call.trimmed)] {
        if count > 0 {
            let _ = write!(out, ",\"{name}\":{count}");
        }
    }
    let _ = write!(out, ",\"ms\":{}.{:03}", call.total_us / 1000, call.total_us % 1000);
    if let Some(us) = call.first_byte_us {
        let _ = write!(out, ",\"first_byte_ms\":{}.{:03}", us / 1000, us % 1000);
    }
    let _ = write!(out, ",\"overhead_us\":{}", call.overhead_us);
    if let Some(identity) = call.identity {
        let _ = write!(out, ",\"identity\":\"{identity:08x}\"");
    }
    if !call.trace.is_none() {
        let _ = write!(out, ",\"trace_id\":\"{}\"", call.trace);
    }
    let _ = writeln!(out, ",\"sample_rate\":{sample_rate}}}");
}

/// Pico-dollars as dollars with nine digits behind the point.
fn dollars(pico: i128) -> String {
    let sign = if pico < 0 { "-" } else { "" };
    let nano = pico.unsigned_abs() / 1000;
    format!("{sign}{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::dollars;

    #[test]
    fn dollars_have_a_point_and_a_sign() {
        assert_eq!(dollars(1_716_690_000_000), "1.716690000");
        assert_eq!(dollars(-678_800_000), "-0.000678800");
        assert_eq!(dollars(999), "0.000000000");
    }
}
