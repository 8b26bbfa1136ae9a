"""The real backend: examples/coach-backend on uvicorn, with its test routes on."""

import sys
from pathlib import Path

import httpx

from support.ports import free_port
from support.process import Process
from support.wait import until

HOME = Path(__file__).resolve().parents[3] / "examples" / "coach-backend"


class Backend(Process):
    """uvicorn with one worker. `direct` talks to it past the proxy."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "uvicorn", "coach.app:app", "--port", str(self.port), "--no-access-log"]
        super().__init__(f"backend-{self.port}", command, folder, env={"COACH_TEST_ROUTES": "1"}, cwd=HOME)
        self.direct = httpx.Client(base_url=self.url, trust_env=False, timeout=10)
        until(self._answers, "the backend answers", deadline_s=20, every_s=0.05)

    def _answers(self) -> bool:
        assert self.is_running(), f"uvicorn ended at once:\n{self.log()}"
        try:
            return self.direct.get("/test/seen?path=none").status_code == 200
        except httpx.TransportError:
            return False

    def seen(self, path: str) -> list[dict]:
        """The requests that arrived for exactly this path."""
        return self.direct.get("/test/seen", params={"path": path}).json()["requests"]

    def count(self, path: str) -> int:
        """How many requests arrived for exactly this path."""
        return len(self.seen(path))

    def open_gate(self, name: str) -> None:
        """Lets a gated stream take one more step."""
        self.direct.post(f"/test/gates/{name}").raise_for_status()

    def stop(self) -> None:
        self.direct.close()
        super().stop()
