"""Clients that leave: the backend stops working for them."""

import socket
import time
from statistics import median
from uuid import uuid4

import pytest

from support.h2 import H2Client
from support.raw import Reader, get
from support.wait import until

# The bound is 100 ms. The middle of several runs is held to it, because one run may meet a busy machine.
RUNS = 5
BOUND_S = 0.1


def noticed_after(backend, path: str, left: float) -> float:
    """Seconds from the moment the client left to the moment the backend knew."""
    when = until(lambda: backend.seen(path)[0]["disconnected"], "the backend notices that the caller left")
    assert backend.seen(path)[0]["ended"] is None or backend.seen(path)[0]["ended"] >= when
    return when - left


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("abrupt", [False, True], ids=["fin", "reset"])
def test_a_client_that_leaves_while_it_waits_cancels_the_work(proxy, backend, method, abrupt):
    delays = []
    for _ in range(RUNS):
        path = f"/test/slow/{uuid4()}"
        with proxy.connect() as sock:
            sock.sendall(get(f"{path}?ms=20000", *(["Content-Length: 0"] if method == "POST" else []), method=method))
            until(lambda path=path: backend.count(path) == 1, "the request reaches the backend")
            if abrupt:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        left = time.monotonic()
        delays.append(noticed_after(backend, path, left))

    assert median(delays) < BOUND_S, delays


def test_a_client_that_leaves_a_stream_stops_it(proxy, backend):
    delays = []
    for _ in range(RUNS):
        gate = str(uuid4())
        path = f"/test/gated/{gate}"
        with proxy.connect() as sock:
            sock.sendall(get(f"{path}?events=50"))
            assert Reader(sock).until(b"data: 0\n\n")
        left = time.monotonic()
        delays.append(noticed_after(backend, path, left))

    assert median(delays) < BOUND_S, delays


def test_a_cancelled_http2_stream_cancels_the_work_and_spares_its_neighbours(proxy, backend):
    delays = []
    with H2Client(proxy.address) as client:
        for _ in range(RUNS):
            path = f"/test/slow/{uuid4()}"
            neighbour = client.open("/test/slow?ms=200")
            stream = client.open(f"{path}?ms=20000")
            until(lambda path=path: backend.count(path) == 1, "the request reaches the backend")
            client.cancel(stream)
            delays.append(noticed_after(backend, path, time.monotonic()))
            assert client.finish(neighbour) == 200

    assert median(delays) < BOUND_S, delays


def test_an_upload_that_breaks_off_is_never_complete_for_the_backend(proxy, backend):
    path = f"/api/uploads/{uuid4()}"
    with proxy.connect() as sock:
        sock.sendall(f"PUT {path} HTTP/1.1\r\nHost: app.example\r\nContent-Length: 1000\r\n\r\n".encode() + b"x" * 400)
        until(lambda: [e["body_bytes"] for e in backend.seen(path)] == [400], "the first part arrives")

    until(lambda: backend.seen(path)[0]["disconnected"], "the backend notices that the caller left")
    assert backend.seen(path)[0]["body_bytes"] == 400


def test_a_chunked_upload_that_breaks_off_is_never_complete_for_the_backend(touchline, fake):
    server = fake(lambda sock, request: False)
    proxy = touchline(server)
    with proxy.connect() as sock:
        sock.sendall(b"POST /up HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        until(lambda: server.heads, "the head reaches the backend")

    # The fake reads to the last chunk or to the end of the connection, and must not find the former.
    (request,) = until(lambda: server.requests, "the connection to the backend ends")
    assert not request.whole
    assert request.body in (b"", b"hello")


def test_a_client_that_leaves_does_not_spoil_the_answer_for_those_who_wait_with_it(touchline, backend):
    name = f"/test/slow/{uuid4()}"
    proxy = touchline(
        backend, ingress={"routes": [{"path": "/test/slow/{name}", "cache": {"ttl": "1m", "public": True}}]}
    )
    with proxy.connect() as leader:
        leader.sendall(get(f"{name}?ms=600"))
        until(lambda: backend.count(name) == 1, "the fetch begins")
        with proxy.connect() as follower:
            follower.sendall(get(f"{name}?ms=600"))
            leader.close()
            answer = Reader(follower).answer()

    assert answer.status == 200
    assert b"waited_ms" in answer.body


def test_the_proxy_keeps_serving_after_many_aborts(proxy, backend):
    for number in range(100):
        with proxy.connect() as sock:
            sock.sendall(get("/test/slow?ms=20000")[: 10 + number])

    assert proxy.client.get("/api/challenges").status_code == 200
    until(
        lambda: all(e["disconnected"] or e["ended"] for e in backend.seen("/test/slow")),
        "every abort reaches the backend",
    )
