"""The Redis protocol (RESP2) in its simplest form: bytes out, bytes in, many commands in one write."""

import re
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from support.wait import settled

Word = str | bytes | int | float


class RedisError(Exception):
    """What the server answered with a minus sign, such as `READONLY ...`."""


def encoded(*words: Word) -> bytes:
    """One command as it goes over the wire."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


class RedisClient:
    """One connection. Calling it sends one command: `redis("GET", name)`."""

    def __init__(self, address: str | tuple[str, int], login: tuple[str, ...] = (), timeout_s: float = 10.0) -> None:
        if isinstance(address, str):
            self._sock = socket.socket(socket.AF_UNIX)
            self._sock.settimeout(timeout_s)
            self._sock.connect(address)
        else:
            self._sock = socket.create_connection(address, timeout=timeout_s)
        self._file = self._sock.makefile("rb")
        if login:
            self("AUTH", *login)

    def __enter__(self) -> "RedisClient":
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def __call__(self, *words: Word):
        """Sends one command and returns its answer; an error is raised."""
        self._sock.sendall(encoded(*words))
        answer = self._answer()
        if isinstance(answer, RedisError):
            raise answer
        return answer

    def pipeline(self, commands: Iterable[tuple[Word, ...]], step: int = 500) -> list:
        """Sends many commands, some hundred in one write. Errors are among the answers."""
        commands, answers = list(commands), []
        for at in range(0, len(commands), step):
            batch = commands[at : at + step]
            self._sock.sendall(b"".join(encoded(*words) for words in batch))
            answers += [self._answer() for _ in batch]
        return answers

    def lines(self):
        """What comes without being asked for (MONITOR), line by line, until the connection ends."""
        try:
            self._sock.settimeout(None)
            yield from self._file
        except (OSError, ValueError):
            return

    def close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._file.close()
        self._sock.close()

    def _answer(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return RedisError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        size = int(rest)
        if size < 0:
            return None
        if kind == b"$":
            return self._file.read(size + 2)[:-2]
        assert kind == b"*", line
        return [self._answer() for _ in range(size)]


@dataclass(frozen=True)
class Command:
    """One command that the server ran: who sent it, and its words."""

    client: str
    words: list[str]

    @property
    def name(self) -> str:
        return self.words[0].upper()


class Monitor:
    """Notes every command that the server runs from now on, those of scripts too."""

    _LINE = re.compile(r"\+?[\d.]+ \[\d+ ([^\]]+)\] (.*)")
    _WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._lines: list[str] = []
        client("MONITOR")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._client.lines():
            self._lines.append(line.decode("latin-1"))

    def text(self) -> str:
        """Everything so far as the server printed it, so with escapes for what is not printable."""
        return "".join(self._lines)

    def commands(self) -> list[Command]:
        """What came over TCP or from scripts; what a test sends itself comes over the unix socket and is left out."""
        found = []
        for line in list(self._lines):
            match = self._LINE.match(line)
            if match and not match[1].startswith("unix:"):
                found.append(Command(match[1], self._WORD.findall(match[2])))
        return found

    def wait_until_quiet(self, kinds: str, quiet_s: float = 0.4) -> None:
        """Returns once no command of these kinds has come for a while."""
        wanted = kinds.split()
        settled(lambda: sum(one.name in wanted for one in self.commands()), f"{kinds} at Redis", quiet_s)
