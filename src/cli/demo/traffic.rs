//! The pretended users: a few requests a second through the proxy's own port, for as long as the demo runs.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::sleep;

use super::{
    dice::{Dice, fingerprint},
    figures::Observed,
};
use crate::cli::client::{Call, Client};

/// The users who take part; each asks about itself, about the others, and about [`STRANGERS`].
pub(super) const USERS: [&str; 6] = ["amara", "bo", "chidi", "dana", "elif", "farid"];

const STRANGERS: [&str; 6] = ["grace", "hana", "ivan", "jun", "kofi", "lena"];

const MESSAGES: [&str; 4] = [
    "I am nervous about tomorrow",
    "What should I try first?",
    "I did it, and it went well",
    "How do I start a conversation?",
];

/// Milliseconds that a user reads or thinks before the next request. Six users make about three requests a second.
const THINKING: (u64, u64) = (900, 2_700);

/// One user, who asks until the returned future is dropped. A failed request is followed by the same pause as a good
/// one, so a proxy in trouble is not hammered.
pub(super) async fn pretend(user: &'static str, proxy: SocketAddr, observed: Arc<Observed>) {
    let dice = Dice::new(fingerprint(user));
    let mut client = Client::new(proxy);
    sleep(Duration::from_millis(dice.between(0, THINKING.1))).await;
    loop {
        let call = next_call(user, &dice);
        if let Ok(reply) = client.send(&call).await {
            observed.note(&reply.headers, reply.head_after);
        }
        sleep(Duration::from_millis(dice.between(THINKING.0, THINKING.1))).await;
    }
}

/// What the user does next: mostly reading, now and then a talk with the coach.
fn next_call(user: &str, dice: &Dice) -> Call {
    match dice.between(1, 100) {
        1..=22 => Call::get("/api/challenges"),
        23..=40 => {
            let difficulty = pick(&["beginner", "intermediate", "advanced"], dice);
            Call::get(format!("/api/challenges?difficulty={difficulty}"))
        }
        41..=66 => Call::get(format!("/api/user/reputation/{user}")),
        67..=80 => Call::get(format!("/api/user/reputation/{}", pick(&USERS, dice))),
        81..=85 => Call::get(format!("/api/user/reputation/{}", pick(&STRANGERS, dice))),
        86..=90 => Call::get(format!("/coach/sessions/{user}")),
        91..=94 => Call::get(format!("/api/session/{user}-1")).with_bearer("demo"),
        95..=97 => Call::post("/coach/chat", message(user, dice)),
        98..=99 => Call::post("/coach/chat/stream", message(user, dice)),
        _ => Call::get("/health"),
    }
}

fn message(user: &str, dice: &Dice) -> String {
    json!({ "message": pick(&MESSAGES, dice), "user_id": user }).to_string()
}

fn pick<'a>(choices: &[&'a str], dice: &Dice) -> &'a str {
    let last = u64::try_from(choices.len().saturating_sub(1)).unwrap_or(0);
    let choice = usize::try_from(dice.between(0, last)).unwrap_or(0);
    choices.get(choice).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Dice, next_call};

    #[test]
    fn a_user_mostly_reads_and_sometimes_talks() {
        let dice = Dice::new(3);

        let calls: Vec<_> = (0..1_000).map(|_| next_call("amara", &dice)).collect();

        let writes = calls.iter().filter(|call| call.method == "POST").count();
        let reads: BTreeSet<_> =
            calls.iter().filter(|call| call.method == "GET").map(|call| &call.target).collect();
        assert!((20..100).contains(&writes), "{writes}");
        assert!(reads.len() < 25, "a small hot set is what a cache is for: {reads:?}");
        assert!(calls.iter().all(|call| call.bearer.is_some() == call.target.starts_with("/api/session/")));
    }
}
