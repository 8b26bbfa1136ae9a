// Made-up instances to look at the page with: each scenario is a function from a time to a snapshot of /api/v1/snapshot.
// Numbers move a little with time and are the same for the same time, so that a screenshot can be repeated.

const HOSTILE = '<img src=x onerror=alert(1)>';
const MINUTE = 60_000;
const iso = ms => new Date(ms).toISOString().replace('Z', '000+00:00');

/// A number in [0, 1) that depends on the seed alone.
function noise(seed) {
  const x = Math.sin(seed * 127.1 + 311.7) * 43758.5453;
  return x - Math.floor(x);
}
const sway = (seed, at) => Math.sin(at / 97_000 + seed) * 0.5 + (noise(seed + Math.floor(at / 10_000)) - 0.5) * 0.6;

// method, template, rate, 5xx %, P50, P95, P99, limit, hit % or why, kind
const ROUTES = [
  ['GET', '/api/challenges', 42.6, 0, 0.4, 3.1, 61, 2000, 97.8],
  ['GET', '/api/user/reputation/{user_id}', 18.3, 0.02, 0.5, 88, 210, 2000, 91.2],
  ['GET', '/api/chat/messages/{match_id}', 9.8, 0.07, 84, 203, 417, 2000, 'no-store'],
  ['GET', '/coach/sessions/{user_id}', 6.1, 0.11, 0.7, 142, 388, 2000, 72.4],
  ['GET', '/api/session/{session_id}', 4.4, 0.3, 96, 318, 612, 2000, 'auth'],
  ['POST', '/api/chat/send', 2.7, 0, 71, 164, 301, 2000, 'write'],
  ['GET', '/api/matches/candidates/{user_id}', 1.9, 0, 320, 640, 1210, 2000, 'not listed'],
  ['POST', '/coach/chat/stream', 0.15, 0, 710, 1640, 2900, 2000, 'stream', 'stream'],
  ['POST', '/coach/chat', 0.04, 0, 1700, 4600, 4600, 8000, 'write'],
  ['DELETE', '/api/session/{session_id}', 0.01, 0, 44, 61, 61, 2000, 'write'],
  [null, 'unmatched', 0.3, 0, 2, 6, 9, 2000, '404s'],
];

function route([method, template, perS, error, p50, p95, p99, limit, cache, kind = 'plain'], i, at, seconds) {
  const wave = 1 + 0.12 * sway(i, at);
  const count = Math.round(perS * seconds * wave);
  const few = count < 20;
  const p95Now = p95 * wave;
  const hits = typeof cache === 'number' ? Math.round((count * cache) / 100) : 0;
  return {
    key: method === null ? 'unmatched' : `${method} ${template}`, method, template, kind, basis: kind === 'stream' ? 'first_byte' : 'whole',
    count, per_s: perS * wave, errors_5xx: Math.round((count * error) / 100), error_percent: error, p50_ms: p50 * wave, p95_ms: p95Now, p99_ms: p99 * wave,
    max_ms: p99 * 1.2, few, limit_ms: limit, over_limit: p95Now > limit,
    p95_minutes: Array.from({ length: 15 }, (_, k) => (perS < 0.1 && noise(i * 31 + k) < 0.4 ? null : p95 * (1 + 0.25 * sway(i, at - (14 - k) * MINUTE)))),
    cache: typeof cache === 'number'
      ? { hits, misses: count - hits, bypass: 0, hit_percent: cache, why: null }
      : { hits: 0, misses: 0, bypass: count, hit_percent: null, why: cache },
  };
}

function chart(at, { lostAt = null, startedAt = 0 } = {}) {
  const slots = [];
  const newest = Math.floor(at / 10_000) * 10_000;
  for (let slot = newest - 89 * 10_000; slot <= newest; slot += 10_000) {
    if (slot < startedAt - 10_000) continue;
    const part = Math.min(1, (at - slot) / 10_000);
    const all = 860 * (1 + 0.16 * sway(3, slot)) * part;
    const isHurt = lostAt !== null && slot >= lostAt - 10_000 && slot < lostAt + 40_000;
    const miss = isHurt ? 0.16 : 0.012;
    const error = isHurt ? 0.02 : noise(slot / 1e4) < 0.1 ? 0.002 : 0;
    const bypass = 0.27;
    slots.push({ at: iso(slot), hit: Math.round(all * (1 - miss - error - bypass)), miss: Math.round(all * miss), bypass: Math.round(all * bypass), error: Math.ceil(all * error) });
  }
  return { slot_s: 10, slots, marks: [{ at: iso(newest - 11 * MINUTE), kind: 'reload', text: 'configuration reloaded, 3f9c1ab' }] };
}

function slowItems(at) {
  const item = (ago, method, template, path, total, limit, parts, sentence, more = {}) => ({
    at: iso(at - ago * 1000), method, template, path, status: 200, cache: 'miss', reason: 'uri-miss', basis: 'whole', total_ms: total, limit_ms: limit,
    parts: { queue_us: 0, cache_us: 0, redis_us: 0, collapsed_us: 0, connect_us: 0, backend_us: 0, body_us: 0, claude_us: 0, own_us: 0, ...parts }, sentence,
    trace_id: Array.from({ length: 32 }, (_, i) => Math.floor(noise(ago + i) * 16).toString(16)).join(''), ...more,
  });
  return [
    item(22, 'GET', '/api/matches/candidates/{user_id}', '/api/matches/candidates/7f3a…', 4020, 2000, { queue_us: 2000, backend_us: 3_969_020, body_us: 48_000, own_us: 980 }, 'The backend took 99 % of the time before its first byte.'),
    item(41, 'POST', '/coach/chat', null, 8180, 8000, { queue_us: 1000, backend_us: 452_000, claude_us: 7_710_000, body_us: 17_000 }, 'Claude, standard tier, took 94 %: 1 call, 611 tokens out.'),
    item(56, 'GET', '/api/user/reputation/{user_id}', '/api/user/reputation/22e1…', 2110, 2000, { redis_us: 48_000, collapsed_us: 2_050_000, body_us: 12_000 }, 'Waited for another request with the same key.'),
    item(171, 'GET', '/coach/sessions/{user_id}', '/coach/sessions/51bd…', 2050, 2000, { queue_us: 1_620_000, redis_us: 50_000, connect_us: 1000, backend_us: 370_000, body_us: 9000 }, 'Waited for a place: 32 of 32 were busy.'),
  ];
}

function claude(at) {
  return {
    mode: 'route', since: iso(at - 22_331_000), calls: 703, cost_usd: 10.63, saved_vs_requested_usd: 2.61, saved_vs_premium_usd: 11.43, would_save_usd: null,
    tiers: [
      { tier: 'economy', calls: 412, input_tokens: 1_210_000, output_tokens: 98_000, cache_read_tokens: 0, cost_usd: 1.7 },
      { tier: 'standard', calls: 268, input_tokens: 1_460_000, output_tokens: 171_000, cache_read_tokens: 324_000, cost_usd: 6.95 },
      { tier: 'premium', calls: 23, input_tokens: 190_000, output_tokens: 41_000, cache_read_tokens: 0, cost_usd: 1.98 },
    ],
    first_token_p95_ms: 1380, call_p95_ms: 6900, refused_429: 4, refused_529: 1, retries: 5, estimated_calls: 0, unknown_usage: 0,
    budgets: [{ name: 'daily', spent_usd: 148.2, limit_usd: 250, refused: 0 }], top_reasons: [{ reason: 'two_signals', count: 311 }, { reason: 'short_question', count: 188 }, { reason: 'asked_for', count: 23 }],
  };
}

function healthy(at, seconds) {
  const routes = ROUTES.map((row, i) => route(row, i, at, seconds));
  return {
    meta: {
      service: 'coach-api', pod: 'coach-api-7d9f8-x2k4q', version: '0.1.0', config_hash: '3f9c1ab', config_loaded: iso(at - 11 * MINUTE), config_rejected_since: null,
      started_at: iso(at - 22_331_000), uptime_s: 22_331, draining: false, window: '5m', covered_s: seconds, scope: 'pod', can_merge: true, peers: null,
    },
    health: { score: 100, status: 'healthy', headline: 'Healthy: nothing is wrong.', reasons: [], fine: ['Backend answers (3 ms)', 'Redis answers (0.41 ms)', 'Claude refuses 0.6 % of calls', 'error budget burns at 0.7x'] },
    tiles: { requests_per_s: 86.3 * (1 + 0.1 * sway(3, at)), errors_5xx_percent: 0.06, p95_ms: 203.1, without_backend_percent: 72.7 },
    chart: chart(at),
    routes,
    cache: {
      mode: 'serve', hit_percent: 93.7, target_percent: 85, lookups: 20_100, hits: 18_831, misses: 1269, bypass: 40, revalidated: 11,
      by_source: [{ source: 'memory', count: 16_940 }, { source: 'redis', count: 1402 }, { source: 'collapsed', count: 402 }, { source: 'stale', count: 87 }],
      by_miss: [{ reason: 'uri-miss', count: 842 }, { reason: 'stale', count: 311 }, { reason: 'vary-miss', count: 94 }, { reason: 'request', count: 22 }],
      top_keys: [{ key: '/api/challenges', hits: 8412, bytes: 9318, ttl_s: 1312 }, { key: '/api/challenges?difficulty=beginner', hits: 2907, bytes: 3300, ttl_s: 904 }, { key: '/api/user/reputation/7f3a…', hits: 318, bytes: 204, ttl_s: 188 }],
      entries: 4218, bytes: 11_848_000, bytes_max: 67_108_864, evictions: 0,
    },
    redis: {
      up: true, address: 'redis:6379', error: null, since: iso(at - 22_320_000), breaker: 'closed', ping_ms: 0.41, ping_minutes: Array.from({ length: 15 }, (_, k) => 0.4 * (1 + 0.3 * sway(9, at - (14 - k) * MINUTE))),
      losses: 0, pending_writes: 0, pending_purges: 0, dropped_writes: 0,
    },
    backend: { up: true, since: iso(at - 22_331_000), probe_ms: 3, breaker: 'closed', breaker_since: null, address: 'http://127.0.0.1:8000', in_flight: 3, places: 64, queued: 0 },
    claude: claude(at),
    slow: { total: 0, items: [] },
    alerts: {
      enabled: true, firing: 0, pending: 0, items: [],
      channels: [{ name: 'slack', kind: 'slack', state: 'ok', last_success: iso(at - 1_900_000), last_error: null, queued: 0, delivered: 12, lost: 0 }, { name: 'alertmanager', kind: 'alertmanager', state: 'idle', last_success: null, last_error: null, queued: 0, delivered: 0, lost: 0 }],
      burn: { objective_percent: 99.9, burn_1h: 0.7, burn_6h: 0.5, budget_left_percent: 50 },
    },
  };
}

function degraded(at, seconds) {
  const snapshot = healthy(at, seconds);
  const lostAt = Math.floor(at / 10_000) * 10_000 - 190_000;
  const slow = snapshot.routes.find(one => one.template.includes('candidates'));
  Object.assign(slow, { p50_ms: 640, p95_ms: 2310, p99_ms: 4020, max_ms: 4180, errors_5xx: 6, error_percent: 1.05, over_limit: true });
  slow.p95_minutes = slow.p95_minutes.map((value, i) => (i < 8 ? value : 700 + Math.min(1, (i - 7) / 4) * 1600 + 90 * sway(i, at)));
  snapshot.health = {
    score: 70, status: 'degraded', headline: 'Degraded: one route is over its limit, and Redis does not answer.',
    reasons: [
      { code: 'redis', points: 20, text: 'Redis connection issues: connection refused', since: iso(lostAt) },
      { code: 'route_slow', points: 10, text: 'GET /api/matches/candidates/{user_id} P95 2310ms is over its limit of 2000ms', since: iso(at - 360_000) },
    ],
    fine: ['Backend answers (3 ms)', 'Claude refuses 0.6 % of calls', 'error budget burns at 0.7x'],
  };
  snapshot.chart = chart(at, { lostAt });
  snapshot.chart.marks.push({ at: iso(at - 353_000), kind: 'alert', text: 'P95 alert: /api/matches/candidates/{user_id}' }, { at: iso(lostAt), kind: 'redis_lost', text: 'Redis lost, memory tier takes over' }, { at: iso(lostAt + 9000), kind: 'breaker', text: 'Redis breaker open' });
  Object.assign(snapshot.redis, { up: false, error: 'connection refused', since: iso(lostAt), breaker: 'open', ping_ms: null, losses: 1, pending_purges: 7, dropped_writes: 31 });
  snapshot.redis.ping_minutes.splice(12, 3, null, null, null);
  snapshot.slow = { total: 4, items: slowItems(at) };
  snapshot.alerts.firing = 2;
  snapshot.alerts.pending = 1;
  snapshot.alerts.items = [
    { id: 'a1', rule: 'route_p95', severity: 'critical', state: 'firing', text: 'P95 at or over 2 s: GET /api/matches/candidates/{user_id}', value: '2.31 s', threshold: '2 s', since: iso(at - 360_000), resolved_at: null, notified_at: iso(at - 348_000), reason: null, is_flapping: false, labels: {} },
    { id: 'a2', rule: 'redis', severity: 'warning', state: 'firing', text: 'Redis unreachable', value: 'connection refused', threshold: null, since: iso(lostAt), resolved_at: null, notified_at: iso(lostAt + 40_000), reason: null, is_flapping: false, labels: {} },
    { id: 'a3', rule: 'hit_rate', severity: 'warning', state: 'pending', text: 'Cache hit rate under its target', value: '81 %', threshold: '85 %', since: iso(at - 50_000), resolved_at: null, notified_at: null, reason: null, is_flapping: false, labels: {} },
    { id: 'a4', rule: 'slow_burst', severity: 'info', state: 'resolved', text: 'Slow burst: POST /coach/chat', value: '6', threshold: '5', since: iso(at - 1_500_000), resolved_at: iso(at - 1_320_000), notified_at: iso(at - 1_490_000), reason: null, is_flapping: true, labels: {} },
  ];
  Object.assign(snapshot.alerts.channels[1], { state: 'failing', last_error: 'connecting to alertmanager: connection refused', queued: 2 });
  return snapshot;
}

function down(at, seconds) {
  const snapshot = degraded(at, seconds);
  snapshot.health = { score: 20, status: 'unhealthy', headline: 'Unhealthy: the backend does not answer, and 14 % of requests fail.', reasons: [{ code: 'backend_down', points: 50, text: 'Backend down: connection refused', since: iso(at - 95_000) }, { code: 'errors', points: 30, text: '14.2 % of requests were answered 5xx', since: iso(at - 80_000) }], fine: ['Redis answers (0.41 ms)'] };
  Object.assign(snapshot.backend, { up: false, since: iso(at - 95_000), probe_ms: null, breaker: 'open', breaker_since: iso(at - 92_000), in_flight: 61, queued: 12 });
  snapshot.redis = healthy(at, seconds).redis;
  Object.assign(snapshot.tiles, { errors_5xx_percent: 14.2, p95_ms: 5012 });
  for (const slot of snapshot.chart.slots.slice(-9)) {
    slot.error = Math.round(slot.bypass * 0.8);
    slot.bypass -= slot.error;
  }
  Object.assign(snapshot.meta, { draining: true, config_rejected_since: iso(at - 400_000) });
  Object.assign(snapshot.alerts.burn, { burn_1h: 15.2, burn_6h: 6.4, budget_left_percent: 0 });
  return snapshot;
}

function empty(at) {
  const started = at - 42_000;
  const snapshot = healthy(at, 300);
  Object.assign(snapshot.meta, { started_at: iso(started), uptime_s: 42, covered_s: 42, config_loaded: iso(started), can_merge: false });
  snapshot.health.fine = ['Ready for traffic'];
  snapshot.tiles = { requests_per_s: null, errors_5xx_percent: null, p95_ms: null, without_backend_percent: null };
  snapshot.chart = { slot_s: 10, slots: [], marks: [{ at: iso(started), kind: 'start', text: 'started, 0.1.0' }] };
  snapshot.routes = [];
  Object.assign(snapshot.cache, { hit_percent: null, lookups: 0, hits: 0, misses: 0, bypass: 0, revalidated: 0, by_source: [], by_miss: [], top_keys: [], entries: 0, bytes: 0 });
  Object.assign(snapshot.redis, { since: iso(started), ping_minutes: [0.4], ping_ms: 0.4 });
  Object.assign(snapshot.backend, { up: null, since: null, probe_ms: null, in_flight: 0 });
  Object.assign(snapshot.claude, { since: iso(started), calls: 0, cost_usd: 0, saved_vs_requested_usd: 0, saved_vs_premium_usd: 0, tiers: [], first_token_p95_ms: null, call_p95_ms: null, refused_429: 0, refused_529: 0, retries: 0, budgets: [], top_reasons: [] });
  snapshot.alerts.channels = [];
  snapshot.alerts.burn = { objective_percent: 99.9, burn_1h: null, burn_6h: null, budget_left_percent: null };
  return snapshot;
}

function merged(at, seconds) {
  const snapshot = degraded(at, seconds);
  Object.assign(snapshot.meta, { scope: 'merged', peers: { asked: 3, answered: 2, silent: [{ pod: '10.0.0.7:9090', error: 'no answer within 1 s' }] } });
  const pods = ['coach-api-7d9f8-x2k4q', 'coach-api-7d9f8-m8w2c'];
  snapshot.redis.pod = pods[1];
  snapshot.backend.pod = pods[0];
  snapshot.slow.items.forEach((item, i) => Object.assign(item, { pod: pods[i % 2] }));
  snapshot.alerts.items.forEach((item, i) => Object.assign(item, { pods: pods.slice(0, 1 + (i % 2)) }));
  return snapshot;
}

function planesOff(at, seconds) {
  const snapshot = healthy(at, seconds);
  Object.assign(snapshot, { claude: null, redis: null });
  snapshot.alerts = { ...snapshot.alerts, enabled: false, channels: [], burn: null };
  snapshot.health.fine = ['Backend answers (3 ms)'];
  return snapshot;
}

function many(at, seconds) {
  const snapshot = degraded(at, seconds);
  const nouns = ['orders', 'users', 'teams', 'invoices', 'messages', 'matches'];
  const rows = Array.from({ length: 60 }, (_, i) => {
    const template = `/api/v${1 + (i % 3)}/${nouns[i % 6]}/{id}${i % 4 ? `/${nouns[(i + 2) % 6]}` : ''}${i % 7 ? '' : '/{item_id}/history'}`;
    const p95 = 20 + 900 * noise(i + 5);
    return [['GET', 'POST', 'PUT', 'DELETE', 'PATCH'][i % 5], template, 40 * 0.9 ** i, i % 9 ? 0 : 0.2, p95 / 4, i === 40 ? 2600 : p95, p95 * 2, 2000, i % 5 ? 'write' : 60 + 39 * noise(i)];
  });
  snapshot.routes = [...rows, ROUTES.at(-1)].map((row, i) => route(row, i, at, seconds));
  return snapshot;
}

/// Every text replaced by one that would do harm as HTML, or hides and turns around what follows.
function hostile(at, seconds) {
  const spoil = (value, name) => {
    if (Array.isArray(value)) return value.map(one => spoil(one, name));
    if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, spoil(one, key)]));
    const isOurs = ['at', 'since', 'config_loaded', 'started_at', 'resolved_at', 'notified_at', 'last_success', 'breaker_since', 'config_rejected_since', 'status', 'state', 'severity', 'window', 'scope'];
    if (typeof value !== 'string' || isOurs.includes(name) || /^\d{4}-/.test(value)) return value;
    return name === 'method' || name === 'mode' ? value : `${value}${HOSTILE}\u202egnp.\u0007`;
  };
  return spoil(merged(at, seconds), '');
}

export const SCENARIOS = { healthy, degraded, down, empty, merged, off: planesOff, many, hostile };
const WINDOWS = { '1m': 60, '5m': 300, '1h': 3600 };

export function snapshotOf(name, at, { window = '5m', scope = 'pod' } = {}) {
  const make = name === 'degraded' && scope === 'merged' ? merged : SCENARIOS[name] ?? healthy;
  const snapshot = make(at, WINDOWS[window] ?? 300);
  snapshot.meta.window = window;
  return { seq: Math.floor(at / 1000), at: iso(at), ...snapshot };
}

export function line(name, at, serial) {
  const pick = Math.floor(noise(serial) * 10);
  const [method, template, , , p50] = ROUTES[pick];
  const cache = pick < 2 ? 'hit' : pick === 3 && noise(serial + 1) < 0.5 ? 'miss' : 'bypass';
  const isClaude = pick >= 7 && pick < 9;
  const ms = p50 * (0.6 + noise(serial + 2));
  const bad = name !== 'healthy' && noise(serial + 3) < 0.05;
  const spoiled = name === 'hostile' ? HOSTILE : '';
  return {
    at: iso(at), plane: isClaude ? 'claude' : 'ingress', method, template, path: template.replaceAll(/\{[^}]*\}/g, `${Math.floor(noise(serial + 4) * 65536).toString(16)}…`) + spoiled,
    status: bad ? 502 : 200, ms, cache: isClaude ? null : cache, source: cache === 'hit' ? 'memory' : null, fwd: cache === 'miss' ? 'uri-miss' : cache === 'bypass' ? 'bypass' : null,
    reason: cache === 'bypass' ? (typeof ROUTES[pick][8] === 'string' ? ROUTES[pick][8] : 'cookie') : null, outcome: bad ? 'upstream_abort' : 'done', kind: 'plain', bytes_out: 812,
    trace_id: Array.from({ length: 32 }, (_, i) => Math.floor(noise(serial * 7 + i) * 16).toString(16)).join(''), parts: { backend_us: cache === 'hit' ? 0 : Math.round(ms * 970) },
    ...(isClaude ? { model: `claude-sonnet${spoiled}`, tier: 'standard', routing_reason: 'two_signals' } : {}),
  };
}

export function details(name, key, at, options) {
  const route = snapshotOf(name, at, options).routes.find(one => one.key === key);
  if (!route) return null;
  const spoiled = name === 'hostile' ? HOSTILE : '';
  const histogram = [];
  const from = route.p50_ms / 4;
  const peak = Math.log(route.p50_ms);
  for (let le = from; le < route.p99_ms * 1.6; le *= 2 ** 0.25) {
    const at95 = Math.exp(-((Math.log(le) - peak) ** 2) / 0.35) + 0.12 * Math.exp(-((Math.log(le) - Math.log(route.p95_ms * 0.9)) ** 2) / 0.1);
    histogram.push({ le_ms: Number(le.toPrecision(3)), count: Math.round(route.count * 0.2 * at95) });
  }
  const step = Math.max(1, Math.ceil(histogram.length / 40));
  return {
    key, method: route.method, template: route.template, rule: route.method === 'GET' && route.cache.hit_percent !== null ? `path: ${route.template}\ncache:\n  ttl: 30m\n  stale: 10m\n  public: true${spoiled}\nslow_after: 2s\n` : null,
    histogram: histogram.filter((_, i) => i % step === 0), statuses: [{ status: 200, count: route.count - route.errors_5xx - 3 }, { status: 404, count: 3 }, { status: 502, count: route.errors_5xx }].filter(one => one.count > 0),
    reasons: route.cache.misses ? [{ reason: 'uri-miss', count: Math.ceil(route.cache.misses * 0.7) }, { reason: `stale${spoiled}`, count: Math.floor(route.cache.misses * 0.3) }] : route.cache.why ? [{ reason: route.cache.why, count: route.count }] : [],
    recent: Array.from({ length: 12 }, (_, i) => ({ ...line(name, at - i * 4100, Math.floor(at / 5000) - i), method: route.method, template: route.template, path: route.template + spoiled, ms: route.p50_ms * (0.5 + 2 * noise(i)) })),
    bytes_in: 120_400, bytes_out: 48_211_042,
  };
}
