"""The Claude plane's peers: the strict fake of the API and Anthropic's own SDKs."""

import json
import os
import select
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from pathlib import Path
from statistics import median

import httpx
import pytest

from support.metrics import Samples
from support.process import Process
from support.proxy import ROOT, Touchline
from support.wait import until

SDKS = ROOT / "target" / "claude-sdks"
HERE = Path(__file__).parent

# Which SDK, and how it is called.
PYTHON = ["python-0.34.2", "python-0.125.0", "python-2.14.0"]
NODE = ["node-0.27.3", "node-1.14.0"]
FLAVOURS = [f"{sdk} {way}" for sdk in PYTHON for way in ("sync", "async")] + NODE

every_sdk = pytest.mark.parametrize("sdk", FLAVOURS, indirect=True)

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
TIERS = {HAIKU: "economy", SONNET: "standard", OPUS: "premium"}

# What the API takes for a million tokens, in dollars: input, output, 5-minute writes, 1-hour writes, reads.
PRICES = {
    HAIKU: ("0.10", "0.50", "0.125", "0.20", "0.01"),
    SONNET: ("2", "10", "2.50", "4", "0.10"),
    OPUS: ("4", "20", "5", "8", "0.20"),
}

# What the proxy adds to answers.
ADDED = ["x-touchline-tier", "x-touchline-model", "x-touchline-requested-model", "x-touchline-reason"]

# What belongs to one connection, or follows from the body's length and the peer's address.
HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "transfer-encoding"}

# Short rests between an SDK's tries, so that a test does not wait for them.
SOON = {"retry-after-ms": "10"}

_names = count(1)


def cost_of(model: str, usage: dict) -> Decimal:
    """Dollars for what an answer says it used, by the list."""
    created = usage.get("cache_creation") or {}
    tokens = (
        usage["input_tokens"],
        usage["output_tokens"],
        created.get("ephemeral_5m_input_tokens", 0),
        created.get("ephemeral_1h_input_tokens", 0),
        usage.get("cache_read_input_tokens") or 0,
    )
    return sum(Decimal(price) * number for price, number in zip(PRICES[model], tokens, strict=True)) / 1_000_000


def asking(text: str = "hi", model: str = SONNET, **more) -> dict:
    """The parameters of a call with one user turn."""
    return {"model": model, "max_tokens": 2048, "messages": [{"role": "user", "content": text}], **more}


def scripted(**script) -> dict[str, str]:
    """The header that tells the fake how to answer this one request."""
    return {"x-fake-script": json.dumps(script)}


@dataclass
class Seen:
    """One request as the fake got it."""

    record: dict

    @property
    def method(self) -> str:
        return self.record["method"]

    @property
    def target(self) -> str:
        return self.record["target"]

    @property
    def body(self) -> bytes:
        return self.record["body"].encode()

    @property
    def model(self) -> str:
        return json.loads(self.body)["model"]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.record["headers"] if key.lower() == name), None)

    def end_to_end(self) -> list[tuple[str, str]]:
        """The header fields that have to pass: sorted by name, fields of one name in their order."""
        fields = [(name.lower(), value) for name, value in self.record["headers"]]
        return sorted((pair for pair in fields if pair[0] not in HOP_BY_HOP), key=lambda pair: pair[0])


class FakeClaude(Process):
    """The strict fake of the API, `examples/fake_claude.rs`. It ends with its standard input, so with the test run."""

    def __init__(self, folder: Path, *arguments: str, ca: Path | None = None) -> None:
        binary = ROOT / "target" / "debug" / "examples" / "fake_claude"
        assert binary.is_file(), f"{binary} is missing: run `cargo build --example fake_claude`"
        self.name = f"fake-claude-{next(_names)}"
        self.out, self.err = folder / f"{self.name}.out", folder / f"{self.name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.child = subprocess.Popen(
                [str(binary), "--listen", "127.0.0.1:0", *arguments], stdin=subprocess.PIPE, stdout=out, stderr=err
            )
        line = until(self._first_line, f"{self.name} listens", deadline_s=10)
        self.port = int(line.rsplit(":", 1)[1])
        self.url = f"{'https' if ca else 'http'}://127.0.0.1:{self.port}"
        trusts = ssl.create_default_context(cafile=ca) if ca else True
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=10, verify=trusts)

    def _first_line(self) -> str | None:
        assert self.is_running(), f"the fake ended at once:\n{self.log()}"
        text = self.out.read_text()
        return text.strip() if text.endswith("\n") else None

    def requests(self, path: str | None = None) -> list[Seen]:
        """What came in so far, oldest first."""
        found = [Seen(record) for record in self.client.get("/__requests").raise_for_status().json()]
        return [seen for seen in found if path is None or seen.target.split("?")[0] == path]

    def calls(self) -> list[Seen]:
        """The calls of a model so far."""
        return self.requests("/v1/messages")

    def last(self) -> Seen:
        """The newest call of a model."""
        return self.calls()[-1]

    def script(self, *behaviours: dict) -> None:
        """Queues behaviours for requests that fit them."""
        self.client.post("/__script", json=list(behaviours)).raise_for_status()

    def advance(self, seconds: int) -> None:
        """Moves the clock of the prompt cache on."""
        self.client.post("/__advance", json={"seconds": seconds}).raise_for_status()

    def started_ms(self) -> float:
        """When its clock was 0, in milliseconds since 1970. The best of a few looks."""
        looks = []
        for _ in range(5):
            before = time.time() * 1000
            self.client.get("/v1/models", headers={"x-api-key": "clock", "anthropic-version": "2023-06-01"})
            after = time.time() * 1000
            looks.append((after - before, (before + after) / 2 - self.requests("/v1/models")[-1].record["arrived_ms"]))
        return min(looks)[1]

    def stop(self) -> None:
        self.client.close()
        super().stop()
        self.child.stdin.close()


@dataclass
class Outcome:
    """How one command of an SDK ended."""

    value: dict | None = None
    events: list[dict] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    headers: list[list[str]] = field(default_factory=list)
    error: dict | None = None
    left_ms: float | None = None
    seconds: float = 0.0

    def good(self) -> dict:
        """The SDK's own object as JSON."""
        assert self.error is None, self.error
        return self.value

    def header(self, name: str) -> str | None:
        fields = self.error["headers"] if self.error else self.headers
        return next((value for key, value in fields if key.lower() == name), None)

    def kinds(self) -> list[str]:
        """The class of the exception, and those it inherits from."""
        assert self.error is not None, f"no exception, but {self.value or self.events}"
        return self.error["kinds"]

    def types(self) -> list[str]:
        """The types of the events that the SDK has shown."""
        assert self.error is None, self.error
        return [event["type"] for event in self.events]


class Sdk:
    """One version of Anthropic's SDK in a process of its own. Commands go to the base URL that they name."""

    def __init__(self, flavour: str, folder: Path, env: dict[str, str] | None = None) -> None:
        self.flavour = flavour
        name, _, way = flavour.partition(" ")
        home = SDKS / name
        assert home.is_dir(), f"{home} is missing: run scripts/setup-test"
        if flavour in NODE:
            command = ["node", str(HERE / "claude_sdk.mjs"), str(home)]
        else:
            command = [str(home / "bin" / "python"), str(HERE / "claude_sdk.py"), way]
        # Nothing of the developer's own account or proxies may reach a test.
        clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("ANTHROPIC_")}
        clean = {name: value for name, value in clean.items() if not name.upper().endswith("_PROXY")}
        self._err = (folder / f"sdk-{flavour.replace(' ', '-')}.err").open("w+b")
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._err,
            env={**clean, "NO_PROXY": "127.0.0.1", **(env or {})},
        )

    @property
    def is_new(self) -> bool:
        """Whether it speaks version 2026-10-21 of the API."""
        return self.flavour.startswith(("python-2", "node-1"))

    @property
    def is_blocking(self) -> bool:
        """Whether a call cannot be left from outside."""
        return self.flavour.endswith(" sync")

    def begin(self, do: str, at: str | None, params: dict, **command) -> None:
        """Sends a command. `at`: the base URL; none where the environment names it and the key."""
        command = {"do": do, "base_url": at, "params": params, "max_retries": 0, "timeout": 20, **command}
        if at is not None and "auth_token" not in command:
            command.setdefault("api_key", "sk-ant-test")
        line = json.dumps(command)
        self.child.stdin.write(line.encode() + b"\n")
        self.child.stdin.flush()

    def end(self, deadline_s: float = 30.0) -> Outcome:
        """The outcome of the command that was begun."""
        ready, _, _ = select.select([self.child.stdout], [], [], deadline_s)
        line = self.child.stdout.readline() if ready else b""
        if not line:
            self.child.kill()  # So that the next test gets one that listens.
            self._err.seek(0)
            raise AssertionError(f"{self.flavour} says nothing: {self._err.read()[-4000:].decode(errors='replace')}")
        return Outcome(**json.loads(line))

    def __call__(self, do: str, at: str | None, params: dict, **command) -> Outcome:
        self.begin(do, at, params, **command)
        return self.end()

    def stop(self) -> None:
        self.child.kill()
        self.child.wait(timeout=10)
        self.child.stdin.close()
        self.child.stdout.close()
        self._err.close()


@dataclass
class Plane:
    """A proxy with a Claude plane in front of a fake."""

    proxy: Touchline
    fake: FakeClaude
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def lines(self, number: int) -> list[dict]:
        """The access log's lines of calls, once there are so many."""

        def found() -> list[dict]:
            return [line for line in self.proxy.access_log() if line.get("plane") == "claude"]

        until(lambda: len(found()) >= number, f"{number} calls in the access log")
        assert len(found()) == number, found()
        return found()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a family of `touchline_claude_`; 0 where nothing was counted."""
        return Samples.parse(self.proxy.admin.get("/metrics").text).total(f"touchline_claude_{name}", **labels)

    def stats(self) -> dict:
        """`model_routing_stats` of `/performance/metrics`."""
        return self.proxy.admin.get("/performance/metrics").raise_for_status().json()["model_routing_stats"]


@dataclass
class Both:
    """Two ways to the same answers: straight to a fake, and through a proxy to its twin."""

    sdk: Sdk
    direct: FakeClaude
    plane: Plane

    def ask(self, do: str, params: dict, **command) -> tuple[Outcome, Outcome]:
        """One command on both ways: what came straight, and what came through."""
        straight = self.sdk(do, self.direct.url, params, **command)
        return straight, self.sdk(do, self.plane.url, params, **command)


def left_after(fake: FakeClaude, left_ms: float) -> float:
    """Seconds from the moment a client left its newest call to the moment the API noticed."""
    gone = until(lambda: fake.last().record["gone_ms"], "the call at the API is cancelled")
    return (fake.started_ms() + gone - left_ms) / 1000


def middle(values: list[float]) -> float:
    """The middle of several runs: one of them may have met a busy machine."""
    return median(values)
