"""The injected pod as real processes in a network namespace of its own, started and stopped in the kubelet's order.

Times are a tenth of those in docs/operations.md. What a kubelet does is from its sources and KEP-753: all preStop hooks of a
pod begin at once; with a native sidecar the backend gets its SIGTERM first and the sidecar when the backend is gone; classic
containers each get theirs when their own hook has returned.
"""

import http.server
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from support import netns
from support.netns import Namespace
from support.proxy import binary
from support.rollout import Clients, Endpoints
from support.wait import until

HOME = Path(__file__).resolve().parent

DRAIN_S, SLEEP_S, SPREAD_S = 1.5, 2.0, 1.2
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


class Api(http.server.BaseHTTPRequestHandler):
    """Claude's API, as far as it matters here."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # noqa: N802 - the name is the library's
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(MESSAGE).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Pod:
    """Both containers of a pod. `stop` is what the kubelet does; what it noted on the way is in `at`, in seconds."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.mode, self.folder, self.at = mode, folder, {}
        self.net = Namespace()
        self.address = (self.net.address, 8080)
        self.report = folder / f"report-{self.net.name}.json"
        self.api = http.server.ThreadingHTTPServer((self.net.gateway, 0), Api)
        threading.Thread(target=self.api.serve_forever, daemon=True).start()
        config = {
            "version": 1,
            "drain": {"delay": "500ms", "timeout": "4s"},
            "ingress": {"listen": "0.0.0.0:8080", "backend": "http://127.0.0.1:8000", "limits": {"per_ip": 0}},
            "claude": {
                "listen": "127.0.0.1:8081",
                "upstream": f"http://{self.net.gateway}:{self.api.server_address[1]}",
                "mode": "observe",
            },
        }
        self.file = folder / f"{self.net.name}.yaml"
        self.file.write_text(yaml.safe_dump(config))
        # As the kubelet sets it in every container.
        env = {"KUBERNETES_SERVICE_HOST": "198.51.100.1"}
        words = [str(binary()), "run", "--config", str(self.file)]
        self.proxy = self.net.process(f"{self.net.name}-proxy", words, folder, env=env)
        # Native: the startup probe over the pod's address; classic: the postStart hook. Both before the backend begins.
        until(lambda: self.probe("/livez") == 200, "the sidecar lives", deadline_s=15, every_s=0.02)
        assert self.probe("/readyz") == 503, "it is not ready without its backend"
        words = [sys.executable, "-m", "support.pod_backend", "8000", "http://127.0.0.1:8081", str(self.report)]
        env = {"COACH_TEST_ROUTES": "1"}
        self.backend = self.net.process(f"{self.net.name}-backend", words, folder, env=env, cwd=HOME)
        until(lambda: self.probe("/readyz") == 200, "the pod is ready", deadline_s=30, every_s=0.05)

    def probe(self, path: str) -> int | None:
        try:
            return httpx.get(f"http://{self.net.address}:9090{path}", trust_env=False, timeout=1).status_code
        except httpx.TransportError:
            return None

    def ask(self, path: str) -> httpx.Response:
        """One request to the pod's own address, from a client that has not heard yet."""
        return httpx.get(f"http://{self.net.address}:8080{path}", trust_env=False, timeout=5)

    def stop(self) -> None:
        """Both hooks at once; then by mode."""
        self.begun = time.monotonic()
        looking = threading.Thread(target=self._look)
        looking.start()
        both = [threading.Thread(target=end) for end in (self._end_proxy, self._end_backend)]
        self._backend_gone = threading.Event()
        for thread in both:
            thread.start()
        for thread in [*both, looking]:
            thread.join(60)

    def _note(self, what: str) -> None:
        self.at[what] = time.monotonic() - self.begun

    def _look(self) -> None:
        until(lambda: self.probe("/readyz") == 503, "/readyz says 503", deadline_s=5, every_s=0.005)
        self._note("not ready")
        time.sleep(max(0.0, self.begun + (DRAIN_S + SLEEP_S) / 2 - time.monotonic()))
        answer = self.ask("/health")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        self._note("still serving")

    def _end_proxy(self) -> None:
        hook = self.net.run(str(binary()), "drain", "--wait", f"{int(DRAIN_S * 1000)}ms", cwd=self.folder, timeout=30)
        assert (hook.returncode, hook.stderr) == (0, ""), hook.stderr
        self._note("drain hook returned")
        if self.mode == "native":
            assert self._backend_gone.wait(30)
        self.proxy.signal(signal.SIGTERM)
        self._note("SIGTERM to touchline")
        self.code = self.proxy.wait(30)
        self._note("touchline gone")

    def _end_backend(self) -> None:
        time.sleep(SLEEP_S)
        self.backend.signal(signal.SIGTERM)
        self._note("SIGTERM to backend")
        assert self.backend.wait(30) == 0
        self._note("backend gone")
        self._backend_gone.set()

    def close(self) -> None:
        for process in (self.proxy, self.backend):
            process.stop()
            # Shown with the report of a test that fails.
            print(process.log())
        self.api.shutdown()
        self.api.server_close()
        self.net.close()


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Callable[[str], Pod]]:
    """Starts pods: `pod("native")`."""
    netns.need()
    started: list[Pod] = []

    def start(mode: str) -> Pod:
        started.append(Pod(tmp_path, mode))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize("mode", ["native", "classic"])
def test_a_pod_is_replaced_without_a_failed_request(pod, mode, capsys):
    leaving, staying = pod(mode), pod(mode)
    endpoints = Endpoints(leaving.address, spread_s=SPREAD_S)
    kinds = {"keep_alive": 6, "fresh": 2, "http2": 2, "stream": 1, "websocket": 1}
    with Clients(endpoints, **kinds) as clients:
        clients.go_on(500)

        endpoints.switch(staying.address)
        leaving.stop()
        clients.go_on(500)

    calls = json.loads(leaving.report.read_text())
    leaving.at |= {what.replace("_", " "): calls[what] - leaving.begun for what in ("server_ended", "last_call")}
    with capsys.disabled():
        steps = "".join(f"\n  {at:6.3f} s  {what}" for what, at in sorted(leaving.at.items(), key=lambda item: item[1]))
        print(f"\n{mode}, a tenth of the times in docs/operations.md:{steps}", file=sys.stderr)
    clients.assert_none_failed(1000)
    assert calls["failures"] == [] and calls["calls"] > 50
    assert calls["late"] > 5, "the backend still called while it ended"
    at = leaving.at
    assert leaving.code == 0
    assert at["not ready"] < 1
    assert DRAIN_S <= at["drain hook returned"] < DRAIN_S + 0.5
    assert at["still serving"] > at["drain hook returned"] or mode == "native"
    assert at["touchline gone"] > at["last call"], "it outlasts what the backend calls out for"
    last = max(at["last call"], at["SIGTERM to touchline"])
    assert at["touchline gone"] - last < 1.2, "and not by much"
    if mode == "classic":
        assert at["SIGTERM to touchline"] < at["SIGTERM to backend"]


def test_a_pod_whose_sidecar_alone_is_restarted_does_not_wait_for_the_backend_for_ever(pod):
    """As when a liveness probe fails: the backend stays, so its port says nothing."""
    one = pod("native")

    begun = time.monotonic()
    one.proxy.signal(signal.SIGTERM)

    assert one.proxy.wait(10) == 0
    # The delay and the timeout: the backend never stops calling out.
    assert time.monotonic() - begun < 0.5 + 4.0 + 1.0
