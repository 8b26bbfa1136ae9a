//! The signals that end the process, and the one that has its configuration read anew.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears SIGHUP.
pub struct Hangups(Signal);

impl Hangups {
    /// Takes the signal over from the kernel's default, which ends the process.
    ///
    /// # Errors
    /// When the handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one. Several that come at once are one.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Hears SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the kernel's default.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
