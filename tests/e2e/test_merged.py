"""Answers over several replicas that are processes of their own: one is killed, one hangs, and the page of the third goes on."""

import json
import signal
import time

import pytest

from support.ports import free_port
from support.proxy import Touchline
from support.raw import FakeBackend, ok
from support.wait import until

ROUTES = [{"path": "/items/{id}"}]


@pytest.fixture
def replicas(touchline, fake) -> list[Touchline]:
    """Three replicas, each of which knows all of them, itself included."""
    backend: FakeBackend = fake(lambda sock, request: sock.sendall(ok(b"good")))
    ports = [free_port() for _ in range(3)]
    peers = [f"127.0.0.1:{port}" for port in ports]
    started = []
    for port in ports:
        admin = {"listen": f"127.0.0.1:{port}", "peers": peers}
        proxy = touchline(backend, wait=False, admin=admin, ingress={"routes": ROUTES})
        proxy.admin_url = f"http://127.0.0.1:{port}"
        proxy.admin = proxy.new_client(base_url=proxy.admin_url)
        started.append(proxy)
    for proxy in started:
        proxy.wait_ready()
    return started


def merged(proxy: Touchline) -> dict:
    begun = time.monotonic()
    answer = proxy.admin.get("/api/v1/snapshot", params={"scope": "merged", "window": "1h"})
    assert answer.status_code == 200, answer.text
    assert time.monotonic() - begun < 1.8, "the deadline holds"
    return answer.json()


def count(snapshot: dict) -> int:
    return sum(row["count"] for row in snapshot["routes"] if row["key"] == "GET /items/{id}")


def peers(snapshot: dict) -> tuple[int, int, set[str]]:
    found = snapshot["meta"]["peers"]
    return found["asked"], found["answered"], {silent["error"] for silent in found["silent"]}


def test_replicas_are_added_and_the_dead_and_the_hung_are_named(replicas):
    a, b, c = replicas
    for proxy, requests in ((a, 30), (b, 20), (c, 10)):
        for number in range(requests):
            assert proxy.client.get(f"/items/{number}").status_code == 200

    for proxy in replicas:
        until(lambda proxy=proxy: count(merged(proxy)) == 60, "all requests are counted")
        assert peers(merged(proxy)) == (3, 3, set())

    b.stop()
    until(lambda: peers(merged(a)) == (3, 2, {"connection refused"}), "the killed one is named")
    assert count(merged(a)) == 40

    c.signal(signal.SIGSTOP)
    try:
        hung = (3, 1, {"connection refused", "no answer within 1 s"})
        until(lambda: peers(merged(a)) == hung, "the hung one is named", deadline_s=10)
        assert count(merged(a)) == 30
        begun = time.monotonic()
        assert a.admin.get("/api/v1/snapshot").json()["meta"]["scope"] == "pod"
        assert time.monotonic() - begun < 0.5, "nobody else waits for it"
    finally:
        c.signal(signal.SIGCONT)
    until(lambda: peers(merged(a)) == (3, 2, {"connection refused"}), "it is back", deadline_s=10)
    assert count(merged(a)) == 40


def test_a_page_gets_merged_events_each_second(replicas):
    a = replicas[0]
    seen = []
    with a.admin.stream("GET", "/api/v1/events", params={"scope": "merged", "window": "1m"}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line.removeprefix("data: ")))
            if len(seen) == 3:
                break

    assert [event["seq"] for event in seen] == [1, 2, 3]
    assert seen[0]["meta"]["scope"] == "merged"
    assert seen[0]["meta"]["peers"]["asked"] == 3
