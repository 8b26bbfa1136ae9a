//! HTTP/1.1 by hand, so that every byte of a head is seen and every answer can be cut anywhere. No API rules.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::sleep,
};

use super::{
    api::{self, MAX_BODY},
    control::is_control,
    delivery::{Plan, Step},
    state::{Entry, Recorded, State},
};

/// The largest head.
const MAX_HEAD: usize = 64 * 1024;

/// How many bytes are read ahead while an answer is being sent.
const MAX_AHEAD: usize = 1024 * 1024;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In peace: the connection may go on.
    Done,
    /// In peace, and the connection ends.
    Last,
    /// Cut by the script; with a reset if true.
    Cut(bool),
    /// The client left.
    Gone,
}

/// Serves one connection; true asks the caller to reset it.
pub(crate) async fn serve<S>(state: &Arc<State>, stream: &mut S, connection: usize) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = BytesMut::new();
    loop {
        let Some(mut request) = read_head(state, stream, &mut buffer, connection).await else { return false };
        let entry = (!is_control(request.path())).then(|| state.record(request.clone()));
        let body = read_body(stream, &mut buffer, &mut request).await;
        if let Some(entry) = &entry {
            let mut entry = entry.lock();
            entry.body.clone_from(&request.body);
            entry.is_complete = body.is_ok();
            if body.is_err() {
                entry.gone = Some(state.elapsed());
            }
        }
        match body {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let text = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(text.as_bytes()).await;
                return false;
            }
            Err(_) => return false,
        }
        let plan = api::respond(state, &request);
        note(entry.as_ref(), |entry| entry.status = Some(plan.status));
        let asks_to_close =
            request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let end = play(stream, &mut buffer, plan, request.method == "HEAD").await;
        note(entry.as_ref(), |entry| match end {
            Ok(End::Done | End::Last) => entry.finished = Some(state.elapsed()),
            Ok(End::Cut(_)) => {}
            Ok(End::Gone) | Err(_) => entry.gone = Some(state.elapsed()),
        });
        match end {
            Ok(End::Done) if !asks_to_close => {}
            Ok(End::Cut(is_reset)) => return is_reset,
            _ => {
                let _ = stream.shutdown().await;
                return false;
            }
        }
    }
}

fn note(entry: Option<&Entry>, change: impl FnOnce(&mut Recorded)) {
    if let Some(entry) = entry {
        change(&mut entry.lock());
    }
}

/// The next head, or `None` at the end of the connection or of good form.
async fn read_head<S: AsyncRead + Unpin>(
    state: &State,
    stream: &mut S,
    buffer: &mut BytesMut,
    connection: usize,
) -> Option<Recorded> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > MAX_HEAD || stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = buffer.split_to(end).to_vec();
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.splitn(3, ' ').map(str::to_owned);
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if version != "HTTP/1.1" {
        return None;
    }
    let pairs = lines.filter(|line| !line.is_empty()).map(|line| line.split_once(':'));
    let headers: Option<Vec<_>> =
        pairs.map(|pair| pair.map(|(name, value)| (name.to_owned(), value.trim().to_owned()))).collect();
    Some(Recorded {
        connection,
        protocol: "HTTP/1.1",
        method,
        target,
        headers: headers?,
        head,
        body: Vec::new(),
        is_complete: false,
        arrived: state.elapsed(),
        status: None,
        finished: None,
        gone: None,
    })
}

/// Reads the body; an `InvalidData` error is the client's bad form.
async fn read_body<S>(stream: &mut S, buffer: &mut BytesMut, request: &mut Recorded) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let chunked = request.header("transfer-encoding").map(|value| value.eq_ignore_ascii_case("chunked"));
    let lengths = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let lengths: Vec<_> = lengths.map(|(_, value)| value.parse::<usize>()).collect();
    if chunked == Some(false) || lengths.len() + usize::from(chunked.is_some()) > 1 {
        return Err(bad());
    }
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if chunked.is_some() {
        loop {
            let line = read_line(stream, buffer).await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).map_err(|_| bad())?;
            if size == 0 {
                while !read_line(stream, buffer).await?.is_empty() {}
                return Ok(());
            }
            read_exact(stream, buffer, size, &mut request.body).await?;
            if !read_line(stream, buffer).await?.is_empty() {
                return Err(bad());
            }
        }
    }
    match lengths.first() {
        Some(Ok(length)) => read_exact(stream, buffer, *length, &mut request.body).await,
        Some(Err(_)) => Err(bad()),
        None => Ok(()),
    }
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<String> {
    loop {
        if let Some(end) = buffer.windows(2).position(|pair| pair == b"\r\n") {
            let line = buffer.split_to(end);
            buffer.advance(2);
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        if buffer.len() > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads so many bytes. What is far above the limit of the API is read and forgotten, so that the 413 arrives.
async fn read_exact<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    mut left: usize,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    while left > 0 {
        if buffer.is_empty() && stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let part = buffer.split_to(left.min(buffer.len()));
        left -= part.len();
        if body.len() <= MAX_BODY {
            body.extend_from_slice(&part);
        }
    }
    Ok(())
}

/// Carries a plan out.
async fn play<S>(stream: &mut S, buffer: &mut BytesMut, plan: Plan, is_head: bool) -> io::Result<End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !plan.head_delay.is_zero() && rest(stream, buffer, Some(plan.head_delay)).await {
        return Ok(End::Gone);
    }
    let head = head_text(&plan);
    if let Some(cut) = plan.head_cut {
        stream.write_all(head.as_bytes().get(..cut).unwrap_or(head.as_bytes())).await?;
        stream.flush().await?;
        return Ok(End::Cut(plan.reset));
    }
    let mut pending = head.into_bytes();
    for step in plan.steps {
        match step {
            Step::Send(_) if is_head => {}
            Step::Send(bytes) => {
                if plan.length.is_none() {
                    pending.extend(format!("{:x}\r\n", bytes.len()).as_bytes());
                }
                pending.extend(&bytes);
                if plan.length.is_none() {
                    pending.extend(b"\r\n");
                }
                flush(stream, &mut pending).await?;
            }
            Step::Wait(duration) => {
                flush(stream, &mut pending).await?;
                if rest(stream, buffer, Some(duration)).await {
                    return Ok(End::Gone);
                }
            }
            Step::Hang => {
                flush(stream, &mut pending).await?;
                rest(stream, buffer, None).await;
                return Ok(End::Gone);
            }
            Step::Abort => {
                flush(stream, &mut pending).await?;
                return Ok(End::Cut(plan.reset));
            }
        }
    }
    if plan.length.is_none() && !is_head {
        pending.extend(b"0\r\n\r\n");
    }
    flush(stream, &mut pending).await?;
    Ok(if plan.last { End::Last } else { End::Done })
}

async fn flush<S: AsyncWrite + Unpin>(stream: &mut S, pending: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(pending).await?;
    pending.clear();
    stream.flush().await
}

fn head_text(plan: &Plan) -> String {
    let code = http::StatusCode::from_u16(plan.status).ok();
    let reason = code.and_then(|code| code.canonical_reason()).unwrap_or("Overloaded");
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", plan.status);
    for (name, value) in &plan.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    match plan.length {
        Some(length) => text.push_str(&format!("Content-Length: {length}\r\n")),
        None => text.push_str("Transfer-Encoding: chunked\r\n"),
    }
    text.push_str(if plan.last { "Connection: close\r\n\r\n" } else { "Connection: keep-alive\r\n\r\n" });
    text
}

/// Rests, for ever without a duration; true as soon as the client is gone. What it sends meanwhile is kept.
async fn rest<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    duration: Option<Duration>,
) -> bool {
    let timer = async {
        match duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(timer);
    loop {
        let has_room = buffer.len() < MAX_AHEAD;
        tokio::select! {
            () = &mut timer => return false,
            read = stream.read_buf(buffer), if has_room => {
                if !read.is_ok_and(|count| count > 0) {
                    return true;
                }
            }
        }
    }
}
