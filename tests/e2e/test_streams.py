"""Bodies on their way out: events arrive one by one and unchanged, nothing is collected in between."""

import hashlib
import json
import socket
from uuid import uuid4

import pytest

from coach.testing import FRAMINGS, pattern, sse_text
from support.events import events
from support.raw import Reader, get
from support.wait import settled, until


def client(proxy, protocol):
    return proxy.client if protocol == "h1" else proxy.h2_client()


@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_each_event_arrives_before_the_next_is_produced(proxy, backend, protocol):
    gate = str(uuid4())
    arrived = []

    with client(proxy, protocol).stream("GET", f"/test/gated/{gate}?events=4") as response:
        for event in events(response):
            arrived.append(event)
            # The backend produces the next event only now, so this one cannot have waited for it.
            backend.open_gate(gate)

    assert arrived == ["data: 0", "data: 1", "data: 2", "data: 3"]


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_events_pass_byte_for_byte_whatever_their_line_ends(proxy, protocol, framing):
    with client(proxy, protocol).stream("GET", f"/test/sse?framing={framing}&events=8") as response:
        body = b"".join(response.iter_raw())

    assert body == sse_text(framing, 8).encode()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"


def test_the_coach_answers_word_by_word(proxy):
    said = {"message": "I froze again", "user_id": "u1"}

    with proxy.client.stream("POST", "/coach/chat/stream", json=said) as response:
        pieces = [event.split("\n") for event in events(response)]

    assert response.headers["x-cache-status"] == "bypass"
    words = [json.loads(lines[2].removeprefix("data: "))["text"] for lines in pieces[:-1]]
    assert pieces[-1][0] == "event: done"
    assert json.loads(pieces[-1][1].removeprefix("data: ")) == {"words": len(words)}
    assert [lines[0] for lines in pieces[:-1]] == [f"id: {number}" for number in range(len(words))]


def test_the_time_of_a_stream_is_the_time_to_its_head(proxy, backend):
    gate = str(uuid4())

    with proxy.client.stream("GET", f"/test/gated/{gate}?events=2") as response:
        taken = float(response.headers["x-response-time"][:-2])
        stream = events(response)
        next(stream)
        backend.open_gate(gate)
        assert next(stream) == "data: 1"

    assert taken < 1000


def test_a_stream_of_events_is_never_stored_even_under_a_rule(touchline, backend):
    proxy = touchline(backend, ingress={"routes": [{"path": "/test/sse", "cache": {"ttl": "1m", "public": True}}]})
    before = backend.count("/test/sse")

    answers = [proxy.client.get("/test/sse") for _ in range(2)]

    assert "hit" not in {answer.headers["x-cache-status"] for answer in answers}
    assert backend.count("/test/sse") == before + 2


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("query", ["", "?chunked=true"])
@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
def test_bodies_of_any_size_pass_unchanged(proxy, protocol, query, size):
    answer = client(proxy, protocol).get(f"/test/bytes/{size}{query}")

    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(pattern(size)).digest()
    if not query:
        assert answer.headers["content-length"] == str(size)


@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_a_reader_that_stops_reading_stops_the_writer(touchline, backend, protocol):
    path = f"/test/endless?for={uuid4()}"
    proxy = touchline(backend)
    rss_before = proxy.rss_kib()

    def produced() -> int:
        return next(
            (entry["sent_bytes"] for entry in backend.seen("/test/endless") if entry["query"] == path.split("?")[1]), 0
        )

    if protocol == "h1":
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.connect(proxy.address)
            sock.sendall(get(path))
            until(produced, "the stream begins")
            amount = settled(produced, "the backend goes on producing")
            rss = proxy.rss_kib()
            assert b" 200 " in (Reader(sock).until(b"\r\n\r\n") or b"")[:20]
    else:
        with proxy.h2_client().stream("GET", path) as response:
            assert response.status_code == 200
            until(produced, "the stream begins")
            amount = settled(produced, "the backend goes on producing")
            rss = proxy.rss_kib()

    # What stands between the two ends are socket buffers of the kernel (up to some MiB each) and ours.
    assert amount < 24 * 1024 * 1024
    assert rss - rss_before < 8 * 1024
