"""touchline itself: the built binary, a configuration in a temporary folder, free ports."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import yaml

from support.ports import free_port
from support.process import Process
from support.wait import until

ROOT = Path(__file__).resolve().parents[3]

# The routes of the coaching backend as an operator would write them.
ROUTES = [
    {
        "path": "/api/challenges",
        "cache": {"ttl": "30m", "public": True, "tags": ["challenges"], "key": {"query": {"only": ["difficulty"]}}},
    },
    {"path": "/api/user/reputation/{user_id}", "cache": {"ttl": "15m", "tags": ["reputation:{user_id}"]}},
    {"path": "/api/session/{session_id}", "methods": ["GET"]},
    {
        "path": "/api/session/{session_id}/confirm",
        "methods": ["POST"],
        "invalidates": ["reputation:*"],
    },
    {"path": "/coach/chat", "slow_after": "8s"},
    {"path": "/coach/chat/stream"},
    {"path": "/coach/sessions/{user_id}", "cache": {"ttl": "1m", "tags": ["coach:{user_id}"]}},
]


def binary() -> Path:
    """The executable under test: `TOUCHLINE_BIN`, else what `cargo build` made."""
    path = Path(os.environ.get("TOUCHLINE_BIN") or ROOT / "target" / "debug" / "touchline")
    assert path.is_file(), f"{path} is missing: run `cargo build`, or set TOUCHLINE_BIN"
    return path.resolve()


def merged(base: dict, extra: dict) -> dict:
    """`extra` laid over `base`, map by map; lists and plain values replace."""
    result = dict(base)
    for key, value in extra.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


class Touchline(Process):
    """One running proxy. Keyword arguments are laid over the default configuration, section by section."""

    def __init__(self, folder: Path, backend: str, **sections: dict | str) -> None:
        self.port, self.admin_port, self.control_port = free_port(), free_port(), free_port()
        self.address = ("127.0.0.1", self.port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.control_url = f"http://127.0.0.1:{self.control_port}"
        self.config = merged(
            {
                "version": 1,
                # Also where the tests run in a pod: their backend outlives the proxy.
                "drain": {"delay": "0s", "timeout": "2s", "outlast_backend": False},
                "ingress": {"listen": f"127.0.0.1:{self.port}", "backend": backend, "routes": ROUTES},
                # A test run sends more than 50 requests a second, and wants every line.
                "telemetry": {"access_log": {"per_second": 1_000_000}},
                "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
                "control": {"listen": f"127.0.0.1:{self.control_port}"},
            },
            sections,
        )
        self.file = folder / f"proxy-{self.port}.yaml"
        self.file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        super().__init__(f"touchline-{self.port}", [str(binary()), "run", "-c", str(self.file)], folder)
        self._clients: list[httpx.Client] = []
        self.client = self.new_client()
        self.admin = self.new_client(base_url=self.admin_url)
        self.control = self.new_client(base_url=self.control_url)

    def wait_ready(self) -> None:
        """Returns once the probe says ready."""
        until(self.is_ready, "touchline is ready", deadline_s=10)

    def new_client(self, **options) -> httpx.Client:
        """One more HTTP client for the ingress listener, closed with the proxy."""
        client = httpx.Client(**{"base_url": self.url, "trust_env": False, "timeout": 20, **options})
        self._clients.append(client)
        return client

    def h2_client(self) -> httpx.Client:
        """A client that speaks HTTP/2 at once, without being asked to (prior knowledge)."""
        return self.new_client(http1=False, http2=True)

    def is_ready(self) -> bool:
        """`/readyz` says 200. Fails the test when the process has ended."""
        assert self.is_running(), f"touchline ended with {self.child.returncode}:\n{self.log()}"
        return self.status_of("/readyz") == 200

    def status_of(self, path: str) -> int | None:
        """The status of a path on the admin listener; none while nothing listens there."""
        try:
            return self.admin.get(path).status_code
        except httpx.TransportError:
            return None

    def access_log(self) -> list[dict]:
        """The access log so far. A line that is not JSON fails the test."""
        text = self.out.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def events(self) -> list[dict]:
        """The log so far, as JSON."""
        text = self.err.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def connect(self, timeout_s: float = 10.0) -> socket.socket:
        """A bare TCP connection to the ingress listener."""
        return socket.create_connection(self.address, timeout=timeout_s)

    def terminate(self, deadline_s: float = 10.0) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(deadline_s)

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        super().stop()


def command(
    *arguments: str, env: dict[str, str] | None = None, deadline_s: float = 20.0
) -> subprocess.CompletedProcess[str]:
    """Runs the executable once, to its end."""
    return subprocess.run(
        [str(binary()), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        env={**os.environ, **(env or {})},
        check=False,
    )
