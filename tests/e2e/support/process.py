"""A child process with its output in files, ended by its id."""

import os
import signal
import subprocess
from pathlib import Path

from support.wait import until


class Process:
    """Starts a command; `stop` ends it and returns its exit code."""

    def __init__(
        self, name: str, command: list[str], folder: Path, env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.name = name
        self.out = folder / f"{name}.out"
        self.err = folder / f"{name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd, env={**os.environ, **(env or {})}
            )

    @property
    def pid(self) -> int:
        return self.child.pid

    def is_running(self) -> bool:
        return self.child.poll() is None

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.child.send_signal(number)

    def wait(self, deadline_s: float = 10.0) -> int:
        """The exit code, once the process has ended."""
        until(lambda: not self.is_running(), f"{self.name} ends", deadline_s)
        return self.child.returncode

    def stop(self) -> None:
        """Kills the process. For an orderly end use `signal` and `wait`."""
        if self.is_running():
            self.child.kill()
            self.child.wait(timeout=10)

    def rss_kib(self) -> int:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError(f"{self.name} has no VmRSS")

    def log(self, limit: int = 6000) -> str:
        """The tail of both outputs, for the report of a failed test."""
        parts = []
        for file in (self.out, self.err):
            text = file.read_text(errors="replace")
            parts.append(f"--- {file.name}\n{text[-limit:]}")
        return "\n".join(parts)
