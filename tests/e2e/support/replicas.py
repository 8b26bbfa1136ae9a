"""Several proxies with one Redis between them, in front of one backend that counts."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from support.load import HOST
from support.metrics import Samples
from support.proxy import Touchline
from support.raw import FakeBackend, Request, ok
from support.redis import PREFIX, RedisServer
from support.wait import until

# A loaded machine must not turn a hit into a miss where a test is about something else than deadlines.
PATIENT = {"connect": "2s", "operation": "2s", "lease_wait": "5s"}
NO_MEMORY = {"memory": {"size": "0B"}}
ITEMS = [
    {
        "path": "/items/{name}",
        "cache": {
            "ttl": "10m",
            "public": True,
            "tags": ["items", "item:{name}"],
            "refresh_on": {"query": {"fresh": "yes"}},
        },
    },
    {"path": "/items/{name}/rename", "methods": ["POST"], "invalidates": ["item:{name}"]},
]


@dataclass
class Origin:
    """What the backend answers: the path and its version, as long as `sizes` says. A script for `FakeBackend`."""

    fields: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    version: int = 1

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._held: dict[str, threading.Event] = {}

    def hold(self, path: str) -> None:
        """From now on no request for this path is answered, until `release`."""
        self._held[path] = threading.Event()

    def release(self, path: str) -> None:
        self._held.pop(path).set()

    def wait(self, path: str) -> None:
        """Returns when this path is not held any more."""
        if held := self._held.get(path):
            held.wait(60)

    def __call__(self, sock, request: Request) -> None:
        path = request.target.split("?")[0]
        with self._lock:
            self._counts[path] += 1
        self.wait(path)
        if path == "/health":
            sock.sendall(ok(b'{"status": "healthy"}', "Content-Type: application/json"))
        elif request.method in ("GET", "HEAD"):
            body = self.body(path)
            data = ok(body, "Content-Type: text/plain", *self.fields)
            sock.sendall(data[: -len(body)] if request.method == "HEAD" else data)
        else:
            sock.sendall(ok(b"done"))

    def body(self, path: str) -> bytes:
        """The right answer to a path, now. Its bytes tell their own place."""
        text = f"{path} version {self.version};".encode()
        size = self.sizes.get(path, len(text))
        return (text * (size // len(text) + 1))[:size]

    def count(self, path: str) -> int:
        """How often a path was asked for, whatever its query."""
        with self._lock:
            return self._counts[path]

    def total(self) -> int:
        with self._lock:
            return sum(self._counts.values())


@dataclass
class Replicas:
    """`replica()` starts one more proxy on the same Redis. Keyword arguments go below `cache`."""

    origin: Origin
    backend: FakeBackend
    redis: RedisServer
    launch: Callable[..., Touchline]
    routes: list[dict] = field(default_factory=lambda: ITEMS)

    def replica(
        self,
        *,
        redis: dict | None = None,
        ingress: dict | None = None,
        patient: bool = True,
        wait: bool = True,
        **cache,
    ) -> Touchline:
        """A proxy that is ready, and whose Redis is up unless `wait` is false. Not `patient`: with default deadlines."""
        settings = {"url": self.redis.url, **(PATIENT if patient else {}), **(redis or {})}
        proxy = self.launch(
            self.backend,
            ingress={"routes": self.routes, **(ingress or {})},
            cache={**cache, "redis": settings},
        )
        if wait:
            wait_for_redis(proxy)
        return proxy


def ask(proxy: Touchline, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """One request with the name that all replicas share, so that they mean one entry. `x_lang` is `X-Lang`."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return proxy.client.request(method, path, headers={"Host": HOST, **fields})


def purge(proxy: Touchline, **what) -> httpx.Response:
    """`POST /cache/purge`."""
    return proxy.control.post("/cache/purge", json=what)


def metric(proxy: Touchline, name: str, **labels: str) -> float:
    """The sum of a family of `touchline_cache_`; 0 where nothing was counted."""
    return Samples.parse(proxy.admin.get("/metrics").text).total(f"touchline_cache_{name}", **labels)


def hits(proxy: Touchline, source: str) -> int:
    """How many requests were answered from `redis` or `memory`."""
    return int(metric(proxy, "hits_total", source=source))


def is_up(proxy: Touchline) -> bool:
    return metric(proxy, "redis_up") == 1


def wait_for_redis(proxy: Touchline, up: bool = True, deadline_s: float = 10.0) -> None:
    """Returns once the proxy says so itself."""
    until(lambda: is_up(proxy) == up, f"{proxy.name} finds redis {'up' if up else 'down'}", deadline_s, every_s=0.02)


def wait_until_given_up(proxy: Touchline, deadline_s: float = 5.0) -> None:
    """Sends misses, which ask Redis, until the proxy has given it up."""
    number = 0

    def given_up() -> bool:
        nonlocal number
        number += 1
        assert ask(proxy, f"/items/asked-{proxy.port}-{number}").status_code == 200
        return not is_up(proxy)

    until(given_up, f"{proxy.name} gives redis up", deadline_s, every_s=0.02)


def told(proxy: Touchline) -> list[str]:
    """What the log said about the state of Redis, in order: `up`, `down`, or `not` (reached, by a further try)."""
    messages = [str(event.get("message", "")).lower() for event in proxy.events()]
    return [message.split("redis is ", 1)[1].split()[0].strip(".,;:") for message in messages if "redis is " in message]


def wait_until_written(proxy: Touchline, redis: RedisServer, deadline_s: float, prefix: str = PREFIX) -> None:
    """Returns once answers are stored in Redis again, seen from outside."""
    number = 0

    def written() -> bool:
        nonlocal number
        number += 1
        before = set(redis.entries(prefix))
        ask(proxy, f"/items/written-{proxy.port}-{number}").raise_for_status()
        until_s = 0.3
        try:
            until(lambda: set(redis.entries(prefix)) - before, "an entry", until_s, every_s=0.02)
        except AssertionError:
            return False
        return True

    until(written, "answers are stored in Redis", deadline_s, every_s=0.02)
