"""Network namespaces: a pod's own loopback and address, joined to the test by a pair of virtual interfaces."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

from support.process import Process

_numbers = itertools.count(os.getpid() % 4000)


# Debian has it where only root's shell looks.
IP = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin") or "ip"


def need() -> None:
    """Fails, and says what to do, where namespaces cannot be made."""
    assert shutil.which(IP), "`ip` is missing: run scripts/setup-test, or install iproute2"
    allowed = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    assert allowed.returncode == 0, (
        "network namespaces are not permitted here, and the pod tests need one: run them as root with CAP_SYS_ADMIN "
        f"and CAP_NET_ADMIN ({allowed.stderr.strip()})"
    )


class Namespace:
    """`address` is the pod's, `gateway` that of this side. Every process of the pod is started with `process`."""

    def __init__(self) -> None:
        number = next(_numbers) % 16_000
        self.name = f"touchline-{os.getpid()}-{number}"
        # 198.18.0.0/15 is set aside for tests of network devices (RFC 2544); four addresses for each.
        base = (198 << 24) + (18 << 16) + number * 4
        self.gateway, self.address = (".".join(map(str, (base + n).to_bytes(4, "big"))) for n in (1, 2))
        self._link = f"tl{number}"
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _ip("address", "add", f"{self.gateway}/30", "dev", self._link)
            _ip("link", "set", self._link, "up")
            _ip("-n", self.name, "address", "add", f"{self.address}/30", "dev", "eth0")
            _ip("-n", self.name, "link", "set", "eth0", "up")
            _ip("-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def words(self, *command: str) -> list[str]:
        """The command as it runs inside. `ip` becomes it, so that its id and its signals are the command's own."""
        return [IP, "netns", "exec", self.name, *command]

    def process(self, name: str, command: list[str], folder: Path, **options) -> Process:
        return Process(name, self.words(*command), folder, **options)

    def run(self, *command: str, **options) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.words(*command), capture_output=True, text=True, check=False, **options)

    def close(self) -> None:
        # The pair goes with either end.
        subprocess.run([IP, "link", "del", self._link], capture_output=True, check=False)
        subprocess.run([IP, "netns", "del", self.name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run([IP, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"
