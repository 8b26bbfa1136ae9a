"""A changed configuration comes into force while requests run, and a wrong one changes nothing."""

import copy
import hashlib
import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from support.process import Process
from support.proxy import Touchline, binary, command, merged
from support.rollout import Clients, Endpoints
from support.volume import Volume
from support.wait import until

INTERVAL_S = 0.1
KINDS = {"keep_alive": 6, "fresh": 2, "http2": 2, "stream": 2, "websocket": 2}


class Mounted:
    """A proxy that reads its configuration from a volume."""

    def __init__(self, proxy: Touchline, folder: Path) -> None:
        self.proxy = proxy
        # The fixture's process has shown that the file is right; this one reads the same from a volume.
        proxy.child.kill()
        proxy.child.wait(10)
        self.volume = Volume(folder / "volume", {"proxy.yaml": self.text()})
        file = self.volume.folder / "proxy.yaml"
        again = Process(f"mounted-{proxy.port}", [str(binary()), "run", "-c", str(file)], folder)
        proxy.child, proxy.out, proxy.err, proxy.file = again.child, again.out, again.err, file
        proxy.wait_ready()

    def text(self, **sections: dict) -> str:
        return yaml.safe_dump(merged(copy.deepcopy(self.proxy.config), sections), sort_keys=False)

    def swap(self, text: str) -> None:
        self.volume.swap({"proxy.yaml": text})

    def state(self) -> dict:
        return self.proxy.admin.get("/api/v1/config").json()

    def is_in_force(self, text: str) -> bool:
        return self.state()["hash"] == hash_of(self.proxy, text)


def hash_of(proxy: Touchline, text: str) -> str:
    """The hash of a text, as the metric shows it."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.fixture
def mounted(touchline, backend, tmp_path) -> Callable[..., Mounted]:
    def start(**sections) -> Mounted:
        return Mounted(touchline(backend, reload={"interval": f"{int(INTERVAL_S * 1000)}ms"}, **sections), tmp_path)

    return start


def test_a_hundred_swaps_under_load_cost_no_request(mounted):
    mounted = mounted()
    took_s = []
    with Clients(Endpoints(mounted.proxy.address), **KINDS) as clients:
        clients.go_on(200)
        for number in range(100):
            text = mounted.text(ingress={"slow_after": f"{number + 1}s"})
            begun = time.monotonic()
            mounted.swap(text)
            until(lambda text=text: mounted.is_in_force(text), f"swap {number} is in force", 10, every_s=0.02)
            took_s.append(time.monotonic() - begun)
        clients.go_on(200)
    clients.assert_none_failed(1000)

    assert max(took_s) <= INTERVAL_S + 1.0, f"median {statistics.median(took_s)}, slowest {max(took_s)}"
    metrics = mounted.proxy.admin.get("/metrics").text
    assert 'touchline_config_reloads_total{outcome="accepted"} 100' in metrics


def test_broken_files_change_nothing_and_are_told_with_their_place(mounted):
    mounted = mounted()
    good = mounted.text()
    with Clients(Endpoints(mounted.proxy.address), keep_alive=4, http2=1) as clients:
        clients.go_on(50)
        for broken in ("", "version: 1\ningress:\n  bakend: x\n", good[: len(good) // 2] + ": [", "\x00"):
            mounted.swap(broken)
            until(lambda: mounted.state()["rejected"] is not None, "it is refused")
            state = mounted.state()
            assert state["hash"] == hash_of(mounted.proxy, good)
            assert "proxy.yaml" in state["rejected"]["error"]
            mounted.swap(good)
            until(lambda: mounted.state()["rejected"] is None, "it is well again")
        clients.go_on(50)
    clients.assert_none_failed(100)

    refused = [event for event in mounted.proxy.events() if "is refused" in event.get("message", "")]
    assert len(refused) == 4, "each is told once, however often it is read"
    assert "bakend" in refused[1]["message"] and "3:3" in refused[1]["message"]


def test_a_file_that_is_written_in_pieces_is_waited_for(touchline, backend):
    proxy = touchline(backend, reload={"interval": "50ms"})
    text = yaml.safe_dump(merged(copy.deepcopy(proxy.config), {"ingress": {"slow_after": "7s"}}), sort_keys=False)
    with proxy.file.open("w") as file:
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            time.sleep(0.06)

    until(lambda: proxy.admin.get("/api/v1/config").json()["hash"] == hash_of(proxy, text), "it is in force")


def test_a_signal_and_a_command_look_at_once(touchline, backend):
    proxy = touchline(backend, reload={"interval": "0s"})

    def write(slow_after: str) -> str:
        sections = {"ingress": {"slow_after": slow_after}}
        text = yaml.safe_dump(merged(copy.deepcopy(proxy.config), sections), sort_keys=False)
        proxy.file.write_text(text)
        return hash_of(proxy, text)

    def in_force() -> str:
        return proxy.admin.get("/api/v1/config").json()["hash"]

    first = write("7s")
    time.sleep(0.5)
    assert in_force() != first, "nobody looks by itself"
    proxy.signal(signal.SIGHUP)
    until(lambda: in_force() == first, "the signal has it looked at")

    second = write("8s")
    done = command("reload", "-c", str(proxy.file))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{second} is in force\n", "")
    assert in_force() == second
    again = command("reload", "-c", str(proxy.file))
    assert again.stdout == f"unchanged: {second} is in force\n"


def test_the_log_level_the_alerts_and_the_page_follow(mounted):
    mounted = mounted(telemetry={"log": {"level": "error"}})
    assert mounted.proxy.admin.get("/api/v1/snapshot").json()["meta"]["config_rejected_since"] is None

    assert mounted.proxy.events() == []
    mounted.swap(mounted.text(telemetry={"cache_hit_target": 12, "log": {"level": "info"}}))
    until(lambda: mounted.proxy.events(), "the level is in force")
    assert mounted.proxy.events()[0]["message"] == "a new configuration is in force"
    stats = mounted.proxy.admin.get("/performance/cache/stats").json()
    assert "'target_hit_rate': 12" in str(stats)

    mounted.swap("nonsense")
    until(lambda: mounted.state()["rejected"] is not None, "it is refused")
    until(
        lambda: "config_rejected" in mounted.proxy.admin.get("/performance/health").text,
        "the verdict says it",
        deadline_s=5,
    )
    until(lambda: "a new configuration was rejected" in mounted.proxy.admin.get("/api/v1/snapshot").text, "the page marks it")
