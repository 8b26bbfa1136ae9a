"""Alerts of replicas that share a Redis: one of them speaks, another takes over, and the last one says that it is over."""

import json
import signal

import pytest

from support.proxy import Touchline
from support.raw import FakeBackend, Request, ok
from support.replicas import wait_for_redis
from support.wait import settled, until

BAD = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nbad"
# Only this rule, at once. What is over is told after the wait, as others may still have it.
ALERTS = {
    "interval": "200ms",
    "group_wait": "600ms",
    "rules": {"errors_5xx": {"critical": "50%", "warning": "off", "samples": 20}, "burn_fast": "off", "burn_slow": "off"},
}


class Scene:
    """A receiver and replicas whose backend fails on demand."""

    def __init__(self, touchline, fake, redis_url: str | None) -> None:
        self.receiver: FakeBackend = fake(lambda sock, request: sock.sendall(ok(b"ok")))
        self.is_bad = True
        self.backend: FakeBackend = fake(self.answer)
        self.touchline, self.redis_url = touchline, redis_url

    def answer(self, sock, request: Request) -> None:
        sock.sendall(BAD if self.is_bad else ok(b"good"))

    def replica(self) -> Touchline:
        hook = {"webhook": {"url": f"{self.receiver.url}/hook"}}
        sections = {"telemetry": {"service": "coach-api", "alerts": {**ALERTS, "notify": [hook]}}}
        if self.redis_url:
            sections["cache"] = {"redis": {"url": self.redis_url, "connect": "1s"}}
        proxy = self.touchline(self.backend, **sections)
        if self.redis_url:
            wait_for_redis(proxy)
        return proxy

    def said(self) -> list[str]:
        """The state of each message so far."""
        return [json.loads(request.body)["status"] for request in self.receiver.requests]

    def will_say(self, *states: str) -> None:
        """These messages and no others."""
        until(lambda: len(self.said()) >= len(states), f"{states} were said", deadline_s=10)
        settled(lambda: len(self.said()), "messages", quiet_s=2.0)
        assert self.said() == list(states)

    def ask(self, proxy: Touchline, is_bad: bool, count: int = 30) -> None:
        self.is_bad = is_bad
        for number in range(count):
            assert proxy.client.get(f"/items/{number}").status_code == (500 if is_bad else 200)


def firing(proxy: Touchline) -> float:
    """How many critical alerts fire."""
    lines = proxy.admin.get("/metrics").text.splitlines()
    line = next(line for line in lines if line.startswith("touchline_telemetry_alerts{") and "critical" in line and "firing" in line)
    return float(line.rsplit(" ", 1)[1])


@pytest.fixture
def scene(touchline, fake, redis_server):
    return Scene(touchline, fake, redis_server().url)


def test_one_replica_speaks_for_all_and_the_last_says_that_it_is_over(scene):
    a, b = scene.replica(), scene.replica()
    for proxy in (a, b):
        scene.ask(proxy, is_bad=True)
    until(lambda: firing(a) == firing(b) == 1, "both see it")
    scene.will_say("firing")

    scene.ask(a, is_bad=False, count=60)
    until(lambda: firing(a) == 0, "it is over for one")
    scene.will_say("firing")
    scene.ask(b, is_bad=False, count=60)

    scene.will_say("firing", "resolved")
    first = json.loads(scene.receiver.requests[0].body)["alerts"][0]
    assert "pod" not in first["labels"] and first["annotations"]["pod"]


def test_a_replica_goes_on_for_one_that_was_killed(scene):
    a, b = scene.replica(), scene.replica()
    scene.ask(a, is_bad=True)
    scene.will_say("firing")
    scene.ask(b, is_bad=True)
    until(lambda: firing(b) == 1, "the other sees it too")
    a.child.send_signal(signal.SIGKILL)
    a.child.wait()
    scene.will_say("firing")

    scene.ask(b, is_bad=False, count=60)

    scene.will_say("firing", "resolved")


def test_without_a_store_each_pod_speaks_for_itself(touchline, fake):
    scene = Scene(touchline, fake, None)
    a, b = scene.replica(), scene.replica()
    for proxy in (a, b):
        scene.ask(proxy, is_bad=True)

    scene.will_say("firing", "firing")
    for request in scene.receiver.requests:
        assert json.loads(request.body)["alerts"][0]["labels"]["pod"]
