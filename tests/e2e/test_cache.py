"""The response cache in front of the real backend: what is answered from it, what never enters it."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from statistics import median
from uuid import uuid4

import pytest

from support.raw import ok
from support.wait import until

STORED = "touchline; fwd=uri-miss; fwd-status=200; stored"


def route(path: str, **cache) -> list[dict]:
    """One public cached route."""
    return [{"path": path, "cache": {"ttl": "1m", "public": True, **cache}}]


def timed(call) -> tuple[float, object]:
    begun = time.perf_counter()
    answer = call()
    return (time.perf_counter() - begun) * 1000, answer


def test_first_call_is_a_miss_and_the_second_a_hit_at_least_ten_times_faster(proxy):
    proxy.client.get("/health")  # Opens the connections, so that only the work is compared.

    miss_ms, miss = timed(lambda: proxy.client.get("/api/challenges"))
    hits = [timed(lambda: proxy.client.get("/api/challenges")) for _ in range(9)]

    assert miss.status_code == 200
    assert miss.headers["x-cache-status"] == "miss"
    assert miss.headers["cache-status"] == STORED
    assert {answer.headers["x-cache-status"] for _, answer in hits} == {"hit"}
    hit_ms = median(taken for taken, _ in hits)
    assert hit_ms * 10 <= miss_ms, f"miss {miss_ms:.1f} ms, hit {hit_ms:.1f} ms"
    assert float(hits[0][1].headers["x-response-time"][:-2]) * 10 <= float(miss.headers["x-response-time"][:-2])


def test_a_hit_is_the_same_answer_with_its_age(proxy):
    miss = proxy.client.get("/api/user/reputation/same-answer")

    hit = proxy.client.get("/api/user/reputation/same-answer")

    assert hit.content == miss.content
    assert hit.headers["content-type"] == miss.headers["content-type"]
    assert hit.headers.get_list("date") == miss.headers.get_list("date")
    assert len(hit.headers.get_list("age")) == 1
    assert 0 <= int(hit.headers["age"]) <= 2
    assert "age" not in miss.headers
    match = re.fullmatch(r"touchline; hit; ttl=(\d+)", hit.headers["cache-status"])
    assert match, hit.headers["cache-status"]
    assert 15 * 60 * 0.94 - 2 <= int(match[1]) <= 15 * 60 * 1.06


def test_the_query_is_part_of_the_key_as_the_route_says(proxy, backend):
    before = backend.count("/api/challenges")

    first = proxy.client.get("/api/challenges?difficulty=advanced")
    noise = proxy.client.get("/api/challenges?difficulty=advanced&utm_source=mail")
    other = proxy.client.get("/api/challenges?difficulty=beginner")

    assert [answer.headers["x-cache-status"] for answer in (first, noise, other)] == ["miss", "hit", "miss"]
    assert {item["difficulty"] for item in noise.json()["challenges"]} == {"advanced"}
    assert {item["difficulty"] for item in other.json()["challenges"]} == {"beginner"}
    assert backend.count("/api/challenges") == before + 2


def test_an_unkeyed_query_parameter_does_not_reach_the_backend_when_it_fills(proxy, backend):
    proxy.client.get("/api/challenges?difficulty=intermediate&utm_source=mail").raise_for_status()

    assert backend.seen("/api/challenges")[-1]["query"] == "difficulty=intermediate"


def test_concurrent_misses_of_one_key_reach_the_backend_once(touchline, backend):
    name = f"/test/slow/{uuid4()}"
    proxy = touchline(backend, ingress={"routes": route("/test/slow/{name}")})

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: proxy.client.get(f"{name}?ms=400"), range(24)))

    assert {answer.status_code for answer in answers} == {200}
    assert backend.count(name) == 1
    words = [answer.headers["cache-status"] for answer in answers]
    assert words.count(STORED) == 1
    assert "touchline; fwd=uri-miss; collapsed" in words
    assert proxy.client.get(f"{name}?ms=400").headers["x-cache-status"] == "hit"


def test_a_client_that_has_the_answer_gets_304_without_a_body(proxy):
    proxy.client.get("/api/challenges")
    full = proxy.client.get("/api/challenges")
    tag = full.headers["etag"]

    same = proxy.client.get("/api/challenges", headers={"If-None-Match": f'"other", {tag}'})
    different = proxy.client.get("/api/challenges", headers={"If-None-Match": '"other"'})

    assert same.status_code == 304
    assert same.content == b""
    assert same.headers["etag"] == tag
    assert same.headers["x-cache-status"] == "hit"
    assert len(same.headers.get_list("age")) == 1
    assert same.headers["date"] == full.headers["date"]
    assert different.status_code == 200
    assert different.content == full.content


def test_if_modified_since_is_answered_from_the_entry(touchline, backend):
    proxy = touchline(backend, ingress={"routes": []})
    stamp = "Wed, 01 Jan 2025 00:00:00 GMT"
    path = f"/test/answer/{uuid4()}?header=Cache-Control: max-age=60&header=Last-Modified: {stamp}"
    proxy.client.get(path)

    same = proxy.client.get(path, headers={"If-Modified-Since": stamp})

    assert same.status_code == 304
    assert same.headers["x-cache-status"] == "hit"


def test_head_is_answered_from_a_stored_get_and_never_fills(proxy, touchline, backend):
    full = proxy.client.get("/api/challenges?difficulty=beginner")
    head = proxy.client.head("/api/challenges?difficulty=beginner")

    assert head.headers["x-cache-status"] == "hit"
    assert head.content == b""
    assert head.headers["content-length"] == full.headers["content-length"]

    other = touchline(backend, ingress={"routes": route("/test/answer/{name}")})
    name = f"/test/answer/{uuid4()}"
    other.client.head(name)
    assert other.client.get(name).headers["x-cache-status"] == "miss"


def test_one_byte_range_of_a_stored_answer_is_206(proxy):
    full = proxy.client.get("/api/challenges")

    part = proxy.client.get("/api/challenges", headers={"Range": "bytes=10-29"})

    assert part.status_code == 206
    assert part.content == full.content[10:30]
    assert part.headers["content-range"] == f"bytes 10-29/{len(full.content)}"
    assert part.headers["x-cache-status"] == "hit"


REFUSED = {
    "no_store": "header=Cache-Control: no-store",
    "private": "header=Cache-Control: private",
    "set_cookie": "header=Set-Cookie: a=b",
    "vary_star": "header=Vary: *",
    "status": "status=500",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_an_answer_that_may_not_be_shared_is_never_stored(touchline, backend, reason):
    proxy = touchline(backend, ingress={"routes": route("/test/answer/{name}")})
    name = f"/test/answer/{uuid4()}"

    answers = [proxy.client.get(f"{name}?{REFUSED[reason]}") for _ in range(3)]

    assert backend.count(name) == 3
    assert not {answer.headers["x-cache-status"] for answer in answers} & {"hit", "stale", "revalidated"}
    status = 500 if reason == "status" else 200
    assert answers[0].headers["cache-status"] == f"touchline; fwd=uri-miss; fwd-status={status}; detail={reason}"


@pytest.mark.parametrize("value", ["max-age=0", "no-cache"])
def test_an_answer_that_must_be_asked_for_again_is_asked_for_again(touchline, backend, value):
    proxy = touchline(backend, ingress={"routes": route("/test/answer/{name}")})
    name = f"/test/answer/{uuid4()}"

    for _ in range(3):
        answer = proxy.client.get(f"{name}?header=Cache-Control: {value}")
        assert answer.headers["x-cache-status"] != "hit"

    assert backend.count(name) == 3


def test_an_answer_over_max_body_passes_whole_and_is_not_stored(touchline, backend):
    proxy = touchline(backend, ingress={"routes": route("/test/bytes/{size}", max_body="8KiB")})

    small = [proxy.client.get("/test/bytes/8000") for _ in range(2)]
    large = [proxy.client.get(f"/test/bytes/{size}") for size in (9001, 9001)]
    chunked = [proxy.client.get("/test/bytes/9002?chunked=true") for _ in range(2)]

    assert small[1].headers["x-cache-status"] == "hit"
    assert [len(answer.content) for answer in large + chunked] == [9001, 9001, 9002, 9002]
    assert "hit" not in {answer.headers["x-cache-status"] for answer in large + chunked}
    assert large[0].headers["cache-status"].endswith("detail=too_large")


def test_freshness_that_the_backend_declares_counts_on_every_path(touchline, backend):
    path = f"/test/answer/{uuid4()}"
    proxy = touchline(backend, ingress={"routes": []})
    silent = touchline(backend, ingress={"routes": []}, cache={"origin": False})

    answers = [proxy.client.get(f"{path}?header=Cache-Control: max-age=60") for _ in range(2)]
    ignored = [silent.client.get(f"{path}?header=Cache-Control: max-age=60") for _ in range(2)]

    assert [answer.headers["x-cache-status"] for answer in answers] == ["miss", "hit"]
    assert re.fullmatch(r"touchline; hit; ttl=(60|59|58)", answers[1].headers["cache-status"])
    assert "hit" not in {answer.headers["x-cache-status"] for answer in ignored}


def test_a_path_without_a_rule_and_without_declared_freshness_is_never_stored(proxy, backend):
    name = f"/test/answer/{uuid4()}"

    answers = [proxy.client.get(name) for _ in range(2)]

    assert backend.count(name) == 2
    assert {answer.headers["x-cache-status"] for answer in answers} <= {"miss", "bypass"}


def test_an_entry_ends_with_its_ttl(touchline, backend):
    proxy = touchline(backend, ingress={"routes": route("/test/answer/{name}", ttl="3s")})
    name = f"/test/answer/{uuid4()}"
    proxy.client.get(name)
    assert proxy.client.get(name).headers["x-cache-status"] == "hit"

    expired = until(
        lambda: next((a for a in [proxy.client.get(name)] if a.headers["x-cache-status"] != "hit"), None),
        "the entry expires",
        deadline_s=8,
        every_s=0.05,
    )

    assert expired.headers["x-cache-status"] in {"miss", "revalidated"}
    assert "fwd=" in expired.headers["cache-status"]


@pytest.mark.parametrize("mode", ["off", "observe"])
def test_the_mode_off_or_observe_serves_nothing_from_the_cache(touchline, backend, mode):
    proxy = touchline(backend, cache={"mode": mode}, ingress={"routes": route("/test/answer/{name}")})
    name = f"/test/answer/{uuid4()}"

    answers = [proxy.client.get(name) for _ in range(3)]

    assert backend.count(name) == 3
    for answer in answers:
        assert answer.headers["x-cache-status"] == "bypass"
        assert f"detail={mode}" in answer.headers["cache-status"]


def test_a_confirmed_session_ends_the_reputations_that_depend_on_it(proxy, backend):
    path = "/api/user/reputation/confirming"
    proxy.client.get(path)
    assert proxy.client.get(path).headers["x-cache-status"] == "hit"

    confirmed = proxy.client.post("/api/session/s-77/confirm")

    assert confirmed.status_code == 200
    assert confirmed.headers["x-cache-status"] == "bypass"
    assert confirmed.headers["cache-status"] == "touchline; fwd=method"
    assert proxy.client.get(path).headers["x-cache-status"] == "miss"


def test_an_unsafe_request_ends_the_entry_of_its_own_url(touchline, backend):
    proxy = touchline(backend, ingress={"routes": route("/test/answer/{name}")})
    name = f"/test/answer/{uuid4()}"
    proxy.client.get(name)
    assert proxy.client.get(name).headers["x-cache-status"] == "hit"

    proxy.client.put(name, content=b"new")

    assert proxy.client.get(name).headers["x-cache-status"] == "miss"


def test_hits_are_served_while_the_backend_is_gone(touchline, own_backend):
    backend = own_backend()
    proxy = touchline(backend)
    before = proxy.client.get("/api/challenges")
    backend.stop()

    hit = proxy.client.get("/api/challenges")
    miss = proxy.client.get("/api/challenges?difficulty=beginner")

    assert hit.status_code == 200
    assert hit.content == before.content
    assert miss.status_code == 502


def test_each_vary_value_has_its_own_entry(touchline, fake):
    server = fake(
        lambda sock, request: sock.sendall(
            ok(
                b"/".join(v.encode() for v in request.all("x-lang")) or b"none",
                "Vary: X-Lang",
                "Cache-Control: max-age=60",
            )
        )
    )
    proxy = touchline(server, ingress={"routes": []})

    for language in ("de", "en"):
        for expected in ("miss", "hit"):
            answer = proxy.client.get("/greeting", headers={"X-Lang": language})
            assert (answer.text, answer.headers["x-cache-status"]) == (language, expected)

    assert len(server.requests) == 2


def test_the_date_of_the_backend_is_kept(touchline, fake):
    stamp = "Tue, 03 Nov 2026 10:00:00 GMT"
    server = fake(lambda sock, request: sock.sendall(ok(b"x", f"Date: {stamp}")))
    proxy = touchline(server, ingress={"routes": route("/dated")})

    answers = [proxy.client.get("/dated") for _ in range(2)]

    assert [answer.headers.get_list("date") for answer in answers] == [[stamp], [stamp]]
    assert parsedate_to_datetime(stamp).year == 2026
