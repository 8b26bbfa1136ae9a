"""Whose answer it is: what one person gets must never come to another."""

from uuid import uuid4

import pytest

from support.raw import ok

CREDENTIALS = {
    "authorization": {"Authorization": "Bearer ann"},
    "cookie": {"Cookie": "session=ann"},
    "credential": {"X-API-Key": "ann"},
}


@pytest.mark.parametrize("detail", CREDENTIALS)
def test_a_request_with_credentials_passes_the_cache_by_and_leaves_nothing_there(proxy, backend, detail):
    path = f"/api/user/reputation/{uuid4()}"

    own = [proxy.client.get(path, headers=CREDENTIALS[detail]) for _ in range(2)]
    anonymous = proxy.client.get(path)

    for answer in own:
        assert answer.headers["x-cache-status"] == "bypass"
        assert answer.headers["cache-status"] == f"touchline; fwd=bypass; detail={detail}"
        assert "age" not in answer.headers
    assert anonymous.headers["x-cache-status"] == "miss"
    assert backend.count(path) == 3


@pytest.mark.parametrize("detail", CREDENTIALS)
def test_a_request_with_credentials_never_gets_the_anonymous_entry(proxy, backend, detail):
    path = f"/api/user/reputation/{uuid4()}"
    proxy.client.get(path)

    answer = proxy.client.get(path, headers=CREDENTIALS[detail])

    assert answer.headers["x-cache-status"] == "bypass"
    assert backend.count(path) == 2


def test_a_public_route_answers_everybody_from_one_entry(proxy):
    proxy.client.get("/api/challenges")

    answers = [proxy.client.get("/api/challenges", headers=headers) for headers in CREDENTIALS.values()]

    assert answers[0].headers["x-cache-status"] == "hit"


def test_sessions_stay_with_their_users(proxy):
    path = f"/api/session/{uuid4()}"

    refused = proxy.client.get(path)
    ann = proxy.client.get(path, headers={"Authorization": "Bearer ann"})
    ben = proxy.client.get(path, headers={"Authorization": "Bearer ben"})
    refused_again = proxy.client.get(path)

    assert refused.status_code == refused_again.status_code == 401
    assert refused.json() == {"detail": "Authentication required. Please log in to access this resource."}
    assert refused.headers["www-authenticate"] == "Bearer"
    assert (ann.json()["participant"], ben.json()["participant"]) == ("ann", "ben")
    assert "hit" not in {answer.headers["x-cache-status"] for answer in (refused, ann, ben, refused_again)}


def test_a_declared_answer_to_an_authorized_request_is_not_shared_unless_it_says_so(touchline, backend):
    proxy = touchline(backend, ingress={"routes": []})
    plain, shared = f"/test/answer/{uuid4()}", f"/test/answer/{uuid4()}"
    headers = {"Authorization": "Bearer ann"}

    proxy.client.get(f"{plain}?header=Cache-Control: max-age=60", headers=headers)
    proxy.client.get(f"{shared}?header=Cache-Control: public, max-age=60", headers=headers)

    assert proxy.client.get(f"{plain}?header=Cache-Control: max-age=60").headers["x-cache-status"] == "miss"
    assert proxy.client.get(f"{shared}?header=Cache-Control: public, max-age=60").headers["x-cache-status"] == "hit"


def test_each_origin_gets_the_answer_made_for_it(touchline, fake):
    def cors(sock, request):
        origin = request.all("origin")
        lines = [f"Access-Control-Allow-Origin: {origin[0]}", "Vary: Origin"] if origin else []
        sock.sendall(ok(b"{}", *lines))

    server = fake(cors)
    proxy = touchline(server, ingress={"routes": [{"path": "/api/challenges", "cache": {"ttl": "1m", "public": True}}]})

    proxy.client.get("/api/challenges")
    for origin in ("http://localhost:3000", "http://localhost:4000"):
        for expected in ("miss", "hit"):
            answer = proxy.client.get("/api/challenges", headers={"Origin": origin})
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["x-cache-status"] == expected
    assert "access-control-allow-origin" not in proxy.client.get("/api/challenges").headers
