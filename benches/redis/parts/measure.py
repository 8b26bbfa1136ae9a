"""The measurements: a hit from Redis beside a plain GET, what each fault costs, and a stampede."""

import asyncio
import csv
import io
import random
import re
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from harness import load
from support.fault_proxy import FaultProxy
from support.redis import RedisServer

from .client import connect, exchange
from .origin import body
from .world import Backend, Clients, Failed, Touchline, wait

NO_MEMORY = {"size": "0B"}
# So slow that a stall of two deadlines is over before the same client is due again: requests are slow by themselves alone.
CLIENTS, RATE, PATHS = 10, 20, 20
STAMPEDE = 10_000


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    rounds: int
    one_s: int
    repeats: int
    before_s: float
    fault_s: float


QUICK = Plan(rounds=2, one_s=1, repeats=1, before_s=1.0, fault_s=1.5)
FULL = Plan(rounds=7, one_s=3, repeats=6, before_s=2.0, fault_s=3.0)


@dataclass
class Hit:
    """Median P50s in microseconds with one connection, and the medians of the rounds' own differences."""

    memory: float
    redis: float
    round_trip: float
    added: float
    beyond: float


@dataclass
class Row:
    """What a fault did to the requests: milliseconds from begin to end, by when they were answered."""

    name: str
    before: list = field(default_factory=list)
    until: list = field(default_factory=list)
    after: list = field(default_factory=list)
    failed: int = 0
    given_up: list = field(default_factory=list)

    @property
    def requests(self):
        """All of them."""
        return len(self.before) + len(self.until) + len(self.after)


@dataclass
class Stampede:
    """What became of many requests for one key."""

    name: str
    requests: int
    failed: int
    fetches: int
    seconds: float


class Bench:
    """Runs everything against one binary. `folder` takes configurations and logs."""

    def __init__(self, binary, wrk, folder, plan):
        self.binary, self.wrk, self.folder, self.plan = binary, wrk, folder, plan
        self.backend = Backend(folder)

    def close(self):
        """Ends the backend."""
        self.backend.stop()

    def replica(self, **cache):
        """One more touchline."""
        return Touchline(self.binary, self.folder, self.backend, cache)

    def hit(self):
        """Rounds of: a hit from memory, a hit from Redis, a GET of the same value by Redis' own client."""
        server = RedisServer()
        replicas = []
        try:
            replicas.append(self.replica())
            replicas.append(self.replica(memory=NO_MEMORY, redis={"url": server.url}))
            in_memory, in_redis = replicas
            for replica in replicas:
                # The name that wrk uses, and so another entry than that of the clients.
                load.get(replica.port, "/item/0")
            name = server.wait_for_entries(1)[0]
            rounds = []
            for _ in range(self.plan.rounds):
                memory = self._p50(in_memory)
                redis = self._p50(in_redis)
                rounds.append((memory, redis, self._round_trip(server, name)))
                print(f"  memory {memory:.0f} us, redis {redis:.0f} us, GET {rounds[-1][2]:.0f} us", flush=True)
            if self.backend.count("/item/0") != len(replicas):
                raise Failed("the backend was asked again: not all of these were hits")
            memory, redis, trip = (median(column) for column in zip(*rounds, strict=True))
            added = median(redis - memory for memory, redis, _ in rounds)
            beyond = median(redis - memory - trip for memory, redis, trip in rounds)
            return Hit(memory, redis, trip, added, beyond)
        finally:
            for replica in replicas:
                replica.stop()
            server.stop()

    def _p50(self, replica):
        seen, _ = load.wrk(self.wrk, (replica.port, "/item/0"), self.plan.one_s, 1)
        if seen.errors:
            raise Failed(f"wrk counted {seen.errors} errors")
        return seen.p50_us

    def _round_trip(self, server, name):
        """redis-benchmark with one connection, for about as long."""
        command = ["redis-benchmark", "-p", str(server.port), "-c", "1", "-n", str(self.plan.one_s * 10_000), "--csv", "GET", name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        lines = list(csv.DictReader(io.StringIO(done.stdout)))
        return float(lines[-1]["p50_latency_ms"]) * 1000

    def pass_through(self):
        """What every request costs when nothing is cached: the floor that faults are compared with."""
        replica = self.replica(mode="off")
        clients = Clients(self.folder, replica.port, CLIENTS, RATE, PATHS)
        try:
            time.sleep(self.plan.before_s * max(2, self.plan.repeats))
            return [(end - begin) * 1000 for begin, end, _ in _warm(clients.finish())]
        finally:
            clients.stop()
            replica.stop()

    def fault(self, name):
        """One fault, some times: load, the fault in its midst, the end of it, and again."""
        row, (breaks, mends) = Row(name), FAULTS[name]
        for turn in range(self.plan.repeats):
            server = RedisServer()
            between = FaultProxy(server.address) if name in BEHIND_PROXY else None
            replica = clients = None
            try:
                replica = self.replica(memory=NO_MEMORY, redis={"url": between.url if between else server.url})
                _fill(replica, CLIENTS * PATHS)
                server.wait_for_entries(CLIENTS * PATHS, deadline_s=20)
                clients = Clients(self.folder, replica.port, CLIENTS, RATE, PATHS)
                time.sleep(self.plan.before_s)
                begun = time.monotonic()
                breaks(Subject(server, between, begun + self.plan.fault_s, random.Random(turn)))
                time.sleep(max(0.0, begun + self.plan.fault_s - time.monotonic()))
                samples = _warm(clients.finish())
                mends(Subject(server, between, 0.0, random.Random(turn)))
                _sort(row, samples, begun, replica.given_up_at(begun))
            finally:
                for process in (clients, replica, between, server):
                    if process is not None:
                        process.stop()
        print(f"  {name}: {row.requests} requests, {row.failed} failed", flush=True)
        return row

    def stampede(self, name):
        """Ten thousand connections that send at once to two replicas, with Redis `up` or `down`."""
        server, replicas = RedisServer(), []
        try:
            replicas = [self.replica(redis={"url": server.url}) for _ in range(2)]
            if name == "down":
                server.kill()
                wait(lambda: not any(replica.is_up() for replica in replicas), "redis is given up", 30)
            path = f"/slow/{name}"
            outcomes, seconds = asyncio.run(_crowd([replica.port for replica in replicas], path, STAMPEDE))
            failed = STAMPEDE - outcomes[(200, body(path))]
            return Stampede(name, STAMPEDE, failed, self.backend.count(path), seconds)
        finally:
            for replica in replicas:
                replica.stop()
            server.stop()


@dataclass
class Subject:
    """What a fault is done to, and until when it lasts."""

    server: RedisServer
    between: FaultProxy | None
    until: float
    chance: random.Random


def _slow(subject):
    subject.between.delay_s = 0.1


def _flush_again_and_again(subject):
    while time.monotonic() < subject.until - 0.2:
        subject.server.run("FLUSHALL")
        time.sleep(0.2)


def _corrupt_again_and_again(subject):
    with subject.server.client() as client:
        while time.monotonic() < subject.until - 0.1:
            names = client("KEYS", "touchline:e:*")
            values = client.pipeline([("GET", name) for name in names])
            client.pipeline([
                ("SET", name, _flipped(value, subject.chance), "PX", 3_600_000)
                for name, value in zip(names, values, strict=True) if value
            ])
            time.sleep(0.1)


def _flipped(value, chance):
    # Behind magic and version: another version is somebody else's value, which is a plain miss.
    changed = bytearray(value)
    changed[chance.randrange(5, len(value))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _fill_up(subject):
    """Nothing can be written any more, and nothing is there to be read."""
    subject.server.run("CONFIG", "SET", "maxmemory", "1")
    subject.server.run("FLUSHALL")


def _demote(subject):
    subject.server.run("FLUSHALL")
    subject.server.run("REPLICAOF", "127.0.0.1", "1")


def _nothing(_):
    pass


BEHIND_PROXY = {"slow"}
FAULTS = {
    "none": (_nothing, _nothing),
    "killed": (lambda subject: subject.server.kill(), _nothing),
    "hung": (lambda subject: subject.server.pause(), lambda subject: subject.server.resume()),
    "slow": (_slow, _nothing),
    "oom": (_fill_up, _nothing),
    "readonly": (_demote, _nothing),
    "flushed": (_flush_again_and_again, _nothing),
    "corrupt": (_corrupt_again_and_again, _nothing),
}


def _warm(samples):
    """Without the first half second, in which connections are opened."""
    start = samples[0][0] + 0.5
    return [sample for sample in samples if sample[0] >= start]


def _sort(row, samples, begun, given_up):
    """Puts samples before the fault, until the tier was given up, and after. Without giving up all since the fault is after."""
    if given_up is not None:
        row.given_up.append((given_up - begun) * 1000)
    border = begun if given_up is None else given_up
    for begin, end, right in samples:
        row.failed += not right
        phase = row.before if end <= begun else row.after if begin >= border or given_up is None else row.until
        phase.append((end - begin) * 1000)


def _fill(replica, count):
    """Asks for every path once, as the clients will."""
    with connect(replica.port) as sock:
        for number in range(count):
            if not exchange(sock, f"/item/{number}"):
                raise Failed("a wrong answer while the cache was filled")


async def _crowd(ports, path, count):
    """Connects, sends everything at once, and returns how often each status and body came, and when the last one did."""
    few, request = asyncio.Semaphore(128), f"GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n".encode()

    async def connect(port):
        async with few:
            return await asyncio.open_connection("127.0.0.1", port)

    async def read(reader):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            return int(head.split(b" ", 2)[1]), await reader.readexactly(int(size[1]))
        except (OSError, EOFError, TypeError):
            return 0, b""

    connections = await asyncio.gather(*(connect(ports[number % len(ports)]) for number in range(count)))
    begun = time.monotonic()
    for _, writer in connections:
        writer.write(request)
    outcomes = await asyncio.wait_for(asyncio.gather(*(read(reader) for reader, _ in connections)), 120)
    seconds = time.monotonic() - begun
    for _, writer in connections:
        writer.transport.abort()
    return Counter(outcomes), seconds
