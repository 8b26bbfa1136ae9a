"""examples/coach.yaml in front of a backend with its paths: what is a hit, for how long, and which write ends what."""

import base64
import json
import re
import subprocess
import threading
import time
from collections import Counter

import pytest
import yaml

from support.proxy import ROOT
from support.raw import Request, ok

FILE = ROOT / "examples" / "coach.yaml"


class Coach:
    """Answers every path with how often it was asked for, and who asked. Writes are counted apart. A script."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.statuses: dict[str, str] = {}

    def __call__(self, sock, request: Request) -> None:
        path = request.target.split("?")[0]
        with self._lock:
            self._counts[f"{request.method} {path}"] += 1
            number = self._counts[f"{request.method} {path}"]
        if path == "/coach/chat/stream":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            sock.sendall(b"9\r\ndata: a\n\n\r\n0\r\n\r\n")
            return
        body = {"path": path, "number": number, "user": (request.all("authorization") or [None])[0]}
        status = self.statuses.get(path, "200 OK")
        sock.sendall(ok(json.dumps(body).encode(), "Content-Type: application/json", status=status))

    def count(self, path: str, method: str = "GET") -> int:
        with self._lock:
            return self._counts[f"{method} {path}"]


class Issuer:
    """Makes tokens as an identity provider does, and publishes its key as a JWKS."""

    def __init__(self, folder) -> None:
        self._key = folder / "issuer.pem"
        self._run("genrsa", "-out", str(self._key), "2048")
        modulus = self._run("rsa", "-in", str(self._key), "-noout", "-modulus").decode().strip().split("=")[1]
        key = {"kty": "RSA", "alg": "RS256", "kid": "1", "n": self._text(bytes.fromhex(modulus)), "e": "AQAB"}
        self.file = folder / "issuer-jwks.json"
        self.file.write_text(json.dumps({"keys": [key]}))

    def bearer(self, subject: str, life_s: int = 3600) -> dict[str, str]:
        """`Authorization` of a user."""
        parts = ({"alg": "RS256", "kid": "1"}, {"sub": subject, "exp": int(time.time()) + life_s})
        signed = ".".join(self._text(json.dumps(part).encode()) for part in parts)
        signature = self._run("dgst", "-sha256", "-sign", str(self._key), given=signed.encode())
        return {"Authorization": f"Bearer {signed}.{self._text(signature)}"}

    @staticmethod
    def _text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    @staticmethod
    def _run(*words: str, given: bytes | None = None) -> bytes:
        return subprocess.run(["openssl", *words], input=given, capture_output=True, timeout=20, check=True).stdout


@pytest.fixture
def coach() -> Coach:
    return Coach()


@pytest.fixture
def issuer(tmp_path) -> Issuer:
    return Issuer(tmp_path)


@pytest.fixture
def start(touchline, fake, coach, issuer):
    """Starts a proxy with the routes of the example, by default in mode `serve`."""

    def begin(mode: str = "serve"):
        shipped = yaml.safe_load(FILE.read_text())
        routes = shipped["ingress"]["routes"]
        for route in routes:
            if identity := route.get("cache", {}).get("identity"):
                identity["keys"] = str(issuer.file)
        return touchline(fake(coach), ingress={"routes": routes}, cache={**shipped["cache"], "mode": mode})

    return begin


def status(answer) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-cache-status"]


def detail(answer) -> str:
    return answer.headers["cache-status"].partition("detail=")[2]


def ttl_s(answer) -> int:
    match = re.fullmatch(r"touchline; hit; ttl=(\d+)", answer.headers["cache-status"])
    assert match, answer.headers["cache-status"]
    return int(match[1])


# What is promised, and the starting points: path, lifetime in seconds.
LIVES = {
    "/api/challenges?difficulty=beginner": 30 * 60,
    "/api/user/reputation/7": 15 * 60,
    "/coach/sessions/7": 60,
    "/coach/progress/7": 60,
    "/coach/challenges?user_id=7": 5 * 60,
    "/api/assessment/results/7": 2 * 3600,
    "/api/assessment/progress/7": 5,
    "/api/dating-goals/7": 5 * 60,
    "/api/matches/candidates/7": 30,
    "/api/matches/distance/7/8": 10 * 60,
    "/config/features": 60,
    "/": 60,
    "/openapi.json": 60,
    "/docs": 60,
}


@pytest.mark.parametrize("path", LIVES)
def test_the_second_answer_is_a_hit_for_as_long_as_the_rule_says(start, coach, path):
    proxy = start()

    first, second = proxy.client.get(path), proxy.client.get(path)

    assert [status(first), status(second)] == ["miss", "hit"]
    assert first.content == second.content
    assert coach.count(path.split("?")[0]) == 1
    # Up to 5 % of a life by a rule is taken off by chance, so that entries do not all end at once.
    assert LIVES[path] * 0.95 - 2 <= ttl_s(second) <= LIVES[path]


def test_as_shipped_it_observes_and_changes_nothing(start, coach):
    assert yaml.safe_load(FILE.read_text())["cache"]["mode"] == "${CACHE_MODE:-observe}"
    proxy = start(mode="${CACHE_MODE:-observe}")

    answers = [proxy.client.get("/api/challenges") for _ in range(3)]

    assert [(status(answer), detail(answer)) for answer in answers] == [("bypass", "observe")] * 3
    assert coach.count("/api/challenges") == 3


def test_challenges_are_shared_by_all_users_and_told_apart_by_difficulty_alone(start, coach, issuer):
    proxy = start()

    answers = [
        proxy.client.get("/api/challenges?difficulty=beginner"),
        proxy.client.get("/api/challenges?difficulty=beginner", headers=issuer.bearer("ann")),
        proxy.client.get("/api/challenges?difficulty=beginner", headers={"Cookie": "session=ann"}),
        proxy.client.get("/api/challenges?utm_source=mail&difficulty=beginner"),
        proxy.client.get("/api/challenges?difficulty=advanced"),
    ]

    assert [status(answer) for answer in answers] == ["miss", "hit", "hit", "hit", "miss"]
    assert coach.count("/api/challenges") == 2


def test_reputation_is_fetched_anew_for_use_cache_false_and_replaced_for_all(start, coach):
    proxy, path = start(), "/api/user/reputation/7"
    proxy.client.get(path)

    renewed = proxy.client.get(f"{path}?use_cache=false")
    after = proxy.client.get(path)

    assert [status(renewed), status(after)] == ["miss", "hit"]
    assert renewed.json()["number"] == after.json()["number"] == 2
    assert status(proxy.client.get("/api/user/reputation/8")) == "miss"


def test_reputation_asked_for_with_a_token_passes_by_the_cache(start, issuer):
    answer = start().client.get("/api/user/reputation/7", headers=issuer.bearer("ann"))

    assert (status(answer), detail(answer)) == ("bypass", "authorization")


def test_each_user_has_sessions_of_their_own(start, coach, issuer):
    proxy, path = start(), "/api/session/s1"
    ann, ben = issuer.bearer("ann"), issuer.bearer("ben")

    of_ann = [proxy.client.get(path, headers=ann) for _ in range(2)]
    of_ben = [proxy.client.get(path, headers=ben) for _ in range(2)]
    # A new token of the same user.
    again = proxy.client.get(path, headers=issuer.bearer("ann", life_s=1800))
    nobody = proxy.client.get(path)
    forged = proxy.client.get(path, headers={"Authorization": ann["Authorization"][:-8] + "AAAAAAAA"})

    assert [status(answer) for answer in [*of_ann, *of_ben, again]] == ["miss", "hit", "miss", "hit", "hit"]
    assert {answer.json()["user"] for answer in [*of_ann, again]} == {ann["Authorization"]}
    assert {answer.json()["user"] for answer in of_ben} == {ben["Authorization"]}
    assert of_ann[1].headers["cache-control"].startswith("private")
    # No entry outlives the token that it was fetched with.
    assert ttl_s(of_ann[1]) <= 3600
    for answer in (nobody, forged):
        assert (status(answer), detail(answer)) == ("bypass", "identity")
    assert coach.count(path) == 4


def test_a_purge_of_one_user_ends_their_sessions_and_nobody_elses(start, issuer):
    proxy, path = start(), "/api/session/s1"
    ann, ben = issuer.bearer("ann"), issuer.bearer("ben")
    for user in (ann, ben):
        proxy.client.get(path, headers=user)

    proxy.control.post("/cache/purge", json={"identity": "ann"}).raise_for_status()

    assert status(proxy.client.get(path, headers=ann)) == "miss"
    assert status(proxy.client.get(path, headers=ben)) == "hit"


# A write: method, path, body; then what it ends and what it spares.
WRITES = {
    "create": ("POST", "/challenges/create", {"title": "x"}, ["/api/challenges"], ["/api/user/reputation/7"]),
    "challenges-invalidate": ("POST", "/api/challenges/cache/invalidate", None, ["/api/challenges"], []),
    "confirm": (
        "POST",
        "/api/session/s1/confirm",
        {},
        ["/api/session/s1", "/api/user/reputation/7", "/api/user/reputation/8"],
        ["/api/session/s2", "/api/challenges"],
    ),
    "notes": ("PATCH", "/api/session/s1/notes", {"notes": "x"}, ["/api/session/s1"], ["/api/user/reputation/7"]),
    "confirm-completion": (
        "POST",
        "/api/session/confirm-completion",
        {"session_id": "s1", "success": True},
        ["/api/session/s1", "/api/user/reputation/7"],
        ["/api/session/s2"],
    ),
    "confirm-completion-of-none": (
        "POST",
        "/api/session/confirm-completion",
        {"success": True},
        ["/api/session/s1", "/api/session/s2", "/api/user/reputation/7"],
        ["/api/challenges"],
    ),
    "reputation-invalidate": (
        "POST",
        "/api/user/reputation/cache/invalidate",
        {"user_id": "7"},
        ["/api/user/reputation/7", "/api/user/reputation/8"],
        ["/api/session/s1"],
    ),
    "reputation-invalidate-all": (
        "POST",
        "/api/user/reputation/cache/invalidate-all",
        None,
        ["/api/user/reputation/7"],
        ["/api/challenges"],
    ),
    "chat": (
        "POST",
        "/coach/chat",
        {"user_id": "7", "message": "hello"},
        ["/coach/sessions/7", "/coach/progress/7", "/coach/challenges?user_id=7"],
        ["/coach/sessions/8", "/coach/challenges?user_id=8", "/api/assessment/results/7"],
    ),
    "chat-stream": (
        "POST",
        "/coach/chat/stream",
        {"message": "hello", "user_id": "7"},
        ["/coach/sessions/7"],
        ["/coach/sessions/8"],
    ),
    "attempt": ("POST", "/coach/attempt", {"user_id": 7}, ["/coach/progress/7"], ["/coach/progress/8"]),
    "assessment": (
        "POST",
        "/coach/assessment",
        {"user_id": "7", "answers": [1, 2, 3]},
        ["/coach/sessions/7", "/api/assessment/results/7", "/api/assessment/progress/7"],
        ["/coach/sessions/8", "/api/assessment/results/8"],
    ),
    "confidence": (
        "POST",
        "/api/assessment/confidence",
        {"user_id": "7"},
        ["/coach/progress/7", "/api/assessment/results/7"],
        ["/api/assessment/results/8"],
    ),
    "goals": ("POST", "/api/dating-goals", {"user_id": "7"}, ["/api/dating-goals/7"], ["/api/dating-goals/8"]),
    "goals-delete": ("DELETE", "/api/dating-goals/7", None, ["/api/dating-goals/7"], ["/api/dating-goals/8"]),
    "profile": (
        "POST",
        "/api/profile/complete",
        {"user_id": "7"},
        ["/api/matches/candidates/8", "/api/matches/distance/7/8", "/api/matches/distance/9/7"],
        ["/api/matches/distance/8/9", "/api/dating-goals/7"],
    ),
    "matches": ("POST", "/api/matches/auto", {}, ["/api/matches/candidates/7"], ["/api/matches/distance/7/8"]),
    "buddy": ("POST", "/api/buddy/respond", {}, ["/api/matches/candidates/7"], ["/api/matches/distance/7/8"]),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_ends_what_it_changes_and_nothing_else(start, issuer, write):
    method, path, body, ends, spares = WRITES[write]
    proxy = start()
    ann = issuer.bearer("ann")

    def get(target: str):
        return proxy.client.get(target, headers=ann if target.startswith("/api/session/") else {})

    for target in [*ends, *spares]:
        assert [status(get(target)), status(get(target))] == ["miss", "hit"], target

    answer = proxy.client.request(method, path, json=body)

    assert (status(answer), answer.headers["cache-status"]) == ("bypass", "touchline; fwd=method")
    assert {target: status(get(target)) for target in ends} == dict.fromkeys(ends, "miss")
    assert {target: status(get(target)) for target in spares} == dict.fromkeys(spares, "hit")


def test_a_write_that_is_refused_ends_nothing(start, coach):
    coach.statuses["/challenges/create"] = "422 Unprocessable Content"
    proxy = start()
    proxy.client.get("/api/challenges")

    assert proxy.client.post("/challenges/create", json={}).status_code == 422

    assert status(proxy.client.get("/api/challenges")) == "hit"


UNLISTED = ["/health", "/coach/health", "/config/status", "/email/status", "/api/chat/messages/7", "/api/deployment/x"]


@pytest.mark.parametrize("path", UNLISTED)
def test_what_has_no_rule_is_never_cached(start, coach, path):
    proxy = start()

    answers = [proxy.client.get(path) for _ in range(2)]

    assert [(status(answer), detail(answer)) for answer in answers] == [("miss", "no_freshness")] * 2
    assert coach.count(path) == 2
