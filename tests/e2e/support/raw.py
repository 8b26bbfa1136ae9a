"""Bare sockets: a client that sends exactly these bytes, and a backend that answers with exactly those."""

import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from support.ports import free_port


@dataclass
class Answer:
    """One answer as it came over the wire."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    complete: bool
    closed: bool = False

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        assert len(values) == 1, f"{name} occurs {len(values)} times in {self.fields}"
        return values[0]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]


@dataclass
class Reader:
    """Reads answers from a socket, one after another."""

    sock: socket.socket
    buffer: bytes = b""
    closed: bool = False

    def more(self) -> bool:
        """Reads once; false at the end of the connection."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes | None:
        """Everything up to and with `mark`; none when the connection ends first."""
        while mark not in self.buffer:
            if not self.more():
                return None
        head, self.buffer = self.buffer.split(mark, 1)
        return head + mark

    def exactly(self, size: int) -> tuple[bytes, bool]:
        """`size` bytes, or what came before the end, and whether that was all."""
        while len(self.buffer) < size:
            if not self.more():
                break
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data, len(data) == size

    def is_closed(self) -> bool:
        """True when the peer closes without another byte (the socket's timeout is the deadline)."""
        if self.buffer:
            return False
        try:
            return not self.more()
        except TimeoutError:
            return False

    def answer(self, method: str = "GET") -> Answer | None:
        """The next answer, 1xx too; none when the connection ends first."""
        head = self.until(b"\r\n\r\n")
        if head is None:
            return None
        lines = head[:-4].decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3})( .*)?", lines[0])
        assert match, f"not a status line: {lines[0]!r}"
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        answer = Answer(int(match.group(1)), fields, b"", True)
        if answer.status < 200 or answer.status in (204, 304) or method == "HEAD":
            return answer
        if answer.all("transfer-encoding"):
            answer.body, answer.complete = self.chunks()
        elif answer.all("content-length"):
            answer.body, answer.complete = self.exactly(int(answer["content-length"]))
        else:
            while self.more():
                pass
            answer.body, self.buffer = self.buffer, b""
        answer.closed = self.closed
        return answer

    def chunks(self) -> tuple[bytes, bool]:
        """A chunked body, and whether its last chunk came."""
        body = b""
        while True:
            line = self.until(b"\r\n")
            if line is None:
                return body, False
            size = int(line.split(b";")[0], 16)
            data, whole = self.exactly(size + 2)
            if not whole:
                return body + data[:size], False
            if size == 0:
                return body, True
            body += data[:-2]


def ask(address: tuple[str, int], request: bytes, timeout_s: float = 10.0) -> Answer:
    """Sends bytes on a new connection and reads one answer. `closed` says that the peer then closed."""
    with socket.create_connection(address, timeout=timeout_s) as sock:
        try:
            sock.sendall(request)
        except ConnectionError:
            pass  # It may refuse before it has read everything.
        reader = Reader(sock)
        answer = reader.answer(request.split(b" ", 1)[0].decode("latin-1"))
        assert answer is not None, "closed without an answer"
        sock.settimeout(2)
        answer.closed = answer.closed or reader.is_closed()
        return answer


def get(path: str, *lines: str, method: str = "GET") -> bytes:
    """The bytes of a plain request with these further lines."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: app.example", *lines, "", ""]).encode("latin-1")


@dataclass
class Request:
    """What a fake backend got."""

    head: bytes
    body: bytes = b""
    whole: bool = True
    connection: int = 0
    on_connection: int = 0

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode("latin-1")

    def all(self, name: str) -> list[str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [
            value.strip() for key, _, value in (line.partition(":") for line in lines) if key.lower() == name.lower()
        ]


@dataclass
class FakeBackend:
    """Listens and hands every request to `script(sock, request)`, which sends what it likes.

    A script that returns False ends the connection; True or None keeps it open for the next request.
    """

    script: Callable[[socket.socket, Request], bool | None]
    port: int = field(default_factory=free_port)
    reads_bodies: bool = True
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    heads: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
                self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        reader = Reader(sock)
        served = 0
        try:
            with sock:
                while (head := reader.until(b"\r\n\r\n")) is not None:
                    served += 1
                    with self._lock:
                        self.heads += 1
                    request = Request(head, connection=number, on_connection=served)
                    if not self.reads_bodies:
                        pass
                    elif lengths := request.all("content-length"):
                        request.body, request.whole = reader.exactly(int(lengths[0]))
                    elif request.all("transfer-encoding"):
                        request.body, request.whole = reader.chunks()
                    with self._lock:
                        self.requests.append(request)
                    if self.script(sock, request) is False:
                        return
        except OSError:
            pass

    def targets(self) -> list[str]:
        """What was asked for, in order."""
        with self._lock:
            return [request.target for request in self.requests]

    def stop(self) -> None:
        """Stops listening and ends every connection."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        with self._lock:
            for sock in self._open:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def ok(body: bytes = b"ok", *lines: str, status: str = "200 OK") -> bytes:
    """The bytes of a well-formed answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def reset(sock: socket.socket) -> None:
    """Ends a connection with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
