//! The text at `/metrics`. Numbers are read from our own atomics; the `prometheus` crate only encodes. One family is
//! built, encoded and dropped at a time, so that a scrape of many series needs little memory at once.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus::{
    Encoder as _, TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    cache_stats::Tier,
    counters::{DurationSums, Durations},
    hub::Telemetry,
    listener::{Listener, ListenerStats},
    metrics::{self, Family, Type, bounds_seconds},
    record::{CacheStatus, HitSource, Kind, Method, Reason},
    routes::{Active, RouteStats},
    snapshot::CacheEvents,
    upstream::UpstreamStats,
};

mod claude;

impl Telemetry {
    /// Every metric in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let mut text = Text::default();
        self.write_ingress(&mut text);
        self.write_listeners(&mut text);
        self.write_cache(&mut text);
        self.write_redis(&mut text);
        if let Some(stats) = self.claude() {
            claude::write(&stats, &mut text);
        }
        self.write_upstreams(&mut text);
        self.write_process(&mut text);
        text.out
    }

    fn write_ingress(&self, text: &mut Text) {
        let routes = self.active_routes();
        let active = || routes.iter().filter_map(|route| Some((route.as_ref(), route.active()?)));
        text.family(&metrics::INGRESS_REQUESTS, |samples| {
            active().for_each(|(route, active)| requests(samples, route, active));
        });
        text.family(&metrics::INGRESS_DURATION, |samples| {
            active().for_each(|(route, active)| durations(samples, route, active));
        });
        text.family(&metrics::INGRESS_FIRST_BYTE, |samples| {
            for (route, active) in active() {
                for lane in active.lanes() {
                    let labels = [route.template(), lane.method.as_str(), lane.kind.as_str()];
                    samples.durations(&labels, &lane.first_byte);
                }
            }
        });
        text.family(&metrics::INGRESS_SLOW_AFTER, |samples| {
            for (route, active) in active() {
                let mut methods: Vec<_> = active.lanes().iter().map(|lane| lane.method).collect();
                methods.sort_by_key(|method| method.index());
                methods.dedup();
                for method in methods {
                    let seconds = f64::from(route.slow_after_us(method)) / 1e6;
                    samples.value(&[route.template(), method.as_str()], seconds);
                }
            }
        });
        text.count(&metrics::INGRESS_SLOW, self.slow_total.get());
        for (family, received) in
            [(&metrics::INGRESS_REQUEST_BYTES, true), (&metrics::INGRESS_RESPONSE_BYTES, false)]
        {
            text.family(family, |samples| {
                for (route, active) in active() {
                    let bytes = if received { &active.bytes_in } else { &active.bytes_out };
                    samples.count_if_any(&[route.template()], bytes.get());
                }
            });
        }
    }

    fn write_listeners(&self, text: &mut Text) {
        type Read = fn(&ListenerStats) -> f64;
        let families: [(&Family, Read); 6] = [
            (&metrics::NET_CONNECTIONS, |stats| signed(stats.connections.get())),
            (&metrics::NET_ACCEPTED, |stats| float(stats.accepted.get())),
            (&metrics::NET_TURNED_AWAY, |stats| float(stats.turned_away.get())),
            (&metrics::NET_IN_FLIGHT, |stats| signed(stats.in_flight.get())),
            (&metrics::NET_UPGRADES, |stats| signed(stats.upgrades.get())),
            (&metrics::NET_UNDERSCORES_DROPPED, |stats| float(stats.underscores_dropped.get())),
        ];
        for (family, read) in families {
            text.family(family, |samples| {
                for listener in Listener::ALL {
                    samples.value(&[listener.as_str()], read(&self.listener(listener)));
                }
            });
        }
        text.family(&metrics::NET_REFUSALS, |samples| {
            for listener in Listener::ALL {
                for (reason, count) in self.listener(listener).refusals.all() {
                    samples.count(&[listener.as_str(), reason], count);
                }
            }
        });
    }

    fn write_cache(&self, text: &mut Text) {
        let routes = self.active_routes();
        let active = || routes.iter().filter_map(|route| Some((route.template(), route.active()?)));
        text.family(&metrics::CACHE_LOOKUPS, |samples| {
            for (template, active) in active() {
                let events = CacheEvents::of(&active.cache.totals());
                for status in CacheStatus::ALL {
                    let count = match status {
                        CacheStatus::Hit => events.hits() - events.stale(),
                        CacheStatus::Miss => events.missed,
                        CacheStatus::Stale => events.stale(),
                        CacheStatus::Revalidated => events.revalidated,
                        CacheStatus::Bypass => continue,
                    };
                    samples.count_if_any(&[template, status.as_str()], count);
                }
            }
        });
        text.family(&metrics::CACHE_HITS, |samples| {
            for (template, active) in active() {
                let events = CacheEvents::of(&active.cache.totals());
                for (source, count) in HitSource::ALL.into_iter().zip(events.sources) {
                    samples.count_if_any(&[template, source.as_str()], count);
                }
            }
        });
        text.family(&metrics::CACHE_REASONS, |samples| {
            for (template, active) in active() {
                for (reason, count) in Reason::ALL.into_iter().zip(&active.reasons) {
                    samples.count_if_any(&[template, reason.as_str()], count.get());
                }
            }
        });
        text.family(&metrics::CACHE_WOULD_HITS, |samples| {
            for (template, active) in active() {
                samples.count_if_any(&[template], active.would_hits.get());
            }
        });
        if let Some(sizes) = self.cache_sizes() {
            text.gauge(&metrics::CACHE_ENTRIES, float(sizes.entries));
            text.gauge(&metrics::CACHE_BYTES, float(sizes.bytes));
            text.gauge(&metrics::CACHE_MAX_BYTES, float(sizes.bytes_max));
            text.family(&metrics::CACHE_EVICTIONS, |samples| {
                samples.count(&[Tier::Memory.as_str()], sizes.evictions);
            });
            text.gauge(&metrics::CACHE_FILLS, float(sizes.fills));
            text.gauge(&metrics::CACHE_WAITERS, float(sizes.followers));
        }
        text.family(&metrics::CACHE_OPERATIONS, |samples| {
            for (tier, operation, stats) in self.operations.all() {
                samples.durations(&[tier.as_str(), operation.as_str()], &stats.durations);
            }
        });
    }

    fn write_redis(&self, text: &mut Text) {
        let Some(stats) = self.redis() else { return };
        text.gauge(&metrics::CACHE_REDIS_UP, f64::from(u8::from(stats.is_up())));
        text.count(&metrics::CACHE_REDIS_LOSSES, stats.losses());
        text.family(&metrics::CACHE_REDIS_ERRORS, |samples| {
            stats.errors().for_each(|(fault, count)| samples.count(&[fault.as_str()], count));
        });
        text.family(&metrics::CACHE_VALUES_REJECTED, |samples| {
            stats.rejections().for_each(|(fault, count)| samples.count(&[fault.as_str()], count));
        });
        text.family(&metrics::CACHE_REDIS_DROPPED, |samples| {
            stats.drops().for_each(|(cause, count)| samples.count(&[cause.as_str()], count));
        });
        text.gauge(&metrics::CACHE_REDIS_PENDING, signed(stats.pending.get()));
        text.gauge(&metrics::CACHE_REDIS_PURGES, signed(stats.pending_purges.get()));
        text.family(&metrics::CACHE_REDIS_BYTES, |samples| {
            samples.count(&["read"], stats.bytes_read.get());
            samples.count(&["written"], stats.bytes_written.get());
        });
    }

    fn write_upstreams(&self, text: &mut Text) {
        type Read = fn(&UpstreamStats) -> Option<f64>;
        let families: [(&Family, Read); 11] = [
            (&metrics::UPSTREAM_UP, |stats| stats.is_up().map(|up| f64::from(u8::from(up)))),
            (&metrics::UPSTREAM_BREAKER, |stats| Some(f64::from(stats.breaker() as u8))),
            (&metrics::UPSTREAM_BREAKER_OPENED, |stats| Some(float(stats.breaker_opened()))),
            (&metrics::UPSTREAM_CONNECTS, |stats| Some(float(stats.connects.get()))),
            (&metrics::UPSTREAM_REUSED, |stats| Some(float(stats.reused.get()))),
            (&metrics::UPSTREAM_RETRIES, |stats| Some(float(stats.retries.get()))),
            (&metrics::UPSTREAM_RETRIES_DENIED, |stats| Some(float(stats.retries_denied.get()))),
            (&metrics::UPSTREAM_INTERIM_DROPPED, |stats| Some(float(stats.interim_dropped.get()))),
            (&metrics::UPSTREAM_IN_FLIGHT, |stats| Some(signed(stats.in_flight.get()))),
            (&metrics::UPSTREAM_QUEUED, |stats| Some(signed(stats.queued.get()))),
            (&metrics::UPSTREAM_IDLE, |stats| Some(signed(stats.idle.get()))),
        ];
        let upstreams = self.upstreams.read().clone();
        for (family, read) in families {
            text.family(family, |samples| {
                for stats in &upstreams {
                    if let Some(value) = read(stats) {
                        samples.value(&[stats.name()], value);
                    }
                }
            });
        }
        text.family(&metrics::UPSTREAM_ERRORS, |samples| {
            for stats in &upstreams {
                for (reason, count) in stats.errors.all() {
                    samples.count(&[stats.name(), reason], count);
                }
            }
        });
        text.family(&metrics::UPSTREAM_CONNECT_TIME, |samples| {
            upstreams.iter().for_each(|stats| samples.durations(&[stats.name()], &stats.connect_time));
        });
        text.family(&metrics::UPSTREAM_QUEUE_WAIT, |samples| {
            upstreams.iter().for_each(|stats| samples.durations(&[stats.name()], &stats.queue_wait));
        });
    }

    fn write_process(&self, text: &mut Text) {
        let config = self.config_state();
        text.gauge(&metrics::CONFIG_SUCCESSFUL, f64::from(u8::from(config.rejected_since.is_none())));
        text.gauge(&metrics::CONFIG_RESTART_PENDING, f64::from(u8::from(!config.needs_restart.is_empty())));
        text.gauge(&metrics::CONFIG_LOADED, unix_seconds(config.loaded));
        text.family(&metrics::CONFIG_RELOADS, |samples| {
            samples.count(&["accepted"], self.reloads_accepted.get());
            samples.count(&["rejected"], self.reloads_rejected.get());
        });
        text.family(&metrics::CONFIG_INFO, |samples| samples.value(&[&config.hash], 1.0));
        text.gauge(&metrics::TELEMETRY_SERIES, float(self.budget.used()));
        text.count(&metrics::TELEMETRY_DROPPED, self.budget.dropped.get());
        text.count(&metrics::TELEMETRY_LINES, self.access_log.written.get());
        text.count(&metrics::TELEMETRY_LINES_DROPPED, self.access_log.dropped.get());
        self.write_exports(text);
        self.write_alerts(text);
        text.gauge(&metrics::PROCESS_START, unix_seconds(self.started_at()));
        text.family(&metrics::BUILD_INFO, |samples| samples.value(&[self.facts().version], 1.0));
    }
}

impl Telemetry {
    fn write_exports(&self, text: &mut Text) {
        let Some(counts) = self.exports.get() else { return };
        text.family(&metrics::TELEMETRY_SPANS, |samples| {
            samples.count(&["sent"], counts.sent.get());
            samples.count(&["dropped"], counts.dropped.get());
        });
        text.count(&metrics::TELEMETRY_EXPORTS_FAILED, counts.failed.get());
    }

    fn write_alerts(&self, text: &mut Text) {
        let board = &self.alerts;
        if !board.is_open() {
            return;
        }
        text.family(&metrics::TELEMETRY_ALERTS, |samples| {
            for (severity, state, count) in board.counts() {
                samples.count(&[severity.as_str(), state.as_str()], count);
            }
        });
        text.count(&metrics::TELEMETRY_ALERTS_DROPPED, board.dropped.get());
        let channels = board.channels();
        text.family(&metrics::TELEMETRY_NOTIFICATIONS, |samples| {
            for channel in &channels {
                for (outcome, count) in channel.outcomes() {
                    samples.count(&[channel.name(), outcome.as_str()], count);
                }
            }
        });
        text.family(&metrics::TELEMETRY_NOTIFICATIONS_PENDING, |samples| {
            for channel in &channels {
                samples.count(&[channel.name()], u64::try_from(channel.queued()).unwrap_or(u64::MAX));
            }
        });
    }
}

/// Cells differ by kind too, which is no label here.
fn requests(samples: &mut Samples, route: &RouteStats, active: &Active) {
    let mut counts = BTreeMap::new();
    for cell in active.cells() {
        let key = (cell.key.method.index(), cell.key.status, cell.key.cache.index());
        let sum = counts.entry(key).or_insert((cell.key, 0));
        sum.1 += cell.durations.count();
    }
    for (key, count) in counts.into_values() {
        let status = if key.status < 10 { format!("{}xx", key.status) } else { key.status.to_string() };
        samples.count(&[route.template(), key.method.as_str(), &status, key.cache.as_str()], count);
    }
}

fn durations(samples: &mut Samples, route: &RouteStats, active: &Active) {
    let mut sums: BTreeMap<_, (Method, Kind, DurationSums)> = BTreeMap::new();
    for cell in active.cells() {
        let class = if cell.key.status < 10 { cell.key.status } else { cell.key.status / 100 };
        let key = (cell.key.method.index(), class, cell.key.kind.index());
        let entry = sums.entry(key).or_insert((cell.key.method, cell.key.kind, DurationSums::default()));
        cell.durations.add_to(&mut entry.2);
    }
    for ((_, class, _), (method, kind, sums)) in sums {
        samples.histogram(&[route.template(), method.as_str(), &format!("{class}xx"), kind.as_str()], &sums);
    }
}

/// The text as far as it is written.
#[derive(Default)]
struct Text {
    out: String,
}

impl Text {
    /// Writes one family, unless `fill` finds nothing.
    fn family(&mut self, family: &'static Family, fill: impl FnOnce(&mut Samples)) {
        let mut samples = Samples { family, metrics: Vec::new() };
        fill(&mut samples);
        if samples.metrics.is_empty() {
            return;
        }
        let mut encoded = MetricFamily::default();
        encoded.set_name(family.name.to_owned());
        encoded.set_help(family.help.to_owned());
        encoded.set_field_type(match family.kind {
            Type::Counter => MetricType::COUNTER,
            Type::Gauge => MetricType::GAUGE,
            Type::Histogram => MetricType::HISTOGRAM,
        });
        encoded.set_metric(samples.metrics);
        let mut bytes = Vec::new();
        // Writing to memory fails only for a family without samples.
        if TextEncoder::new().encode(&[encoded], &mut bytes).is_ok() {
            self.out.push_str(str::from_utf8(&bytes).unwrap_or_default());
        }
    }

    fn gauge(&mut self, family: &'static Family, value: f64) {
        self.family(family, |samples| samples.value(&[], value));
    }

    fn count(&mut self, family: &'static Family, count: u64) {
        self.family(family, |samples| samples.count(&[], count));
    }
}

/// The samples of one family.
struct Samples {
    family: &'static Family,
    metrics: Vec<Metric>,
}

impl Samples {
    fn metric(&self, labels: &[&str]) -> Metric {
        let pairs = self.family.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }

    fn value(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.metric(labels);
        if self.family.kind == Type::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    fn count(&mut self, labels: &[&str], count: u64) {
        self.value(labels, float(count));
    }

    fn count_if_any(&mut self, labels: &[&str], count: u64) {
        if count > 0 {
            self.count(labels, count);
        }
    }

    fn durations(&mut self, labels: &[&str], durations: &Durations) {
        let mut sums = DurationSums::default();
        durations.add_to(&mut sums);
        self.histogram(labels, &sums);
    }

    fn histogram(&mut self, labels: &[&str], sums: &DurationSums) {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(sums.buckets.len() - 1);
        for (bound, in_bucket) in bounds_seconds().zip(sums.buckets) {
            count += in_bucket;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(sums.buckets.iter().sum());
        histogram.set_sample_sum(float(sums.sum_us) / 1e6);
        let mut metric = self.metric(labels);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }
}

#[expect(clippy::cast_precision_loss, reason = "the text format knows only floats")]
const fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "the text format knows only floats")]
const fn signed(value: i64) -> f64 {
    value as f64
}

fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
