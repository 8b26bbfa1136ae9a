//! The pretended coaching backend: routes, honest waits, and how much time it spent on each route.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, DATE, SERVER},
};
use serde_json::{Value, json as document};
use tokio::time::{Instant, sleep};

use super::{answers, dice::Dice, words::Words};
use crate::cli::client::{Call, Client};
use crate::net::{Answer, Body, Context, Refusal, Service, problem};

/// A chat message is a few sentences; more is refused.
const MAX_MESSAGE: usize = 64 * 1024;

/// The model that the coach asks for, and what it is told.
const MODEL: &str = "claude-sonnet-5-5";
/// What every call to the API carries, beside a key.
const FIELDS: &str = "anthropic-version: 2023-06-01\r\nx-api-key: demo\r\n";
const SYSTEM: &str = "You are a warm, direct confidence coach. End with one small next step.";

/// The route templates, in the order of [`Backend`]'s time sheets.
const TEMPLATES: [&str; 9] = [
    "/api/challenges",
    "/api/user/reputation/{user_id}",
    "/api/session/{session_id}",
    "/api/session/{session_id}/confirm",
    "/coach/chat",
    "/coach/chat/stream",
    "/coach/sessions/{user_id}",
    "/health",
    "/openapi.json",
];

/// Answers like a `FastAPI` application that asks a database and a language model: right, and slow.
pub(super) struct Backend {
    dice: Dice,
    /// Where the coach's model is asked; without it the coach answers by itself.
    claude: Option<SocketAddr>,
    sheets: [TimeSheet; TEMPLATES.len()],
}

/// What one route has cost the backend so far.
#[derive(Default)]
struct TimeSheet {
    requests: AtomicU64,
    microseconds: AtomicU64,
}

impl Backend {
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), claude: None, sheets: std::array::from_fn(|_| TimeSheet::default()) }
    }

    /// The same, with a coach that asks a model.
    pub(super) fn asking(self, claude: SocketAddr) -> Self {
        Self { claude: Some(claude), ..self }
    }

    /// The mean time this backend needed for a request to `template`; `None` if it has not seen one.
    pub(super) fn mean(&self, template: &str) -> Option<Duration> {
        let place = TEMPLATES.iter().position(|known| *known == template)?;
        let sheet = self.sheets.get(place)?;
        let requests = sheet.requests.load(Ordering::Relaxed);
        let total = sheet.microseconds.load(Ordering::Relaxed);
        total.checked_div(requests).map(Duration::from_micros)
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let Some(operation) = Operation::of(head.uri.path()) else {
            return json(StatusCode::NOT_FOUND, &answers::detail("Not Found"));
        };
        if !operation.allows(&head.method) {
            return not_allowed(&operation);
        }
        let (low, high) = match (operation, self.claude) {
            // The model takes the time then.
            (Operation::Chat, Some(_)) => (4, 9),
            _ => operation.milliseconds(),
        };
        sleep(Duration::from_millis(self.dice.between(low, high))).await;
        let has_bearer = head.headers.get(AUTHORIZATION).is_some_and(is_bearer);
        let response = match operation {
            Operation::Challenges => challenges(head.uri.query()),
            Operation::Reputation(user) => json(StatusCode::OK, &answers::reputation(user)),
            Operation::Session(_) | Operation::Confirm(_) if !has_bearer => unauthorized(),
            Operation::Session(id) => json(StatusCode::OK, &answers::session(id)),
            Operation::Confirm(id) => json(StatusCode::OK, &answers::confirmed(id)),
            Operation::Chat => match Message::read(body).await {
                Ok(message) => self.chat(&message).await,
                Err(refusal) => refusal,
            },
            Operation::ChatStream => match Message::read(body).await {
                Ok(message) => stream(&message),
                Err(refusal) => refusal,
            },
            Operation::Sessions(user) => json(StatusCode::OK, &answers::sessions(user)),
            Operation::Health => json(StatusCode::OK, &answers::health()),
            Operation::OpenApi => text("application/json", include_str!("openapi.json")),
        };
        self.charge(operation, started.elapsed());
        response
    }

    /// Asks the model as the real application does: over HTTP, at the address in its `ANTHROPIC_BASE_URL`.
    async fn chat(&self, message: &Message) -> Response<Body> {
        let Some(claude) = self.claude else {
            return json(StatusCode::OK, &answers::chat(&message.user, &message.text));
        };
        let asked = document!({
            "model": MODEL,
            "max_tokens": 2048,
            "system": SYSTEM,
            "metadata": { "user_id": message.user },
            "messages": [{ "role": "user", "content": message.text }],
        });
        let call = Call::post("/v1/messages", asked.to_string()).with_fields(FIELDS);
        let reply = Client::new(claude).send(&call).await;
        let answer = reply.ok().filter(|reply| reply.status == 200);
        let answer = answer.and_then(|reply| serde_json::from_slice::<Value>(&reply.body).ok());
        match answer {
            Some(answer) => json(StatusCode::OK, &answers::asked(&message.user, &answer)),
            None => json(StatusCode::BAD_GATEWAY, &answers::detail("The coach's model does not answer")),
        }
    }

    fn charge(&self, operation: Operation<'_>, spent: Duration) {
        if let Some(sheet) = self.sheets.get(operation.place()) {
            let spent = u64::try_from(spent.as_micros()).unwrap_or(u64::MAX);
            sheet.requests.fetch_add(1, Ordering::Relaxed);
            sheet.microseconds.fetch_add(spent, Ordering::Relaxed);
        }
    }
}

impl Service for Backend {
    type Done = ();

    async fn call(&self, request: Request<Body>, _context: Context) -> Answer<()> {
        let mut response = self.answer(request).await;
        let date = answers::http_date().and_then(|text| HeaderValue::try_from(text).ok());
        if let Some(date) = date {
            response.headers_mut().insert(DATE, date);
        }
        response.headers_mut().insert(SERVER, HeaderValue::from_static("coach-backend"));
        Answer::new(response, ())
    }

    fn refuse(&self, refusal: Refusal, _context: Context) -> Answer<()> {
        Answer::new(problem::response(refusal), ())
    }
}

/// One route of the backend and the path parameter it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation<'a> {
    Challenges,
    Reputation(&'a str),
    Session(&'a str),
    Confirm(&'a str),
    Chat,
    ChatStream,
    Sessions(&'a str),
    Health,
    OpenApi,
}

impl<'a> Operation<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let found = match *segments.as_slice() {
            ["api", "challenges"] => Self::Challenges,
            ["api", "user", "reputation", user] if !user.is_empty() => Self::Reputation(user),
            ["api", "session", id] if !id.is_empty() => Self::Session(id),
            ["api", "session", id, "confirm"] if !id.is_empty() => Self::Confirm(id),
            ["coach", "chat"] => Self::Chat,
            ["coach", "chat", "stream"] => Self::ChatStream,
            ["coach", "sessions", user] if !user.is_empty() => Self::Sessions(user),
            ["health"] => Self::Health,
            ["openapi.json"] => Self::OpenApi,
            _ => return None,
        };
        Some(found)
    }

    fn allows(&self, method: &Method) -> bool {
        if self.is_write() { method == Method::POST } else { matches!(*method, Method::GET | Method::HEAD) }
    }

    fn is_write(&self) -> bool {
        matches!(self, Self::Chat | Self::ChatStream | Self::Confirm(_))
    }

    /// How long the route takes until its first byte, in milliseconds: what a database query or a model call costs.
    fn milliseconds(&self) -> (u64, u64) {
        match self {
            Self::Challenges => (60, 90),
            Self::Reputation(_) => (100, 180),
            Self::Session(_) => (20, 40),
            Self::Confirm(_) => (40, 80),
            Self::Chat => (800, 2_000),
            Self::ChatStream => (300, 700),
            Self::Sessions(_) => (30, 60),
            Self::Health => (8, 14),
            Self::OpenApi => (2, 4),
        }
    }

    /// The route's place in [`TEMPLATES`].
    fn place(&self) -> usize {
        match self {
            Self::Challenges => 0,
            Self::Reputation(_) => 1,
            Self::Session(_) => 2,
            Self::Confirm(_) => 3,
            Self::Chat => 4,
            Self::ChatStream => 5,
            Self::Sessions(_) => 6,
            Self::Health => 7,
            Self::OpenApi => 8,
        }
    }
}

/// What a user says to the coach.
struct Message {
    user: String,
    text: String,
}

impl Message {
    async fn read(body: Body) -> Result<Self, Response<Body>> {
        let unprocessable = |value: &Value| json(StatusCode::UNPROCESSABLE_ENTITY, value);
        let Ok(bytes) = body.collect(MAX_MESSAGE).await else {
            return Err(json(StatusCode::PAYLOAD_TOO_LARGE, &answers::detail("Message too long")));
        };
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
            return Err(unprocessable(&answers::invalid_json()));
        };
        let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let Some(text) = field("message") else {
            return Err(unprocessable(&answers::missing_field("message")));
        };
        Ok(Self { user: field("user_id").unwrap_or_else(|| "you".to_owned()), text })
    }
}

fn challenges(query: Option<&str>) -> Response<Body> {
    let wanted = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("difficulty="));
    match wanted {
        Some(unknown) if !answers::DIFFICULTIES.contains(&unknown) => {
            let known = answers::DIFFICULTIES.join(", ");
            json(
                StatusCode::BAD_REQUEST,
                &answers::detail(&format!("Invalid difficulty, choose one of {known}")),
            )
        }
        known => json(StatusCode::OK, &answers::challenges(known)),
    }
}

fn stream(message: &Message) -> Response<Body> {
    let words = Words::new(answers::events(&message.user, &message.text));
    let mut response = Response::new(Body::stream(words));
    set(&mut response, CONTENT_TYPE, "text/event-stream; charset=utf-8");
    set(&mut response, CACHE_CONTROL, "no-cache");
    response
}

fn unauthorized() -> Response<Body> {
    let sentence = "Authentication required. Please log in to access this resource.";
    json(StatusCode::UNAUTHORIZED, &answers::detail(sentence))
}

fn not_allowed(operation: &Operation<'_>) -> Response<Body> {
    let mut response = json(StatusCode::METHOD_NOT_ALLOWED, &answers::detail("Method Not Allowed"));
    set(&mut response, ALLOW, if operation.is_write() { "POST" } else { "GET" });
    response
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(value.to_string()));
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, "application/json");
    response
}

fn text(media_type: &'static str, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    set(&mut response, CONTENT_TYPE, media_type);
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

fn is_bearer(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().get(..7).unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"bearer ") && value.len() > 7
}

#[cfg(test)]
mod tests;
