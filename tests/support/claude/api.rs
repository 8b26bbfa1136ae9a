//! The API's endpoints: which request gets which answer. Scripts are applied here, the control paths are in `control`.

use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    answer::{self, Task},
    control,
    delivery::{self, Answer, Payload, Plan},
    events,
    failure::{Failure, kind_of},
    fields::{self, Dialect},
    limits,
    models::Model,
    others,
    prompt::{self, Unit},
    script::Behaviour,
    state::{Recorded, State},
    text::{Dice, Digest, digest, hex},
    thinking::{self, Reader},
    turns,
};

/// The largest body, as the API has it.
pub(crate) const MAX_BODY: usize = 32 * 1024 * 1024;

/// Limits per minute that the rate-limit headers tell: requests, input tokens, output tokens.
const LIMITS: [u64; 3] = [4000, 2_000_000, 400_000];

/// What is known of a request besides its body.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The request.
    pub(crate) request: &'a Recorded,
    /// Version and betas.
    pub(crate) dialect: Dialect,
    /// A digest of the credential.
    pub(crate) account: String,
    /// The script.
    pub(crate) script: Behaviour,
    /// The number of the answer.
    pub(crate) nth: u64,
}

/// The content of a good answer and what it spent.
#[derive(Debug)]
pub(crate) struct Content {
    /// The content.
    pub(crate) payload: Payload,
    /// The family of the model, its input tokens that count for limits, its output tokens.
    pub(crate) spent: Option<(&'static str, u64, u64)>,
}

impl Content {
    /// A JSON body that spends nothing.
    pub(crate) fn json(value: &Value) -> Self {
        Self { payload: Payload::Whole(value.to_string().into_bytes()), spent: None }
    }
}

/// Decides on everything that is sent for a request.
pub(crate) fn respond(state: &State, request: &Recorded) -> Plan {
    if let Some(answer) = control::respond(state, request) {
        return delivery::plan(answer, &Behaviour::default(), "", false);
    }
    let nth = state.next_number();
    let request_id = Dice::new(state.settings.seed, &[b"request", &nth.to_le_bytes()]).id("req_");
    let model = request.json().get("model").and_then(Value::as_str).map(str::to_owned);
    let script = match request.header("x-fake-script") {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| format!("x-fake-script: {error}"))
            .and_then(Behaviour::from_json),
        None => Ok(state.take_script(request.path(), model.as_deref()).unwrap_or_default()),
    };
    let script = match script {
        Ok(script) => script,
        Err(problem) => {
            let body = Failure::invalid(problem).body(&request_id);
            let answer = whole(400, head(state, &request_id, None), &body);
            return delivery::plan(answer, &Behaviour::default(), "", false);
        }
    };
    let accepts = request.header("accept-encoding").unwrap_or_default().to_owned();
    let answer = match answer_of(state, request, &script, nth) {
        Ok(content) => {
            let mut headers = head(state, &request_id, content.spent);
            let is_stream = matches!(content.payload, Payload::Events(_));
            let kind = if is_stream { "text/event-stream; charset=utf-8" } else { "application/json" };
            headers.push(("Content-Type".to_owned(), kind.to_owned()));
            if is_stream {
                headers.push(("Cache-Control".to_owned(), "no-cache".to_owned()));
            }
            Answer { status: 200, headers, payload: content.payload }
        }
        Err(failure) => {
            let mut answer =
                whole(failure.status, head(state, &request_id, None), &failure.body(&request_id));
            if failure.status >= 429 {
                // A client's own limit is final; everything else of this kind is worth another try.
                let is_final = failure.details.is_some();
                answer.headers.push(("x-should-retry".to_owned(), (!is_final).to_string()));
            }
            if let Some(body) = &script.body {
                answer.payload = Payload::Whole(body.clone().into_bytes());
            }
            answer
        }
    };
    delivery::plan(answer, &script, &accepts, state.settings.real_speed)
}

fn whole(status: u16, mut headers: Vec<(String, String)>, body: &Value) -> Answer {
    headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    Answer { status, headers, payload: Payload::Whole(body.to_string().into_bytes()) }
}

/// The fields that every answer has.
fn head(state: &State, request_id: &str, spent: Option<(&'static str, u64, u64)>) -> Vec<(String, String)> {
    let now = OffsetDateTime::from(state.today());
    let reset = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
    let used = match spent {
        Some((family, input, output)) => state.spend(family, input, output),
        None => [0; 3],
    };
    let [requests, input, output] = [0, 1, 2].map(|i: usize| {
        let limit = LIMITS.get(i).copied().unwrap_or(0);
        (limit, limit.saturating_sub(used.get(i).copied().unwrap_or(0)))
    });
    let both = (input.0 + output.0, input.1 + output.1);
    let mut headers = vec![
        ("Date".to_owned(), others::http_date(now)),
        ("request-id".to_owned(), request_id.to_owned()),
        ("anthropic-organization-id".to_owned(), "5a6e2f0c-fa4e-4c1a-8d0e-000000000001".to_owned()),
    ];
    for (name, (limit, remaining)) in
        [("requests", requests), ("tokens", both), ("input-tokens", input), ("output-tokens", output)]
    {
        headers.push((format!("anthropic-ratelimit-{name}-limit"), limit.to_string()));
        headers.push((format!("anthropic-ratelimit-{name}-remaining"), remaining.to_string()));
        headers.push((format!("anthropic-ratelimit-{name}-reset"), reset.clone()));
    }
    headers
}

fn answer_of(state: &State, request: &Recorded, script: &Behaviour, nth: u64) -> Result<Content, Failure> {
    if let Some(status) = script.status {
        return Err(Failure {
            status,
            kind: script.error.clone().unwrap_or_else(|| kind_of(status).to_owned()),
            message: script.message.clone().unwrap_or_else(|| format!("scripted {status}")),
            details: script.details.clone().map(Box::new),
        });
    }
    let account = credential(state, request)?;
    let dialect = dialect(request)?;
    if request.body.len() > MAX_BODY {
        return Err(Failure::new(413, "Request exceeds the maximum size"));
    }
    let call = Call { request, dialect, account, script: script.clone(), nth };
    match (request.method.as_str(), request.path()) {
        ("POST", "/v1/messages") => message(state, &call),
        ("POST", "/v1/messages/count_tokens") => count(state, &call),
        (_, "/v1/messages" | "/v1/messages/count_tokens") => Err(Failure::new(405, "Method Not Allowed")),
        _ => others::answer(state, &call),
    }
}

/// The digest of the credential; `x-api-key` goes before a bearer token.
fn credential(state: &State, request: &Recorded) -> Result<String, Failure> {
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let Some(key) = request.header("x-api-key").or(bearer).filter(|key| !key.trim().is_empty()) else {
        return Err(Failure::new(401, "x-api-key header is required"));
    };
    if !state.settings.keys.is_empty() && !state.settings.keys.iter().any(|known| known == key) {
        return Err(Failure::new(401, "invalid x-api-key"));
    }
    Ok(hex(&digest(&[key.as_bytes()])))
}

fn dialect(request: &Recorded) -> Result<Dialect, Failure> {
    let listed = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("anthropic-beta"));
    let betas = listed.flat_map(|(_, value)| value.split(',')).map(|beta| beta.trim().to_owned());
    let betas = betas.filter(|beta| !beta.is_empty()).collect();
    match request.header("anthropic-version") {
        Some("2023-06-01") => Ok(Dialect { is_new: false, betas }),
        Some("2026-10-21") => Ok(Dialect { is_new: true, betas }),
        Some(other) => {
            Err(Failure::invalid(format!("anthropic-version: \"{other}\" is not a valid version")))
        }
        None => Err(Failure::invalid("anthropic-version: header is required")),
    }
}

/// The body as a JSON object.
pub(crate) fn object(request: &Recorded) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Failure::invalid("Input should be a valid dictionary")),
        Err(error) => Err(Failure::invalid(format!("The request body is not valid JSON: {error}"))),
    }
}

/// A prompt that passed every check.
struct Checked<'a> {
    model: &'a Model,
    units: Vec<Unit>,
    digest: Digest,
}

impl Checked<'_> {
    fn tokens(&self) -> u64 {
        self.units.last().map_or(0, |unit| unit.upto)
    }
}

fn check<'a>(state: &'a State, call: &Call<'_>, body: &Map<String, Value>) -> Result<Checked<'a>, Failure> {
    turns::check(body, &call.dialect)?;
    let name = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let Some(model) = state.models.iter().find(|model| model.id == name) else {
        return Err(Failure::new(404, format!("model: {name}")));
    };
    limits::check(body, model)?;
    let parts = prompt::parts(body);
    let reader = Reader { model, account: &call.account, checks_prefix: state.settings.checks_prefix };
    let dropped = thinking::check(body, &parts, &reader, &call.dialect)?;
    let declared = call.request.header("x-fake-input-tokens").and_then(|text| text.parse().ok());
    let units = prompt::units(body, &parts, model, &dropped, declared);
    Ok(Checked { model, units, digest: prompt::prefix(&parts, None) })
}

fn message(state: &State, call: &Call<'_>) -> Result<Content, Failure> {
    let body = object(call.request)?;
    fields::check_message(&body, &call.dialect)?;
    let prompt = check(state, call, &body)?;
    limits::check_sizes(&body, prompt.model, prompt.tokens())?;
    let split = state.serve_cached(&call.account, prompt.model, &prompt.units);
    let message = answer::make(&Task {
        body: &body,
        model: prompt.model,
        settings: limits::effective(&body, prompt.model),
        split,
        prompt: prompt.digest,
        account: &call.account,
        behaviour: &call.script,
        seed: state.settings.seed,
        nth: call.nth,
    });
    let last = message.usage_deltas.last();
    let output = last.and_then(|usage| usage.get("output_tokens")).and_then(Value::as_u64).unwrap_or(0);
    let counted = split.input + split.write_5m + split.write_1h;
    let payload = if body.get("stream") == Some(&json!(true)) {
        let mut dice = Dice::new(state.settings.seed, &[b"stream", &prompt.digest]);
        Payload::Events(events::events(&message, &call.script, &mut dice))
    } else {
        Payload::Whole(message.json().to_string().into_bytes())
    };
    Ok(Content { payload, spent: Some((prompt.model.family, counted, output)) })
}

fn count(state: &State, call: &Call<'_>) -> Result<Content, Failure> {
    let body = object(call.request)?;
    fields::check_count(&body)?;
    let prompt = check(state, call, &body)?;
    Ok(Content::json(&json!({"input_tokens": prompt.tokens()})))
}
