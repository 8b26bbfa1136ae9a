"""A backend that is down, slow, broken or hostile: what the client sees, and that nothing of it stays."""

import socket
import time
from uuid import uuid4

import httpx
import pytest

from support.raw import Reader, ask, get, ok, reset
from support.wait import until

CACHED = [{"path": "/cached/{name}", "cache": {"ttl": "1m", "public": True}}]
PATIENT = {"breaker": {"enabled": False}, "retries": 0}


def assert_problem(answer, status: int, reason: str) -> None:
    """The answer is ours: RFC 9457 with a reason of the closed set, and no hint of addresses."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert (document["status"], document["reason"]) == (status, reason)
    assert {"type", "title", "detail"} <= set(document)
    assert "127.0.0.1" not in answer.text
    assert "x-response-time" in answer.headers


def test_a_backend_that_is_down_is_a_502_at_once(touchline, own_backend):
    backend = own_backend()
    proxy = touchline(backend)
    backend.stop()

    begun = time.perf_counter()
    for method in ("GET", "POST"):
        assert_problem(proxy.client.request(method, "/health"), 502, "connect_failed")

    assert time.perf_counter() - begun < 1


def test_a_backend_that_comes_back_is_used_again(touchline, own_backend):
    backend = own_backend()
    proxy = touchline(backend)
    backend.stop()
    for _ in range(10):
        assert proxy.client.get("/health").status_code in (502, 503)

    own_backend(backend.port)

    until(lambda: proxy.client.get("/health").status_code == 200, "the backend is used again", every_s=0.05)


def test_after_repeated_failures_the_breaker_answers_and_says_when_to_come_back(touchline, own_backend):
    backend = own_backend()
    proxy = touchline(backend, ingress={"upstream": {"breaker": {"failures": 3, "window": "5s", "open": "10s"}}})
    backend.stop()

    answers = [proxy.client.get("/health") for _ in range(8)]

    assert_problem(answers[0], 502, "connect_failed")
    assert_problem(answers[-1], 503, "breaker_open")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 30


def test_errors_of_one_route_do_not_open_the_breaker(touchline, backend):
    proxy = touchline(backend, ingress={"upstream": {"breaker": {"failures": 3, "window": "5s"}}})

    statuses = [proxy.client.get("/test/status/500").status_code for _ in range(10)]

    assert statuses == [500] * 10
    assert proxy.client.get("/health").status_code == 200


def test_a_slow_backend_is_a_504_at_the_deadline(touchline, backend):
    proxy = touchline(backend, ingress={"upstream": {"first_byte": "250ms"}})

    begun = time.perf_counter()
    answer = proxy.client.get("/test/slow?ms=20000")

    assert_problem(answer, 504, "upstream_timeout")
    assert 0.25 <= time.perf_counter() - begun < 1.5
    assert proxy.client.get("/health").status_code == 200


def test_a_route_may_have_a_deadline_of_its_own(touchline, backend):
    proxy = touchline(backend, ingress={"routes": [{"path": "/test/slow/{name}", "first_byte": "200ms"}]})

    assert_problem(proxy.client.get("/test/slow/a?ms=20000"), 504, "upstream_timeout")
    assert proxy.client.get("/test/slow?ms=300").status_code == 200


def test_a_backend_that_stalls_in_a_body_is_cut_off(touchline, fake):
    def script(sock, request):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        sock.recv(1)  # Returns when the proxy gives up.
        return False

    proxy = touchline(fake(script), ingress={"upstream": {"body_idle": "300ms"}})

    begun = time.perf_counter()
    with pytest.raises(httpx.RemoteProtocolError):
        proxy.client.get("/")

    assert time.perf_counter() - begun < 3


CUTS = {
    "length": b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1000\r\n\r\n" + b"x" * 400,
    "chunked": b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n190\r\n"
    + b"x" * 400
    + b"\r\n",
    "within-a-chunk": b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n"
    + b"x" * 400,
}


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("abrupt", [False, True], ids=["fin", "reset"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_body_that_is_cut_is_an_abort_for_the_client_and_never_stored(touchline, fake, cut, abrupt, protocol):
    def script(sock, request):
        sock.sendall(CUTS[cut])
        if abrupt:
            reset(sock)
        return False

    server = fake(script)
    proxy = touchline(server, ingress={"routes": CACHED, "upstream": PATIENT})
    client = proxy.client if protocol == "h1" else proxy.h2_client()

    for _ in range(3):
        # A reset may overtake the bytes before it: then there was no answer at all, and it is a 502.
        try:
            answer = client.get("/cached/a")
        except (httpx.RemoteProtocolError, httpx.ReadError):
            continue
        assert abrupt and answer.status_code == 502, answer

    assert len(server.requests) == 3


def test_a_body_longer_than_its_length_ends_there_and_spoils_no_other_answer(touchline, fake):
    lie = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"
    extra = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned"
    server = fake(lambda sock, request: sock.sendall(lie + extra if request.target == "/lie" else ok(b"second")))
    proxy = touchline(server)

    first = proxy.client.get("/lie")
    second = proxy.client.get("/next")

    assert first.content == b"first"
    assert second.content == b"second"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_body_where_none_may_be_is_dropped(touchline, fake, status):
    server = fake(
        lambda sock, request: sock.sendall(
            ok(b"poisoned", status=status) if request.target == "/none" else ok(b"second")
        )
    )
    proxy = touchline(server)

    first = proxy.client.get("/none")
    second = proxy.client.get("/next")

    assert (first.status_code, first.content) == (int(status[:3]), b"")
    assert second.content == b"second"


GARBAGE = {
    "random": bytes(range(256)) + b"\r\n\r\n",
    "http09": b"<html>hello</html>\r\n\r\n",
    "bad-version": b"HTTP/3.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "four-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "no-colon": b"HTTP/1.1 200 OK\r\nNonsense\r\nContent-Length: 0\r\n\r\n",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "bad-length": b"HTTP/1.1 200 OK\r\nContent-Length: 5_0\r\n\r\nhello",
    "length-and-chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "huge-head": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(64)) + b"\r\n",
    "many-fields": b"HTTP/1.1 200 OK\r\n"
    + b"".join(b"X-%d: 1\r\n" % n for n in range(150))
    + b"Content-Length: 0\r\n\r\n",
    "interim-flood": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 40
    + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "unasked-101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_from_the_backend_is_a_502_and_the_connection_is_dropped(touchline, fake, kind):
    server = fake(lambda sock, request: sock.sendall(ok(b"fine") if request.target == "/next" else GARBAGE[kind]))
    proxy = touchline(server, ingress={"upstream": PATIENT})

    if kind == "interim-flood":
        with proxy.connect() as sock:
            sock.sendall(get("/bad", "Connection: close"))
            reader = Reader(sock)
            answers = []
            while (answer := reader.answer()) is not None:
                answers.append(answer.status)
        assert answers[-1] == 502
        assert answers.count(103) <= 16
    else:
        assert_problem(proxy.client.get("/bad"), 502, "bad_upstream_response")
    assert proxy.client.get("/next").content == b"fine"
    assert server.requests[-1].on_connection == 1


def test_a_connection_closed_without_an_answer_is_a_502(touchline, fake):
    proxy = touchline(fake(lambda sock, request: False), ingress={"upstream": {**PATIENT}})

    assert_problem(proxy.client.post("/"), 502, "upstream_closed")
    assert_problem(proxy.client.get("/"), 502, "upstream_closed")


def test_a_pooled_connection_that_closed_silently_costs_no_request(touchline, fake):
    # Each connection serves one request, says it would stay open, and closes.
    server = fake(lambda sock, request: (sock.sendall(ok(b"one")), False)[1])
    proxy = touchline(server)

    statuses = [proxy.client.get(f"/{number}").status_code for number in range(50)]

    assert statuses == [200] * 50
    assert server.targets() == [f"/{number}" for number in range(50)]


def test_a_repeatable_request_is_sent_once_more_when_a_pooled_connection_dies_under_it(touchline, fake):
    def script(sock, request):
        if request.on_connection > 1:
            return False
        sock.sendall(ok(b"first on its connection"))

    server = fake(script)
    proxy = touchline(server)

    answers = [proxy.client.get(path) for path in ("/a", "/b")]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert server.targets() == ["/a", "/b", "/b"]


def test_a_request_that_may_not_be_repeated_is_sent_once(touchline, fake):
    def script(sock, request):
        if request.on_connection > 1:
            return False
        sock.sendall(ok(b"first on its connection"))

    server = fake(script)
    proxy = touchline(server)

    proxy.client.get("/a")
    answer = proxy.client.post("/pay", content=b"100")

    assert_problem(answer, 502, "upstream_closed")
    assert server.targets() == ["/a", "/pay"]


def test_an_error_status_is_not_retried(touchline, fake):
    server = fake(lambda sock, request: sock.sendall(ok(b"sorry", status="503 Service Unavailable")))
    proxy = touchline(server)

    assert proxy.client.get("/").status_code == 503
    assert len(server.requests) == 1


def test_interim_answers_reach_an_http1_client(touchline, fake):
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </app.css>; rel=preload\r\n\r\n"
    proxy = touchline(fake(lambda sock, request: sock.sendall(hints + ok(b"page"))))

    with proxy.connect() as sock:
        sock.sendall(get("/"))
        reader = Reader(sock)
        interim, final = reader.answer(), reader.answer()

    assert (interim.status, interim["link"]) == (103, "</app.css>; rel=preload")
    assert (final.status, final.body) == (200, b"page")


def test_more_requests_than_the_backend_may_have_at_once_are_refused_with_a_hint(touchline, backend):
    proxy = touchline(backend, ingress={"upstream": {"in_flight": 1, "queue": 1, "wait": "200ms"}})
    with proxy.connect() as sock:
        path = f"/test/slow/{uuid4()}"
        sock.sendall(get(f"{path}?ms=3000"))
        until(lambda: backend.count(path), "the first request is in flight")

        answer = proxy.client.post("/api/session/s1/confirm")

    assert_problem(answer, 503, "overload")
    assert 1 <= int(answer.headers["retry-after"]) <= 5


def test_hits_do_not_wait_behind_a_full_backend(touchline, backend):
    proxy = touchline(backend, ingress={"upstream": {"in_flight": 1, "queue": 1, "wait": "5s"}})
    proxy.client.get("/api/challenges")
    with proxy.connect() as sock:
        path = f"/test/slow/{uuid4()}"
        sock.sendall(get(f"{path}?ms=3000"))
        until(lambda: backend.count(path), "the first request is in flight")

        begun = time.perf_counter()
        hit = proxy.client.get("/api/challenges")

    assert hit.headers["x-cache-status"] == "hit"
    assert time.perf_counter() - begun < 2


def test_a_close_delimited_answer_passes_whole(touchline, fake):
    server = fake(
        lambda sock, request: (sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"z" * 70_000), False)[1]
    )
    proxy = touchline(server)

    assert proxy.client.get("/").content == b"z" * 70_000
    assert ask(proxy.address, get("/", "Connection: close")).body == b"z" * 70_000


def test_a_unix_socket_backend_works(touchline, tmp_path):
    path = tmp_path / "app.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    proxy = touchline(f"unix:{path}", wait=False, admin={"readiness": {"backend": False}})
    proxy.wait_ready()
    with proxy.connect() as client:
        client.sendall(get("/over-unix", "Connection: close"))
        # Probes and warm-up may connect and leave without a word.
        while True:
            listener.settimeout(5)
            sock, _ = listener.accept()
            head = Reader(sock).until(b"\r\n\r\n")
            if head:
                break
        sock.sendall(ok(b"hello"))
        answer = Reader(client).answer()

    assert head.startswith(b"GET /over-unix HTTP/1.1\r\n")
    assert answer.body == b"hello"
    listener.close()
