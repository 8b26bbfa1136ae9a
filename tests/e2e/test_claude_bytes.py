"""What the Claude plane changes in requests and answers: the model, breakpoints, its own headers, and not one byte more."""

import json
import re
import socket
from http.client import HTTPConnection

import pytest

from support.claude import ADDED, HAIKU, SONNET, asking, every_sdk, scripted
from support.raw import FakeBackend, Reader, ask, ok

pytest_plugins = ["support.claude_fixtures"]

# Standard by any reading, so that the requested model stays.
COACHING = "I want to talk about how I plan my week, because I keep postponing the hard tasks until Friday evening."
# More than 512 tokens, below which nothing can be cached, with everything that JSON can write in two ways.
LONG = "Ünïcode “quotes” \"quotes\" / \\ \n\t 日本語 🙂 \u2028 café </script> weekly planning, one task at a time. " * 60
TOOL = {"name": "note", "description": "Keeps a note: é", "input_schema": {"type": "object", "properties": {}}}
MARK = re.compile(rb'"cache_control":\{"type":"ephemeral"(,"ttl":"1h")?\},')

CALLS = {
    "short": asking(COACHING),
    "greeting": asking("hi"),
    "long": asking(f"{COACHING} {LONG}"),
    "long system": asking(COACHING, system=LONG),
    "system blocks": asking(COACHING, system=[{"type": "text", "text": LONG}]),
    "tools": asking(COACHING, tools=[TOOL], tool_choice={"type": "auto"}, stop_sequences=["END"]),
    "own marks": asking(COACHING, system=[{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]),
    "metadata": asking(COACHING, metadata={"user_id": "u-1"}),
    "empty strings": asking(COACHING, system=""),
}

# Behaviours of the fake whose bytes must arrive as they are.
SENT = {
    "plain": {},
    "unknown event": {"unknown_event": True, "pings": 3},
    "few bytes at a time": {"cut": {"every": 5}, "text": "é日🙂 " * 5, "thinking": False},
    "inside characters": {"cut": {"each": "char"}, "text": "é日🙂 " * 20},
    "inside events": {"cut": {"each": "event"}},
    "carriage returns": {"line_end": "cr"},
    "both line ends": {"line_end": "crlf", "cut": {"each": "line_end"}},
    "gzip": {"encoding": "gzip"},
    "brotli": {"encoding": "br"},
    "refusal": {"stop_reason": "refusal"},
    "growing input": {"server_tools": True},
    "error": {"status": 529, "headers": {"retry-after": "3", "x-should-retry": "true"}},
    "limit": {"status": 429, "headers": {"retry-after": "30", "anthropic-priority-input-tokens-limit": "1"}},
    "spend limit": {"status": 429, "details": {"error_code": "enforced_spend_limit_reached"}},
    "no json": {"status": 500, "body": "<html>oops"},
    "error event": {"error_after": 4, "error": "overloaded_error"},
}


def fields(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The header fields of an answer but for those that the proxy adds, the connection's, and those that tell the time."""
    lower = [(name.lower(), value) for name, value in pairs if not name.lower().endswith("-reset")]
    return [(name, value) for name, value in lower if name not in (*ADDED, "connection", "date")]


def sent_raw(port: int, body: bytes, headers: dict[str, str], path: str = "/v1/messages"):
    """One request by the standard library, which decodes nothing: status, header fields, body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        base = {"x-api-key": "k", "anthropic-version": "2023-06-01", "content-type": "application/json"}
        connection.request("POST", path, body, {**base, **headers})
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()


@every_sdk
@pytest.mark.parametrize("mode", ["off", "observe"])
def test_a_plane_that_only_looks_changes_no_byte_of_a_request(both, mode):
    ways = both(mode=mode)

    for params in CALLS.values():
        for do in ("create", "events"):
            straight, through = ways.ask(do, params, headers={"anthropic-beta": "token-counting-2024-11-01", "x-own": "1"})
            assert (through.value, through.events) == (straight.value, straight.events)
    ways.ask("count", {"model": SONNET, "messages": CALLS["short"]["messages"]})

    for there, here in zip(ways.direct.requests(), ways.plane.fake.requests(), strict=True):
        assert (here.method, here.target) == (there.method, there.target)
        assert here.body == there.body
        assert here.end_to_end() == there.end_to_end()


@every_sdk
def test_a_routing_plane_changes_the_model_and_adds_breakpoints(both):
    ways = both()

    for params in CALLS.values():
        for do in ("create", "events"):
            straight, through = ways.ask(do, params, headers={"anthropic-beta": "token-counting-2024-11-01", "x-own": "1"})
            assert straight.error is None and through.error is None

    models, marks = set(), []
    for there, here in zip(ways.direct.calls(), ways.plane.fake.calls(), strict=True):
        models.add(here.model)
        own = MARK.findall(there.body)
        marks.append(len(MARK.findall(here.body)) - len(own))
        # In a call with marks of its own nothing may be taken out.
        undone = here.body if own or b"cache_control" in there.body else MARK.sub(b"", here.body)
        assert undone.replace(b'"%s"' % here.model.encode(), b'"%s"' % SONNET.encode(), 1) == there.body
        assert (here.method, here.target) == (there.method, there.target)
        assert here.end_to_end() == there.end_to_end()
    assert models == {HAIKU, SONNET}
    # Of each pair the second is the same turn again. `system blocks` has a mark for all and one for the system prompt.
    by_call = dict(zip(CALLS, marks[::2], strict=True))
    assert by_call == {**dict.fromkeys(CALLS, 0), "long": 1, "long system": 1, "system blocks": 2}
    assert marks[1::2] == marks[::2]


@every_sdk
def test_a_query_and_betas_pass_as_they_are(both):
    ways = both()
    betas = {"anthropic-beta": "context-1m-2025-08-07,token-counting-2024-11-01"}

    ways.ask("create", asking("hi"), headers=betas, query={"beta": "true"})

    here, there = ways.plane.fake.last(), ways.direct.last()
    assert here.target == there.target == "/v1/messages?beta=true"
    assert here.header("anthropic-beta") == betas["anthropic-beta"]
    assert here.end_to_end() == there.end_to_end()


@pytest.mark.parametrize("mode", ["off", "observe", "route"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_an_answer_arrives_as_it_was_sent(claude, plane, mode, is_stream):
    direct, between = claude(), plane(mode=mode)
    body = json.dumps(asking(COACHING, stream=is_stream)).encode()

    for name, script in SENT.items():
        headers = {**scripted(**script), "x-stainless-lang": "python"}
        straight = sent_raw(direct.port, body, headers)
        through = sent_raw(between.port, body, headers)

        assert through[0] == straight[0], name
        assert through[2] == straight[2], name
        assert fields(through[1]) == fields(straight[1]), name
        told = [field for field, _ in through[1] if field.lower() in ADDED]
        assert len(told) == (len(ADDED) if mode == "route" else 0), name


ODD = [
    "X-Odd-Case: Value  with   spaces ",
    "x-twice: 1",
    "X-Twice: 2",
    "request-id: req_1",
    "Set-Cookie: a=1",
    "set-cookie: b=2",
    "Content-Type: application/json; charset=utf-8",
    "Via: 1.1 other",
    "Server: some/1",
    "X-Empty:",
]


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "413 Too Large", "529 Overloaded", "599 Odd"])
def test_status_and_odd_header_fields_pass(plane, fake, status):
    document = b'{ "type" : "error" ,\n"usage":{"input_tokens":1e0}} \n'
    api = fake(lambda sock, _: sock.sendall(ok(document, *ODD, status=status)))
    between = plane(api)
    body = b'{"model":"claude-sonnet-5-5","max_tokens":9,"messages":[{"role":"user","content":"I hate him"}]}'

    answer = ask(between.address, request(body, "x-stainless-lang: js"))

    assert (answer.status, answer.body) == (int(status[:3]), document)
    wanted = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in ODD)]
    mine = [pair for pair in fields(answer.fields) if pair[0] not in ("content-length", "connection")]
    # Fields of one name keep their order; the order of the others says nothing.
    assert sorted(mine, key=lambda pair: pair[0]) == sorted(wanted, key=lambda pair: pair[0])


# What no SDK sends, and what a proxy must not make worse: the API answers it.
BROKEN = {
    "empty": b"",
    "no json": b"hi",
    "a list": b"[]",
    "cut": b'{"model":"claude-sonnet-5-5","messages":[',
    "two documents": b'{"model":"claude-sonnet-5-5"}{"model":"claude-opus-5-5"}',
    "no model": b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":9}',
    "a number as model": b'{"model":5,"messages":[{"role":"user","content":"hi"}],"max_tokens":9}',
    "model twice": b'{"model":"claude-sonnet-5-5","model":"claude-sonnet-5-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}',
    "a model in disguise": b'{"\\u006dodel":"claude-sonnet-5-5","model":"claude-sonnet-5-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}',
    "byte order mark": b'\xef\xbb\xbf{"model":"claude-sonnet-5-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}',
    "lone surrogate": b'{"model":"claude-sonnet-5-5","max_tokens":9,"messages":[{"role":"user","content":"hi \\ud800"}]}',
    "not utf-8": b'{"model":"claude-sonnet-5-5","max_tokens":9,"messages":[{"role":"user","content":"hi \xff"}]}',
    "nul": b'{"model":"claude-sonnet-5-5","max_tokens":9,"messages":[{"role":"user","content":"hi \x00"}]}',
    "deep": b'{"model":"claude-sonnet-5-5","messages":' + b"[" * 1_000_000,
    "five megabytes": b'{"model":"claude-sonnet-5-5","max_tokens":9,"messages":[{"role":"user","content":"'
    + b"x" * 5_000_000
    + b'"}]}',
}


def request(body: bytes, *lines: str) -> bytes:
    """The bytes of a call."""
    head = ["POST /v1/messages HTTP/1.1", "Host: api", "x-api-key: k", "anthropic-version: 2023-06-01", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_be_read_goes_to_the_api_as_it_is(plane, fake, body):
    api = fake(lambda sock, _: sock.sendall(ok(b"{}", "Content-Type: application/json", status="400 Bad Request")))
    between = plane(api)

    answer = ask(between.address, request(body))

    assert (answer.status, answer.body) == (400, b"{}")
    assert [seen.body for seen in api.requests] == [body]
    assert between.lines(1)[0]["reason"] in ("unreadable", "too_large", "feature")


def test_a_chunked_body_arrives_whole(plane, fake):
    api = fake(lambda sock, _: sock.sendall(ok(b"{}")))
    between = plane(api)
    body = b'{"model": "claude-sonnet-5-5", "max_tokens": 2048, "messages": [{"role": "user", "content": "hi"}]}'
    head = request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:30], body[30:])) + b"0\r\n\r\n"

    answer = ask(between.address, head + chunks)

    assert answer.status == 200
    assert api.requests[0].body == body.replace(SONNET.encode(), HAIKU.encode())


@pytest.mark.parametrize("field", ["Content-MD5: x", "Digest: sha-256=x", "Content-Digest: x", "Signature: x", "Signature-Input: x"])
def test_a_signed_body_is_not_touched(plane, fake, field):
    api = fake(lambda sock, _: sock.sendall(ok(b"{}")))
    between = plane(api)
    body = json.dumps(asking("hi")).encode()

    ask(between.address, request(body, field))

    assert api.requests[0].body == body
    assert between.lines(1)[0]["reason"] == "signed"


def test_other_paths_stream_through(plane, fake):
    def script(sock: socket.socket, seen) -> None:
        sock.sendall(ok(seen.method.encode() + b" " + seen.target.encode(), "x-own: 1"))

    api: FakeBackend = fake(script)
    between = plane(api)
    for line in ("GET /v1/models?limit=5", "GET /v1/models/claude-haiku-5-5", "DELETE /v1/files/f_1", "GET /v1/messages"):
        answer = ask(between.address, f"{line} HTTP/1.1\r\nHost: api\r\nx-api-key: k\r\n\r\n".encode())

        assert (answer.status, answer.body.decode(), answer["x-own"]) == (200, line, "1")

    body = b"\x00\xff" * 1000
    with socket.create_connection(between.address, timeout=10) as sock:
        head = f"POST /v1/complete HTTP/1.1\r\nHost: api\r\nx-api-key: k\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        assert Reader(sock).answer().status == 200
    assert api.requests[-1].body == body
