"""Limits: each driven over its edge, with the status, the reason and the closed connection that belong to it."""

import json
import socket
from uuid import uuid4

import pytest

from support.raw import Reader, ask, get
from support.wait import until


def assert_refused(answer, status: int, reason: str) -> None:
    """Ours, with its reason, and the connection closes after it."""
    assert answer.status == status, answer.body
    assert answer["content-type"] == "application/problem+json"
    assert json.loads(answer.body)["reason"] == reason
    assert answer["connection"].lower() == "close"
    assert answer.closed, "the connection stays open"


def post(path: str, *lines: str) -> bytes:
    return get(path, *lines, method="POST")


def test_a_declared_body_over_the_limit_is_413_before_it_is_sent(proxy, backend):
    path = f"/api/uploads/{uuid4()}"

    answer = ask(proxy.address, post(path, f"Content-Length: {10 * 1024 * 1024 + 1}"))

    assert_refused(answer, 413, "body_too_large")
    assert backend.count(path) == 0


def test_a_chunked_body_over_the_limit_is_413(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"body": "2KiB"}})

    answer = ask(
        proxy.address, post("/test/echo", "Transfer-Encoding: chunked") + b"1000\r\n" + b"x" * 4096 + b"\r\n0\r\n\r\n"
    )

    assert_refused(answer, 413, "body_too_large")


def test_a_body_of_exactly_the_limit_passes(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"body": "2KiB"}})

    assert proxy.client.post("/test/echo", content=b"x" * 2048).json()["body_bytes"] == 2048
    assert proxy.client.post("/test/echo", content=iter([b"x" * 1024] * 2)).json()["body_bytes"] == 2048


def test_a_route_may_have_a_body_limit_of_its_own(touchline, backend):
    proxy = touchline(
        backend,
        ingress={"routes": [{"path": "/api/uploads/{name}", "body": "1KiB"}, {"path": "/test/echo", "body": "20MiB"}]},
    )

    assert proxy.client.put("/api/uploads/a", content=b"x" * 1025).status_code == 413
    assert proxy.client.post("/test/echo", content=b"x" * (11 * 1024 * 1024)).status_code == 200


def test_a_request_line_over_the_limit_is_414(proxy):
    assert_refused(ask(proxy.address, get("/" + "a" * 8192)), 414, "target_too_long")
    assert ask(proxy.address, get("/test/echo/" + "a" * 8000, "Connection: close")).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Large: " + "a" * 17_000],
        [f"X-{number}: {'a' * 4000}" for number in range(9)],
        [f"X-{number}: 1" for number in range(101)],
    ],
    ids=["one-field", "all-fields", "their-number"],
)
def test_header_fields_over_a_limit_are_431(proxy, lines):
    assert_refused(ask(proxy.address, get("/health", *lines)), 431, "headers_too_large")


def test_a_head_without_end_is_431_at_the_limit_and_not_at_the_end(proxy):
    with proxy.connect(timeout_s=5) as sock:
        try:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: " + b"a" * 100_000)
        except ConnectionError:
            pass

        assert Reader(sock).answer().status == 431


def test_a_method_over_the_limit_is_400(proxy):
    assert ask(proxy.address, get("/health", method="A" * 33)).status == 400


@pytest.mark.parametrize(
    ("request_bytes", "status", "reason"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", 400, "bad_host"),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "bad_host"),
        (b"GET /health HTTP/1.1\nHost: a\n\n", 400, "bad_request"),
        (b"GET /he alth HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        (b"GET health HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_target"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "bad_framing",
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400, "bad_framing"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "bad_framing"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "unsupported_coding"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Authorization\r\n\r\n", 400, "bad_connection"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", 417, "expectation_failed"),
        (b"GET / HTTP/2.5\r\nHost: a\r\n\r\n", 505, "unsupported_version"),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50), 400, "bad_request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_request_is_refused_and_its_connection_closed(proxy, request_bytes, status, reason):
    answer = ask(proxy.address, request_bytes)

    assert (answer.status, json.loads(answer.body)["reason"]) == (status, reason)
    assert answer.closed


def test_bytes_after_a_refusal_are_never_parsed_as_a_request(proxy, backend):
    mark = str(uuid4())

    ask(
        proxy.address,
        post("/", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + get(f"/test/echo/{mark}"),
    )

    assert backend.count(f"/test/echo/{mark}") == 0


def test_a_head_that_comes_too_slowly_is_408(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"header_timeout": "300ms"}})
    with proxy.connect(timeout_s=5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        reader = Reader(sock)
        answer = reader.answer()

        assert answer.status == 408
        assert json.loads(answer.body)["reason"] == "request_timeout"
        assert reader.is_closed()


def test_a_body_that_stops_coming_ends_the_request(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"body_idle": "300ms"}})
    path = f"/api/uploads/{uuid4()}"
    with proxy.connect(timeout_s=5) as sock:
        sock.sendall(f"PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf".encode())

        assert Reader(sock).answer().status == 408
    until(lambda: backend.seen(path)[0]["disconnected"], "the backend's request is cancelled")


def test_an_idle_connection_is_closed_after_its_time(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"keep_alive": "300ms"}})
    with proxy.connect(timeout_s=5) as sock:
        sock.sendall(get("/health"))
        reader = Reader(sock)

        assert reader.answer().status == 200
        assert reader.is_closed()


def test_a_connection_serves_no_more_requests_than_configured(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"requests": 3}})
    with proxy.connect(timeout_s=5) as sock:
        reader = Reader(sock)
        for number in range(3):
            sock.sendall(get("/health"))
            answer = reader.answer()
            assert answer.status == 200
            assert bool(answer.all("connection")) == (number == 2)
        assert reader.is_closed()


def test_pipelined_requests_are_answered_in_order(proxy):
    with proxy.connect() as sock:
        sock.sendall(get("/test/slow?ms=100") + get("/test/bytes/3") + get("/health", "Connection: close"))
        reader = Reader(sock)
        answers = [reader.answer() for _ in range(3)]

    assert b"waited_ms" in answers[0].body
    assert answers[1].body == b"000"
    assert b"healthy" in answers[2].body


def test_an_http_1_0_client_is_served_and_closed(proxy):
    with proxy.connect() as sock:
        sock.sendall(b"GET /test/bytes/20 HTTP/1.0\r\nHost: a\r\n\r\n")
        reader = Reader(sock)
        answer = reader.answer()

        assert answer.body == b"0000000\n0000001\n0000"
        assert not answer.all("transfer-encoding")
        assert reader.is_closed()


def test_one_address_gets_no_more_connections_than_configured(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"per_ip": 4}})
    held = []
    try:
        for _ in range(4):
            sock = proxy.connect(timeout_s=5)
            held.append(sock)
            sock.sendall(get("/health"))
            assert Reader(sock).answer().status == 200

        with proxy.connect(timeout_s=5) as fifth:
            try:
                fifth.sendall(get("/health"))
            except ConnectionError:
                pass
            assert Reader(fifth).answer() is None
    finally:
        for sock in held:
            sock.close()

    until(lambda: _serves(proxy), "a place is free again", every_s=0.05)


def _serves(proxy) -> bool:
    try:
        return ask(proxy.address, get("/health", "Connection: close")).status == 200
    except (AssertionError, OSError):
        return False


def test_a_thousand_idle_connections_cost_little_and_hinder_nobody(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"per_ip": 0}})
    proxy.client.get("/health")
    before = proxy.rss_kib()
    held: list[socket.socket] = []
    try:
        for _ in range(1000):
            sock = proxy.connect()
            held.append(sock)
            sock.sendall(get("/test/bytes/10"))
            assert Reader(sock).answer().status == 200

        assert proxy.client.get("/health").status_code == 200
        grown = proxy.rss_kib() - before
    finally:
        for sock in held:
            sock.close()

    # The bound for a release build is 12 MiB; a debug build has larger futures.
    assert grown < 24 * 1024, f"{grown} KiB"


@pytest.mark.parametrize(
    "spelling",
    [
        "/internal/keys",
        "/internal/%6beys",
        "/%69nternal/keys",
        "/INTERNAL/keys",
        "//internal/keys",
        "/./internal/keys",
        "/a/../internal/keys",
        "/internal;x=1/keys",
        "/internal%2Fkeys",
        "/%2569nternal/keys",
        "/internal\\keys",
    ],
)
def test_a_denied_path_is_denied_in_every_spelling(touchline, backend, spelling):
    proxy = touchline(backend, ingress={"routes": [{"path": "/internal/{rest*}", "deny": True}]})

    answer = ask(proxy.address, get(spelling, "Connection: close"))

    assert answer.status in (400, 403)
    assert backend.count(spelling) == 0


def test_hosts_outside_the_list_are_421(touchline, backend):
    proxy = touchline(backend, ingress={"hosts": ["app.example"]})

    assert ask(proxy.address, get("/health", "Connection: close")).status == 200
    assert ask(proxy.address, b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n").status == 421
