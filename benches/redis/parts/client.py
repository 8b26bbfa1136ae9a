"""One paced client with one connection, a process of its own so that nothing else delays it. Run as a program
(PORT RATE FIRST COUNT OUT) it sends to `/item/N` until standard input closes, checks every answer, and writes OUT. After
the first it says `begun`.

A request is due at a fixed pace. If an earlier answer was late, the time counts from when the request was due, so that a stall is felt by
all requests that it held up and not only by the one that met it.
"""

import json
import re
import select
import socket
import sys
import time
from pathlib import Path

from .origin import body

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def connect(port):
    """A connection to a replica."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def exchange(sock, path):
    """One GET: true when the answer is a 200 with the right bytes. All ask for one host, as it is part of the key."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            raise ConnectionError("closed")
        data += part
    head, rest = data.split(b"\r\n\r\n", 1)
    size = int(LENGTH.search(head + b"\r\n")[1])
    while len(rest) < size:
        part = sock.recv(65536)
        if not part:
            raise ConnectionError("closed")
        rest += part
    return head.startswith(b"HTTP/1.1 200 ") and rest == body(path)


def main():
    """Sends, and writes one [begin, end, whether it was right] for each request; times are of the monotonic clock."""
    port, rate, first, count = (int(word) for word in sys.argv[1:5])
    samples, sock, number = [], None, 0
    start = time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0]:
        due = start + number / rate
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        # Our own oversleeping is not the server's fault.
        begin = time.monotonic() if wait > 0 else due
        path = f"/item/{first + number % count}"
        number += 1
        try:
            if sock is None:
                sock = connect(port)
            right = exchange(sock, path)
        except (OSError, TypeError):
            right, sock = False, None
        samples.append((begin, time.monotonic(), right))
        if number == 1:
            print("begun", flush=True)
    Path(sys.argv[5]).write_text(json.dumps(samples))


if __name__ == "__main__":
    main()
