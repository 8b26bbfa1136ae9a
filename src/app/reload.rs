//! Another configuration in the place of the present one, while requests run: notices that the file has changed, checks it
//! as at the start, and puts in force what may change. A file that is wrong changes nothing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{
    IngressPlane, Lasting, Plan, Present, backend, claude, explain::Entries, ingress_terms, notify, taken,
};
use crate::{
    admin::{Boxed, Reloaded, Reloading},
    claude::Prepared,
    config::{self, Config, Fingerprint, Loaded, Reading, Severity, Watched},
    ingress::Ingress,
    net::{drain::Phase, serve::Terms},
    telemetry::alerts::Watch,
    upstream::Upstream,
};

/// Questions that may wait for a look.
const QUESTIONS: usize = 16;
/// How long a look may take until who asked for it is told that it takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A file that is being written is looked at again after this, until two looks agree, at most so often.
const SETTLING: (Duration, u32) = (Duration::from_millis(100), 10);

/// Asks for a look at the file.
#[derive(Clone)]
pub(super) struct Asking(mpsc::Sender<Asked>);

/// Who wants to know what came of it; nobody after a signal.
type Asked = Option<oneshot::Sender<Reloaded>>;

/// A way to ask, and to be asked.
pub(super) fn asking() -> (Asking, mpsc::Receiver<Asked>) {
    let (asking, asked) = mpsc::channel(QUESTIONS);
    (Asking(asking), asked)
}

impl Asking {
    /// Has the file looked at. Where that is asked for already, once is enough.
    pub(super) fn ask(&self) {
        let _ = self.0.try_send(None);
    }
}

impl Reloading for Asking {
    fn reload(&self) -> Boxed<'_, Option<Reloaded>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.0.try_send(Some(answer)).ok()?;
            timeout(PATIENCE, answered).await.ok()?.ok()
        })
    }
}

/// Looks at the file, again and again.
pub(super) struct Reloader {
    file: Arc<Watched>,
    asked: mpsc::Receiver<Asked>,
    /// The files that the last good configuration names.
    files: Vec<PathBuf>,
    /// What they held before they were last read.
    seen: Fingerprint,
}

impl Reloader {
    /// One for a file that has been read.
    pub(super) fn new(
        (file, seen): (Watched, Fingerprint),
        loaded: &Loaded,
        asked: mpsc::Receiver<Asked>,
    ) -> Self {
        Self { file: Arc::new(file), asked, files: loaded.files.clone(), seen }
    }

    /// Spawns the task that looks, on the calling runtime. It ends when the process does.
    pub(super) fn spawn(self, plan: &Arc<Plan>) {
        if self.file.is_mounted_alone() {
            warn!(
                path = %self.file.path().display(),
                "the configuration is mounted by `subPath`, so changes of its ConfigMap will never be seen here; mount the whole volume"
            );
        }
        let (plan, closing) = (Arc::clone(plan), plan.drain.reached(Phase::Closing));
        plan.drain.clone().spawn(async move {
            tokio::select! {
                () = closing => {}
                () = self.run(&plan) => {}
            }
        });
    }

    async fn run(mut self, plan: &Arc<Plan>) {
        loop {
            let interval = plan.config().reload.interval;
            let pause = async {
                if interval.is_zero() {
                    std::future::pending::<()>().await;
                } else {
                    sleep(interval).await;
                }
            };
            let asked = tokio::select! {
                asked = self.asked.recv() => Some(asked.flatten()),
                () = pause => None,
            };
            let reloaded = self.look(plan, asked.is_some()).await;
            if let Some(Some(asked)) = asked {
                let _ = asked.send(reloaded);
            }
        }
    }

    /// One look. `is_asked`: somebody says that the file is as it should be.
    async fn look(&mut self, plan: &Arc<Plan>, is_asked: bool) -> Reloaded {
        let state = plan.telemetry.config_state();
        let Some(mut now) = self.fingerprint().await else { return Reloaded::Unchanged { hash: state.hash } };
        if !is_asked && now != self.seen {
            now = self.settled(now).await;
        }
        // A file that was refused for what another one lacks is read again until that is there.
        if now == self.seen && state.rejected_for.is_none() {
            return Reloaded::Unchanged { hash: state.hash };
        }
        match self.take(plan).await {
            Ok((hash, needs_restart)) => Reloaded::Applied { hash, needs_restart },
            Err(error) => {
                if state.rejected_for.as_deref() != Some(&*error) {
                    warn!(path = %self.file.path().display(), in_force = state.hash, "the configuration is refused and the one before stays in force: {error}");
                    plan.telemetry.config_rejected(&error);
                }
                Reloaded::Rejected { hash: state.hash, error }
            }
        }
    }

    /// Reads the file and puts it in force. Returns its hash and the keys that wait for a restart, or why it is refused.
    async fn take(&mut self, plan: &Arc<Plan>) -> Result<(String, Vec<&'static str>), String> {
        let (file, files) = (Arc::clone(&self.file), self.files.clone());
        let reading = tokio::task::spawn_blocking(move || file.read(files)).await;
        let Reading { fingerprint, files, loaded } = reading.map_err(|_| "reading it failed".to_owned())?;
        (self.seen, self.files) = (fingerprint, files);
        let Loaded { config, hash, warnings, .. } = loaded.map_err(|problems| problems.to_string())?;
        let needs_restart = plan.renew(config, &hash).await.map_err(|error| format!("{error:#}"))?;
        for warning in warnings.iter().filter(|found| found.severity == Severity::Warning) {
            warn!(path = warning.path, line = warning.line, "{}", warning.message);
        }
        Ok((hash, needs_restart))
    }

    async fn fingerprint(&self) -> Option<Fingerprint> {
        let (file, files) = (Arc::clone(&self.file), self.files.clone());
        tokio::task::spawn_blocking(move || file.fingerprint(&files)).await.ok()
    }

    /// The fingerprint once two looks agree: an editor may write a file in pieces.
    async fn settled(&self, mut now: Fingerprint) -> Fingerprint {
        for _ in 0..SETTLING.1 {
            sleep(SETTLING.0).await;
            match self.fingerprint().await {
                Some(next) if next != now => now = next,
                _ => break,
            }
        }
        now
    }
}

/// A configuration that is compiled as a whole, before anything of it is in force.
struct Compiled {
    ingress: Option<(Arc<Ingress>, Arc<Upstream>)>,
    claude: Option<Prepared>,
    watch: Option<Option<Box<Watch>>>,
    entries: Option<Arc<Entries>>,
}

impl Plan {
    /// Puts another configuration in force but for what waits for a restart, which it returns by its keys.
    ///
    /// # Errors
    /// When something of it cannot be compiled. Then nothing has changed.
    async fn renew(self: &Arc<Self>, mut config: Config, hash: &str) -> anyhow::Result<Vec<&'static str>> {
        let old = self.config();
        let needs_restart = config::keep_restart_keys(&old, &mut config);
        let config = Arc::new(config);
        // It takes longer than a probe should wait.
        let (plan, was, is, name) =
            (Arc::clone(self), Arc::clone(&old), Arc::clone(&config), hash.to_owned());
        let compiled = tokio::task::spawn_blocking(move || plan.compile(&was, &is, &name)).await??;
        self.put(&old, &config, compiled);
        self.telemetry.config_accepted(hash, &needs_restart);
        info!(
            hash,
            needs_restart = (!needs_restart.is_empty()).then(|| needs_restart.join(" ")),
            "a new configuration is in force"
        );
        Ok(needs_restart)
    }

    fn compile(&self, old: &Config, config: &Arc<Config>, hash: &str) -> anyhow::Result<Compiled> {
        let entries = config.ingress.as_ref().map(|_| Entries::new(config, hash));
        let ingress = match (&self.ingress, &old.ingress, &config.ingress) {
            (Some(plane), Some(was), Some(section)) => {
                let upstream = plane.renewed_upstream(was, section, &self.telemetry);
                let taken = taken(config, &self.admin);
                let ingress = plane.live.current().renewed(config, section, Arc::clone(&upstream), taken)?;
                if let Some(entries) = &entries {
                    entries.show(&ingress);
                }
                Some((ingress, upstream))
            }
            _ => None,
        };
        let claude = match (&self.claude, &old.claude, &config.claude) {
            (Some((plane, _)), Some(was), Some(section)) => {
                let upstream = claude::renewed_upstream(plane, (was, section), &self.telemetry)?;
                Some(plane.prepare(section, upstream).context("compiling the claude section")?)
            }
            _ => None,
        };
        let watch = if old.telemetry == config.telemetry && !names_certificates(config) {
            None
        } else {
            Some(notify::watch(config, &self.telemetry, &self.cache)?.map(Box::new))
        };
        Ok(Compiled { ingress, claude, watch, entries })
    }

    /// Nothing in here can fail.
    fn put(&self, old: &Config, config: &Arc<Config>, compiled: Compiled) {
        let Compiled { ingress, claude, watch, entries } = compiled;
        self.telemetry.apply(&config.telemetry);
        if let Some(level) = self.level.as_ref().filter(|_| old.telemetry.log != config.telemetry.log) {
            level.set(config.telemetry.log.level);
        }
        let mut upstream = None;
        if let (Some(plane), Some((ingress, to)), Some(section)) = (&self.ingress, ingress, &config.ingress) {
            let (limits, http2) = ingress_terms(section);
            plane.gate.set(section.limits.connections, section.limits.per_ip);
            plane.terms.store(Arc::new(Terms { limits, http2 }));
            plane.upstream.store(Arc::clone(&to));
            plane.live.put(ingress);
            upstream = Some(to);
        }
        if let (Some((plane, _)), Some(prepared)) = (&self.claude, claude) {
            plane.apply(prepared);
        }
        let lasting = self.lasting();
        let health = lasting.health(config, upstream.as_ref());
        let sources = lasting.sources(config, upstream.as_ref(), entries, health);
        self.admin.apply(config, sources);
        if let Some(watch) = watch {
            // It fails only when the process ends.
            let _ = self.renewals.send(watch);
        }
        let term = self.drain.with_term();
        let next = Present { config: Arc::clone(config), term: term.clone() };
        let last = std::mem::replace(&mut *self.present.lock(), next);
        last.term.end_term();
        self.look_after_ingress(config, &term);
    }

    fn lasting(&self) -> Lasting<'_> {
        Lasting {
            drain: &self.drain,
            egress: &self.egress,
            pace: &self.pace,
            telemetry: &self.telemetry,
            beats: &self.beats,
            clock: self.clock,
            observer: &self.observer,
            cache: &self.cache,
            asking: &self.asking,
        }
    }
}

impl IngressPlane {
    /// The backend as another configuration describes it, or as it is where that describes the same.
    fn renewed_upstream(
        &self,
        old: &config::Ingress,
        new: &config::Ingress,
        telemetry: &crate::telemetry::Telemetry,
    ) -> Arc<Upstream> {
        let present = self.upstream.load_full();
        if (&old.backend, &old.upstream, &old.limits) == (&new.backend, &new.upstream, &new.limits) {
            return present;
        }
        let next = backend(new, telemetry);
        // A pod that was ready stays so until the probe says otherwise.
        next.health.follow(&present.health);
        next
    }
}

/// Whether a receiver is believed by a file of certificates, which may change under its name.
fn names_certificates(config: &Config) -> bool {
    let mut receivers = config.telemetry.alerts.notify.iter().filter_map(config::Receiver::view);
    receivers.any(|view| view.ca.is_some())
}
