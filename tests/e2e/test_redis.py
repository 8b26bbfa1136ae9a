"""The tier that replicas share: what one has fetched another answers, what one purges another forgets."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
import yaml

from support.proxy import command
from support.raw import ok
from support.replicas import ITEMS, NO_MEMORY, ask, hits, is_up, metric, purge, wait_until_given_up
from support.wait import until

SECOND = 1.0
MIB = 1 << 20


def status(answer) -> str:
    return answer.headers["x-cache-status"]


def stored(replicas, proxy, path: str, **headers: str):
    """Fetches a path through a proxy and waits until it is in Redis."""
    before = len(replicas.redis.entries())
    answer = ask(proxy, path, **headers)
    assert (answer.status_code, status(answer)) == (200, "miss"), answer.headers
    replicas.redis.wait_for_entries(before + 1)
    return answer


def name_of(replicas, proxy, path: str) -> str:
    """The name under which a path is stored, after fetching it through a proxy."""
    before = set(replicas.redis.entries())
    stored(replicas, proxy, path)
    return (set(replicas.redis.entries()) - before).pop()


def test_a_replica_that_starts_anew_answers_from_redis(replicas):
    date = formatdate(time.time() - 5, usegmt=True)
    replicas.origin.fields = [f"Date: {date}", "X-Kept: yes"]
    first = replicas.replica()
    miss = stored(replicas, first, "/items/a")
    first.stop()

    second = replicas.replica()
    hit = ask(second, "/items/a")

    assert (hit.status_code, status(hit), hit.content) == (200, "hit", miss.content)
    assert re.fullmatch(r"touchline; hit; ttl=\d+", hit.headers["cache-status"])
    assert hit.headers["date"] == date
    assert (hit.headers["x-kept"], hit.headers["content-type"]) == ("yes", "text/plain")
    assert hit.headers["etag"] == ask(second, "/items/a").headers["etag"]
    assert [int(age) >= 5 for age in hit.headers.get_list("age")] == [True]
    assert replicas.origin.count("/items/a") == 1
    assert hits(second, "redis") == 1


def test_what_came_from_redis_is_answered_from_memory_the_next_time(replicas):
    first, second = replicas.replica(), replicas.replica()
    stored(replicas, first, "/items/a")

    for _ in range(5):
        assert status(ask(second, "/items/a")) == "hit"

    assert (hits(second, "redis"), hits(second, "memory")) == (1, 4)
    assert replicas.origin.count("/items/a") == 1


def test_without_memory_every_hit_is_read_from_redis(replicas):
    proxy = replicas.replica(**NO_MEMORY)
    stored(replicas, proxy, "/items/a")

    for _ in range(5):
        assert status(ask(proxy, "/items/a")) == "hit"

    assert (hits(proxy, "redis"), hits(proxy, "memory")) == (5, 0)


def test_without_memory_and_without_redis_the_configuration_is_refused(tmp_path):
    file = tmp_path / "proxy.yaml"
    ingress = {"listen": "127.0.0.1:18080", "backend": "http://127.0.0.1:18081"}
    file.write_text(yaml.safe_dump({"version": 1, "ingress": ingress, "cache": NO_MEMORY}))

    done = command("check", "-c", str(file))

    assert done.returncode != 0
    assert "cache.memory.size" in done.stdout + done.stderr


def test_a_unix_socket_is_as_good_as_a_port(replicas):
    address = {"url": f"redis+unix://{replicas.redis.socket}"}
    first, second = replicas.replica(redis=address), replicas.replica(redis=address)
    stored(replicas, first, "/items/a")

    assert status(ask(second, "/items/a")) == "hit"
    assert hits(second, "redis") == 1


def test_a_database_other_than_the_first_is_used(replicas):
    proxy = replicas.replica(redis={"url": f"{replicas.redis.url}/3"})

    ask(proxy, "/items/a")

    with replicas.redis.client() as client:
        client("SELECT", 3)
        until(lambda: client("DBSIZE") > 0, "an entry in database 3")
    assert replicas.redis.names() == []


def test_an_entry_that_one_replaces_is_replaced_for_the_other(replicas):
    first, second = replicas.replica(), replicas.replica()
    stored(replicas, first, "/items/a")
    assert status(ask(second, "/items/a")) == "hit"
    replicas.origin.version = 2

    renewed = ask(first, "/items/a?fresh=yes")

    assert renewed.content == replicas.origin.body("/items/a")
    until(lambda: ask(second, "/items/a").content == renewed.content, "the other has the new one", 2 * SECOND)
    assert replicas.origin.count("/items/a") == 2


SCOPES = {
    "url": {"url": "/items/a"},
    "prefix": {"prefix": "/ite"},
    "tag": {"tag": "item:a"},
    "tag-prefix": {"tag": "ite*"},
    "route": {"route": "/items/{name}"},
    "all": {"all": True},
}


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_purge_at_one_replica_is_heard_by_the_other_within_a_second(replicas, scope, soft):
    cache = {**ITEMS[0]["cache"], "stale_while_revalidate": "5m"}
    replicas.routes = [{**ITEMS[0], "cache": cache}]
    here, there = replicas.replica(), replicas.replica()
    old = stored(replicas, here, "/items/a").content
    assert [status(ask(proxy, "/items/a")) for proxy in (here, there, there)] == ["hit"] * 3
    replicas.origin.version = 2
    new = replicas.origin.body("/items/a")

    done = purge(here, **SCOPES[scope], soft=soft)
    heard = time.monotonic()

    assert (done.status_code, done.json()["pending"]) == (200, False)
    own = ask(here, "/items/a")
    if soft:
        assert (status(own), own.content) in [("stale", old), ("hit", new), ("miss", new)]
    else:
        assert (status(own), own.content) == ("miss", new)

    def forgotten() -> bool:
        answer = ask(there, "/items/a")
        assert answer.status_code == 200
        return (status(answer), answer.content) != ("hit", old)

    until(forgotten, "the other forgets it", SECOND)
    assert time.monotonic() - heard < SECOND
    for proxy in (here, there):
        until(lambda proxy=proxy: ask(proxy, "/items/a").content == new, "the new one")
    if not soft:
        assert replicas.origin.count("/items/a") == 2


def test_a_purge_spares_what_it_does_not_name(replicas):
    here, there = replicas.replica(), replicas.replica()
    for path in ("/items/a", "/items/b"):
        stored(replicas, here, path)
        assert status(ask(there, path)) == "hit"

    purge(here, tag="item:a")

    until(lambda: status(ask(there, "/items/a")) != "hit" or replicas.origin.count("/items/a") == 2, "a is gone")
    assert [status(ask(proxy, "/items/b")) for proxy in (here, there)] == ["hit", "hit"]
    assert replicas.origin.count("/items/b") == 1


def test_a_purge_counts_for_a_replica_that_starts_later(replicas):
    first = replicas.replica()
    stored(replicas, first, "/items/a")
    replicas.origin.version = 2
    purge(first, prefix="/items/").raise_for_status()

    second = replicas.replica()
    answer = ask(second, "/items/a")

    assert answer.content == replicas.origin.body("/items/a")


def test_what_was_being_fetched_at_one_while_the_other_purged_is_not_kept(replicas):
    here, there = replicas.replica(), replicas.replica()
    stored(replicas, here, "/items/mark")
    assert status(ask(there, "/items/mark")) == "hit"
    replicas.origin.hold("/items/a")
    with there.connect() as sock:
        sock.sendall(b"GET /items/a HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")
        until(lambda: replicas.origin.count("/items/a") == 1, "the fetch begins")
        purge(here, tag="items").raise_for_status()
        until(lambda: status(ask(there, "/items/mark")) == "miss" or replicas.origin.count("/items/mark") == 2, "heard")
        replicas.origin.release("/items/a")
        while sock.recv(65536):
            pass

    ask(there, "/items/a")

    assert replicas.origin.count("/items/a") == 2


def test_a_replica_that_ends_leaves_what_it_fetched_last_and_no_lease(replicas):
    proxy = replicas.replica()
    replicas.origin.hold("/items/a")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, proxy, "/items/a")
        until(lambda: replicas.origin.count("/items/a") == 1, "it is being fetched")
        proxy.signal()
        until(lambda: any(event.get("message") == "draining" for event in proxy.events()), "it drains")
        # Until nothing but what is in flight is left.
        time.sleep(0.3)
        replicas.origin.release("/items/a")
        assert asked.result().status_code == 200
    assert proxy.wait() == 0

    assert len(replicas.redis.entries()) == 1
    assert [name for name in replicas.redis.names() if ":l:" in name] == []
    assert status(ask(replicas.replica(), "/items/a")) == "hit"


def test_a_write_at_one_replica_ends_the_entries_of_the_other(replicas):
    here, there = replicas.replica(), replicas.replica()
    for path in ("/items/a", "/items/b"):
        stored(replicas, here, path)
        assert status(ask(there, path)) == "hit"
    replicas.origin.version = 2

    assert ask(here, "/items/a/rename", "POST").status_code == 200

    assert ask(here, "/items/a").content == replicas.origin.body("/items/a")
    until(lambda: ask(there, "/items/a").content == replicas.origin.body("/items/a"), "the other forgets it", SECOND)
    assert replicas.origin.count("/items/b") == 1


def test_an_unsafe_request_at_one_replica_ends_its_url_at_the_other(replicas):
    here, there = replicas.replica(), replicas.replica()
    stored(replicas, here, "/items/a")
    assert status(ask(there, "/items/a")) == "hit"
    replicas.origin.version = 2

    assert ask(here, "/items/a", "PUT").status_code == 200

    until(lambda: ask(there, "/items/a").content == replicas.origin.body("/items/a"), "the other forgets it", SECOND)


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "redis-only"])
def test_each_variant_has_a_name_of_its_own_and_is_shared(replicas, fake, memory):
    def script(sock, request):
        language = "/".join(request.all("x-lang")) or "none"
        sock.sendall(ok(language.encode(), "Vary: X-Lang", "Cache-Control: max-age=600"))

    replicas.backend = fake(script)
    cache = {} if memory else NO_MEMORY
    first = replicas.replica(**cache)
    languages = ("de", "en", "fr")
    for language in languages:
        assert ask(first, "/greeting", x_lang=language).text == language
    until(lambda: len(replicas.redis.names("touchline:v:*")) == 3, "three variants in Redis")

    second = replicas.replica(**cache)
    found = [ask(second, "/greeting", x_lang=language) for language in languages]
    other = ask(second, "/greeting", x_lang="it")

    assert [(answer.text, status(answer)) for answer in found] == [(language, "hit") for language in languages]
    assert (other.text, status(other)) == ("it", "miss")
    assert len(replicas.redis.names("touchline:e:*")) == 1
    assert len(replicas.backend.requests) == 4
    assert hits(second, "redis") == 3


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, MIB])
def test_a_body_of_any_size_up_to_the_limit_comes_back_whole(replicas, size):
    replicas.origin.sizes["/items/large"] = size
    first, second = replicas.replica(**NO_MEMORY), replicas.replica(**NO_MEMORY)
    miss = ask(first, "/items/large")
    replicas.redis.wait_for_entries(1)

    full = until(lambda: (got := ask(second, "/items/large")) and status(got) == "hit" and got, "a hit from Redis")
    head = ask(second, "/items/large", "HEAD")
    same = ask(second, "/items/large", if_none_match=full.headers["etag"])

    assert miss.content == full.content == replicas.origin.body("/items/large")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", full.headers["etag"])
    assert [status(answer) for answer in (head, same)] == ["hit", "hit"]
    assert replicas.origin.count("/items/large") == 1


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "redis-only"])
def test_a_range_of_an_entry_from_redis_is_206(replicas, memory):
    replicas.origin.sizes["/items/large"] = 100_000
    cache = {} if memory else NO_MEMORY
    first, second = replicas.replica(**cache), replicas.replica(**cache)
    stored(replicas, first, "/items/large")

    part = ask(second, "/items/large", range="bytes=65000-66999")
    beyond = ask(second, "/items/large", range="bytes=100000-")

    assert (part.status_code, status(part)) == (206, "hit")
    assert part.headers["content-range"] == "bytes 65000-66999/100000"
    assert part.content == replicas.origin.body("/items/large")[65_000:67_000]
    assert beyond.status_code == 416
    assert replicas.origin.count("/items/large") == 1


def test_a_body_over_the_limit_is_not_stored_anywhere(replicas):
    replicas.origin.sizes["/items/large"] = MIB + 1
    proxy = replicas.replica(**NO_MEMORY)

    answers = [ask(proxy, "/items/large") for _ in range(2)]

    assert [len(answer.content) for answer in answers] == [MIB + 1] * 2
    assert replicas.origin.count("/items/large") == 2
    assert replicas.redis.entries() == []


def test_the_etag_of_equal_bytes_is_the_same_at_every_replica(replicas, redis_server):
    apart = redis_server()
    here, there = replicas.replica(), replicas.replica(redis={"url": apart.url})

    answers = [ask(proxy, "/items/a") for proxy in (here, there) for _ in range(2)]

    assert replicas.origin.count("/items/a") == 2
    tags = {answer.headers["etag"] for answer in answers if status(answer) == "hit"}
    assert len(tags) == 1


SECRETS = {
    "Authorization": "Bearer canary-bearer",
    "Cookie": "session=canary-cookie; theme=dark",
    "X-API-Key": "canary-api-key",
    "X-Lang": "canary-language",
    "Proxy-Authorization": "Basic canary-basic",
}


def test_no_credential_is_ever_sent_to_redis(replicas):
    replicas.origin.fields = ["Vary: X-Lang"]
    monitor = replicas.redis.monitor()
    first = replicas.replica(identity_secret="canary-identity-secret-0123456789")
    second = replicas.replica(identity_secret="canary-identity-secret-0123456789", **NO_MEMORY)
    for proxy in (first, second):
        for path in ("/items/a", "/items/b", "/elsewhere"):
            ask(proxy, path, **SECRETS)
            ask(proxy, path, **{**SECRETS, "Authorization": "Bearer canary-other"})
        ask(proxy, "/items/a/rename", "POST", **SECRETS)
        purge(proxy, tag="item:b")
    replicas.redis.wait_for_entries(2)
    monitor.wait_until_quiet("SET GET GETRANGE DEL UNLINK XADD PUBLISH")

    assert "SET" in {one.name for one in monitor.commands()}
    assert "canary" not in monitor.text()
    assert b"canary" not in everything(replicas.redis)


def test_a_cookie_or_a_field_in_the_key_is_in_redis_as_a_hash_at_most(replicas):
    key = {"cookies": ["session"], "headers": ["X-Tenant"]}
    replicas.routes = [{"path": "/items/{name}", "cache": {"ttl": "10m", "public": True, "key": key}}]
    monitor = replicas.redis.monitor()
    first, second = replicas.replica(), replicas.replica()
    fields = {"Cookie": "session=canary-cookie", "X-Tenant": "canary-tenant"}

    ask(first, "/items/a", **fields)
    replicas.redis.wait_for_entries(1)
    same = ask(second, "/items/a", **fields)
    other = ask(second, "/items/a", **{**fields, "Cookie": "session=canary-other"})

    assert [status(same), status(other)] == ["hit", "miss"]
    monitor.wait_until_quiet("SET GET GETRANGE DEL UNLINK XADD PUBLISH")
    assert "canary" not in monitor.text()


def everything(server) -> bytes:
    """All names and all values of a server."""
    with server.client() as client:
        names = client("KEYS", "*")
        kinds = client.pipeline([("TYPE", name) for name in names])
        parts = list(names)
        for name, kind in zip(names, kinds, strict=True):
            value = client("GET", name) if kind == "string" else client("XRANGE", name, "-", "+")
            parts.append(value if isinstance(value, bytes) else repr(value).encode())
    return b"\n".join(parts)


# Where the names stand in a command; a command that is not here has no place on the way of a request.
FIRST = "GET GETRANGE SET DEL UNLINK GETDEL EXPIRE PEXPIRE PEXPIREAT PTTL EXISTS STRLEN GETEX INCR INCRBY XADD XTRIM XRANGE XREVRANGE XLEN"
CHANNELS = "PUBLISH SPUBLISH SUBSCRIBE SSUBSCRIBE UNSUBSCRIBE SUNSUBSCRIBE"
NAMELESS = "HELLO AUTH CLIENT SELECT PING ECHO TIME SCRIPT ROLE COMMAND RESET QUIT MULTI EXEC INFO"


def names_in(words: list[str]) -> list[str]:
    name = words[0].upper()
    if name in FIRST.split():
        return words[1:2]
    if name in CHANNELS.split():
        return words[1:2] if name.endswith("PUBLISH") else words[1:]
    if name in ("EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"):
        return words[3 : 3 + int(words[2])]
    if name == "XREAD":
        streams = words[[word.upper() for word in words].index("STREAMS") + 1 :]
        return streams[: len(streams) // 2]
    if name == "XINFO":
        return words[2:3]
    assert name in NAMELESS.split(), f"{name} is sent to Redis: {words[:4]}"
    return []


@pytest.mark.parametrize("prefix", ["touchline:", "eu-1/coach:"])
def test_every_name_has_the_prefix_and_no_command_scans_or_takes_many_keys(replicas, prefix):
    monitor = replicas.redis.monitor()
    here, there = (replicas.replica(redis={"prefix": prefix}, **cache) for cache in ({}, NO_MEMORY))
    for proxy in (here, there):
        for number in range(5):
            ask(proxy, f"/items/{number}")
        ask(proxy, "/items/1/rename", "POST")
        for scope in SCOPES.values():
            purge(proxy, **scope).raise_for_status()
            ask(proxy, "/items/a")
        ask(proxy, "/items/a")
    replicas.redis.wait_for_entries(1, prefix)
    here.terminate()
    there.terminate()
    monitor.wait_until_quiet("SET GET GETRANGE DEL UNLINK XADD PUBLISH")

    sent = [one for one in monitor.commands() if one.client != "lua"]
    used = [name for one in sent for name in names_in(one.words)]
    assert len(used) > 20
    assert {name for name in used if not name.startswith(prefix)} == set()
    assert [one.words[:4] for one in sent if one.name in ("DEL", "UNLINK", "EXISTS") and len(one.words) > 2] == []
    inside = {name for one in monitor.commands() if one.client == "lua" for name in names_in(one.words)}
    assert {name for name in inside if not name.startswith(prefix)} == set()
    assert {name for name in replicas.redis.names() if not name.startswith(prefix)} == set()


def test_every_name_in_redis_ends_by_itself(replicas):
    proxy = replicas.replica()
    for number in range(5):
        ask(proxy, f"/items/{number}")
    purge(proxy, tag="items")
    purge(proxy, all=True, soft=True)
    ask(proxy, "/items/a")
    replicas.redis.wait_for_entries(6)

    with replicas.redis.client() as client:
        names = client("KEYS", "*")
        left = dict(zip(names, client.pipeline([("PTTL", name) for name in names]), strict=True))

    # -1 is a name that never ends; -2 is one that has ended since the names were read.
    endless = {name for name, ms in left.items() if ms == -1}
    assert endless == set(), left
    # 10 minutes with their jitter, and an hour in which the answer may serve while the backend is away.
    entries = [ms for name, ms in left.items() if b":e:" in name]
    assert entries and 9 * 60_000 <= min(entries) and max(entries) <= 26 * 3_600_000, left


def test_a_name_in_redis_tells_nothing_about_the_url(replicas):
    proxy = replicas.replica()

    ask(proxy, "/items/somebody@example.org")

    for name in replicas.redis.wait_for_entries(1):
        assert re.fullmatch(r"touchline:e:\{[0-9a-fA-F]{64}\}", name), name


def test_a_value_of_an_unknown_layout_is_a_plain_miss(replicas):
    first, second = replicas.replica(**NO_MEMORY), replicas.replica(**NO_MEMORY)
    name = name_of(replicas, first, "/items/a")
    value = replicas.redis.run("GET", name)
    assert value[:4] == b"TLCE"
    replicas.redis.run("SET", name, value[:4] + b"\xfe" + value[5:], "PX", 60_000)

    answer = ask(second, "/items/a")

    assert (answer.status_code, status(answer)) == (200, "miss")
    assert answer.content == replicas.origin.body("/items/a")
    assert metric(second, "values_rejected_total") == 0
    until(lambda: status(ask(first, "/items/a")) == "hit", "its own layout is stored again")


STRANGERS = {
    "text": b"not an entry",
    "empty": b"",
    "magic": b"TLCE",
    "zeros": bytes(4096),
    "long": b"TLCE" + b"\xff" * 100_000,
}


def rejected_once(proxy) -> bool:
    """One request reads a value twice, the second time with its lease, and it may not be deleted yet by then."""
    return metric(proxy, "values_rejected_total") in (1, 2)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_value_that_is_no_entry_is_a_miss_and_goes(replicas, stranger):
    proxy = replicas.replica(**NO_MEMORY)
    name = name_of(replicas, proxy, "/items/a")
    # What is fetched now may not be stored, so that nothing but the deletion ends the value.
    replicas.origin.fields = ["Cache-Control: no-store"]
    replicas.redis.run("SET", name, STRANGERS[stranger], "PX", 60_000)

    answer = ask(proxy, "/items/a")

    assert (answer.status_code, status(answer)) == (200, "miss")
    assert answer.content == replicas.origin.body("/items/a")
    # The version of the long one is unknown, so it may be somebody's; an empty one is the same as none.
    if stranger not in ("long", "empty"):
        until(lambda: name not in replicas.redis.names(), "the value is deleted")
        assert rejected_once(proxy)


def test_a_name_of_another_type_is_a_miss(replicas):
    proxy = replicas.replica(**NO_MEMORY)
    name = name_of(replicas, proxy, "/items/a")
    replicas.redis.run("DEL", name)
    replicas.redis.run("LPUSH", name, "x")

    answers = [ask(proxy, "/items/a") for _ in range(10)]

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.content for answer in answers} == {replicas.origin.body("/items/a")}
    assert is_up(proxy)


def test_a_value_under_the_name_of_another_url_is_never_served_and_deleted(replicas):
    proxy = replicas.replica(**NO_MEMORY)
    mine, other = (name_of(replicas, proxy, path) for path in ("/items/mine", "/items/other"))
    replicas.origin.fields = ["Cache-Control: no-store"]
    replicas.redis.run("SET", mine, replicas.redis.run("GET", other), "PX", 60_000)

    answer = ask(proxy, "/items/mine")

    assert (answer.status_code, status(answer)) == (200, "miss")
    assert answer.content == replicas.origin.body("/items/mine")
    until(lambda: mine not in replicas.redis.names(), "the value is deleted")
    assert rejected_once(proxy)
    assert status(ask(proxy, "/items/other")) == "hit"


def test_a_value_that_was_not_signed_with_our_secret_is_never_served(replicas):
    here = replicas.replica(identity_secret="first-secret-0123456789abcdef0123", **NO_MEMORY)
    there = replicas.replica(identity_secret="other-secret-0123456789abcdef0123", **NO_MEMORY)
    plain = replicas.replica(**NO_MEMORY)
    name = name_of(replicas, here, "/items/a")
    assert status(ask(here, "/items/a")) == "hit"

    for number, proxy in enumerate((there, plain), start=2):
        value = replicas.redis.run("GET", name)
        answer = ask(proxy, "/items/a")
        assert (answer.status_code, status(answer)) == (200, "miss")
        assert replicas.origin.count("/items/a") == number
        assert rejected_once(proxy)
        until(lambda value=value: replicas.redis.run("GET", name) not in (None, value), "its own value is stored")


def test_an_expired_entry_is_not_served_by_anyone(replicas):
    replicas.routes = [{"path": "/items/{name}", "cache": {"ttl": "2s", "public": True}}]
    first, second = replicas.replica(), replicas.replica(**NO_MEMORY)
    stored(replicas, first, "/items/a")
    assert status(ask(second, "/items/a")) == "hit"
    replicas.origin.version = 2

    for proxy in (second, first):
        until(
            lambda proxy=proxy: ask(proxy, "/items/a").content == replicas.origin.body("/items/a"),
            "the entry ends",
            deadline_s=6,
            every_s=0.05,
        )


def test_the_age_counts_from_the_fetch_and_not_from_the_read(replicas):
    first = replicas.replica()
    stored(replicas, first, "/items/a")
    until(lambda: int(ask(first, "/items/a").headers["age"]) >= 2, "two seconds of age", 5, every_s=0.05)

    second = replicas.replica()

    assert int(ask(second, "/items/a").headers["age"]) >= 2


def test_the_state_of_redis_is_told_by_metrics_statistics_and_health(replicas):
    proxy = replicas.replica()
    ask(proxy, "/items/a")

    stats = proxy.admin.get("/performance/cache/stats").json()["redis_stats"]

    assert is_up(proxy)
    assert (stats["redis_available"], stats["redis_url_configured"]) == (True, True)
    assert proxy.admin.get("/health").json()["checks"]["redis"]["ok"] is True
    replicas.redis.kill()
    wait_until_given_up(proxy)
    stats = proxy.admin.get("/performance/cache/stats").json()["redis_stats"]
    assert (stats["redis_available"], stats["redis_url_configured"]) == (False, True)
    assert proxy.status_of("/readyz") == 200


def test_observe_and_off_write_nothing_to_redis(replicas):
    for mode in ("off", "observe"):
        proxy = replicas.replica(mode=mode, wait=False)
        for _ in range(3):
            ask(proxy, "/items/a").raise_for_status()

    assert replicas.redis.entries() == []


def test_a_reload_of_the_page_loop_does_not_reach_the_backend(replicas):
    here, there = replicas.replica(), replicas.replica()
    stored(replicas, here, "/items/a")

    answers = [ask(there, "/items/a", cache_control="no-cache") for _ in range(5)]

    assert {status(answer) for answer in answers} == {"hit"}
    assert replicas.origin.count("/items/a") == 1


def test_a_hanging_redis_is_waited_for_no_longer_than_the_deadlines(replicas, fault_proxy):
    between = fault_proxy(replicas.redis.address)
    proxy = replicas.replica(redis={"url": between.url}, patient=False, **NO_MEMORY)
    ask(proxy, "/items/a")
    between.mode = "hang"

    begun = time.monotonic()
    answer = ask(proxy, "/items/a")

    assert (answer.status_code, answer.content) == (200, replicas.origin.body("/items/a"))
    # A read and a lease take 20 ms each; the rest is for a loaded machine.
    assert time.monotonic() - begun < 0.5
