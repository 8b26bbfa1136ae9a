"""Conversations that replicas share through Redis: one that goes on at another replica is no new one there."""

import json
import time
from dataclasses import dataclass

import httpx
import pytest

from support.ports import free_port
from support.proxy import Touchline
from support.raw import FakeBackend, Request, ok
from support.redis import RedisServer
from support.replicas import wait_for_redis
from support.wait import until

SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"
SECRET = "the-same-for-all-replicas"
ANSWER = "Hello there, how was your day?"
# What must never be found in Redis.
CANARY = "zanzibar"


def answer(model: str) -> bytes:
    usage = {"input_tokens": 12, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 0, "output_tokens": 20}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": ANSWER}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    return ok(json.dumps(message).encode(), "Content-Type: application/json", "request-id: req_1")


def api(sock, request: Request) -> None:
    """An API whose cheapest model refuses every call: after a move the conversation has to stay where it was."""
    if not request.target.startswith("/v1/messages"):
        sock.sendall(ok())
        return
    model = json.loads(request.body)["model"]
    if model == HAIKU:
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
        sock.sendall(ok(json.dumps(error).encode(), "Content-Type: application/json", status="400 Bad Request"))
    else:
        sock.sendall(answer(model))


@dataclass
class Replica:
    """One proxy with a plane."""

    proxy: Touchline
    claude: httpx.Client

    def say(self, *turns: str, key: str = "key") -> tuple[str, float]:
        """A call whose history is `turns`, the user's and the model's in turn: the reason, and the seconds it took."""
        roles = ["user", "assistant"] * len(turns)
        messages = [{"role": role, "content": text} for role, text in zip(roles, turns)]
        body = {"model": SONNET, "max_tokens": 2048, "messages": messages}
        start = time.monotonic()
        answer = self.claude.post(
            "/v1/messages", json=body, headers={"x-api-key": key, "anthropic-version": "2026-10-21"}
        )
        assert answer.status_code == 200, answer.text
        return answer.headers["x-touchline-reason"].split(";")[0], time.monotonic() - start

    def looked(self, result: str) -> float:
        """How many conversations were looked for elsewhere, with this result."""
        name = f'touchline_claude_shared_conversations_total{{result="{result}"}} '
        lines = self.proxy.admin.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.fixture
def replica(touchline, fake):
    """Starts replicas: `replica(server.url)`."""
    upstream: FakeBackend = fake(api)
    clients = []

    def start(url: str, *, mode: str = "standalone", shared: bool = True, secret: str = SECRET) -> Replica:
        port = free_port()
        section = {
            "listen": f"127.0.0.1:{port}",
            "upstream": upstream.url,
            "prompt_cache": {"mode": "off"},
            "conversations": {"shared": shared, "idle": "30m"},
        }
        redis = {"url": url, "mode": mode, "connect": "1s"}
        proxy = touchline(upstream, claude=section, cache={"redis": redis, "identity_secret": secret})
        wait_for_redis(proxy)
        clients.append(httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20))
        return Replica(proxy, clients[-1])

    start.upstream = upstream
    yield start
    for client in clients:
        client.close()


def models(replica) -> list[str]:
    """The models that the API was asked for."""
    calls = [request for request in replica.upstream.requests if request.target.startswith("/v1/messages")]
    return [json.loads(request.body)["model"] for request in calls]


def states(*servers: RedisServer) -> list[tuple[RedisServer, str]]:
    return [(server, name) for server in servers for name in server.names("touchline:c:*")]


def wait_for_states(count: int, *servers: RedisServer) -> None:
    until(lambda: len(states(*servers)) == count, f"{count} states are in redis", every_s=0.01)


FIRST = ["hello!"]
SECOND = ["hello!", ANSWER, "thanks, bye!"]


def begin(one: Replica, *servers: RedisServer) -> None:
    """A conversation whose call was refused after a move, so that it does not move again."""
    assert one.say(*FIRST)[0] == "no_route"
    wait_for_states(1, *servers)


def test_a_conversation_goes_on_at_another_replica(replica, redis_server):
    server = redis_server()
    a, b = replica(server.url), replica(server.url)
    begin(a, server)

    reason, _ = b.say(*SECOND)

    assert reason == "no_route"
    assert models(replica) == [HAIKU, SONNET, SONNET]
    assert (a.looked("found"), b.looked("found")) == (0, 1)
    wait_for_states(2, server)
    # A further turn at b is known there, and back at a it is found.
    third = [*SECOND, ANSWER, "bye"]
    assert b.say(*third)[0] == "no_route"
    assert (b.looked("found"), b.looked("missing")) == (1, 0)
    wait_for_states(3, server)
    assert a.say(*third, ANSWER, "hello!")[0] == "no_route"
    assert a.looked("found") == 1


@pytest.mark.parametrize("kind", ["sentinels", "cluster"])
def test_it_does_under_sentinels_and_in_a_cluster(replica, request, kind):
    group = request.getfixturevalue(kind)
    mode = "sentinel" if kind == "sentinels" else "cluster"
    servers = [group.primary()] if kind == "sentinels" else group.nodes
    a, b = (replica(group.url, mode=mode) for _ in range(2))
    begin(a, *servers)

    assert b.say(*SECOND)[0] == "no_route"
    assert b.looked("found") == 1


def test_it_is_a_new_one_where_it_is_not_shared(replica, redis_server):
    server = redis_server()
    a, off, stranger = (
        replica(server.url),
        replica(server.url, shared=False),
        replica(server.url, secret="another-secret-than-theirs"),
    )
    begin(a, server)

    off.say(*SECOND)
    stranger.say(*SECOND)
    a.say(*SECOND, key="another account's")

    # a has learned that the cheapest model refuses, and takes the next one for another account.
    assert models(replica) == [HAIKU, SONNET] * 3 + ["claude-haiku-4-5"]
    assert (off.looked("found"), off.looked("missing"), stranger.looked("missing"), a.looked("missing")) == (0, 0, 1, 1)


def test_a_first_turn_asks_nobody(replica, redis_server):
    server = redis_server()
    one = replica(server.url)

    for number in range(3):
        one.say(f"hello! {number}")

    assert [one.looked(result) for result in ("found", "missing", "unanswered")] == [0, 0, 0]


def test_what_lies_in_redis_says_nothing_and_ends(replica, redis_server):
    server = redis_server()
    one = replica(server.url)

    one.say(f"hello {CANARY}!", ANSWER, f"thanks, bye {CANARY}!", key=f"sk-{CANARY}")
    wait_for_states(1, server)

    [(_, name)] = states(server)
    value = server.run("GET", name).decode()
    record = json.loads(value)
    assert CANARY not in name and CANARY not in value and "hello" not in value
    assert (record["model"], record["requested"]) == (SONNET, SONNET)
    assert len(value) < 1024 and 0 < server.run("PTTL", name) <= 30 * 60 * 1000


@pytest.mark.parametrize("value", ["a stranger's", "{}", "x" * 100_000, '{"version": 2}'])
def test_what_is_not_to_be_believed_is_ignored(replica, redis_server, value):
    server = redis_server()
    a, b = replica(server.url), replica(server.url)
    begin(a, server)
    for _, name in states(server):
        server.run("SET", name, value)

    b.say(*SECOND)

    assert models(replica)[2:] == [HAIKU, SONNET]
    assert b.looked("missing") == 1


def test_another_kind_of_value_under_the_name_harms_nobody(replica, redis_server):
    server = redis_server()
    a, b = replica(server.url), replica(server.url)
    begin(a, server)
    [(_, name)] = states(server)
    server.run("DEL", name)
    server.run("RPUSH", name, "a")

    assert b.say(*SECOND)[1] < 5

    assert b.looked("unanswered") == 1


def test_a_hung_redis_holds_no_call_up_and_one_that_is_gone_is_not_waited_for(replica, redis_server):
    server = redis_server()
    a, b = replica(server.url), replica(server.url)
    begin(a, server)
    before = overhead(b)

    server.pause()
    for number in range(5):
        b.say(f"hello! {number}", ANSWER, "thanks, bye!")
    server.resume()

    waited = {bound: count - before.get(bound, 0) for bound, count in overhead(b).items()}
    assert waited["+Inf"] == 5
    # Five milliseconds, the grain of timers and our own work in a debug build.
    assert waited["0.05"] == 5, waited
    assert b.looked("unanswered") == 5
    server.kill()
    wait_for_redis(b.proxy, up=False)
    assert b.say(*SECOND)[0] != ""
    assert b.looked("unanswered") == 6
    # It comes back empty: the conversation is a new one there, and goes on being shared.
    server.start()
    wait_for_redis(b.proxy, deadline_s=15.0)
    b.say(*SECOND, ANSWER, "ok, see you")
    wait_for_states(1, server)


def overhead(one: Replica) -> dict[str, float]:
    """How many calls waited at most so long for our own work."""
    text = one.proxy.admin.get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("touchline_claude_overhead_seconds_bucket")]
    return {line.split('le="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
