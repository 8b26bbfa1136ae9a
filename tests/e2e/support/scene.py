"""A small application under traffic, whose routes can be made slow or made to fail, for those who look at the page."""

import threading
import time
from dataclasses import dataclass, field

import httpx

from support.proxy import Touchline
from support.raw import Request, ok

ROUTES = [
    {"path": "/api/challenges", "cache": {"ttl": "30m", "public": True}},
    {"path": "/api/users/{user_id}", "cache": {"ttl": "15m", "public": True}},
    {"path": "/api/matches/{user_id}", "slow_after": "300ms"},
    {"path": "/api/orders/{order_id}"},
    {"path": "/feed"},
]


@dataclass
class Site:
    """A script for a fake backend: `slow` and `failing` map the beginnings of paths to seconds and to statuses."""

    slow: dict[str, float] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)

    def __call__(self, sock, request: Request) -> bool | None:
        target = request.target

        def value(of: dict):
            return next((of[start] for start in of if target.startswith(start)), None)

        if seconds := value(self.slow):
            time.sleep(seconds)
        if status := value(self.failing):
            sock.sendall(ok(b"bad", status=status))
            return None
        if target == "/feed":
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            sock.sendall(head + b"data: one\n\ndata: two\n\n")
            return False
        sock.sendall(ok(b"x" * 300, "Content-Type: text/plain"))
        return None


def ask(proxy: Touchline, path: str, count: int = 1, at_once: int = 1) -> None:
    """So many requests for a path, several at once; `#` in it is replaced by a number. What comes of them is not looked at."""
    numbers = iter(range(count))
    lock = threading.Lock()

    def run() -> None:
        with httpx.Client(base_url=proxy.url, trust_env=False, timeout=20) as client:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    client.get(path.replace("#", str(number)))
                except httpx.TransportError:
                    pass

    workers = [threading.Thread(target=run) for _ in range(min(at_once, count))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def browse(proxy: Touchline, rounds: int = 30) -> None:
    """What an ordinary minute brings: hits, misses, a write, a stream, and a path that no route names."""
    ask(proxy, "/api/challenges", rounds * 4)
    ask(proxy, "/api/users/#", rounds)
    ask(proxy, "/api/users/1", rounds)
    ask(proxy, "/api/matches/#", rounds)
    ask(proxy, "/api/orders/#", rounds)
    ask(proxy, "/feed", 3)
    ask(proxy, "/favicon.ico", 2)


class Traffic:
    """Goes on asking until the end of its block."""

    def __init__(self, proxy: Touchline, *paths: str, every_s: float = 0.03) -> None:
        self._proxy, self._every_s = proxy, every_s
        self._paths = paths or ("/api/challenges", "/api/users/#", "/api/orders/#", "/feed", "/api/matches/#")
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(path,), daemon=True) for path in self._paths]

    def _run(self, path: str) -> None:
        number = 0
        with httpx.Client(base_url=self._proxy.url, trust_env=False, timeout=20) as client:
            while not self._stop.is_set():
                number += 1
                try:
                    client.get(path.replace("#", str(number % 40)))
                except httpx.TransportError:
                    pass
                self._stop.wait(self._every_s)

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
