"""Redis that is gone, hangs, is slow, full, read-only, loading, locked or empty: no request fails, and it comes back."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from support.fault_proxy import FaultProxy
from support.load import Load
from support.ports import free_port
from support.redis import RedisServer
from support.replicas import (
    NO_MEMORY,
    ask,
    is_up,
    metric,
    purge,
    told,
    wait_for_redis,
    wait_until_given_up,
    wait_until_written,
)
from support.resp import RedisClient
from support.wait import until

# Time for a breaker that has doubled its pause a few times to try again.
BACK_S = 15.0


def paths(number: int) -> str:
    """Twenty names that are asked for again and again, and every fifth time one that nobody had."""
    return f"/items/cold-{number}" if number % 5 == 0 else f"/items/hot-{number % 20}"


@dataclass
class Between:
    """A Redis and the fault proxy before it."""

    server: RedisServer
    proxy: FaultProxy | None = None
    # A connection that a fault keeps to itself.
    held: RedisClient | None = None


def killed(redis: Between) -> None:
    redis.server.kill()


def started(redis: Between) -> None:
    redis.server.start()


def hung(redis: Between) -> None:
    redis.server.pause()


def resumed(redis: Between) -> None:
    redis.server.resume()


def slow(redis: Between) -> None:
    redis.proxy.delay_s = 0.1


def asleep(redis: Between) -> None:
    redis.server.run("DEBUG", "SLEEP", "0.8")


def blackholed(redis: Between) -> None:
    redis.proxy.mode = "hang"


def refused(redis: Between) -> None:
    redis.proxy.mode = "refuse"
    redis.proxy.drop()


def dropped(redis: Between) -> None:
    redis.proxy.drop()


def garbled(redis: Between) -> None:
    redis.proxy.mode = "garbage"


def cut(redis: Between) -> None:
    redis.proxy.mode = "cut"


def healed(redis: Between) -> None:
    redis.proxy.mode, redis.proxy.delay_s = "pass", 0.0


def full(redis: Between) -> None:
    redis.server.run("CONFIG", "SET", "maxmemory", "1")


def emptied(redis: Between) -> None:
    redis.server.run("CONFIG", "SET", "maxmemory", "0")


def read_only(redis: Between) -> None:
    redis.server.run("REPLICAOF", "127.0.0.1", "1")


def cut_from_its_primary(redis: Between) -> None:
    redis.server.run("CONFIG", "SET", "replica-serve-stale-data", "no")
    redis.server.run("REPLICAOF", "127.0.0.1", "1")


def promoted(redis: Between) -> None:
    redis.server.run("REPLICAOF", "NO", "ONE")


def loading(redis: Between) -> None:
    """A start from a file whose keys take 10 ms each, with commands heard after each of them."""
    with redis.server.client() as client:
        client.pipeline([("SET", f"other:{number}", "x" * 2000) for number in range(200)])
        client("SAVE")
    redis.server.kill()
    redis.server.start("key-load-delay 10000", "loading-process-events-interval-bytes 1024", "rdbcompression no")


def locked(redis: Between) -> None:
    redis.server.run("CONFIG", "SET", "requirepass", "canary-redis-password")
    redis.server.drop_clients()


def unlocked(redis: Between) -> None:
    redis.server.run("CONFIG", "SET", "requirepass", "")


def forbidden(redis: Between) -> None:
    redis.server.run("ACL", "SETUSER", "default", "-@all", "+hello", "+client", "+ping")


def allowed(redis: Between) -> None:
    redis.server.run("ACL", "SETUSER", "default", "+@all")


def crowded(redis: Between) -> None:
    redis.held = redis.server.client()
    redis.held("CONFIG", "SET", "maxclients", "1")
    redis.held("CLIENT", "KILL", "TYPE", "normal")
    redis.held("CLIENT", "KILL", "TYPE", "pubsub")


def roomy(redis: Between) -> None:
    redis.held("CONFIG", "SET", "maxclients", "1000")


def flushed(redis: Between) -> None:
    redis.server.run("FLUSHALL")


def restarted(redis: Between) -> None:
    redis.server.kill()
    redis.server.start()


def of_another_version(redis: Between) -> None:
    with redis.server.client() as client:
        names = client("KEYS", "touchline:e:*")
        values = client.pipeline([("GET", name) for name in names])
        client.pipeline(
            [
                ("SET", name, value[:4] + b"\xfe" + value[5:], "PX", 60_000)
                for name, value in zip(names, values, strict=True)
                if value
            ]
        )


def nothing(_: Between) -> None:
    pass


# What breaks it, what mends it, and whether the tier has to be given up meanwhile.
FAULTS = {
    "killed": (killed, started, True),
    "hung": (hung, resumed, True),
    "slow": (slow, healed, True),
    "asleep": (asleep, nothing, False),
    "blackholed": (blackholed, healed, True),
    "refused": (refused, healed, True),
    "dropped": (dropped, nothing, False),
    "garbled": (garbled, healed, True),
    "cut": (cut, healed, True),
    "full": (full, emptied, False),
    "read-only": (read_only, promoted, False),
    "cut-from-its-primary": (cut_from_its_primary, promoted, False),
    "loading": (loading, nothing, False),
    "locked": (locked, unlocked, True),
    "forbidden": (forbidden, allowed, False),
    "crowded": (crowded, roomy, True),
    "flushed": (flushed, nothing, False),
    "restarted": (restarted, nothing, False),
    "of-another-version": (of_another_version, nothing, False),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_request_fails_and_answers_are_stored_again(replicas, fault_proxy, fault):
    breaks, mends, gives_up = FAULTS[fault]
    redis = Between(replicas.redis, fault_proxy(replicas.redis.address))
    both, bare = (
        replicas.replica(redis={"url": redis.proxy.url}, patient=False, **cache) for cache in ({}, NO_MEMORY)
    )

    with Load([both.address, bare.address], paths, replicas.origin.body) as load:
        load.go_on(100)
        breaks(redis)
        load.go_on(200, seconds=1.0)
        if gives_up:
            until(lambda: not is_up(bare), "the tier is given up", 5, every_s=0.05)
        mends(redis)
        for proxy in (both, bare):
            wait_for_redis(proxy, deadline_s=BACK_S)
            wait_until_written(proxy, redis.server, BACK_S)
        load.go_on(50)

    load.assert_all_answered(at_least=350)
    if gives_up:
        lines = told(bare)
        states = [line for line in lines if line != "not"]
        assert "down" in states and states[-1] == "up", lines
        assert not [pair for pair in zip(states, states[1:], strict=False) if pair[0] == pair[1]], lines
        # A line for each change, and for each new reason why a try failed; never one for a request.
        assert len(lines) <= 10, lines
    assert "canary" not in both.log(10**9) + bare.log(10**9)


@pytest.mark.parametrize("fault", ["refused", "hung", "locked"])
def test_it_starts_ready_without_redis_and_finds_it_later(replicas, fault_proxy, fault):
    redis = Between(replicas.redis, fault_proxy(replicas.redis.address))
    breaks, mends = {"refused": (refused, healed), "hung": (hung, resumed), "locked": (locked, unlocked)}[fault]
    breaks(redis)

    begun = time.monotonic()
    proxy = replicas.replica(redis={"url": redis.proxy.url}, patient=False, wait=False)
    ready_s = time.monotonic() - begun

    assert ready_s < 2, ready_s
    assert not is_up(proxy)
    with Load([proxy.address], paths, replicas.origin.body) as load:
        load.go_on(200)
        assert not is_up(proxy)
        mends(redis)
        wait_for_redis(proxy, deadline_s=BACK_S)
        wait_until_written(proxy, redis.server, BACK_S)
    load.assert_all_answered(at_least=200)


def test_a_wrong_password_is_told_and_never_shown_and_tried_at_most_once_a_second(replicas, redis_server):
    server = redis_server("requirepass canary-right-password")
    address = f"redis://:canary-wrong-password@127.0.0.1:{server.port}"
    proxy = replicas.replica(redis={"url": address}, patient=False, wait=False)

    begun, before = time.monotonic(), connections(server)
    with Load([proxy.address], paths, replicas.origin.body) as load:
        load.go_on(200, seconds=3.0)
    tried, seconds = connections(server) - before, time.monotonic() - begun

    load.assert_all_answered(at_least=200)
    assert not is_up(proxy)
    about = [event for event in proxy.events() if "redis" in str(event).lower()]
    assert 1 <= len(about) <= 5, about
    assert any(word in str(event).lower() for event in about for word in ("auth", "password", "wrongpass")), about
    assert "canary" not in proxy.log(10**9)
    # Four connections for operations and one to listen; our own two questions count as well.
    assert tried <= 5 * (seconds + 1) + 2, tried


def connections(server: RedisServer) -> int:
    """How many connections a server has accepted so far."""
    facts = server.run("INFO", "stats").decode()
    return int(facts.split("total_connections_received:", 1)[1].split()[0])


def test_a_flushed_redis_costs_one_fetch_a_key_for_all_replicas(replicas):
    here, there = (replicas.replica(**NO_MEMORY) for _ in range(2))
    names = [f"/items/{number}" for number in range(8)]
    for path in names:
        ask(here, path)
    replicas.redis.wait_for_entries(8)
    for path in names:
        replicas.origin.hold(path)
    flushed(Between(replicas.redis))

    with ThreadPoolExecutor(64) as pool:
        answers = [pool.submit(ask, proxy, path) for path in names for proxy in (here, there) * 4]
        until(lambda: all(replicas.origin.count(path) == 2 for path in names), "one fetch of each")
        for path in names:
            replicas.origin.release(path)
        for path, answer in zip([path for path in names for _ in range(8)], answers, strict=True):
            assert (answer.result().status_code, answer.result().content) == (200, replicas.origin.body(path))

    assert [replicas.origin.count(path) for path in names] == [2] * 8


def test_what_redis_refuses_to_store_is_served_and_counted(replicas):
    proxy = replicas.replica(**NO_MEMORY)
    full(Between(replicas.redis))

    answers = [ask(proxy, f"/items/{number}") for number in range(10)]

    assert {answer.status_code for answer in answers} == {200}
    until(lambda: metric(proxy, "redis_errors_total") >= 1, "the refusals are counted")
    assert replicas.redis.entries() == []


def test_entries_in_memory_live_no_longer_than_blind_ttl_while_redis_is_gone(replicas):
    proxy = replicas.replica(patient=False, blind_ttl="1s")
    ask(proxy, "/items/a")
    replicas.redis.wait_for_entries(1)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert ask(proxy, "/items/a").headers["x-cache-status"] == "hit"
    assert replicas.origin.count("/items/a") == 1

    replicas.redis.kill()
    replicas.origin.version = 2

    until(
        lambda: ask(proxy, "/items/a").content == replicas.origin.body("/items/a"),
        "the entry ends",
        deadline_s=6,
        every_s=0.02,
    )


def test_entries_in_memory_are_served_while_redis_is_gone_until_blind_ttl(replicas):
    proxy = replicas.replica(patient=False, blind_ttl="60s")
    ask(proxy, "/items/a")
    replicas.redis.kill()
    wait_until_given_up(proxy)

    answers = [ask(proxy, "/items/a") for _ in range(20)]

    assert {answer.headers["x-cache-status"] for answer in answers} == {"hit"}
    assert replicas.origin.count("/items/a") == 1


def test_a_redis_that_hangs_is_noticed_when_nobody_asks_it(replicas):
    proxy = replicas.replica(patient=False)
    ask(proxy, "/items/a")
    replicas.redis.wait_for_entries(1)

    replicas.redis.pause()

    # Hits from memory ask nobody, and yet purges elsewhere cannot be heard any more.
    wait_for_redis(proxy, up=False, deadline_s=5)
    assert ask(proxy, "/items/a").headers["x-cache-status"] == "hit"


def test_entries_in_memory_live_no_longer_than_blind_ttl_while_redis_hangs_and_nobody_asks_it(replicas):
    proxy = replicas.replica(patient=False, blind_ttl="1s")
    ask(proxy, "/items/a")
    replicas.redis.wait_for_entries(1)
    replicas.redis.pause()
    replicas.origin.version = 2

    until(
        lambda: ask(proxy, "/items/a").content == replicas.origin.body("/items/a"),
        "the entry ends",
        deadline_s=8,
        every_s=0.02,
    )


@pytest.mark.parametrize("first", ["purger", "other"])
@pytest.mark.parametrize("earlier", ["with-earlier-marks", "without-marks"])
def test_what_was_purged_stays_so_when_redis_comes_back_with_an_older_state(replicas, earlier, first):
    purger, other = (replicas.replica(patient=False, **NO_MEMORY) for _ in range(2))
    if earlier == "with-earlier-marks":
        assert purge(purger, tag="something-else").status_code == 200
    old = ask(purger, "/items/a").content
    replicas.redis.wait_for_entries(1)
    # As a server with snapshots does before it is killed, or a replica that was behind before it is promoted.
    replicas.redis.run("SAVE")
    replicas.origin.version = 2
    assert purge(purger, tag="item:a").status_code == 200
    until(lambda: ask(other, "/items/a").content != old, "the other hears of it", 1)

    replicas.redis.kill()
    for proxy in (purger, other):
        wait_until_given_up(proxy)
    replicas.redis.start()
    assert len(replicas.redis.entries()) == 1
    for proxy in (purger, other):
        wait_for_redis(proxy, deadline_s=BACK_S)

    asked = (purger, other) if first == "purger" else (other, purger)
    served = [ask(proxy, "/items/a").content for proxy in asked * 10]

    assert old not in served


@pytest.mark.parametrize("loss", ["evicted", "restored"])
def test_purges_that_redis_has_lost_hold_for_a_replica_that_starts_later(replicas, loss):
    proxy = replicas.replica(patient=False)
    old = ask(proxy, "/items/a").content
    replicas.redis.wait_for_entries(1)
    replicas.redis.run("SAVE")
    replicas.origin.version = 2
    assert purge(proxy, tag="item:a").json()["pending"] is False

    if loss == "evicted":
        replicas.redis.run("UNLINK", "touchline:marks")
    else:
        replicas.redis.kill()
        wait_until_given_up(proxy)
        replicas.redis.start()
        wait_for_redis(proxy, deadline_s=BACK_S)
    until(lambda: int(replicas.redis.run("XLEN", "touchline:marks")) > 0, "the loss is made good", 1)
    assert len(replicas.redis.entries()) == 1

    assert ask(replicas.replica(), "/items/a").content != old


@pytest.mark.parametrize("fault", ["refused", "blackholed", "killed"])
def test_a_purge_while_redis_is_gone_holds_here_and_reaches_the_others_later(replicas, fault_proxy, fault):
    breaks, mends, _ = FAULTS[fault]
    redis = Between(replicas.redis, fault_proxy(replicas.redis.address))
    here = replicas.replica(redis={"url": redis.proxy.url}, patient=False)
    there = replicas.replica(patient=False, **(NO_MEMORY if fault == "killed" else {}))
    old = ask(here, "/items/a").content
    replicas.redis.wait_for_entries(1)
    assert ask(there, "/items/a").headers["x-cache-status"] == "hit"
    breaks(redis)
    wait_until_given_up(here)
    replicas.origin.version = 2

    done = purge(here, tag="item:a")

    assert (done.status_code, done.json()["pending"]) == (202, True)
    assert ask(here, "/items/a").content != old
    if fault != "killed":
        # It cannot know yet.
        assert ask(there, "/items/a").content == old

    mends(redis)
    served = []
    until(
        lambda: (served.append(ask(here, "/items/a").content), is_up(here))[1],
        "redis is found again",
        BACK_S,
        every_s=0.01,
    )
    assert old not in served, "a purged copy was read from Redis"
    until(lambda: ask(there, "/items/a").content != old, "the other hears of it", 2.0, every_s=0.01)
    for _ in range(20):
        for proxy in (here, there):
            assert ask(proxy, "/items/a").content == replicas.origin.body("/items/a")


def why(proxy) -> str | None:
    """Why Redis is not there, as operators are told."""
    return proxy.admin.get("/performance/cache/stats").json()["redis_stats"]["error"]


def test_operators_are_told_what_broke_the_connection(replicas):
    for url, words in {
        "redis://nobody.invalid:6379": "name not found",
        "redis+unix:///no/such/redis.sock": "no such socket",
        # It takes the handshake for the beginning of a command, and waits for the rest.
        f"rediss://127.0.0.1:{replicas.redis.port}": "timed out",
    }.items():
        other = replicas.replica(redis={"url": url}, patient=False, wait=False)
        until(lambda other=other: why(other), f"{url} is tried", 10)
        assert why(other) == words, url

    proxy = replicas.replica(patient=False)
    assert why(proxy) is None
    replicas.redis.kill()
    until(lambda: why(proxy) == "connection refused", "it says so", 10)
    [health] = [r for r in proxy.admin.get("/performance/health").json()["reasons"] if r["code"] == "redis"]
    assert health["text"] == "Redis connection issues: connection refused"


def test_a_clear_while_redis_is_gone_is_pending_too(replicas):
    proxy = replicas.replica(patient=False)
    ask(proxy, "/items/a")
    replicas.redis.kill()
    wait_until_given_up(proxy)

    done = proxy.control.post("/performance/cache/clear")

    assert (done.status_code, done.json()["pending"]) == (202, True)
    assert ask(proxy, "/items/a").headers["x-cache-status"] == "miss"


def test_purges_in_great_number_while_redis_is_gone_are_all_applied_later(replicas, fault_proxy):
    redis = Between(replicas.redis, fault_proxy(replicas.redis.address))
    here, there = replicas.replica(redis={"url": redis.proxy.url}, patient=False), replicas.replica()
    names = [f"/items/{number}" for number in range(30)]
    for path in names:
        ask(here, path)
    replicas.redis.wait_for_entries(30)
    for path in names:
        ask(there, path)
    refused(redis)
    wait_until_given_up(here)
    replicas.origin.version = 2

    # Writes purge too, and are not held to ten a second.
    for path in names:
        assert ask(here, f"{path}/rename", "POST").status_code == 200
    healed(redis)
    wait_for_redis(here, deadline_s=BACK_S)

    for path in names:
        right = replicas.origin.body(path)
        until(lambda path=path, right=right: ask(there, path).content == right, f"{path} is forgotten", 2.0)


def test_a_redis_that_never_was_is_told_as_down_once(replicas):
    proxy = replicas.replica(
        redis={"url": f"redis://127.0.0.1:{free_port()}"}, patient=False, wait=False
    )
    with Load([proxy.address], paths, replicas.origin.body) as load:
        load.go_on(200, seconds=1.5)

    load.assert_all_answered(at_least=200)
    assert len(told(proxy)) == 1, told(proxy)
    assert told(proxy)[0] in ("down", "not")


def test_a_short_life_of_connections_is_survived(replicas, redis_server):
    server = redis_server("timeout 1")
    replicas.redis = server
    proxy = replicas.replica(patient=False, **NO_MEMORY)
    with Load([proxy.address], paths, replicas.origin.body) as load:
        load.go_on(100)
        for _ in range(5):
            server.drop_clients()
            load.go_on(40)
        wait_for_redis(proxy, deadline_s=BACK_S)
        wait_until_written(proxy, server, BACK_S)
    load.assert_all_answered(at_least=300)
