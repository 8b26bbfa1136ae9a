"""Five incidents, staged. What can be read on the page has to tell a stranger what is wrong, where, and since when."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from support.browser import Page
from support.claude import asking, scripted
from support.ports import free_port
from support.proxy import Touchline
from support.replicas import wait_for_redis
from support.scene import ROUTES, Site, Traffic, ask, browse
from support.wait import until

pytest_plugins = ["support.browser_fixtures", "support.claude_fixtures"]

# The rules as they are built in, but for the times that they wait: a test cannot wait two minutes.
ALERTS = {
    "interval": "500ms",
    "group_wait": "0s",
    "rules": {
        "route_p95": {"critical_for": "1s", "warning_for": "1s"},
        "redis_down": {"warning_for": "1s"},
        "claude_refused": {"warning_for": "1s"},
    },
}
# How long a fault may take to be noticed.
NOTICED_S = 12


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def served(touchline, fake, site) -> Callable[..., Touchline]:
    """Starts proxies before the small application, with rules that do not wait."""

    def start(**sections) -> Touchline:
        telemetry = {"service": "coach-api", "alerts": ALERTS}
        start.backend = fake(site)
        return touchline(start.backend, ingress={"routes": ROUTES}, telemetry=telemetry, **sections)

    return start


class Incident:
    """What the page says of a fault that began at `began`."""

    def __init__(self, page: Page, name: str, began: datetime) -> None:
        self.page, self.name, self.began = page, name, began

    def verdict(self, *words: str) -> str:
        """The first thing on the page, once it says this."""
        return self.page.shows(*words, selector="#verdict", deadline_s=NOTICED_S)

    def alert(self, word: str) -> str:
        """The firing alert that says this."""
        code = """word => [...document.querySelectorAll('#alerts .alerts li')].map(one => one.innerText)
          .find(text => text.includes(word) && text.includes('firing')) ?? ''"""
        return until(lambda: self.page.eval(code, word), f"an alert that says {word!r} fires", NOTICED_S, every_s=0.1)

    def row(self, key: str) -> str:
        """What can be read in the row of a route."""
        code = """key => [...document.querySelectorAll('table.routes tbody tr')]
          .find(row => row.querySelector('[data-route]').title === key)?.innerText ?? ''"""
        return self.page.eval(code, key)

    def is_dated(self, text: str) -> None:
        """Says since when, and that is when it began."""
        times = re.findall(r"since (\d\d):(\d\d):(\d\d)", text)
        assert times, f"no time in {text!r}"
        for hour, minute, second in times:
            at = self.began.replace(hour=int(hour), minute=int(minute), second=int(second), microsecond=0)
            late = (at - self.began).total_seconds()
            # Past midnight.
            late += 86_400 if late < -43_200 else 0
            assert -2 <= late <= NOTICED_S, f"began {self.began:%H:%M:%S}, but {text!r}"

    def shots(self, look: Callable[..., Page], proxy: Touchline) -> None:
        """Pictures of it, and the bar that each state of the page is held to."""
        self.page.shot(f"incident-{self.name}-1440-dark")
        narrow = look(proxy.admin_url, width=390, scheme="light")
        narrow.shows("Alerts")
        narrow.shot(f"incident-{self.name}-390-light")
        for page in (self.page, narrow):
            assert page.problems() == [] and page.overflow() == 0 and page.axe() == []


def now() -> datetime:
    return datetime.now(UTC)


def is_well(page: Page) -> None:
    page.shows("Healthy: nothing is wrong.", "none firing")


def test_redis_is_killed(served, redis_server, look):
    redis = redis_server()
    proxy = served(cache={"redis": {"url": redis.url}})
    wait_for_redis(proxy)
    browse(proxy, 10)
    page = look(proxy.admin_url)
    is_well(page)

    incident = Incident(page, "redis", now())
    redis.kill()
    with Traffic(proxy):
        verdict = incident.verdict("Redis does not answer", "Redis connection issues", "−20")
        alert = incident.alert("Redis does not answer")
        panel = page.shows("down", f"127.0.0.1:{redis.port}", selector="#behind")

        assert "Degraded" in verdict and "80" in verdict
        incident.is_dated(verdict)
        incident.is_dated(alert)
        assert re.search(r"down \d+ s", panel) and "Last error" in panel
        page.shows("Redis lost", selector="#traffic")
        assert page.eval("() => document.title") == "80 · degraded · coach-api"
        incident.shots(look, proxy)

        redis.start()
        page.shows("Healthy: nothing is wrong.", "none firing", "resolved", "Redis answers in", deadline_s=20)
        page.shot("incident-redis-over-1440-dark")


def test_redis_comes_and_goes(served, redis_server, look):
    redis = redis_server()
    proxy = served(cache={"redis": {"url": redis.url}})
    wait_for_redis(proxy)
    page = look(proxy.admin_url)
    is_well(page)
    incident = Incident(page, "flapping", now())

    for _ in range(2):
        redis.kill()
        assert "flapping" not in incident.alert("Redis does not answer")
        redis.start()
        page.shows("none firing", selector="#alerts", deadline_s=20)

    # The fourth change in a quarter of an hour.
    page.shows("flapping", "resolved", selector="#alerts")
    redis.kill()
    assert "flapping" in incident.alert("Redis does not answer")
    items = proxy.admin.get("/api/v1/snapshot").json()["alerts"]["items"]
    assert [(item["rule"], item["is_flapping"], item["reason"]) for item in items] == [("redis_down", True, None)]
    incident.shots(look, proxy)


def test_one_route_is_slow(served, site, look):
    proxy = served()
    browse(proxy, 10)
    incident_began = now()
    site.slow["/api/matches/"] = 0.4
    ask(proxy, "/api/matches/#", 60, at_once=12)

    page = look(proxy.admin_url)
    incident = Incident(page, "slow-route", incident_began)
    with Traffic(proxy):
        verdict = incident.verdict("routes are over their limits", "GET /api/matches/{user_id} P95", "over its limit of 300ms")
        alert = incident.alert("GET /api/matches/{user_id}")

        incident.is_dated(verdict)
        incident.is_dated(alert)
        assert "over its limit of 300 ms" in incident.row("GET /api/matches/{user_id}")
        assert "over its limit" not in incident.row("GET /api/challenges")
        slow = page.shows("/api/matches/", "over its limit of 300 ms", selector="#slow")
        assert "waiting for the backend's first byte" in slow, "and which part of it"
        incident.shots(look, proxy)


def test_the_backend_is_down(served, look):
    proxy = served()
    browse(proxy, 10)
    page = look(proxy.admin_url)
    is_well(page)

    incident = Incident(page, "backend", now())
    served.backend.stop()
    with Traffic(proxy):
        verdict = incident.verdict("the backend is down", "−50")
        alert = incident.alert("backend is down")
        panel = page.shows("down", f"http://127.0.0.1:{served.backend.port}", selector="#behind")

        assert "Unhealthy" in verdict
        incident.is_dated(verdict)
        incident.is_dated(alert)
        assert re.search(r"down \d+ s", panel)
        until(lambda: re.search(r"\b50[23]\b", page.text("#tail ol")), "the tail shows what clients get")
        incident.shots(look, proxy)


def test_one_route_fails(served, site, look):
    proxy = served()
    browse(proxy, 10)
    began = now()
    site.failing["/api/orders/"] = "500 Internal Server Error"
    ask(proxy, "/api/orders/#", 60, at_once=4)

    page = look(proxy.admin_url)
    incident = Incident(page, "errors", began)
    with Traffic(proxy):
        verdict = incident.verdict("too many requests fail", "error rate", "requests end in 5xx")
        alert = incident.alert("5xx")
        page.shows("500", "/api/orders/", selector="#tail ol")

        incident.is_dated(verdict)
        incident.is_dated(alert)
        share = re.search(r"(\d+\.\d\d)%", incident.row("GET /api/orders/{order_id}"))
        assert share and float(share.group(1)) > 50
        for healthy in ("GET /api/challenges", "GET /api/users/{user_id}"):
            assert "0.00%" in incident.row(healthy)
        incident.shots(look, proxy)


class Calls:
    """Calls to Claude by way of the proxy."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1/messages"

    def __call__(self, count: int, text: str = "How do I plan my week?", **script) -> list[int]:
        headers = {"x-api-key": "k", "anthropic-version": "2023-06-01", **(scripted(**script) if script else {})}
        with httpx.Client(trust_env=False, timeout=20) as client:
            return [client.post(self.url, json=asking(f"{text} {number}"), headers=headers).status_code for number in range(count)]


@pytest.mark.parametrize("status", [429, 529])
def test_claude_refuses(served, claude, look, status):
    api, port = claude(), free_port()
    proxy = served(claude={"listen": f"127.0.0.1:{port}", "upstream": api.url})
    calls = Calls(port)
    assert calls(10) == [200] * 10
    began = now()
    assert set(calls(15, status=status, headers={"retry-after-ms": "10"})) <= {status, 429}

    page = look(proxy.admin_url)
    incident = Incident(page, f"claude-{status}", began)
    verdict = incident.verdict("Claude refuses calls", "Claude refuses 60.0% of calls (429, 529)", "−10")
    alert = incident.alert("Claude")

    incident.is_dated(verdict)
    incident.is_dated(alert)
    panel = page.text("#claude")
    assert ("15 / 0" if status == 429 else "0 / 15") in panel
    incident.shots(look, proxy)


def test_the_budget_for_claude_is_spent(served, claude, look):
    api, port = claude(), free_port()
    budgets = [{"name": "daily", "window": "24h", "limit": "0.0005usd", "soft": "100%"}]
    proxy = served(claude={"listen": f"127.0.0.1:{port}", "upstream": api.url, "budgets": budgets})
    calls = Calls(port)
    page = look(proxy.admin_url)
    is_well(page)
    began = now()
    statuses = calls(20)
    assert statuses[0] == 200 and statuses[-1] == 429

    incident = Incident(page, "claude-budget", began)
    verdict = incident.verdict("a budget for Claude is spent", "the Claude budget daily is spent")
    alert = incident.alert("daily")

    incident.is_dated(verdict)
    incident.is_dated(alert)
    assert re.search(r"daily\s+\$0\.\d+ of \$0\.0005 · \d+ refused", page.text("#claude"))
    incident.shots(look, proxy)


def test_since_when_does_not_depend_on_who_looks(served, site, look):
    """A page that is opened late says when it began, not when somebody looked."""
    proxy = served()
    browse(proxy, 10)
    began = now()
    site.failing["/api/orders/"] = "500 Internal Server Error"
    ask(proxy, "/api/orders/#", 80, at_once=4)
    time.sleep(16)

    page = look(proxy.admin_url)

    text = page.shows("requests end in 5xx", selector="#verdict")
    hour, minute, second = map(int, re.search(r"since (\d\d):(\d\d):(\d\d)", text).groups())
    late = began.replace(hour=hour, minute=minute, second=second) - began
    assert late < timedelta(seconds=12), text


def test_a_fault_is_not_called_healthy_without_a_but(served, site, look):
    proxy = served()
    site.slow["/api/matches/"] = 0.35
    ask(proxy, "/api/matches/#", 40, at_once=12)

    page = look(proxy.admin_url)

    verdict = page.shows("over its limit", selector="#verdict")
    assert not re.search(r"Healthy: (?!nothing is wrong)", verdict)


def test_what_is_not_ready_is_not_called_ok(served, look):
    proxy = served()
    page = look(proxy.admin_url)

    served.backend.stop()

    verdict = page.shows("Not ready", "the backend is down", selector="#verdict", deadline_s=NOTICED_S)
    assert not re.search(r"\bok\b[^−]*not ready", verdict)
