"""The page of the admin listener in a real browser: what it shows, that it stays whole, and who may follow it."""

import gzip
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import httpx
import pytest

from support.browser import REFUSED, Page
from support.claude import FakeClaude, asking
from support.figures import expected, shown
from support.ports import free_port
from support.proxy import Touchline
from support.raw import Reader, ask as ask_raw, get
from support.scene import ROUTES, Site, Traffic, ask, browse
from support.wait import until

pytest_plugins = ["support.browser_fixtures", "support.claude_fixtures"]

HOSTILE = "<img src=x onerror=alert(1)>"
VIEWERS = 48


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def served(touchline, fake, site) -> Callable[..., Touchline]:
    """Starts proxies before the small application."""

    def start(**sections) -> Touchline:
        sections = {"ingress": {"routes": ROUTES}, "telemetry": {"service": "coach-api"}, **sections}
        return touchline(fake(site), **sections)

    return start


def is_whole(page: Page, origin: str, *expected: str) -> None:
    """Nothing went wrong in it, nothing was asked elsewhere, and everyone can use it."""
    assert page.problems(*expected) == []
    assert page.off_host(origin) == []
    assert page.overflow() == 0
    assert page.eval(BELOW) < 40, "nothing but the footer at its end"
    assert page.axe() == []


BELOW = """() => document.documentElement.scrollHeight
  - Math.max(innerHeight - 40, document.querySelector('footer').getBoundingClientRect().bottom + scrollY)"""


def test_the_instruments_see_what_they_look_for(served, look):
    """A test that finds nothing has to be able to find something."""
    proxy = served()
    page = look(proxy.admin_url)

    page.eval("() => { console.error('told'); setTimeout(() => { throw new Error('thrown'); }); }")
    page.eval("() => { const code = document.createElement('script'); code.textContent = 'alert(1)'; document.body.append(code); }")
    page.eval("() => { document.body.insertAdjacentHTML('beforeend', '<img src=\"http://elsewhere.invalid/x.png\" width=3000 height=1>'); }")

    until(lambda: len(page.problems()) >= 4, "all are noticed")
    found = "\n".join(page.problems())
    for word in ("console: told", "exception: thrown", "policy: script-src", "policy: img-src"):
        assert word in found
    assert page.overflow() > 0
    assert any("image-alt" in line for line in page.axe())


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_is_whole_under_traffic(served, look, site, width, scheme):
    proxy = served()
    site.slow["/api/matches/slow"] = 0.35
    browse(proxy, 10)
    ask(proxy, "/api/matches/slow-#", 3, at_once=3)

    with Traffic(proxy):
        page = look(proxy.admin_url, width=width, scheme=scheme)
        page.shows("/api/challenges", "Slow requests", "over its limit of 300 ms", "Live tail")
        # Long enough to be told a few changes.
        first = page.text("header time") if width == 1440 else None
        time.sleep(2.5)

        is_whole(page, proxy.admin_url)
        page.shot(f"traffic-{width}-{scheme}")
        if first is not None:
            assert page.text("header time") != first


def test_every_number_is_that_of_the_snapshot(served, look, site):
    proxy = served()
    site.failing["/api/orders/bad"] = "503 Service Unavailable"
    browse(proxy)
    ask(proxy, "/api/orders/bad-#", 4)
    page = look(proxy.admin_url, "/?window=1h")
    differs = {}

    def agree() -> bool:
        nonlocal differs
        there = shown(page)
        wanted = expected(proxy.admin.get("/api/v1/snapshot", params={"window": "1h"}).json())
        differs = {name: (there.get(name), value) for name, value in wanted.items() if there.get(name) != value}
        return not differs and len(there) == len(wanted)

    try:
        until(agree, "the page agrees with the snapshot", 15, every_s=0.15)
    except AssertionError:
        raise AssertionError(f"(shown, should be): {differs}") from None
    there = shown(page)
    assert len([name for name in there if name.startswith("route ")]) == 6
    assert there["tile answered 5xx"] not in ("0.00%", "–") and there["cache bars"]


def test_right_after_the_start_it_says_what_it_waits_for(served, look):
    proxy = served()

    page = look(proxy.admin_url)

    text = page.shows("Healthy: nothing is wrong.", "Waiting for the first request in this window", "since start")
    assert "Waiting for the first request to a route with a cache rule" in text
    assert "Nothing was slower than its route's limit" in text
    tiles = {name: value for name, value in page.eval(EMPTY_TILES)}
    assert tiles.pop("requests") == "0.00 /s"
    assert set(tiles.values()) == {"–"}, "unknown is a dash, never 0"
    is_whole(page, proxy.admin_url)
    page.shot("empty-1440-dark")
    narrow = look(proxy.admin_url, width=390, scheme="light")
    is_whole(narrow, proxy.admin_url)
    narrow.shot("empty-390-light")


EMPTY_TILES = """() => [...document.querySelectorAll('.tiles > div')].map(tile =>
  [tile.querySelector('dt').textContent, tile.querySelector('.value').textContent.trim()])"""


def test_hostile_text_stays_text(served, look, claude, site):
    api: FakeClaude = claude()
    port = free_port()
    proxy = served(
        admin={"paths": "full"},
        telemetry={"service": "coach-api", "access_log": {"per_second": 1_000_000}},
        claude={"listen": f"127.0.0.1:{port}", "upstream": api.url},
    )
    site.slow["/api/matches/"] = 0.35
    quoted = HOSTILE.replace("<", "%3C").replace(">", "%3E").replace(" ", "%20")
    page = look(proxy.admin_url, f"/#route={quoted}")
    page.shows("This route has no requests in memory any more.", HOSTILE, selector="dialog")
    page.press("Escape")
    until(lambda: not page.has("dialog"), "the drawer is closed")

    ask(proxy, f"/{quoted}?q={quoted}")
    ask(proxy, f"/api/users/{quoted}", 2)
    ask(proxy, f"/api/matches/{quoted}")
    for name in ("traceparent", "x-request-id", "user-agent"):
        proxy.client.get("/api/challenges", headers={name: HOSTILE})
    # Unescaped in the request line: refused.
    assert ask_raw(proxy.address, get(f"/{HOSTILE.replace(' ', '/')}")).status == 400
    httpx.post(
        f"http://127.0.0.1:{port}/v1/messages",
        json=asking("hi", HOSTILE),
        headers={"x-api-key": "k", "anthropic-version": "2023-06-01"},
        trust_env=False,
    )

    page.shows("/api/users/%3Ci", selector="#cache")
    page.shows(f"/api/matches/{quoted}", selector="#slow")
    page.shows(f"/api/users/{quoted}", f"/{quoted}", selector="#tail")
    page.shows("Claude", "404", selector="#tail")
    page.click("table.routes tbody tr:last-child button")
    page.shows("Last requests", selector="dialog")
    assert page.eval("() => document.querySelectorAll('img, [onerror], script:not([src])').length") == 0
    # The drawer of a route that there is not was refused.
    is_whole(page, proxy.admin_url, REFUSED)
    page.shot("hostile-1440-dark", full=False)


def test_a_hostile_query_of_the_page_is_refused_as_text(served, look):
    proxy = served()

    page = look(proxy.admin_url, "/?window=%3Cimg%20src=x%20onerror=alert(1)%3E", wait=False)

    time.sleep(1)
    assert page.eval("() => document.querySelectorAll('img').length") == 0
    assert page.problems(REFUSED) == []


def test_without_scripts_the_verdict_and_the_routes_are_there(served, look):
    proxy = served()
    browse(proxy)

    for width, scheme in ((1440, "dark"), (390, "light")):
        page = look(proxy.admin_url, width=width, scheme=scheme, scripts=False, wait=False)

        text = page.text()
        assert page.status == 200
        for words in ("Healthy: nothing is wrong.", "of 100", "Routes", "/api/challenges", "/api/users/{user_id}", "GET"):
            assert words in text
            assert page.overflow() == 0
        assert page.problems() == []
        boxes = page.eval("() => [...document.querySelectorAll('.tiles dd')].map(one => one.scrollWidth <= one.clientWidth)")
        assert boxes == [True] * 4, "each number has room in its tile"
        assert page.eval("() => [...document.querySelectorAll('.scroll')].every(one => one.scrollWidth <= one.clientWidth)")
        page.shot(f"no-scripts-{width}-{scheme}")


def routes_of(page: Page) -> list[str]:
    return page.eval("() => [...document.querySelectorAll('[data-route]')].map(one => one.title)")


def test_all_of_it_can_be_done_by_keyboard(served, look, site):
    proxy = served()
    site.slow["/api/matches/"] = 0.02
    browse(proxy)
    page = look(proxy.admin_url)
    until(lambda: len(routes_of(page)) == 6, "all routes are there")

    # Filter.
    page.press("/")
    page.type("get users/")
    until(lambda: routes_of(page) == ["GET /api/users/{user_id}"], "the filter holds")
    page.shows("1 of 6")
    page.press("Escape")
    until(lambda: len(routes_of(page)) == 6, "the filter is left")

    # Sort.
    page.focus("table.routes thead th:nth-child(5) button")
    page.press("Enter")
    until(lambda: routes_of(page)[0] == "GET /api/matches/{user_id}", "the slowest route comes first")
    assert page.eval("() => document.querySelector('table.routes thead th:nth-child(5)').ariaSort") == "descending"
    assert routes_of(page)[-1] == "unmatched", "what no route names stays last"
    page.focus("table.routes thead th:nth-child(1) button")
    page.press("Enter")
    until(lambda: routes_of(page)[0] == "GET /api/challenges", "by name")
    assert routes_of(page)[:-1] == sorted(routes_of(page)[:-1])

    # Drawer.
    page.eval("() => document.activeElement.blur()")
    page.press("j", "j", "k", "Enter")
    text = page.shows("Rule in force", "ttl: 30m", "Last requests", "120", selector="dialog")
    assert "/api/challenges" in text and "200" in text and "null" not in text
    assert page.axe() == []
    page.shot("drawer-1440-dark", full=False)
    page.press("Escape")
    until(lambda: not page.has("dialog"), "the drawer is closed")
    assert page.eval("() => document.activeElement.title") == "GET /api/challenges", "the focus is back where it was"

    # Window.
    page.press("1")
    until(lambda: "window=1m" in page.eval("() => location.search"), "the address says it too")
    until(lambda: page.eval(PRESSED) == "1 m", "the switch says it")
    page.press("3")
    until(lambda: page.eval(PRESSED) == "1 h", "the switch says it")
    page.shows("since start")

    # Tail and help.
    page.press("p")
    page.shows("Resume", selector="#tail")
    ask(proxy, "/api/orders/#", 3)
    page.shows("3 new while paused", selector="#tail")
    page.press("p")
    page.shows("/api/orders/", selector="#tail ol")
    page.press("?")
    page.shows("pause the live tail", selector="dialog")
    assert page.axe() == []
    page.press("Escape")
    until(lambda: not page.has("dialog"), "the help is closed")
    assert page.problems() == []


PRESSED = "() => document.querySelector('[aria-label=Window] [aria-pressed=true]').textContent"


def test_the_tail_is_filtered_by_the_server(served, look, site):
    proxy = served()
    site.failing["/api/orders/"] = "503 Service Unavailable"
    page = look(proxy.admin_url)

    page.eval("""() => { const field = document.querySelector('#tail select');
      field.value = '5xx'; field.dispatchEvent(new Event('change', { bubbles: true })); }""")
    page.shows("touchline tap --status 5xx", "Waiting for a request that fits the filter.", selector="#tail")
    ask(proxy, "/api/challenges", 3)
    ask(proxy, "/api/orders/#", 3)

    page.shows("503", "/api/orders/", selector="#tail ol")
    assert "/api/challenges" not in page.text("#tail ol")


def test_a_lost_stream_is_said_and_found_again(served, look):
    proxy = served()
    browse(proxy, 10)
    pages = {}
    for width, scheme in ((1440, "dark"), (390, "light")):
        pages[width, scheme] = look(proxy.admin_url, width=width, scheme=scheme)
        pages[width, scheme].shows("/api/challenges")
    page = pages[1440, "dark"]
    seen, colour = page.text("header time"), page.eval(COLOUR)
    assert page.eval("() => document.title") == "100 · healthy · coach-api"

    proxy.stop()

    text = page.shows("No data since", "no data")
    since = re.search(r"No data since (\d\d:\d\d:\d\d)", text).group(1)
    assert seen <= since and "/api/challenges" in text, "the last values stay, grey"
    assert page.eval(COLOUR) != colour and page.eval("() => document.title") == "no data · coach-api"
    for (width, scheme), other in pages.items():
        other.shows("No data since")
        assert other.axe("color-contrast") == [] and other.overflow() == 0
        other.shot(f"lost-{width}-{scheme}")

    served(admin={"listen": f"127.0.0.1:{proxy.admin_port}"}, wait=False)
    until(lambda: is_answering(proxy.admin_url), "the new process answers", 10, every_s=0.05)
    page.click(".notice button")

    page.shows("live", "Healthy", "Waiting for the first request in this window", deadline_s=15)
    page.hides("No data since")
    assert page.eval(COLOUR) == colour
    assert page.eval("() => document.title") == "100 · healthy · coach-api"
    # Nobody presses anything there.
    pages[390, "light"].hides("No data since", deadline_s=20)
    assert page.problems(REFUSED, "console: Access to fetch") == []


COLOUR = """() => {
  const style = getComputedStyle(document.querySelector('.tiles .value'));
  const around = getComputedStyle(document.querySelector('#verdict'));
  return [style.color, around.opacity, around.filter].join();
}"""


def is_answering(origin: str) -> bool:
    try:
        return httpx.get(f"{origin}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


class Viewer:
    """A bare reader of events."""

    def __init__(self, proxy: Touchline) -> None:
        self.sock = socket.create_connection(("127.0.0.1", proxy.admin_port), timeout=10)
        self.sock.sendall(get("/api/v1/events").replace(b"app.example", b"localhost"))
        self.reader = Reader(self.sock)
        head = self.reader.until(b"\r\n\r\n")
        assert head is not None
        self.head = head.decode("latin-1")
        self.status = int(self.head.split()[1])

    def event(self) -> bytes | None:
        """The next piece of the stream."""
        return self.reader.until(b"\n\n")


def test_many_may_look_and_the_probes_stay_quick(served, look):
    proxy = served()
    browse(proxy, 10)
    with ExitStack() as stack:
        started: list[Viewer] = []

        def start() -> Viewer:
            started.append(Viewer(proxy))
            stack.callback(started[-1].sock.close)
            return started[-1]

        for _ in range(32):
            viewer = start()
            assert viewer.status == 200 and b"event: snapshot" in viewer.event()
        slowest = max(took(proxy, path) for path in ("/readyz", "/metrics", "/livez", "/performance/metrics") for _ in range(20))
        print(f"slowest of 80 answers beside 32 viewers: {slowest * 1000:.0f} ms")
        assert slowest < 1
        assert all(b"\n" in viewer.event() for viewer in started), "they are told on"

        for _ in range(VIEWERS - 32):
            assert start().status == 200
        refused = proxy.admin.get("/api/v1/events")
        assert refused.status_code == 503
        assert refused.json()["detail"].startswith("too many viewers: close a page") and refused.headers["retry-after"]
        assert proxy.admin.head("/api/v1/events").status_code == 503, "a head is answered as its stream would be"
        assert took(proxy, "/readyz") < 1

        # The page has numbers all the same, and says why they do not move.
        page = look(proxy.admin_url)
        page.shows("too many viewers", "/api/challenges")
        page.shot("full-1440-dark")

        for viewer in started[:4]:
            viewer.sock.close()
        page.hides("too many viewers", deadline_s=20)
        page.shows("live")


def took(proxy: Touchline, path: str) -> float:
    before = time.monotonic()
    assert proxy.admin.get(path).status_code == 200
    return time.monotonic() - before


def test_the_head_of_the_events_ends_at_once(served):
    proxy = served()

    # More than there are places: none of them keeps one.
    for _ in range(VIEWERS * 2):
        answer = proxy.admin.head("/api/v1/events")

        assert answer.status_code == 200 and answer.content == b""
        assert answer.headers["content-type"].startswith("text/event-stream")
    assert proxy.admin.post("/api/v1/events").status_code == 405


def test_a_drain_ends_the_streams(served, look):
    proxy = served(drain={"delay": "0s", "timeout": "20s"})
    page = look(proxy.admin_url)
    viewers = [Viewer(proxy) for _ in range(10)]
    for viewer in viewers:
        assert b"event: snapshot" in viewer.event()
    before = time.monotonic()

    proxy.signal(signal.SIGTERM)

    assert proxy.wait(8) == 0
    seconds = time.monotonic() - before
    print(f"ended {seconds:.2f} s after SIGTERM with 11 viewers")
    assert seconds < 4
    for viewer in viewers:
        while viewer.event() is not None:
            pass
        assert viewer.reader.buffer.endswith(b"0\r\n\r\n"), "the stream has its proper end"
        viewer.sock.close()
    page.shows("No data since")


def test_it_is_small_and_soon_there(served, look):
    proxy = served()
    browse(proxy)

    bodies = {}
    for path in ("/", "/dashboard.js", "/dashboard.css"):
        with proxy.admin.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
            raw = b"".join(answer.iter_raw())
            bodies[path] = len(raw) if answer.headers.get("content-encoding") == "gzip" else len(gzip.compress(raw))
    page = look(proxy.admin_url)
    paint = until(lambda: page.eval(PAINT), "something is painted")
    resources = page.eval("() => performance.getEntriesByType('resource').map(one => new URL(one.name).pathname)")

    print(f"page: {bodies} bytes gzipped, first paint after {paint['paint']:.0f} ms, live after {paint['ready']:.0f} ms")
    assert sum(bodies.values()) <= 60_000
    assert set(resources) - {"/api/v1/events", "/api/v1/tail"} == {"/dashboard.js", "/dashboard.css"}
    # The machine may be busy: this only says that nothing waits for a timer or a stream.
    assert paint["paint"] < 3000


PAINT = """() => {
  const paint = performance.getEntriesByName('first-contentful-paint')[0]?.startTime;
  const events = performance.getEntriesByType('resource').find(one => one.name.endsWith('dashboard.js'))?.responseEnd;
  return paint === undefined ? null : { paint, ready: events ?? 0 };
}"""
