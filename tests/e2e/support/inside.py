"""Runs in a network namespace, that of a pod or one of its own, as a program: `python -m support.inside WHAT ...`.

It needs nothing but the standard library, as it runs where there is no network, and prints JSON.
"""

import fcntl
import http.client
import http.server
import json
import os
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BODY = b'{"from":"backend"}'
A, AAAA = 1, 28


class Backend(http.server.BaseHTTPRequestHandler):
    """Answers every GET with the same."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def serve(port: int) -> None:
    """The backend, until this process ends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def status_of(port: int, path: str, timeout_s: float = 10.0) -> int | None:
    """The status of an answer; none where nothing listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except OSError:
        return None
    finally:
        connection.close()


def wait_for(port: int, path: str, deadline_s: float = 20.0) -> float:
    """When a path first answered 200."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if status_of(port, path) == 200:
            return time.monotonic()
        time.sleep(0.001)
    raise SystemExit(f"no 200 from {path} on port {port} within {deadline_s} s")


def loopback_up() -> None:
    """A new network namespace has its loopback down."""
    with socket.socket() as sock:
        name = b"lo".ljust(16, b"\0")
        flags = struct.unpack("16sH", fcntl.ioctl(sock, 0x8913, name + b"\0\0")[:18])[1]
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", name, flags | 1))


class Names:
    """A DNS server (RFC 1035) with a fixed table: the addresses of a name. A name that is not there does not exist."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table = {name.lower(): addresses for name, addresses in table.items()}
        self.asked: list[str] = []
        names = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                query, sock = self.request
                sock.sendto(names.answer(query, limit=512), self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while head := self.rfile.read(2):
                    answer = names.answer(self.rfile.read(struct.unpack("!H", head)[0]), limit=65_535, mark="tcp ")
                    self.wfile.write(struct.pack("!H", len(answer)) + answer)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        for server in (socketserver.ThreadingUDPServer(("127.0.0.1", 53), Udp), socketserver.ThreadingTCPServer(("127.0.0.1", 53), Tcp)):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(self, query: bytes, limit: int, mark: str = "") -> bytes:
        """The answer, cut to nothing and marked so (TC) when it is over the limit."""
        number = query[:2]
        place, labels = 12, []
        while query[place]:
            labels.append(query[place + 1 : place + 1 + query[place]].decode())
            place += 1 + query[place]
        name = ".".join(labels).lower()
        kind = struct.unpack("!H", query[place + 1 : place + 3])[0]
        question = query[12 : place + 5]
        self.asked.append(mark + name)
        known = self.table.get(name)
        addresses = (known or []) if kind == A else []
        records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 5, 4) + socket.inet_aton(one) for one in addresses)
        flags, count = (0x8583 if known is None else 0x8580), len(addresses)
        if 12 + len(question) + len(records) > limit:
            flags, count, records = flags | 0x0200, 0, b""
        return number + struct.pack("!HHHHH", flags, 1, count, 0, 0) + question + records


class Touchline:
    """touchline in a folder of its own, which holds the files of the image and a configuration, and is its root: as in a container."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = folder / "root"
        self.log = folder / "touchline.err"
        shutil.copytree(root, self.root)

    @contextmanager
    def running(self, host: str) -> Iterator[float]:
        """Runs it with this host as its backend; gives the time of its start."""
        file = {
            "version": 1,
            "ingress": {"listen": "127.0.0.1:8080", "backend": f"http://{host}:8000"},
            "admin": {"listen": "127.0.0.1:9090"},
            "control": {"listen": "127.0.0.1:9091"},
        }
        (self.root / "proxy.yaml").write_text(json.dumps(file))
        command = ["chroot", "--userspec=65532:65532", self.root, "/usr/local/bin/touchline", "run", "--config", "/proxy.yaml"]
        began = time.monotonic()
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env={"PATH": os.environ["PATH"]}
            )
        try:
            yield began
        finally:
            child.kill()
            child.wait()


def names(root: Path, folder: Path) -> list[dict]:
    """For each host of `folder/scene.json` what touchline answers when that is its backend, and what it asked the resolver."""
    scene = json.loads((folder / "scene.json").read_text())
    server = Names(scene["table"])
    serve(8000)
    touchline = Touchline(root, folder)
    (touchline.root / "etc" / "resolv.conf").write_text(scene["resolv.conf"])
    results = []
    for host in scene["hosts"]:
        server.asked.clear()
        with touchline.running(host):
            wait_for(9090, "/livez")
            status = status_of(8080, "/")
        results.append({"host": host, "status": status, "asked": list(dict.fromkeys(server.asked))})
    return results


def starts(root: Path, folder: Path) -> list[float]:
    """The milliseconds from the start of the process to the first 200 from `/readyz`, nine times, with the backend up."""
    serve(8000)
    touchline = Touchline(root, folder)
    measured = []
    for _ in range(9):
        with touchline.running("127.0.0.1") as began:
            measured.append((wait_for(9090, "/readyz") - began) * 1000)
    return measured


def main(what: str, *arguments: str) -> None:
    """The command line."""
    if what == "status":
        print(json.dumps(status_of(int(arguments[0]), arguments[1])))
    elif what in ("names", "starts"):
        loopback_up()
        print(json.dumps({"names": names, "starts": starts}[what](*map(Path, arguments))))
    else:
        raise SystemExit(f"unknown: {what}")


if __name__ == "__main__":
    main(*sys.argv[1:])
