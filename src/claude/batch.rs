//! `POST /v1/messages/batches`: with `rewrite.batches: route` each call of a batch gets the model that it would get by
//! itself, and not another byte is changed.
//!
//! A batch is answered within a day, in a file that passes unread. So its tokens and cost are not counted and nothing is
//! reserved for them, no conversation is remembered, and no breakpoint is set, as nobody knows what will be warm then. A
//! conversation that is known keeps its model here too. The judge is not asked. A batch that was changed and refused is
//! sent as it came; one that fails otherwise is not repeated, as it may have been begun.

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::Response;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Core,
    asked::{self, Asked, Whole},
    books::Journal,
    error::CallError,
    message::Message,
    outgoing::Changes,
    pipeline::{Begun, Changed, received, refused, send_changed, send_once},
    plan::{Case, decide_call},
    rules::Rules,
    splice::place_in,
};
use crate::{
    config::{Batches, ClaudeMode},
    net::{Answer, Body},
};

/// Calls of one batch that are looked at; those behind them keep their model.
const MOST_CALLS: usize = 10_000;

/// Calls that are decided before the worker looks at what else there is to do.
const AT_ONCE: usize = 16;

/// Serves a batch.
pub(super) async fn serve(
    core: &Arc<Core>,
    rules: &Arc<Rules>,
    begun: &Begun,
    body: Body,
) -> Answer<Journal> {
    core.claude.stats.note(|totals| totals.not_counted += 1);
    let journal = Journal::new(core, None);
    let is_routed = rules.config.rewrite.batches == Batches::Route
        && rules.route_at(begun.route).mode == ClaudeMode::Route;
    let answered =
        if is_routed { route(core, rules, begun, body).await } else { send_once(core, begun, body).await };
    match answered {
        Ok(response) => Answer::new(response, journal),
        Err(error) => refused(core, &error, journal),
    }
}

async fn route(
    core: &Arc<Core>,
    rules: &Arc<Rules>,
    begun: &Begun,
    body: Body,
) -> Result<Response<Body>, CallError> {
    let own = match asked::whole(body, &begun.head, &rules.config.inspect).await {
        Ok(Whole::Bytes(bytes)) => bytes,
        Ok(Whole::Unread(body, _)) => return send_once(core, begun, body).await,
        Err(error) => return Err(received(error).await),
    };
    let Some(body) = rewrite(core, rules, begun, &own).await else {
        return send_once(core, begun, Body::full(own)).await;
    };
    send_changed(core, rules, begun, Changed { body, own, is_repeated: false }).await
}

/// The batch with other models; none where no call of it moves.
async fn rewrite(core: &Arc<Core>, rules: &Arc<Rules>, begun: &Begun, batch: &Bytes) -> Option<Bytes> {
    let mut changed = BytesMut::new();
    let (mut at, mut moved, mut kept, mut unread) = (0, 0, 0, 0);
    for (nth, span) in calls(batch).into_iter().enumerate() {
        if nth % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        let Some(span) = span else {
            unread += 1;
            continue;
        };
        match decided(core, rules, begun, batch.slice(span.clone())) {
            None => unread += 1,
            Some(None) => kept += 1,
            Some(Some(call)) => {
                changed.extend_from_slice(batch.get(at..span.start).unwrap_or_default());
                changed.extend_from_slice(&call);
                (at, moved) = (span.end, moved + 1);
            }
        }
    }
    core.claude.stats.note(|totals| {
        for (what, count) in [("moved", moved), ("kept", kept), ("unread", unread)] {
            *totals.batch_items.entry(what).or_default() += count;
        }
    });
    changed.extend_from_slice(batch.get(at..).unwrap_or_default());
    (moved > 0).then(|| changed.freeze())
}

/// One call of a batch for another model, where it moves; none at all where it cannot be read.
fn decided(core: &Arc<Core>, rules: &Arc<Rules>, begun: &Begun, body: Bytes) -> Option<Option<Bytes>> {
    let depth = usize::try_from(rules.config.inspect.depth).unwrap_or(usize::MAX);
    let message = Message::read(&body, depth).ok()?;
    let asked = Asked::new(body, message, &begun.head, &core.claude.key);
    let decision = decide_call(&Case { core, rules, begun, asked: &asked }, None).decision;
    let (model, transforms) = (decision.model, decision.transforms);
    let changes = Changes { model, transforms, ..Changes::default() };
    Some((!changes.is_none()).then(|| changes.apply(rules, &asked)))
}

/// The places of the calls in a batch; none where one has none. A batch that two readers may read as two has no calls here.
fn calls(batch: &Bytes) -> Vec<Option<std::ops::Range<usize>>> {
    // A list would be read as an object's members in their order.
    let is_object = batch.trim_ascii_start().starts_with(b"{");
    let read = serde_json::from_slice::<Batch<'_>>(batch).ok().filter(|_| is_object);
    let Some(read) = read else { return Vec::new() };
    let place = |item: &RawValue| {
        let text = Some(item.get()).filter(|text| text.starts_with('{'))?;
        let item: Item<'_> = serde_json::from_str(text).ok()?;
        place_in(batch, item.params.get())
    };
    read.requests.0.into_iter().map(place).collect()
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    requests: Items<'a>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    params: &'a RawValue,
}

/// The first items of a list.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;

        impl<'de> Visitor<'de> for First {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of calls")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut first = Vec::new();
                while let Some(item) = seq.next_element::<&'de RawValue>()? {
                    if first.len() < MOST_CALLS {
                        first.push(item);
                    }
                }
                Ok(first)
            }
        }

        deserializer.deserialize_seq(First).map(Items)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{MOST_CALLS, calls};

    fn found(batch: &str) -> Vec<Option<String>> {
        let batch = Bytes::copy_from_slice(batch.as_bytes());
        let text = |span: std::ops::Range<usize>| String::from_utf8(batch[span].to_vec()).unwrap();
        calls(&batch).into_iter().map(|span| span.map(text)).collect()
    }

    #[test]
    fn calls_are_found_where_they_stand() {
        let batch = r#" {"x":[{"params":1}], "requests" : [ {"params": {"model":"m","params":{}} ,"custom_id":"a"}, {"custom_id":"b"}, 5, {"params":7}, {"params":{},"params":{}} ] } "#;

        let found = found(batch);

        assert_eq!(
            found,
            [Some(r#"{"model":"m","params":{}}"#.to_owned()), None, None, Some("7".to_owned()), None]
        );
    }

    #[test]
    fn what_is_no_batch_has_no_calls() {
        let deep = format!(r#"{{"requests":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        for batch in [
            "",
            "[]",
            "{}",
            r#"{"requests":{}}"#,
            r#"{"requests":[],"requests":[{"params":{}}]}"#,
            "{\"requests\":[}",
            "\u{feff}{}",
        ] {
            assert!(found(batch).is_empty(), "{batch}");
        }
        assert_eq!(found(&deep), [None]);
    }

    #[test]
    fn no_more_calls_are_looked_at_than_may_be() {
        let batch = format!(r#"{{"requests":[{}0]}}"#, "0,".repeat(MOST_CALLS + 10));

        assert_eq!(found(&batch).len(), MOST_CALLS);
    }
}
