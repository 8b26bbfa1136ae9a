"""The measurements: what one sample is, and the order in which they are taken.

Targets are visited in turn, round after round and each starting one further, so that a slow minute of the machine meets all alike.
"""

import time
from dataclasses import asdict, dataclass

from harness import machine
from harness.measure import NOISE

CONNECTIONS = 16
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    rounds: int
    whole_s: float
    stream_s: float
    load_s: float
    warm_s: float


QUICK = Plan(rounds=2, whole_s=0.7, stream_s=0.7, load_s=1.0, warm_s=0.5)
FULL = Plan(rounds=5, whole_s=1.3, stream_s=1.3, load_s=1.6, warm_s=1.0)
MODES = ("whole", "stream", "load")


@dataclass
class Sample:
    """One measured run of one target: `whole` and `stream` over one connection, `load` of whole answers over 16. In microseconds."""

    target: str
    mode: str
    round: int
    requests: int
    rps: float
    p50_us: float
    p99_us: float
    first_p50_us: float
    first_p99_us: float
    cpu_us: float
    noise: float

    @property
    def quiet(self):
        """Whether the machine did little else."""
        return self.noise <= NOISE


class Bench:
    """All samples of one invocation."""

    def __init__(self, world, plan):
        self.world, self.plan = world, plan
        self.samples, self.refused, self.memory = [], [], {}
        self.overheads, self.overhead_sum_s, self.overhead_count, self.decisions = [], 0.0, 0, {}
        self.patience_s = PATIENCE_S

    def run(self):
        """Everything, printing one line per measurement."""
        world = self.world
        try:
            world.fake.start()
            world.fake.await_port()
            for program in world.programs:
                program.start()
            for program in world.programs:
                program.await_port()
            time.sleep(1.0)
            self._memory("idle")
            for target in world.targets:
                for calls in (world.whole, world.stream):
                    world.load(target, calls, 4, self.plan.warm_s)
            before = world.scrape()
            print("one target is called at a time, all are up; * marks a run that other programs disturbed", flush=True)
            for turn in range(self.plan.rounds):
                for mode in MODES:
                    shift = turn % len(world.targets)
                    for target in world.targets[shift:] + world.targets[:shift]:
                        self._sample(target, mode, turn)
            self._memory("loaded")
            self.decisions = _grown(before, world.scrape(), "touchline_claude_decisions_total")
        finally:
            world.stop()

    def _memory(self, when):
        for program in self.world.programs:
            pids = program.pids()
            rss, pss = machine.memory(pids)
            self.memory.setdefault(program.name, {})[when] = {
                "rss": rss, "pss": pss, "processes": len(pids), "largest": max(machine.memory([pid])[0] for pid in pids),
            }

    def _sample(self, target, mode, turn):
        self._await_quiet()
        world = self.world
        seconds, connections = {"whole": (self.plan.whole_s, 1), "stream": (self.plan.stream_s, 1), "load": (self.plan.load_s, CONNECTIONS)}[mode]
        calls = world.stream if mode == "stream" else world.whole
        is_direct = target.program is world.fake
        own, behind = target.program.pids(), [] if is_direct else world.fake.pids()
        is_told = target.name == "touchline" and mode == "whole"
        told = (world.scrape(), world.overheads(0)[1]) if is_told else None
        served = world.served()
        before = machine.cpu(own), machine.cpu(behind), machine.busy(), time.perf_counter()
        seen, sender = world.load(target, calls, connections, seconds)
        after = machine.cpu(own), machine.cpu(behind), machine.busy(), time.perf_counter()
        served = world.served() - served
        if seen["errors"] or not seen["requests"] or served < seen["requests"]:
            refusal = f"{target.name}, {mode}, round {turn + 1}: {seen['requests']} answers, {seen['errors']} errors, {served} reached the API: {seen['example']}"
            self.refused.append(refusal)
            print(f"  ! {refusal}", flush=True)
            return
        if is_told:
            self._note_overhead(*told)
        used = (after[0] - before[0]).total
        capacity = (after[3] - before[3]) * machine.cores()
        known = used + (after[1] - before[1]).total + sender
        others = max(0.0, after[2][0] - before[2][0] - known) + after[2][1] - before[2][1]
        sample = Sample(
            target.name, mode, turn, seen["requests"], seen["requests"] / seen["seconds"], seen["p50_us"], seen["p99_us"],
            seen["first_p50_us"], seen["first_p99_us"], used / seen["requests"] * 1e6, others / capacity,
        )
        self.samples.append(sample)
        first = f"first {sample.first_p50_us:9.0f} / {sample.first_p99_us:9.0f}" if mode == "stream" else ""
        print(f"  {turn + 1}{' ' if sample.quiet else '*'} {mode:6} {target.name:13} P50 {sample.p50_us:9.0f} us  P99 {sample.p99_us:9.0f} us"
              f"  {sample.rps:8.0f}/s  {sample.cpu_us:8.1f} CPU-us  others {sample.noise:4.0%}  {first}", flush=True)

    def _note_overhead(self, before, position):
        """What touchline itself says of this sample: its histogram's sum and count, and its access log line by line."""
        after = self.world.scrape()
        name = "touchline_claude_overhead_seconds"
        self.overhead_sum_s += after[f"{name}_sum"] - before.get(f"{name}_sum", 0.0)
        self.overhead_count += int(after[f"{name}_count"] - before.get(f"{name}_count", 0.0))
        self.overheads += self.world.overheads(position)[0]

    def _await_quiet(self):
        """Waits, within this invocation's patience, until the rest of the machine does nearly nothing."""
        while self.patience_s > 0:
            before, began = machine.busy(), time.perf_counter()
            time.sleep(0.2)
            after, elapsed = machine.busy(), time.perf_counter() - began
            if sum(after) - sum(before) <= 2 * NOISE * elapsed * machine.cores():
                return
            self.patience_s -= elapsed
            if self.patience_s <= 0:
                print("  the machine does not become quiet: going on regardless", flush=True)

    def as_json(self):
        """Every sample, for a reader who wants to compute something else."""
        return {
            "samples": [asdict(sample) for sample in self.samples], "memory": self.memory, "decisions": self.decisions,
            "overhead": {"sum_s": self.overhead_sum_s, "count": self.overhead_count, "log_us": sorted(self.overheads)}, "refused": self.refused,
        }


def _grown(before, after, name):
    """How much the series of a counter have grown."""
    grown = {series: int(value - before.get(series, 0.0)) for series, value in after.items() if series.startswith(name + "{")}
    return {series.removeprefix(name): value for series, value in grown.items() if value}
