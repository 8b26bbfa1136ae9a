//! The proxy under test: an instance of its own per test, on ports of its own.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use serde_json::Value;
use touchline::{
    app::{App, Running, Surroundings},
    config::{self, Fingerprint, Loaded, Reading, Watched},
    telemetry::Capture,
};

use super::{backend::Backend, client, until};

/// A configuration in the making. Values are YAML in flow style.
#[derive(Clone)]
pub(crate) struct Setup {
    top: BTreeMap<String, String>,
    ingress: BTreeMap<String, String>,
}

/// A running proxy; it is cut when dropped.
pub(crate) struct Proxy {
    running: Option<Running>,
    log: Capture,
    pub(crate) address: SocketAddr,
    /// Where calls to Claude are taken.
    pub(crate) claude: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) control: SocketAddr,
}

impl Setup {
    /// A proxy in front of `backend`, with one worker, a log line for every request, and no patience at its end.
    pub(crate) fn new(backend: &str) -> Self {
        let pairs = |list: &[(&str, &str)]| {
            list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let top = pairs(&[
            ("version", "1"),
            ("runtime", "{ workers: 1 }"),
            ("drain", "{ delay: 0s, timeout: 5s }"),
            ("admin", "{ listen: \"127.0.0.1:0\" }"),
            ("control", "{ listen: \"127.0.0.1:0\" }"),
            ("telemetry", "{ access_log: { per_second: 1000000, paths: full } }"),
        ]);
        let ingress = pairs(&[("listen", "\"127.0.0.1:0\""), ("backend", &format!("{backend:?}"))]);
        Self { top, ingress }
    }

    /// A proxy in front of a scripted backend.
    pub(crate) fn before(backend: &Backend) -> Self {
        Self::at(backend.address)
    }

    /// A proxy in front of an address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self::new(&format!("http://{address}"))
    }

    /// Sets a top-level key.
    pub(crate) fn top(mut self, key: &str, value: &str) -> Self {
        self.top.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets a key of `ingress`.
    pub(crate) fn ingress(mut self, key: &str, value: &str) -> Self {
        self.ingress.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the limits.
    pub(crate) fn limits(self, value: &str) -> Self {
        self.ingress("limits", &format!("{{ {value} }}"))
    }

    /// Sets the terms with the backend.
    pub(crate) fn upstream(self, value: &str) -> Self {
        self.ingress("upstream", &format!("{{ {value} }}"))
    }

    /// Sets the routes.
    pub(crate) fn routes(self, value: &str) -> Self {
        self.ingress("routes", &format!("[{value}]"))
    }

    /// A route for everything under `/cached`, kept for a minute.
    pub(crate) fn cached(self, rule: &str) -> Self {
        self.routes(&format!("{{ path: \"/cached/{{rest*}}\", cache: {{ {rule} }} }}"))
    }

    pub(crate) fn yaml(&self) -> String {
        let lines = |map: &BTreeMap<String, String>, margin: &str| -> String {
            map.iter().map(|(key, value)| format!("{margin}{key}: {value}\n")).collect()
        };
        format!("{}ingress:\n{}", lines(&self.top, ""), lines(&self.ingress, "  "))
    }

    pub(crate) fn start(&self) -> Proxy {
        let loaded = config::load_str("test.yaml", &self.yaml(), &|_| None);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}\n{}", self.yaml()));
        Self::run(loaded, None)
    }

    /// Starts by a file that holds this, and has it looked at for changes.
    pub(crate) fn start_watching(&self, path: &Path) -> Proxy {
        let file = Watched::new(path.to_owned());
        let Reading { fingerprint, loaded, .. } = file.read(Vec::new());
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}\n{}", self.yaml()));
        Self::run(loaded, Some((file, fingerprint)))
    }

    fn run(loaded: Loaded, file: Option<(Watched, Fingerprint)>) -> Proxy {
        let mut loaded = loaded;
        // Wherever the tests run: the backend of a test outlives the proxy.
        if file.is_none() {
            loaded.config.drain.outlast_backend.get_or_insert(false);
        }
        let log = Capture::default();
        let surroundings =
            Surroundings { access_log: Some(Box::new(log.clone())), file, ..Surroundings::default() };
        let running = App::start(loaded, surroundings).unwrap();
        let address = |found: Option<SocketAddr>| found.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        Proxy {
            address: address(running.ingress()),
            claude: address(running.claude()),
            admin: address(running.admin()),
            control: address(running.control()),
            running: Some(running),
            log,
        }
    }
}

impl Proxy {
    /// The lines of the access log so far.
    pub(crate) fn records(&self) -> Vec<Value> {
        let text = self.log.text();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines of the access log once there are `count` of them, and no more.
    pub(crate) async fn records_of(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} records"), || self.records().len() >= count).await;
        let records = self.records();
        assert_eq!(records.len(), count, "{records:#?}");
        records
    }

    /// The one line of the access log.
    pub(crate) async fn record(&self) -> Value {
        self.records_of(1).await.remove(0)
    }

    /// Reads a page of the admin listener.
    pub(crate) async fn page(&self, path: &str) -> client::Answer {
        client::raw(self.admin, client::get_text(path, &[]).replace("coach.example", "localhost")).await
    }

    /// Reads a JSON page of the admin listener.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let answer = self.page(path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// The sum of all samples of a metric whose labels contain `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.page("/metrics").await.text();
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        });
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Posts to the control listener.
    pub(crate) async fn post(&self, path: &str, body: &str) -> client::Answer {
        let kind: &[&str] =
            if body.is_empty() { &["Content-Length: 0"] } else { &["Content-Type: application/json"] };
        client::raw(
            self.control,
            client::request_text("POST", path, kind, body).replace("coach.example", "localhost"),
        )
        .await
    }

    /// Posts to the control listener with a token.
    pub(crate) async fn post_with(&self, path: &str, token: &str) -> client::Answer {
        let fields: &[&str] = &["Content-Length: 0", &format!("Authorization: Bearer {token}")];
        let text = client::request_text("POST", path, fields, "").replace("coach.example", "localhost");
        client::raw(self.control, text).await
    }

    /// Drains and stops on a thread of its own; the handle ends with the proxy.
    pub(crate) fn stop(&mut self) -> std::thread::JoinHandle<()> {
        let running = self.running.take().unwrap();
        std::thread::spawn(move || running.stop().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.hurry()();
            let _ = running.stop();
        }
    }
}
