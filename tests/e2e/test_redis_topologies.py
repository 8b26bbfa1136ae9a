"""Redis as it is run: behind Sentinels, as a Cluster, with TLS, with users of few rights."""

import pytest

from support.load import Load
from support.redis import Certificates, Cluster, RedisServer, Sentinels
from support.replicas import (
    NO_MEMORY,
    PATIENT,
    ITEMS,
    Origin,
    ask,
    hits,
    is_up,
    metric,
    purge,
    wait_for_redis,
    wait_until_written,
)
from support.wait import until


@pytest.fixture
def origin() -> Origin:
    return Origin()


@pytest.fixture
def launch(touchline, fake, origin):
    """Starts a proxy with these settings below `cache.redis`."""
    backend = fake(origin)

    def start(redis: dict, *, patient: bool = True, wait: bool = True, ingress: dict | None = None, **cache):
        settings = {**(PATIENT if patient else {}), **redis}
        proxy = touchline(backend, ingress={"routes": ITEMS, **(ingress or {})}, cache={**cache, "redis": settings})
        if wait:
            wait_for_redis(proxy)
        return proxy

    return start


def paths(number: int) -> str:
    return f"/items/cold-{number}" if number % 5 == 0 else f"/items/hot-{number % 20}"


def sentinel(group: Sentinels, **more) -> dict:
    return {"url": group.url, "mode": "sentinel", "master": group.MASTER, **more}


def test_sentinels_lead_to_the_primary(sentinels, launch, origin):
    first, second = launch(sentinel(sentinels)), launch(sentinel(sentinels))

    miss = ask(first, "/items/a")
    sentinels.primary().wait_for_entries(1)

    assert ask(second, "/items/a").content == miss.content
    assert origin.count("/items/a") == 1
    assert hits(second, "redis") == 1
    assert purge(first, all=True).json()["pending"] is False
    until(lambda: ask(second, "/items/a").headers["x-cache-status"] != "hit" or origin.count("/items/a") > 1, "heard", 1)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["killed", "hung", "ordered"])
def test_a_failover_costs_no_request_and_writes_come_back(sentinels, launch, origin, how):
    both = launch(sentinel(sentinels), patient=False)
    bare = launch(sentinel(sentinels), patient=False, **NO_MEMORY)
    old = sentinels.primary()

    with Load([both.address, bare.address], paths, origin.body) as load:
        load.go_on(100)
        if how == "killed":
            old.kill()
        elif how == "hung":
            old.pause()
        else:
            sentinels.sentinels[0].run("SENTINEL", "FAILOVER", sentinels.MASTER)
        until(lambda: sentinels.primary() is not old, "the Sentinels choose another", 30, every_s=0.05)
        until(lambda: sentinels.primary().run("ROLE")[0] == b"master", "it is promoted", 10, every_s=0.05)
        for proxy in (both, bare):
            wait_until_written(proxy, sentinels.primary(), 10)
        load.go_on(100)

    load.assert_all_answered(at_least=200)
    for proxy in (both, bare):
        wait_for_redis(proxy)


@pytest.mark.timeout(120)
def test_a_purge_before_a_failover_counts_after_it(sentinels, launch, origin):
    here, there = launch(sentinel(sentinels), patient=False), launch(sentinel(sentinels), patient=False, **NO_MEMORY)
    ask(here, "/items/a")
    old = sentinels.primary()
    old.wait_for_entries(1)
    origin.version = 2
    purge(here, tag="item:a").raise_for_status()
    old.run("WAIT", 1, 2000)
    old.kill()
    until(lambda: sentinels.primary() is not old, "the Sentinels choose another", 30, every_s=0.05)

    def served(proxy) -> bytes:
        return ask(proxy, "/items/a").content

    for proxy in (here, there):
        until(lambda proxy=proxy: is_up(proxy), "redis is found again", 20, every_s=0.05)
        for _ in range(20):
            assert served(proxy) == origin.body("/items/a")


def test_one_sentinel_that_is_gone_does_no_harm(sentinels, launch, origin):
    sentinels.sentinels[0].kill()

    proxy = launch(sentinel(sentinels))
    ask(proxy, "/items/a")

    facts = sentinels.sentinels[1].run("SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinels.MASTER)
    primary = next(server for server in sentinels.servers if server.port == int(facts[1]))
    primary.wait_for_entries(1)


def test_a_name_that_no_sentinel_knows_is_down_and_no_request_fails(sentinels, launch, origin):
    proxy = launch({**sentinel(sentinels), "master": "nobody"}, patient=False, wait=False)

    with Load([proxy.address], paths, origin.body) as load:
        load.go_on(200)

    load.assert_all_answered(at_least=200)
    assert not is_up(proxy)


def clustered(cluster: Cluster) -> dict:
    return {"url": cluster.url, "mode": "cluster"}


def stored(cluster: Cluster) -> list[int]:
    """How many entries each node that runs has."""
    return [len(node.entries()) for node in cluster.nodes if node.process.is_running()]


def test_entries_spread_over_all_nodes_and_are_shared(cluster, launch, origin):
    first, second = launch(clustered(cluster)), launch(clustered(cluster))
    names = [f"/items/{number}" for number in range(60)]
    for path in names:
        ask(first, path)
    until(lambda: sum(stored(cluster)) == 60, "all entries are stored", every_s=0.05)

    assert min(stored(cluster)) >= 5, stored(cluster)
    for path in names:
        answer = ask(second, path)
        assert (answer.headers["x-cache-status"], answer.content) == ("hit", origin.body(path))
    assert origin.total() == 60
    assert hits(second, "redis") == 60


def test_variants_stand_beside_their_entry_on_one_node(cluster, launch, origin):
    origin.fields = ["Vary: X-Lang"]
    first, second = launch(clustered(cluster)), launch(clustered(cluster))
    languages = [f"l{number}" for number in range(10)]
    for language in languages:
        ask(first, "/items/a", x_lang=language)
    until(lambda: sum(stored(cluster)) == 11, "entry and variants are stored", every_s=0.05)

    assert sorted(stored(cluster)) == [0, 0, 11]
    assert {ask(second, "/items/a", x_lang=language).headers["x-cache-status"] for language in languages} == {"hit"}


def test_a_purge_is_heard_through_a_cluster(cluster, launch, origin):
    here, there = launch(clustered(cluster)), launch(clustered(cluster))
    names = [f"/items/{number}" for number in range(9)]
    for path in names:
        ask(here, path)
    until(lambda: sum(stored(cluster)) == 9, "all entries are stored", every_s=0.05)
    for path in names:
        assert ask(there, path).headers["x-cache-status"] == "hit"
    origin.version = 2

    done = purge(here, tag="items")

    assert (done.status_code, done.json()["pending"]) == (200, False)
    until(lambda: all(ask(there, path).content == origin.body(path) for path in names), "the other forgets them", 1)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["killed", "hung"])
def test_a_node_that_is_lost_costs_no_request(cluster, launch, origin, how):
    both = launch(clustered(cluster), patient=False)
    bare = launch(clustered(cluster), patient=False, **NO_MEMORY)
    with Load([both.address, bare.address], paths, origin.body) as load:
        load.go_on(150)
        lost = cluster.nodes[2]
        lost.kill() if how == "killed" else lost.pause()
        load.go_on(300, seconds=3.0)
        lost.start() if how == "killed" else lost.resume()
        for proxy in (both, bare):
            wait_for_redis(proxy, deadline_s=20)
        before = sum(stored(cluster))
        until(lambda: sum(stored(cluster)) > before + 20, "answers are stored", 20, every_s=0.05)
    load.assert_all_answered(at_least=450)


def test_slots_that_move_are_followed(cluster, launch, origin):
    proxy = launch(clustered(cluster))
    for number in range(10):
        ask(proxy, f"/items/{number}")
    until(lambda: sum(stored(cluster)) == 10, "entries are stored", every_s=0.05)
    # Everything of the third node goes to the first, as an operator takes a node out of service.
    source, target = cluster.nodes[2], cluster.nodes[0]
    source.run("FLUSHALL")
    # Of two nodes that claim a slot the one with the greater epoch has it: without this, a word of the source that is still
    # on its way takes the slots back, and then nobody serves them.
    target.run("CLUSTER", "BUMPEPOCH")
    owner = target.run("CLUSTER", "MYID")
    for node in cluster.nodes:
        with node.client() as client:
            client.pipeline([("CLUSTER", "SETSLOT", slot, "NODE", owner) for slot in range(10923, 16384)])

    with Load([proxy.address], paths, origin.body) as load:
        load.go_on(200)
        before = stored(cluster)[0]
        until(lambda: stored(cluster)[0] > before + 10, "the first node has the entries", 10, every_s=0.05)
    load.assert_all_answered(at_least=200)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def tls(server: RedisServer, certificates: Certificates, **more) -> dict:
    return {"url": server.url, "ca": str(certificates.ca), **more}


def test_tls_with_a_private_authority(redis_server, launch, origin, certificates):
    server = redis_server(tls=certificates)
    first, second = (launch(tls(server, certificates)) for _ in range(2))

    ask(first, "/items/a")
    server.wait_for_entries(1)

    assert ask(second, "/items/a").headers["x-cache-status"] == "hit"
    assert hits(second, "redis") == 1
    purge(first, all=True).raise_for_status()
    until(lambda: ask(second, "/items/a").headers["x-cache-status"] == "miss" or origin.count("/items/a") > 1, "heard", 1)


def test_tls_with_a_certificate_of_our_own(redis_server, launch, tmp_path):
    mutual = Certificates(tmp_path, mutual=True)
    server = redis_server(tls=mutual)
    proxy = launch(tls(server, mutual, cert=str(mutual.cert), key=str(mutual.key)))

    ask(proxy, "/items/a")

    server.wait_for_entries(1)


# What operators are told. A server that wants a certificate says so after the handshake, as the connection ends.
UNPROVEN = {
    "other-authority": ["certificate not trusted"],
    "no-authority": ["certificate not trusted"],
    "no-certificate": ["TLS failed", "connection closed", "connection reset"],
    "plain-text": ["timed out", "it does not answer in time"],
}


@pytest.mark.parametrize("fault", UNPROVEN)
def test_a_server_that_is_not_proven_is_not_spoken_to(redis_server, launch, origin, tmp_path, certificates, fault):
    if fault == "no-certificate":
        mutual = Certificates(tmp_path, mutual=True)
        server = redis_server(tls=mutual)
        settings = tls(server, mutual)
    elif fault == "plain-text":
        server = redis_server()
        settings = {"url": server.url.replace("redis://", "rediss://"), "ca": str(certificates.ca)}
    else:
        server = redis_server(tls=certificates)
        other = Certificates(tmp_path)
        settings = {"url": server.url, **({"ca": str(other.ca)} if fault == "other-authority" else {})}
    monitor = server.monitor()
    proxy = launch(settings, patient=False, wait=False)

    with Load([proxy.address], paths, origin.body) as load:
        load.go_on(200, seconds=1.5)

    load.assert_all_answered(at_least=200)
    assert not is_up(proxy)
    assert server.entries() == []
    assert monitor.commands() == []
    why = proxy.admin.get("/performance/cache/stats").json()["redis_stats"]["error"]
    assert why in UNPROVEN[fault]


RIGHTS = (
    "resetkeys ~touchline:* resetchannels &touchline:* "
    "-@all +@read +@write +@connection +@pubsub +@scripting -scan -@dangerous +info"
)


def test_a_user_with_rights_to_its_own_names_alone_is_enough(redis_server, launch, origin):
    server = redis_server("user default off", f"user coach on >canary-acl-password {RIGHTS}")
    login = {"url": server.url, "username": "coach", "password": "canary-acl-password"}
    first, second = launch(login), launch(login, **NO_MEMORY)

    for path in ("/items/a", "/items/b"):
        ask(first, path)
    server.wait_for_entries(2)
    assert ask(second, "/items/a").headers["x-cache-status"] == "hit"
    assert purge(second, tag="item:a").json()["pending"] is False
    until(lambda: ask(first, "/items/a").headers["x-cache-status"] == "miss" or origin.count("/items/a") > 1, "heard", 1)
    ask(first, "/items/b/rename", "POST")
    ask(second, "/items/b")

    assert server.run("ACL", "LOG") == []
    assert metric(first, "redis_errors_total") == metric(second, "redis_errors_total") == 0
    assert "canary" not in first.log(10**9) + second.log(10**9)


def test_a_user_who_may_not_publish_keeps_the_tier(redis_server, launch, origin):
    rights = RIGHTS.replace("&touchline:* ", "")
    server = redis_server("user default off", f"user coach on >canary-acl-password {rights}")
    login = {"url": server.url, "username": "coach", "password": "canary-acl-password"}
    first, second = launch(login), launch(login, **NO_MEMORY)

    old = ask(first, "/items/a").content
    server.wait_for_entries(1)
    assert ask(second, "/items/a").headers["x-cache-status"] == "hit"
    origin.version = 2
    assert purge(second, tag="item:a").json()["pending"] is False

    until(lambda: ask(first, "/items/a").content != old, "it is read at the next tick", 1)
    assert is_up(first) and is_up(second)
    assert "redis is down" not in first.log(10**9) + second.log(10**9)


FIGURES = ("redis_version", "connected_clients", "used_memory_human", "total_commands_processed")


def figures(proxy) -> dict:
    """What `/performance/cache/stats` shows of Redis's own figures."""
    shown = proxy.admin.get("/performance/cache/stats").json()["redis_stats"]
    return {name: shown[name] for name in FIGURES}


def known_figures(proxy) -> dict:
    """The figures, once they have been read for the first time."""
    return until(lambda: (shown := figures(proxy)) and None not in shown.values() and shown, "figures of Redis", 5)


def info(server: RedisServer) -> dict[str, str]:
    lines = server.run("INFO").decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


def test_the_figures_of_a_server_are_its_own_and_go_with_it(redis_server, launch):
    server = redis_server()
    before = info(server)
    proxy = launch({"url": server.url})

    shown = known_figures(proxy)

    assert shown["redis_version"] == before["redis_version"]
    # The connections of the proxy, and at most that of this test's own question.
    assert 1 <= shown["connected_clients"] <= int(info(server)["connected_clients"])
    assert int(before["total_commands_processed"]) < shown["total_commands_processed"]
    assert shown["total_commands_processed"] <= int(info(server)["total_commands_processed"])
    assert shown["used_memory_human"][-1] in "KM" and float(shown["used_memory_human"][:-1]) > 0
    assert proxy.admin.get("/performance/metrics").json()["redis_stats"]["redis_version"] == shown["redis_version"]

    server.kill()
    until(lambda: not is_up(proxy), "redis is lost", 5)
    assert set(figures(proxy).values()) == {None}
    server.start()
    wait_for_redis(proxy, deadline_s=15)
    assert known_figures(proxy)["total_commands_processed"] < shown["total_commands_processed"] + 10_000


def test_a_user_who_may_not_read_the_figures_lacks_nothing_else(redis_server, launch):
    rights = RIGHTS.removesuffix(" +info")
    server = redis_server("user default off", f"user coach on >canary-acl-password {rights}")
    proxy = launch({"url": server.url, "username": "coach", "password": "canary-acl-password"})
    until(lambda: server.run("ACL", "LOG"), "it has asked once", 5)
    ask(proxy, "/items/a")
    server.wait_for_entries(1)

    assert set(figures(proxy).values()) == {None}
    shown = proxy.admin.get("/performance/cache/stats").json()["redis_stats"]
    assert (shown["redis_available"], shown["error"], shown["errors"]) == (True, None, {})
    assert metric(proxy, "redis_errors_total") == 0
    # Neither a warning here nor a log that grows there.
    assert "NOPERM" not in proxy.log(10**9)
    refusals = server.run("ACL", "LOG")
    assert len(refusals) == 1, refusals


def test_the_figures_of_a_cluster_are_those_of_all_its_nodes(cluster, launch):
    before = [info(node) for node in cluster.nodes]
    proxy = launch(clustered(cluster))

    shown = known_figures(proxy)

    after = [info(node) for node in cluster.nodes]
    assert shown["redis_version"] == before[0]["redis_version"]
    assert shown["connected_clients"] >= 3
    of = [sum(int(node["total_commands_processed"]) for node in nodes) for nodes in (before, after)]
    assert of[0] < shown["total_commands_processed"] <= of[1]
    largest = max(int(node["used_memory"]) for node in before) / 2**20
    assert shown["used_memory_human"].endswith("M") and float(shown["used_memory_human"][:-1]) > 2 * largest


def test_the_figures_behind_sentinels_are_those_of_the_primary(sentinels, launch):
    proxy = launch(sentinel(sentinels))

    shown = known_figures(proxy)

    primary = info(sentinels.primary())
    replica = next(info(server) for server in sentinels.servers if server is not sentinels.primary())
    assert shown["redis_version"] == primary["redis_version"]
    assert shown["total_commands_processed"] <= int(primary["total_commands_processed"])
    assert shown["connected_clients"] > int(replica["connected_clients"]) - 1


def test_user_and_password_may_stand_in_the_address(redis_server, launch):
    server = redis_server("user default off", f"user coach on >canary@pass/word {RIGHTS}")
    proxy = launch({"url": f"redis://coach:canary%40pass%2Fword@127.0.0.1:{server.port}/0"})

    ask(proxy, "/items/a")

    server.wait_for_entries(1)
    assert "canary" not in proxy.log(10**9)


def test_a_password_from_a_file_is_read(redis_server, launch, tmp_path):
    server = redis_server("requirepass canary-file-password")
    file = tmp_path / "password"
    file.write_text("canary-file-password\n")
    proxy = launch({"url": server.url, "password": {"file": str(file)}})

    ask(proxy, "/items/a")

    server.wait_for_entries(1)


@pytest.mark.parametrize("user", ["coach", None], ids=["user", "default"])
def test_a_wrong_password_is_never_shown_anywhere(redis_server, launch, origin, user):
    server = redis_server(f"user coach on >canary-right {RIGHTS}", "requirepass canary-right")
    login = {"url": server.url, "password": "canary-wrong", **({"username": user} if user else {})}
    proxy = launch(login, patient=False, wait=False)

    with Load([proxy.address], paths, origin.body) as load:
        load.go_on(200, seconds=1.5)

    load.assert_all_answered(at_least=200)
    assert not is_up(proxy)
    shown = [proxy.log(10**9)]
    shown += [proxy.admin.get(path).text for path in ("/metrics", "/health", "/performance/cache/stats", "/readyz", "/")]
    assert "canary" not in "\n".join(shown)
