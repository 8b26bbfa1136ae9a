"""The Grafana dashboard: its shape, and that a real Prometheus understands each of its queries and answers them."""

import json
import re

import pytest

from support.prometheus import MONITORING, Prometheus, unknown_in
from support.wait import until

BOARD = json.loads((MONITORING / "grafana" / "touchline.json").read_text())
PANELS = BOARD["panels"]
ROWS = [panel["title"] for panel in PANELS if panel["type"] == "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel.get("targets", [])]
VARIABLES = {variable["name"]: variable for variable in BOARD["templating"]["list"]}

# What Grafana puts in place of its variables, with a short window as tests scrape often.
FILLED = {"__rate_interval": "10s", "__range": "1m", "namespace": ".*", "service": "coach-api", "pod": ".*", "route": ".*"}


def filled(text: str) -> str:
    """An expression as Grafana sends it."""
    return re.sub(r"\$(\w+)", lambda match: FILLED[match[1]], text)


def expressions() -> list[tuple[str, str]]:
    """Every query of the dashboard with the name of its place."""
    found = [(title, target["expr"]) for title, target in TARGETS]
    return found + [(entry["name"], entry["expr"]) for entry in BOARD["annotations"]["list"] if "expr" in entry]


@pytest.fixture
def prometheus(tmp_path):
    """Starts a Prometheus that scrapes these addresses twice a second."""
    started = []

    def start(*addresses: str) -> Prometheus:
        job = {"job_name": "coach-api", "static_configs": [{"targets": list(addresses)}]}
        config = {"global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"}, "scrape_configs": [job]}
        started.append(Prometheus(tmp_path, config))
        if addresses:
            started[-1].wait_for_targets(len(addresses))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def test_it_asks_an_on_calls_questions_in_order():
    questions = ["Is it bad?", "Since when, and what changed?", "Where?", "Which part?", "Show me one"]

    asked = list(dict.fromkeys(re.sub(r"^(Which part\?).*", r"\1", row) for row in ROWS))
    assert asked == questions


def test_its_variables_are_those_of_a_service():
    assert list(VARIABLES) == ["datasource", "namespace", "service", "pod", "route"]
    assert VARIABLES["datasource"]["type"] == "datasource"
    for name in ("namespace", "service", "pod", "route"):
        # "All" also takes targets that lack the label.
        assert (VARIABLES[name]["allValue"], VARIABLES[name]["includeAll"]) == (".*", True)
        inner = re.fullmatch(r"label_values\((.+), \w+\)", VARIABLES[name]["query"]["query"])[1]
        assert unknown_in(inner) == []


def test_it_has_the_schema_of_grafana_11():
    assert 39 <= BOARD["schemaVersion"] <= 41
    assert BOARD["uid"] == "touchline" and BOARD["id"] is None
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] not in ("row", "text"):
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            references = [target["refId"] for target in panel["targets"]]
            assert len(set(references)) == len(references) >= 1


@pytest.mark.parametrize(("title", "expression"), expressions())
def test_a_query_asks_only_for_what_there_is_and_respects_the_variables(title, expression):
    assert unknown_in(expression) == []
    for selector in re.findall(r"(?:touchline_\w+|ALERTS\w*)(\{[^}]*\})?", expression):
        assert '=~"$service"' in selector and '=~"$namespace"' in selector, f"{title}: {expression}"


def test_prometheus_understands_every_query(prometheus):
    server = prometheus()

    for title, expression in expressions():
        answer = server.client.get("/api/v1/query", params={"query": filled(expression)}).json()

        assert answer["status"] == "success", f"{title}: {expression}: {answer}"


# Planes and events that this test does not have; and what the alerts inside count.
SILENT = re.compile(r"redis|values_rejected|claude|ALERTS|telemetry_(alerts|notifications)|would_hits|net_refusals|upstream_errors|\$__range")


@pytest.mark.timeout(90)
def test_the_panels_show_what_was_sent(touchline, backend, prometheus):
    proxy = touchline(backend)
    server = prometheus(f"127.0.0.1:{proxy.admin_port}")

    def use() -> None:
        for number in range(5):
            proxy.client.get("/api/challenges")
            proxy.client.get(f"/api/user/reputation/u{number % 3}")
        proxy.client.get("/test/status/500")
        with proxy.client.stream("POST", "/coach/chat/stream", json={"message": "hi"}) as response:
            response.read()

    def unanswered() -> list[str]:
        use()
        return [
            f"{title}: {target['legendFormat']}"
            for title, target in TARGETS
            if not SILENT.search(target["expr"]) and not server.query(filled(target["expr"]))
        ]

    left: list[str] = []

    def all_answered() -> bool:
        left[:] = unanswered()
        return not left

    try:
        until(all_answered, "every panel has an answer", deadline_s=40, every_s=0.5)
    except AssertionError:
        pytest.fail(f"no answer: {left}")
    table = next(panel for panel in PANELS if panel["title"].startswith("Routes"))
    for target in table["targets"]:
        found = server.query(filled(target["expr"]))
        assert {"method": "GET", "route": "/api/challenges"} in [sample["metric"] for sample in found], target["expr"]
    # Grafana merges the columns by the labels that they share, and they must share them all.
    assert {tuple(sorted(sample["metric"])) for t in table["targets"] for sample in server.query(filled(t["expr"]))} == {
        ("method", "route")
    }
    shares = {title: server.value(filled(target["expr"])) for title, target in TARGETS if title == "5xx"}
    assert 0 < shares["5xx"] < 0.5
