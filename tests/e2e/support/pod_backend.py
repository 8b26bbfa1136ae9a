"""The backend container of a pod: the coaching backend on uvicorn, and work of its own that calls Claude all the time.

`python -m support.pod_backend PORT CLAUDE_URL REPORT` from `tests/e2e`. On SIGTERM uvicorn closes its port and ends; the work
goes on for a second, as background jobs do, and only then the process ends. REPORT says what became of the calls.
"""

import json
import signal
import sys
import threading
import time
from pathlib import Path

import httpx
import uvicorn

HOME = Path(__file__).resolve().parents[3] / "examples" / "coach-backend"
CALL = {"model": "claude-haiku-4-5", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]}
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
LAST_WORK_S = 1.0


class Work:
    """Calls Claude, on a kept connection and on fresh ones, until it is told to end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ended = threading.Event()
        self.has_closed = False
        self.calls = self.late = 0
        self.last = 0.0
        self.failures: list[str] = []
        self.threads = [threading.Thread(target=self._call, args=(is_kept,)) for is_kept in (True, False)]
        for thread in self.threads:
            thread.start()

    def _call(self, is_kept: bool) -> None:
        client = httpx.Client(trust_env=False, timeout=10)
        while not self.ended.is_set():
            try:
                answer = client.post(f"{self.url}/v1/messages", json=CALL, headers=HEADERS)
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code} {answer.text[:200]}")
            except httpx.HTTPError as error:
                self.failures.append(f"{error!r} after the port was {'closed' if self.has_closed else 'open'}")
            self.calls += 1
            self.late += self.has_closed
            self.last = time.monotonic()
            if not is_kept:
                client.close()
                client = httpx.Client(trust_env=False, timeout=10)
            time.sleep(0.02)
        client.close()


def main() -> int:
    port, url, report = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    sys.path.insert(0, str(HOME))
    # uvicorn ends by the signal that it caught, if nobody else wants it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    work = Work(url)
    server = uvicorn.Server(uvicorn.Config("coach.app:app", port=port, access_log=False))
    server.run()
    work.has_closed, closed = True, time.monotonic()
    time.sleep(LAST_WORK_S)
    work.ended.set()
    for thread in work.threads:
        thread.join(15)
    # The clock is the machine's, so the test can set these times beside its own.
    times = {"server_ended": closed, "last_call": work.last}
    report.write_text(json.dumps({"calls": work.calls, "late": work.late, "failures": work.failures, **times}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
