"""`/performance/*`: the old shapes, and numbers that equal what this test sent."""

import json
from pathlib import Path

import pytest

from support.proxy import ROOT
from support.wait import until

# Answers of the system whose dashboards and monitors must keep working.
RECORDED = Path(__file__).with_name("shapes")


def kind(value) -> str:
    """The JSON type of a value; whole and broken numbers are one type, as a client sees them."""
    return {
        dict: "object",
        list: "array",
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
        type(None): "null",
    }[type(value)]


def differences(old, new, path="$", free=()) -> list[str]:
    """What of the old answer is missing or of another type in the new one. Maps named in `free` have free keys."""
    if old is None:
        return []
    if new is None and path in MAY_BE_NULL:
        return []
    if kind(old) != kind(new):
        return [f"{path}: {kind(old)} became {kind(new)}"]
    if not isinstance(old, dict):
        return []
    if path in free:
        samples = list(new.values())
        return (
            [line for sample in samples for line in differences(next(iter(old.values())), sample, f"{path}.*", free)]
            if old
            else []
        )
    found = []
    for key, value in old.items():
        found += differences(value, new[key], f"{path}.{key}", free) if key in new else [f"{path}.{key}: missing"]
    return found


# What no running plane can know is null, never a made-up 0.
MAY_BE_NULL = {"$.real_time_metrics.avg_db_time_ms"}
FREE = (
    "$.performance_summary.metric_types.request.metrics",
    "$.performance_summary.metric_types.cache.metrics",
    "$.performance_summary.metric_types.database.metrics",
)
# The name of the recorded answer, and the call it belongs to.
ANSWERS = {
    "metrics": ("GET", "/performance/metrics"),
    "performance-health": ("GET", "/performance/health"),
    "cache-stats": ("GET", "/performance/cache/stats"),
    "cache-clear": ("POST", "/performance/cache/clear"),
}


def use(proxy) -> None:
    """Sends something of everything, so that every part of an answer has content."""
    for _ in range(3):
        proxy.client.get("/api/challenges")
        proxy.client.get("/api/user/reputation/u1")
    proxy.client.post("/api/session/s1/confirm")
    proxy.client.get("/nope")


def metrics(proxy, window: str = "1h") -> dict:
    return proxy.admin.get("/performance/metrics", params={"window": window}).raise_for_status().json()


def requests_of(proxy) -> dict:
    return metrics(proxy)["performance_summary"]["metric_types"]["request"]["metrics"]


@pytest.mark.parametrize("name", ANSWERS)
def test_every_field_of_the_recorded_answers_is_there_with_its_type(proxy, name):
    use(proxy)
    method, path = ANSWERS[name]

    answer = (proxy.control if method == "POST" else proxy.admin).request(method, path)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    recorded = json.loads((RECORDED / f"{name}.json").read_text())
    assert differences(recorded, answer.json(), free=FREE) == []


def test_the_recorded_answers_are_the_shared_ones():
    shared = ROOT.parent / "shared" / "data" / "seed-answers"
    if not shared.exists():
        pytest.skip("no ../shared beside this checkout")
    names = {
        "metrics": "perf-metrics",
        "performance-health": "perf-health",
        "cache-stats": "cache-stats",
        "cache-clear": "cache-clear",
    }

    for ours, theirs in names.items():
        assert json.loads((RECORDED / f"{ours}.json").read_text()) == json.loads(
            (shared / f"noredis-{theirs}.json").read_text()
        )


def test_request_counts_equal_what_was_sent(proxy):
    sent = {
        "GET /api/challenges": 7,
        "GET /api/user/reputation/{user_id}": 5,
        "POST /api/session/{session_id}/confirm": 2,
        "unmatched": 4,
    }

    for _ in range(7):
        proxy.client.get("/api/challenges")
    for number in range(5):
        proxy.client.get(f"/api/user/reputation/u{number}")
    for number in range(2):
        proxy.client.post(f"/api/session/s{number}/confirm")
    for number in range(4):
        proxy.client.get(f"/nope/{number}")

    def counted():
        return {key: entry["count"] for key, entry in requests_of(proxy).items()}

    until(lambda: sum(counted().values()) == sum(sent.values()), "every request is counted")
    assert counted() == sent
    document = metrics(proxy)
    types = document["performance_summary"]["metric_types"]
    assert types["request"]["count"] == 18
    assert document["performance_summary"]["total_metrics"] == sum(part["count"] for part in types.values())


def test_latencies_are_those_that_the_client_saw(proxy):
    for number in range(30):
        proxy.client.get(f"/test/slow?ms={100 if number % 2 else 20}")

    entry = until(
        lambda: (e := requests_of(proxy).get("unmatched")) and e["count"] == 30 and e, "every request is counted"
    )

    assert 20 <= entry["min"] < 60
    assert 100 <= entry["max"] < 1000
    assert entry["min"] <= entry["avg"] <= entry["max"]
    assert (
        entry["percentiles"]["p50"] <= entry["percentiles"]["p95"] <= entry["percentiles"]["p99"] <= entry["max"] * 1.02
    )
    assert 98 <= entry["percentiles"]["p95"] < 1000
    assert entry["unit"] == "ms"
    assert entry["errors_5xx"] == 0
    assert not entry.get("few")


def test_few_samples_and_5xx_are_marked(proxy):
    for _ in range(3):
        proxy.client.get("/test/status/500")

    entry = until(
        lambda: (e := requests_of(proxy).get("unmatched")) and e["count"] == 3 and e, "every request is counted"
    )

    assert entry["errors_5xx"] == 3
    assert entry["few"] is True


def test_a_stream_is_measured_to_its_first_byte(proxy):
    with proxy.client.stream("POST", "/coach/chat/stream", json={"message": "hi"}) as response:
        response.read()

    entry = until(lambda: requests_of(proxy).get("POST /coach/chat/stream"), "the stream is counted")
    assert entry["basis"] == "first_byte"
    assert entry["max"] < 200


@pytest.mark.parametrize("window", ["1m", "5m", "1h"])
def test_each_window_has_the_fresh_requests(proxy, window):
    proxy.client.get("/health")

    document = until(
        lambda: (d := metrics(proxy, window))["performance_summary"]["metric_types"]["request"]["count"] and d,
        "counted",
    )

    assert document["performance_summary"]["time_window_hours"] == pytest.approx(
        {"1m": 1 / 60, "5m": 1 / 12, "1h": 1}[window]
    )


def test_real_time_metrics_are_those_of_the_last_minute(proxy):
    assert metrics(proxy)["real_time_metrics"] == {"status": "no_recent_data"}

    for _ in range(5):
        proxy.client.get("/test/slow?ms=50")

    now = until(
        lambda: (n := metrics(proxy)["real_time_metrics"]).get("requests_per_minute") == 5 and n,
        "every request is counted",
    )
    assert now["avg_response_time_ms"] >= 50
    assert now["total_operations"] >= 5


def test_cache_statistics_add_up_and_equal_what_was_sent(proxy):
    for _ in range(10):
        proxy.client.get("/api/challenges")
    for _ in range(4):
        proxy.client.get("/api/user/reputation/u1")
    proxy.client.get("/api/user/reputation/u1", headers={"Authorization": "Bearer a"})

    def stats():
        return proxy.admin.get("/performance/cache/stats").json()

    found = until(
        lambda: (s := stats())["bypass"] >= 1 and s["total_cache_operations"] == 14 and s, "every lookup is counted"
    )
    assert (found["cache_hits"], found["cache_misses"]) == (12, 2)
    assert found["cache_hit_rate_percent"] == pytest.approx(12 / 14 * 100, abs=0.01)
    assert sum(found["by_source"].values()) == found["cache_hits"]
    assert sum(found["miss_reasons"].values()) == found["cache_misses"]
    assert found["miss_reasons"]["uri-miss"] == 2
    routes = {entry["route"]: entry for entry in found["by_route"]}
    assert sum(entry["hits"] for entry in found["by_route"]) == found["cache_hits"]
    assert sum(entry["misses"] for entry in found["by_route"]) == found["cache_misses"]
    assert (routes["/api/challenges"]["hits"], routes["/api/challenges"]["misses"]) == (9, 1)
    assert routes["/api/user/reputation/{user_id}"]["bypass"] == 1
    assert found["fallback_cache_size"] == 2
    assert 0 < found["bytes"] < found["bytes_max"] == 64 * 1024 * 1024
    assert found["stores"] == 2
    assert found["performance_targets"]["target_hit_rate"] == 85


def test_the_hit_rate_is_judged_by_its_target(touchline, backend):
    proxy = touchline(backend, telemetry={"cache_hit_target": 60})

    def judged():
        return proxy.admin.get("/performance/cache/stats").json()["performance_targets"]

    assert judged() == {"target_hit_rate": 60, "current_status": "healthy"}

    proxy.client.get("/api/challenges")
    until(lambda: judged()["current_status"] == "needs_improvement", "a rate of 0 is below the target")
    for _ in range(4):
        proxy.client.get("/api/challenges")
    until(lambda: judged()["current_status"] == "healthy", "a rate of 80 is over the target")


def test_clearing_says_how_many_entries_went_and_the_statistics_agree(proxy):
    for number in range(6):
        proxy.client.get(f"/api/user/reputation/u{number}")
    until(
        lambda: proxy.admin.get("/performance/cache/stats").json()["fallback_cache_size"] == 6, "six entries are stored"
    )

    assert proxy.control.post("/performance/cache/clear").json()["cleared_keys"] == 6

    until(lambda: proxy.admin.get("/performance/cache/stats").json()["fallback_cache_size"] == 0, "none is left")
    assert proxy.admin.get("/performance/cache/stats").json()["purges"] == 1
    assert proxy.control.post("/performance/cache/clear").json()["cleared_keys"] == 0


def test_no_full_id_is_shown(proxy):
    secret = "7f3a9b2c-canary-4d5e"
    for _ in range(3):
        proxy.client.get(f"/api/user/reputation/{secret}?token=query-canary")

    shown = "".join(
        proxy.admin.get(path).text
        for path in ("/performance/metrics", "/performance/cache/stats", "/performance/health", "/metrics")
    )

    assert secret not in shown
    assert "query-canary" not in shown


def test_health_is_full_marks_while_all_is_well(proxy):
    use(proxy)

    document = proxy.admin.get("/performance/health").json()

    assert document["healthy"] is True
    assert document["health_score"] == 100
    assert document["status"] == "healthy"
    assert document["alerts"] == [] and document["reasons"] == []
    assert document["checks"]["database_pool"] == {}
    assert document["checks"]["redis"]["connected"] is False


def test_health_falls_with_errors_and_says_why(proxy):
    for _ in range(30):
        proxy.client.get("/test/status/500")

    document = until(
        lambda: (d := proxy.admin.get("/performance/health").json())["health_score"] <= 70 and d, "the score falls"
    )

    (reason,) = [reason for reason in document["reasons"] if reason["code"] == "errors"]
    assert reason["points"] == 30
    assert sum(entry["points"] for entry in document["reasons"]) == 100 - document["health_score"]
    assert document["alerts"] == [entry["text"] for entry in document["reasons"]]
    assert document["healthy"] is (document["health_score"] >= 70)


def test_strict_health_is_503_below_70(touchline, own_backend):
    backend = own_backend()
    proxy = touchline(backend)
    assert proxy.admin.get("/performance/health?strict=1").status_code == 200
    backend.stop()

    until(
        lambda: proxy.admin.get("/performance/health?strict=1").status_code == 503,
        "unhealthy",
        deadline_s=15,
        every_s=0.1,
    )
    assert proxy.admin.get("/performance/health").status_code == 200
    assert proxy.admin.get("/performance/health").json()["healthy"] is False
