//! The bodies of the pretended coaching backend: plain values in, JSON out. No I/O, no waiting.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::dice::fingerprint;

/// Title, difficulty, description and points of each challenge.
const CHALLENGES: [(&str, &str, &str, u32); 9] = [
    ("Say good morning", "beginner", "Greet three people you do not know today.", 10),
    ("Ask for the time", "beginner", "Ask a stranger for the time and thank them by looking up.", 10),
    ("One honest compliment", "beginner", "Tell somebody one thing they did well.", 15),
    ("Five-minute talk", "intermediate", "Keep a conversation going for five minutes.", 25),
    ("Lunch with company", "intermediate", "Sit down at a table where somebody already sits.", 25),
    ("Say no once", "intermediate", "Turn down a request without explaining why.", 30),
    ("Open the meeting", "advanced", "Speak first in a room of ten or more.", 50),
    ("Invite somebody", "advanced", "Ask somebody to join you for a coffee this week.", 50),
    ("Two-minute toast", "advanced", "Give a toast that lasts two minutes.", 60),
];

/// What the coach says, chosen by the message.
const ADVICE: [&str; 4] = [
    "Start smaller than feels useful. One short hello today is worth more than a plan for next month. \
     What is the first moment tomorrow in which you could try it?",
    "Being nervous means that it matters to you. Breathe out slowly, twice, and then say the first sentence \
     before you have judged it. How did it go the last time you were this nervous?",
    "You did the hard part already: you noticed it. Now pick one person and one minute, and leave the rest alone. \
     Who comes to mind?",
    "That went better than you think. Write down what the other person did, not what you felt, and look at it \
     again tonight. What would you keep for the next time?",
];

pub(super) const DIFFICULTIES: [&str; 3] = ["beginner", "intermediate", "advanced"];

pub(super) fn challenges(difficulty: Option<&str>) -> Value {
    let chosen: Vec<Value> = CHALLENGES
        .iter()
        .enumerate()
        .filter(|(_, challenge)| difficulty.is_none_or(|wanted| challenge.1 == wanted))
        .map(|(number, (title, difficulty, description, points))| {
            json!({
                "id": format!("00000000-0000-4000-8000-{number:012}"),
                "difficulty": difficulty,
                "title": title,
                "description": description,
                "points": points,
                "created_at": "2025-01-01T00:00:00+00:00",
            })
        })
        .collect();
    json!({
        "count": chosen.len(),
        "challenges": chosen,
        "difficulty_filter": difficulty,
        "cached": false,
        "timestamp": timestamp(),
    })
}

pub(super) fn reputation(user: &str) -> Value {
    let luck = fingerprint(user);
    let completed = luck % 40;
    let missed = luck / 40 % 4;
    let badge = match completed {
        25.. => "gold",
        10..=24 => "silver",
        _ => "bronze",
    };
    json!({
        "user_id": user,
        "score": (completed * 5).saturating_sub(missed * 10),
        "badge_color": badge,
        "completed_sessions": completed,
        "no_shows": missed,
        "cached": false,
        "timestamp": timestamp(),
    })
}

pub(super) fn session(id: &str) -> Value {
    json!({
        "id": id,
        "status": "scheduled",
        "venue_name": "Café at the pitch",
        "scheduled_time": "2026-12-01T18:00:00+00:00",
        "participants": ["amara", "bo"],
        "notes": null,
        "timestamp": timestamp(),
    })
}

pub(super) fn confirmed(id: &str) -> Value {
    json!({ "success": true, "session_id": id, "status": "completed", "timestamp": timestamp() })
}

pub(super) fn chat(user: &str, message: &str) -> Value {
    json!({
        "success": true,
        "response": advice(message),
        "user_id": user,
        "session_id": session_of(user),
        "timestamp": timestamp(),
    })
}

/// The answer of a model, as the application passes it on.
pub(super) fn asked(user: &str, answer: &Value) -> Value {
    json!({
        "success": true,
        "response": answer.pointer("/content/0/text"),
        "model": answer.get("model"),
        "user_id": user,
        "session_id": session_of(user),
        "timestamp": timestamp(),
    })
}

pub(super) fn sessions(user: &str) -> Value {
    json!({
        "user_id": user,
        "sessions": [
            { "id": session_of(user), "topic": "first steps", "messages": 12, "updated_at": "2026-11-20T09:30:00+00:00" },
            { "id": format!("{}-2", session_of(user)), "topic": "speaking up", "messages": 5,
              "updated_at": "2026-11-22T17:05:00+00:00" },
        ],
        "count": 2,
        "timestamp": timestamp(),
    })
}

pub(super) fn health() -> Value {
    json!({
        "status": "healthy",
        "timestamp": timestamp(),
        "message": "Coach backend is running",
        "environment": "demo",
        "features": {
            "matching_enabled": true,
            "ai_coaching_enabled": true,
            "challenges_catalog_enabled": true,
            "rate_limiting_enabled": true,
        },
    })
}

/// `FastAPI`'s form of an error.
pub(super) fn detail(text: &str) -> Value {
    json!({ "detail": text })
}

/// `FastAPI`'s form of a body that lacks a field.
pub(super) fn missing_field(field: &str) -> Value {
    json!({ "detail": [{ "type": "missing", "loc": ["body", field], "msg": "Field required" }] })
}

/// `FastAPI`'s form of a body that is no JSON.
pub(super) fn invalid_json() -> Value {
    json!({ "detail": [{ "type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error" }] })
}

/// The server-sent events of a streamed answer, one word each, and a last one that says it is over.
pub(super) fn events(user: &str, message: &str) -> Vec<String> {
    let words = advice(message).split_inclusive(' ').map(|word| json!({ "type": "content", "text": word }));
    let end = json!({ "type": "done", "session_id": session_of(user) });
    words.chain([end]).map(|event| format!("data: {event}\n\n")).collect()
}

/// Now as the `Date` field wants it (RFC 9110, section 5.6.7). `None` never happens before the year 10000.
pub(super) fn http_date() -> Option<String> {
    let text = OffsetDateTime::now_utc().format(&Rfc2822).ok()?;
    Some(text.replace("+0000", "GMT"))
}

pub(super) fn advice(message: &str) -> &'static str {
    let choices = u64::try_from(ADVICE.len()).unwrap_or(1);
    let choice = usize::try_from(fingerprint(message) % choices).unwrap_or(0);
    ADVICE.get(choice).copied().unwrap_or_default()
}

fn session_of(user: &str) -> String {
    format!("coach-{:08x}", fingerprint(user) & 0xffff_ffff)
}

/// Now in ISO 8601 with microseconds, as Python writes it.
fn timestamp() -> String {
    let now = OffsetDateTime::now_utc();
    let (date, hour, minute) = (now.date(), now.hour(), now.minute());
    format!("{date}T{hour:02}:{minute:02}:{:02}.{:06}+00:00", now.second(), now.microsecond())
}

#[cfg(test)]
mod tests {
    use super::{challenges, events, http_date, reputation, timestamp};

    #[test]
    fn a_difficulty_filters_the_challenges() {
        let all = challenges(None);
        let some = challenges(Some("advanced"));

        assert_eq!(all["count"], 9);
        assert_eq!(some["count"], 3);
        assert_eq!(some["difficulty_filter"], "advanced");
    }

    #[test]
    fn a_reputation_is_stable_but_for_its_timestamp() {
        let (mut first, mut second) = (reputation("amara"), reputation("amara"));
        for answer in [&mut first, &mut second] {
            answer.as_object_mut().unwrap().remove("timestamp");
        }

        assert_eq!(first, second);
    }

    #[test]
    fn a_streamed_answer_is_words_and_an_end() {
        let events = events("amara", "hello");

        assert!(events.len() > 10);
        assert!(events.iter().all(|event| event.starts_with("data: {") && event.ends_with("}\n\n")));
        assert!(events.last().unwrap().contains("\"done\""));
    }

    #[test]
    fn times_have_the_forms_that_clients_parse() {
        let (date, time) = (http_date().unwrap(), timestamp());

        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
        assert!(time.ends_with("+00:00") && time.len() == 32, "{time}");
    }
}
