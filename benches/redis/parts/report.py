"""Percentiles, goals and the tables made of them."""

from harness.report import goal, number, table

TITLES = {
    "none": "none, for comparison",
    "killed": "killed",
    "hung": "hung (stopped)",
    "slow": "slow (100 ms)",
    "oom": "full, nothing stored",
    "readonly": "read-only, nothing stored",
    "flushed": "flushed every 0.2 s",
    "corrupt": "every value corrupted every 0.1 s",
}
# Faults that nothing works under, so that the tier has to be given up.
GIVEN_UP = ("killed", "hung", "slow")
# Beyond a plain round trip, in microseconds.
BEYOND_US = 50
UNTIL_MS, AFTER_MS, GIVEN_UP_MS = 20.0, 1.0, 1000.0


def percentile(values, rank):
    """The smallest value that at least `rank` percent are not above; none of nothing."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * rank // 100) - 1)] if ordered else None


def tables(hit, floor, rows, stampedes):
    """Everything as one Markdown text. `floor` are the times of requests when nothing is cached."""
    parts = [_goals(hit, floor, rows, stampedes), _hit(hit), _faults(floor, rows), _stampedes(stampedes)]
    return "\n\n".join(parts)


def _added(values, floor):
    """What P99 lies above that of the floor; none without values."""
    own = percentile(values, 99)
    return None if own is None else max(0.0, own - percentile(floor, 99))


def _goals(hit, floor, rows, stampedes):
    lines = [
        goal(
            "A hit from Redis instead of memory adds, P50",
            f"<= a round trip + {BEYOND_US} us ({number(hit.round_trip + BEYOND_US, 0, 'us')})",
            number(hit.added, 0, "us"),
            hit.added,
            hit.round_trip + BEYOND_US,
        ),
        goal("Failed requests under any fault", "0", f"{sum(row.failed for row in rows)}", sum(row.failed for row in rows), 0),
    ]
    for row in rows:
        if row.name not in GIVEN_UP:
            continue
        # Without a request until then there was nothing to add to.
        until = _added(row.until, floor) if row.until or not row.given_up else 0.0
        after = _added(row.after, floor)
        slowest = max(row.given_up, default=None)
        title = TITLES[row.name]
        lines.append(goal(f"Redis {title}: P99 added until it is given up", f"<= {UNTIL_MS:.0f} ms", number(until, 1, "ms"), until, UNTIL_MS))
        lines.append(goal(f"Redis {title}: P99 added after", f"<= {AFTER_MS:.0f} ms", number(after, 2, "ms"), after, AFTER_MS))
        lines.append(goal(f"Redis {title}: given up after, at most", f"<= {GIVEN_UP_MS:.0f} ms", number(slowest, 0, "ms"), slowest, GIVEN_UP_MS))
    for stampede in stampedes:
        most = 1 if stampede.name == "up" else 2
        lines.append(
            goal(
                f"{stampede.requests:,} requests for one cold key on two replicas, Redis {stampede.name}: fetches",
                f"<= {most}",
                f"{stampede.fetches}",
                stampede.fetches,
                most,
            )
        )
    return "### Goals of the Redis tier\n\n" + table(["goal", "target", "measured", "result"], lines)


def _hit(hit):
    rows = [
        ["hit from memory", number(hit.memory, 0, "us")],
        ["hit from Redis, memory off", number(hit.redis, 0, "us")],
        ["what Redis adds", number(hit.added, 0, "us")],
        ["`GET` of the same value, `redis-benchmark -c 1`", number(hit.round_trip, 0, "us")],
        ["what is beyond that round trip", number(hit.beyond, 0, "us")],
    ]
    return "### A hit from Redis, one connection, P50\n\n" + table(["", "P50"], rows)


def _faults(floor, rows):
    lines = [
        ["*nothing is cached*", f"{len(floor):,}", "0", *_pair(floor), "-", "-", "-", "-", "-", "-"],
    ]
    for row in rows:
        given_up = number(max(row.given_up, default=None), 0, "ms")
        lines.append(
            [
                TITLES[row.name],
                f"{row.requests:,}",
                f"{row.failed}",
                *_pair(row.before),
                given_up,
                f"{len(row.until)}" if row.given_up else "-",
                *_pair(row.until),
                *_pair(row.after),
            ]
        )
    head = [
        "Redis is", "requests", "failed", "P50 before", "P99 before", "given up after",
        "requests until then", "P50 until then", "P99 until then", "P50 after", "P99 after",
    ]
    return "### Faults of Redis, memory off\n\n" + table(head, lines)


def _pair(values):
    return [number(percentile(values, rank), 2, "ms") for rank in (50, 99)]


def _stampedes(stampedes):
    rows = [
        [stampede.name, f"{stampede.requests:,}", f"{stampede.failed}", f"{stampede.fetches}", f"{stampede.seconds:.2f} s"]
        for stampede in stampedes
    ]
    head = ["Redis is", "requests at once", "failed", "fetches", "until the last answer"]
    return "### One cold key, two replicas\n\n" + table(head, rows)
