"""The programs of the bench: the fake API, touchline twice, LiteLLM and Portkey; how each is started, found ready, and stopped."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness import machine

CONFIG = Path(__file__).resolve().parent.parent / "config"
# Of an event of a stream behind the one before, in microseconds.
PACE_US = 200
FIELDS = ["x-api-key: sk-ant-bench", "anthropic-version: 2023-06-01", "user-agent: Anthropic/Python 2.12.0", "accept: application/json"]


class Failed(Exception):
    """Something that did not start or answered wrongly; the message holds the end of its log."""


@dataclass
class Program:
    """One program, and the process that it is between `start` and `stop`."""

    name: str
    command: list
    port: int
    run: Path
    environment: dict = field(default_factory=dict)
    process: subprocess.Popen | None = None

    def __post_init__(self):
        self.output, self.log = self.run / f"{self.name}.out", self.run / f"{self.name}.log"

    def start(self):
        """Starts it. No proxy variable of this machine reaches it, and nothing but loopback is to be called."""
        own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with self.log.open("w") as log, self.output.open("w") as output:
            self.process = subprocess.Popen(
                list(map(str, self.command)), stdin=subprocess.DEVNULL, stdout=output, stderr=log,
                env={**own, "NO_PROXY": "127.0.0.1", **self.environment}, cwd=self.run, start_new_session=True,
            )

    def await_port(self, deadline_s=240.0):
        """Waits until it listens: LiteLLM takes ten seconds, and minutes on a busy machine."""
        end = time.monotonic() + deadline_s
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Failed(f"{self.name} did not start\n{self.log.read_text()[-1500:]}{self.output.read_text()[-1500:]}") from None
                time.sleep(0.05)

    def stop(self):
        """Ends the process group that `start` made."""
        process, self.process = self.process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(5.0)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass

    def pids(self):
        """All its processes."""
        return machine.tree(self.process.pid)


@dataclass(frozen=True)
class Target:
    """Something that can be called: a program, and how."""

    name: str
    title: str
    program: Program
    path: str = "/v1/messages"
    fields: tuple = ()


@dataclass
class World:
    """All programs and targets of a run."""

    fake: Program
    programs: list
    targets: list
    wire: Path
    admin: int
    whole: Path
    stream: Path

    def target(self, name):
        """The target of this name."""
        return next(target for target in self.targets if target.name == name)

    def load(self, target, calls, connections, seconds):
        """Calls a target; returns what the sender saw and the processor time that it took."""
        command = [self.wire, "load", target.program.port, target.path, calls, connections, seconds, *FIELDS, *target.fields]
        before = os.times()
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=seconds + 60, check=False)
        after = os.times()
        if done.returncode:
            raise Failed(f"{target.name}: {done.stderr}")
        return json.loads(done.stdout), after.children_user + after.children_system - before.children_user - before.children_system

    def served(self):
        """How many calls the fake has answered."""
        return int(get(self.fake.port, "/"))

    def scrape(self):
        """touchline's metrics of this plane, as {series: value}."""
        lines = get(self.admin, "/metrics").splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("touchline_claude_")}

    def overheads(self, since):
        """The `overhead_us` of the access log's lines from this position on, and the position of its end."""
        with self.target("touchline").program.output.open("rb") as log:
            log.seek(since)
            text = log.read()
        return [int(value) for value in re.findall(rb'"overhead_us":(\d+)', text)], since + len(text)

    def stop(self):
        """Ends everything."""
        for program in [*self.programs, self.fake]:
            program.stop()


def get(port, path):
    """The body of an answer. Connections are not kept."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while part := connection.recv(65536):
            data += part
    return data.partition(b"\r\n\r\n")[2].decode()


def build(programs, touchline, run, calls):
    """The world with nothing started."""
    ports = iter(machine.free_ports(12))
    fake_port = next(ports)
    fake = Program("fake", [programs["wire"], "fake", fake_port, PACE_US], fake_port, run)

    def ours(name, mode):
        values = {"FAKE": fake_port, "MODE": mode, **{key: next(ports) for key in ("INGRESS", "CLAUDE", "ADMIN", "CONTROL")}}
        return Program(name, [touchline, "run", "-c", _render("touchline.yaml", run / f"{name}.yaml", values)], values["CLAUDE"], run), values["ADMIN"]

    route, admin = ours("touchline", "route")
    off, _ = ours("touchline-off", "off")
    port = next(ports)
    config = _render("litellm.yaml", run / "litellm.yaml", {"FAKE": fake_port})
    litellm = Program("litellm", [programs["litellm"], "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", 2], port, run, {
        # Its own settings for production, and nothing fetched at the start.
        "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR",
        **{f"LITELLM_LOCAL_{what}": "True" for what in ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "AUTOROUTER_PRESETS", "BLOG_POSTS", "POLICY_TEMPLATES")},
        "ANTHROPIC_API_BASE": f"http://127.0.0.1:{fake_port}", "ANTHROPIC_API_KEY": "sk-ant-bench",
    })
    port = next(ports)
    portkey = Program("portkey", [programs["node"], programs["portkey"], "--headless", f"--port={port}"], port, run, {"NODE_ENV": "production"})
    targets = [
        Target("direct", "no proxy", fake),
        Target("touchline", "touchline", route),
        Target("touchline-off", "touchline, `mode: off`", off),
        Target("litellm", "LiteLLM `/v1/messages`", litellm),
        Target("litellm-pass", "LiteLLM `/anthropic/v1/messages`", litellm, "/anthropic/v1/messages"),
        Target("portkey", "Portkey `/v1/messages`", portkey, fields=("x-portkey-provider: anthropic", f"x-portkey-custom-host: http://127.0.0.1:{fake_port}/v1")),
    ]
    return World(fake, [route, off, litellm, portkey], targets, programs["wire"], admin, *calls)


def _render(template, path, values):
    """Fills a template's @NAMES@ and returns where the result lies."""
    path.write_text(re.sub(r"@([A-Z]+)@", lambda match: str(values[match.group(1)]), (CONFIG / template).read_text()))
    return path
