"""Answers over several replicas that are processes of their own: one is killed, one hangs, and the page of the third goes on."""

import json
import signal
import time

import pytest

from support.figures import expected, shown
from support.ports import free_port
from support.proxy import Touchline
from support.raw import FakeBackend, ok
from support.replicas import wait_for_redis
from support.scene import ROUTES as SCENE, Site, Traffic, ask, browse
from support.wait import until

pytest_plugins = ["support.browser_fixtures"]

ROUTES = [{"path": "/items/{id}"}]
PODS = ["coach-api-7d9f8-x2k4q", "coach-api-7d9f8-m8w2c"]


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
        assert time.monotonic() - begun < 0.9, "nobody else waits for it"
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


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def pair(touchline, fake, site, redis_server, monkeypatch) -> list[Touchline]:
    """Two replicas of a small application with names of their own, one Redis between them, and rules that do not wait."""
    redis = redis_server()
    backend = fake(site)
    ports = [free_port() for _ in PODS]
    alerts = {
        "interval": "500ms",
        "group_wait": "0s",
        "rules": {"route_p95": {"critical_for": "1s", "warning_for": "1s"}, "redis_down": {"warning_for": "1s"}},
    }
    started = []
    for pod, port in zip(PODS, ports, strict=True):
        monkeypatch.setenv("HOSTNAME", pod)
        proxy = touchline(
            backend,
            wait=False,
            admin={"listen": f"127.0.0.1:{port}", "peers": [f"127.0.0.1:{port}" for port in ports]},
            ingress={"routes": SCENE},
            cache={"redis": {"url": redis.url}},
            telemetry={"service": "coach-api", "alerts": alerts},
        )
        proxy.admin_url = f"http://127.0.0.1:{port}"
        proxy.admin = proxy.new_client(base_url=proxy.admin_url)
        proxy.redis = redis
        started.append(proxy)
    for proxy in started:
        proxy.wait_ready()
        wait_for_redis(proxy)
    return started


def is_whole(page, *known: str) -> None:
    """Nothing went wrong in it, nothing is out of its place, and everyone can use it."""
    assert page.problems(*known) == [] and page.overflow() == 0 and page.axe() == []


def test_the_page_of_two_replicas_says_what_is_whose(pair, site, look):
    here, there = pair
    for proxy in pair:
        browse(proxy, 12)
    # Only one of them gets the slow requests.
    site.slow["/api/matches/"] = 0.4
    ask(there, "/api/matches/#", 40, at_once=10)
    site.slow.clear()

    page = look(here.admin_url, "/?window=1h")
    with Traffic(here), Traffic(there):
        page.click("header .switch button:nth-child(2)")
        page.shows("2 of 2 pods answered.", "2 pods, merged", deadline_s=15)
        page.shows(f"{PODS[1]}: GET /api/matches/{{user_id}} P95", selector="#verdict", deadline_s=15)
        alerts = page.shows("P95 at or over 300 ms: GET /api/matches/{user_id}", "firing", selector="#alerts", deadline_s=15)
        slow = page.shows("/api/matches/", selector="#slow")
        behind = page.shows("State of", "counts of all", selector="#behind")
        page.shows("of this pod; at most 50 lines a second", selector="#tail")
        assert PODS[1] in slow and PODS[0] not in slow, "each slow request says who served it"
        assert f"on {PODS[1]}" in alerts and "of the pod that is worst off" in alerts
        assert any(pod in behind for pod in PODS)
        time.sleep(1.5)
        is_whole(page)
        page.shot("merged-1440-dark")
        narrow = look(here.admin_url, "/?scope=merged&window=1h", width=390, scheme="light")
        narrow.shows("2 of 2 pods answered.", "State of")
        is_whole(narrow)
        narrow.shot("merged-390-light")

    there.stop()
    page.shows("1 of 2 pods answered.", "Missing:", "(connection refused)", deadline_s=15)
    page.shot("merged-one-missing-1440-dark")
    is_whole(page)


def test_every_number_of_the_merged_page_is_that_of_the_merged_snapshot(pair, look):
    for proxy in pair:
        browse(proxy, 5)
    page = look(pair[0].admin_url, "/?scope=merged&window=1h")
    differs = {}

    def agree() -> bool:
        nonlocal differs
        there = shown(page)
        snapshot = pair[0].admin.get("/api/v1/snapshot", params={"scope": "merged", "window": "1h"}).json()
        wanted = expected(snapshot)
        differs = {name: (there.get(name), value) for name, value in wanted.items() if there.get(name) != value}
        return not differs and len(there) == len(wanted)

    try:
        until(agree, "the page agrees with the snapshot", 20, every_s=0.15)
    except AssertionError:
        raise AssertionError(f"(shown, should be): {differs}") from None
