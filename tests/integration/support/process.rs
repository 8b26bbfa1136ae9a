//! The executable itself as a child process, ended when dropped.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use parking_lot::Mutex;

use super::PATIENCE;

/// A running `touchline run`.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
    _folder: tempfile::TempDir,
}

/// The executable. Where the tests run in a pod, it is not told so: the backend of a test outlives it.
pub(crate) fn touchline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_touchline"));
    command.env_remove("KUBERNETES_SERVICE_HOST");
    command
}

/// Writes a configuration into a folder of its own.
pub(crate) fn configuration(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.yaml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

impl Process {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(text: &str) -> Self {
        let (folder, path) = configuration(text);
        let mut child = touchline()
            .args(["run", "-c"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (tx, rx) = mpsc::channel();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().push_str(&format!("{line}\n"));
                let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
                if let Some(address) = find(&value, "ingress").and_then(|text| text.parse().ok()) {
                    let _ = tx.send(address);
                }
            }
        });
        let Ok(address) = rx.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("it did not start: {}", log.lock());
        };
        Self { child, address, log, _folder: folder }
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end and returns the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        for _ in 0..PATIENCE.as_millis() / 5 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end: {}", self.log());
    }

    /// Its resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of a field of a log line, at its top or among its fields.
fn find<'a>(line: &'a serde_json::Value, name: &str) -> Option<&'a str> {
    line[name].as_str().or_else(|| line["fields"][name].as_str())
}

/// Runs a command to its end: exit code, standard output, standard error.
pub(crate) fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut child = touchline()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code(), out, err)
}
