"""Processes of a run: touchline as it is released, the backend, the clients; and what they say about themselves."""

import json
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from pathlib import Path

from support.ports import free_port

HOME = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """A process that did not start, or did something that makes its figures worthless."""


class Program:
    """A child process with its errors in a file; ended by its own id."""

    def __init__(self, name, command, folder, **options):
        self.log = folder / f"{name}.err"
        with self.log.open("w") as log:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                **{"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": log, **options},
            )

    def ready(self, condition, what, deadline_s=15.0):
        """Waits for a condition that shows that it runs, and ends it if it does not."""
        try:
            wait(condition, what, deadline_s, alive=self)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Ends it."""
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(10)
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()


class Backend(Program):
    """`origin.py` on a port of its own."""

    def __init__(self, folder):
        self.port = free_port()
        super().__init__(f"origin-{self.port}", [sys.executable, "-B", "-m", "parts.origin", self.port], folder, cwd=HOME)
        self.ready(lambda: fetch(f"http://127.0.0.1:{self.port}/count") is not None, "the backend answers")

    def count(self, path):
        """How often a path was asked for."""
        return int(fetch(f"http://127.0.0.1:{self.port}/count{path}"))


class Touchline(Program):
    """One replica with what is on by default; `cache` is laid over that part of its configuration."""

    def __init__(self, binary, folder, backend, cache):
        self.port, self.admin = free_port(), free_port()
        routes = [{"path": f"/{kind}/{{name}}", "cache": {"ttl": "1h", "public": True}} for kind in ("item", "slow")]
        config = {
            "version": 1,
            "runtime": {"workers": 2},
            "ingress": {
                "listen": f"127.0.0.1:{self.port}",
                "backend": f"http://127.0.0.1:{backend.port}",
                "routes": routes,
                "limits": {"connections": 20_000, "per_ip": 0},
            },
            "cache": cache,
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "control": "off",
        }
        # Every JSON text is YAML.
        file = folder / f"touchline-{self.port}.yaml"
        file.write_text(json.dumps(config, indent=1))
        super().__init__(f"touchline-{self.port}", [binary, "run", "-c", file], folder)
        self.ready(self._is_ready, "touchline is ready")
        if "redis" in cache:
            self.ready(self.is_up, "touchline finds redis", 30)

    def _is_ready(self):
        return fetch(f"http://127.0.0.1:{self.admin}/readyz") is not None

    def is_up(self):
        """Whether it has Redis, by its own word."""
        text = fetch(f"http://127.0.0.1:{self.admin}/metrics") or ""
        return any(line.split() == ["touchline_cache_redis_up", "1"] for line in text.splitlines())

    def given_up_at(self, since):
        """When it first said after this moment that redis is down, by the monotonic clock; none if it did not."""
        offset = time.time() - time.monotonic()
        for line in self.log.read_text().splitlines():
            if "redis is down" not in line.lower():
                continue
            at = _moment(json.loads(line)) - offset
            # The log knows milliseconds.
            if at >= since - 0.001:
                return max(at, since)
        return None


def _moment(event):
    """The time of an event of the log, in seconds of the epoch."""
    for name in ("ts", "timestamp", "time"):
        if name in event:
            return datetime.fromisoformat(event[name].replace("Z", "+00:00")).timestamp()
    raise Failed(f"an event without its time: {event}")


class Clients:
    """Paced clients on one replica, each a process with one connection and paths of its own."""

    def __init__(self, folder, port, count, rate, paths):
        self.files, self.programs = [], []
        for number in range(count):
            out = folder / f"client-{port}-{number}.json"
            out.unlink(missing_ok=True)
            words = [sys.executable, "-B", "-m", "parts.client", port, rate, number * paths, paths, out]
            self.files.append(out)
            self.programs.append(Program(f"client-{number}", words, folder, cwd=HOME, stdout=subprocess.PIPE))
        # Starting them takes a while, and is no part of any phase.
        for program in self.programs:
            program.child.stdout.readline()

    def finish(self):
        """Ends them in order and returns their samples, by when they began."""
        for program in self.programs:
            program.child.stdin.close()
        samples = []
        for program, file in zip(self.programs, self.files, strict=True):
            program.child.wait(30)
            if not file.exists():
                raise Failed(f"a client failed:\n{program.log.read_text()[-2000:]}")
            samples += json.loads(file.read_text())
        return sorted(samples)

    def stop(self):
        """Ends them however they are."""
        for program in self.programs:
            program.stop()


def fetch(url):
    """The text of a 200, or nothing for anything else."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return None


def wait(condition, what, deadline_s=15.0, alive=None):
    """Waits for a condition."""
    end = time.monotonic() + deadline_s
    while not condition():
        if alive is not None and alive.child.poll() is not None:
            raise Failed(f"it ended before {what}:\n{alive.log.read_text()[-2000:]}")
        if time.monotonic() > end:
            raise Failed(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(0.01)
