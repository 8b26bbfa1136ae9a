"""Medians, ratios, goals and the tables made of them."""

from statistics import median

from harness.report import goal, number, table

US = "touchline"
LITELLM = "litellm"
# What touchline promises itself: P50 and P99 that it adds with deciding, in microseconds, and how far below LiteLLM that is.
ADDED_P50_US, ADDED_P99_US, BELOW = 50, 250, 100


class Report:
    """Turns the samples of a `Bench` into text."""

    def __init__(self, bench):
        self.bench = bench
        self.targets = bench.world.targets

    def tables(self):
        """All tables as one Markdown text."""
        parts = [self._goals(), self._whole(), self._stream(), self._load(), self._memory(), self._own(), self._notes()]
        return "\n\n".join(parts)

    def _samples(self, target, mode):
        """The samples that count: the quiet ones if every target has such in this mode, or else all, so that like meets like."""
        counted = [sample for sample in self.bench.samples if sample.mode == mode]
        quiet = [sample for sample in counted if sample.quiet]
        if {sample.target for sample in quiet} == {sample.target for sample in counted}:
            counted = quiet
        return [sample for sample in counted if sample.target == target]

    def value(self, target, mode, name):
        """The median of one figure, or nothing."""
        found = [getattr(sample, name) for sample in self._samples(target, mode)]
        return median(found) if found else None

    def added(self, target, mode, name):
        """A figure less that of the direct calls of the same round, the median over the rounds."""
        direct = {sample.round: getattr(sample, name) for sample in self._samples("direct", mode)}
        found = [getattr(sample, name) - direct[sample.round] for sample in self._samples(target, mode) if sample.round in direct]
        if found:
            return median(found)
        ours, theirs = self.value(target, mode, name), self.value("direct", mode, name)
        return None if ours is None or theirs is None else ours - theirs

    def _goals(self):
        p50, p99 = self.added(US, "whole", "p50_us"), self.added(US, "whole", "p99_us")
        theirs = self.added(LITELLM, "whole", "p50_us")
        rows = [
            goal("Added to a whole answer, deciding, P50", f"<= {ADDED_P50_US} us", number(p50, 0, "us"), p50, ADDED_P50_US),
            goal("Added to a whole answer, deciding, P99", f"<= {ADDED_P99_US} us", number(p99, 0, "us"), p99, ADDED_P99_US),
            goal("Added P50, touchline / LiteLLM", f"<= 1/{BELOW} ({number(theirs and theirs / BELOW, 0, 'us')})", number(p50, 0, "us"), p50, theirs and theirs / BELOW),
        ]
        return "### Goals of the Claude plane\n\n" + table(["goal", "target", "measured", "result"], rows)

    def _rows(self, mode, names):
        """A row of figures for each target: P50 and P99 as seen, what is added, and the ratio of what is added."""
        rows = []
        for target in self.targets:
            is_direct = target.name == "direct"
            row = [target.title]
            for name in names:
                row.append(_time(self.value(target.name, mode, name)))
                row.append("-" if is_direct else _time(self.added(target.name, mode, name)))
            ours, theirs = self.added(US, mode, names[0]), self.added(target.name, mode, names[0])
            row.append("-" if is_direct else _times(theirs, ours))
            rows.append(row)
        return rows

    def _whole(self):
        head = ["", "P50", "added", "P99", "added", "added P50, peer / touchline"]
        return "### A whole answer, one connection, 10 kB asked\n\n" + table(head, self._rows("whole", ["p50_us", "p99_us"]))

    def _stream(self):
        head = ["", "first event, P50", "added", "P99", "added", "last event, P50", "added", "added first event, peer / touchline"]
        return "### A stream, one connection, 10 kB asked\n\n" + table(head, self._rows("stream", ["first_p50_us", "first_p99_us", "p50_us"]))

    def _load(self):
        rows = []
        ours = self.value(US, "load", "cpu_us")
        for target in self.targets:
            is_direct = target.name == "direct"
            cpu, rps = self.value(target.name, "load", "cpu_us"), self.value(target.name, "load", "rps")
            rows.append([
                target.title, "-" if is_direct else number(cpu, 0, "us"), "-" if is_direct else _times(cpu, ours), number(rps, 0),
                "-" if is_direct else _times(self.value(US, "load", "rps"), rps),
                _time(self.value(target.name, "load", "p50_us")), _time(self.value(target.name, "load", "p99_us")),
            ])
        head = ["", "CPU per request", "CPU, peer / touchline", "requests/s", "requests/s, touchline / peer", "P50", "P99"]
        return "### Whole answers, 16 connections\n\n" + table(head, rows)

    def _memory(self):
        rows = []
        ours = self.bench.memory[US]
        titles = {"touchline": "touchline", "touchline-off": "touchline, `mode: off`", "litellm": "LiteLLM, 2 workers", "portkey": "Portkey"}
        for name, title in titles.items():
            idle, loaded = self.bench.memory[name]["idle"], self.bench.memory[name]["loaded"]
            rows.append([
                title, str(idle["processes"]), number(idle["rss"], 1), _times(idle["rss"], ours["idle"]["rss"]), number(loaded["rss"], 1),
                _times(loaded["rss"], ours["loaded"]["rss"]), number(loaded["largest"], 1), number(idle["pss"], 1), number(loaded["pss"], 1),
            ])
        head = ["", "processes", "RSS idle, MiB", "peer / touchline", "RSS after load", "peer / touchline", "its largest process", "PSS idle", "PSS after load"]
        return "### Memory of the Claude planes\n\n" + table(head, rows)

    def _own(self):
        """What touchline says of itself while its whole answers over one connection were measured."""
        log, count = sorted(self.bench.overheads), self.bench.overhead_count
        mean = self.bench.overhead_sum_s / count * 1e6 if count else None
        at = lambda share: log[min(int(len(log) * share), len(log) - 1)] if log else None  # noqa: E731
        rows = [
            ["`touchline_claude_overhead_seconds`, mean", number(mean, 1, "us"), f"{count:,} calls"],
            ["`overhead_us` of the access log, P50", number(at(0.5), 0, "us"), f"{len(log):,} lines"],
            ["the same, P99", number(at(0.99), 0, "us"), f"{len(log):,} lines"],
        ]
        total = sum(self.bench.decisions.values())
        ranked = sorted(self.bench.decisions.items(), key=lambda item: -item[1])
        decided = ", ".join(f"`{series}` {value / total:.0%}" for series, value in ranked[:8])
        return "### What touchline says of itself\n\n" + table(["", "", "of"], rows) + f"\n\nDecided: {decided or 'nothing'}."

    def _notes(self):
        """What a reader should hold against the figures."""
        noisy = sum(1 for sample in self.bench.samples if not sample.quiet)
        lines = [f"{len(self.bench.samples)} measured runs, {noisy} of them beside other work on the machine."]
        for mode in sorted({sample.mode for sample in self.bench.samples}):
            if any(not sample.quiet for target in self.targets for sample in self._samples(target.name, mode)):
                lines.append(f"Mode `{mode}`: too few quiet runs, so disturbed ones count too; its figures are rough.")
        lines += [f"Not counted: {refused}." for refused in self.bench.refused]
        return "\n".join(lines)


def _time(us):
    """Microseconds, or milliseconds from ten on."""
    if us is None:
        return "-"
    return f"{us / 1000:,.2f} ms" if abs(us) >= 10_000 else f"{us:,.0f} us"


def _times(over, under):
    """A ratio, where there is one."""
    if over is None or under is None or under <= 0:
        return "-"
    return f"{over / under:,.1f}"
