// The order of routes, and which of them a filter keeps.

/// What a column shows of a route; null is a dash.
export function valueOf(route, column) {
  if (column === 'route') return `${route.template} ${route.method}`;
  if (column === 'hit') return route.cache?.hit_percent ?? null;
  // Of fewer than 20 samples the P99 is the largest, and of fewer than 5 everything is.
  if (column === 'p99_ms' && route.few) return null;
  if (column === 'p50_ms' && route.count < 5) return null;
  if (column === 'p95_ms' && route.count < 5) return route.max_ms;
  return route[column];
}

/// Sorted by a column, unknown values after known ones, and the rest that matches no route always last.
export function sorted(routes, { column, isDown }) {
  const sign = isDown ? -1 : 1;
  return [...routes].sort((a, b) => {
    const last = (a.method === null) - (b.method === null);
    if (last !== 0) return last;
    const [x, y] = [valueOf(a, column), valueOf(b, column)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (typeof x === 'string' ? x.localeCompare(y) : x - y);
  });
}

/// Whether a route's method and template hold every word of a filter.
export function matches(route, words) {
  const text = `${route.method ?? ''} ${route.template} ${route.over_limit ? 'over' : ''} ${route.kind}`.toLowerCase();
  return words.toLowerCase().split(/\s+/).every(word => text.includes(word));
}
