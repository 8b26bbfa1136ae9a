//! The fake Claude API as a command, for demos, benches and clients in other languages:
//! `cargo run --example fake_claude -- --listen 127.0.0.1:0 [--tls CERT KEY] [--seed N] [--speed 0|real]`.
//!
//! It prints `listening on ADDRESS` and ends with its standard input or at SIGTERM. A header `x-fake-script: {json}` or
//! `POST /__script` scripts answers, `GET /__requests` lists what came in, `POST /__reset` forgets it, and
//! `POST /__advance` with `{"seconds": 300}` moves the clock of the prompt cache.

#[path = "../tests/support/claude/mod.rs"]
mod claude;

use std::{
    fs,
    io::{self, Write as _},
    thread,
};

use anyhow::{Context as _, bail};
use claude::{Fake, Settings, Tls};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let fake = Fake::start(settings(std::env::args().skip(1))?).await.context("starting the fake")?;
    let mut out = io::stdout();
    writeln!(out, "listening on {}", fake.addr)?;
    out.flush()?;

    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = end_of_input() => {}
    }
    drop(fake);
    Ok(())
}

fn settings(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--listen" => settings.listen = value()?.parse().context("--listen")?,
            "--seed" => settings.seed = value()?.parse().context("--seed")?,
            "--speed" => settings.real_speed = value()? == "real",
            "--tls" => {
                let read = |path: String| fs::read(&path).with_context(|| format!("reading {path}"));
                let certificate = read(value()?)?;
                settings.tls = Some(Tls { certificate, key: read(value()?)? });
            }
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(settings)
}

/// Ends with the standard input. A thread reads it: the runtime would wait at its end for a read of its own.
fn end_of_input() -> oneshot::Receiver<()> {
    let (tx, rx) = oneshot::channel();
    thread::spawn(move || {
        // An unreadable input is an ended one.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = tx.send(());
    });
    rx
}
