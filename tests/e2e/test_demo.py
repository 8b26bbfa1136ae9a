"""`touchline demo`: what a stranger sees in the first minute."""

import re
import signal
import socket

import httpx
import pytest

from support.process import Process
from support.proxy import binary
from support.wait import until


@pytest.fixture
def demo(tmp_path):
    started = []

    def start(*arguments: str) -> tuple[Process, str]:
        process = Process("demo", [str(binary()), "demo", *arguments], tmp_path)
        started.append(process)
        page = until(
            lambda: (text := process.out.read_text()) and "Ctrl-C" in text and text,
            f"the page is shown\n{process.log()}",
            deadline_s=15,
        )
        return process, page

    yield start
    for process in started:
        process.stop()


def address(page: str, label: str) -> str:
    """The URL beside a label of the page."""
    match = re.search(rf"{label}\s+(http://[\w.:]+)", page)
    assert match, page
    return match[1]


def test_it_shows_a_miss_a_hit_and_where_to_look(demo):
    process, page = demo("--no-traffic")
    ingress, admin = address(page, "through touchline"), address(page, "what it measured")

    answers = [httpx.get(f"{ingress}/api/user/reputation/you", trust_env=False) for _ in range(2)]

    assert [answer.headers["x-cache-status"] for answer in answers] == ["miss", "hit"]
    times = [float(answer.headers["x-response-time"][:-2]) for answer in answers]
    assert times[1] * 10 <= times[0]
    assert httpx.get(f"{admin}/performance/cache/stats", trust_env=False).json()["cache_hits"] == 1
    assert "curl" in page

    process.signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_its_coach_asks_claude_and_a_greeting_needs_no_sonnet(demo):
    _, page = demo("--no-traffic")
    ingress = address(page, "through touchline")

    def model(message: str) -> str:
        answer = httpx.post(f"{ingress}/coach/chat", json={"message": message}, trust_env=False, timeout=10)
        return answer.json()["model"]

    assert model("hi!") == "claude-haiku-5-5"
    assert model("How do I ask her out without making it weird?") == "claude-sonnet-5-5"
    admin = address(page, "what they cost")
    spent = httpx.get(f"{admin}/performance/claude", trust_env=False).json()
    assert spent["by_tier"]["economy"]["calls"] == 1 and spent["total"]["saved_usd_vs_requested"] > 0


def test_its_users_make_traffic(demo):
    process, page = demo()
    admin = address(page, "what it measured")

    def operations():
        return httpx.get(f"{admin}/performance/metrics", trust_env=False).json()["performance_summary"]["metric_types"][
            "request"
        ]["count"]

    until(lambda: operations() >= 5, "the pretended users ask", deadline_s=15, every_s=0.1)
    process.signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_it_takes_other_ports_when_its_own_are_taken(demo):
    held = []
    for port in (8080, 8000, 9090, 9091):
        try:
            held.append(socket.create_server(("0.0.0.0", port)))
        except OSError:
            pass  # Somebody else has it, which serves as well.
    try:
        _, page = demo("--no-traffic")

        answer = httpx.get(f"{address(page, 'through touchline')}/api/challenges", trust_env=False)
        assert answer.status_code == 200
        assert answer.headers["x-cache-status"] == "miss"
    finally:
        for server in held:
            server.close()
