//! Bounds on connections, addresses that are shared or not, and listeners that end without losing a client.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::{Gate, accept, bind, bind_beside, hold_off, listen};
use crate::{
    net::drain::{Drain, Phase},
    telemetry::ListenerStats,
};

#[test]
fn places_are_bounded_in_all_and_per_address() {
    let stats = Arc::new(ListenerStats::default());
    let gate = Gate::new(3, 2, Arc::clone(&stats));
    let (one, two) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());

    let first = gate.enter(one).unwrap();
    let _second = gate.enter(one).unwrap();
    assert!(gate.enter(one).is_none());
    let _third = gate.enter(two).unwrap();
    assert!(gate.enter(two).is_none());
    drop(first);

    assert!(gate.enter(two).is_some());
    assert_eq!((stats.turned_away.get(), stats.accepted.get()), (2, 4));
}

#[test]
fn workers_share_an_address_that_nobody_else_has() {
    let sockets = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let address = sockets[0].local_addr().unwrap();

    assert_eq!(sockets[1].local_addr().unwrap(), address);
    assert!(bind(address, 1).is_err());
}

#[test]
fn who_binds_beside_another_gets_nothing_before_it_listens() {
    let old = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let address = old[0].local_addr().unwrap();
    let new = bind_beside(address, 2).unwrap();

    let clients: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();

    assert_eq!(queued(&old[0]), clients.len(), "all of them wait for the old one");
    for socket in &new {
        listen(socket).unwrap();
    }
    let _more: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    assert!(new.iter().map(queued).sum::<usize>() > 0, "the new one takes its share");
}

#[test]
fn one_who_is_held_off_is_served_by_whoever_listens_on() {
    let old = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
    let address = old.local_addr().unwrap();
    let before = std::net::TcpStream::connect(address).unwrap();
    hold_off(&old).unwrap();

    let late = std::thread::spawn(move || {
        let start = tokio::time::Instant::now();
        let stream = std::net::TcpStream::connect(address);
        (stream, start.elapsed())
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(!late.is_finished(), "nobody answers it, and nobody refuses it");
    assert_eq!(queued(&old), 1, "what was queued before is still there");
    let new = bind_beside(address, 1).unwrap().remove(0);
    listen(&new).unwrap();
    drop((old, before));

    let (stream, took) = late.join().unwrap();
    assert!(stream.is_ok() && took >= Duration::from_millis(200), "{took:?}");
    new.set_nonblocking(false).unwrap();
    assert!(new.accept().is_ok());
}

/// Takes what is queued and says how much it was.
fn queued(socket: &std::net::TcpListener) -> usize {
    std::iter::from_fn(|| socket.accept().ok()).count()
}

/// Serves connections by one word each, until the listener is shut.
async fn greet(socket: std::net::TcpListener, drain: Drain, served: Arc<AtomicUsize>) {
    let listener = TcpListener::from_std(socket).unwrap();
    let gate = Gate::new(100_000, 0, Arc::new(ListenerStats::default()));
    let serving = drain.clone();
    accept(listener, gate, drain, move |mut stream, _, place| {
        let served = Arc::clone(&served);
        serving.spawn(async move {
            let _place = place;
            // Counted first: the client has its greeting before this task is back from writing it.
            served.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(b"hi").await;
        });
    })
    .await;
}

/// Connects, again and again, and expects a greeting each time. Returns how often, and what went wrong.
fn come_and_go(address: SocketAddr, is_over: &AtomicUsize) -> (usize, Vec<String>) {
    let (mut greeted, mut failures) = (0, Vec::new());
    while is_over.load(Ordering::Relaxed) == 0 {
        let mut word = [0; 2];
        let got = std::net::TcpStream::connect(address).and_then(|mut stream| {
            stream.write_all(b"?")?;
            stream.read_exact(&mut word)
        });
        match got {
            Ok(()) => greeted += 1,
            Err(error) => failures.push(error.to_string()),
        }
    }
    (greeted, failures)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_is_taken_over_twenty_times_loses_nobody() {
    let first = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let address = first[0].local_addr().unwrap();
    let (served, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let start = |sockets: Vec<std::net::TcpListener>| {
        let drain = Drain::new();
        for socket in sockets {
            drain.spawn(greet(socket, drain.clone(), Arc::clone(&served)));
        }
        drain
    };
    let mut old = start(first);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || come_and_go(address, &is_over))
        })
        .collect();

    for _ in 0..20 {
        // Each generation is in use when the next one comes, however slow the machine is.
        let enough = served.load(Ordering::Relaxed) + 8;
        while served.load(Ordering::Relaxed) < enough {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let sockets = bind_beside(address, 2).unwrap();
        for socket in &sockets {
            listen(socket).unwrap();
        }
        let new = start(sockets);
        old.advance(Phase::Shut);
        old.finished().await;
        old = new;
    }
    is_over.store(1, Ordering::Relaxed);

    let joined = tokio::task::spawn_blocking(move || {
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let results = joined.await.unwrap();
    let failures: Vec<_> = results.iter().flat_map(|(_, failures)| failures).collect();
    assert!(failures.is_empty(), "{} failed, first {:?}", failures.len(), failures.first());
    let greeted: usize = results.iter().map(|(greeted, _)| greeted).sum();
    assert_eq!(served.load(Ordering::Relaxed), greeted);
}
