"""HTTP/2 with prior knowledge on the same port."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from support.raw import ok


def test_a_client_with_prior_knowledge_speaks_http2_and_shares_the_cache(proxy):
    client = proxy.h2_client()

    miss = client.get("/api/challenges")
    hit = client.get("/api/challenges")
    plain = proxy.client.get("/api/challenges")

    assert [answer.http_version for answer in (miss, hit, plain)] == ["HTTP/2", "HTTP/2", "HTTP/1.1"]
    assert [answer.headers["x-cache-status"] for answer in (miss, hit, plain)] == ["miss", "hit", "hit"]
    assert hit.content == plain.content
    assert hit.headers["x-response-time"].endswith("ms")


def test_the_backend_gets_plain_http11_with_the_authority_as_host(proxy):
    answer = proxy.h2_client().post("/test/echo?x=1", headers={"Host": "coach.example"}, content=b"hello").json()

    fields = dict(answer["headers"])
    assert answer["http_version"] == "1.1"
    assert fields["host"] == "coach.example"
    assert answer["body_bytes"] == 5
    assert not {name for name in fields if name.startswith(":")}


def test_many_requests_share_one_connection(proxy):
    client = proxy.h2_client()
    client.get("/health")

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda number: client.get(f"/test/bytes/{number * 1000}"), range(50)))

    assert [len(answer.content) for answer in answers] == [number * 1000 for number in range(50)]
    assert {answer.http_version for answer in answers} == {"HTTP/2"}


def test_connection_specific_fields_stay_out_of_an_answer(touchline, fake):
    server = fake(
        lambda sock, request: sock.sendall(
            ok(b"x", "Connection: keep-alive, X-Hop", "Keep-Alive: timeout=5", "X-Hop: 1", "X-Kept: yes")
        )
    )

    answer = touchline(server).h2_client().get("/")

    assert answer.headers["x-kept"] == "yes"
    assert not {"connection", "keep-alive", "transfer-encoding", "x-hop"} & set(answer.headers)


def test_cookies_split_by_http2_reach_the_backend_as_one_field(proxy):
    answer = proxy.h2_client().get("/test/echo", headers=[("cookie", "a=1"), ("cookie", "b=2")]).json()

    assert [value for name, value in answer["headers"] if name == "cookie"] == ["a=1; b=2"]


def test_a_body_over_the_limit_is_413(touchline, backend):
    proxy = touchline(backend, ingress={"limits": {"body": "1KiB"}})

    answer = proxy.h2_client().post("/test/echo", content=b"x" * 2000)

    assert answer.status_code == 413
    assert answer.json()["reason"] == "body_too_large"


def test_curl_with_prior_knowledge_and_the_old_upgrade_both_get_an_answer(proxy):
    versions = []
    for flag in ("--http2-prior-knowledge", "--http2", "--http1.1"):
        done = subprocess.run(
            [
                "curl",
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--fail",
                flag,
                f"{proxy.url}/api/challenges",
                "-o",
                "/dev/null",
                "-w",
                "%{http_version} %{http_code}",
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        versions.append(done.stdout)

    # The upgrade from HTTP/1.1 (h2c) is ignored, as RFC 9113 has withdrawn it.
    assert versions == ["2 200", "1.1 200", "1.1 200"]


def test_it_can_be_switched_off(touchline, backend):
    proxy = touchline(backend, ingress={"http2": False})

    with pytest.raises(httpx.TransportError):
        proxy.h2_client().get("/health")
    assert proxy.client.get("/health").status_code == 200


def test_errors_are_problem_documents_there_too(touchline, backend):
    proxy = touchline(backend, ingress={"upstream": {"first_byte": "200ms"}})

    answer = proxy.h2_client().get(f"/test/slow/{uuid4()}?ms=20000")

    assert answer.status_code == 504
    assert json.loads(answer.content)["reason"] == "upstream_timeout"
