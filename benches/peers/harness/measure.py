"""The measurements: what one sample is, and the order in which they are taken.

Peers are visited in turn, round after round (A B C A B C ..., each round starting one further), so that a slow minute of the machine
meets all of them alike. Every sample carries its own evidence: how many requests the backend truly saw, what the rest of the machine
did meanwhile, and how many errors wrk counted.
"""

import re
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass

from . import load, machine
from .proxies import Failed

# More processor time than this by programs that have no part in the run, as a share of all cores, makes a sample "noisy". Such samples
# stay out of the medians of a mode as long as every peer has quiet ones in it.
NOISE = 0.05
# How long one invocation waits in all for the rest of the machine to become quiet.
PATIENCE_S = 120.0
CONNECTIONS = 64
IDLE = 1000


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    rounds: int
    load_s: int
    one_s: int
    warm_s: int
    starts: int
    syscalls: bool


QUICK = Plan(rounds=2, load_s=2, one_s=1, warm_s=1, starts=1, syscalls=False)
FULL = Plan(rounds=5, load_s=4, one_s=2, warm_s=1, starts=3, syscalls=True)


@dataclass
class Sample:
    """One measured run of one peer in one mode (`pass`, `hit`, or `one` for a single connection)."""

    peer: str
    mode: str
    round: int
    rps: float
    p50_us: float
    p99_us: float
    cpu_per_100k: float
    system_share: float
    noise: float
    steal: float

    @property
    def quiet(self):
        """Whether the machine did little else."""
        return self.noise + self.steal <= NOISE


class Bench:
    """All samples of one invocation."""

    def __init__(self, backend, peers, plan, wrk):
        self.backend, self.peers, self.plan, self.wrk = backend, peers, plan, wrk
        self.samples, self.cold, self.syscalls, self.refused = [], [], {}, []
        self.patience_s = PATIENCE_S

    def run(self):
        """Everything, printing one line per measurement."""
        self.backend.start()
        try:
            self._say("\nstart, memory idle and with 1,000 idle connections")
            for turn in range(self.plan.starts):
                for peer in self._order(self.peers, turn):
                    self._cold(peer, turn)
            self._say("\nload: all proxies are up, one at a time is used; * marks a run that other programs disturbed")
            for peer in self.peers:
                peer.start()
            self._warm()
            for turn in range(self.plan.rounds):
                for mode in ("pass", "hit", "one"):
                    self._round(mode, turn)
            if self.plan.syscalls:
                self._count_syscalls()
        finally:
            for peer in self.peers:
                peer.stop()
            self.backend.stop()

    def _order(self, peers, turn):
        shift = turn % len(peers)
        return peers[shift:] + peers[:shift]

    def _cold(self, peer, turn):
        """Start to the first relayed answer, then memory before and under idle connections."""
        ready_ms = peer.start()
        try:
            time.sleep(1.0)
            rss, pss = machine.memory(peer.pids())
            with load.idle_connections(IDLE, *peer.target("pass")) as still_open:
                if still_open < IDLE:
                    raise Failed(f"{peer.name} closed {IDLE - still_open} of {IDLE} idle connections")
                full_rss, full_pss = machine.memory(peer.pids())
        finally:
            peer.stop()
        self.cold.append({"peer": peer.name, "round": turn, "ready_ms": ready_ms, "rss": rss, "pss": pss, "rss_1000": full_rss, "pss_1000": full_pss})
        self._say(f"  {turn + 1}  {peer.name:10} ready {ready_ms:6.1f} ms   RSS {rss:6.1f} -> {full_rss:6.1f} MiB   PSS {pss:6.1f} -> {full_pss:6.1f} MiB")

    def _warm(self):
        """Fills pools and caches, and makes sure that every peer does the work it is measured by."""
        for peer in self.peers:
            for mode in peer.modes:
                target = peer.target(mode)
                load.get(*target)
                head = load.get(*target).lower()
                for name in ("x-cache-status:", "x-response-time:"):
                    if name not in head:
                        raise Failed(f"{peer.name} sends no {name[:-1]} in mode {mode}:\n{head}")
                load.wrk(self.wrk, target, self.plan.warm_s, CONNECTIONS)

    def _round(self, mode, turn):
        # The backend alone is what latency is added to, and the ceiling of pass-through.
        extra = [] if mode == "hit" else [self.backend]
        for peer in self._order(extra + [peer for peer in self.peers if mode == "one" or mode in peer.modes], turn):
            self._sample(peer, mode, turn)

    def _sample(self, peer, mode, turn):
        self._await_quiet()
        target = peer.target("hit" if mode == "hit" else "pass")
        seconds, connections = (self.plan.one_s, 1) if mode == "one" else (self.plan.load_s, CONNECTIONS)
        own, behind = peer.pids(), [] if peer is self.backend else self.backend.pids()
        seen = load.served(self.backend.ports["COUNTER"])
        before = machine.cpu(own), machine.cpu(behind), machine.busy(), time.perf_counter()
        result, _ = load.wrk(self.wrk, target, seconds, connections)
        after = machine.cpu(own), machine.cpu(behind), machine.busy(), time.perf_counter()
        seen = load.served(self.backend.ports["COUNTER"]) - seen
        refusal = _refusal(mode, result, seen)
        if refusal:
            self.refused.append(f"{peer.name}, {mode}, round {turn + 1}: {refusal}")
            self._say(f"  {turn + 1}! {mode:4} {peer.name:10} not counted: {refusal}")
            return

        used = after[0] - before[0]
        capacity = (after[3] - before[3]) * machine.cores()
        known = used.total + (after[1] - before[1]).total + result.cpu_s
        noise = max(0.0, after[2][0] - before[2][0] - known) / capacity
        sample = Sample(
            peer=peer.name, mode=mode, round=turn,
            rps=result.requests / result.seconds, p50_us=result.p50_us, p99_us=result.p99_us,
            cpu_per_100k=used.total / result.requests * 100_000,
            system_share=used.system / max(used.user + used.system, 0.01),
            noise=noise, steal=(after[2][1] - before[2][1]) / capacity,
        )
        self.samples.append(sample)
        self._say(f"  {turn + 1}{' ' if sample.quiet else '*'} {mode:4} {peer.name:10} {sample.cpu_per_100k:6.2f} CPU-s/100k ({sample.system_share:3.0%} sys)  {sample.rps:8.0f}/s   P50 {result.p50_us:7.0f} us   P99 {result.p99_us:7.0f} us   others {noise + sample.steal:4.0%}")

    def _await_quiet(self):
        """Waits, within this invocation's patience, until the rest of the machine does nearly nothing."""
        while self.patience_s > 0:
            before, began = machine.busy(), time.perf_counter()
            time.sleep(0.3)
            after, elapsed = machine.busy(), time.perf_counter() - began
            if sum(after) - sum(before) <= 2 * NOISE * elapsed * machine.cores():
                return
            self.patience_s -= elapsed
            if self.patience_s <= 0:
                self._say("  the machine does not become quiet: going on regardless")

    def _count_syscalls(self):
        """System calls per request in runs of their own, as counting costs time; left out where perf may not count them."""
        perf = shutil.which("perf")
        if not perf or not _can_count(perf):
            self._say("\nsyscalls per request: left out, perf cannot count them here")
            return
        self._say("\nsyscalls per request")
        for mode in ("pass", "hit"):
            for peer in self.peers:
                if mode not in peer.modes:
                    continue
                around = [perf, "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, peer.pids())), "--"]
                result, counted = load.wrk(self.wrk, peer.target(mode), 1, CONNECTIONS, around)
                number = re.search(r"^(\d+),.*raw_syscalls", counted, re.MULTILINE)
                if number:
                    self.syscalls[f"{peer.name}/{mode}"] = int(number.group(1)) / result.requests
                    self._say(f"  {mode:4} {peer.name:10} {int(number.group(1)) / result.requests:5.2f}")

    def as_json(self):
        """Every sample, for a reader who wants to compute something else."""
        return {"samples": [asdict(sample) for sample in self.samples], "cold": self.cold, "syscalls": self.syscalls, "refused": self.refused}

    @staticmethod
    def _say(text):
        print(text, flush=True)


def _refusal(mode, result, seen):
    """Why figures do not mean what they say, or nothing. `seen` is what the backend counted."""
    if result.errors or not result.requests:
        return f"wrk counted {result.errors} errors in {result.requests} requests"
    if mode == "hit" and seen > 2 + result.requests // 100:
        return f"{seen} of {result.requests} hits came from the backend"
    if mode != "hit" and seen < result.requests:
        return f"only {seen} of {result.requests} requests reached the backend"
    return ""


def _can_count(perf):
    """Whether perf may count the system calls of a process."""
    done = subprocess.run([perf, "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "true"], capture_output=True, text=True, check=False)
    return re.search(r"^\d+,", done.stderr, re.MULTILINE) is not None
