//! The listener with a service of the test's own: panics, and a service that misbehaves.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use http::{Request, Response};
use touchline::{
    config,
    net::{
        Answer, Body, BodyError, Chunks, Context, Refusal, Service,
        drain::{Drain, Phase},
        h1::Limits,
        listener::{Gate, bind},
        problem,
        serve::{self, Serving, Terms},
    },
    telemetry::ListenerStats,
};

use crate::support::{
    client::{Client, get, request_text},
    h2c::H2,
};

/// Panics where its path says so.
#[derive(Default)]
struct Panicking {
    calls: AtomicUsize,
}

impl Service for Panicking {
    type Done = ();

    async fn call(&self, request: Request<Body>, _: Context) -> Answer<()> {
        self.calls.fetch_add(1, SeqCst);
        let body = match request.uri().path() {
            "/panic" => panic!("on purpose"),
            "/later" => {
                tokio::task::yield_now().await;
                panic!("on purpose, later")
            }
            "/body" => Body::of(PanickingBody { is_begun: false }),
            _ => Body::full("fine"),
        };
        Answer::new(Response::new(body), ())
    }

    fn refuse(&self, refusal: Refusal, _: Context) -> Answer<()> {
        Answer::new(problem::response(refusal), ())
    }
}

struct PanickingBody {
    is_begun: bool,
}

impl Chunks for PanickingBody {
    fn poll_chunk(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, BodyError>>> {
        assert!(!self.is_begun, "on purpose, in the body");
        self.is_begun = true;
        std::task::Poll::Ready(Some(Ok(Bytes::from_static(b"begun"))))
    }
}

fn start() -> (std::net::SocketAddr, Arc<Panicking>, Drain) {
    let drain = Drain::new();
    let socket = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
    let address = socket.local_addr().unwrap();
    let service = Arc::new(Panicking::default());
    let limits = config::Limits::default();
    let serving = Serving {
        service: Arc::clone(&service),
        gate: Gate::new(100, 0, Arc::new(ListenerStats::default())),
        terms: Terms::shared(
            Arc::new(Limits::downstream(&limits, config::Underscores::Drop)),
            Some(Arc::new(limits.http2)),
        ),
        drain: drain.clone(),
        buffers: Arc::default(),
    };
    serve::spawn(socket, serving).unwrap();
    (address, service, drain)
}

#[tokio::test]
async fn a_panic_costs_one_500_and_the_process_lives() {
    let (address, service, drain) = start();
    let mut client = Client::connect(address).await;

    for path in ["/panic", "/later"] {
        let failed = client.get(path).await;
        assert_eq!(failed.refusal(), (500, "internal".to_owned()), "{path}");
        assert!(!failed.text().contains("purpose"));
        if failed.field("connection") == "close" {
            client = Client::connect(address).await;
        }
        assert_eq!(client.get("/").await.text(), "fine", "after {path}");
    }
    client.send(request_text("POST", "/panic", &[], "body")).await;
    assert_eq!(client.answer().await.status, 500);

    assert_eq!(get(address, "/").await.text(), "fine");
    assert_eq!(service.calls.load(SeqCst), 6);
    drain.advance(Phase::Closing);
}

#[tokio::test]
async fn a_panic_after_the_head_shows_as_a_cut() {
    let (address, _, _) = start();

    let answer = get(address, "/body").await;

    assert_eq!((answer.status, answer.is_whole, answer.text().as_str()), (200, false, "begun"));
    assert_eq!(get(address, "/").await.text(), "fine");
}

#[tokio::test]
async fn a_panic_in_one_stream_leaves_the_others_alone() {
    let (address, _, _) = start();
    let client = H2::connect(address).await;

    for path in ["/panic", "/later"] {
        assert_eq!(client.get(path).await.unwrap().status, 500, "{path}");
    }
    assert!(client.get("/body").await.is_err());
    assert_eq!(client.get("/").await.unwrap().body, b"fine");
}
