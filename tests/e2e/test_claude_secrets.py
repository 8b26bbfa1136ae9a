"""What the Claude plane never tells: prompts, answers, tool inputs, users, credentials. Every path is driven with words
that occur nowhere else, and then everything that the proxy has ever said is searched for them."""

import json
import socket
import struct
from uuid import uuid4

import pytest

from support.claude import HAIKU, SONNET, asking, scripted
from support.ports import free_port
from support.raw import ask
from support.wait import until

pytest_plugins = ["support.claude_fixtures"]

PAGES = [
    *("/", "/livez", "/readyz", "/metrics", "/health", "/nope"),
    *("/performance/metrics", "/performance/health", "/performance/claude", "/performance/cache/stats"),
    *("/api/v1/advise",),
]
LONG = "Plan the week, one task at a time, and be brief. " * 150


class Canaries:
    """Words that occur nowhere else."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(self, what: str) -> str:
        word = f"canary{what}{uuid4().hex[:12]}"
        self.words.append(word)
        return word

    def found_in(self, text: str) -> list[str]:
        """Those that a text holds, by themselves or with capitals."""
        return [word for word in self.words if word in text.lower()]


def raw(body: bytes, *lines: str, path: str = "/v1/messages") -> bytes:
    """The bytes of a call."""
    head = [f"POST {path} HTTP/1.1", "Host: api", "anthropic-version: 2023-06-01", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


@pytest.mark.parametrize("mode", ["off", "observe", "route"])
@pytest.mark.parametrize("sdk", ["python-0.34.2 sync", "python-2.14.0 async", "node-1.14.0"], indirect=True)
def test_no_word_of_a_conversation_leaves_the_proxy(plane, claude, mode, sdk):
    word = Canaries()
    user, key = word("user"), word("key")
    fake = claude()
    between = plane(
        fake,
        mode=mode,
        budgets=[{"name": "each", "limit": "1usd", "by": "identity"}],
        preferences={"users": {user: "premium_user"}},
        router={"words": {"serious": ["weltuntergang"]}, "judge": {"model": HAIKU}},
        context={"mode": "trim"},
        response_cache={"enabled": True, "single_flight": True},
        timeouts={"first_byte": "1s", "total": "1s", "idle": "300ms"},
    )
    tool = {
        "name": word("tool"),
        "description": word("description"),
        "input_schema": {"type": "object", "properties": {word("field"): {"type": "string"}}},
    }
    secret = {"api_key": key}

    def talk(do: str = "create", said: str = "", more: dict | None = None, **script):
        params = asking(f"{said} {word('prompt')}", **(more or {}))
        headers = {"x-own": word("header"), "x-request-id": word("requestid")}
        if script:
            headers.update(scripted(**script))
        return sdk(do, between.url, params, headers=headers, query={"q": word("query")}, **secret)

    # Answers, whole and in events, also refused, cut, silent, late, compressed.
    for do in ("create", "events"):
        for text in ("hi", "I want to die, it's a weltuntergang", "Please score my assessment: 1a 2b", "Why?", "thanks"):
            outcome = talk(do, text, {"metadata": {"user_id": user}}, text=word("answer"), shows_thinking=True)
            assert outcome.error is None, outcome.error
        talk(do, more={"system": f"{LONG} {word('system')}"})
        talk(do, more={"system": [{"type": "text", "text": f"{LONG} {word('system')}"}]})
        talk(do, "hi", stop_reason="refusal")
        talk(do, f"Use {tool['name']}", more={"tools": [tool], "stop_sequences": [word("stop")]})
        talk(do, encoding="gzip", text=word("answer"))
        talk(do, status=400, message=word("error"), error=word("kind"))
        talk(do, "hi", status=400, message=word("error"))
        talk(do, status=529, body=word("body"))
        talk(do, status=429, headers={"x-odd": word("answerheader")})
        talk(do, close_after=700)
        talk(do, close_before_head=True)
        talk(do, head_delay_ms=1500)
    talk("events", close_after_events=5)
    talk("events", silence_after=5)
    talk("events", error_after=4, message=word("error"))
    sdk("leave", between.url, asking(word("prompt")), headers=scripted(event_delay_ms=30), after=3, **secret)
    sdk("count", between.url, {"model": SONNET, "messages": [{"role": "user", "content": word("prompt")}]}, **secret)

    # A conversation with tools and its own thinking, and one that was refused as changed.
    fake.script({"status": 400, "model": HAIKU, "message": word("error"), "times": 1})
    said = [{"role": "user", "content": f"hi {word('prompt')}"}]
    for answer in (word("turn"), word("turn")):
        outcome = sdk("create", between.url, {**asking(), "messages": said}, **secret)
        said = [*said, {"role": "assistant", "content": outcome.good()["content"]}, {"role": "user", "content": answer}]
    call = {"type": "tool_use", "id": "toolu_01", "name": tool["name"], "input": {"field": word("input")}}
    result = {"type": "tool_result", "tool_use_id": "toolu_01", "content": word("result")}
    turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    said = [{"role": "user", "content": word("prompt")}, *turns]
    assert sdk("create", between.url, {**asking(), "messages": said, "tools": [tool]}, **secret).error is None

    # What no SDK sends: unknown models, other paths, broken bodies, broken heads, clients that leave.
    model = f"claude-{word('model')}"
    sdk("create", between.url, asking(word("prompt"), model=model), **secret)
    keys = (f"x-api-key: {key}", f"authorization: Bearer {word('bearer')}", f"cookie: {word('cookie')}")
    ask(between.address, raw(b'{"prompt": "%s"}' % word("prompt").encode(), *keys, path=f"/v1/{word('path')}?{word('query')}"))
    for body in (b'{"model": "%s', b'{"model": 1, "%s": [', b"%s", b'{"model": "claude-sonnet-5-5", "messages": "%s"}'):
        ask(between.address, raw(body % word("broken").encode(), *keys))
    ask(between.address, raw(json.dumps(asking(word("prompt"))).encode(), *keys, f"x-touchline-tier: {word('tier')}"))
    ask(between.address, raw(word("encoded").encode(), *keys, "content-encoding: gzip"))
    ask(between.address, raw(b"{}", *keys, f"traceparent: 00-{word('trace')}-01"))
    ask(between.address, f"POST /v1/messages?{word('query')} HTTP/9.9\r\nx: {word('head')}\r\n\r\n".encode())
    ask(between.address, f"POST /v1/messages HTTP/1.1\r\n{word('line')}\r\n\r\n".encode())
    with socket.create_connection(between.address) as sock:
        half = raw(json.dumps(asking(word("half"))).encode(), *keys)
        sock.sendall(half[:-5])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert any(word.found_in(seen.body.decode()) for seen in fake.calls()), "the words do arrive"
    until(lambda: between.metric("conversations") > 0 or mode == "off", "something is counted")
    told = {page: between.proxy.admin.get(page).text for page in PAGES}
    told["/performance/metrics of a client"] = between.proxy.client.get("/performance/metrics").text
    between.proxy.terminate()
    told["standard output"], told["standard error"] = between.proxy.out.read_text(), between.proxy.err.read_text()
    assert {name: word.found_in(text) for name, text in told.items() if word.found_in(text)} == {}
    assert "weltuntergang" not in "".join(told.values()).lower()
    assert len(told["standard output"].splitlines()) > 40


def test_the_log_at_its_most_talkative_is_as_silent(touchline, claude, sdks):
    word, fake = Canaries(), claude()
    port = free_port()
    section = {"listen": f"127.0.0.1:{port}", "upstream": fake.url}
    proxy = touchline(fake.url, claude=section, telemetry={"log": {"level": "trace"}})
    sdk = sdks("python-2.14.0 sync")

    for script in ({}, {"status": 400}, {"close_after": 300}, {"status": 529}):
        for do in ("create", "events"):
            sdk(
                do,
                f"http://127.0.0.1:{port}",
                asking(f"hi {word('prompt')}", metadata={"user_id": word("user")}),
                headers=scripted(**script),
                api_key=word("key"),
            )

    proxy.terminate()
    assert word.found_in(proxy.out.read_text() + proxy.err.read_text()) == []
