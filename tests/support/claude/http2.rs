//! HTTP/2: each stream is one exchange. No API rules.

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::sleep,
};

use super::{
    api::{self, MAX_BODY},
    control::is_control,
    delivery::{Plan, Step},
    http1::End,
    state::{Recorded, State},
};

/// The window of a stream and of the connection, so that large bodies need no many turns.
const WINDOW: u32 = 1024 * 1024;

/// Serves one connection until it ends; a script may ask to cut or to end it.
pub(crate) async fn serve<S>(state: &Arc<State>, stream: S, connection: usize)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).max_concurrent_streams(256);
    let Ok(mut server) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut exchanges = JoinSet::new();
    loop {
        tokio::select! {
            accepted = server.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let state = Arc::clone(state);
                    exchanges.spawn(async move { exchange(&state, request, respond, connection).await });
                }
                _ => break,
            },
            Some(ended) = exchanges.join_next() => {
                if matches!(ended, Ok(End::Last)) {
                    server.graceful_shutdown();
                }
            }
        }
    }
    // What is still being answered finds out by itself that the client is gone, and notes it.
    while exchanges.join_next().await.is_some() {}
}

async fn exchange(
    state: &State,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
) -> End {
    let (parts, mut incoming) = request.into_parts();
    let authority = parts.uri.authority().map(|host| (":authority".to_owned(), host.to_string()));
    let mut headers: Vec<_> = authority.into_iter().collect();
    for (name, value) in &parts.headers {
        headers.push((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let mut request = Recorded {
        connection,
        protocol: "HTTP/2",
        method: parts.method.to_string(),
        target,
        headers,
        head: Vec::new(),
        body: Vec::new(),
        is_complete: false,
        arrived: state.elapsed(),
        status: None,
        finished: None,
        gone: None,
    };
    let entry = (!is_control(request.path())).then(|| state.record(request.clone()));
    let is_complete = read_body(&mut incoming, &mut request.body).await;
    if let Some(entry) = &entry {
        let mut entry = entry.lock();
        entry.body.clone_from(&request.body);
        entry.is_complete = is_complete;
        entry.gone = (!is_complete).then(|| state.elapsed());
    }
    if !is_complete {
        return End::Gone;
    }
    let plan = api::respond(state, &request);
    if let Some(entry) = &entry {
        entry.lock().status = Some(plan.status);
    }
    let end = play(&mut respond, plan, request.method == "HEAD").await;
    if let Some(entry) = &entry {
        let mut entry = entry.lock();
        match end {
            End::Done | End::Last => entry.finished = Some(state.elapsed()),
            End::Gone => entry.gone = Some(state.elapsed()),
            End::Cut(_) => {}
        }
    }
    end
}

/// Reads the body to its end; false if the client gave up.
async fn read_body(incoming: &mut RecvStream, body: &mut Vec<u8>) -> bool {
    while let Some(part) = incoming.data().await {
        let Ok(part) = part else { return false };
        if body.len() <= MAX_BODY {
            body.extend_from_slice(&part);
        }
        if incoming.flow_control().release_capacity(part.len()).is_err() {
            return false;
        }
    }
    true
}

async fn play(respond: &mut SendResponse<Bytes>, plan: Plan, is_head: bool) -> End {
    let gone = tokio::select! {
        () = sleep(plan.head_delay) => false,
        _ = poll_fn(|context| respond.poll_reset(context)) => true,
    };
    if gone {
        return End::Gone;
    }
    if plan.head_cut.is_some() {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return End::Cut(plan.reset);
    }
    let mut response = Response::builder().status(plan.status);
    for (name, value) in &plan.headers {
        response = response.header(name.to_ascii_lowercase(), value);
    }
    if let Some(length) = plan.length {
        response = response.header("content-length", length);
    }
    let sent = response.body(()).ok().and_then(|response| respond.send_response(response, is_head).ok());
    let Some(mut stream) = sent else { return End::Gone };
    if is_head {
        return End::Done;
    }
    for step in plan.steps {
        let is_there = match step {
            Step::Send(bytes) => send(&mut stream, bytes).await,
            Step::Wait(duration) => rest(&mut stream, Some(duration)).await,
            Step::Hang => rest(&mut stream, None).await,
            Step::Abort => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return End::Cut(plan.reset);
            }
        };
        if !is_there {
            return End::Gone;
        }
    }
    match stream.send_data(Bytes::new(), true) {
        Ok(()) if plan.last => End::Last,
        Ok(()) => End::Done,
        Err(_) => End::Gone,
    }
}

/// Sends as the client's window allows; false if it is gone.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> bool {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let capacity = poll_fn(|context| stream.poll_capacity(context)).await;
        let Some(Ok(capacity)) = capacity else { return false };
        if stream.send_data(bytes.split_to(capacity.min(bytes.len())), false).is_err() {
            return false;
        }
    }
    true
}

/// Rests, for ever without a duration; false as soon as the client is gone.
async fn rest(stream: &mut SendStream<Bytes>, duration: Option<Duration>) -> bool {
    let timer = async {
        match duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = timer => true,
        _ = poll_fn(|context| stream.poll_reset(context)) => false,
    }
}
