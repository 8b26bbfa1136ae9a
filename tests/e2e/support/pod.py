"""A pod with the image, run by podman in a store of its own, with no network but the pod's loopback."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from support.proxy import ROOT
from support.wait import until

NAME = "touchline-e2e"
INGRESS, ADMIN, CONTROL = 18080, 19090, 19091

# podman asks for limits of its own, which may be above those of this machine; without CAP_SYS_RESOURCE nobody may raise them.
LIMITS = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'

CONFIG = {
    "version": 1,
    "drain": {"delay": "0s", "timeout": "2s"},
    "ingress": {"listen": f"0.0.0.0:{INGRESS}", "backend": "http://127.0.0.1:8000"},
    "admin": {"listen": f"0.0.0.0:{ADMIN}"},
    "control": {"listen": f"127.0.0.1:{CONTROL}"},
}


def manifest(image: str) -> str:
    """The pod, and its configuration as a ConfigMap."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "touchline-config"}, "data": {"proxy.yaml": yaml.safe_dump(CONFIG)}}
    container = {
        "name": "touchline",
        "image": image,
        "imagePullPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "touchline-config", "mountPath": "/etc/touchline", "readOnly": True}],
    }
    # The same image holds a backend: that of the demonstration, which listens on port 8000. It also keeps the pod up while
    # touchline is stopped.
    backend = {"name": "backend", "image": image, "imagePullPolicy": "Never", "args": ["demo", "--no-traffic"]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME},
        "spec": {"containers": [container, backend], "volumes": [{"name": "touchline-config", "configMap": {"name": "touchline-config"}}]},
    }
    return yaml.safe_dump_all([config, pod], sort_keys=False)


class Pod:
    """A running pod: touchline and a backend."""

    def __init__(self, folder: Path, archive: Path) -> None:
        self.folder = folder
        (folder / "containers.conf").write_text(LIMITS)
        self.env = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
        try:
            loaded = self._podman("load", "--quiet", "--input", str(archive))
            (folder / "pod.yaml").write_text(manifest(loaded.strip().rpartition(": ")[2]))
            self._podman("play", "kube", "--network", "none", str(folder / "pod.yaml"))
            until(lambda: self.status(ADMIN, "/readyz") == 200, "the pod is ready", deadline_s=20, every_s=0.1)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def missing() -> str | None:
        """Why no pod can run on this machine."""
        if os.geteuid() != 0:
            return "a pod in a store of its own needs root here"
        for program in ("podman", "runc", "catatonit", "nsenter"):
            if not shutil.which(program):
                return f"{program} is missing: run scripts/setup-test"
        return None

    def __enter__(self) -> "Pod":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the pod."""
        self._podman("pod", "rm", "--force", "--ignore", "--time", "1", NAME)

    def _podman(self, *arguments: str) -> str:
        state = [f"--root={self.folder}/root", f"--runroot={self.folder}/run", f"--tmpdir={self.folder}/tmp"]
        kind = ["--storage-driver=vfs", "--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=file"]
        done = subprocess.run(
            ["podman", *state, *kind, *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=self.env, check=False,
        )
        assert done.returncode == 0, f"podman {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    @property
    def pid(self) -> int:
        """The process of the container; zero while it does not run."""
        return int(self._podman("inspect", f"{NAME}-touchline", "--format", "{{.State.Pid}}"))

    def _inside(self) -> list[str]:
        """The beginning of a command in the network of the pod: that of its first container, which outlives the others."""
        infra = self._podman("pod", "inspect", NAME, "--format", "{{.InfraContainerID}}").strip()
        pid = self._podman("inspect", infra, "--format", "{{.State.Pid}}").strip()
        return ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-m", "support.inside"]

    def status(self, port: int, path: str) -> int | None:
        """The status of an answer inside the pod."""
        env = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "e2e")}
        command = [*self._inside(), "status", str(port), path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env, check=True)
        return json.loads(done.stdout)

    def process_status(self) -> dict[str, str]:
        """/proc/PID/status of the process."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._podman("stop", "--time", "10", f"{NAME}-touchline")
        return int(self._podman("inspect", f"{NAME}-touchline", "--format", "{{.State.ExitCode}}"))

    def start(self) -> None:
        """Starts the container again."""
        self._podman("start", f"{NAME}-touchline")
