// Small pieces that several panels share: names, bars, lines. Everything that came from outside is text here.
import { Component } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { DASH, duration, fullTime, secondsBetween, templateParts, timeOfDay } from './format.js';

const METHOD_CLASS = { GET: 'get', HEAD: 'get', POST: 'post', PUT: 'put', PATCH: 'put', DELETE: 'delete' };

export function Method({ name }) {
  return <span class={`method ${METHOD_CLASS[name] ?? ''}`}>{name ?? DASH}</span>;
}

/// A route's template with its parameters coloured.
export function Template({ text }) {
  return (
    <code class="template">
      {templateParts(text).map(part => (part.isParameter ? <em>{part.text}</em> : part.text))}
    </code>
  );
}

/// A value and, smaller, its unit.
export function Figure({ parts: [value, unit] }) {
  return (
    <>
      {value}
      {unit && <small> {unit}</small>}
    </>
  );
}

/// Keeps a fault in one panel from taking the others along; the next snapshot tries again.
export class Guard extends Component {
  static getDerivedStateFromError(error) {
    return { error };
  }

  componentDidUpdate(before) {
    if (this.state.error && before.snapshot !== this.props.snapshot) this.setState({ error: null });
  }

  render({ children, name }, { error }) {
    if (!error) return children;
    return <section aria-label={name}><p class="notice bad">The panel “{name}” cannot draw what came: {error.message}</p></section>;
  }
}

/// How long ago something began, with the moment as tooltip.
export function Since({ at, now }) {
  if (!at) return null;
  return (
    <span title={fullTime(at)}>
      since {timeOfDay(at)} · {duration(secondsBetween(at, now))}
    </span>
  );
}

export function Panel({ id, title, note, aside, class: name = '', children }) {
  return (
    <section id={id} class={name} aria-labelledby={`${id}-title`}>
      <div class="head">
        <h2 id={`${id}-title`}>{title}</h2>
        {note && <p class="note">{note}</p>}
        {aside && <div class="aside">{aside}</div>}
      </div>
      {children}
    </section>
  );
}

export function Empty({ children }) {
  return <p class="empty">{children}</p>;
}

/// Names with a bar and a count each, the bars relative to their sum.
export function Bars({ rows, label }) {
  const sum = rows.reduce((total, row) => total + row.count, 0);
  return (
    <ul class="bars" aria-label={label}>
      {rows.map(row => (
        <li key={row.key}>
          <span class="name" title={row.title}>{row.name}</span>
          <Meter share={sum > 0 ? row.count / sum : 0} tone={row.tone} />
          <b>{row.text}</b>
        </li>
      ))}
    </ul>
  );
}

/// A bar filled by a share from 0 to 1. What it says is said in words beside it.
export function Meter({ share, tone = 'latency' }) {
  const width = Math.max(0, Math.min(1, share || 0)) * 100;
  return (
    <span class="meter" aria-hidden="true">
      <i class={`fill-${tone}`} style={{ width: `${width > 0 ? Math.max(width, 1) : 0}%` }} />
    </span>
  );
}

/// One bar cut into parts [{key, share, tone, title}].
export function Split({ parts, label, class: name = '' }) {
  return (
    <span class={`split ${name}`} role="img" aria-label={label}>
      {parts.filter(part => part.share > 0).map(part => (
        <i key={part.key} class={`fill-${part.tone}`} title={part.title} style={{ width: `max(2px, ${part.share * 100}%)` }} />
      ))}
    </span>
  );
}

/// Swatches with the words that belong to them.
export function Legend({ items }) {
  return (
    <ul class="legend">
      {items.map(([tone, word]) => (
        <li key={word}>
          <i class={`fill-${tone}`} aria-hidden="true" />
          {word}
        </li>
      ))}
    </ul>
  );
}

/// Pairs of a name and a value; a value may carry a tone.
export function Facts({ rows, class: name = '' }) {
  return (
    <dl class={`facts ${name}`}>
      {rows.filter(Boolean).map(([name, value, tone]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd class={tone ?? ''}>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Chip({ tone, children, title }) {
  return <span class={`chip ${tone}`} title={title}>{children}</span>;
}

/// The width of an element, kept as it changes.
export function useWidth() {
  const ref = useRef(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const measure = () => setWidth(Math.floor(ref.current?.clientWidth ?? 0));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

export function useInterval(action, ms) {
  const latest = useRef(action);
  latest.current = action;
  useEffect(() => {
    const timer = setInterval(() => latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

/// Points as polylines: a gap where a value is missing. Returns {lines, areas, last} of path data.
function trace(values, width, height, top) {
  const step = values.length > 1 ? (width - 4) / (values.length - 1) : 0;
  const x = i => (2 + i * step).toFixed(1);
  const y = value => (height - 2 - (Math.min(value, top) / top) * (height - 5)).toFixed(1);
  let lines = '';
  let areas = '';
  let last = null;
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] === null || values[i] === undefined) continue;
    let end = i;
    while (end + 1 < values.length && Number.isFinite(values[end + 1] ?? NaN)) end += 1;
    const points = [];
    for (let at = i; at <= end; at += 1) points.push(`${x(at)},${y(values[at])}`);
    // A point alone between gaps is a short stroke, or nothing would show.
    lines += points.length > 1 ? `M${points.join('L')}` : `M${points[0]}h1.5`;
    areas += `M${x(i)},${height - 1}L${points.join('L')}L${x(end)},${height - 1}Z`;
    last = { x: x(end), y: y(values[end]), at: end };
    i = end;
  }
  return { lines, areas, last, x, y };
}

/// A small line from 0 to the largest value, or to `floor` if that is more. `limit` is drawn dashed when the values come near it;
/// `gapWord` names what a gap at the end means.
export function Spark({ values, floor = 0, limit = null, tone = 'latency', width = 132, height = 24, gapWord = null, label }) {
  const seen = values.filter(value => value !== null && value !== undefined);
  const max = Math.max(...seen, 0);
  const showsLimit = limit !== null && max >= limit * 0.3;
  const top = Math.max(max, floor, showsLimit ? limit : 0) * 1.12 || 1;
  const { lines, areas, last, x, y } = trace(values, width, height, top);
  const lost = gapWord && values.length > 1 && (last === null || last.at < values.length - 1);
  const from = lost ? Math.min(last ? Number(x(last.at)) + 3 : 1, width - 58) : 0;
  return (
    <svg class={`spark line-${tone}`} width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={label}>
      <path class="area" d={areas} />
      {showsLimit && <line class="limit" x1="0" x2={width} y1={y(limit)} y2={y(limit)} />}
      <path class="line" d={lines} />
      {last && <circle class="dot" cx={last.x} cy={last.y} r="2" />}
      {lost && (
        <>
          <rect class="lost" x={from} y="1.5" width={width - from - 1} height={height - 3} rx="2" />
          <text class="lost-word" x={from + (width - from) / 2} y={height / 2 + 3.5}>{gapWord}</text>
        </>
      )}
    </svg>
  );
}

/// A Spark as wide as its place.
export function WideSpark(properties) {
  const [ref, width] = useWidth();
  return <div class="wide" ref={ref}>{width > 0 && <Spark {...properties} width={width} />}</div>;
}

/// Copies a text. The clipboard API exists in secure contexts only, and a pod's address is not one.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement('textarea');
    field.value = text;
    field.className = 'sr';
    (document.querySelector('dialog[open]') ?? document.body).append(field);
    field.select();
    const done = document.execCommand('copy');
    field.remove();
    return done;
  }
}

/// A trace id cut short; pressing it copies the whole.
export function TraceId({ id }) {
  const [word, setWord] = useState(null);
  useEffect(() => {
    if (word === null) return undefined;
    const timer = setTimeout(() => setWord(null), 1500);
    return () => clearTimeout(timer);
  }, [word]);
  if (!id) return <span class="mute">{DASH}</span>;
  const press = async event => {
    event.stopPropagation();
    const button = event.currentTarget;
    setWord((await copy(id)) ? 'copied' : 'failed');
    button.focus();
  };
  return (
    <button type="button" class="trace" title={`copy ${id}`} onClick={press}>
      <span class="sr">copy trace id </span>
      <code aria-live="polite">{word ?? id.slice(0, 8)}</code>
    </button>
  );
}
