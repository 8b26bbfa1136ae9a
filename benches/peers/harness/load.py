"""Everything that sends requests: one probe, many idle connections, and wrk."""

import os
import re
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass

UNITS = {"us": 1.0, "ms": 1000.0, "s": 1_000_000.0, "m": 60_000_000.0}


@dataclass(frozen=True)
class Load:
    """What wrk saw, and the processor time it took for itself. Times in microseconds."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    errors: int
    cpu_s: float


def exchange(connection, port, path):
    """One GET on an open connection: the status, the head and the body's length. Answers here always carry a length."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length:\s*(\d+)", head)
    if length:
        while len(body) < int(length.group(1)):
            body += _receive(connection)
    else:
        while not body.endswith(b"0\r\n\r\n"):
            body += _receive(connection)
    return int(head.split(b" ", 2)[1]), head.decode("latin-1"), body


def _receive(connection):
    part = connection.recv(65536)
    if not part:
        raise ConnectionError("closed in the middle of an answer")
    return part


def get(port, path):
    """The head of a 200 on a fresh connection, or an empty text for anything else, refusal and silence included."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            status, head, _ = exchange(connection, port, path)
            return head if status == 200 else ""
    except (OSError, ValueError):
        return ""


@contextmanager
def idle_connections(count, port, path):
    """Holds `count` keep-alive connections that have made one request each; yields how many are truly open."""
    held = []
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=5)
            held.append(connection)
            exchange(connection, port, path)
        time.sleep(1.0)
        yield sum(1 for connection in held if _is_open(connection))
    finally:
        for connection in held:
            connection.close()


def _is_open(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def served(counter_port):
    """Requests that the backend has answered so far, by its own count (the page that tells it included)."""
    with socket.create_connection(("127.0.0.1", counter_port), timeout=5) as connection:
        _, _, body = exchange(connection, counter_port, "/")
    return int(body.split(b"\n")[2].split()[2])


def wrk(program, target, seconds, connections, around=()):
    """Runs wrk (under the command `around`, if any) against (port, path); returns what it saw and the command's error output."""
    port, path = target
    threads = min(2, connections)
    command = [*around, program, f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", f"http://127.0.0.1:{port}{path}"]
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    after = os.times()
    return _parse(done.stdout, after.children_user + after.children_system - before.children_user - before.children_system), done.stderr


def _parse(text, cpu_s):
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", text)
    errors = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
    for line in re.findall(r"Socket errors: (.*)", text):
        errors += sum(map(int, re.findall(r"\d+", line)))
    return Load(
        requests=int(total.group(1)),
        seconds=float(total.group(2)) * UNITS[total.group(3)] / 1e6,
        p50_us=_percentile(text, 50),
        p99_us=_percentile(text, 99),
        errors=errors,
        cpu_s=cpu_s,
    )


def _percentile(text, rank):
    found = re.search(rf"^\s+{rank}%\s+([\d.]+)(us|ms|s|m)", text, re.MULTILINE)
    return float(found.group(1)) * UNITS[found.group(2)]
