//! HTTP/1 on the wire: heads read and written, bodies unchunked.

use bytes::BytesMut;
use divan::{Bencher, black_box, counter::BytesCount};
use touchline::net::{
    Encoded,
    h1::{
        chunk::{Decoded, Decoder, write_size_line},
        framing::{self, Framing},
        head::{take_request, take_response},
        write::{ResponseLine, request_end, request_fields, response_end, response_fields},
    },
    request::check_http1,
};

use crate::{
    BATCH,
    samples::{
        BROWSER_REQUEST, DECLARED_ANSWER, SMALL_REQUEST, answer, backend_limits, client_limits, request,
    },
};

/// The line of an answer with 2 KiB of body.
const LINE: ResponseLine = ResponseLine {
    status: http::StatusCode::OK,
    framing: Framing::Length(2048),
    keeps_length: false,
    close: false,
};

/// Reading the head of a load generator's or a probe's request: one field.
#[divan::bench(sample_size = BATCH)]
fn request_head_1_field(bencher: Bencher<'_, '_>) {
    read_request(bencher, SMALL_REQUEST, 1);
}

/// Reading the head of a browser's request: twelve fields.
#[divan::bench(sample_size = BATCH)]
fn request_head_12_fields(bencher: Bencher<'_, '_>) {
    read_request(bencher, BROWSER_REQUEST, 12);
}

fn read_request(bencher: Bencher<'_, '_>, text: &str, fields: usize) {
    assert_eq!(request(text).headers.len(), fields);
    let limits = client_limits();

    bencher.with_inputs(|| BytesMut::from(text)).bench_local_refs(|buffer| take_request(buffer, &limits));
}

/// What follows a request's head at once: its framing, and the checks that make one reading of it.
#[divan::bench(sample_size = BATCH)]
fn request_checks_12_fields(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(|| request(BROWSER_REQUEST)).bench_local_refs(|head| {
        let framing = framing::of_request(head.version, &head.headers)?;
        check_http1(head, framing)
    });
}

/// Reading the head of the backend's answer: eight fields.
#[divan::bench(sample_size = BATCH)]
fn response_head_8_fields(bencher: Bencher<'_, '_>) {
    assert_eq!(answer(DECLARED_ANSWER).headers.len(), 8);
    let limits = backend_limits();

    bencher
        .with_inputs(|| BytesMut::from(DECLARED_ANSWER))
        .bench_local_refs(|buffer| take_response(buffer, &limits));
}

/// Writing the head of a miss's request to the backend: twelve fields out of a map.
#[divan::bench(sample_size = BATCH)]
fn write_request_12_fields(bencher: Bencher<'_, '_>) {
    let head = request(BROWSER_REQUEST);
    let mut out = BytesMut::with_capacity(4096);

    bencher.bench_local(|| {
        out.clear();
        request_fields(&mut out, &head.method, &head.uri, black_box(&head.headers));
        request_end(&mut out, &head.method, Framing::None, false);
    });
}

/// Writing the head of a miss's answer: eight fields out of a map.
#[divan::bench(sample_size = BATCH)]
fn write_response_8_fields(bencher: Bencher<'_, '_>) {
    let head = answer(DECLARED_ANSWER);
    let mut out = BytesMut::with_capacity(4096);

    bencher.bench_local(|| {
        out.clear();
        response_fields(&mut out, LINE, black_box(&head.headers), None);
        response_end(&mut out, LINE);
    });
}

/// Writing the head of a hit: the same fields, encoded when they were first sent.
#[divan::bench(sample_size = BATCH)]
fn write_response_encoded(bencher: Bencher<'_, '_>) {
    let encoded = Encoded::of(&answer(DECLARED_ANSWER).headers);
    let empty = http::HeaderMap::new();
    let mut out = BytesMut::with_capacity(4096);
    assert!(encoded.has_date());

    bencher.bench_local(|| {
        out.clear();
        response_fields(&mut out, LINE, &empty, Some(black_box(&encoded)));
        response_end(&mut out, LINE);
    });
}

/// Decoding a chunked answer that lies in the buffer: 16 KiB in chunks of 1 KiB.
#[divan::bench(sample_size = 8)]
fn unchunk_16_kib(bencher: Bencher<'_, '_>) {
    let limits = client_limits();
    let mut text = BytesMut::new();
    for _ in 0..16 {
        write_size_line(&mut text, 1024);
        text.extend_from_slice(&[b'x'; 1024]);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    let decode = |buffer: &mut BytesMut| {
        let (mut decoder, mut bytes) = (Decoder::new(&limits), 0);
        loop {
            match decoder.decode(buffer, &limits) {
                Ok(Decoded::Data(data)) => bytes += black_box(data).len(),
                Ok(Decoded::End) => return bytes,
                other => panic!("decoding the sample gave {other:?}"),
            }
        }
    };
    assert_eq!(decode(&mut text.clone()), 16 * 1024);

    bencher
        .counter(BytesCount::new(16 * 1024_usize))
        .with_inputs(|| BytesMut::from(text.as_ref()))
        .bench_local_refs(decode);
}
