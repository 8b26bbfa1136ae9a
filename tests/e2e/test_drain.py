"""The end of the process: nobody who was served or is being served notices."""

import signal
import subprocess
import threading
import time
from uuid import uuid4

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.raw import Reader, get
from support.wait import until

PATHS = ("/api/challenges", "/health", "/test/bytes/5000", "/test/slow?ms=30")


class Load:
    """Clients that send one request after another until told to stop, and keep what went wrong."""

    def __init__(self, proxy, *, keep_alive: int, fresh: int, http2: int) -> None:
        self.proxy = proxy
        self.stopping = threading.Event()
        self.failures: list[str] = []
        self.served = 0
        self.lock = threading.Lock()
        kinds = [self._keep_alive] * keep_alive + [self._fresh] * fresh + [self._http2] * http2
        self.threads = [threading.Thread(target=kind, daemon=True) for kind in kinds]
        for thread in self.threads:
            thread.start()

    def _keep_alive(self) -> None:
        client = self.proxy.new_client()
        while not self.stopping.is_set():
            for path in PATHS:
                self._ask(client.get, path)

    def _fresh(self) -> None:
        while not self.stopping.is_set():
            for path in PATHS:
                self._ask(httpx.get, self.proxy.url + path, trust_env=False, timeout=10)

    def _ask(self, get_url, url: str, **options) -> None:
        try:
            answer = get_url(url, **options)
            failure = None if answer.status_code == 200 else f"{answer.status_code} {answer.text}"
        except httpx.HTTPError as error:
            failure = repr(error)
        self._note(1, f"{url}: {failure}" if failure else None)

    def _http2(self) -> None:
        """curl, as httpx cannot follow a GOAWAY that leaves its running streams alone (RFC 9113 section 6.8).

        One request a connection, as Debian 12's curl cannot send a second one with prior knowledge.
        """
        curl = ["curl", "--silent", "--show-error", "--noproxy", "*", "--fail", "--http2-prior-knowledge"]
        while not self.stopping.is_set():
            for path in PATHS:
                command = [*curl, "--output", "/dev/null", self.proxy.url + path]
                done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
                self._note(1, f"curl {path}: {done.stderr}" if done.returncode else None)

    def _note(self, served: int, failure: str | None) -> None:
        with self.lock:
            self.served += served
            if failure:
                self.failures.append(failure)

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=15)


def test_sigterm_under_load_fails_no_request(touchline, backend):
    proxy = touchline(backend, drain={"delay": "2500ms", "timeout": "5s"})
    with Load(proxy, keep_alive=6, fresh=3, http2=3) as load:
        until(lambda: load.served > 150, "the load is on", deadline_s=20)

        proxy.signal(signal.SIGTERM)
        until(lambda: proxy.status_of("/readyz") == 503, "/readyz says draining")
        before = load.served
        assert proxy.status_of("/livez") == 200
        # A balancer that polls /readyz sends no more after this; until then everything is still served.
        until(lambda: load.served > before + 50, "requests are served while draining", deadline_s=2)

    assert proxy.wait(10) == 0
    assert load.failures == []


def test_answers_while_draining_ask_the_client_to_go(touchline, backend):
    proxy = touchline(backend, drain={"delay": "3s", "timeout": "1s"})
    with proxy.connect() as sock:
        reader = Reader(sock)
        sock.sendall(get("/health"))
        assert not reader.answer().all("connection")

        proxy.signal(signal.SIGTERM)
        until(lambda: proxy.status_of("/readyz") == 503, "/readyz says draining")
        sock.sendall(get("/health"))
        answer = reader.answer()

        assert answer.status == 200
        assert answer["connection"].lower() == "close"
        assert reader.is_closed()
    assert httpx.get(f"{proxy.url}/health", trust_env=False).status_code == 200


def test_requests_in_flight_are_finished(touchline, backend):
    proxy = touchline(backend, drain={"delay": "0s", "timeout": "10s"})
    slow, gate = f"/test/slow/{uuid4()}", str(uuid4())
    with proxy.connect() as waiting, proxy.connect() as streaming:
        waiting.sendall(get(f"{slow}?ms=1500"))
        streaming.sendall(get(f"/test/gated/{gate}?events=2"))
        stream = Reader(streaming)
        assert stream.until(b"data: 0\n\n")
        until(lambda: backend.count(slow) == 1, "the slow request is in flight")

        proxy.signal(signal.SIGTERM)
        until(lambda: _refused(proxy), "the listener is closed")
        backend.open_gate(gate)

        assert stream.until(b"data: 1\n\n")
        assert Reader(waiting).answer().status == 200
    assert proxy.wait(10) == 0


def test_an_http2_stream_in_flight_is_finished(touchline, backend):
    proxy = touchline(backend, drain={"delay": "0s", "timeout": "10s"})
    path = f"/test/slow/{uuid4()}"
    command = ["curl", "--silent", "--noproxy", "*", "--fail", "--http2-prior-knowledge", f"{proxy.url}{path}?ms=1000"]
    curl = subprocess.Popen(command, stdout=subprocess.PIPE)
    until(lambda: backend.count(path) == 1, "the request is in flight")

    proxy.signal(signal.SIGTERM)

    body, _ = curl.communicate(timeout=10)
    assert (curl.returncode, body) == (0, b'{"waited_ms":1000}')
    assert proxy.wait(10) == 0


def _refused(proxy) -> bool:
    try:
        proxy.connect(timeout_s=1).close()
    except OSError:
        return True
    return False


def test_what_does_not_end_is_ended_at_the_timeout_and_the_exit_is_still_orderly(touchline, backend):
    proxy = touchline(backend, drain={"delay": "0s", "timeout": "700ms"})
    with connect(proxy.url.replace("http", "ws") + "/ws/coach", proxy=None) as socket:
        socket.send("hi")
        assert socket.recv(timeout=5) == "hi"

        begun = time.monotonic()
        proxy.signal(signal.SIGTERM)

        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=5)
    assert proxy.wait(5) == 0
    assert 0.5 <= time.monotonic() - begun < 3


def test_a_second_signal_ends_it_at_once(touchline, backend):
    proxy = touchline(backend, drain={"delay": "20s", "timeout": "20s"})
    slow = f"/test/slow/{uuid4()}"
    with proxy.connect() as sock:
        sock.sendall(get(f"{slow}?ms=20000"))
        until(lambda: backend.count(slow) == 1, "the slow request is in flight")
        proxy.signal(signal.SIGTERM)
        until(lambda: proxy.status_of("/readyz") == 503, "/readyz says draining")

        begun = time.monotonic()
        proxy.signal(signal.SIGTERM)
        proxy.wait(5)

    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("delay", ["0s", "300ms"])
def test_idle_connections_do_not_hold_up_the_end(touchline, backend, delay):
    proxy = touchline(backend, drain={"delay": delay, "timeout": "20s"})
    proxy.client.get("/health")
    proxy.h2_client().get("/health")
    with proxy.connect():
        begun = time.monotonic()

        assert proxy.terminate() == 0

    assert time.monotonic() - begun < 1.5


def test_interrupt_from_a_terminal_drains_too(touchline, backend):
    proxy = touchline(backend)

    proxy.signal(signal.SIGINT)

    assert proxy.wait(5) == 0
