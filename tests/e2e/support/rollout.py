"""Clients that follow a list of endpoints as kube-proxy would have them: late, and only for new connections.

Four kinds, each with its own way to be hurt by a replica that leaves: HTTP/1.1 on kept connections, HTTP/2 with several
streams at once, event streams, WebSockets. None of them repeats a request, so one that is lost is one that failed.
"""

import asyncio
import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from support.wait import until

Address = tuple[str, int]

HOST = "app.example"
DEADLINE_S = 20
STREAMS = 4
MESSAGES = 12
# A server that goes says so: touchline by 1001, uvicorn by 1012.
GOING = (1001, 1012)


class Endpoints:
    """The replicas that clients are sent to. Each client hears of a change in its own time, within `spread_s`."""

    def __init__(self, *addresses: Address, spread_s: float = 0.0) -> None:
        self._changes: list[tuple[float, tuple[Address, ...]]] = [(0.0, addresses)]
        self.spread_s = spread_s

    def switch(self, *addresses: Address) -> None:
        """From now on these; a leaving replica's connections stay where they are."""
        self._changes.append((time.monotonic(), addresses))

    def choose(self, lag_s: float) -> Address:
        """Where a client that is so far behind opens its next connection."""
        now = time.monotonic()
        known = [addresses for since, addresses in self._changes if since + lag_s <= now or since == 0.0]
        return random.choice(known[-1])


@dataclass
class Tally:
    """What became of the requests of one kind."""

    sent: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0
    taken_ms: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))
    #: Statuses of HTTP answers, and codes of closed WebSockets.
    seen: Counter[int] = field(default_factory=Counter)
    #: Streams that a GOAWAY said were not processed; they may be sent again (RFC 9113 section 6.8).
    unprocessed: int = 0

    def note(self, begun: float, failure: str | None) -> None:
        taken_ms = (time.monotonic() - begun) * 1000
        self.sent += 1
        self.taken_ms.append(taken_ms)
        self.slowest_ms = max(self.slowest_ms, taken_ms)
        if failure is not None:
            self.failures.append(failure)


class Clients:
    """Runs clients in a thread of its own until the `with` ends. `kinds` says how many there are of each kind."""

    KINDS = ("keep_alive", "fresh", "http2", "stream", "websocket")

    def __init__(self, endpoints: Endpoints, pause_s: float = 0.002, **kinds: int) -> None:
        self._endpoints, self._pause_s, self._kinds = endpoints, pause_s, kinds
        self._ended = threading.Event()
        self._paused = threading.Event()
        self._numbers = itertools.count()
        self.tallies = {kind: Tally() for kind in self.KINDS if kinds.get(kind)}
        #: Where answers came from: not before the first one.
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Clients":
        self.thread.start()
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """Lets every client finish what it does, and no more."""
        self._ended.set()
        self.thread.join(DEADLINE_S + 5)
        assert not self.thread.is_alive(), "the clients do not end"

    @property
    def sent(self) -> int:
        return sum(tally.sent for tally in self.tallies.values())

    def go_on(self, count: int, deadline_s: float = 120.0) -> None:
        """Returns after this many further requests."""
        goal = self.sent + count
        until(lambda: self.sent >= goal, f"{count} more requests", deadline_s, every_s=0.01)

    def failures(self) -> list[str]:
        return [f"{kind}: {failure}" for kind, tally in self.tallies.items() for failure in tally.failures]

    def assert_none_failed(self, at_least: int) -> None:
        """Every request was answered, and there were enough of each kind to say so."""
        failures = self.failures()
        assert not failures, f"{len(failures)} of {self.sent} failed, first {failures[:5]}"
        assert self.sent >= at_least, f"only {self.sent} requests"
        assert all(tally.sent for tally in self.tallies.values()), {k: t.sent for k, t in self.tallies.items()}

    async def _run(self) -> None:
        work: dict[str, Callable] = {
            "keep_alive": self._keep_alive,
            "fresh": self._fresh,
            "http2": self._http2,
            "stream": self._stream,
            "websocket": self._websocket,
        }
        tasks = [work[kind](self.tallies[kind]) for kind in self.tallies for _ in range(self._kinds[kind])]
        await asyncio.gather(*tasks)

    def _lag_s(self) -> float:
        return random.uniform(0.0, self._endpoints.spread_s)

    def _path(self) -> tuple[str, int]:
        """What the next request asks for, and the length that its body must have; -1 for any."""
        number = next(self._numbers)
        return [
            ("/api/challenges", -1),
            (f"/test/bytes/{1 + number % 3000}", 1 + number % 3000),
            ("/health", -1),
            ("/test/slow?ms=15", -1),
        ][number % 4]

    async def _keep_alive(self, tally: Tally) -> None:
        await self._http1(tally, is_kept=True)

    async def _fresh(self, tally: Tally) -> None:
        await self._http1(tally, is_kept=False)

    async def _http1(self, tally: Tally, is_kept: bool) -> None:
        lag_s, connection = self._lag_s(), None
        while not self._ended.is_set():
            begun, failure, closes = time.monotonic(), None, True
            address = self._endpoints.choose(lag_s)
            path, length = self._path()
            try:
                # As a pool does: a connection that was closed while it was idle is not used.
                if connection is not None and connection[0].at_eof():
                    connection[1].close()
                    connection = None
                if connection is None:
                    connection = await asyncio.wait_for(asyncio.open_connection(*address), DEADLINE_S)
                status, body, closes = await asyncio.wait_for(_exchange(connection, path), DEADLINE_S)
                tally.seen[status] += 1
                if status != 200 or (length >= 0 and len(body) != length):
                    failure = f"{path} at {address}: {status}, {len(body)} bytes: {body[:200]!r}"
            except (OSError, EOFError, asyncio.TimeoutError, ValueError) as error:
                failure = f"{path} at {address}: {error!r}"
            tally.note(begun, failure)
            if connection is not None and (closes or not is_kept):
                connection[1].close()
                connection = None
            await asyncio.sleep(self._pause_s)
        if connection is not None:
            connection[1].close()

    async def _stream(self, tally: Tally) -> None:
        """Event streams, which have to arrive to their last byte."""
        lag_s, whole = self._lag_s(), None
        while not self._ended.is_set():
            begun, failure = time.monotonic(), None
            address = self._endpoints.choose(lag_s)
            try:
                connection = await asyncio.wait_for(asyncio.open_connection(*address), DEADLINE_S)
                status, body, _ = await asyncio.wait_for(_exchange(connection, "/test/sse?events=30"), DEADLINE_S)
                connection[1].close()
                tally.seen[status] += 1
                whole = whole or body
                if status != 200 or body != whole or b"id: 29" not in body:
                    failure = f"stream at {address}: {status}, {len(body)} bytes of {len(whole)}"
            except (OSError, EOFError, asyncio.TimeoutError, ValueError) as error:
                failure = f"stream at {address}: {error!r}"
            tally.note(begun, failure)

    async def _websocket(self, tally: Tally) -> None:
        """Conversations of some messages, each of which has to be answered unless the line was closed in due form."""
        lag_s = self._lag_s()
        while not self._ended.is_set():
            address = self._endpoints.choose(lag_s)
            url = f"ws://{address[0]}:{address[1]}/ws/coach"
            begun = time.monotonic()
            try:
                async with connect(url, proxy=None, open_timeout=DEADLINE_S, ping_interval=None) as line:
                    for number in range(MESSAGES):
                        begun = time.monotonic()
                        await line.send(f"message {number}")
                        said = await asyncio.wait_for(line.recv(), DEADLINE_S)
                        right = said == f"message {number}"
                        tally.note(begun, None if right else f"websocket at {address}: {said!r}")
                        await asyncio.sleep(self._pause_s * 10)
                tally.seen[1000] += 1
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
                tally.seen[code] += 1
                if code not in GOING:
                    tally.note(begun, f"websocket at {address}: {closed!r}")
            except (OSError, EOFError, asyncio.TimeoutError, ValueError) as error:
                tally.note(begun, f"websocket at {address}: {error!r}")
            except Exception as error:  # noqa: BLE001 - a handshake that fails in whatever way failed
                tally.note(begun, f"websocket at {address}: {error!r}")

    async def _http2(self, tally: Tally) -> None:
        lag_s, line = self._lag_s(), None
        while not self._ended.is_set():
            address = self._endpoints.choose(lag_s)
            begun = time.monotonic()
            try:
                if line is not None and line.is_over:
                    line.close()
                    line = None
                if line is None:
                    line = await asyncio.wait_for(Http2.open(address), DEADLINE_S)
                paths = [self._path()[0] for _ in range(STREAMS)]
                answers = await asyncio.wait_for(line.ask(paths), DEADLINE_S)
            except (OSError, EOFError, asyncio.TimeoutError, h2.exceptions.ProtocolError) as error:
                tally.note(begun, f"http2 at {line.address if line else address}: {error!r}")
                line = None
                continue
            for path, status in zip(paths, answers, strict=True):
                if status is None:
                    tally.unprocessed += 1
                    continue
                tally.seen[status] += 1
                tally.note(begun, None if status == 200 else f"http2 {path} at {address}: {status}")
            await asyncio.sleep(self._pause_s)
        if line is not None:
            line.close()


async def _exchange(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str
) -> tuple[int, bytes, bool]:
    """One GET and its whole answer; and whether the connection ends with it."""
    reader, writer = connection
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    closes = "\r\nconnection: close" in head
    if "\r\ntransfer-encoding: chunked" in head:
        body = b""
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            body += (await reader.readexactly(size + 2))[:-2]
            if size == 0:
                return status, body, closes
    length = head.partition("\r\ncontent-length:")[2].partition("\r\n")[0]
    if not length:
        raise ValueError(f"no length: {head[:200]!r}")
    return status, await reader.readexactly(int(length)), closes


class Http2:
    """One connection with prior knowledge. It obeys a GOAWAY: streams that run go on, and no new one begins."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address, self._reader, self._writer = address, reader, writer
        self._connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._connection.initiate_connection()
        self._last: int | None = None
        self._unread = b""
        self._flush()

    @classmethod
    async def open(cls, address: Address) -> "Http2":
        return cls(address, *await asyncio.open_connection(*address))

    @property
    def is_over(self) -> bool:
        return self._last is not None or self._reader.at_eof()

    def close(self) -> None:
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write(self._connection.data_to_send())

    async def ask(self, paths: list[str]) -> list[int | None]:
        """The statuses of GETs that run at once; none for one that the server said it did not process."""
        streams = []
        for path in paths:
            stream = self._connection.get_next_available_stream_id()
            fields = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", HOST)]
            self._connection.send_headers(stream, fields, end_stream=True)
            streams.append(stream)
        self._flush()
        statuses: dict[int, int] = {}
        open_streams = set(streams)
        while open_streams:
            data = await self._reader.read(65536)
            if not data:
                raise EOFError(f"the connection ended with {len(open_streams)} streams open, last {self._last}")
            for event in self._events(data):
                self._take(event, statuses, open_streams)
            self._flush()
            if self._last is not None:
                open_streams = {stream for stream in open_streams if stream <= self._last}
        return [statuses.get(stream) for stream in streams]

    def _events(self, data: bytes) -> list[h2.events.Event]:
        """The events of whole frames, one frame after the other."""
        self._unread += data
        events: list[h2.events.Event] = []
        while len(self._unread) >= 9 and len(self._unread) >= (size := 9 + int.from_bytes(self._unread[:3], "big")):
            frame, self._unread = self._unread[:size], self._unread[size:]
            events += self._connection.receive_data(frame)
            # The library holds a connection for closed after a GOAWAY, which is only a wish (RFC 9113 section 6.8).
            if self._connection.state_machine.state == h2.connection.ConnectionState.CLOSED:
                self._connection.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        return events

    def _take(self, event: h2.events.Event, statuses: dict[int, int], open_streams: set[int]) -> None:
        match event:
            case h2.events.ResponseReceived():
                statuses[event.stream_id] = int(dict(event.headers)[":status"])
            case h2.events.DataReceived():
                self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                open_streams.discard(event.stream_id)
            case h2.events.StreamReset():
                statuses[event.stream_id] = -int(event.error_code)
                open_streams.discard(event.stream_id)
            case h2.events.ConnectionTerminated():
                self._last = event.last_stream_id
