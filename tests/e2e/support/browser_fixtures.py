"""Fixtures of the browser. A test module that uses them says `pytest_plugins = ["support.browser_fixtures"]`."""

from collections.abc import Callable, Iterator

import pytest

from support.browser import Browser, Page


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser of the run."""
    program = Browser(tmp_path_factory.mktemp("browser"))
    yield program
    program.stop()


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages: `look(proxy.admin_url, width=390)`; a path may follow the address. Ready when it returns."""
    opened: list[Page] = []

    def open_page(origin: str, path: str = "/", *, wait: bool = True, **options) -> Page:
        page = browser.open(origin + path, **options)
        opened.append(page)
        return page.wait_ready() if wait else page

    yield open_page
    for page in opened:
        page.close()
