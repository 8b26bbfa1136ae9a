"""What is written down: one line a request, one warning for a slow one, and never a secret."""

import re
from uuid import uuid4

from support.raw import ask, get
from support.wait import until

FIELDS = {
    "ts",
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "cache",
    "ms",
    "trace_id",
    "sample_rate",
}
CANARIES = {
    "query": "canary-query-value",
    "bearer": "canary-bearer-token",
    "cookie": "canary-cookie-value",
    "body": "canary-body-text",
    "key": "canary-api-key",
    "id": "canary-user-id",
}


def lines(proxy, count: int) -> list[dict]:
    """The access log, once it has this many lines."""
    return until(
        lambda: (found := proxy.access_log()) and len(found) >= count and found, f"{count} lines of access log"
    )


def test_each_request_is_one_json_line_with_its_fields(proxy):
    proxy.client.get("/api/user/reputation/u1")
    proxy.client.get("/api/user/reputation/u1")
    proxy.client.post("/api/session/s1/confirm")
    proxy.client.get("/nope")

    found = lines(proxy, 4)

    assert len(found) == 4
    for line in found:
        assert set(line) >= FIELDS, line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
        assert line["ms"] >= 0
        assert re.fullmatch(r"[0-9a-f]{32}", line["trace_id"])
    told = [
        (line["http.request.method"], line["http.route"], line["http.response.status_code"], line["cache"])
        for line in found
    ]
    assert told == [
        ("GET", "/api/user/reputation/{user_id}", 200, "miss"),
        ("GET", "/api/user/reputation/{user_id}", 200, "hit"),
        ("POST", "/api/session/{session_id}/confirm", 200, "bypass"),
        ("GET", "unmatched", 404, found[3]["cache"]),
    ]
    assert found[0]["reason"] in ("uri-miss", "absent")


def test_the_trace_id_is_the_clients(proxy):
    proxy.client.get("/health", headers={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})

    assert lines(proxy, 1)[0]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_no_secret_is_ever_written(touchline, backend):
    proxy = touchline(
        backend,
        telemetry={"log": {"level": "trace"}},
        control={"token": "canary-control-token"},
        ingress={"slow_after": "20ms"},
    )
    headers = {
        "Authorization": f"Bearer {CANARIES['bearer']}",
        "Cookie": f"s={CANARIES['cookie']}",
        "X-API-Key": CANARIES["key"],
    }
    for path in (f"/api/user/reputation/{CANARIES['id']}", "/test/slow", "/test/status/500", "/nope"):
        proxy.client.get(f"{path}?ms=50&token={CANARIES['query']}", headers=headers)
    proxy.client.post("/coach/chat", json={"message": CANARIES["body"]}, headers=headers)
    proxy.control.post("/performance/cache/clear", headers={"Authorization": "Bearer canary-control-token"})
    ask(proxy.address, get(f"/?{CANARIES['query']}", f"X-A: {CANARIES['cookie']}\x01"))
    lines(proxy, 5)
    proxy.terminate()

    written = proxy.out.read_text() + proxy.err.read_text()

    assert "canary" not in written


def test_the_whole_path_is_written_only_when_asked_for_and_never_the_query(touchline, backend):
    proxy = touchline(backend, telemetry={"access_log": {"paths": "full"}})

    proxy.client.get("/api/user/reputation/u-123?token=canary-query")

    lines(proxy, 1)
    assert "u-123" in proxy.out.read_text()
    assert "canary-query" not in proxy.out.read_text()


def test_control_bytes_and_quotes_cannot_forge_a_line(touchline, backend):
    proxy = touchline(backend, telemetry={"access_log": {"paths": "full"}})

    ask(proxy.address, get('/a%0a{"ts":"forged"}"\\', "Connection: close"))
    ask(proxy.address, get("/" + "b" * 5000, "Connection: close"))

    found = lines(proxy, 2)
    assert len(found) == 2
    assert max(len(line) for line in proxy.out.read_text().splitlines()) < 2500


def test_a_slow_request_is_one_warning_that_says_where_the_time_went(touchline, backend):
    proxy = touchline(backend, ingress={"slow_after": "100ms"})
    proxy.client.get("/health")

    proxy.client.get(f"/test/slow/{uuid4()}?ms=250")

    warnings = until(lambda: [event for event in proxy.events() if event["level"] == "WARN"], "a warning")
    lines(proxy, 2)
    assert len(warnings) == 1, warnings
    text = str(warnings[0])
    assert "slow" in text
    assert "backend" in text
    assert "unmatched" in text


def test_a_route_may_be_slower_than_the_rest(touchline, backend):
    proxy = touchline(
        backend, ingress={"slow_after": "50ms", "routes": [{"path": "/test/slow/{name}", "slow_after": "5s"}]}
    )

    proxy.client.get("/test/slow/allowed?ms=150")
    proxy.client.get("/test/slow?ms=150")

    until(lambda: [event for event in proxy.events() if event["level"] == "WARN"], "a warning")
    lines(proxy, 2)
    warnings = [event for event in proxy.events() if event["level"] == "WARN"]
    assert len(warnings) == 1
    assert "/test/slow/{name}" not in str(warnings[0])


def test_the_access_log_can_be_switched_off(touchline, backend):
    proxy = touchline(backend, telemetry={"access_log": {"enabled": False}})

    proxy.client.get("/health")
    proxy.terminate()

    assert proxy.out.read_text() == ""


def test_a_busy_log_is_thinned_and_says_so_but_keeps_every_error(touchline, backend):
    proxy = touchline(backend, telemetry={"access_log": {"per_second": 10}})
    for _ in range(200):
        proxy.client.get("/test/bytes/1")
    for _ in range(5):
        proxy.client.get("/test/status/500")
    proxy.terminate()

    found = proxy.access_log()

    assert len(found) < 150
    assert sum(1 for line in found if line["http.response.status_code"] == 500) == 5
    assert max(line["sample_rate"] for line in found) > 1


def test_the_log_of_an_orderly_life_has_no_warning(proxy):
    proxy.client.get("/api/challenges")
    proxy.terminate()

    assert [event for event in proxy.events() if event["level"] in ("WARN", "ERROR")] == []
    assert {event["level"] for event in proxy.events()} == {"INFO"}


def test_a_backend_that_is_down_is_reported_once_not_per_request(touchline, own_backend):
    backend = own_backend()
    proxy = touchline(backend)
    backend.stop()
    for _ in range(50):
        proxy.client.get("/health")
    until(lambda: proxy.status_of("/readyz") == 503, "not ready", deadline_s=8, every_s=0.05)
    proxy.terminate()

    complaints = [event for event in proxy.events() if event["level"] in ("WARN", "ERROR")]

    assert 1 <= len(complaints) <= 5


def test_the_log_may_be_text_for_people(touchline, backend):
    proxy = touchline(backend, telemetry={"log": {"format": "text"}})
    proxy.terminate()

    first = proxy.err.read_text().splitlines()[0]
    assert not first.startswith("{")
    assert "INFO" in first
