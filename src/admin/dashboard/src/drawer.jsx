// One route: how its latencies are spread, which rule is in force, what it answered, its last requests.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { bytes, clean, count, fullTime, latency, limit, percent, rate, timeOfDay, windowWords, parse } from './format.js';
import { Bars, Empty, Facts, Method, Template, TraceId, WideSpark, useWidth } from './parts.jsx';
import { CacheCell } from './routes.jsx';
import { openRoute, store } from './store.js';
import { refusal } from './stream.js';

const REFRESH_MS = 5_000;
const HEIGHT = 132;
const BOTTOM = 20;

/// The details of a route, asked for again while the drawer is open.
function useDetails(key, window) {
  const [state, setState] = useState({ details: null, problem: null });
  useEffect(() => {
    const abort = new AbortController();
    let timer = null;
    const ask = async () => {
      try {
        const response = await fetch(`api/v1/route?${new URLSearchParams({ key, window })}`, { signal: abort.signal, cache: 'no-store' });
        if (response.ok) setState({ details: parse(await response.text()), problem: null });
        else setState({ details: null, problem: response.status === 404 ? 'This route has no requests in memory any more.' : await refusal(response) });
      } catch {
        if (abort.signal.aborted) return;
        setState(before => ({ ...before, problem: 'The admin listener does not answer.' }));
      }
      timer = setTimeout(ask, REFRESH_MS);
    };
    ask();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, window]);
  return state;
}

/// Where a latency lies among buckets of equal width: whole numbers are their upper bounds.
export function positionAmong(buckets, value) {
  const at = buckets.findIndex(bucket => value <= bucket.le_ms);
  if (at < 0) return null;
  const below = at > 0 ? buckets[at - 1].le_ms : buckets[0].le_ms / 2;
  if (value <= below) return at;
  return at + (Math.log(value) - Math.log(below)) / (Math.log(buckets[at].le_ms) - Math.log(below));
}

/// Sets the words of marks so that none covers another: each goes to the first line that is free.
function lines(marks) {
  const ends = [];
  return marks.filter(mark => mark.x !== null).sort((a, b) => a.x - b.x).map(mark => {
    let line = ends.findIndex(end => mark.x > end);
    if (line < 0) line = ends.length;
    ends[line] = mark.x + mark.word.length * 7 + 12;
    return { ...mark, line };
  });
}

function Histogram({ buckets, route }) {
  const [ref, width] = useWidth();
  const max = Math.max(1, ...buckets.map(bucket => bucket.count));
  const step = width / buckets.length;
  const place = value => {
    const at = value === null || value === undefined ? null : positionAmong(buckets, value);
    return at === null ? null : at * step;
  };
  const marks = lines([
    { word: 'P50', tone: 'calm', x: route && route.count >= 5 ? place(route.p50_ms) : null },
    { word: 'P95', tone: 'calm', x: route && route.count >= 5 ? place(route.p95_ms) : null },
    { word: `limit ${limit(route?.limit_ms)}`, tone: 'bad', x: place(route?.limit_ms) },
  ]);
  const head = 8 + 15 * Math.max(1, ...marks.map(mark => mark.line + 1));
  const base = HEIGHT - BOTTOM;
  const every = Math.max(1, Math.ceil(64 / Math.max(1, step)));
  return (
    <div ref={ref} class="histogram">
      {width > 0 && (
        <svg width={width} height={HEIGHT} role="img" aria-label={`Histogram: ${buckets.map(b => `up to ${latency(b.le_ms)} ${b.count}`).join(', ')}`}>
          {buckets.map((bucket, i) => {
            const height = bucket.count > 0 ? Math.max(1.5, (bucket.count / max) * (base - head)) : 0;
            const isOver = route && bucket.le_ms > route.limit_ms;
            return (
              <g key={bucket.le_ms}>
                <rect class={isOver ? 'fill-error' : 'fill-latency'} x={i * step + 0.5} width={Math.max(1, step - 1.5)} y={base - height} height={height}>
                  <title>up to {latency(bucket.le_ms)}: {count(bucket.count)}</title>
                </rect>
                {i % every === every - 1 && <text class="tick" x={(i + 1) * step} y={HEIGHT - 4}>{latency(bucket.le_ms)}</text>}
              </g>
            );
          })}
          <line class="base" x1="0" x2={width} y1={base + 0.5} y2={base + 0.5} />
          {marks.map(mark => {
            const isLeft = mark.x + mark.word.length * 7 > width;
            return (
              <g key={mark.word} class={`pin ${mark.tone}`}>
                <line x1={mark.x} x2={mark.x} y1={4 + mark.line * 15} y2={base} />
                <text x={mark.x + (isLeft ? -4 : 4)} y={13 + mark.line * 15} class={isLeft ? 'right' : ''}>{mark.word}</text>
              </g>
            );
          })}
        </svg>
      )}
    </div>
  );
}

const STATUS_TONE = { 1: 'quiet', 2: 'hit', 3: 'latency', 4: 'miss', 5: 'error' };

function Recent({ lines: recent }) {
  return (
    <table class="recent">
      <thead><tr><th scope="col">Time</th><th scope="col" class="n">Status</th><th scope="col" class="n">Took</th><th scope="col">Outcome</th><th scope="col" class="wide-only">Path</th><th scope="col">Trace</th></tr></thead>
      <tbody>
        {recent.map((line, i) => (
          <tr key={line.trace_id ?? i}>
            <td title={fullTime(line.at)}><code>{timeOfDay(line.at)}</code></td>
            <td class={`n ${line.status >= 500 ? 'fault' : ''}`}>{line.status}</td>
            <td class="n">{latency(line.ms)}</td>
            <td>{line.outcome === 'done' ? line.cache ?? '–' : <span class="fault">{line.outcome}</span>}<small> {line.reason ?? line.source ?? ''}</small></td>
            <td class="wide-only path"><code title={line.path ?? line.template}>{line.path ?? line.template}</code></td>
            <td><TraceId id={line.trace_id} /></td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Details({ details, route }) {
  const all = details.statuses.reduce((sum, one) => sum + one.count, 0);
  return (
    <>
      <h3>How long it took{route?.basis === 'first_byte' ? ', to the first byte' : ''}</h3>
      {details.histogram.length ? <Histogram buckets={details.histogram} route={route} /> : <Empty>Waiting for a request in this window.</Empty>}
      {route && (
        <>
          <h3>P95 by minute, last 15</h3>
          <WideSpark values={route.p95_minutes} limit={route.limit_ms} tone={route.over_limit ? 'error' : 'latency'} height={44} label={`P95 by minute, limit ${limit(route.limit_ms)}`} />
        </>
      )}
      <div class="two">
        <div>
          <h3>Answers</h3>
          {all > 0 ? (
            <Bars label="Answers by status" rows={details.statuses.map(one => ({ key: one.status, name: String(one.status), count: one.count, text: count(one.count), tone: STATUS_TONE[Math.floor(one.status / 100)] ?? 'quiet' }))} />
          ) : <Empty>None in this window.</Empty>}
        </div>
        <div>
          <h3>Why not from the cache</h3>
          {details.reasons.length > 0 ? (
            <Bars label="Reasons" rows={details.reasons.map(one => ({ key: one.reason, name: one.reason.replaceAll('_', ' '), title: one.reason, count: one.count, text: count(one.count), tone: 'miss' }))} />
          ) : <Empty>No reason recorded.</Empty>}
        </div>
      </div>
      <h3>Rule in force</h3>
      {details.rule === null ? <Empty>No rule names this route; the defaults apply.</Empty> : <pre tabIndex={0} aria-label="Rule in force">{details.rule.trimEnd()}</pre>}
      <h3>Last requests</h3>
      {details.recent.length > 0 ? <Recent lines={details.recent} /> : <Empty>Waiting for the next request.</Empty>}
    </>
  );
}

export function Drawer({ snapshot }) {
  const key = store.route;
  const { details, problem } = useDetails(key, store.window);
  const ref = useRef(null);
  const route = snapshot.routes.find(one => one.key === key) ?? null;
  const head = route ?? details ?? { method: null, template: clean(key) };
  useLayoutEffect(() => {
    const opener = document.activeElement;
    ref.current.showModal();
    return () => opener?.focus?.({ preventScroll: true });
  }, []);
  const close = () => openRoute(null);
  return (
    <dialog ref={ref} class="drawer" aria-labelledby="drawer-title" onClose={close} onClick={event => event.target === ref.current && close()}>
      <div class="drawer-inner">
        <div class="drawer-head">
          <h2 id="drawer-title"><Method name={head.method} /><Template text={head.template} /></h2>
          <button type="button" class="close" onClick={close} aria-label="Close">×</button>
        </div>
        <p class="note">{windowWords(snapshot.meta)}{snapshot.meta.scope === 'merged' ? '; the histogram and the last requests are of this pod' : ''}</p>
        {route && (
          <Facts rows={[
            ['requests', `${count(route.count)} · ${rate(route.per_s)} /s`],
            ['answered 5xx', `${count(route.errors_5xx)} · ${percent(route.error_percent)}`, route.error_percent >= 1 ? 'fault' : ''],
            ['P50', latency(route.count < 5 ? null : route.p50_ms)],
            ['P95', latency(route.count < 5 ? null : route.p95_ms), route.over_limit ? 'fault' : ''],
            ['P99', latency(route.few ? null : route.p99_ms)],
            ['longest', latency(route.max_ms)],
            ['limit of P95', limit(route.limit_ms)],
            ['cache', <CacheCell cache={route.cache} />],
            details && ['in / out', `${bytes(details.bytes_in)} / ${bytes(details.bytes_out)}`],
          ]} />
        )}
        {problem && <p class="notice bad" role="status">{problem}</p>}
        {!details && !problem && <Empty>Asking for this route…</Empty>}
        {details && <Details details={details} route={route} />}
      </div>
    </dialog>
  );
}
