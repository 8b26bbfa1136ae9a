"""A real Prometheus scrapes touchline beside a real backend: what it gets, what its rules make of faults, and what a scanner
cannot do to it."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from support.metrics import Samples
from support.prometheus import RULES, Prometheus, promtool
from support.proxy import ROOT
from support.raw import ok
from support.wait import settled, until

JOB = "coach-api"


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Starts a Prometheus that scrapes these proxies twice a second, and has done so once when it returns."""
    started: list[Prometheus] = []

    def start(*proxies, rules: Path | None = None) -> Prometheus:
        targets = [f"127.0.0.1:{proxy.admin_port}" for proxy in proxies]
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "500ms"},
            "rule_files": [str(rules)] if rules else [],
            "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": targets}]}],
        }
        server = Prometheus(tmp_path, config)
        started.append(server)
        server.wait_for_targets(len(targets))
        return server

    yield start
    for server in started:
        server.stop()


def shortened(folder: Path) -> Path:
    """The rules with every wait and every window made short enough for a test. The expressions stay what they are."""
    document = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "1s"
            rule["expr"] = re.sub(r"\[\d+[mhd]\]", "[10s]", rule["expr"])
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def states(server: Prometheus, *names: str) -> list[str]:
    """The states of these alerts; `inactive` for those that are quiet."""
    now = server.alerts()
    return [now.get(name, "inactive") for name in names]


def test_a_target_is_up_and_its_metrics_are_clean(touchline, backend, prometheus):
    proxy = touchline(backend, telemetry={"service": JOB})
    server = prometheus(proxy)
    for path in ("/api/challenges", "/api/challenges", "/nope"):
        proxy.client.get(path)

    until(lambda: server.value(f'touchline_ingress_requests_total{{job="{JOB}", cache="hit"}}') == 1, "it is scraped")

    (target,) = server.targets()
    assert (target["health"], target["lastError"]) == ("up", "")
    assert server.value("up") == 1
    assert server.value("touchline_build_info") == 1
    done = promtool("check", "metrics", given=proxy.admin.get("/metrics").text)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_types_and_help_arrive_as_the_documentation_has_them(proxy, prometheus):
    server = prometheus(proxy)
    proxy.client.get("/api/challenges")
    until(lambda: server.value("sum(touchline_ingress_requests_total)"), "it is scraped")

    told = {name: entries for name, entries in server.api("metadata").items() if name.startswith("touchline_")}

    reference = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(touchline_\w+)` \| (\w+) \| [^|]*\| (.*) \|$", reference, re.MULTILINE)
    documented = {name: {"type": kind, "help": text, "unit": ""} for name, kind, text in rows}
    assert len(told) > 40
    for name, entries in told.items():
        assert entries == [documented[name]], name


@pytest.mark.timeout(90)
def test_the_rules_as_they_are_load_and_none_fails(proxy, prometheus):
    server = prometheus(proxy, rules=RULES)

    def evaluated() -> list[dict]:
        found = [rule for group in server.api("rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else []

    rules = until(evaluated, "every rule was evaluated", deadline_s=50, every_s=0.2)
    assert len(rules) == sum(len(group["rules"]) for group in yaml.safe_load(RULES.read_text())["groups"])
    assert [rule["name"] for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []
    assert server.alerts() == {}


@pytest.mark.timeout(120)
def test_a_backend_that_dies_makes_alerts_fire_and_its_return_resolves_them(touchline, own_backend, prometheus, tmp_path):
    backend = own_backend()
    proxy = touchline(backend)
    server = prometheus(proxy, rules=shortened(tmp_path))
    # Which is under way when the fault comes: an error ratio has to be one of many.
    for _ in range(30):
        proxy.client.get("/health")
    until(lambda: server.value("sum(touchline_ingress_requests_total)") == 30, "it is scraped")
    assert server.alerts() == {}

    backend.stop()

    faults = ("TouchlineUpstreamDown", "TouchlineBreakerOpen", "TouchlineErrorRatioHigh", "TouchlineErrorRatioElevated")

    def failing() -> bool:
        proxy.client.get("/health")
        return states(server, *faults) == ["firing"] * 4

    until(failing, f"{faults} fire", deadline_s=40, every_s=0.05)

    own_backend(backend.port)

    def recovering() -> bool:
        proxy.client.get("/health")
        return states(server, *faults) == ["inactive"] * 4

    until(recovering, "they resolve", deadline_s=40, every_s=0.05)


@pytest.mark.timeout(90)
def test_a_slow_route_makes_its_own_alert_fire_and_no_other_route(touchline, backend, prometheus, tmp_path):
    proxy = touchline(backend, ingress={"routes": [{"path": "/test/slow", "slow_after": "50ms"}]})
    server = prometheus(proxy, rules=shortened(tmp_path))

    def slow() -> bool:
        for _ in range(5):
            proxy.client.get("/test/slow?ms=60")
            proxy.client.get("/health")
        return states(server, "TouchlineRouteP95Slow", "TouchlineSlowBurst") == ["firing"] * 2

    until(slow, "the slow route fires", deadline_s=30)

    alerts = [alert for alert in server.api("alerts")["alerts"] if alert["labels"]["severity"] == "critical"]
    assert [(alert["labels"]["route"], alert["labels"]["method"]) for alert in alerts] == [("/test/slow", "GET")]
    assert re.fullmatch(r"GET /test/slow P95 [\d.]+ms is at or over its limit", alerts[0]["annotations"]["summary"])


async def _send(address: tuple[str, int], targets: Iterator[str]) -> int:
    """Sends GETs over one connection and counts the answers."""
    reader, writer = await asyncio.open_connection(*address)
    answered = 0
    for target in targets:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"(?i)content-length: *(\d+)", head)[1]))
        answered += 1
    writer.close()
    return answered


def scan(address: tuple[str, int], start: int, count: int, connections: int = 4) -> int:
    """Asks for `count` paths that nobody asked for before, as a scanner does; how many were answered."""

    async def run() -> int:
        numbers = iter(range(start, start + count))
        targets = (f"/scan/{number}/wp-{number}.php?id={number}" for number in numbers)
        return sum(await asyncio.gather(*(_send(address, targets) for _ in range(connections))))

    return asyncio.run(run())


@pytest.mark.timeout(180)
def test_a_scanner_of_ten_thousand_paths_makes_no_series_and_takes_no_memory(touchline, fake, prometheus):
    backend = fake(lambda sock, _: sock.sendall(ok(b"nothing here", status="404 Not Found")))
    # Lines of the log are no matter here.
    proxy = touchline(backend, telemetry={"access_log": {"enabled": False}})
    server = prometheus(proxy)

    def count() -> int:
        return Samples.parse(proxy.admin.get("/metrics").text).count()

    # The first thousand fill what is filled once: connections, buffers, the allocator's own.
    assert scan(proxy.address, 0, 1000) == 1000
    series, memory = settled(count, "series after the first thousand"), proxy.rss_kib()
    scraped = until(lambda: server.value("scrape_samples_scraped") == series and series, "it is scraped", deadline_s=10)

    assert scan(proxy.address, 1000, 10_000) == 10_000

    until(
        lambda: server.value('sum(touchline_ingress_requests_total{route="unmatched"})') == 11_000,
        "every request is counted",
        deadline_s=10,
    )
    assert settled(count, "series after ten thousand more") == series
    assert server.value("scrape_samples_scraped") == scraped
    assert server.value('count({__name__=~"touchline_.+"})') == series
    assert server.value("count(count by (route) (touchline_ingress_requests_total))") == 1
    text = proxy.admin.get("/metrics").text + proxy.admin.get("/performance/metrics").text
    assert "/scan/" not in text and "wp-" not in text
    grown = proxy.rss_kib() - memory
    assert grown < 2 * 1024, f"{grown} KiB more after ten thousand paths, {memory} before"
