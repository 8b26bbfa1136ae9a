"""What a response and a forwarded request carry."""

import re

import pytest

from support.raw import ask, get, ok

RESPONSE_TIME = re.compile(r"\d+\.\d{2}ms")
CACHE_WORDS = {"hit", "miss", "stale", "revalidated", "bypass"}


def echoed(answer) -> dict[str, list[str]]:
    """The fields that the backend got, by name."""
    fields: dict[str, list[str]] = {}
    for name, value in answer.json()["headers"]:
        fields.setdefault(name, []).append(value)
    return fields


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/challenges", 200),
        ("HEAD", "/test/echo", 200),
        ("POST", "/api/session/s1/confirm", 200),
        ("GET", "/nope", 404),
        ("GET", "/test/status/503", 503),
        ("DELETE", "/test/status/204", 204),
        ("GET", "/test/boom", 500),
        ("GET", "/test/sse", 200),
        ("OPTIONS", "/test/echo", 200),
    ],
)
def test_every_answer_carries_its_time_and_cache_status_once(proxy, method, path, status):
    for _ in range(2):
        answer = proxy.client.request(method, path)

        assert answer.status_code == status
        (taken,) = answer.headers.get_list("x-response-time")
        (word,) = answer.headers.get_list("x-cache-status")
        assert RESPONSE_TIME.fullmatch(taken), taken
        assert word in CACHE_WORDS
        assert re.fullmatch(r"touchline; (hit|fwd=[a-z-]+)(; [a-z-]+(=[\w-]+)?)*", answer.headers["cache-status"])
        assert len(answer.headers.get_list("date")) == 1


def test_our_own_errors_carry_them_too(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"body": "1KiB"}})

    answer = proxy.client.post("/coach/chat", content=b"x" * 2000)

    assert answer.status_code == 413
    assert RESPONSE_TIME.fullmatch(answer.headers["x-response-time"])
    assert answer.headers["x-cache-status"] == "bypass"


def test_the_time_is_the_time_to_the_head(proxy):
    slow = proxy.client.get("/test/slow?ms=150")

    assert 150 <= float(slow.headers["x-response-time"][:-2]) < 1000


def test_fields_that_the_backend_sends_under_our_names_are_replaced(proxy):
    answer = proxy.client.get("/test/answer?header=X-Response-Time: 99999.00ms&header=X-Cache-Status: HIT")

    assert len(answer.headers.get_list("x-response-time")) == 1
    assert answer.headers["x-response-time"] != "99999.00ms"
    assert answer.headers.get_list("x-cache-status") in (["miss"], ["bypass"])


def test_our_cache_status_is_appended_to_the_backends(proxy):
    answer = proxy.client.get("/test/answer?header=Cache-Status: inner; hit")

    joined = ", ".join(answer.headers.get_list("cache-status"))
    assert re.fullmatch(r"inner; hit, touchline; fwd=.*", joined), joined


def test_there_is_no_server_timing_unless_asked_for(touchline, backend):
    assert "server-timing" not in touchline(backend).client.get("/health").headers

    asked = touchline(backend, ingress={"server_timing": True}).client.get("/test/slow?ms=60")

    parts = dict(re.findall(r"(\w+);dur=([\d.]+)", asked.headers["server-timing"]))
    assert 55 <= float(parts["backend"]) <= 1000


def test_our_fields_are_exposed_to_other_origins_only_on_request(touchline, backend):
    path = "/test/answer?header=Access-Control-Expose-Headers: X-Own"
    plain = touchline(backend).client.get(path)
    asked = touchline(backend, ingress={"expose_headers": True}).client.get(path)

    assert plain.headers["access-control-expose-headers"] == "X-Own"
    exposed = asked.headers["access-control-expose-headers"].lower()
    assert exposed.startswith("x-own")
    assert "x-response-time" in exposed and "x-cache-status" in exposed
    assert "timing-allow-origin" in asked.headers


def test_request_and_trace_ids_are_made_when_missing(proxy):
    answer = proxy.client.get("/test/echo")

    fields = echoed(answer)
    (request_id,) = fields["x-request-id"]
    (parent,) = fields["traceparent"]
    assert re.fullmatch(r"[0-9a-f]{32}", request_id)
    assert re.fullmatch(rf"00-{request_id}-[0-9a-f]{{16}}-0[01]", parent)
    assert answer.headers["x-request-id"] == request_id


def test_request_and_trace_ids_are_kept_when_sent(proxy):
    sent = {
        "X-Request-Id": "from-the-client-1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate": "vendor=1",
    }

    answer = proxy.client.get("/test/echo", headers=sent)

    fields = echoed(answer)
    assert fields["x-request-id"] == ["from-the-client-1"]
    assert fields["tracestate"] == ["vendor=1"]
    assert fields["traceparent"][0].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert answer.headers["x-request-id"] == "from-the-client-1"


def test_a_malformed_traceparent_counts_as_absent(proxy):
    answer = proxy.client.get("/test/echo", headers={"traceparent": "00-zz-1-1"})

    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", echoed(answer)["traceparent"][0])


def test_hop_by_hop_fields_end_here(proxy):
    answer = ask(
        proxy.address,
        get(
            "/test/echo",
            "Connection: close, X-Hop",
            "X-Hop: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Authorization: Basic eA==",
            "TE: trailers",
            "Trailer: X-Sum",
            "Proxy: http://evil/",
            "X-Kept: yes",
        ),
    )

    body = answer.body.decode()
    assert answer.status == 200
    for name in ("x-hop", "keep-alive", "proxy-authorization", '"te"', "trailer", '"proxy"'):
        assert name not in body, name
    assert "x-kept" in body


def test_hop_by_hop_fields_of_an_answer_end_here_too(touchline, fake):
    server = fake(
        lambda sock, request: sock.sendall(
            ok(
                b"x",
                "Connection: X-Secret",
                "X-Secret: 1",
                "Keep-Alive: timeout=9",
                "Proxy-Authenticate: Basic",
                "X-Kept: yes",
            )
        )
    )
    answer = touchline(server).client.get("/")

    assert answer.status_code == 200
    assert answer.headers["x-kept"] == "yes"
    assert not {"x-secret", "keep-alive", "proxy-authenticate"} & set(answer.headers)


def test_forwarding_fields_of_a_stranger_are_replaced_by_our_own(proxy):
    answer = proxy.client.get(
        "/test/echo",
        headers={
            "X-Forwarded-For": "6.6.6.6",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "evil.example",
            "X-Real-IP": "6.6.6.6",
            "Forwarded": "for=6.6.6.6",
            "X-Original-URL": "/admin",
        },
    )

    fields = echoed(answer)
    assert fields["x-forwarded-for"] == ["127.0.0.1"]
    assert fields["x-forwarded-proto"] == ["http"]
    assert fields["x-forwarded-host"] == [f"127.0.0.1:{proxy.port}"]
    assert "6.6.6.6" not in answer.text and "evil.example" not in answer.text
    assert "x-original-url" not in fields


def test_a_trusted_proxy_may_name_the_client(touchline, backend):
    proxy = touchline(backend, ingress={"trusted_proxies": ["127.0.0.0/8"]})

    answer = proxy.client.get(
        "/test/echo", headers={"X-Forwarded-For": "9.9.9.9, 203.0.113.7", "X-Forwarded-Proto": "https"}
    )

    fields = echoed(answer)
    assert fields["x-forwarded-for"][0].split(",")[0].strip() == "203.0.113.7"
    assert fields["x-forwarded-proto"] == ["https"]


def test_names_with_an_underscore_are_dropped_forwarded_or_rejected_as_configured(touchline, backend):
    sent = {"X_User": "1"}

    dropped = touchline(backend).client.get("/test/echo", headers=sent)
    forwarded = touchline(backend, ingress={"underscores": "forward"}).client.get("/test/echo", headers=sent)
    rejected = touchline(backend, ingress={"underscores": "reject"}).client.get("/test/echo", headers=sent)

    assert "x_user" not in echoed(dropped)
    assert echoed(forwarded)["x_user"] == ["1"]
    assert rejected.status_code == 400


@pytest.mark.parametrize(
    "target", ["/test/echo/a%2Fb%20c;v=1/../d//e?x=%E2%98%95&y=1+2&&z", "/test/echo?", "/test/echo/%7Euser?q=%22"]
)
def test_path_and_query_go_upstream_byte_for_byte(proxy, target):
    answer = ask(proxy.address, get(target, "Connection: close"))

    path, _, query = target.partition("?")
    assert f'"path":"{path}"' in answer.body.decode()
    assert f'"query":"{query}"' in answer.body.decode()


def test_the_host_of_the_client_reaches_the_backend(proxy):
    assert echoed(proxy.client.get("/test/echo", headers={"Host": "coach.example"}))["host"] == ["coach.example"]


def test_repeated_fields_of_an_answer_stay_apart(proxy):
    answer = proxy.client.get(
        "/test/answer?header=Set-Cookie: a=1&header=Set-Cookie: b=2&header=X-Two: 1&header=X-Two: 2"
    )

    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert answer.headers.get_list("x-two") == ["1", "2"]


def test_errors_of_the_application_pass_unchanged(proxy, backend):
    for path in ("/nope", "/test/status/418", "/api/challenges?difficulty=impossible"):
        ours, direct = proxy.client.get(path), backend.direct.get(path)

        assert (ours.status_code, ours.content, ours.headers.get("content-type")) == (
            direct.status_code,
            direct.content,
            direct.headers.get("content-type"),
        )
