"""The numbers of a snapshot as the page has to write them, made without the page's code; and those that stand there."""

from decimal import ROUND_HALF_UP, Decimal

from support.browser import Page

DASH = "–"


def fixed(value: float, digits: int) -> str:
    """So many digits; of two that are equally near, the larger."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def count(value: float) -> str:
    return f"{int(value):,}"


def latency(ms: float | None) -> str:
    if ms is None:
        return DASH
    if ms >= 999.5:
        return f"{fixed(ms / 1000, 2)} s"
    digits = 0 if ms >= 9.95 else 1 if ms >= 0.995 else 2
    return f"{fixed(ms, digits)} ms"


def rate(value: float) -> str:
    return fixed(value, 1 if value >= 9.95 else 2)


def percent(value: float | None, digits: int = 2) -> str:
    return DASH if value is None else f"{fixed(value, digits)}%"


def size(value: float) -> str:
    units = ["B", "KiB", "MiB", "GiB"]
    while value >= 1023.5 and len(units) > 1:
        value /= 1024
        units.pop(0)
    digits = 0 if units[0] == "B" or value >= 99.5 else 1
    return f"{fixed(value, digits)} {units[0]}"


MISSES = {"uri-miss": "not in cache", "stale": "expired", "vary-miss": "vary differs", "request": "client no-cache"}
SOURCES = {"redis": "Redis", "stale": "stale, refreshing"}


def expected(snapshot: dict) -> dict[str, list[str] | str]:
    """What has to stand where."""
    tiles, cache = snapshot["tiles"], snapshot["cache"]
    figures: dict[str, list[str] | str] = {
        "tile requests": f"{rate(tiles['requests_per_s'])} /s",
        "tile answered 5xx": percent(tiles["errors_5xx_percent"]),
        "tile P95, streams excluded": latency(tiles["p95_ms"]),
        "tile without the backend": percent(tiles["without_backend_percent"], 1),
        "score": str(snapshot["health"]["score"]),
        "cache headline": [
            percent(cache["hit_percent"], 1),
            f"hit, target {percent(cache['target_percent'], 0)}",
            count(cache["hits"]),
            f"hits of {count(cache['lookups'])} lookups",
            size(cache["bytes"]),
            f"of {size(cache['bytes_max'])}, {count(cache['entries'])} entries",
        ],
        "cache bars": [
            text
            for names, rows, key in ((SOURCES, cache["by_source"], "source"), (MISSES, cache["by_miss"], "reason"))
            for row in rows
            for text in (names.get(row[key], row[key]), count(row["count"]))
        ],
        "cache facts": [count(cache["bypass"]), count(cache["revalidated"]), count(cache["evictions"])],
        "cache keys": [
            text for entry in cache["top_keys"][:6] for text in (entry["key"], count(entry["hits"]), size(entry["bytes"]))
        ],
    }
    for route in snapshot["routes"]:
        few = route["count"]
        cell = route["cache"]
        figures[f"route {route['key']}"] = [
            rate(route["per_s"]),
            percent(route["error_percent"]),
            DASH if few < 5 else latency(route["p50_ms"]),
            f"max {latency(route['max_ms'])}" if few < 5 else latency(route["p95_ms"]),
            DASH if route["few"] else latency(route["p99_ms"]),
            percent(cell["hit_percent"], 1) if cell["hit_percent"] is not None else cell["why"] or DASH,
        ]
    return figures


READ = """() => {
  const text = node => {
    const copy = node.cloneNode(true);
    for (const label of copy.querySelectorAll('.label')) label.remove();
    return copy.textContent.replace(/\\s+/g, ' ').trim();
  };
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const found = { score: text(document.querySelector('.ring text')) };
  for (const tile of all('.tiles > div')) found[`tile ${text(tile.querySelector('dt'))}`] = text(tile.querySelector('.value'));
  const cache = document.getElementById('cache');
  found['cache headline'] = all('.headline > div', cache).flatMap(one => [text(one.querySelector('dd')), text(one.querySelector('dt'))]);
  found['cache bars'] = all('.bars li', cache).flatMap(one => [text(one.querySelector('.name')), text(one.querySelector('b'))]);
  found['cache facts'] = all('.facts dd', cache).map(text);
  found['cache keys'] = all('.keys tbody tr', cache).flatMap(row => [...row.children].slice(0, 3).map(text));
  for (const row of all('table.routes tbody tr')) {
    const cells = [...row.children];
    const name = cells[0].querySelector('button').title;
    found[`route ${name}`] = [1, 2, 3, 4, 5, 7].map(place => text(cells[place]));
  }
  return found;
}"""


def shown(page: Page) -> dict[str, list[str] | str]:
    """What stands there now."""
    return page.eval(READ)
