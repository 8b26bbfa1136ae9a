"""Fixtures of the Claude plane. A test module that uses them says `pytest_plugins = ["support.claude_fixtures"]`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.claude import Both, FakeClaude, Plane, Sdk
from support.ports import free_port
from support.proxy import Touchline


@pytest.fixture(scope="session")
def sdks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Sdk]]:
    """SDKs by flavour, each started once."""
    folder = tmp_path_factory.mktemp("sdks")
    started: dict[str, Sdk] = {}

    def get(flavour: str) -> Sdk:
        if flavour not in started or started[flavour].child.poll() is not None:
            started[flavour] = Sdk(flavour, folder)
        return started[flavour]

    yield get
    for sdk in started.values():
        sdk.stop()


@pytest.fixture
def sdk(sdks: Callable[[str], Sdk], request: pytest.FixtureRequest) -> Sdk:
    """The SDK that the test is parametrised with: `@every_sdk`."""
    return sdks(request.param)


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[Callable[..., FakeClaude]]:
    """Starts fakes of the API. Two of them give the same answers to the same requests."""
    with ExitStack() as stack:

        def start(*arguments: str, **options) -> FakeClaude:
            fake = FakeClaude(tmp_path, *arguments, **options)
            stack.callback(fake.stop)
            return fake

        yield start


@pytest.fixture
def plane(touchline: Callable[..., Touchline], claude: Callable[..., FakeClaude]) -> Callable[..., Plane]:
    """Starts proxies with a plane: `plane(mode="observe")`. Keyword arguments go below `claude`."""

    def start(fake: FakeClaude | None = None, **section) -> Plane:
        fake, port = fake or claude(), free_port()
        section = {"listen": f"127.0.0.1:{port}", "upstream": fake.url, **section}
        # The ingress is not asked here; it wants a backend all the same.
        return Plane(touchline(f"http://127.0.0.1:{fake.port}", claude=section), fake, port)

    return start


@pytest.fixture
def both(sdk: Sdk, claude: Callable[..., FakeClaude], plane: Callable[..., Plane]) -> Callable[..., Both]:
    """Both ways for one SDK: `both(mode="observe")`."""
    return lambda **section: Both(sdk, claude(), plane(**section))
