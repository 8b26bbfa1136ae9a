// Show me one: the slowest requests, where their time went, and the trace id to look further.
import { useState } from 'preact/hooks';
import { count, fullTime, latency, limit, timeOfDay } from './format.js';
import { Empty, Legend, Method, Panel, Split, Template, TraceId } from './parts.jsx';

const FIRST = 6;
/// In the order in which a request passes them. Each has a tone and a word.
const PARTS = [
  ['queue', 'queue', 'waiting for a place'], ['cache', 'cache', 'memory tier'], ['redis', 'Redis', 'Redis'],
  ['collapsed', 'collapsed', 'waiting for another request of the same key'], ['connect', 'connect', 'connecting'],
  ['backend', 'backend', 'backend, to its first byte'], ['claude', 'Claude', 'Claude'], ['database', 'database', 'database'],
  ['body', 'body', 'body'], ['own', 'own', 'the proxy itself'],
];

export function Breakdown({ parts, scale }) {
  const known = PARTS.map(([name, word, title]) => ({ name, word, title, us: parts?.[`${name}_us`] ?? 0 })).filter(part => part.us > 0);
  const total = known.reduce((sum, part) => sum + part.us, 0);
  if (total === 0) return null;
  const words = known.map(part => `${part.word} ${latency(part.us / 1000)}`).join(', ');
  return (
    <span class="breakdown" style={{ width: `${Math.max(4, (100 * total) / scale)}%` }}>
      <Split label={words} parts={known.map(part => ({ key: part.name, share: part.us / total, tone: part.name, title: `${part.title}: ${latency(part.us / 1000)}` }))} />
    </span>
  );
}

function Row({ item, scale }) {
  return (
    <tr role="row">
      <td role="cell" class="time"><code title={fullTime(item.at)}>{timeOfDay(item.at)}</code></td>
      <td role="cell" class="what">
        <div class="request" title={item.path ?? item.template}>
          <Method name={item.method} />{item.path ? <code class="template">{item.path}</code> : <Template text={item.template} />}
          {item.status >= 500 && <small class="tag fault">{item.status}</small>}
          {item.basis === 'first_byte' && <small class="tag">first byte</small>}
        </div>
        <p>{item.sentence}{item.pod && <> · <code title="the pod that served it">{item.pod}</code></>}</p>
      </td>
      <td role="cell" class="n p95 total">{latency(item.total_ms)}<small>limit {limit(item.limit_ms)}</small></td>
      <td role="cell" class="where"><Breakdown parts={item.parts} scale={scale} /></td>
      <td role="cell" class="id"><TraceId id={item.trace_id} /></td>
    </tr>
  );
}

export function Slow({ snapshot }) {
  const { items, total } = snapshot.slow;
  const [isAll, setIsAll] = useState(false);
  const shown = isAll ? items : items.slice(0, FIRST);
  const scale = Math.max(1, ...shown.map(item => item.total_ms * 1000));
  const seen = PARTS.filter(([name]) => shown.some(item => item.parts?.[`${name}_us`] > 0.005 * item.total_ms * 1000));
  return (
    <Panel id="slow" title="Slow requests" note={total > 0 ? `${count(total)} in all, none sampled away` : null} aside={seen.length > 0 && <Legend items={seen.map(([name, word]) => [name, word])} />}>
      {items.length === 0 && <Empty>Nothing was slower than its route's limit since start. The next one that is appears here with where its time went.</Empty>}
      {items.length > 0 && (
        <table role="table" class="slow" aria-labelledby="slow-title">
          <thead role="rowgroup">
            <tr role="row">
              <th role="columnheader" scope="col">Time</th><th role="columnheader" scope="col">Request, and where the time went</th>
              <th role="columnheader" scope="col" class="n">Total</th><th role="columnheader" scope="col">Breakdown</th><th role="columnheader" scope="col">Trace</th>
            </tr>
          </thead>
          <tbody role="rowgroup">{shown.map((item, i) => <Row key={item.trace_id ?? `${item.at}${i}`} item={item} scale={scale} />)}</tbody>
        </table>
      )}
      {items.length > FIRST && <button type="button" class="more" onClick={() => setIsAll(!isAll)}>{isAll ? 'Show fewer' : `Show ${items.length - FIRST} more`}</button>}
    </Panel>
  );
}
