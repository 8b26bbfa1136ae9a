"""WebSockets: a tunnel that changes nothing, opened only after the backend agreed."""

import json
import os
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from support.raw import Reader, ask, get, ok
from support.wait import until

HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def dial(server, path="/ws/coach", **options):
    return connect(
        server.url.replace("http", "ws") + path, proxy=None, open_timeout=10, close_timeout=5, max_size=None, **options
    )


def test_a_conversation_is_the_same_through_the_proxy(proxy, backend):
    replies = []
    for server in (backend, proxy):
        with dial(server) as socket:
            socket.send(json.dumps({"message": "hello coach"}))
            replies.append(socket.recv(timeout=5))

    assert replies[0] == replies[1]
    assert "reply" in json.loads(replies[1])


@pytest.mark.parametrize(
    "message",
    [
        "plain text",
        "ünïcode ☕\n",
        "",
        b"\x00\xff binary \r\n\r\n",
        b"",
        os.urandom(125),
        os.urandom(126),
        os.urandom(65_536),
        "x" * 1_000_000,
        os.urandom(1_000_000),
    ],
    ids=lambda message: f"{type(message).__name__}-{len(message)}",
)
def test_text_and_binary_messages_of_any_size_come_back_unchanged(proxy, message):
    with dial(proxy) as socket:
        socket.send(message)

        assert socket.recv(timeout=10) == message


def test_messages_keep_their_order_in_both_directions(proxy):
    with dial(proxy, compression=None) as socket:
        for number in range(500):
            socket.send(f"message {number}")

        assert [socket.recv(timeout=5) for _ in range(500)] == [f"message {number}" for number in range(500)]


def test_fragments_and_pings_pass(proxy):
    with dial(proxy) as socket:
        socket.send(iter(["one ", "two ", "three"]))
        assert socket.recv(timeout=5) == "one two three"

        assert socket.ping().wait(timeout=5)


def test_the_backends_close_code_and_reason_reach_the_client(proxy):
    with dial(proxy) as socket:
        socket.send(json.dumps({"close": 4321, "reason": "that is enough for today"}))

        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=5)

    assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (4321, "that is enough for today")


def test_the_clients_close_code_reaches_the_backend(proxy, backend):
    mark = str(uuid4())
    with dial(proxy, f"/ws/coach?{mark}") as socket:
        socket.send("hi")
        socket.recv(timeout=5)
        socket.close(4002, "bye")

    def code():
        return [entry["close_code"] for entry in backend.seen("/ws/coach") if entry["query"] == mark][0]

    assert until(code, "the backend sees the close") == 4002


def test_a_client_that_vanishes_is_gone_for_the_backend_too(proxy, backend):
    mark = str(uuid4())
    with proxy.connect() as sock:
        sock.sendall(get(f"/ws/coach?{mark}", *HANDSHAKE))
        assert Reader(sock).answer().status == 101

    until(lambda: [e["close_code"] for e in backend.seen("/ws/coach") if e["query"] == mark][0], "the backend sees it")


def test_subprotocol_origin_and_compression_are_settled_between_the_two_ends(proxy, backend):
    mark = str(uuid4())
    with dial(
        proxy, f"/ws/coach?{mark}", origin="https://app.example", subprotocols=["coach.v2", "coach.v1"]
    ) as socket:
        assert socket.subprotocol == "coach.v1"
        assert "permessage-deflate" in socket.response.headers["Sec-WebSocket-Extensions"]

    (entry,) = [entry for entry in backend.seen("/ws/coach") if entry["query"] == mark]
    fields = dict(entry["headers"])
    assert fields["origin"] == "https://app.example"
    assert fields["x-forwarded-for"] == "127.0.0.1"


def test_a_refusal_of_the_backend_is_passed_on(proxy):
    with pytest.raises(InvalidStatus) as refused:
        dial(proxy, "/ws/nobody")

    assert refused.value.response.status_code == 403


def test_bytes_sent_along_with_the_handshake_are_not_lost_nor_sent_before_101(proxy):
    # A masked text frame "hi", in the same segment as the handshake: legal only after the 101, tolerated by none.
    frame = b"\x81\x82\x00\x00\x00\x00hi"
    with proxy.connect() as sock:
        sock.sendall(get("/ws/coach", *HANDSHAKE))
        reader = Reader(sock)
        assert reader.answer().status == 101
        sock.sendall(frame)
        assert reader.exactly(4) == (b"\x81\x02hi", True)


def test_an_upgrade_to_h2c_is_ignored(proxy, backend):
    mark = str(uuid4())

    answer = ask(
        proxy.address,
        get(
            f"/test/echo?{mark}",
            "Connection: Upgrade, HTTP2-Settings, close",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        ),
    )

    assert answer.status == 200
    (entry,) = [entry for entry in backend.seen("/test/echo") if entry["query"] == mark]
    assert not {"upgrade", "http2-settings"} & {name for name, _ in entry["headers"]}


def test_an_answer_other_than_101_keeps_the_connection_a_plain_one(touchline, fake):
    server = fake(lambda sock, request: sock.sendall(ok(b"no")))
    proxy = touchline(server)
    with proxy.connect() as sock:
        reader = Reader(sock)
        for path in ("/first", "/second"):
            sock.sendall(get(path, *HANDSHAKE))
            assert reader.answer().body == b"no"

    assert server.targets() == ["/first", "/second"]


def test_an_upgrade_with_a_body_is_not_tunnelled(touchline, fake):
    server = fake(
        lambda sock, request: sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
    )
    proxy = touchline(server)

    answer = ask(proxy.address, get("/ws", *HANDSHAKE, "Content-Length: 5") + b"hello")

    assert answer.status in (400, 502)


def test_no_more_tunnels_than_configured_are_open(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"upgrade": {"connections": 1}}})
    with dial(proxy) as socket:
        socket.send("one")
        assert socket.recv(timeout=5) == "one"

        with pytest.raises(InvalidStatus) as refused:
            dial(proxy)

        assert refused.value.response.status_code == 503
        assert json.loads(refused.value.response.body)["reason"] == "too_many_upgrades"

    def again():
        try:
            with dial(proxy):
                return True
        except InvalidStatus:
            return False

    assert until(again, "the slot is free again", every_s=0.05)


def test_an_idle_tunnel_is_closed_after_its_time(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"upgrade": {"idle": "300ms"}}})
    with dial(proxy, ping_interval=None) as socket:
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=5)
