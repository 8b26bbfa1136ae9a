//! A TCP proxy between touchline and the backend that can be told to misbehave while it runs, also towards
//! connections that are open.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
};

use super::{backend::listen, spawn};

/// What the proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes them on.
    Pass,
    /// Does not accept connections and resets those that are open.
    Refuse,
    /// Accepts and passes nothing on.
    Hang,
    /// Passes every read on after a pause.
    Latency(Duration),
    /// Passes single bytes on with a pause.
    Trickle(Duration),
    /// Passes so many bytes of the answer on and closes.
    Cut(usize),
    /// Passes so many bytes of the answer on and resets.
    Reset(usize),
}

/// A running fault proxy.
pub(crate) struct Faults {
    pub(crate) address: SocketAddr,
    target: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Faults {
    /// A proxy to `target` that passes everything on.
    #[expect(clippy::unused_async, reason = "it spawns, so it may only be called within a runtime")]
    pub(crate) async fn before(target: SocketAddr) -> Self {
        let listener = listen("127.0.0.1:0".parse().unwrap());
        let address = listener.local_addr().unwrap();
        drop(listener);
        let faults = Self {
            address,
            target,
            mode: Arc::new(watch::channel(Mode::Pass).0),
            accepting: Mutex::default(),
        };
        faults.open();
        faults
    }

    /// Changes what it does.
    pub(crate) async fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        let accepting = self.accepting.lock().take();
        if mode == Mode::Refuse {
            if let Some(accepting) = accepting {
                accepting.abort();
                let _ = accepting.await;
            }
        } else if accepting.is_some() {
            *self.accepting.lock() = accepting;
        } else {
            self.open();
        }
    }

    fn open(&self) {
        let listener = listen(self.address);
        let (mode, target) = (Arc::clone(&self.mode), self.target);
        *self.accepting.lock() = Some(spawn(async move {
            loop {
                let Ok((near, _)) = listener.accept().await else { continue };
                spawn(carry(near, target, mode.subscribe()));
            }
        }));
    }
}

async fn carry(near: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let (up, down) = (mode.clone(), mode.clone());
    let refused = async move {
        let _ = mode.wait_for(|mode| *mode == Mode::Refuse).await;
    };
    tokio::select! {
        _ = pass(near_in, far_out, up, false) => {}
        out = pass(far_in, near_out, down, true) => {
            if let Some(out) = out {
                let _ = out.as_ref().set_zero_linger();
            }
        }
        () = refused => {}
    }
}

/// Moves bytes one way; gives the way out back when it is to be reset.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
    is_answer: bool,
) -> Option<OwnedWriteHalf> {
    let mut moved = 0;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        let now = *mode.borrow();
        let data = &buffer[..read];
        match now {
            Mode::Pass | Mode::Refuse => to.write_all(data).await.ok()?,
            Mode::Hang => {}
            Mode::Latency(pause) => {
                tokio::time::sleep(pause).await;
                to.write_all(data).await.ok()?;
            }
            Mode::Trickle(pause) => {
                for byte in data {
                    to.write_all(&[*byte]).await.ok()?;
                    tokio::time::sleep(pause).await;
                }
            }
            Mode::Cut(_) | Mode::Reset(_) if !is_answer => to.write_all(data).await.ok()?,
            Mode::Cut(bytes) | Mode::Reset(bytes) => {
                let take = (bytes - moved).min(read);
                to.write_all(&data[..take]).await.ok()?;
                moved += take;
                if moved == bytes {
                    return matches!(now, Mode::Reset(_)).then_some(to);
                }
            }
        }
    }
}
