"""A real Alertmanager between touchline's own alerts and a webhook: who is told what, and how often; and the example of its
configuration."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from support.ports import free_port
from support.prometheus import MONITORING, Alertmanager
from support.wait import until
from support.webhook import Webhook

# The rule that a dead backend breaks, and what touchline says of it.
RULE = "backend_down"
EXAMPLE = MONITORING / "prometheus" / "alertmanager.yaml"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    receiver = Webhook()
    yield receiver
    receiver.stop()


@pytest.fixture
def alertmanager(tmp_path: Path, webhook: Webhook) -> Iterator[Callable[..., Alertmanager]]:
    """Starts Alertmanagers that tell the webhook almost at once, and what keeps firing not again."""
    with ExitStack() as stack:

        def start(config: dict | None = None, port: int | None = None) -> Alertmanager:
            route = {"receiver": "webhook", "group_by": ["alertname", "service"]}
            waits = {"group_wait": "200ms", "group_interval": "500ms", "repeat_interval": "4h"}
            hook = {"name": "webhook", "webhook_configs": [{"url": webhook.url, "send_resolved": True}]}
            server = Alertmanager(tmp_path, config or {"route": {**route, **waits}, "receivers": [hook]}, port)
            stack.callback(server.stop)
            return server

        yield start


def telling(url: str, **more) -> dict:
    """The `telemetry` section of a proxy that looks at itself often and tells this Alertmanager."""
    alerts = {"interval": "200ms", "group_wait": "0s", "notify": [{"alertmanager": {"url": url}}], **more}
    return {"service": "coach-api", "alerts": alerts}


def is_firing(proxy) -> bool:
    """Whether the proxy says so itself."""
    items = proxy.admin.get("/api/v1/snapshot").json()["alerts"]["items"]
    return any(item["rule"] == RULE and item["state"] == "firing" for item in items)


def wait_for(webhook: Webhook, *told: tuple[str, str], deadline_s: float = 25.0) -> None:
    """Returns once the webhook was told exactly this."""
    until(lambda: webhook.told() == list(told), f"the webhook is told {told}, not {webhook.told()}", deadline_s, 0.05)


def stays(webhook: Webhook, *told: tuple[str, str], seconds: float = 3.0) -> None:
    """Fails when the webhook is told more within this time: many times the interval and the group's."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert webhook.told() == list(told)
        time.sleep(0.05)


@pytest.mark.timeout(120)
def test_a_dead_backend_is_one_firing_and_its_return_one_resolved_message(touchline, own_backend, alertmanager, webhook):
    server, backend = alertmanager(), own_backend()
    touchline(backend, telemetry=telling(server.url))
    stays(webhook, seconds=1.0)

    backend.stop()
    wait_for(webhook, ("firing", RULE))
    stays(webhook, ("firing", RULE))

    own_backend(backend.port)
    wait_for(webhook, ("firing", RULE), ("resolved", RULE))
    stays(webhook, ("firing", RULE), ("resolved", RULE))

    firing, resolved = (message["alerts"][0] for message in webhook.messages)
    assert firing["fingerprint"] == resolved["fingerprint"]
    assert firing["labels"] == resolved["labels"]
    assert firing["labels"].items() >= {"severity": "critical", "service": "coach-api"}.items()
    assert firing["startsAt"] == resolved["startsAt"]
    # Alertmanager leaves it open while it fires, and at its end it has one.
    assert firing["endsAt"].startswith("0001-01-01")
    assert datetime.fromisoformat(resolved["endsAt"]) > datetime.fromisoformat(resolved["startsAt"])
    assert firing["annotations"]


@pytest.mark.timeout(120)
def test_an_alert_holds_while_nobody_sends_it_anew_for_a_moment(touchline, own_backend, alertmanager):
    server, backend = alertmanager(), own_backend()
    proxy = touchline(backend, telemetry=telling(server.url))
    backend.stop()
    until(lambda: server.alerts(), "it has the alert", deadline_s=20)

    (alert,) = server.alerts()

    # It is sent anew every minute, and ends by itself three minutes after the last time: a pod that dies leaves nothing.
    ends = datetime.fromisoformat(alert["endsAt"])
    assert timedelta(seconds=120) < ends - datetime.now(UTC) <= timedelta(seconds=185)
    assert is_firing(proxy)


@pytest.mark.timeout(120)
def test_an_alertmanager_that_is_away_is_told_when_it_is_back(touchline, own_backend, alertmanager, webhook):
    port, backend = free_port(), own_backend()
    proxy = touchline(backend, telemetry=telling(f"http://127.0.0.1:{port}"))
    backend.stop()
    until(lambda: is_firing(proxy), "it fires", deadline_s=20)
    until(lambda: channel(proxy)["state"] == "failing", "its channel fails", deadline_s=20)

    alertmanager(port=port)

    wait_for(webhook, ("firing", RULE), deadline_s=40)
    until(lambda: channel(proxy)["state"] == "ok", "its channel is well again", deadline_s=20)
    assert channel(proxy)["lost"] == 0


def channel(proxy) -> dict:
    """The state of the one channel, as the page shows it."""
    (found,) = proxy.admin.get("/api/v1/snapshot").json()["alerts"]["channels"]
    return found


@pytest.mark.timeout(120)
def test_two_replicas_with_one_redis_are_one_alert(touchline, own_backend, alertmanager, webhook, redis_server):
    server, backend, redis = alertmanager(), own_backend(), redis_server()
    for _ in range(2):
        touchline(backend, telemetry=telling(server.url), cache={"redis": {"url": redis.url}})

    backend.stop()
    wait_for(webhook, ("firing", RULE))
    stays(webhook, ("firing", RULE))
    assert len(server.alerts()) == 1

    own_backend(backend.port)
    wait_for(webhook, ("firing", RULE), ("resolved", RULE))
    stays(webhook, ("firing", RULE), ("resolved", RULE))


# ---- the example of a configuration


def example(webhook: Webhook) -> dict:
    """The example with this webhook as its receiver, and impatient."""
    config = yaml.safe_load(EXAMPLE.read_text())
    (on_call,) = [receiver for receiver in config["receivers"] if receiver["name"] == "on-call"]
    on_call["webhook_configs"][0]["url"] = webhook.url
    config["route"] |= {"group_wait": "300ms", "group_interval": "500ms"}
    return config


def alert(name: str, **labels: str) -> dict:
    """An alert as Prometheus sends it."""
    return {"labels": {"alertname": name, "namespace": "prod", "job": "coach", **labels}, "annotations": {"summary": "x"}}


def test_the_examples_inhibition_keeps_the_lesser_case_quiet(alertmanager, webhook):
    server = alertmanager(example(webhook))
    slow, other = {"route": "/a", "method": "GET"}, {"route": "/b", "method": "GET"}

    server.post(
        alert("TouchlineRouteP95Slow", severity="critical", **slow),
        alert("TouchlineRouteP95Elevated", severity="warning", **slow),
        alert("TouchlineRouteP95Elevated", severity="warning", **other),
        alert("TouchlineUpstreamDown", severity="critical", upstream="backend"),
        alert("TouchlineBreakerOpen", severity="critical", upstream="backend"),
        alert("TouchlineErrorRatioHigh", severity="critical"),
        alert("TouchlineErrorRatioElevated", severity="warning"),
        alert("TouchlineSlowBurst", severity="info"),
    )

    until(lambda: len(webhook.told()) >= 3, "it tells", deadline_s=10)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        told = {(a["labels"]["alertname"], a["labels"].get("route")) for m in list(webhook.messages) for a in m["alerts"]}
        assert told == {
            ("TouchlineRouteP95Slow", "/a"),
            ("TouchlineRouteP95Elevated", "/b"),
            ("TouchlineUpstreamDown", None),
        }
        time.sleep(0.05)
    assert len(server.alerts()) == 8
