"""The admin and the control listener: probes, the merged health, clearing the cache, and who may not."""

import pytest

from support.raw import ask, get
from support.wait import until


def test_live_and_ready_are_200_beside_a_working_backend(proxy):
    for path in ("/livez", "/readyz"):
        answer = proxy.admin.get(path)

        assert answer.status_code == 200
        assert answer.text.strip()


def test_ready_follows_the_backend_and_live_does_not(touchline, own_backend):
    backend = own_backend()
    proxy = touchline(backend)
    backend.stop()

    until(lambda: proxy.status_of("/readyz") == 503, "not ready without a backend", deadline_s=8, every_s=0.05)
    assert "backend" in proxy.admin.get("/readyz").text
    assert proxy.status_of("/livez") == 200

    own_backend(backend.port)
    until(lambda: proxy.status_of("/readyz") == 200, "ready again", deadline_s=8, every_s=0.05)


def test_it_starts_without_a_backend_and_is_alive_at_once(touchline):
    proxy = touchline("http://127.0.0.1:1", wait=False)

    until(lambda: proxy.status_of("/livez") == 200, "alive")
    assert proxy.status_of("/readyz") == 503


def test_the_backends_health_is_merged_and_never_replaced(proxy, backend):
    merged = proxy.admin.get("/health")
    own = backend.direct.get("/health").json()

    document = merged.json()
    assert merged.status_code == 200
    for key in ("message", "environment", "features"):
        assert document[key] == own[key]
    assert document["status"] in ("healthy", "degraded", "unhealthy")
    assert {"status", "version", "uptime_s", "health_score"} <= set(document["sidecar"])
    assert document["checks"]["backend"]["ok"] is True
    assert isinstance(document["checks"]["backend"]["ms"], (int, float))


def test_health_is_503_with_the_same_keys_when_the_backend_is_down(touchline, own_backend):
    backend = own_backend()
    proxy = touchline(backend)
    before = proxy.admin.get("/health").json()
    backend.stop()

    answer = proxy.admin.get("/health")

    assert answer.status_code == 503
    assert set(before) <= set(answer.json())
    assert answer.json()["checks"]["backend"]["ok"] is False


def test_health_on_the_ingress_listener_is_the_backends_own(proxy, backend):
    assert set(proxy.client.get("/health").json()) == set(backend.direct.get("/health").json())


def test_clear_on_the_control_listener_empties_the_cache(proxy):
    for path in ("/api/challenges", "/api/challenges?difficulty=beginner", "/api/user/reputation/u1"):
        proxy.client.get(path)
        assert proxy.client.get(path).headers["x-cache-status"] == "hit"

    answer = proxy.control.post("/performance/cache/clear")

    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "cleared_keys": 3,
        "message": "Performance caches cleared successfully",
        "memory": 3,
        "redis": None,
        "pending": False,
    }
    assert proxy.client.get("/api/challenges").headers["x-cache-status"] == "miss"


def test_what_was_being_fetched_when_the_cache_was_cleared_is_cleared_too(touchline, backend):
    proxy = touchline(
        backend,
        ingress={
            "routes": [
                {"path": "/test/gated/{gate}"},
                {"path": "/test/slow/{name}", "cache": {"ttl": "1m", "public": True}},
            ]
        },
    )
    with proxy.connect() as sock:
        sock.sendall(get("/test/slow/cleared?ms=500", "Connection: close"))
        until(lambda: backend.count("/test/slow/cleared") == 1, "the fetch begins")
        proxy.control.post("/performance/cache/clear").raise_for_status()
        while sock.recv(65536):
            pass

    assert proxy.client.get("/test/slow/cleared?ms=0").headers["x-cache-status"] == "miss"


def test_nobody_clears_through_the_admin_listener_without_the_control_token(touchline, backend):
    proxy = touchline(backend, control={"token": "control-canary"})
    proxy.client.get("/api/challenges")

    refused = proxy.admin.post("/performance/cache/clear")
    wrong = proxy.control.post("/performance/cache/clear")

    assert (refused.status_code, wrong.status_code) == (403, 401)
    assert "detail" in refused.json()
    assert proxy.client.get("/api/challenges").headers["x-cache-status"] == "hit"

    allowed = {"Authorization": "Bearer control-canary"}
    assert proxy.admin.post("/performance/cache/clear", headers=allowed).status_code == 200
    assert proxy.control.post("/performance/cache/clear", headers=allowed).status_code == 200


def test_clearing_needs_a_post(proxy):
    assert proxy.control.get("/performance/cache/clear").status_code == 405


def test_the_admin_listener_is_read_only(proxy):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert proxy.admin.request(method, "/performance/metrics").status_code == 405


def test_an_unknown_path_is_404_with_a_detail(proxy):
    answer = proxy.admin.get("/nope")

    assert answer.status_code == 404
    assert "detail" in answer.json()


def test_the_admin_paths_are_not_reachable_through_the_ingress_listener(proxy, backend):
    for path in ("/metrics", "/livez", "/readyz", "/performance/metrics", "/performance/cache/stats"):
        assert proxy.client.get(path).content == backend.direct.get(path).content
    assert proxy.client.post("/performance/cache/clear").status_code == 404


def test_the_contract_can_be_served_on_the_ingress_listener(touchline, backend):
    proxy = touchline(backend, admin={"on_ingress": ["performance", "health"]}, control={"token": "control-canary"})

    assert "performance_summary" in proxy.client.get("/performance/metrics").json()
    assert "sidecar" in proxy.client.get("/health").json()
    assert proxy.client.get("/performance/metrics").headers["x-cache-status"] != "hit"
    assert proxy.client.post("/performance/cache/clear").status_code in (401, 403)
    assert (
        proxy.client.post("/performance/cache/clear", headers={"Authorization": "Bearer control-canary"}).status_code
        == 200
    )


def test_a_read_token_guards_reads_and_leaves_the_probes_open(touchline, backend):
    proxy = touchline(backend, admin={"token": "read-canary"})

    assert proxy.admin.get("/performance/metrics").status_code == 401
    assert proxy.admin.get("/performance/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert proxy.admin.get("/performance/metrics", headers={"Authorization": "Bearer read-canary"}).status_code == 200
    assert [proxy.status_of(path) for path in ("/livez", "/readyz")] == [200, 200]


@pytest.mark.parametrize(
    ("host", "status"), [("localhost", 200), ("[::1]:9090", 200), ("coach.default.svc", 200), ("evil.example", 421)]
)
def test_a_foreign_host_name_is_refused(proxy, host, status):
    answer = ask(
        ("127.0.0.1", proxy.admin_port),
        f"GET /performance/health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode(),
    )

    assert answer.status == status


def test_another_site_cannot_read_the_admin_listener(proxy):
    answer = proxy.admin.get(
        "/performance/metrics", headers={"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}
    )

    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_admin_answers_are_not_stored_by_anyone(proxy):
    for path in ("/performance/metrics", "/performance/health", "/performance/cache/stats", "/health"):
        headers = proxy.admin.get(path).headers

        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


def test_a_full_ingress_does_not_starve_a_probe(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"connections": 8, "per_ip": 0}})
    held = [proxy.connect() for _ in range(40)]

    try:
        assert proxy.status_of("/livez") == 200
    finally:
        for sock in held:
            sock.close()


def test_both_listeners_can_be_switched_off(touchline, backend):
    proxy = touchline(backend, wait=False, admin="off", control="off")

    until(lambda: _answers(proxy), "the ingress listener answers", every_s=0.05)
    assert proxy.status_of("/livez") is None


def _answers(proxy) -> bool:
    try:
        return ask(proxy.address, get("/health", "Connection: close")).status == 200
    except OSError:
        return False
