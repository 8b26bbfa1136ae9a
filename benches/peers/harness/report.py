"""Medians, ratios, goals and the tables made of them."""

import re
from statistics import median

from .proxies import TITLES

US = "touchline"

# What touchline promises itself: CPU per request against a peer (mode, peer, at most).
CPU_GOALS = [
    ("pass", "nginx", 1.0), ("pass", "haproxy", 1.0), ("pass", "envoy", 0.45), ("pass", "varnish", 0.25),
    ("hit", "haproxy", 0.9), ("hit", "nginx", 0.6), ("hit", "varnish", 0.5), ("hit", "envoy", 0.5),
]
MODES = {"pass": "Pass-through", "hit": "Memory hit"}


class Report:
    """Turns the samples of a `Bench` into text."""

    def __init__(self, bench):
        self.bench = bench
        self.names = [peer.name for peer in bench.peers]

    def tables(self):
        """All tables as one Markdown text."""
        parts = [self._goals(), self._load("pass"), self._load("hit"), self._one(), self._cold(), self._notes()]
        return "\n\n".join(part for part in parts if part)

    def _samples(self, peer, mode):
        """The samples that count: the quiet ones if every peer has such in this mode, or else all, so that like meets like."""
        counted = [sample for sample in self.bench.samples if sample.mode == mode]
        quiet = [sample for sample in counted if sample.quiet]
        if {sample.peer for sample in quiet} == {sample.peer for sample in counted}:
            counted = quiet
        return [sample for sample in counted if sample.peer == peer]

    def value(self, peer, mode, name):
        """The median of one figure, or nothing."""
        found = [getattr(sample, name) for sample in self._samples(peer, mode)]
        return median(found) if found else None

    def ratio(self, peer, mode):
        """touchline's CPU per request divided by the peer's: the median over the rounds in which both were measured."""
        ours = {sample.round: sample.cpu_per_100k for sample in self._samples(US, mode)}
        theirs = {sample.round: sample.cpu_per_100k for sample in self._samples(peer, mode)}
        pairs = [ours[turn] / theirs[turn] for turn in ours if turn in theirs]
        if len(pairs) >= 2:
            return median(pairs)
        return median(ours.values()) / median(theirs.values()) if ours and theirs else None

    def added_us(self, peer):
        """What a proxy adds to the backend's own P50 at one connection: the median over the rounds."""
        direct = {sample.round: sample.p50_us for sample in self._samples("direct", "one")}
        found = [sample.p50_us - direct[sample.round] for sample in self._samples(peer, "one") if sample.round in direct]
        return median(found) if found else None

    def cold(self, peer, name):
        """The median of a figure of the starts, or nothing."""
        found = [entry[name] for entry in self.bench.cold if entry["peer"] == peer]
        return median(found) if found else None

    def growth(self, peer):
        """How much 1,000 idle connections add to the resident memory, in MiB."""
        idle, full = self.cold(peer, "rss"), self.cold(peer, "rss_1000")
        return None if idle is None else full - idle

    def _goals(self):
        """Goals beside results; nothing without touchline."""
        if US not in self.names:
            return ""
        rows = []
        for mode, peer, limit in CPU_GOALS:
            if peer in self.names:
                measured = self.ratio(peer, mode)
                rows.append(goal(f"{MODES[mode]}: CPU per request, touchline / {TITLES[peer]}", f"<= {limit:.2f}", number(measured, 2), measured, limit))
        if "nginx" in self.names:
            ours, theirs = self.added_us(US), self.added_us("nginx")
            rows.append(goal("Added latency, one connection, P50", f"<= nginx's ({number(theirs, 0, 'us')})", number(ours, 0, "us"), ours, theirs))
        for label, measured, limit, unit in (
            ("RSS idle", self.cold(US, "rss"), 12, "MiB"),
            ("RSS added by 1,000 idle connections", self.growth(US), 12, "MiB"),
            ("Start to ready", self.cold(US, "ready_ms"), 50, "ms"),
        ):
            rows.append(goal(label, f"<= {limit} {unit}", number(measured, 1, unit), measured, limit))
        return "### Goals\n\n" + table(["goal", "target", "measured", "result"], rows)

    def _load(self, mode):
        rows = []
        for peer in self.names + (["direct"] if mode == "pass" else []):
            if not self._samples(peer, mode):
                continue
            relayed = peer != "direct"
            ratio = self.ratio(peer, mode) if relayed and US in self.names else None
            rows.append([
                TITLES.get(peer, "no proxy"),
                number(self.value(peer, mode, "cpu_per_100k"), 2) if relayed else "-",
                number(ratio, 2),
                number(1 / ratio if ratio else None, 2),
                number(self.bench.syscalls.get(f"{peer}/{mode}"), 1),
                f"{self.value(peer, mode, 'rps'):,.0f}",
                f"{self.value(peer, mode, 'p50_us') / 1000:.2f} ms",
                f"{self.value(peer, mode, 'p99_us') / 1000:.2f} ms",
            ])
        head = ["", "CPU-s per 100k requests", "touchline / peer", "peer / touchline", "syscalls per request", "requests/s", "P50", "P99"]
        return f"### {MODES[mode]}, 64 connections\n\n" + table(head, rows) if rows else ""

    def _one(self):
        rows = []
        for peer in [*self.names, "direct"]:
            if self._samples(peer, "one"):
                added = self.added_us(peer) if peer != "direct" else None
                ours = self.added_us(US)
                rows.append([
                    TITLES.get(peer, "no proxy"),
                    number(self.value(peer, "one", "p50_us"), 0, "us"),
                    number(added, 0, "us"),
                    number(ours / added if ours is not None and added else None, 2),
                    number(added / ours if ours and added is not None else None, 2),
                ])
        return "### Pass-through, one connection\n\n" + table(["", "P50", "added to no proxy", "touchline / peer", "peer / touchline"], rows) if rows else ""

    def _cold(self):
        rows = [
            [TITLES[peer], *(number(value, 1) for value in (
                self.cold(peer, "ready_ms"), self.cold(peer, "rss"), self.cold(peer, "rss_1000"), self.growth(peer),
                self.cold(peer, "pss"), self.cold(peer, "pss_1000")))]
            for peer in self.names
        ]
        head = ["", "start to ready, ms", "RSS idle, MiB", "RSS with 1,000 idle connections", "growth", "PSS idle", "PSS with 1,000"]
        return "### Start and memory\n\n" + table(head, rows)

    def _notes(self):
        """What a reader should hold against the figures."""
        noisy = sum(1 for sample in self.bench.samples if not sample.quiet)
        lines = [f"{len(self.bench.samples)} measured runs, {noisy} of them beside other work on the machine."]
        for mode in sorted({sample.mode for sample in self.bench.samples}):
            if any(not sample.quiet for peer in self.names for sample in self._samples(peer, mode)):
                lines.append(f"Mode `{mode}`: too few quiet runs, so disturbed ones count too; its figures are rough.")
        lines += [f"Not counted: {refused}." for refused in self.bench.refused]
        return "\n".join(lines)


def write(path, facts, tables, name="peers"):
    """Replaces what stands between the markers of this name in a page, and nothing else."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = path.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{path} must hold {begin} and {end} once each")
    about = table(["", ""], [list(pair) for pair in facts])
    between = f"{begin}\n{about}\n\n{tables}\n{end}"
    path.write_text(re.sub(f"{begin}.*{end}", lambda _: between, text, flags=re.DOTALL))


def goal(label, target, shown, measured, limit):
    """One row of goals beside results."""
    if measured is None or limit is None:
        return [label, target, "-", "not measured"]
    if measured <= limit:
        return [label, target, shown, "met" if limit <= 0 else f"met ({1 - measured / limit:.0%} to spare)"]
    return [label, target, shown, f"**missed** by {measured / limit - 1:.0%}" if limit > 0 else "**missed**"]


def number(value, digits, unit=""):
    """A figure, or a dash for none."""
    return "-" if value is None else f"{value:,.{digits}f} {unit}".rstrip()


def table(head, rows):
    """A Markdown table whose columns line up, numbers to the right, so that it reads well in a terminal too."""
    cells = [head, *rows]
    columns = range(len(head))
    widths = [max(3, *(len(row[column]) for row in cells)) for column in columns]
    right = [column > 0 and all(row[column][:1].isdigit() or row[column][:1] == "-" for row in rows) for column in columns]
    lines = [
        "| " + " | ".join(row[column].rjust(widths[column]) if right[column] else row[column].ljust(widths[column]) for column in columns) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (widths[column] + 1) + (":" if right[column] else "-") for column in columns) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
