//! Another configuration in force while requests run: what changes, what waits for a restart, and that a wrong file changes
//! nothing.

use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, Step, ok},
    client::{Client, get, get_with},
    spawn, until,
};

/// A proxy whose configuration is a file.
struct Filed {
    proxy: Proxy,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Filed {
    fn start(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.yaml");
        fs::write(&path, setup.yaml()).unwrap();
        Self { proxy: setup.start_watching(&path), path, _folder: folder }
    }

    fn write(&self, setup: &Setup) {
        fs::write(&self.path, setup.yaml()).unwrap();
    }

    /// Writes a file and has it looked at.
    async fn reload(&self, setup: &Setup) -> Value {
        self.write(setup);
        let answer = self.proxy.post("/reload", "").await;
        serde_json::from_slice(&answer.body).unwrap()
    }

    async fn state(&self) -> Value {
        self.proxy.json("/api/v1/config").await
    }
}

/// Only asked for, so that no test waits for an interval.
fn on_demand(backend: &Backend) -> Setup {
    Setup::before(backend).top("reload", "{ interval: 0s }")
}

#[tokio::test]
async fn another_rule_is_in_force_from_the_next_request_on_and_the_cache_survives() {
    let backend = Backend::start(|request| ok(request.target())).await;
    let short = on_demand(&backend).cached("ttl: 1m, public: true");
    let filed = Filed::start(&short);
    let mut client = Client::connect(filed.proxy.address).await;
    assert_eq!(client.get("/cached/a").await.cache(), "miss");
    assert_eq!(client.get("/other").await.cache(), "miss");
    assert_eq!(client.get("/other").await.cache(), "miss", "no rule says that it may be kept");

    let both = short.clone().routes(
        "{ path: \"/cached/{rest*}\", cache: { ttl: 1m, public: true } }, { path: /other, cache: { ttl: 1m, public: true } }",
    );
    let told = filed.reload(&both).await;

    assert_eq!((&told["outcome"], &told["needs_restart"]), (&json!("applied"), &json!([])));
    assert_eq!(client.get("/cached/a").await.cache(), "hit", "on the same connection, from the same cache");
    assert_eq!(client.get("/other").await.cache(), "miss");
    assert_eq!(client.get("/other").await.cache(), "hit");
    assert_eq!(filed.state().await["hash"], told["hash"]);
    assert_eq!(filed.reload(&both).await["outcome"], "unchanged");
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_its_place_is_told() {
    let backend = Backend::start(|request| ok(request.target())).await;
    let good = on_demand(&backend).cached("ttl: 1m, public: true");
    let filed = Filed::start(&good);
    let before = filed.state().await["hash"].clone();

    for wrong in [
        "version: 1\ningress:\n  bakend: 'http://127.0.0.1:1'\n",
        "",
        "version: 1\ningress: {",
        "version: 1\n\u{0}",
    ] {
        fs::write(&filed.path, wrong).unwrap();
        let answer = filed.proxy.post("/reload", "").await;
        let told: Value = serde_json::from_slice(&answer.body).unwrap();

        assert_eq!(
            (answer.status, &told["outcome"], &told["hash"]),
            (422, &json!("rejected"), &before),
            "{wrong:?}"
        );
        assert!(told["error"].as_str().unwrap().contains("proxy.yaml"), "{told}");
        let state = filed.state().await;
        assert_eq!((&state["hash"], &state["rejected"]["error"]), (&before, &told["error"]));
        assert_eq!(get(filed.proxy.address, "/cached/a").await.status, 200);
        assert!(filed.proxy.metric("touchline_config_last_reload_successful", "").await < 0.5);
    }
    let answer = filed.reload(&good).await;

    assert_eq!(answer["outcome"], "applied");
    assert_eq!(filed.state().await["rejected"], Value::Null);
    assert!(filed.proxy.metric("touchline_config_last_reload_successful", "").await > 0.5);
}

#[tokio::test]
async fn what_waits_for_a_restart_is_named_and_the_rest_is_applied() {
    let backend = Backend::start(|request| ok(request.target())).await;
    let filed = Filed::start(&on_demand(&backend));

    let other = on_demand(&backend)
        .ingress("listen", "\"127.0.0.1:1\"")
        .top("cache", "{ memory: { size: 9MiB } }")
        .cached("ttl: 1m, public: true");
    let told = filed.reload(&other).await;

    assert_eq!(told["needs_restart"], json!(["cache.memory.size", "ingress.listen"]));
    assert_eq!(filed.state().await["needs_restart"], told["needs_restart"]);
    assert!(filed.proxy.metric("touchline_config_restart_pending", "").await > 0.5);
    get(filed.proxy.address, "/cached/a").await;
    assert_eq!(get(filed.proxy.address, "/cached/a").await.cache(), "hit");
    assert_eq!(filed.reload(&on_demand(&backend)).await["needs_restart"], json!([]));
    assert!(filed.proxy.metric("touchline_config_restart_pending", "").await < 0.5);
}

#[tokio::test]
async fn a_request_that_has_begun_ends_on_the_backend_that_it_began_with() {
    let slow = Backend::start(|_| {
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfrom".to_vec()),
            Step::Wait(Duration::from_millis(600)),
            Step::Send(b" old".to_vec()),
        ]
    })
    .await;
    let next = Backend::start(|_| ok("from new")).await;
    let filed = Filed::start(&on_demand(&slow));
    let address = filed.proxy.address;
    let running = spawn(async move { get(address, "/a").await });
    until("it is on its way", || slow.count() == 1).await;

    assert_eq!(filed.reload(&on_demand(&next)).await["outcome"], "applied");

    assert_eq!(get(address, "/a").await.text(), "from new");
    assert_eq!(running.await.unwrap().text(), "from old");
    assert_eq!(slow.count(), 1);
    assert_eq!(filed.proxy.page("/readyz").await.status, 200, "what was ready stays so");
}

#[tokio::test]
async fn limits_hold_for_the_connections_to_come() {
    let backend = Backend::start(|request| ok(request.target())).await;
    let filed = Filed::start(&on_demand(&backend));
    let long = format!("X-Long: {}", "a".repeat(4000));
    assert_eq!(get_with(filed.proxy.address, "/a", &[&long]).await.status, 200);

    filed.reload(&on_demand(&backend).limits("header_size: 1KiB")).await;

    assert_eq!(get_with(filed.proxy.address, "/a", &[&long]).await.status, 431);
}

#[tokio::test]
async fn a_swapped_volume_is_seen_by_itself() {
    let backend = Backend::start(|request| ok(request.target())).await;
    let volume = tempfile::tempdir().unwrap();
    let swap = |generation: &str, text: &str| {
        fs::create_dir(volume.path().join(generation)).unwrap();
        fs::write(volume.path().join(generation).join("proxy.yaml"), text).unwrap();
        symlink(generation, volume.path().join("..data_tmp")).unwrap();
        fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).unwrap();
    };
    let setup = Setup::before(&backend).top("reload", "{ interval: 100ms }");
    swap("..1", &setup.yaml());
    let path = volume.path().join("proxy.yaml");
    symlink("..data/proxy.yaml", &path).unwrap();
    let proxy = setup.start_watching(&path);
    swap("..2", &setup.clone().cached("ttl: 1m, public: true").yaml());
    fs::remove_dir_all(volume.path().join("..1")).unwrap();

    let begun = Instant::now();
    while get(proxy.address, "/cached/a").await.cache() != "hit" {
        assert!(begun.elapsed() < Duration::from_secs(5), "not seen");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_secret_file_that_changes_is_in_force_without_a_change_of_the_configuration() {
    let backend = Backend::start(|request| ok(request.target())).await;
    let folder = tempfile::tempdir().unwrap();
    let (path, token) = (folder.path().join("proxy.yaml"), folder.path().join("token"));
    fs::write(&token, "the-first-token\n").unwrap();
    let setup = Setup::before(&backend)
        .top("reload", "{ interval: 100ms }")
        .top("control", "{ listen: \"127.0.0.1:0\", token: { file: token } }");
    fs::write(&path, setup.yaml()).unwrap();
    let proxy = setup.start_watching(&path);
    assert_eq!(proxy.post_with("/reload", "the-first-token").await.status, 200);

    fs::write(&token, "the-second-token\n").unwrap();

    let begun = Instant::now();
    while proxy.post_with("/reload", "the-second-token").await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(5), "not seen");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(proxy.post_with("/reload", "the-first-token").await.status, 401);
}
