//! `GET /api/v1/merge`: what one pod gives to an answer over several, in the form that can be added, and the reading of it.
//!
//! Nobody is asked for this answer, so that pods that ask one another never go round in circles.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{
    alerts::Alerts,
    planes::{Backend, Cache, Claude, Redis},
    routes::{Slow, TablePart},
    sections::{ChartPart, Counted, Health, Meta, Moment, Word},
};
use crate::admin::{Admin, answer::Reply};
use crate::telemetry::{Exact, Window};

/// The number of this form. Whatever changes it so that sums would be wrong gives it the next one.
const FORMAT: u32 = 1;

/// The part of one pod.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    format: u32,
    version: Word,
    /// Tells processes apart: two addresses may lead to one.
    pub(super) instance: String,
    pub(super) meta: Meta,
    pub(super) health: Health,
    pub(super) counted: Counted,
    pub(super) plain: Exact,
    pub(super) chart: ChartPart,
    pub(super) routes: TablePart,
    pub(super) cache: Option<Cache>,
    pub(super) redis: Option<Redis>,
    pub(super) backend: Option<Backend>,
    pub(super) claude: Option<Claude>,
    /// Of calls to Claude: whole ones, and first bytes of streams.
    pub(super) call_times: Option<[Exact; 2]>,
    pub(super) slow: Slow,
    pub(super) alerts: Alerts,
}

/// What is read of a part before the rest.
#[derive(Deserialize)]
struct Form {
    format: u32,
    #[serde(default)]
    version: String,
}

impl Part {
    /// The part of this pod.
    pub(super) fn own(admin: &Admin, window: Window) -> Self {
        let moment = Moment::new(admin, window);
        let telemetry = &admin.telemetry;
        Self {
            format: FORMAT,
            version: telemetry.facts().version.into(),
            instance: admin.instance.clone(),
            meta: moment.meta(),
            health: moment.health(),
            counted: moment.counted(),
            plain: telemetry.exact_overall(window, moment.now),
            chart: ChartPart::new(&moment),
            routes: TablePart::new(&moment),
            cache: Cache::new(&moment),
            redis: Redis::new(&moment),
            backend: Backend::new(&moment),
            claude: Claude::part(&moment),
            call_times: telemetry.exact_calls(window, moment.now),
            slow: Slow::new(&moment),
            alerts: Alerts::new(&moment),
        }
    }

    /// Reads the part of another pod.
    ///
    /// # Errors
    /// Why it cannot be added, in words for operators.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let no_part = |_| "its answer is not that of a replica".to_owned();
        let form: Form = serde_json::from_slice(body).map_err(no_part)?;
        if form.format != FORMAT {
            return Err(format!(
                "its version {} gives format {}, and this one adds format {FORMAT}",
                form.version, form.format
            ));
        }
        serde_json::from_slice(body).map_err(no_part)
    }

    /// The name of its pod.
    pub(super) fn pod(&self) -> &str {
        &self.meta.pod
    }

    /// The seconds that its window spans, never none.
    pub(super) fn seconds(&self) -> f64 {
        self.meta.covered_s.max(1.0)
    }
}

impl Admin {
    /// This pod's part.
    pub(in crate::admin) fn part(&self, window: Window) -> Reply {
        Reply::json(StatusCode::OK, &Part::own(self, window))
    }
}
