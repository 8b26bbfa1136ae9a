"""Rolling restarts and hand-overs, with clients that count."""

import subprocess
import threading
import time
from dataclasses import dataclass

from support.backend import Backend
from support.process import Process
from support.proxy import Touchline, binary
from support.rollout import Clients, Endpoints
from support.wait import until

KINDS = {"keep_alive": 10, "fresh": 3, "http2": 4, "stream": 2, "websocket": 4}
# A tenth of the times of a pod: the drain hook, the backend's own, and how late clients hear of a change.
HOOK_S, SLEEP_S, SPREAD_S = 1.5, 2.0, 1.2
PACING = {"delay": "500ms", "timeout": "5s"}


@dataclass
class Plan:
    """How much is done."""

    requests: int
    restarts: int = 20
    take_overs: int = 20


@dataclass
class Outcome:
    """What clients saw while something happened `times` times."""

    times: int
    tallies: dict
    #: Seconds from the signal to leave, or the order to hand over, to the end of the process.
    ends_s: list[float]

    def failures(self):
        return [f"{kind}: {failure}" for kind, tally in self.tallies.items() for failure in tally.failures]

    def plain(self):
        """For a file."""
        kinds = {
            kind: {"sent": tally.sent, "failures": tally.failures, "ms": [round(ms, 2) for ms in tally.taken_ms]}
            for kind, tally in self.tallies.items()
        }
        return {"times": self.times, "ends_s": self.ends_s, "kinds": kinds}


class Pod:
    """A backend and its sidecar, which end in the order of a native sidecar."""

    def __init__(self, folder):
        self.backend = Backend(folder)
        self.proxy = Touchline(folder, self.backend.url, drain=PACING, telemetry={"access_log": {"enabled": False}})
        self.proxy.wait_ready()
        self.end_s = None
        self.leaving = threading.Thread(target=self._leave, daemon=True)

    def _leave(self):
        hook = [binary(), "drain", "-c", self.proxy.file, "--wait", f"{int(HOOK_S * 1000)}ms"]
        with subprocess.Popen(hook, stdout=subprocess.DEVNULL) as hook:
            time.sleep(SLEEP_S)
            self.backend.signal()
            self.backend.wait(30)
            if hook.wait(10):
                return
        begun = time.monotonic()
        if self.proxy.terminate(30) == 0:
            self.end_s = time.monotonic() - begun

    def close(self):
        self.proxy.stop()
        self.backend.stop()


class Bench:
    """Runs the plan in a folder."""

    def __init__(self, folder, plan):
        self.folder, self.plan = folder, plan
        self._started = []

    def close(self):
        for process in self._started:
            process.close() if isinstance(process, Pod) else process.stop()

    def _start(self, process):
        self._started.append(process)
        return process

    def rolling_restarts(self):
        """Each replica is replaced by a fresh one, as by a rolling update with maxSurge 1 and maxUnavailable 0."""
        pods = [self._start(Pod(self.folder))]
        endpoints, ends_s = Endpoints(pods[0].proxy.address, spread_s=SPREAD_S), []
        share = self.plan.requests // (self.plan.restarts + 1)
        with Clients(endpoints, **KINDS) as clients:
            for turn in range(self.plan.restarts):
                begun = clients.sent
                pods.append(self._start(Pod(self.folder)))
                endpoints.switch(pods[-1].proxy.address)
                pods[-2].leaving.start()
                pods[-2].leaving.join(90)
                assert pods[-2].end_s is not None, f"restart {turn} did not end in order"
                ends_s.append(pods[-2].end_s)
                pods[-2].close()
                clients.go_on(max(0, share - (clients.sent - begun)), deadline_s=300)
            clients.go_on(max(0, self.plan.requests - clients.sent), deadline_s=600)
        return Outcome(self.plan.restarts, clients.tallies, ends_s)

    def take_overs(self):
        """One process takes over from another on the same addresses, again and again."""
        backend = self._start(Backend(self.folder))
        proxy = self._start(Touchline(self.folder, backend.url, drain=PACING, telemetry={"access_log": {"enabled": False}}))
        proxy.wait_ready()
        old, ends_s = proxy, []
        with Clients(Endpoints(proxy.address), **KINDS) as clients:
            for turn in range(self.plan.take_overs):
                words = [str(binary()), "run", "--take-over", "-c", str(proxy.file)]
                new = self._start(Process(f"next-{turn}", words, self.folder))
                until(lambda new=new: "taken over" in new.err.read_text(), f"hand-over {turn}", deadline_s=60, every_s=0.01)
                begun = time.monotonic()
                assert old.wait(30) == 0, f"hand-over {turn}"
                ends_s.append(time.monotonic() - begun)
                clients.go_on(200)
                old = new
        old.stop()
        return Outcome(self.plan.take_overs, clients.tallies, ends_s)
