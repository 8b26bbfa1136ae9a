//! `GET /api/v1/config`: which configuration is in force, since when, what of it waits for a restart, and why a newer file
//! was refused.

use http::StatusCode;
use serde::Serialize;

use super::{Admin, answer::Reply, shapes::timestamp};

#[derive(Serialize)]
struct ConfigInForce {
    /// The beginning of the SHA-256 of its text.
    hash: String,
    loaded_at: String,
    age_s: u64,
    /// Keys that keep the value of before until the process starts anew.
    needs_restart: Vec<&'static str>,
    rejected: Option<Rejected>,
}

#[derive(Serialize)]
struct Rejected {
    since: String,
    error: Option<String>,
}

impl Admin {
    pub(super) fn config(&self) -> Reply {
        let state = self.telemetry.config_state();
        let in_force = ConfigInForce {
            age_s: state.loaded.elapsed().map_or(0, |age| age.as_secs()),
            loaded_at: timestamp(state.loaded.into()),
            hash: state.hash,
            needs_restart: state.needs_restart,
            rejected: state
                .rejected_since
                .map(|since| Rejected { since: timestamp(since.into()), error: state.rejected_for }),
        };
        Reply::json(StatusCode::OK, &in_force)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use serde_json::{Value, json};

    use crate::admin::{
        AdminService, ControlService, Reloaded,
        fakes::{Fake, admin, admin_over, ask, telemetry},
    };

    #[tokio::test]
    async fn the_configuration_in_force_is_told_with_what_waits_and_what_was_refused() {
        let telemetry = telemetry();
        let admin = Arc::new(admin_over(&Arc::new(Fake::default()), Arc::clone(&telemetry), None));
        let service = AdminService::new(admin);
        let read = async || {
            let answer = ask(&service, "GET /api/v1/config", &[], "").await;
            assert_eq!(answer.status, 200);
            answer.json()
        };
        let first = read().await;
        assert_eq!((&first["hash"], &first["rejected"]), (&json!("3f9c1ab"), &Value::Null));

        telemetry.config_rejected("proxy.yaml:9:16: unknown key `tll`");
        let refused = read().await;
        assert_eq!(
            (&refused["hash"], &refused["rejected"]["error"]),
            (&json!("3f9c1ab"), &json!("proxy.yaml:9:16: unknown key `tll`"))
        );

        telemetry.config_accepted("abc", &["ingress.listen"]);
        let accepted = read().await;
        assert_eq!(
            (&accepted["hash"], &accepted["needs_restart"]),
            (&json!("abc"), &json!(["ingress.listen"]))
        );
        assert_eq!(accepted["rejected"], Value::Null);
    }

    #[tokio::test]
    async fn a_reload_is_answered_with_what_came_of_it() {
        let fake = Arc::new(Fake::default());
        let service = ControlService::new(Arc::new(admin(&fake, None, None)));
        let hash = || "abc".to_owned();
        let cases = [
            (
                None,
                StatusCode::SERVICE_UNAVAILABLE,
                json!({"detail": "no file is watched here, or too many ask for it"}),
            ),
            (
                Some(Reloaded::Unchanged { hash: hash() }),
                StatusCode::OK,
                json!({"outcome": "unchanged", "hash": "abc"}),
            ),
            (
                Some(Reloaded::Applied { hash: hash(), needs_restart: vec!["runtime"] }),
                StatusCode::OK,
                json!({"outcome": "applied", "hash": "abc", "needs_restart": ["runtime"]}),
            ),
            (
                Some(Reloaded::Rejected { hash: hash(), error: "no".to_owned() }),
                StatusCode::UNPROCESSABLE_ENTITY,
                json!({"outcome": "rejected", "hash": "abc", "error": "no"}),
            ),
        ];
        for (reloaded, status, told) in cases {
            *fake.reloaded.lock() = reloaded;
            let answer = ask(&service, "POST /reload", &[], "").await;
            assert_eq!((answer.status, answer.json()), (status.as_u16(), told));
        }
    }
}
