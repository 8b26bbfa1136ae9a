//! Rules over written samples: the example of the documentation, expectations that fail, and input that makes no sense.

use super::{try_rules, values};
use crate::config::{self, load_str};

fn telemetry(yaml: &str) -> config::Telemetry {
    let loaded = load_str("proxy.yaml", &format!("version: 1\n{yaml}"), &|_| None);
    loaded.unwrap_or_else(|problems| panic!("{problems}")).config.telemetry
}

/// The block of docs/alerts.md behind its mark.
fn documented() -> String {
    let text = include_str!("../../../../docs/alerts.md");
    let (_, rest) = text.split_once("<!-- samples -->\n```text\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_example_of_the_documentation_is_as_expected() {
    let report = try_rules(&config::Telemetry::default(), &documented()).unwrap();

    assert_eq!(report.failures, 0, "{}", report.text);
    let expected = [
        "a slow route pages after two minutes and is over after two good readings",
        "       3m  route_p95 (critical) fires: P95 at or over 2 s: GET /api/matches/candidates/{user_id}; last 2.4 s",
        "       3m  as expected",
        "    4m30s  route_p95 (critical) is over",
        "missing data neither fires nor resolves",
    ];
    for line in expected {
        assert!(report.text.contains(line), "{line} is not in\n{}", report.text);
    }
}

#[test]
fn what_is_not_as_expected_is_told_and_counted() {
    let samples = "\
tests:
  - name: wrong
    series:
      - { metric: redis_down, values: 1x9 }
      - { metric: route_p95, labels: { route: /a }, values: 1.2x40, samples: 19 }
    expect:
      - { at: 10s, firing: [{ rule: redis_down }], pending: [] }
      - { at: 60s, firing: [] }
      - { at: 390s, firing: [{ rule: route_p95 }, { rule: redis_down, severity: critical }] }
";
    let report = try_rules(&config::Telemetry::default(), samples).unwrap();

    assert_eq!(report.failures, 6, "{}", report.text);
    for line in [
        "10s  FAILED: redis_down is not firing",
        "10s  FAILED: redis_down (warning) is pending and was not expected: Redis does not answer; last yes",
        "1m  FAILED: redis_down (warning) is firing and was not expected",
        "6m30s  FAILED: route_p95 is not firing",
        "6m30s  FAILED: redis_down (critical) is not firing",
    ] {
        assert!(report.text.contains(line), "{line} is not in\n{}", report.text);
    }
}

#[test]
fn changed_and_own_rules_are_run() {
    let telemetry = telemetry(
        "telemetry:\n  alerts:\n    interval: 1m\n    rules: { redis_down: off, errors_5xx: { critical: off, warning: 1%, warning_for: 2m } }\n    own:\n      - { name: dear, metric: claude_spend, window: 1h, above: 5usd, severity: critical }\n      - { name: quiet, metric: requests, below: 0.1, for: 3m, severity: info }\n      - { name: slow_post, metric: route_p99, labels: { method: POST }, above: 80% }\n",
    );
    let samples = "\
tests:
  - name: all
    series:
      - { metric: redis_down, values: 1x9 }
      - { metric: errors, values: 30x9 }
      - { metric: claude_spend, values: 4+0.5x9 }
      - { metric: requests, values: 0.05x9 }
      - { metric: route_p99, labels: { method: POST, route: /a }, limit: 1s, values: 0.9x9 }
      - { metric: route_p99, labels: { method: GET, route: /a }, limit: 1s, values: 0.9x9 }
    expect:
      - { at: 1m, firing: [{ rule: slow_post, labels: { method: POST } }] }
      - { at: 2m, firing: [{ rule: slow_post }, { rule: errors_5xx, severity: warning }] }
      - { at: 3m, firing: [{ rule: slow_post }, { rule: errors_5xx }, { rule: dear }, { rule: quiet }] }
";
    let report = try_rules(&telemetry, samples).unwrap();

    assert_eq!(report.failures, 0, "{}", report.text);
}

#[test]
fn values_are_written_as_for_promtool() {
    let read = |text: &str| {
        let all = values(text).unwrap();
        all.iter()
            .map(|value| value.map_or("_".to_owned(), |value| value.to_string()))
            .collect::<Vec<_>>()
            .join(" ")
    };

    assert_eq!(read("3"), "3");
    assert_eq!(read("3x2 _ 0.5"), "3 3 3 _ 0.5");
    assert_eq!(read("1+2x3 9-2x1 _x1"), "1 3 5 7 9 7 _ _");
    assert_eq!(read("-1-1x1"), "-1 -2");
    assert_eq!(read(""), "");
    for text in ["x", "3x", "a", "1+x3", "1e999", "nan", "3x-1", "1x999999999", "_2"] {
        assert!(values(text).is_err(), "{text}");
    }
}

#[test]
fn the_words_say_what_is_compared() {
    let telemetry = telemetry(
        "telemetry:\n  alerts:\n    interval: 1m\n    own:\n      - { name: own_over, metric: errors, above: 10% }\n      - { name: own_under, metric: requests, below: 1 }\n",
    );
    // Each value is the limit itself: only what is told as \"at or over\" fires by it.
    let samples = "\
tests:
  - name: limits
    series:
      - { metric: errors, values: 10x3 }
      - { metric: slow_requests, values: 5x3 }
      - { metric: claude_refused, values: 5x9 }
      - { metric: cache_hit_rate, values: 85x3 }
      - { metric: requests, values: 1x3 }
    expect:
      - { at: 9m, firing: [{ rule: errors_5xx, severity: critical }, { rule: slow_burst }] }
";
    let report = try_rules(&telemetry, samples).unwrap();
    assert_eq!(report.failures, 0, "{}", report.text);
    assert!(report.text.contains("share of 5xx in all requests at or over 10 %"), "{}", report.text);
    assert!(report.text.contains("slow requests at or over 5"), "{}", report.text);

    let beyond = "\
tests:
  - name: beyond
    series:
      - { metric: errors, values: 10.5x3 }
      - { metric: claude_refused, values: 5.1x9 }
      - { metric: cache_hit_rate, values: 84.9x3 }
      - { metric: requests, values: 0.9x3 }
";
    let report = try_rules(&telemetry, beyond).unwrap();
    for words in [
        "own_over (warning) fires: share of 5xx in all requests over 10 %",
        "calls refused by Claude (429, 529) over 5 %",
        "cache hit rate under 85 %",
        "own_under (warning) fires: requests under 1 a second",
    ] {
        assert!(report.text.contains(words), "{words}: {}", report.text);
    }
}

#[test]
fn samples_that_make_no_sense_are_refused_with_their_place() {
    let fault = |text: &str| try_rules(&config::Telemetry::default(), text).unwrap_err().to_string();
    let test = |series: &str| format!("tests:\n  - name: t\n    series:\n      - {series}\n");

    assert!(fault("tests: {}").contains("line"), "{}", fault("tests: {}"));
    assert!(fault("test: []").contains("test"));
    assert!(fault(&test("{ metric: latency, values: 1 }")).contains("latency"));
    let unknown = fault(&test("{ metric: latency, values: 1 }"));
    assert!(unknown.contains("line 4"), "{unknown}");
    assert_eq!(unknown.matches("latency").count(), 1, "it is said once: {unknown}");
    assert_eq!(unknown.lines().count(), 1, "{unknown}");
    assert!(fault(&test("{ metric: p95, values: 1, label: x }")).contains("label"));
    assert_eq!(
        fault(&test("{ metric: route_hit_rate, labels: { pod: x }, values: 1 }")),
        "test `t`: `route_hit_rate` has no label `pod`, but route"
    );
    assert!(fault(&test("{ metric: p95, values: 1y }")).contains("`1y` is no value"));
    let late = test("{ metric: p95, values: 1 }") + "    expect: [{ at: 366d, firing: [] }]\n";
    assert!(fault(&late).contains("are more than the 100000"));
    assert!(fault(&"#".repeat(2 << 20)).contains("larger than 1MiB"));
}
