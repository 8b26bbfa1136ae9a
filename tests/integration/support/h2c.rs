//! An HTTP/2 client with prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, StatusCode};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::net::TcpStream;

use super::{spawn, within};

/// One HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct H2 {
    send: SendRequest<Bytes>,
    ended: Arc<Mutex<Option<Result<(), h2::Error>>>>,
}

/// An answer.
pub(crate) struct H2Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl H2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (send, connection) = within("a handshake", h2::client::handshake(stream)).await.unwrap();
        let ended = Arc::new(Mutex::default());
        let end = Arc::clone(&ended);
        spawn(async move {
            let result = connection.await;
            *end.lock() = Some(result);
        });
        Self { send, ended }
    }

    /// True once the connection is over.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.lock().is_some()
    }

    /// Sends a request without a body.
    pub(crate) async fn send(&self, request: Request<()>) -> Result<ResponseFuture, h2::Error> {
        let mut send = within("room for a stream", self.send.clone().ready()).await?;
        send.send_request(request, true).map(|(response, _)| response)
    }

    /// Sends a GET with more fields and reads the answer.
    pub(crate) async fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Result<H2Answer, h2::Error> {
        let mut request = Request::get(format!("http://coach.example{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let response = self.send(request.body(()).unwrap()).await?;
        read(within("an answer", response).await?).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<H2Answer, h2::Error> {
        self.get_with(path, &[]).await
    }

    /// Begins a POST whose body the test sends.
    pub(crate) async fn begin_post(
        &self,
        path: &str,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let request = Request::post(format!("http://coach.example{path}")).body(()).unwrap();
        send.send_request(request, false)
    }

    /// Sends a POST and reads the answer.
    pub(crate) async fn post(&self, path: &str, body: Vec<u8>) -> Result<H2Answer, h2::Error> {
        let (response, mut stream) = self.begin_post(path).await?;
        let uploading = spawn(async move {
            let mut body = Bytes::from(body);
            while !body.is_empty() {
                stream.reserve_capacity(body.len());
                let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                let Some(Ok(room)) = room else { return };
                let data = body.split_to(room.min(body.len()));
                if stream.send_data(data, false).is_err() {
                    return;
                }
            }
            let _ = stream.send_data(Bytes::new(), true);
        });
        let answer = read(within("an answer", response).await?).await;
        uploading.abort();
        answer
    }
}

/// Reads an answer to its end.
pub(crate) async fn read(response: http::Response<RecvStream>) -> Result<H2Answer, h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = within("data", stream.data()).await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(H2Answer { status: parts.status, headers: parts.headers, body })
}
