//! Bodies pass through in bounded memory: measured on a process of its own, so that no other test is in the figure.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    app::Setup,
    backend::{Backend, Step, ok, read_head, text},
    client::Client,
    process::Process,
};

const SIZE: usize = 100 << 20;

/// What a stream may cost: buffers of both sides, and what the allocator keeps of them.
const BOUND: u64 = 4 << 20;

fn start(backend: &Backend, more: &str) -> Process {
    Process::start(&Setup::before(backend).limits("body: 200MiB, per_ip: 0").top("cache", more).yaml())
}

/// Asks once, so that what is allocated at the first request is not in the figure.
async fn warm(process: &Process) -> u64 {
    Client::connect(process.address).await.get("/warm").await;
    process.memory()
}

#[tokio::test]
async fn a_hundred_megabytes_down_a_slow_reader_cost_no_memory() {
    let backend = Backend::start(|request| match request.target() {
        "/warm" => ok("hi"),
        _ => vec![
            Step::Send(
                format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {SIZE}\r\n\r\n")
                    .into_bytes(),
            ),
            Step::Endless(vec![b'x'; 256 * 1024]),
        ],
    })
    .await;
    let process = start(&backend, "{ max_body: 1MiB }");
    let before = warm(&process).await;

    let mut client = Client::connect(process.address).await;
    client.ask("/big").await;
    client.head().await.unwrap();
    let (mut read, mut most) = (0, 0);
    let mut piece = vec![0; 512 * 1024];
    while read < SIZE - (1 << 20) {
        let count = client.stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "cut after {read}");
        read += count;
        if read % 16 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        most = most.max(process.memory());
    }

    assert!(most < before + BOUND, "{before} grew to {most}");
}

#[tokio::test]
async fn a_hundred_megabytes_up_to_a_slow_backend_cost_no_memory() {
    for framing in ["length", "chunks"] {
        let backend = Backend::raw(|mut stream, _| async move {
            let mut buffer = Vec::new();
            let Some(head) = read_head(&mut stream, &mut buffer).await else { return };
            let (mut read, mut piece) = (buffer.len(), vec![0; 512 * 1024]);
            let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding");
            let mut is_over = !head.starts_with("POST");
            while !is_over {
                let Ok(count) = stream.read(&mut piece).await else { return };
                if count == 0 {
                    return;
                }
                read += count;
                is_over = if is_chunked { piece[..count].ends_with(b"0\r\n\r\n") } else { read == SIZE };
                if read % 16 == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
            let _ = stream.write_all(text("200 OK", &["Connection: close"], "done").as_bytes()).await;
            let _ = stream.read(&mut piece).await;
        })
        .await;
        let process = start(&backend, "{}");
        let before = warm(&process).await;

        let mut client = Client::connect(process.address).await;
        let (line, piece) = match framing {
            "length" => (format!("Content-Length: {SIZE}"), vec![b'x'; 1 << 20]),
            _ => (
                "Transfer-Encoding: chunked".to_owned(),
                [b"100000\r\n", vec![b'x'; 1 << 20].as_slice(), b"\r\n"].concat(),
            ),
        };
        client.send(format!("POST /big HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n")).await;
        let mut most = 0;
        for _ in 0..100 {
            if !client.try_send(&piece).await {
                panic!("{framing}: {:?}", client.try_answer(false).await);
            }
            most = most.max(process.memory());
        }
        if framing == "chunks" {
            client.send("0\r\n\r\n").await;
        }

        assert_eq!(client.answer().await.text(), "done", "{framing}");
        assert!(most < before + BOUND, "{framing}: {before} grew to {most}");
    }
}

#[tokio::test]
async fn readers_that_stop_cost_little_memory_each() {
    const READERS: u64 = 100;
    let backend = Backend::start(|request| match request.target() {
        "/warm" => ok("hi"),
        _ => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
            Step::Endless([b"4000\r\n", vec![b'x'; 16 * 1024].as_slice(), b"\r\n"].concat()),
        ],
    })
    .await;
    let process = start(&backend, "{ fill_memory: 1MiB }");
    let before = warm(&process).await;

    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut client = Client::connect(process.address).await;
        client.ask("/endless").await;
        client.head().await.unwrap();
        readers.push(client);
    }
    let mut last = 0;
    crate::support::until("memory is steady", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let now = process.memory();
        std::mem::replace(&mut last, now) == now
    })
    .await;

    let each = last.saturating_sub(before) / READERS;
    assert!(each <= 256 * 1024, "{each} bytes a stream");
}

#[tokio::test]
async fn idle_connections_cost_little_memory_each() {
    const IDLE: u64 = 1000;
    let backend = Backend::start(|_| ok("hi")).await;
    let process = start(&backend, "{}");
    let before = warm(&process).await;

    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut client = Client::connect(process.address).await;
        client.get("/").await;
        idle.push(client);
    }

    let each = process.memory().saturating_sub(before) / IDLE;
    assert!(each <= 16 * 1024, "{each} bytes a connection");
}
