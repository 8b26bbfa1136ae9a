// Where? One row per route, busiest first; what matches no route comes last.
import { useMemo, useState } from 'preact/hooks';
import { DASH, count, latency, limit, percent, rate, windowWords } from './format.js';
import { Empty, Meter, Method, Panel, Spark, Template } from './parts.jsx';
import { matches, sorted, valueOf } from './order.js';
import { openRoute } from './store.js';

/// How many rows show at once. A route over its limit or with errors always does.
const FIRST = 15;
const COLUMNS = [
  ['route', 'Route', ''],
  ['per_s', 'Rate /s', 'n'],
  ['error_percent', '5xx', 'n'],
  ['p50_ms', 'P50', 'n'],
  ['p95_ms', 'P95', 'n'],
  ['p99_ms', 'P99', 'n'],
  [null, 'P95, 15 min', ''],
  ['hit', 'Cache', ''],
];
const WHY = { 'not listed': 'no cache rule covers this route', auth: 'the request carries credentials', write: 'the method changes something', stream: 'a stream is never stored', 'no-store': 'the answer says no-store' };

function Heading({ column, word, align, sort, onSort }) {
  if (column === null) return <th role="columnheader" scope="col" class="wide-only">{word}</th>;
  const isSorted = sort.column === column;
  return (
    <th role="columnheader" scope="col" class={align} aria-sort={isSorted ? (sort.isDown ? 'descending' : 'ascending') : undefined}>
      <button type="button" onClick={() => onSort(column)}>
        {word}<span class="arrow" aria-hidden="true">{isSorted ? (sort.isDown ? '↓' : '↑') : ''}</span>
      </button>
    </th>
  );
}

export function CacheCell({ cache }) {
  if (cache?.hit_percent !== null && cache?.hit_percent !== undefined) {
    return (
      <span class="hit-cell" title={`${count(cache.hits)} hits, ${count(cache.misses)} misses, ${count(cache.bypass)} bypassed`}>
        <Meter share={cache.hit_percent / 100} tone="hit" />
        <b>{percent(cache.hit_percent, 1)}</b>
      </span>
    );
  }
  if (!cache?.why) return <span class="mute">{DASH}</span>;
  return <span class="why" title={WHY[cache.why]}>{cache.why}</span>;
}

function Percentile({ route, column }) {
  const value = valueOf(route, column);
  if (column === 'p95_ms' && route.count < 5 && value !== null) return <><small>max </small>{latency(value)}</>;
  return latency(value);
}

function Row({ route, busiest }) {
  const tone = route.over_limit ? 'over' : route.method === null ? 'rest' : '';
  const hasFault = route.errors_5xx > 0;
  return (
    <tr role="row" class={tone} onClick={() => openRoute(route.key)}>
      <th role="rowheader" scope="row" class="route"><div>
        <button type="button" class="open" data-route title={`${route.method ?? ''} ${route.template}`.trim()} onClick={event => { event.stopPropagation(); openRoute(route.key); }}>
          <Method name={route.method} />
          {route.method === null ? <code class="template">{route.template} <span class="mute">(any other path)</span></code> : <Template text={route.template} />}
        </button>
        {route.basis === 'first_byte' && <small class="tag" title="a stream is judged by its first byte">first byte</small>}
        {route.kind === 'upgrade' && <small class="tag">upgrade</small>}
        {route.few && <small class="tag" title="too few for a steady percentile">{count(route.count)} {route.count === 1 ? 'request' : 'requests'}</small>}
        {route.over_limit && <small class="tag fault">over its limit of {limit(route.limit_ms)}</small>}
      </div></th>
      <td role="cell" class="n rate"><span class="label">per s </span>{rate(route.per_s)}<Meter share={busiest > 0 ? route.per_s / busiest : 0} /></td>
      <td role="cell" class={`n ${route.error_percent >= 1 ? 'fault' : route.error_percent >= 0.1 ? 'warned' : hasFault ? '' : 'quiet'}`} title={`${count(route.errors_5xx)} answers`}><span class="label">5xx </span>{percent(route.error_percent)}</td>
      <td role="cell" class="n"><span class="label">P50 </span><Percentile route={route} column="p50_ms" /></td>
      <td role="cell" class="n p95"><span class="label">P95 </span><Percentile route={route} column="p95_ms" /></td>
      <td role="cell" class="n"><span class="label">P99 </span><Percentile route={route} column="p99_ms" /></td>
      <td role="cell" class="wide-only">
        <Spark values={route.p95_minutes} limit={route.limit_ms} tone={route.over_limit ? 'error' : 'latency'} label={`P95 of 15 minutes, limit ${limit(route.limit_ms)}`} />
      </td>
      <td role="cell" class="cache"><CacheCell cache={route.cache} /></td>
    </tr>
  );
}

export function Routes({ snapshot }) {
  const { routes, meta } = snapshot;
  const [sort, setSort] = useState({ column: 'per_s', isDown: true });
  const [words, setWords] = useState('');
  const [isAll, setIsAll] = useState(false);
  const found = useMemo(() => sorted(routes.filter(route => matches(route, words)), sort), [routes, words, sort]);
  const busiest = useMemo(() => Math.max(0, ...routes.map(route => route.per_s ?? 0)), [routes]);
  const shown = isAll || found.length <= FIRST + 3 ? found : found.filter((route, i) => i < FIRST || route.over_limit || route.errors_5xx > 0 || route.method === null);
  const onSort = column => setSort(before => ({ column, isDown: before.column === column ? !before.isDown : column !== 'route' }));
  const rows = useMemo(() => shown.map(route => <Row key={route.key} route={route} busiest={busiest} />), [shown, busiest]);
  const filter = (
    <div class="tools">
      <label class="narrow-only"><span class="sr">Sort by</span>
        <select value={sort.column} onChange={event => setSort({ column: event.currentTarget.value, isDown: event.currentTarget.value !== 'route' })}>
          {COLUMNS.filter(([column]) => column).map(([column, word]) => <option key={column} value={column}>by {word}</option>)}
        </select>
      </label>
      <label><span class="sr">Filter routes</span>
        <input
          type="search" id="route-filter" placeholder="Filter routes" autocomplete="off" spellcheck={false} value={words} onInput={event => setWords(event.currentTarget.value)}
          onKeyDown={event => { if (event.key === 'Escape') { setWords(''); event.currentTarget.blur(); event.stopPropagation(); } }}
        />
        <kbd aria-hidden="true">/</kbd>
      </label>
    </div>
  );
  const note = `${windowWords(meta)}, by ${COLUMNS.find(([column]) => column === sort.column)[1].toLowerCase().replace(' /s', '')}${words ? `; ${found.length} of ${routes.length}` : ''}`;
  return (
    <Panel id="routes" title="Routes" note={note} aside={routes.length > 0 && filter}>
      {routes.length === 0 && <Empty>Waiting for the first request in this window. Each route of the table appears with its first request.</Empty>}
      {routes.length > 0 && found.length === 0 && <Empty>No route holds “{words}”.</Empty>}
      {found.length > 0 && (
        <table role="table" class="routes" aria-labelledby="routes-title">
          <thead role="rowgroup">
            <tr role="row">{COLUMNS.map(([column, word, align]) => <Heading key={word} column={column} word={word} align={align} sort={sort} onSort={onSort} />)}</tr>
          </thead>
          <tbody role="rowgroup">{rows}</tbody>
        </table>
      )}
      {shown.length < found.length && (
        <button type="button" class="more" onClick={() => setIsAll(true)}>Show {found.length - shown.length} more, all within their limits and without 5xx</button>
      )}
      {isAll && found.length > FIRST + 3 && <button type="button" class="more" onClick={() => setIsAll(false)}>Show fewer</button>}
    </Panel>
  );
}
