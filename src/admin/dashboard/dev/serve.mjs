// Serves the page with made-up instances, to work on it without one that runs:
//   npm run dev [-- PORT]     then open http://127.0.0.1:PORT/?scenario=degraded
// Every load of the page bundles the sources again. The answers carry the headers of the admin listener, its policy among them.
// Beside the scenarios of scenarios.mjs there are `locked` (401), `full` (503 for the stream), `lost` (the stream ends after 3 s and stays away)
// and `quiet` (it says nothing after the first message). `POST /dev/lose` cuts every stream and refuses new ones for 6 s.
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { bundle } from '../build.mjs';
import { details, line, snapshotOf } from './scenarios.mjs';

const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const PAGE = `<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width, initial-scale=1">
<title>70 · degraded · coach-api</title><link rel=icon href="data:,"><link rel=stylesheet href="dashboard.css"><script src="dashboard.js" defer></script></head><body>
<header><b>coach-api</b><code>coach-api-7d9f8-x2k4q</code><small>up 6 h 12 m · config 3f9c1ab · 14:05:53 UTC</small><nav aria-label="Window"><a href="?window=1m">1m</a><a href="?window=5m" aria-current=true>5m</a><a href="?window=1h">1h</a></nav></header>
<main id=app><section class="verdict degraded"><svg class=ring viewBox="0 0 120 120" role=img aria-label="score 70 of 100"><circle cx=60 cy=60 r=50 /><circle class=score cx=60 cy=60 r=50 stroke-dasharray="219.9 314.16" transform="rotate(-90 60 60)"/><text x=60 y=69>70</text><text class=of x=60 y=87>of 100</text></svg><div><h1>Degraded: users may notice.</h1><ul><li><b>−20</b>Redis connection issues <small>since 14:02:41</small></li><li class=ok><b>ok</b>Ready for traffic</li></ul></div><dl class=tiles><div><dt>requests</dt><dd>86.3 <small>/s</small></dd></div><div><dt>5xx</dt><dd>0.06%</dd></div><div><dt>P95, streams excluded</dt><dd>203 ms</dd></div><div><dt>without the backend</dt><dd>72.7%</dd></div></dl></section>
<section><h2>Routes <small>last 5m, by rate; a row over its limit is marked</small></h2><div class=scroll><table><thead><tr><th>Route<th class=n>Rate /s<th class=n>P95<th>Cache</tr></thead><tbody><tr><td class=route><span class=method>GET</span><code>/api/user/<em>{user_id}</em></code><td class=n data-name="per s">42.60<td class="n p95" data-name=P95>3.1 ms<td><svg class=bar viewBox="0 0 100 8" preserveAspectRatio=none aria-hidden=true><rect width=100 height=8 /><rect class=hits width=97.8 height=8 /></svg>97.8%</tr><tr class=over><td class=route><span class=method>GET</span><code>/api/matches</code> <small>over its limit</small><td class=n data-name="per s">1.90<td class="n p95" data-name=P95>2.31 s<td><span class=why>not cached</span></tr></tbody></table></div></section></main></body></html>`;

let lostUntil = 0;
const streams = new Set();

function send(response, status, type, body, more = {}) {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'content-security-policy': POLICY, ...more });
  response.end(body);
}
const json = (response, status, value) => send(response, status, 'application/json', JSON.stringify(value));

function openStream(response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  streams.add(response);
  response.on('close', () => streams.delete(response));
}

function events(response, scenario, options) {
  openStream(response);
  const message = (event, value) => response.write(`event: ${event}\nid: ${value.seq}\ndata: ${JSON.stringify(value)}\n\n`);
  let before = snapshotOf(scenario, Date.now(), options);
  message('snapshot', before);
  if (scenario === 'lost') setTimeout(() => { lostUntil = Infinity; response.destroy(); }, 1500);
  if (scenario === 'quiet') return;
  const timer = setInterval(() => {
    const now = snapshotOf(scenario, Date.now(), options);
    const changed = Object.entries(now).filter(([name, value]) => name === 'seq' || name === 'at' || JSON.stringify(value) !== JSON.stringify(before[name]));
    before = now;
    message('change', Object.fromEntries(changed));
  }, 1000);
  response.on('close', () => clearInterval(timer));
}

function fits(one, filters) {
  const path = (filters.get('path') ?? '').replace(/\*$/, '');
  const status = filters.get('status');
  const slower = /^(\d+)(ms|s)$/.exec(filters.get('slower_than') ?? '');
  return (!path || one.path.startsWith(path) || one.template.startsWith(path))
    && (!status || (status.endsWith('xx') ? String(one.status)[0] === status[0] : String(one.status) === status))
    && (!filters.get('outcome') || filters.get('outcome') === one.outcome) && (!filters.get('cache') || filters.get('cache') === one.cache)
    && (!slower || one.ms >= Number(slower[1]) * (slower[2] === 's' ? 1000 : 1));
}

function tail(response, scenario, filters) {
  openStream(response);
  response.write(': hello\n\n');
  if (scenario === 'empty') return;
  let serial = Math.floor(Date.now() / 100);
  const timer = setInterval(() => {
    for (let i = 0; i < 3; i += 1) {
      const one = line(scenario, Date.now() - 20 * (2 - i), (serial += 1));
      if (fits(one, filters)) response.write(`event: line\ndata: ${JSON.stringify(one)}\n\n`);
    }
    if (serial % 40 === 0) response.write('event: dropped\ndata: {"count": 120}\n\n');
  }, 150);
  response.on('close', () => clearInterval(timer));
}

async function answer(request, response) {
  const url = new URL(request.url, 'http://localhost');
  const referer = new URL(request.headers.referer ?? request.url, 'http://localhost');
  const scenario = url.searchParams.get('scenario') ?? referer.searchParams.get('scenario') ?? 'degraded';
  const options = { window: url.searchParams.get('window') ?? '5m', scope: url.searchParams.get('scope') ?? 'pod' };
  if (url.pathname === '/') {
    lostUntil = 0;
    return send(response, 200, 'text/html; charset=utf-8', PAGE);
  }
  if (url.pathname === '/dashboard.js') return send(response, 200, 'text/javascript; charset=utf-8', (await bundle())['dashboard.js']);
  if (url.pathname === '/dashboard.css') return send(response, 200, 'text/css; charset=utf-8', (await bundle())['dashboard.css']);
  if (url.pathname === '/dev/lose') {
    lostUntil = Date.now() + 6000;
    for (const stream of streams) stream.destroy();
    return json(response, 200, {});
  }
  if (!url.pathname.startsWith('/api/v1/')) return json(response, 404, { detail: 'Not Found' });
  if (scenario === 'locked') return json(response, 401, { detail: 'Not authenticated' });
  if (scenario === 'full' && url.pathname === '/api/v1/events') return json(response, 503, { detail: '32 viewers are connected already' });
  if (Date.now() < lostUntil) return response.destroy();
  switch (url.pathname) {
    case '/api/v1/events': return events(response, scenario, options);
    case '/api/v1/tail': return tail(response, scenario, url.searchParams);
    case '/api/v1/snapshot': return json(response, 200, snapshotOf(scenario, Date.now(), options));
    case '/api/v1/route': {
      const found = details(scenario, url.searchParams.get('key'), Date.now(), options);
      return found ? json(response, 200, found) : json(response, 404, { detail: 'Not Found' });
    }
    default: return json(response, 404, { detail: 'Not Found' });
  }
}

/// Listens on loopback and returns the server.
export function serve(port) {
  const server = createServer((request, response) => answer(request, response).catch(error => send(response, 500, 'text/plain', String(error))));
  return new Promise(resolve => server.listen(port, '127.0.0.1', () => resolve(server)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await serve(Number(process.argv[2] ?? 0));
  console.log(`http://127.0.0.1:${server.address().port}/?scenario=degraded`);
}
