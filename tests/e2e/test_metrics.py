"""`/metrics`: parses, passes promtool, and counts what was sent."""

from support.metrics import Samples
from support.prometheus import promtool
from support.wait import until


def scrape(proxy) -> Samples:
    answer = proxy.admin.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Samples.parse(answer.text)


def use(proxy) -> None:
    for _ in range(3):
        proxy.client.get("/api/challenges")
    proxy.client.get("/nope")
    proxy.client.post("/api/session/s1/confirm")
    with proxy.client.stream("POST", "/coach/chat/stream", json={"message": "hi"}) as response:
        response.read()


def test_promtool_finds_nothing_to_say(proxy):
    use(proxy)

    done = promtool("check", "metrics", given=proxy.admin.get("/metrics").text)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_request_counters_equal_what_was_sent(proxy):
    use(proxy)

    def samples():
        found = scrape(proxy)
        return found if found.total("touchline_ingress_requests_total") == 6 else None

    found = until(samples, "every request is counted")
    name = "touchline_ingress_requests_total"
    assert found.value(name, route="/api/challenges", method="GET", status="200", cache="miss") == 1
    assert found.value(name, route="/api/challenges", method="GET", status="200", cache="hit") == 2
    assert found.total(name, route="unmatched", status="404") == 1
    assert (
        found.value(name, route="/api/session/{session_id}/confirm", method="POST", status="200", cache="bypass") == 1
    )
    assert found.total(name, route="/coach/chat/stream") == 1


def test_duration_histograms_agree_with_the_counters(proxy):
    use(proxy)
    found = until(
        lambda: (s := scrape(proxy)).total("touchline_ingress_requests_total") == 6 and s, "every request is counted"
    )

    name = "touchline_ingress_request_duration_seconds"
    assert found.total(f"{name}_count") == 6
    assert found.total(f"{name}_bucket", le="+Inf") == 6
    assert found.total(f"{name}_sum") >= 0.06
    assert {"1", "2"} <= {labels["le"] for labels in found.labels(f"{name}_bucket")}
    for labels in found.labels(f"{name}_count"):
        assert set(labels) == {"route", "method", "status_class", "kind"}
    assert found.total("touchline_ingress_first_byte_seconds_count") == 6


def test_cache_counters_equal_what_was_sent(proxy):
    for path in ("/api/challenges", "/api/challenges", "/api/user/reputation/u1"):
        proxy.client.get(path)

    found = until(
        lambda: (s := scrape(proxy)).total("touchline_cache_lookups_total") == 3 and s, "every lookup is counted"
    )

    assert found.value("touchline_cache_hits_total", route="/api/challenges", source="memory") == 1
    assert found.total("touchline_cache_hits_total") == 1
    assert found.total("touchline_cache_entries") == 2
    assert found.total("touchline_cache_bytes") > 0


def test_made_up_paths_and_methods_do_not_make_series(proxy):
    proxy.client.get("/health")
    before = until(lambda: (s := scrape(proxy)).total("touchline_ingress_requests_total") == 1 and s, "counted").count()

    for number in range(200):
        proxy.client.request(f"X{number}", f"/scan/{number}?id={number}")

    after = until(
        lambda: (s := scrape(proxy)).total("touchline_ingress_requests_total") == 201 and s, "counted"
    ).count()
    assert after - before < 150
    assert "/scan/" not in proxy.admin.get("/metrics").text


def test_the_backend_is_up_or_down(touchline, own_backend):
    backend = own_backend()
    proxy = touchline(backend)
    assert scrape(proxy).value("touchline_upstream_up", upstream="backend") == 1
    backend.stop()

    until(
        lambda: scrape(proxy).value("touchline_upstream_up", upstream="backend") == 0,
        "it is shown as down",
        deadline_s=8,
        every_s=0.1,
    )


def test_an_aborted_and_a_failed_request_are_counted_too(touchline, own_backend):
    backend = own_backend()
    proxy = touchline(backend)
    with proxy.connect() as sock:
        sock.sendall(b"GET /test/slow?ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: backend.count("/test/slow"), "the request reaches the backend")
    until(lambda: scrape(proxy).total("touchline_ingress_requests_total") == 1, "the abort is counted")
    backend.stop()

    proxy.client.get("/health")

    until(lambda: scrape(proxy).total("touchline_ingress_requests_total", status="502") == 1, "the failure is counted")
