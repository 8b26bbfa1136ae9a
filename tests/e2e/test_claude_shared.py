"""What replicas of the Claude plane share through Redis: budgets; and what a restart does not lose: counts of calls."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest

from support.ports import free_port
from support.proxy import Touchline
from support.raw import FakeBackend, Request, ok
from support.redis import RedisServer
from support.replicas import told, wait_for_redis
from support.resp import RedisError
from support.wait import until

MODEL = "claude-sonnet-5-5"
# What each call costs, in pico-dollars: 12 x 2 + 100 x 2.50 + 2,048 x 0.10 + 20 x 10 millionths of a dollar.
PICOS = 678_800_000
ANSWER = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": "Begin with the smallest step."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 12,
            "cache_creation_input_tokens": 100,
            "cache_read_input_tokens": 2048,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 20,
        },
    }
).encode()
DAY_S = 86_400
# Time for a keeper that has doubled its pause a few times to try again.
BACK_S = 15.0


def api(sock, request: Request) -> None:
    """The API, which always says the same."""
    sock.sendall(ok(ANSWER, "Content-Type: application/json", "request-id: req_1"))


@dataclass
class Replica:
    """One proxy with a plane; `again` starts another on the same addresses, with the same name."""

    proxy: Touchline
    port: int
    claude: httpx.Client
    times: list[float] = field(default_factory=list)

    def call(self) -> httpx.Response:
        """One call, with the time it takes."""
        body = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "How do I plan my week?"}]}
        start = time.monotonic()
        answer = self.claude.post(
            "/v1/messages", json=body, headers={"x-api-key": "key", "anthropic-version": "2023-06-01"}
        )
        self.times.append(time.monotonic() - start)
        return answer

    def calls(self, count: int) -> None:
        """So many calls that are answered; returns once they are counted, which is behind their answers."""
        before = self.counted()
        for _ in range(count):
            answer = self.call()
            assert answer.status_code == 200, answer.text
        until(lambda: self.counted() >= before + count, "the calls are counted", every_s=0.01)

    def spent(self) -> dict:
        """`/performance/claude`."""
        return self.proxy.admin.get("/performance/claude").raise_for_status().json()

    def counted(self) -> int:
        return self.spent()["total"]["calls"]

    def errors(self) -> float:
        """Operations that Redis did not answer well, of all kinds."""
        text = self.proxy.admin.get("/metrics").text
        lines = [line for line in text.splitlines() if line.startswith("touchline_cache_redis_errors_total")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def said(self, words: str) -> list[dict]:
        """The lines of the log with these words."""
        return [event for event in self.proxy.events() if words in str(event.get("message", ""))]


@pytest.fixture
def replica(touchline, fake):
    """Starts replicas: `replica(server.url, limit="1usd")`. Without `wait` Redis need not be there."""
    upstream: FakeBackend = fake(api)
    clients = []

    def start(
        url: str, *, mode: str = "standalone", limit: str | None = None, port: int = 0, wait: bool = True, **redis
    ) -> Replica:
        port = port or free_port()
        section = {"listen": f"127.0.0.1:{port}", "upstream": upstream.url, "prompt_cache": {"mode": "off"}}
        if limit:
            section["budgets"] = [{"name": "day", "window": "24h", "limit": limit, "soft": "100%"}]
        # The keeper's own deadlines are long, so that a busy machine loses no tier; a sum has a deadline of its own.
        settings = {"url": url, "mode": mode, "connect": "1s", **redis}
        proxy = touchline(upstream, claude=section, cache={"redis": settings})
        if wait:
            wait_for_redis(proxy)
        clients.append(httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20))
        return Replica(proxy, port, clients[-1])

    start.upstream = upstream
    yield start
    for client in clients:
        client.close()


def sums(*servers: RedisServer) -> dict[str, int]:
    """The sums that are in Redis: the parts of all replicas together."""
    found = {}
    for server in servers:
        for name in server.names("touchline:s:*"):
            parts = server.run("HVALS", name)
            found[name] = sum(int(part.split()[1]) for part in parts)
    return found


def wait_for_sum(picos: int, *servers: RedisServer) -> str:
    """Returns the name of the sum once it comes to this: calls are settled behind their answers."""
    until(lambda: list(sums(*servers).values()) == [picos], f"the sum is {picos}", every_s=0.02)
    return next(iter(sums(*servers)))


def refused(answer: httpx.Response) -> None:
    """The budget is used up, in the words of the API."""
    assert answer.status_code == 429, answer.text
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert answer.headers["x-should-retry"] == "false"
    assert 0 < int(answer.headers["retry-after"]) <= DAY_S


def test_what_one_replica_has_spent_the_other_has_not(replica, redis_server):
    server = redis_server()
    a, b = replica(server.url, limit="0.0013usd"), replica(server.url, limit="0.0013usd")

    a.calls(1)
    wait_for_sum(PICOS, server)
    b.calls(1)
    name = wait_for_sum(2 * PICOS, server)

    refused(b.call())
    refused(a.call())
    assert len(replica.upstream.requests) - _probes(replica) == 2
    wait_for_sum(2 * PICOS, server)
    window = int(time.time()) // DAY_S
    assert name in (f"touchline:s:day:{window}:0", f"touchline:s:day:{window - 1}:0")
    assert DAY_S * 1000 < server.run("PTTL", name) <= 2 * DAY_S * 1000
    assert [told(one.proxy) for one in (a, b)] == [["up"], ["up"]]


def _probes(replica) -> int:
    """What came to the API and was no call: health checks of the ingress, whose backend it is too."""
    return sum(target != "/v1/messages" for target in replica.upstream.targets())


def test_calls_at_once_are_all_in_the_sum(replica, redis_server):
    server = redis_server()
    both = [replica(server.url, limit="1usd") for _ in range(2)]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: both[number % 2].call(), range(100)))

    assert {answer.status_code for answer in answers} == {200}
    wait_for_sum(100 * PICOS, server)


@pytest.mark.parametrize("kind", ["sentinels", "cluster"])
def test_budgets_are_shared_under_sentinels_and_in_a_cluster(replica, request, kind):
    group = request.getfixturevalue(kind)
    mode = "sentinel" if kind == "sentinels" else "cluster"
    servers = [group.primary()] if kind == "sentinels" else group.nodes
    a, b = (replica(group.url, mode=mode, limit="0.0006usd") for _ in range(2))

    a.calls(1)
    wait_for_sum(PICOS, *servers)

    refused(b.call())


@pytest.mark.parametrize("fault", ["killed", "hung"])
def test_without_redis_each_replica_counts_alone_and_afterwards_nothing_is_lost_or_double(replica, redis_server, fault):
    server = redis_server()
    a, b = replica(server.url, limit="0.0051usd"), replica(server.url, limit="0.0051usd")
    a.calls(1)
    wait_for_sum(PICOS, server)
    b.calls(1)
    wait_for_sum(2 * PICOS, server)

    server.kill() if fault == "killed" else server.pause()
    b.times.clear()
    # b knows of two calls: the limit leaves six of its own.
    b.calls(6)
    # Each waits for one sum before it goes on, or for none.
    assert max(b.times) < 1.0, b.times
    until(lambda: b.spent()["budgets"]["day"]["spent_usd"] >= 0.0051, "b has counted them", every_s=0.02)
    refused(b.call())
    wait_for_redis(b.proxy, up=False)
    b.times.clear()
    for _ in range(20):
        b.call()
    assert sorted(b.times)[10] < 0.1, b.times
    a.calls(2)

    server.start() if fault == "killed" else server.resume()
    for one in (a, b):
        wait_for_redis(one.proxy, deadline_s=BACK_S)
    # Redis may have come back empty: each has brought what it has spent.
    refused(b.call())
    refused(a.call())
    wait_for_sum((1 + 2 + 1 + 6) * PICOS, server)
    assert [event for event in told(b.proxy) if event != "not"] == ["up", "down", "up"]


def test_a_hung_redis_holds_no_call_for_longer_than_the_deadline(replica, redis_server):
    server = redis_server()
    one = replica(server.url, limit="1usd")
    one.calls(3)
    before = overhead(one)

    server.pause()
    one.calls(5)
    server.resume()

    waited = {bound: count - before.get(bound, 0) for bound, count in overhead(one).items()}
    assert waited["+Inf"] == 5
    # Twenty milliseconds, the grain of timers and our own work in a debug build.
    assert waited["0.05"] == 5, waited


def overhead(one: Replica) -> dict[str, float]:
    """How many calls waited at most so long for our own work."""
    text = one.proxy.admin.get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("touchline_claude_overhead_seconds_bucket")]
    return {line.split('le="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


def test_a_stranger_under_the_name_of_a_sum_harms_nobody_and_is_told_once(replica, redis_server):
    server = redis_server()
    one = replica(server.url, limit="0.0051usd")
    window = int(time.time()) // DAY_S
    for number in (window, window + 1):
        server.run("SET", f"touchline:s:day:{number}:0", "a stranger's")

    one.calls(8)
    until(lambda: one.spent()["budgets"]["day"]["spent_usd"] >= 0.0051, "all is counted", every_s=0.02)
    refused(one.call())

    assert told(one.proxy) == ["up"]
    assert len(one.said("this replica counts alone")) == 1
    assert one.errors() >= 8

    for number in (window, window + 1):
        server.run("DEL", f"touchline:s:day:{number}:0")
    refused(one.call())
    wait_for_sum(8 * PICOS, server)
    assert len(one.said("shared through redis again")) == 1


def test_a_login_that_may_not_keep_sums_costs_no_tier(replica, redis_server):
    rights = "on nopass ~touchline:* &touchline:* -@all +@read +@write +@connection +@pubsub +@scripting -hset"
    server = redis_server(f"user coach {rights}")
    one = replica(server.url, username="coach", password="-", limit="0.0013usd")

    one.calls(2)
    until(lambda: one.spent()["budgets"]["day"]["spent_usd"] >= 0.0013, "all is counted", every_s=0.02)
    refused(one.call())

    assert told(one.proxy) == ["up"]
    assert one.errors() >= 2


def saved(server: RedisServer, port: int) -> bytes | None:
    """The note with the counts of the replica on this port."""
    names = [name for name in server.names("touchline:n:*") if name.endswith(f":{port}}}")]
    return server.run("GET", names[0]) if names else None


def wait_until_saved(server: RedisServer, one: Replica) -> bytes:
    """Returns once what is saved is what was counted."""
    count = one.counted()

    def is_saved() -> bytes | None:
        value = saved(server, one.port)
        return value if value and _calls(value) == count else None

    return until(is_saved, f"{count} calls are saved", deadline_s=5, every_s=0.05)


def _calls(value: bytes) -> int:
    return sum(numbers[0] for _, _, numbers in json.loads(value.split(b"\n")[1])["models"])


def told_of_calls(one: Replica) -> dict:
    """What `/performance/claude` says but for the time, and for what belongs to the running process."""
    found = one.spent()
    for passing in ("timestamp", "by_identity", "conversations", "budgets"):
        del found[passing]
    return found


def test_a_container_that_restarts_goes_on_counting(replica, redis_server):
    server = redis_server()
    first = replica(server.url)
    first.calls(3)
    before = told_of_calls(first)
    assert first.proxy.terminate() == 0

    second = replica(server.url, port=first.port)
    until(lambda: second.counted() == 3, "the counts are back", every_s=0.01)
    assert told_of_calls(second) == before
    second.calls(2)

    after = second.spent()["total"]
    assert (after["calls"], after["output_tokens"]) == (5, 100)
    assert after["cost_usd"] == pytest.approx(5 * PICOS / 1e12)
    assert len(second.said("go on from before the restart")) == 1
    stats = second.proxy.admin.get("/performance/metrics").json()["model_routing_stats"]
    assert stats["total_requests"] == 5
    name = next(name for name in server.names("touchline:n:*") if name.endswith("}"))
    assert 6.9 * DAY_S * 1000 < server.run("PTTL", name) <= 7 * DAY_S * 1000


def test_a_killed_process_loses_seconds_at_most(replica, redis_server):
    server = redis_server()
    first = replica(server.url)
    first.calls(4)
    wait_until_saved(server, first)
    first.proxy.signal(signal.SIGKILL)
    first.proxy.wait()

    second = replica(server.url, port=first.port)
    # The name of the one that was killed is still held for a while; what comes meanwhile is added to.
    second.calls(2)

    until(lambda: second.counted() == 6, "the counts are back", deadline_s=10, every_s=0.05)


def test_two_replicas_on_one_host_keep_counts_of_their_own(replica, redis_server):
    server = redis_server()
    a, b = replica(server.url), replica(server.url)
    a.calls(1)
    b.calls(2)

    assert (_calls(wait_until_saved(server, a)), _calls(wait_until_saved(server, b))) == (1, 2)
    assert len([name for name in server.names("touchline:n:*") if name.endswith("}")]) == 2


def test_one_name_has_one_process(replica, redis_server):
    server = redis_server()
    first = replica(server.url)
    first.calls(1)
    assert first.proxy.terminate() == 0
    left = saved(server, first.port)
    name = next(name for name in server.names("touchline:n:*") if name.endswith("}"))
    server.run("SET", f"{name}:by", "another process", "PX", 60_000)

    second = replica(server.url, port=first.port)
    second.calls(2)
    time.sleep(2.5)  # Longer than it takes to save.
    assert (second.counted(), saved(server, second.port)) == (2, left)

    server.run("DEL", f"{name}:by")
    until(lambda: second.counted() == 3, "the counts are back", every_s=0.05)
    wait_until_saved(server, second)


@pytest.mark.parametrize("value", ["text", "another pod's", "a list", "cut"])
def test_what_is_no_count_is_ignored_and_told_once(replica, redis_server, value):
    server = redis_server()
    first = replica(server.url)
    first.calls(2)
    assert first.proxy.terminate() == 0
    name = next(name for name in server.names("touchline:n:*") if name.endswith("}"))
    written = server.run("GET", name)
    if value == "text":
        server.run("SET", name, "hello")
    elif value == "another pod's":
        other = replica(server.url)
        other.calls(1)
        server.run("SET", name, wait_until_saved(server, other))
    elif value == "a list":
        server.run("DEL", name)
        server.run("RPUSH", name, "hello")
    else:
        server.run("SET", name, written[:-7])

    second = replica(server.url, port=first.port)
    until(lambda: second.said("ignored"), "the log says so", every_s=0.02)
    second.calls(1)

    assert second.counted() == 1
    assert _calls(wait_until_saved_over(server, second)) == 1
    assert len(second.said("ignored")) == 1


def wait_until_saved_over(server: RedisServer, one: Replica) -> bytes:
    """Like `wait_until_saved`, where something else lies there until then."""

    def is_over() -> bool:
        try:
            value = saved(server, one.port)
            return value is not None and value.startswith(b"touchline-claude 1 ") and _calls(value) == one.counted()
        except (RedisError, IndexError, json.JSONDecodeError):
            return False

    until(is_over, "the counts are saved over it", deadline_s=5, every_s=0.05)
    return saved(server, one.port)


def test_a_redis_that_hangs_at_the_start_delays_nothing_and_loses_nothing(replica, redis_server):
    server = redis_server()
    first = replica(server.url)
    first.calls(3)
    assert first.proxy.terminate() == 0

    server.pause()
    start = time.monotonic()
    second = replica(server.url, port=first.port, wait=False)
    assert time.monotonic() - start < 3
    second.calls(2)
    assert second.counted() == 2
    server.resume()

    until(lambda: second.counted() == 5, "what was made meanwhile is added", deadline_s=BACK_S, every_s=0.05)
    wait_until_saved(server, second)


def test_without_redis_nothing_is_kept_and_the_end_waits_for_nothing(replica, redis_server):
    server = redis_server()
    one = replica(server.url)
    one.calls(1)
    server.kill()
    wait_for_redis(one.proxy, up=False)

    start = time.monotonic()
    assert one.proxy.terminate() == 0

    assert time.monotonic() - start < 3
