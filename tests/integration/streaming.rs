//! Bodies flow as they come: events one by one, uploads while they are sent, and no faster than they are read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
};

use crate::support::{
    app::Setup,
    backend::{Backend, Step, read_head, text},
    client::Client,
    until,
};

#[tokio::test]
async fn events_arrive_one_by_one_and_byte_for_byte() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let events = ["data: one\n\n", "data: two\\n\\n", ": ping\r\n\r\n", "data: \u{1f600}\n\n"];
    let backend = Backend::start(move |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: max-age=60\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        let mut script = vec![Step::Send(head.into())];
        for event in events {
            script.push(Step::Gate(Arc::clone(&waits)));
            script.push(Step::Send(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()));
        }
        script.push(Step::Send(b"0\r\n\r\n".to_vec()));
        script
    })
    .await;
    let proxy = Setup::before(&backend).start();

    for _ in 0..2 {
        let mut client = Client::connect(proxy.address).await;
        client.ask("/").await;
        let head = client.head().await.expect("the head comes before the first event");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        for event in events {
            gate.add_permits(1);
            assert_eq!(client.chunk().await.unwrap(), event.as_bytes());
        }
        assert_eq!(client.chunk().await.unwrap(), b"");
    }
    assert_eq!(backend.count(), 2, "a stream was cached");
    let records = proxy.records_of(2).await;
    assert_eq!((&records[0]["kind"], &records[0]["reason"]), (&"stream".into(), &"streaming".into()));
}

#[tokio::test]
async fn an_upload_reaches_the_backend_while_it_is_being_sent() {
    let got = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&got);
    let backend = Backend::raw(move |mut stream, _| {
        let got = Arc::clone(&count);
        async move {
            let mut buffer = Vec::new();
            if read_head(&mut stream, &mut buffer).await.is_none() {
                return;
            }
            while !buffer.ends_with(b"0\r\n\r\n") {
                got.store(buffer.len(), SeqCst);
                if stream.read_buf(&mut buffer).await.is_ok_and(|read| read == 0) {
                    return;
                }
            }
            let _ = stream.write_all(text("200 OK", &[], "done").as_bytes()).await;
        }
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for part in 1..=5 {
        client.send("4\r\nabcd\r\n").await;
        until("the part is at the backend", || got.load(SeqCst) >= part * 4).await;
    }
    client.send("0\r\n\r\n").await;

    assert_eq!(client.answer().await.text(), "done");
}

#[tokio::test]
async fn a_backend_that_answers_while_it_reads_is_heard() {
    // Both bodies flow at once: each part of the request is echoed before the next one is sent.
    let backend = Backend::raw(|mut stream, _| async move {
        let mut buffer = Vec::new();
        if read_head(&mut stream, &mut buffer).await.is_none() {
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        loop {
            let end = buffer.ends_with(b"0\r\n\r\n");
            if !buffer.is_empty() {
                let _ = stream.write_all(&std::mem::take(&mut buffer)).await;
            }
            if end || stream.read_buf(&mut buffer).await.is_ok_and(|read| read == 0) {
                return;
            }
        }
    })
    .await;
    let proxy = Setup::before(&backend).start();

    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.head().await.unwrap();
    for part in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len())).await;
        assert_eq!(client.chunk().await.unwrap(), part.as_bytes());
    }
    client.send("0\r\n\r\n").await;

    assert_eq!(client.chunk().await.unwrap(), b"");
}

#[tokio::test]
async fn a_slow_reader_slows_the_backend_down() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let backend = Backend::raw(move |mut stream, _| {
        let sent = Arc::clone(&count);
        async move {
            let mut buffer = Vec::new();
            read_head(&mut stream, &mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {
                sent.fetch_add(16 * 1024, SeqCst);
            }
        }
    })
    .await;
    let proxy = Setup::before(&backend).start();
    let mut client = Client::connect(proxy.address).await;
    client.ask("/").await;
    client.head().await.unwrap();

    let mut before = usize::MAX;
    until("the backend is held up", || {
        let now = sent.load(SeqCst);
        std::mem::replace(&mut before, now) == now && now > 0
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;

    // What the kernel holds for three sockets, and no more.
    assert!(sent.load(SeqCst) < 40 << 20, "{}", sent.load(SeqCst));
}
