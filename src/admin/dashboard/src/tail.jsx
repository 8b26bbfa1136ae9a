// Is it still happening? One line per request as it ends, filtered by the server.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { count, fullTime, latency, timeOfDay } from './format.js';
import { Method, Panel, TraceId } from './parts.jsx';
import { Stream } from './stream.js';

/// How many lines stay; older ones go.
const KEPT = 200;
/// Lines are drawn this often, however fast they come.
const DRAW_MS = 250;
const EMPTY = { path: '', status: '', outcome: '', cache: '', slower_than: '' };
const CHOICES = [
  ['status', 'Status', ['2xx', '3xx', '4xx', '5xx', '404', '429', '500', '502', '503', '504']],
  ['outcome', 'Outcome', ['done', 'client_abort', 'upstream_abort', 'error', 'panic']],
  ['cache', 'Cache', ['hit', 'miss', 'stale', 'revalidated', 'bypass']],
  ['slower_than', 'Slower than', ['50ms', '100ms', '250ms', '500ms', '1s', '2s', '5s']],
];
const CACHE_TONE = { hit: 'hit', stale: 'hit', revalidated: 'hit', miss: 'miss', bypass: 'quiet' };

function query(filters) {
  const filled = Object.entries(filters).filter(([, value]) => value !== '');
  return filled.length ? `?${new URLSearchParams(filled)}` : '';
}

/// The same question for a terminal.
export function command(filters) {
  const words = ['touchline tap'];
  for (const [name, value] of Object.entries(filters)) {
    if (value !== '') words.push(`--${name.replace('_', '-')} ${/^[\w./-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`}`);
  }
  return words.join(' ');
}

/// Reads the tail. While paused, lines are counted and not shown; in a hidden tab nothing is read at all.
function useTail(filters, isPaused) {
  const [view, setView] = useState({ lines: [], dropped: 0, held: 0, state: { phase: 'connecting', why: null } });
  const paused = useRef(isPaused);
  const [isHidden, setIsHidden] = useState(document.hidden);
  const address = `api/v1/tail${query(filters)}`;
  paused.current = isPaused;
  useEffect(() => {
    const change = () => setIsHidden(document.hidden);
    document.addEventListener('visibilitychange', change);
    return () => document.removeEventListener('visibilitychange', change);
  }, []);
  useEffect(() => {
    if (!isPaused) setView(before => ({ ...before, held: 0 }));
  }, [isPaused]);
  useEffect(() => {
    if (isHidden) return undefined;
    let [fresh, dropped, serial] = [[], 0, 0];
    setView({ lines: [], dropped: 0, held: 0, state: { phase: 'connecting', why: null } });
    const stream = new Stream({
      url: () => address,
      onMessage(event, data) {
        if (event === 'dropped') dropped += data.count;
        else if (event === 'line') {
          serial += 1;
          fresh.push({ ...data, serial });
          if (fresh.length > KEPT) fresh.shift();
        }
      },
      onState: state => setView(before => ({ ...before, state })),
    });
    let shown = 0;
    const timer = setInterval(() => {
      if (fresh.length === 0 && dropped === 0) return;
      const [lines, lost, upTo] = [fresh, dropped, serial];
      if (paused.current) {
        setView(before => ({ ...before, held: upTo - shown }));
        return;
      }
      [fresh, dropped, shown] = [[], 0, upTo];
      setView(before => ({ ...before, lines: [...lines.reverse(), ...before.lines].slice(0, KEPT), dropped: before.dropped + lost, held: 0 }));
    }, DRAW_MS);
    return () => {
      stream.close();
      clearInterval(timer);
    };
  }, [address, isHidden]);
  return view;
}

function Line({ line }) {
  const isClaude = line.plane === 'claude';
  const isFault = line.status >= 500 || line.outcome !== 'done';
  const outcome = line.outcome !== 'done' ? line.outcome.replace('_', ' ') : isClaude ? 'Claude' : line.cache ?? '–';
  const detail = isClaude ? [line.tier, line.routing_reason?.replaceAll('_', ' ')] : [line.source, line.fwd, line.reason];
  const backend = line.parts?.backend_us;
  const after = isClaude ? line.model : backend > 0 ? `backend ${latency(backend / 1000)}` : line.kind === 'stream' ? 'stream' : '';
  return (
    <li class={isFault ? 'bad' : ''}>
      <time title={fullTime(line.at)}>{timeOfDay(line.at, 'millis')}</time>
      <span class={isFault ? 'fault' : ''}>{line.status}</span>
      <span class="n">{latency(line.ms)}</span>
      <b class={isFault ? 'fault' : isClaude ? 'tone-claude' : `tone-${CACHE_TONE[line.cache] ?? 'quiet'}`}>{outcome}</b>
      <span class="mute detail" title={detail.filter(Boolean).join(' · ')}>{[...new Set(detail.filter(Boolean))].join(' · ')}</span>
      <span class="request" title={line.path ?? line.template}><Method name={line.method} />{line.path ?? line.template}</span>
      <span class="mute after" title={after}>{after}</span>
      <TraceId id={line.trace_id} />
    </li>
  );
}

export function Tail({ isPaused, onPause, scope }) {
  const [filters, setFilters] = useState(EMPTY);
  const [path, setPath] = useState('');
  const { lines, dropped, held, state } = useTail(filters, isPaused);
  useEffect(() => {
    const timer = setTimeout(() => setFilters(before => (before.path === path.trim() ? before : { ...before, path: path.trim() })), 350);
    return () => clearTimeout(timer);
  }, [path]);
  const rows = useMemo(() => lines.map(line => <Line key={line.serial} line={line} />), [lines]);
  const isFiltered = Object.values(filters).some(value => value !== '');
  const reset = () => {
    setPath('');
    setFilters(EMPTY);
  };
  let waiting = isFiltered ? 'Waiting for a request that fits the filter.' : 'Waiting for the next request.';
  if (state.phase === 'lost') waiting = `${state.why} Trying again.`;
  if (isPaused) waiting = 'Paused.';
  return (
    <Panel
      id="tail" title="Live tail" note={scope === 'merged' ? 'of this pod; at most 50 lines a second' : 'at most 50 lines a second'}
      aside={<span class="wide-only">also: <code>{command({ ...filters, cache: '' })}</code></span>}
    >
      <form class="filters" onSubmit={event => event.preventDefault()}>
        <label><span>Path</span><input type="text" placeholder="/api/*" autocomplete="off" spellcheck={false} value={path} onInput={event => setPath(event.currentTarget.value)} /></label>
        {CHOICES.map(([name, word, options]) => (
          <label key={name}><span>{word}</span>
            <select value={filters[name]} onChange={event => { const { value } = event.currentTarget; setFilters(before => ({ ...before, [name]: value })); }}>
              <option value="">any</option>
              {options.map(option => <option key={option} value={option}>{option.replace('_', ' ')}</option>)}
            </select>
          </label>
        ))}
        <button type="button" aria-pressed={isPaused} onClick={onPause}>{isPaused ? 'Resume' : 'Pause'}</button>
        {isFiltered && <button type="button" class="plain" onClick={reset}>Clear filter</button>}
        <span class="mute counts">
          {isPaused && held > 0 && `${count(held)} new while paused. `}
          {dropped > 0 && <span class="warned">{count(dropped)} lines dropped: more came than 50 a second</span>}
        </span>
      </form>
      <ol class="tail" tabIndex={0} aria-label="Requests, newest first">{rows}</ol>
      {(lines.length === 0 || state.phase === 'lost') && <p class="empty">{waiting}</p>}
    </Panel>
  );
}
