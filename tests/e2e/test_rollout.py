"""Leaving without losing a request: a drain, a rolling restart, one process taking over from another."""

import json
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.process import Process
from support.proxy import Touchline, binary, command
from support.raw import Reader, get
from support.rollout import Clients, Endpoints
from support.wait import until

pytest_plugins = ["support.claude_fixtures"]

ALL_KINDS = {"keep_alive": 6, "fresh": 2, "http2": 2, "stream": 2, "websocket": 2}


def drain(proxy: Touchline, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`touchline drain`, as a preStop hook runs it."""
    return command("drain", "-c", str(proxy.file), *arguments)


def test_ten_thousand_requests_on_kept_connections_survive_drain_and_sigterm(touchline, backend):
    pacing = {"delay": "500ms", "timeout": "10s"}
    leaving, staying = (touchline(backend, drain=pacing) for _ in range(2))
    endpoints = Endpoints(leaving.address, spread_s=0.8)
    with Clients(endpoints, keep_alive=16, pause_s=0) as clients:
        clients.go_on(4000)

        endpoints.switch(staying.address)
        begun = time.monotonic()
        hook = drain(leaving, "--wait", "1s")
        took_s = time.monotonic() - begun
        assert (hook.returncode, hook.stderr) == (0, "")
        assert 1.0 <= took_s < 2.0
        assert leaving.is_running() and leaving.status_of("/readyz") == 503
        assert leaving.terminate() == 0
        clients.go_on(max(0, 10_000 - clients.sent))
    clients.assert_none_failed(10_000)


def test_a_sigterm_after_a_drain_does_not_wait_for_the_delay_again(touchline, backend):
    proxy = touchline(backend, drain={"delay": "1s", "timeout": "10s"})
    path = f"/test/slow/{uuid4()}"
    assert drain(proxy, "--wait", "1100ms").returncode == 0
    with proxy.connect() as sock:
        sock.sendall(get(f"{path}?ms=700"))
        until(lambda: backend.count(path) == 1, "the request is in flight")

        begun = time.monotonic()
        proxy.signal(signal.SIGTERM)

        assert Reader(sock).answer().status == 200, "what is in flight is finished"
    assert proxy.wait(5) == 0
    assert time.monotonic() - begun < 1.0 + 0.3, "and nothing is waited for beyond it"


def test_calls_to_claude_are_taken_to_the_last_while_draining(plane):
    plane = plane(mode="observe")
    proxy = plane.proxy
    statuses: list[int] = []
    failures: list[str] = []
    ended = threading.Event()
    call = {"model": "claude-haiku-4-5", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}

    def work(is_kept: bool) -> None:
        client = httpx.Client(base_url=f"http://127.0.0.1:{plane.port}", trust_env=False, timeout=10)
        while not ended.is_set():
            try:
                ask = client.post if is_kept else lambda path, **more: httpx.post(
                    f"http://127.0.0.1:{plane.port}{path}", trust_env=False, timeout=10, **more
                )
                statuses.append(ask("/v1/messages", json=call, headers=headers).status_code)
            except httpx.HTTPError as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(is_kept,), daemon=True) for is_kept in (True, True, False, False)]
    for thread in threads:
        thread.start()
    until(lambda: len(statuses) > 50, "calls are made")
    assert drain(proxy, "--wait", "800ms").returncode == 0
    before = len(statuses)
    until(lambda: len(statuses) > before + 50, "calls are taken behind the drain")
    ended.set()
    for thread in threads:
        thread.join(15)

    assert failures == []
    assert set(statuses) == {200}
    assert proxy.terminate() == 0


def test_a_backend_that_has_gone_is_answered_for_while_draining(touchline, own_backend):
    backend = own_backend()
    rule = {"ttl": "2s", "public": True, "stale_if_error": "10m"}
    routes = [{"path": "/api/challenges", "cache": rule}]
    proxy = touchline(backend, ingress={"routes": routes}, drain={"delay": "500ms", "timeout": "5s"})
    first = proxy.client.get("/api/challenges")
    assert "stored" in first.headers["cache-status"], first.headers["cache-status"]
    assert drain(proxy).returncode == 0
    backend.signal(signal.SIGTERM)
    backend.wait()
    time.sleep(2.5)

    cached = proxy.client.get("/api/challenges")
    absent = proxy.client.get("/health")
    posted = proxy.client.post("/coach/chat", json={"message": "hi"})

    assert (cached.status_code, cached.headers["x-cache-status"]) == (200, "stale")
    assert cached.content == first.content
    for answer in (absent, posted):
        assert (answer.status_code, answer.json()["reason"]) == (503, "draining")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["connection"] == "close"
    assert proxy.terminate() == 0


def test_a_websocket_that_stays_is_told_at_the_deadline_that_the_server_goes(touchline, backend):
    proxy = touchline(backend, drain={"delay": "0s", "timeout": "1s"})
    with connect(proxy.url.replace("http", "ws") + "/ws/coach", proxy=None) as line:
        line.send("before")
        assert line.recv(timeout=5) == "before"

        begun = time.monotonic()
        proxy.signal(signal.SIGTERM)
        time.sleep(0.5)
        line.send("meanwhile")
        assert line.recv(timeout=5) == "meanwhile", "it works until the deadline"

        with pytest.raises(ConnectionClosed) as closed:
            line.recv(timeout=5)
        assert 0.9 <= time.monotonic() - begun < 3
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
    assert proxy.wait(5) == 0


def test_an_event_stream_has_until_the_deadline_and_then_shows_that_it_was_cut(touchline, backend):
    proxy = touchline(backend, drain={"delay": "0s", "timeout": "1s"})
    gate = str(uuid4())
    with proxy.connect() as sock:
        sock.sendall(get(f"/test/gated/{gate}?events=3"))
        stream = Reader(sock)
        assert stream.until(b"data: 0\n\n")

        proxy.signal(signal.SIGTERM)
        time.sleep(0.5)
        backend.open_gate(gate)
        assert stream.until(b"data: 1\n\n"), "it goes on while the process ends"

        rest = b""
        try:
            while data := sock.recv(65536):
                rest += data
        except ConnectionResetError:
            pass
        assert not rest.endswith(b"0\r\n\r\n"), "no last chunk: it was cut"
    assert proxy.wait(5) == 0


def test_a_second_signal_takes_a_tenth_of_a_second(touchline, backend):
    times = []
    for _ in range(5):
        proxy = touchline(backend, drain={"delay": "20s", "timeout": "20s"})
        path = f"/test/slow/{uuid4()}"
        with proxy.connect() as sock, connect(proxy.url.replace("http", "ws") + "/ws/coach", proxy=None):
            sock.sendall(get(f"{path}?ms=20000"))
            until(lambda: backend.count(path) == 1, "the request is in flight")
            proxy.signal(signal.SIGTERM)
            until(lambda: proxy.status_of("/readyz") == 503, "it drains")

            begun = time.monotonic()
            proxy.signal(signal.SIGTERM)
            assert proxy.child.wait(5) == 0
            times.append(time.monotonic() - begun)

    # A machine that is busy with something else may be late once.
    assert statistics.median(times) <= 0.1, times


@pytest.mark.parametrize(
    ("outlast", "at_most_s"), [(True, 2.6), (False, 1.0)], ids=["outlasting", "not outlasting"]
)
def test_a_process_that_is_to_outlast_its_backend_serves_until_that_has_gone(
    touchline, own_backend, outlast, at_most_s
):
    """Both get their signal at once, as the containers of a pod do; the backend ends later."""
    backend = own_backend()
    proxy = touchline(backend, drain={"delay": "0s", "timeout": "4s", "outlast_backend": outlast})

    begun = time.monotonic()
    proxy.signal(signal.SIGTERM)
    if outlast:
        while time.monotonic() - begun < 1.5:
            answer = httpx.get(f"{proxy.url}/health", trust_env=False)
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        backend.signal(signal.SIGTERM)

    assert proxy.wait(10) == 0
    assert time.monotonic() - begun < at_most_s


def test_a_backend_that_does_not_go_is_waited_for_no_longer_than_half_the_timeout(touchline, backend):
    proxy = touchline(backend, drain={"delay": "0s", "timeout": "2s", "outlast_backend": True})

    begun = time.monotonic()

    assert proxy.terminate() == 0
    assert 0.9 <= time.monotonic() - begun < 1.9


class Pod:
    """A backend and its sidecar, which end in the order of a native sidecar: both hooks, the backend, then the proxy."""

    def __init__(self, touchline, own_backend) -> None:
        self.backend = own_backend()
        self.proxy = touchline(self.backend, drain={"delay": "500ms", "timeout": "10s"})
        self.leaving = threading.Thread(target=self._leave, daemon=True)
        self.code: int | None = None

    def _leave(self) -> None:
        hook = subprocess.Popen([binary(), "drain", "-c", self.proxy.file, "--wait", "1500ms"], stdout=subprocess.DEVNULL)
        time.sleep(2.0)
        self.backend.signal(signal.SIGTERM)
        self.backend.wait(20)
        assert hook.wait(5) == 0
        self.code = self.proxy.terminate(20)


def test_a_rolling_restart_fails_no_request_of_any_kind(touchline, own_backend):
    pods = [Pod(touchline, own_backend)]
    endpoints = Endpoints(pods[0].proxy.address, spread_s=1.2)
    with Clients(endpoints, **ALL_KINDS) as clients:
        clients.go_on(1000)
        for _ in range(2):
            # maxUnavailable 0, maxSurge 1: the next one is ready before the last one leaves.
            pods.append(Pod(touchline, own_backend))
            endpoints.switch(pods[-1].proxy.address)
            pods[-2].leaving.start()
            pods[-2].leaving.join(40)
            assert pods[-2].code == 0
            clients.go_on(500)
        clients.go_on(max(0, 5000 - clients.sent))

    clients.assert_none_failed(5000)
    assert clients.tallies["websocket"].seen[1006] == 0


class Successor(Process):
    """A second process with the configuration of another, which it takes over from."""

    def __init__(self, before: Touchline, folder: Path, *, patience: str = "10s", file: Path | None = None) -> None:
        words = [str(binary()), "run", f"--take-over={patience}", "-c", str(file or before.file)]
        super().__init__(f"touchline-{before.port}-{uuid4().hex[:6]}", words, folder)

    def told(self, message: str) -> bool:
        return message in self.err.read_text()


@pytest.fixture
def successor(tmp_path, request):
    """Starts successors, and ends them with the test."""
    started: list[Successor] = []

    def start(before: Touchline, **options) -> Successor:
        started.append(Successor(before, tmp_path, **options))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def test_a_new_process_takes_over_twenty_times_under_load(touchline, backend, successor):
    proxy = touchline(backend, drain={"delay": "300ms", "timeout": "10s"})
    old: Process = proxy
    with Clients(Endpoints(proxy.address), keep_alive=6, fresh=6, http2=2, stream=1, websocket=1) as clients:
        clients.go_on(300)
        for turn in range(20):
            new = successor(proxy)
            until(lambda new=new: new.told("taken over") or not new.is_running(), f"take-over {turn}", deadline_s=20)
            assert new.is_running(), new.log()
            # Whoever asks the probe now asks the new one, and was never told to go away.
            assert proxy.new_client(base_url=proxy.admin_url).get("/readyz").status_code == 200
            assert old.wait(20) == 0, old.log()
            clients.go_on(100)
            old = new

    clients.assert_none_failed(2300)
    old.signal(signal.SIGTERM)
    assert old.wait(20) == 0


def test_who_was_taken_over_from_finishes_what_it_has_also_when_it_is_told_to_end(touchline, backend, successor):
    """As a service manager does that stops the old unit."""
    proxy = touchline(backend, drain={"delay": "300ms", "timeout": "10s"})
    path = f"/test/slow/{uuid4()}"
    with proxy.connect() as sock, connect(proxy.url.replace("http", "ws") + "/ws/coach", proxy=None) as line:
        sock.sendall(get(f"{path}?ms=1500"))
        until(lambda: backend.count(path) == 1, "the request is in flight")

        new = successor(proxy)
        until(lambda: new.told("taken over"), "it is taken over")
        proxy.signal(signal.SIGTERM)

        assert Reader(sock).answer().status == 200
        line.send("still there")
        assert line.recv(timeout=5) == "still there"
    assert proxy.wait(10) == 0
    assert new.is_running()


def test_a_process_that_does_not_become_ready_takes_nothing_over(touchline, backend, successor, tmp_path):
    proxy = touchline(backend)
    text = proxy.file.read_text().replace(backend.url, "http://127.0.0.1:1")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text)
    with Clients(Endpoints(proxy.address), keep_alive=2, fresh=2) as clients:
        clients.go_on(50)

        new = successor(proxy, patience="700ms", file=wrong)

        assert new.wait(20) == 1
        clients.go_on(200)
    last = new.err.read_text().strip().splitlines()[-1]
    assert "the process that runs goes on" in last and "not ready within 700ms" in last, last
    clients.assert_none_failed(250)
    assert proxy.is_ready()


def test_with_nothing_to_take_over_from_it_starts_as_usual(touchline, backend, successor):
    proxy = touchline(backend)
    assert proxy.terminate() == 0

    new = successor(proxy)

    until(lambda: new.told("touchline is up"), "it is up")
    assert new.told("nothing to take over from")
    until(lambda: proxy.status_of("/readyz") == 200, "it is ready")
    new.signal(signal.SIGTERM)
    assert new.wait(10) == 0


def test_an_address_of_somebody_else_is_not_taken(touchline, backend, successor, fake):
    """Whoever listens there does not share, so nothing is taken away from it."""
    stranger = fake(lambda sock, request: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
    proxy = touchline(backend)
    text = proxy.file.read_text().replace(f":{proxy.control_port}", f":{stranger.port}")
    other = proxy.file.with_name("other.yaml")
    other.write_text(text)

    new = successor(proxy, file=other)

    assert new.wait(10) == 1
    assert "Address already in use" in new.err.read_text()
    assert proxy.is_ready()


def test_the_service_manager_hears_when_it_serves_and_when_it_ends(touchline, backend, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        proxy = touchline(backend, wait=False)
        proxy.wait_ready()
        proxy.terminate()
        process = Process(
            "told",
            [str(binary()), "run", "-c", str(proxy.file)],
            tmp_path,
            env={"NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        try:
            assert manager.recv(512).startswith(b"READY=1\n")
            assert proxy.connect().close() is None
            process.signal(signal.SIGTERM)
            assert manager.recv(512).startswith(b"STOPPING=1\n")
            assert process.wait(10) == 0
        finally:
            process.stop()


def test_a_drain_counts_down_on_a_terminal_and_is_quiet_elsewhere(touchline, backend):
    proxy = touchline(backend)

    piped = drain(proxy, "--wait", "300ms")
    words = json.dumps([str(binary()), "drain", "-c", str(proxy.file), "--wait", "1200ms"])
    script = f"import pty, json, sys; sys.exit(pty.spawn(json.loads({words!r})) >> 8)"
    watched = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=20, check=False)

    assert piped.stdout == "draining: no longer ready, still serving until a signal comes\n"
    assert watched.returncode == 0
    assert b"2 s left" in watched.stdout and b"1 s left" in watched.stdout


def test_a_drain_that_cannot_be_ordered_says_so_at_once(touchline, backend, tmp_path):
    """A hook that waits although nothing drains would only cost the pod its time."""
    proxy = touchline(backend)
    broken = tmp_path / "broken.yaml"
    broken.write_text("version: 2\n")

    begun = time.monotonic()
    hook = command("drain", "-c", str(broken), "--wait", "5s")

    assert hook.returncode == 1
    assert hook.stderr.count("\n") == 1 and "touchline check -c" in hook.stderr
    assert time.monotonic() - begun < 5
    assert proxy.is_ready()
