//! What is written, what is left out, and that nothing waits.

use std::{
    io::{self, Write},
    sync::{Arc, mpsc},
    time::{Duration, UNIX_EPOCH},
};

use tokio::time::Instant;

use super::{AccessLog, Config, PathDetail, QUEUE, Sampler, write_string, write_timestamp};
use crate::telemetry::{
    CacheStatus, Capture, Fwd, Method, Outcome, Reason, Record, RouteStats, Trace, routes::Times,
};

fn record(status: u16) -> Record {
    let route = Arc::new(RouteStats::new("/coach/sessions/{user_id}", Duration::from_secs(2)));
    Record { status, ..Record::new(route, Method::Get, Instant::now()) }
}

const TIMES: Times = Times { tick: 0, head_us: 100_500, total_us: 139_207, basis_us: 139_207 };

fn lines(config: &Config, offer: impl FnOnce(&AccessLog)) -> Vec<serde_json::Value> {
    let capture = Capture::default();
    let log = AccessLog::new(config, Some(Box::new(capture.clone())));
    offer(&log);
    assert!(log.flush(Duration::from_secs(10)));
    capture.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_line_tells_route_cache_time_and_trace() {
    let trace = Trace::fresh().id;

    let lines = lines(&Config::default(), |log| {
        let fwd = Some(Fwd::UriMiss);
        let reason = Some(Reason::NoStore);
        let record = Record { cache: CacheStatus::Miss, fwd, reason, trace, bytes_out: 7, ..record(200) };
        log.offer(record, &TIMES, 1, false);
    });

    let line = &lines[0];
    assert_eq!(line["http.request.method"], "GET");
    assert_eq!(line["http.route"], "/coach/sessions/{user_id}");
    assert_eq!(line["http.response.status_code"], 200);
    assert_eq!(line["cache"], "miss");
    assert_eq!((&line["fwd"], &line["reason"]), (&"uri-miss".into(), &"no_store".into()));
    assert_eq!((line["ms"].as_f64(), line["head_ms"].as_f64()), (Some(139.207), Some(100.5)));
    assert_eq!(line["bytes_out"], 7);
    assert_eq!(line["trace_id"], trace.to_string());
    assert_eq!(line["sample_rate"], 1);
    assert!(line.get("url.path").is_none() && line.get("outcome").is_none());
}

#[test]
fn a_full_path_has_no_query_and_cannot_forge_a_line() {
    let config = Config { paths: PathDetail::Full, ..Config::default() };

    let lines = lines(&config, |log| {
        for path in ["/a/7f3a?token=canary", "/x{\"forged\":1}\u{85}\u{202e}#canary", &"/y".repeat(2000)] {
            log.offer(Record { path: path.parse().ok(), ..record(200) }, &TIMES, 1, false);
        }
    });

    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["url.path"], "/a/7f3a");
    assert_eq!(lines[1]["url.path"], "/x{\"forged\":1}\u{85}\u{202e}");
    assert_eq!(lines[2]["url.path"].as_str().unwrap().chars().count(), 1025);
    assert!(!format!("{lines:?}").contains("canary"));
}

#[test]
fn control_characters_are_escaped_in_the_bytes() {
    let mut out = String::new();

    write_string(&mut out, "a\u{7f}\u{9b}\n\u{1b}\u{2028}é".as_bytes());

    assert_eq!(out, "\"a\\u007f\\u009b\\u000a\\u001b\\u2028é\"");
}

#[test]
fn failures_and_slow_requests_are_never_sampled_away() {
    let config = Config { per_second: 1, ..Config::default() };

    let lines = lines(&config, |log| {
        for _ in 0..50 {
            log.offer(record(200), &TIMES, 1, false);
            log.offer(record(502), &TIMES, 1, false);
            log.offer(record(200), &TIMES, 1, true);
            log.offer(Record { outcome: Outcome::UpstreamAbort, ..record(200) }, &TIMES, 1, false);
        }
    });

    let count =
        |wanted: &dyn Fn(&serde_json::Value) -> bool| lines.iter().filter(|line| wanted(line)).count();
    assert_eq!(count(&|line| line["http.response.status_code"] == 502), 50);
    assert_eq!(count(&|line| line["slow"] == true), 50);
    assert_eq!(count(&|line| line["outcome"] == "upstream_abort"), 50);
    assert!(lines.len() < 150 + 10);
}

#[test]
fn sampled_lines_stand_for_all_requests() {
    let sampler = Sampler::new(50);
    for (second, requests) in [(1, 40), (2, 5000), (3, 5000), (4, 5000), (5, 30)] {
        let taken: Vec<_> = (0..requests).map(|_| sampler.take(second)).filter(|rate| *rate > 0).collect();

        let stands_for: u32 = taken.iter().sum();
        match second {
            1 => assert_eq!((taken.len(), stands_for), (40, 40)),
            // The burst is not known in advance: the lines thin out as it goes on.
            2 => assert!(taken.len() < 50 * 9 && taken[..50].iter().all(|rate| *rate == 1)),
            3 | 4 => assert!(taken.len() <= 50 && taken.len() >= 25, "{}", taken.len()),
            _ => {}
        }
        if second < 5 {
            assert!(
                stands_for.abs_diff(requests) <= requests / 5,
                "second {second}: {stands_for} for {requests}"
            );
        }
    }
    assert_eq!((0..30).map(|_| sampler.take(7)).sum::<u32>(), 30);
    assert_eq!(Sampler::new(0).take(1), 0);
}

#[test]
fn a_writer_that_hangs_drops_lines_and_delays_nobody() {
    struct Hanging(mpsc::Receiver<()>);
    impl Write for Hanging {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (release, hanging) = mpsc::channel();
    let log = AccessLog::new(&Config::default(), Some(Box::new(Hanging(hanging))));
    log.offer(record(500), &TIMES, 1, false);
    let started = Instant::now();

    for _ in 0..3 * QUEUE {
        log.offer(record(500), &TIMES, 1, false);
    }

    assert!(log.dropped.get() > 0);
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(!log.flush(Duration::from_millis(20)));
    drop(release);
}

#[test]
fn nothing_is_written_when_switched_off() {
    let config = Config { enabled: false, ..Config::default() };

    assert!(lines(&config, |log| log.offer(record(500), &TIMES, 1, true)).is_empty());
}

#[test]
fn it_is_switched_on_and_off_while_it_is_in_use() {
    let off = Config { enabled: false, ..Config::default() };

    let lines = lines(&off, |log| {
        log.offer(record(500), &TIMES, 1, false);
        log.apply(&Config { paths: PathDetail::Full, ..Config::default() });
        log.offer(Record { path: "/a".parse().ok(), ..record(501) }, &TIMES, 1, false);
        log.apply(&off);
        log.offer(record(502), &TIMES, 1, false);
    });

    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["http.response.status_code"], &lines[0]["url.path"]), (&501.into(), &"/a".into()));
}

#[test]
fn timestamps_are_utc_with_milliseconds() {
    let mut out = String::new();

    write_timestamp(&mut out, UNIX_EPOCH + Duration::from_millis(1_795_442_753_066));

    assert_eq!(out, "2026-11-23T14:05:53.066Z");
}
