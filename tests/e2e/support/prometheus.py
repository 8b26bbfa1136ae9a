"""Prometheus, Alertmanager and promtool as `scripts/setup-test` provides them, each with a folder and a port of its own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import yaml

from support.ports import free_port
from support.process import Process
from support.proxy import ROOT
from support.wait import until

MONITORING = ROOT / "monitoring"
RULES = MONITORING / "prometheus" / "rules.yaml"

# What Prometheus itself adds to every series.
OF_TARGETS = {"job", "instance", "namespace", "pod"}


def tool(name: str) -> str:
    """The path of `prometheus`, `promtool` or `alertmanager`; the variable of its name in capitals goes first."""
    local = ROOT / "target" / "tools" / name
    # Debian's name for alertmanager comes second.
    installed = shutil.which(name) or shutil.which(f"prometheus-{name}")
    found = os.environ.get(name.upper()) or (str(local) if local.is_file() else installed)
    assert found, f"{name} is missing: run scripts/setup-test"
    return found


def promtool(*arguments: str, given: str | None = None, deadline_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Runs promtool to its end."""
    return subprocess.run(
        [tool("promtool"), *arguments],
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )


def families() -> dict[str, set[str]]:
    """The labels of each metric, by its name, as docs/metrics.md has them."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    found = {}
    for name, kind, labels in re.findall(r"^\| `(touchline_\w+)` \| (\w+) \| ([^|]*)\|", text, re.MULTILINE):
        own = set(re.findall(r"`(\w+)`", labels))
        if kind == "histogram":
            found |= {f"{name}_bucket": own | {"le"}, f"{name}_sum": own, f"{name}_count": own}
        else:
            found[name] = own
    # Counted by the alerts inside.
    found["touchline_telemetry_notifications_total"] = {"channel", "outcome"}
    found["touchline_telemetry_alerts"] = {"severity", "state"}
    return found


def unknown_in(expression: str) -> list[str]:
    """The metrics and labels of an expression that /metrics does not have."""
    known = families()
    found = []
    for name, selector in re.findall(r"(?<![\w:])(touchline_\w+)(?:\{([^}]*)\})?", expression):
        if name not in known:
            found.append(name)
            continue
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', selector)))
        found += [f"{name}{{{label}}}" for label in labels - known[name] - OF_TARGETS]
    return found


class Server(Process):
    """A server with an HTTP API on a port of its own."""

    def __init__(self, name: str, arguments: list[str], folder: Path, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        # Without a proxy from the environment, as everything here is on this machine.
        quiet = {key: "" for key in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
        super().__init__(f"{name}-{port}", [tool(name), *arguments], folder, env=quiet)
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=20)
        until(self._is_ready, f"{name} is ready", deadline_s=20, every_s=0.05)

    def _is_ready(self) -> bool:
        assert self.is_running(), f"{self.name} ended with {self.child.returncode}:\n{self.log()}"
        try:
            return self.client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self.client.close()
        super().stop()


class Prometheus(Server):
    """A Prometheus with this configuration."""

    def __init__(self, folder: Path, config: dict) -> None:
        port = free_port()
        file = folder / f"prometheus-{port}.yml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        arguments = [
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / f'prometheus-{port}'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        super().__init__("prometheus", arguments, folder, port)

    def api(self, path: str, **query: str) -> dict | list:
        """The data of an answer of the API."""
        answer = self.client.get(f"/api/v1/{path}", params=query)
        document = answer.json()
        assert document["status"] == "success", f"{path} {query}: {document}"
        return document["data"]

    def query(self, expression: str) -> list[dict]:
        """The samples of an instant query: `{"metric": {...}, "value": [at, "text"]}`."""
        return self.api("query", query=expression)["result"]

    def value(self, expression: str) -> float | None:
        """The value of a query with one sample; none without one."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression}: {found}"
        return float(found[0]["value"][1]) if found else None

    def targets(self) -> list[dict]:
        """What it scrapes."""
        return self.api("targets")["activeTargets"]

    def wait_for_targets(self, count: int) -> None:
        """Returns once this many targets were scraped. Prometheus takes some five seconds until it begins."""
        until(lambda: self.value("sum(up)") == count, f"{self.name} scrapes {count} targets", deadline_s=30, every_s=0.1)

    def alerts(self) -> dict[str, str]:
        """The state of each alert that is pending or firing, by its name."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self.api("alerts")["alerts"]}


class Alertmanager(Server):
    """An Alertmanager with this configuration, alone (no cluster)."""

    def __init__(self, folder: Path, config: dict, port: int | None = None) -> None:
        port = port or free_port()
        file = folder / f"alertmanager-{port}.yml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        arguments = [
            f"--config.file={file}",
            f"--storage.path={folder / f'alertmanager-{port}'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        super().__init__("alertmanager", arguments, folder, port)

    def alerts(self) -> list[dict]:
        """The alerts that it holds now."""
        return self.client.get("/api/v2/alerts").raise_for_status().json()

    def post(self, *alerts: dict) -> None:
        """Sends alerts as Prometheus does."""
        self.client.post("/api/v2/alerts", json=list(alerts)).raise_for_status()
