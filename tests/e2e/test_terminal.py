"""`touchline top`, `tap` and `stat`: in a real terminal, in a pipe, and against a listener that goes away."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from support.admin import FakeAdmin, fixture
from support.proxy import ROOT, binary, command
from support.terminal import Terminal
from support.wait import until

DOWN, ESCAPE = "\x1b[B", "\x1b"


@pytest.fixture
def admin():
    started = []

    def start(state: dict | None = None, port: int = 0) -> FakeAdmin:
        started.append(FakeAdmin(state, port))
        return started[-1]

    yield start
    for server in started:
        if not server.stopped.is_set():
            server.stop()


@pytest.fixture
def terminal_of():
    started = []

    def start(*arguments: str, **options) -> Terminal:
        started.append(Terminal(*arguments, **options))
        return started[-1]

    yield start
    for terminal in started:
        terminal.stop()


def rows(text: str) -> list[str]:
    """The routes on a screen, without the marks before them."""
    lines = text.splitlines()
    head = next(index for index, line in enumerate(lines) if "ROUTE" in line)
    return [line[2:] for line in lines[head + 1 : -1] if line[2:].strip()]


def test_the_screen_is_the_golden_frame_and_keys_change_it(admin, terminal_of):
    listener = admin()
    terminal = terminal_of("top", "--admin", listener.address)

    terminal.shows("coach-api", "live 14:05:53 UTC", "RATE/S")
    assert terminal.text() == golden("busy_80x24").read_text().rstrip("\n")

    terminal.press("p")
    terminal.shows("P95↓")
    assert rows(terminal.text())[0].startswith("POST /coach/chat ")
    terminal.press("/matches\r")
    terminal.shows('"matches": 1 of 10 routes')
    terminal.press("\r")
    terminal.shows("rule in force", "ttl: 15m", "Esc back")
    assert any(path.startswith("/api/v1/route?key=GET%20/api/matches") for path in listener.seen)
    terminal.press(ESCAPE)
    terminal.hides("rule in force")
    terminal.press(ESCAPE)
    terminal.hides("of 10 routes")
    terminal.press("1")
    terminal.shows("  1m  live")
    terminal.press(DOWN + DOWN)
    until(lambda: terminal.text().count(">") and rows(terminal.text()), "a row is chosen")

    terminal.press("q")
    assert terminal.exit_code() == 0
    assert terminal.is_restored()


def golden(name: str) -> Path:
    """The file of a frame that the unit tests hold."""
    return ROOT / "tests" / "golden" / "live" / f"{name}.txt"


def test_it_follows_the_size_of_the_terminal(admin, terminal_of):
    terminal = terminal_of("top", "--admin", admin().address)
    terminal.shows("RATE/S")

    for columns, lines in [(250, 60), (120, 40), (40, 10), (20, 5), (3, 2), (80, 24)]:
        terminal.resize(columns, lines)
        until(lambda: drawn(terminal, columns, lines), f"a frame of {columns}x{lines}", 5.0)

    terminal.press("q")
    assert terminal.exit_code() == 0


def drawn(terminal: Terminal, columns: int, lines: int) -> bool:
    """Whether the screen has a frame of this size, as the unit tests know it where they do."""
    file = golden(f"busy_{columns}x{lines}")
    text = terminal.text()
    return text.rstrip() == file.read_text().rstrip() if file.exists() else bool(text.strip())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_the_terminal_back(admin, terminal_of, number):
    terminal = terminal_of("top", "--admin", admin().address)
    terminal.shows("RATE/S")
    assert not terminal.is_restored()

    terminal.signal(number)

    assert terminal.exit_code() == 0
    assert terminal.is_restored()


def test_ctrl_c_quits(admin, terminal_of):
    terminal = terminal_of("top", "--admin", admin().address)
    terminal.shows("RATE/S")

    terminal.press("\x03")

    assert terminal.exit_code() == 0
    assert terminal.is_restored()


def test_a_lost_stream_is_said_and_found_again(admin, terminal_of):
    listener = admin()
    terminal = terminal_of("top", "--admin", listener.address, columns=110)
    terminal.shows("live 14:05:53 UTC")

    listener.stop()
    shown = terminal.shows("no data since 14:05:53, retrying: ", "LOST")
    assert "/api/challenges" in shown
    terminal.shows("nothing listens on")
    state = fixture("busy")
    state["at"] = "2026-11-23T14:06:30+00:00"
    admin(state, listener.port)
    terminal.shows("live 14:06:30 UTC")
    assert "no data since" not in terminal.text()


def test_nothing_hostile_is_obeyed(admin, terminal_of):
    terminal = terminal_of("top", "--admin", admin(fixture("hostile")).address, columns=160, rows=50)
    terminal.shows("live", "RATE/S")

    terminal.press(DOWN)
    terminal.press("\r")
    terminal.shows("rule in force")
    terminal.press("q")
    terminal.exit_code()

    assert "owned" not in terminal.screen.title
    # Only what moves, clears, paints, and takes the screen and gives it back.
    allowed = re.compile(rb"\x1b\[(\d+;\d+H|2K|2J|[\d;]*m|\?1049[hl]|\?25[hl])")
    rest = allowed.sub(b"", terminal.bytes)
    assert b"\x1b" not in rest and b"\x07" not in rest, rest[:2000]
    assert "\u202e" not in rest.decode() and "\u200b" not in rest.decode()


def test_colours_only_where_they_are_wanted(admin, terminal_of):
    listener = admin()
    for env, has_colour, is_screen in [({}, True, True), ({"NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False)]:
        terminal = terminal_of("top", "--admin", listener.address, env=env)
        terminal.shows("/api/challenges")
        if is_screen:
            terminal.press("q")
        assert terminal.exit_code() == 0
        assert bool(re.search(rb"\x1b\[[\d;]*m", terminal.bytes)) == has_colour, env
        assert (b"\x1b" in terminal.bytes) == is_screen, env


def test_without_a_terminal_it_prints_one_frame(admin):
    done = command("top", "--admin", admin().address, env={"LC_ALL": "C.UTF-8", "COLUMNS": "120"})

    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout and "/api/challenges" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_who_cannot_be_asked_is_told_before_the_screen_is_taken(terminal_of):
    terminal = terminal_of("top", "--admin", "127.0.0.1:1")

    assert terminal.exit_code() == 2
    assert "touchline: nothing listens on 127.0.0.1:1" in terminal.text()
    assert b"\x1b[?1049h" not in terminal.bytes


def test_tap_ends_with_its_reader_and_with_ctrl_c(admin):
    listener = admin()
    line = f"'{binary()}' tap --admin {listener.address} -o json | head -n 3; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=20, check=True)
    *lines, code = done.stdout.splitlines()
    assert code == "0" and [json.loads(text) for text in lines] == listener.tails[:3]
    assert "panic" not in done.stderr

    child = subprocess.Popen(
        [str(binary()), "tap", "--admin", listener.address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # It follows the lines of the first requests, so all of them have come when it has.
    assert any(line.startswith("120 more") for line in child.stdout)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=10)
    assert child.returncode == 0
    assert "120 more were not sent" in err


# Against the real listener.


def test_stat_top_and_tap_see_a_request(proxy):
    tap = subprocess.Popen(
        [str(binary()), "tap", "--admin", f"127.0.0.1:{proxy.admin_port}", "-o", "json", "--path", "/api/user/*", "--max", "2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # A line comes only for what ends after the stream was opened.
        until(lambda: proxy.client.get("/api/user/reputation/terminal").status_code and tap.poll() is not None, "two lines", 10.0, 0.1)
        lines = [json.loads(text) for text in tap.stdout]
    finally:
        tap.kill()
        tap.wait()
    assert len(lines) == 2 and all(line["template"] == "/api/user/reputation/{user_id}" for line in lines)

    address = f"127.0.0.1:{proxy.admin_port}"
    table = command("stat", "--admin", address, "-o", "wide")
    assert table.returncode == 0 and "GET /api/user/reputation/{user_id}" in table.stdout, table
    document = json.loads(command("stat", "--admin", address, "-o", "json").stdout)
    assert document["meta"]["window"] == "5m" and document["health"]["score"] >= 70
    assert command("stat", "--admin", address, "--exit-code").returncode == 0
    frame = command("top", "--admin", address)
    assert frame.returncode == 0 and "/api/user/reputation/{user_id}" in frame.stdout, frame


def test_the_screen_lives_on_a_real_listener(proxy, terminal_of):
    terminal = terminal_of("top", "--admin", f"127.0.0.1:{proxy.admin_port}", columns=120, rows=40)
    terminal.shows(" UTC", "RATE/S")

    proxy.client.get("/api/challenges")
    terminal.shows("GET /api/challenges")
    terminal.press("\r")
    terminal.shows("rule in force", "ttl: 30m", "the last requests")
    proxy.stop()
    terminal.shows("no data since")
    terminal.press("q")
    assert terminal.exit_code() == 0
    assert terminal.is_restored()
