"""A small constant load whose every answer is checked, byte for byte, beside whatever a test does meanwhile."""

import asyncio
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from support.wait import until

HOST = "app.example"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """One request: when it began, how long it took, and what was wrong with its answer."""

    at: float
    ms: float
    path: str
    failure: str | None


class Load:
    """Sends GETs over kept connections until the `with` ends: `paths(n)` names the n-th, `body` its right answer."""

    def __init__(
        self,
        addresses: list[tuple[str, int]],
        paths: Callable[[int], str],
        body: Callable[[str], bytes],
        connections: int = 4,
        pause_s: float = 0.01,
    ) -> None:
        self._addresses, self._paths, self._body = addresses, paths, body
        self._connections, self._pause_s = connections, pause_s
        self._sent = 0
        self._ended = threading.Event()
        self.samples: list[Sample] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(20)

    def go_on(self, count: int, seconds: float = 0.0) -> None:
        """Returns after at least this many further answers and this time."""
        end, before = time.monotonic() + seconds, len(self.samples)
        until(
            lambda: len(self.samples) >= before + count and time.monotonic() >= end,
            f"{count} more answers",
            deadline_s=seconds + 20,
            every_s=0.02,
        )

    def failures(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.failure]

    def slowest_ms(self) -> float:
        return max(sample.ms for sample in self.samples)

    def assert_all_answered(self, at_least: int, slowest_ms: float = 1000) -> None:
        """Every request got its right answer in time."""
        failures = self.failures()
        assert not failures, f"{len(failures)} of {len(self.samples)} failed, first {failures[:3]}"
        assert len(self.samples) >= at_least
        assert self.slowest_ms() < slowest_ms, max(self.samples, key=lambda sample: sample.ms)

    async def _run(self) -> None:
        workers = [
            self._work(address) for address in self._addresses for _ in range(self._connections)
        ]
        await asyncio.gather(*workers)

    async def _work(self, address: tuple[str, int]) -> None:
        connection = None
        while not self._ended.is_set():
            number, self._sent = self._sent, self._sent + 1
            path, begun = self._paths(number), time.monotonic()
            try:
                if connection is None:
                    connection = await asyncio.open_connection(*address)
                status, body, closes = await asyncio.wait_for(_exchange(connection, path), 10)
                failure = None if status == 200 else f"status {status}"
                if failure is None and body != self._body(path):
                    failure = f"wrong body: {body[:60]!r}"
            except (OSError, EOFError, TimeoutError, asyncio.TimeoutError, ValueError) as error:
                failure, closes = repr(error), True
            self.samples.append(Sample(begun, (time.monotonic() - begun) * 1000, path, failure))
            if closes and connection is not None:
                connection[1].close()
                connection = None
            await asyncio.sleep(self._pause_s)
        if connection is not None:
            connection[1].close()


async def _exchange(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str
) -> tuple[int, bytes, bool]:
    """One request and its answer, which has to come with its length."""
    reader, writer = connection
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    if length is None:
        raise ValueError(f"no length: {head[:200]!r}")
    body = await reader.readexactly(int(length[1]))
    return int(head.split(b" ", 2)[1]), body, b"connection: close" in head.lower()
