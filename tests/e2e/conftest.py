"""Fixtures: one real backend for the whole run, a proxy of its own for each test that wants one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.backend import Backend
from support.fault_proxy import FaultProxy
from support.process import Process
from support.proxy import Touchline, binary
from support.raw import FakeBackend
from support.redis import Cluster, RedisServer, Sentinels
from support.replicas import Origin, Replicas

_RUNNING = pytest.StashKey[list[Process | RedisServer]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Without the executable nothing can be said, so say that first."""
    try:
        binary()
    except AssertionError as error:
        pytest.exit(str(error), returncode=4)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Adds the logs of every process of a failed test to its report."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for process in item.stash.get(_RUNNING, []):
            report.sections.append((f"log of {process.name}", process.log()))


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The coaching backend. Tests share it: ask for paths of your own before you count."""
    process = Backend(tmp_path_factory.mktemp("backend"))
    yield process
    process.stop()


@pytest.fixture
def own_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Backend]]:
    """Starts coaching backends of the test's own, which it may end as it likes."""
    started: list[Backend] = []
    running = request.node.stash.setdefault(_RUNNING, [])

    def start(port: int | None = None) -> Backend:
        process = Backend(tmp_path, port)
        started.append(process)
        running.append(process)
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def touchline(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Touchline]]:
    """Starts proxies: `touchline(backend_url, ingress={...}, cache={...})`, ready when it returns."""
    started: list[Touchline] = []
    running = request.node.stash.setdefault(_RUNNING, [])

    def start(backend: Backend | FakeBackend | str, *, wait: bool = True, **sections) -> Touchline:
        process = Touchline(tmp_path, backend if isinstance(backend, str) else backend.url, **sections)
        running.append(process)
        started.append(process)
        if wait:
            process.wait_ready()
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def proxy(touchline: Callable[..., Touchline], backend: Backend) -> Touchline:
    """A proxy with the default configuration in front of the shared backend."""
    return touchline(backend)


@pytest.fixture
def fake() -> Iterator[Callable[..., FakeBackend]]:
    """Starts backends that answer with exactly the bytes of a script."""
    started: list[FakeBackend] = []

    def start(script: Callable, **options) -> FakeBackend:
        server = FakeBackend(script, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def redis_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., RedisServer]]:
    """Starts Redis servers of the test's own: `redis_server("maxmemory 1mb")`."""
    running = request.node.stash.setdefault(_RUNNING, [])
    with ExitStack() as stack:

        def start(*lines: str, **options) -> RedisServer:
            server = RedisServer(*lines, **options)
            stack.callback(server.stop)
            running.append(server)
            return server

        yield start


@pytest.fixture
def sentinels(request: pytest.FixtureRequest) -> Iterator[Sentinels]:
    """A primary, its replica and three Sentinels."""
    group = Sentinels()
    request.node.stash.setdefault(_RUNNING, []).extend([*group.servers, *group.sentinels])
    yield group
    group.stop()


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three nodes of a Redis Cluster."""
    group = Cluster()
    request.node.stash.setdefault(_RUNNING, []).extend(group.nodes)
    yield group
    group.stop()


@pytest.fixture
def fault_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Starts proxies that misbehave on demand: `fault_proxy(server.address)`."""
    with ExitStack() as stack:

        def start(target: tuple[str, int]) -> FaultProxy:
            between = FaultProxy(target)
            stack.callback(between.stop)
            return between

        yield start


@pytest.fixture
def replicas(touchline: Callable, fake: Callable, redis_server: Callable) -> Replicas:
    """One backend and one Redis; `replicas.replica()` starts a proxy between them."""
    origin = Origin()
    return Replicas(origin, fake(origin), redis_server(), touchline)
