//! Answers over several replicas: their numbers are added, and who does not answer is named and waited for no longer than
//! a second.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

use crate::support::{
    app::{Proxy, Setup},
    backend::{Backend, ok},
    client::{Client, get, get_text, raw},
    until_async,
};

fn admin(peers: &[String]) -> String {
    format!("{{ listen: \"127.0.0.1:0\", token: secret, peers: {} }}", json!(peers))
}

async fn read(proxy: &Proxy, target: &str, token: &str) -> (u16, Value) {
    let token = format!("Authorization: Bearer {token}");
    let answer = raw(proxy.admin, get_text(target, &[&token]).replace("coach.example", "localhost")).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

async fn merged(proxy: &Proxy) -> Value {
    let (status, snapshot) = read(proxy, "/api/v1/snapshot?scope=merged&window=1h", "secret").await;
    assert_eq!(status, 200, "{snapshot}");
    snapshot
}

#[tokio::test]
async fn replicas_are_added_and_the_dead_the_hung_and_the_strangers_are_named() {
    let backend = Backend::start(|_| ok("hi")).await;
    let start = |setup: Setup| setup.routes("{ path: \"/items/{id}\" }").start();
    let mut a = start(Setup::before(&backend).top("admin", &admin(&[])));
    let b = start(Setup::before(&backend).top("admin", &admin(&[])));
    let stranger = start(Setup::before(&backend).top("admin", "{ listen: \"127.0.0.1:0\", token: another }"));
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung_at = hung.local_addr().unwrap();
    let peers = [a.admin, b.admin, stranger.admin, hung_at].map(|address| address.to_string());
    let own = start(Setup::before(&backend).top("admin", &admin(&peers)));
    for (proxy, count) in [(&a, 30), (&b, 20), (&own, 10)] {
        let mut client = Client::connect(proxy.address).await;
        for at in 0..count {
            assert_eq!(client.get(&format!("/items/{at}")).await.status, 200);
        }
    }

    let begun = Instant::now();
    let snapshot = merged(&own).await;
    let took = begun.elapsed();

    assert!(took < Duration::from_secs(3), "{took:?}");
    let row = &snapshot["routes"][0];
    assert_eq!((&row["key"], &row["count"]), (&"GET /items/{id}".into(), &60.into()));
    let bypass: u64 = snapshot["chart"]["slots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slot| {
            ["hit", "miss", "bypass", "error"].map(|name| slot[name].as_u64().unwrap()).iter().sum::<u64>()
        })
        .sum();
    assert_eq!(bypass, 60);
    let meta = &snapshot["meta"];
    assert_eq!(
        (&meta["scope"], &meta["peers"]["asked"], &meta["peers"]["answered"]),
        (&"merged".into(), &5.into(), &3.into())
    );
    let silent = |snapshot: &Value, pod: std::net::SocketAddr| -> String {
        let silent = snapshot["meta"]["peers"]["silent"].as_array().unwrap().clone();
        let found = silent.iter().find(|silent| silent["pod"] == pod.to_string());
        found.map_or_else(String::new, |silent| silent["error"].as_str().unwrap().to_owned())
    };
    assert_eq!(silent(&snapshot, hung_at), "no answer within 1 s");
    assert_eq!(silent(&snapshot, stranger.admin), "it has another admin.token");

    let gone = a.admin;
    let stopping = a.stop();
    until_async("the killed one is named", || async {
        silent(&merged(&own).await, gone) == "connection refused"
    })
    .await;
    stopping.join().unwrap();
    assert_eq!(merged(&own).await["routes"][0]["count"], 30);
}

#[tokio::test]
async fn parts_are_guarded_and_nobody_is_asked_for_them() {
    let backend = Backend::start(|_| ok("hi")).await;
    let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peers = [peer.local_addr().unwrap().to_string()];
    let proxy = Setup::before(&backend).top("admin", &admin(&peers)).start();
    assert_eq!(get(proxy.address, "/").await.status, 200);

    let (status, _) = read(&proxy, "/api/v1/merge?window=1m", "wrong").await;
    let (right, part) = read(&proxy, "/api/v1/merge?window=1m", "secret").await;
    read(&proxy, "/api/v1/snapshot", "secret").await;

    assert_eq!((status, right), (401, 200));
    assert_eq!((&part["format"], &part["counted"]["requests"]), (&1.into(), &1.into()));
    let asked = tokio::time::timeout(Duration::from_millis(300), peer.accept()).await;
    assert!(asked.is_err(), "nobody looks at all pods");
}
