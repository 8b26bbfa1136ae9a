"""The tables."""

from harness.report import goal, number, table

TITLES = {
    "keep_alive": "HTTP/1.1, kept connections",
    "fresh": "HTTP/1.1, a connection for each",
    "http2": "HTTP/2, prior knowledge",
    "stream": "event streams",
    "websocket": "WebSocket messages",
}


def percentile(values, rank):
    """The smallest value that at least `rank` percent are not above; none of nothing."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * rank // 100) - 1)] if ordered else None


def tables(restarts, take_overs):
    """Everything as one Markdown text."""
    parts = [_goals(restarts, take_overs), _clients("rolling restarts", restarts), _clients("hand-overs", take_overs)]
    return "\n\n".join(parts)


def _sum(outcome):
    return sum(tally.sent for tally in outcome.tallies.values())


def _goals(restarts, take_overs):
    rows = []
    for name, outcome in (("rolling restarts", restarts), ("hand-overs on one host", take_overs)):
        failed = len(outcome.failures())
        label = f"failed requests over {outcome.times} {name}, of {_sum(outcome):,}"
        rows.append(goal(label, "0", str(failed), failed, 0))
    return table(["goal", "target", "measured", "result"], rows)


def _clients(name, outcome):
    rows = []
    for kind, tally in outcome.tallies.items():
        ms = list(tally.taken_ms)
        rows.append(
            [
                TITLES[kind],
                f"{tally.sent:,}",
                str(len(tally.failures)),
                number(percentile(ms, 50), 1, "ms"),
                number(percentile(ms, 99), 1, "ms"),
                number(max(ms, default=None), 0, "ms"),
            ]
        )
    head = [f"{outcome.times} {name}", "requests", "failed", "P50", "P99", "slowest"]
    ends = sorted(outcome.ends_s)
    last = f"The process that left was gone {number(ends[len(ends) // 2], 2, 's')} (median) after " + (
        "its SIGTERM." if name == "rolling restarts" else "it was told."
    )
    return f"{table(head, rows)}\n\n{last}"
