//! What is counted about every request.

use std::{io, time::Duration};

use divan::Bencher;
use tokio::time::Instant;
use touchline::{
    config,
    telemetry::{CacheStatus, Facts, HitSource, Method, Record, Telemetry},
};

use crate::BATCH;

/// Taking the record of a hit: counters, histogram, windows, chart, and the access log's decision to sample it.
#[divan::bench(sample_size = BATCH)]
fn finish(bencher: Bencher<'_, '_>) {
    let telemetry =
        Telemetry::new(&config::Telemetry::default(), Facts::default(), Some(Box::new(io::sink())));
    let route = telemetry.route("/api/user/reputation/{user_id}", Duration::from_secs(2));
    let record = || Record {
        status: 200,
        cache: CacheStatus::Hit,
        source: Some(HitSource::Memory),
        bytes_out: 2048,
        ..Record::new(route.clone(), Method::Get, Instant::now())
    };

    bencher.with_inputs(record).bench_local_values(|record| telemetry.finish(record, 90, 120));
}
