//! Delivery under paused time: a receiver that is away, slow, full or unwilling.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Channel, ChannelState, Clock, Outcome, Post, PostError, Posting, QUEUE, Sender};
use crate::{
    config::{AlertSeverity, ReceiverKind},
    telemetry::alerts::notice::{Message, Notice, Status},
};

/// A receiver that answers by a script.
struct Receiver<F> {
    answer: F,
    tries: AtomicU64,
    taken: Mutex<Vec<(String, String)>>,
}

impl<F: Fn(u64, &str) -> Option<Result<(), PostError>> + Send + Sync + 'static> Post for Receiver<F> {
    fn post<'a>(&'a self, body: Bytes, id: &'a str) -> Posting<'a> {
        Box::pin(async move {
            let text = String::from_utf8(body.to_vec()).unwrap();
            let Some(answer) = (self.answer)(self.tries.fetch_add(1, SeqCst), &text) else {
                return std::future::pending().await;
            };
            if answer.is_ok() {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                self.taken.lock().push((id.to_owned(), value["groupLabels"]["alertname"].to_string()));
            }
            answer
        })
    }
}

fn receiver<F: Fn(u64, &str) -> Option<Result<(), PostError>>>(answer: F) -> Arc<Receiver<F>> {
    Arc::new(Receiver { answer, tries: AtomicU64::new(0), taken: Mutex::default() })
}

fn channel(post: Arc<dyn Post>) -> Arc<Channel> {
    let names = ("hook", ReceiverKind::Webhook, AlertSeverity::Info);
    Arc::new(Channel::new(names, Sender::default(), post, Clock::now()))
}

fn message(number: usize) -> Message {
    let notice = Notice {
        id: Arc::from("id"),
        rule: Arc::from(format!("rule{number}")),
        severity: AlertSeverity::Warning,
        labels: std::collections::BTreeMap::new(),
        status: Status::Firing,
        text: String::new(),
        value: String::new(),
        threshold: String::new(),
        since_ms: 0,
        fired_ms: Some(0),
        resolved_ms: None,
        reason: None,
        is_flapping: false,
    };
    Message { rule: Some(Arc::clone(&notice.rule)), notices: vec![Arc::new(notice)] }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("\"rule{number}\"")).collect()
}

/// Runs the channel for so long.
async fn run(channel: &Channel, time: Duration) {
    let _ = tokio::time::timeout(time, channel.run(std::future::pending())).await;
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_away_for_five_minutes_loses_nothing_and_gets_nothing_twice() {
    let start = Instant::now();
    let back = move || start.elapsed() >= Duration::from_secs(300);
    let receiver =
        receiver(move |_, _| Some(if back() { Ok(()) } else { Err(PostError::Unreachable("refused")) }));
    let channel = channel(Arc::clone(&receiver) as Arc<dyn Post>);
    (0..30).for_each(|number| channel.offer(message(number)));

    run(&channel, Duration::from_secs(299)).await;
    assert_eq!((channel.queued(), channel.view().state), (30, ChannelState::Failing));
    assert_eq!(channel.view().last_error.as_deref(), Some("no answer: refused"));
    run(&channel, Duration::from_secs(70)).await;

    let taken = receiver.taken.lock().clone();
    assert_eq!(taken.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>(), names(30));
    let ids: std::collections::HashSet<_> = taken.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids.len(), 30);
    let view = channel.view();
    assert_eq!((view.state, view.delivered, view.lost, view.queued), (ChannelState::Ok, 30, 0, 0));
    assert!(view.last_error.is_none() && view.last_success.is_some());
}

#[tokio::test(start_paused = true)]
async fn rests_grow_from_one_second_to_sixty() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let (seen, start) = (Arc::clone(&times), Instant::now());
    let receiver = receiver(move |_, _| {
        seen.lock().push(start.elapsed().as_secs());
        Some(Err(PostError::Status(503)))
    });
    let channel = channel(receiver);
    channel.offer(message(0));

    run(&channel, Duration::from_secs(250)).await;

    assert_eq!(*times.lock(), [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_gets_ten_seconds() {
    let receiver = receiver(|nth, _| (nth > 0).then_some(Ok(())));
    let channel = channel(Arc::clone(&receiver) as Arc<dyn Post>);
    channel.offer(message(0));

    run(&channel, Duration::from_secs(10) + Duration::from_millis(10)).await;
    assert_eq!(channel.view().last_error.as_deref(), Some("no answer: it took longer than 10 s"));
    run(&channel, Duration::from_secs(2)).await;

    assert_eq!(receiver.taken.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_dropped_and_the_next_one_goes_on() {
    for (status, is_final) in
        [(400, true), (404, true), (410, true), (408, false), (429, false), (500, false)]
    {
        let receiver =
            receiver(move |nth, _| Some(if nth == 0 { Err(PostError::Status(status)) } else { Ok(()) }));
        let channel = channel(Arc::clone(&receiver) as Arc<dyn Post>);
        (0..2).for_each(|number| channel.offer(message(number)));

        run(&channel, Duration::from_secs(5)).await;

        let taken = receiver.taken.lock().len();
        let view = channel.view();
        assert_eq!((taken, view.lost), if is_final { (1, 1) } else { (2, 0) }, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_its_oldest_message_and_counts_it() {
    let receiver = receiver(|_, _| Some(Ok(())));
    let channel = channel(Arc::clone(&receiver) as Arc<dyn Post>);
    (0..QUEUE + 3).for_each(|number| channel.offer(message(number)));
    assert_eq!(channel.queued(), QUEUE);

    run(&channel, Duration::from_secs(5)).await;

    assert_eq!(receiver.taken.lock()[0].1, "\"rule3\"");
    let lost = channel.outcomes().find(|(outcome, _)| *outcome == Outcome::Lost);
    assert_eq!((lost, channel.view().lost), (Some((Outcome::Lost, 3)), 3));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_while_nothing_waits_is_sent_at_once() {
    let receiver = receiver(|_, _| Some(Ok(())));
    let channel = channel(Arc::clone(&receiver) as Arc<dyn Post>);
    assert_eq!(channel.view().state, ChannelState::Idle);
    let late = async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        channel.offer(message(0));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(receiver.taken.lock().len(), 1);
    };

    tokio::join!(run(&channel, Duration::from_secs(200)), late);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_waits_is_sent_within_a_second() {
    let good = receiver(|_, _| Some(Ok(())));
    let channel_good = channel(Arc::clone(&good) as Arc<dyn Post>);
    (0..5).for_each(|number| channel_good.offer(message(number)));
    channel_good.run(std::future::ready(())).await;
    assert_eq!(good.taken.lock().len(), 5);

    for answer in [None, Some(Err(PostError::Unreachable("refused")))] {
        let bad = receiver(move |_, _| answer.clone());
        let channel_bad = channel(bad);
        channel_bad.offer(message(0));
        let start = Instant::now();

        channel_bad.run(std::future::ready(())).await;

        assert!(start.elapsed() <= Duration::from_secs(1));
    }
}
