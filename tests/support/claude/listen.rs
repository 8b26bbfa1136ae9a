//! Accepts connections, with TLS if asked, and finds out which protocol each speaks. No API rules.

use std::{io, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Tls, http1, http2, state::State};

/// How an HTTP/2 connection with prior knowledge begins.
const PREFACE: &[u8] = b"PRI * HTTP/2";

/// A stream whose TCP connection can be reached.
trait Connection: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Connection for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Reads certificate and key.
pub(crate) fn acceptor(tls: &Tls) -> io::Result<TlsAcceptor> {
    let bad = |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&tls.certificate).collect();
    let key = PrivateKeyDer::from_pem_slice(&tls.key).map_err(|error| bad(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(certificates.map_err(|error| bad(&error))?, key)
        .map_err(|error| bad(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts until it is dropped, and with it every connection.
pub(crate) async fn accept(listener: TcpListener, state: Arc<State>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (state, tls) = (Arc::clone(&state), tls.clone());
                connections.spawn(async move { serve(&state, stream, tls, number).await });
                number += 1;
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(state: &Arc<State>, stream: TcpStream, tls: Option<TlsAcceptor>, number: usize) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => {
            let is_h2 = speaks_h2(&stream).await;
            speak(state, stream, is_h2, number).await;
        }
        Some(acceptor) => {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            speak(state, stream, is_h2, number).await;
        }
    }
}

async fn speak<S: Connection>(state: &Arc<State>, mut stream: S, is_h2: bool, number: usize) {
    if is_h2 {
        http2::serve(state, stream, number).await;
    } else if http1::serve(state, &mut stream, number).await {
        // A linger of zero turns the close into a reset.
        let _ = socket2::SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO));
    } else {
        let _ = stream.flush().await;
    }
}

/// Waits until enough of the first bytes is there to know.
async fn speaks_h2(stream: &TcpStream) -> bool {
    let mut start = [0; PREFACE.len()];
    loop {
        let Ok(count) = stream.peek(&mut start).await else { return false };
        let seen = start.get(..count).unwrap_or_default();
        if count == 0 || !PREFACE.starts_with(seen) {
            return false;
        }
        if count == PREFACE.len() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
