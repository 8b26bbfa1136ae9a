"""Values in Redis that are damaged in every way: each answer is still the right one, to the byte."""

import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.load import HOST
from support.raw import Reader, ok
from support.replicas import NO_MEMORY, Replicas, metric
from support.wait import until

ENTRIES = 500
ROUNDS = 20
# The byte after the magic. A value of another version is somebody else's: a miss, and nothing to reject.
VERSION = 4
PATHS = [f"/items/{number}" for number in range(ENTRIES)]


@pytest.fixture
def filled(replicas: Replicas, fake: Callable) -> tuple[Replicas, object, dict[str, bytes]]:
    """A proxy without memory, and the values of its entries in Redis. Every tenth answer has a variant."""
    chance = random.Random(7)
    for path in PATHS:
        replicas.origin.sizes[path] = chance.choice([1, 40, 300, 1500])
    replicas.origin.sizes[PATHS[0]] = 70_000
    origin = replicas.origin

    def script(sock, request) -> None:
        path = request.target
        varies = ["Vary: X-Lang"] if PATHS.index(path) % 10 == 3 else []
        sock.sendall(ok(origin.body(path), f"X-Path: {path}", *varies))

    replicas.backend = fake(script)
    replicas.routes = [{"path": "/items/{name}", "cache": {"ttl": "1h", "public": True}}]
    # A value that is not believed is a new key once more.
    proxy = replicas.replica(**NO_MEMORY, max_new_keys=1_000_000)
    assert wrong(replicas, proxy) == []
    varied = ENTRIES // 10
    replicas.redis.wait_for_entries(ENTRIES + varied, deadline_s=20)
    assert wrong(replicas, proxy) == []
    assert len(replicas.backend.requests) == ENTRIES
    return replicas, proxy, values(replicas)


def values(replicas: Replicas) -> dict[str, bytes]:
    with replicas.redis.client() as client:
        names = replicas.redis.entries()
        return dict(zip(names, client.pipeline([("GET", name) for name in names]), strict=True))


def put(replicas: Replicas, changed: dict[str, bytes]) -> None:
    with replicas.redis.client() as client:
        done = client.pipeline([("SET", name, value, "PX", 600_000) for name, value in changed.items()])
    assert set(done) == {"OK"}


def wrong(replicas: Replicas, proxy) -> list[str]:
    """Asks for every path over a few connections, many requests in one write, and returns those with a wrong answer."""
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda part: _wrong(replicas, proxy.address, part), [PATHS[n::4] for n in range(4)]))
    return [path for part in parts for path in part]


def _wrong(replicas: Replicas, address: tuple[str, int], paths: list[str]) -> list[str]:
    found = []
    with socket.create_connection(address, timeout=30) as sock:
        reader = Reader(sock)
        for at in range(0, len(paths), 16):
            batch = paths[at : at + 16]
            sock.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() for path in batch))
            for path in batch:
                answer = reader.answer()
                right = answer is not None and (answer.status, answer.body) == (200, replicas.origin.body(path))
                if not right or answer["x-path"] != path:
                    found.append(path)
    return found


def flipped(value: bytes, bit: int) -> bytes:
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.timeout(240)
def test_no_flipped_bit_of_ten_thousand_reaches_a_client(filled):
    replicas, proxy, pristine = filled
    chance = random.Random(20261125)
    flips = unknown = 0

    for _ in range(ROUNDS):
        bits = {name: chance.randrange(len(value) * 8) for name, value in pristine.items()}
        damaged = {name: flipped(value, bits[name]) for name, value in pristine.items()}
        flips += len(damaged)
        unknown += sum(bit // 8 == VERSION for bit in bits.values())
        put(replicas, damaged)

        assert wrong(replicas, proxy) == []
        settle(replicas, proxy, damaged)

    assert flips >= 10_000
    rejected = metric(proxy, "values_rejected_total")
    # A damaged list of variants hides its variants, so these are not always read while they are damaged.
    assert rejected >= ENTRIES * ROUNDS - unknown, (rejected, unknown)


def settle(replicas: Replicas, proxy, damaged: dict[str, bytes]) -> None:
    """Waits until none of the damaged values is left: each was deleted and written anew, once somebody had read it."""

    def replaced() -> bool:
        if wrong(replicas, proxy):
            raise AssertionError("a wrong answer")
        now = values(replicas)
        return len(now) == len(damaged) and all(now[name] != value for name, value in damaged.items())

    until(replaced, "every damaged value is replaced", deadline_s=20, every_s=0.05)


DAMAGES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "truncated": lambda chance, value: value[: chance.randrange(len(value))],
    "extended": lambda chance, value: value + chance.randbytes(chance.randrange(1, 200)),
    "a-byte-lost": lambda chance, value: _without(value, chance.randrange(len(value))),
    "a-byte-doubled": lambda chance, value: _doubled(value, chance.randrange(len(value))),
    "zeroed-at-the-end": lambda chance, value: value[:-40] + bytes(40),
    "turned-around": lambda chance, value: value[:5] + value[:4:-1],
    "noise": lambda chance, value: value[:6] + chance.randbytes(len(value) - 6),
    "huge-lengths": lambda chance, value: value[:6] + b"\xff" * 60 + value[66:],
}


def _without(value: bytes, at: int) -> bytes:
    return value[:at] + value[at + 1 :]


def _doubled(value: bytes, at: int) -> bytes:
    return value[:at] + value[at : at + 1] + value[at:]


@pytest.mark.timeout(240)
def test_no_damaged_value_of_any_other_kind_reaches_a_client(filled):
    replicas, proxy, pristine = filled
    chance = random.Random(20261126)

    for name, damage in DAMAGES.items():
        damaged = {key: damage(chance, value) for key, value in pristine.items()}
        damaged = {key: value if value != pristine[key] else value + b"x" for key, value in damaged.items()}
        put(replicas, damaged)

        assert wrong(replicas, proxy) == [], name
        settle(replicas, proxy, damaged)

    assert metric(proxy, "values_rejected_total") >= ENTRIES * len(DAMAGES) * 0.9
    assert proxy.is_running()


@pytest.mark.timeout(240)
def test_no_value_under_another_name_reaches_a_client(filled):
    replicas, proxy, pristine = filled
    names = sorted(pristine)

    for step in (1, 7, 101):
        moved = zip(names, names[step:] + names[:step], strict=True)
        damaged = {name: pristine[other] for name, other in moved}
        put(replicas, damaged)

        assert wrong(replicas, proxy) == [], step
        settle(replicas, proxy, damaged)
