"""docs/openapi.yaml is what the admin and the control listener answer: by examples of every path in every state, by fuzzing
from the document, and by looking that no path is left out."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from support.backend import Backend
from support.events import events
from support.openapi import DOCUMENT, FILE, STREAMS, assert_documented, assert_valid, operations, resolved
from support.proxy import ROOT, Touchline
from support.raw import ask
from support.wait import until

# Its caches belong below target, not into the checkout.
set_hypothesis_home_dir(ROOT / "target" / "hypothesis")

# What this document says of the backend's own members, and of what later planes add.
OPEN = {"Health", "Health/sidecar"}
ADMIN = [path for method, path, operation in operations() if "admin" in operation["tags"]]
CONTROL = [path for method, path, operation in operations() if "control" in operation["tags"]]


def walk(value: object, place: str = "") -> Iterator[tuple[str, dict]]:
    """Every map within a document with its place."""
    if isinstance(value, dict):
        yield place, value
        for key, inner in value.items():
            yield from walk(inner, f"{place}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from walk(inner, f"{place}/{number}")


# ---- the document itself


def test_schemathesis_reads_the_document_as_openapi_3_1():
    schema = schemathesis.openapi.from_path(FILE)

    schema.validate()
    read = {(result.ok().method.upper(), result.ok().path) for result in schema.get_all_operations()}
    assert DOCUMENT["openapi"].startswith("3.1")
    assert read == {(method, path) for method, path, _ in operations()}


def test_every_reference_leads_somewhere_and_every_schema_is_used():
    used = {value["$ref"] for _, value in walk(DOCUMENT) if isinstance(value.get("$ref"), str)}
    used |= {value for place, inner in walk(DOCUMENT) if place.endswith("/x-events") for value in inner.values()}

    for reference in used:
        assert resolved({"$ref": reference}), reference
    for kind in ("schemas", "responses", "parameters", "headers"):
        for name in DOCUMENT["components"][kind]:
            assert f"#/components/{kind}/{name}" in used, f"{kind} {name} is not used"


def test_our_own_shapes_are_closed_and_whole():
    for place, schema in walk(DOCUMENT["components"]["schemas"]):
        if "properties" not in schema or schema.get("type") != "object" or place.strip("/") in OPEN:
            continue
        assert schema.get("additionalProperties") is False, place
        optional = set(schema["properties"]) - set(schema.get("required", []))
        # What need not be there is said by name, in requests and where an answer has two forms.
        allowed = {"Metric", "Check/oneOf/1", "Purge", "EntryQuestion", "SnapshotChange"}
        # Whose it is, where several pods are shown together.
        merged = {"SnapshotRedis", "SnapshotBackend", "SlowRequest", "Alert"}
        optional -= {"pod", "pods"} if place.strip("/") in merged else set()
        assert not optional or place.strip("/") in allowed, (place, optional)


def test_every_operation_names_its_errors():
    wire = {"400", "405", "408", "413", "414", "417", "421", "431", "500", "501", "505"}
    for method, path, operation in operations():
        statuses = set(operation["responses"])
        assert wire <= statuses, (method, path)
        if operation["security"] != [{}]:
            assert {"401", "403", "429"} <= statuses, (method, path)
        for status, response in operation["responses"].items():
            if status[0] in "45" and "content" in (found := resolved(response)) and path not in ("/health", "/readyz", "/livez"):
                assert found["content"].get("application/json"), (path, status)


def test_no_path_of_the_listeners_is_left_out():
    listener = (ROOT / "src" / "admin" / "listener.rs").read_text()
    control = (ROOT / "src" / "admin" / "control.rs").read_text()
    reads = set(re.findall(r'"(/[^"]*)" => Self::', listener))
    writes = set(re.findall(r'"(/[^"]*)" => Action::', control))

    assert len(reads) >= 12 and len(writes) >= 4
    assert reads <= {*ADMIN, "/performance/cache/clear"}
    assert writes == set(CONTROL)
    # And what the document in words lists.
    table = (ROOT / "docs" / "admin-api.md").read_text().split("## Rules for all paths")[0]
    rows = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    told = {path for row in rows for path in re.findall(r"(/[\w./-]*)", row)}
    assert told <= {*ADMIN, *CONTROL}


# ---- examples of every path in every state


@pytest.fixture
def used(touchline, backend) -> Touchline:
    """A proxy with some of everything behind it."""
    proxy = touchline(backend)
    for number in range(25):
        proxy.client.get("/api/challenges")
        proxy.client.get(f"/api/user/reputation/u{number % 3}")
    proxy.client.get("/test/status/500")
    proxy.client.get("/nope")
    with proxy.client.stream("POST", "/coach/chat/stream", json={"message": "hi"}) as response:
        response.read()
    return proxy


def get_all(proxy: Touchline, skipped: tuple[str, ...] = (), **headers: str) -> dict[str, int]:
    """Asks every path of the admin listener that ends, and holds each answer against the document. The statuses."""
    statuses = {}
    for path in ADMIN:
        if path in STREAMS or path in skipped:
            continue
        query = {"key": "GET /api/challenges"} if path == "/api/v1/route" else {}
        answer = proxy.admin.get(path, params=query, headers=headers)
        assert_documented(answer, "GET", path)
        assert proxy.admin.head(path, params=query, headers=headers).status_code == answer.status_code
        statuses[path] = answer.status_code
    return statuses


def test_every_path_of_admin_answers_as_documented(used):
    statuses = get_all(used)

    assert {path: status for path, status in statuses.items() if status != 200} == {"/performance/claude": 404}


@pytest.mark.parametrize("window", ["1m", "5m", "1h"])
def test_every_window_answers_as_documented(used, window):
    for path in ("/", "/performance/metrics", "/performance/cache/stats", "/api/v1/snapshot"):
        answer = used.admin.get(path, params={"window": window})

        assert answer.status_code == 200
        assert_documented(answer, "GET", path)


def test_nothing_has_happened_yet(touchline, backend):
    statuses = get_all(touchline(backend), skipped=("/api/v1/route",))

    assert set(statuses.values()) == {200, 404}


def test_with_redis_with_claude_and_observing(touchline, backend, redis_server):
    proxy = touchline(
        backend,
        cache={"mode": "observe", "redis": {"url": redis_server().url}},
        claude={"listen": "127.0.0.1:0", "upstream": "http://127.0.0.1:1", "budgets": [{"name": "day", "limit": "20usd"}]},
    )
    for _ in range(60):
        proxy.client.get("/api/challenges")

    until(lambda: proxy.admin.get("/health").json()["checks"]["redis"]["ok"], "redis is up")
    assert set(get_all(proxy).values()) == {200}
    yaml = proxy.admin.get("/api/v1/advise", params={"format": "yaml"})
    assert_documented(yaml, "GET", "/api/v1/advise")
    assert yaml.headers["content-type"] == "application/yaml"


def test_when_redis_and_the_backend_are_down_and_everything_is_slow(touchline, own_backend, redis_server):
    backend, redis = own_backend(), redis_server()
    proxy = touchline(
        backend, ingress={"slow_after": "1ms"}, cache={"redis": {"url": redis.url}}
    )
    for number in range(25):
        proxy.client.get(f"/test/slow?ms=5&n={number}")
    redis.kill()
    backend.stop()
    until(lambda: proxy.status_of("/readyz") == 503, "not ready", deadline_s=10)
    for _ in range(30):
        proxy.client.get("/health")

    statuses = get_all(proxy, skipped=("/api/v1/route",))

    assert (statuses["/health"], statuses["/readyz"], statuses["/livez"]) == (503, 503, 200)
    strict = proxy.admin.get("/performance/health", params={"strict": "1"})
    assert strict.status_code == 503
    assert_documented(strict, "GET", "/performance/health")


@pytest.mark.parametrize("scope", ["all", "tag", "url", "prefix", "route", "identity"])
@pytest.mark.parametrize("soft", [False, True])
def test_every_purge_answers_as_documented(proxy, scope, soft):
    text = {"tag": "challenges", "url": "/api/challenges", "prefix": "/api/", "route": "/api/challenges", "identity": "ann"}
    body = {scope: text.get(scope, True), "soft": soft}
    assert_valid("Purge", body)

    answer = proxy.control.post("/cache/purge", json=body)

    assert answer.status_code == 200
    assert_documented(answer, "POST", "/cache/purge")


def test_the_other_writes_answer_as_documented(used):
    for url in ("/api/challenges", "/api/user/reputation/u1", "/nope"):
        question = {"url": url, "headers": [["accept", "*/*"]], "peer": "127.0.0.1"}
        assert_valid("EntryQuestion", question)
        assert_documented(used.control.post("/api/v1/cache/entry", json=question), "POST", "/api/v1/cache/entry")
    for path in ("/performance/cache/clear", "/drain", "/hand-over"):
        answer = used.control.post(path)
        assert answer.status_code == 200
        assert_documented(answer, "POST", path)
    assert used.wait(10) == 0, "who was told that another one has taken over ends"


def test_a_pending_purge_answers_as_documented(touchline, backend, redis_server):
    redis = redis_server()
    proxy = touchline(backend, cache={"redis": {"url": redis.url}})
    redis.kill()

    def pending() -> bool:
        answer = proxy.control.post("/cache/purge", json={"all": True})
        assert_documented(answer, "POST", "/cache/purge")
        return answer.status_code == 202

    until(pending, "a purge is pending", deadline_s=10, every_s=0.2)
    assert_documented(proxy.control.post("/performance/cache/clear"), "POST", "/performance/cache/clear")


# ---- errors


def refusals(host: str = "localhost") -> dict[str, tuple[int, bytes]]:
    """Requests for `{path}` that are refused before anybody looks at the path, and with which status."""
    return {
        "no HTTP": (400, b"GET {path} HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n"),
        "a foreign host": (421, b"GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        "a long target": (414, b"GET {path}?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        "a large head": (431, b"GET {path} HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 17_000 + b"\r\n\r\n"),
        "a body": (413, b"GET {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\na"),
        "an expectation": (417, b"GET {path} HTTP/1.1\r\nHost: localhost\r\nExpect: more\r\n\r\n"),
        "a coding": (501, b"GET {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        "a version": (505, b"GET {path} HTTP/2.7\r\nHost: localhost\r\n\r\n"),
        "a method": (405, b"DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        "a page of another site": (403, b"GET {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n"),
    }


@pytest.mark.parametrize("why", refusals())
def test_a_refusal_has_the_form_of_errors(proxy, why):
    status, request = refusals()[why]
    for path in ("/metrics", "/api/v1/snapshot", "/api/v1/events"):
        answer = ask(("127.0.0.1", proxy.admin_port), request.replace(b"{path}", path.encode()))

        assert answer.status == status, path
        assert_valid("Error", json.loads(answer.body))
        assert (answer["cache-control"], answer["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/", "window=2m"),
        ("/metrics", "a=1"),
        ("/performance/metrics", "window=2h"),
        ("/performance/cache/stats", "window="),
        ("/performance/health", "strict=yes"),
        ("/api/v1/advise", "format=xml"),
        ("/api/v1/snapshot", "window=2m"),
        ("/api/v1/snapshot", "scope=all"),
        ("/api/v1/snapshot", "a=1"),
        ("/api/v1/events", "window=2m"),
        ("/api/v1/events", "a=1"),
        ("/api/v1/tail", "status=abc"),
        ("/api/v1/tail", "outcome=fine"),
        ("/api/v1/tail", "slower_than=2"),
        ("/api/v1/tail", "cache=maybe"),
        ("/api/v1/tail", "a=1"),
        ("/api/v1/route", ""),
        ("/api/v1/route", "key=unmatched&window=2m"),
    ],
)
def test_a_query_that_is_not_understood_is_400(proxy, path, query):
    answer = proxy.admin.get(f"{path}?{query}")

    assert answer.status_code == 400
    assert_documented(answer, "GET", path)


def test_an_unknown_route_is_404(proxy):
    answer = proxy.admin.get("/api/v1/route", params={"key": "GET /nowhere"})

    assert answer.status_code == 404
    assert_documented(answer, "GET", "/api/v1/route")


def test_tokens_guard_what_the_document_says(touchline, backend):
    proxy = touchline(backend, admin={"token": "read-canary"}, control={"token": "control-canary"})
    for method, path, operation in operations():
        client = proxy.admin if operation["tags"] == ["admin"] else proxy.control
        answer = client.request(method, path)

        assert_documented(answer, method, path)
        assert (answer.status_code == 401) is (operation["security"] != [{}]), path
    statuses = get_all(proxy, skipped=("/api/v1/route",), authorization="Bearer read-canary")
    assert set(statuses.values()) == {200, 404}
    on_admin = proxy.admin.post("/performance/cache/clear", headers={"Authorization": "Bearer read-canary"})
    assert on_admin.status_code == 403
    assert_documented(on_admin, "POST", "/performance/cache/clear")


def test_too_many_wrong_tokens_and_too_many_purges_are_429(touchline, backend):
    proxy = touchline(backend, admin={"token": "read-canary"})
    for _ in range(11):
        wrong = proxy.admin.get("/metrics", headers={"Authorization": "Bearer guess"})
    purges = [proxy.control.post("/cache/purge", json={"tag": "a"}) for _ in range(40)]

    assert wrong.status_code == 429
    assert_documented(wrong, "GET", "/metrics")
    refused = [answer for answer in purges if answer.status_code == 429]
    assert refused
    assert_documented(refused[0], "POST", "/cache/purge")


# ---- streams


def next_event(stream: Iterator[str]) -> dict[str, str]:
    """The fields of the next event that is not a comment."""
    for text in stream:
        lines = (line.partition(":") for line in text.splitlines())
        fields = {name: value.removeprefix(" ") for name, _, value in lines if name}
        if fields:
            return fields
    raise AssertionError("the stream ended")


def test_the_stream_of_events_begins_with_a_snapshot_and_goes_on_with_changes(used):
    with used.admin.stream("GET", "/api/v1/events", params={"window": "1m"}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
        for name in ("cache-control", "x-content-type-options", "content-security-policy"):
            assert name in answer.headers
        stream = events(answer)
        first = next_event(stream)
        used.client.get("/api/challenges")
        second = next_event(stream)

    whole, change = json.loads(first["data"]), json.loads(second["data"])
    assert (first["event"], first["id"]) == ("snapshot", str(whole["seq"]))
    assert_valid("Snapshot", whole)
    assert (second["event"], change["seq"] > whole["seq"]) == ("change", True)
    assert_valid("SnapshotChange", change)


def test_the_tail_has_a_line_for_each_request_that_matches(used):
    with used.admin.stream("GET", "/api/v1/tail", params={"path": "/api/challenges", "cache": "hit"}) as answer:
        assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
        used.client.get("/api/user/reputation/u1")
        used.client.get("/api/challenges")
        fields = next_event(events(answer))

    line = json.loads(fields["data"])
    assert fields["event"] == "line"
    assert_valid("TailLine", line)
    assert (line["template"], line["cache"], line["status"]) == ("/api/challenges", "hit", 200)


def test_the_forty_ninth_viewer_is_503(proxy):
    with ExitStack() as stack:
        for _ in range(48):
            client = proxy.new_client(base_url=proxy.admin_url)
            assert stack.enter_context(client.stream("GET", "/api/v1/events")).status_code == 200

        refused = proxy.admin.get("/api/v1/events")

    assert refused.status_code == 503
    assert_documented(refused, "GET", "/api/v1/events")


# ---- fuzzing


class Fuzzed:
    """One proxy for all fuzzing, with a backend of its own."""

    def __init__(self, stack: ExitStack, folder) -> None:
        self.backend = Backend(folder)
        stack.callback(self.backend.stop)
        self.proxy = Touchline(folder, self.backend.url)
        stack.callback(self.proxy.stop)
        self.proxy.wait_ready()


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> Iterator[Fuzzed]:
    with ExitStack() as stack:
        yield Fuzzed(stack, tmp_path_factory.mktemp("fuzzed"))


# Bounded, and the same each time: what is found once is found again.
few = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    negative_data_rejection,
]
reads = schemathesis.openapi.from_path(FILE).include(tag="admin").exclude(path=STREAMS)
# After a hand-over there would be nobody to ask.
writes = schemathesis.openapi.from_path(FILE).include(tag="control").exclude(path="/hand-over")


@reads.parametrize()
@few
@pytest.mark.timeout(120)
def test_reads_are_as_documented_whatever_is_asked(case, fuzzed):
    case.call_and_validate(base_url=fuzzed.proxy.admin_url, checks=[*CHECKS, positive_data_acceptance], timeout=10)


@writes.parametrize()
@few
@pytest.mark.timeout(120)
def test_writes_are_as_documented_whatever_is_sent(case, fuzzed):
    case.call_and_validate(base_url=fuzzed.proxy.control_url, checks=CHECKS, timeout=10)
