// Since when, and what changed? Requests per second by outcome, with marks where something happened.
import { useState } from 'preact/hooks';
import { Empty, Legend, Panel, useWidth } from './parts.jsx';
import { clock, rate, roundUp, timeOfDay } from './format.js';

const SPAN_S = 900;
const HEIGHT = 196;
const LEFT = 38;
const RIGHT = 6;
const BOTTOM = 20;
/// The labels of marks are set in lines above the bars.
const LINE = 17;
const NARROW = 620;
/// From bottom to top. Errors are on top, and never thinner than a stroke.
const OUTCOMES = [['hit', 'hit'], ['bypass', 'bypass'], ['miss', 'miss'], ['error', '5xx']];
const MARK_TONE = {
  start: 'calm', reload: 'calm', purge: 'calm', redis_back: 'good', backend_back: 'good', resolved: 'good', drain: 'warn',
  breaker: 'warn', reload_rejected: 'warn', redis_lost: 'warn', alert: 'bad', backend_lost: 'bad',
};

/// Each slot with its rates. The running slot counts the seconds that it has had; too few say nothing.
export function rates(chart, now) {
  const end = Date.parse(now);
  return chart.slots.map(slot => {
    const at = Date.parse(slot.at);
    const seconds = Math.min(chart.slot_s, (end - at) / 1000);
    const isRunning = seconds < chart.slot_s;
    const by = {};
    for (const [name] of OUTCOMES) by[name] = seconds >= 2 ? slot[name] / seconds : 0;
    return { at, isRunning, isShown: seconds >= 2, by, errors: slot.error, all: OUTCOMES.reduce((sum, [name]) => sum + by[name], 0) };
  });
}

/// The bars of each outcome as one path, so that 90 slots are 4 elements.
function paths(slots, scale, slotWidth) {
  const result = { hit: '', bypass: '', miss: '', error: '' };
  const running = { ...result };
  const gap = slotWidth > 8 ? 2 : slotWidth > 3 ? 1 : 0.4;
  for (const slot of slots) {
    if (!slot.isShown) continue;
    const target = slot.isRunning ? running : result;
    let y = scale.base;
    for (const [name] of OUTCOMES) {
      const value = slot.by[name];
      if (!(value > 0)) continue;
      const height = Math.max(scale.height(value), name === 'error' ? 2.5 : 0.6);
      target[name] += `M${scale.x(slot.at).toFixed(1)},${y.toFixed(1)}v${(-height).toFixed(1)}h${(slotWidth - gap).toFixed(1)}v${height.toFixed(1)}z`;
      y -= height;
    }
  }
  return { result, running };
}

/// Sets the labels of marks in up to three lines so that none covers another; one without room keeps its dot alone.
function placeLabels(marks, scale, width) {
  const ends = [[], [], []];
  return marks.map(mark => {
    const x = scale.x(mark.time);
    const length = Math.min(mark.text.length, 44) * 7 + 14;
    const isLeft = x + length > width;
    const [from, to] = isLeft ? [x - length, x + 4] : [x - 4, x + length];
    for (let line = 0; line < ends.length; line += 1) {
      if (from >= LEFT - 4 && ends[line].every(([a, b]) => to < a || from > b)) {
        ends[line].push([from, to]);
        return { ...mark, x, line, isLeft, hasLabel: true };
      }
    }
    return { ...mark, x, line: 0, isLeft, hasLabel: false };
  });
}

function cut(text) {
  return text.length > 44 ? `${text.slice(0, 43)}…` : text;
}

function Axis({ width, top, scale, start, end }) {
  const step = width < NARROW ? 300_000 : 180_000;
  const times = [];
  for (let at = Math.ceil(start / step) * step; at <= end; at += step) times.push(at);
  return (
    <g class="axis" aria-hidden="true">
      {[0, top / 2, top].map(value => (
        <g key={value}>
          <line x1={LEFT} x2={width - RIGHT} y1={scale.base - scale.height(value)} y2={scale.base - scale.height(value)} />
          <text x={LEFT - 8} y={scale.base - scale.height(value) + 4} class="right">{value >= 10 || Number.isInteger(value) ? +value.toFixed(1) : value.toFixed(value < 1 ? 2 : 1)}</text>
        </g>
      ))}
      {times.map(at => scale.x(at) < width - 30 && <text key={at} x={scale.x(at)} y={HEIGHT - 4} class={scale.x(at) < LEFT + 16 ? '' : 'middle'}>{timeOfDay(at, 'minutes')}</text>)}
    </g>
  );
}

function slotWords(slot, marks) {
  const parts = OUTCOMES.map(([name, word]) => `${word} ${rate(slot.by[name])}`);
  return `${timeOfDay(slot.at)}: ${rate(slot.all)} requests per second; ${parts.join(', ')}${marks.map(mark => `; ${mark.text}`).join('')}`;
}

function Tooltip({ slot, marks, x, width }) {
  const isLeft = x > width / 2;
  return (
    <div class="tip" style={isLeft ? { right: `${width - x + 12}px` } : { left: `${x + 22}px` }} aria-hidden="true">
      <b>{timeOfDay(slot.at)}{slot.isRunning && <small> still running</small>}</b>
      <table>
        <tbody>
          {[...OUTCOMES].reverse().map(([name, word]) => (
            <tr key={name}><td><i class={`fill-${name}`} />{word}</td><td>{rate(slot.by[name])} /s</td></tr>
          ))}
          <tr class="sum"><td>all</td><td>{rate(slot.all)} /s</td></tr>
        </tbody>
      </table>
      {marks.map(mark => <p key={mark.time + mark.text}>{timeOfDay(mark.at)} {mark.text}</p>)}
    </div>
  );
}

function Chart({ snapshot }) {
  const [ref, width] = useWidth();
  const [picked, setPicked] = useState(null);
  const end = Date.parse(snapshot.at);
  const start = end - SPAN_S * 1000;
  const slots = rates(snapshot.chart, snapshot.at);
  const marks = snapshot.chart.marks
    .map(mark => ({ ...mark, time: Date.parse(mark.at) }))
    .filter(mark => mark.time >= start && mark.time <= end)
    .sort((a, b) => a.time - b.time);
  const isNarrow = width < NARROW;
  const inner = Math.max(1, width - LEFT - RIGHT);
  const x = at => LEFT + ((at - start) / (SPAN_S * 1000)) * inner;
  const labels = placeLabels(marks, { x }, width);
  const lines = isNarrow ? 1 : 1 + Math.max(0, ...labels.filter(mark => mark.hasLabel).map(mark => mark.line));
  const head = marks.length ? 6 + lines * LINE : 8;
  const base = HEIGHT - BOTTOM;
  const top = roundUp(Math.max(...slots.map(slot => slot.all), 0.1));
  const scale = { x, base, height: value => (value / top) * (base - head) };
  const slotWidth = (snapshot.chart.slot_s / SPAN_S) * inner;
  const shown = slots.filter(slot => slot.isShown);
  const at = shown.findIndex(slot => slot.at === picked);
  const slot = at < 0 ? null : shown[at];
  const near = slot ? marks.filter(mark => mark.time >= slot.at && mark.time < slot.at + snapshot.chart.slot_s * 1000) : [];
  const { result, running } = paths(slots, scale, slotWidth);

  const move = event => {
    const time = start + ((event.clientX - ref.current.getBoundingClientRect().left - LEFT) / inner) * SPAN_S * 1000;
    const hit = shown.find(one => time >= one.at && time < one.at + snapshot.chart.slot_s * 1000);
    setPicked(hit ? hit.at : null);
  };
  const key = event => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = (at < 0 ? shown.length - 1 : at) + (at < 0 ? 0 : steps[event.key]);
    setPicked(shown[Math.max(0, Math.min(shown.length - 1, next))].at);
  };

  return (
    <>
      <div
        class="chart" ref={ref} tabIndex={0} role="slider" aria-label="Requests per second by outcome, last 15 minutes: arrow keys read the slots"
        aria-valuemin={0} aria-valuemax={Math.max(0, shown.length - 1)} aria-valuenow={at < 0 ? Math.max(0, shown.length - 1) : at}
        aria-valuetext={shown.length ? slotWords(slot ?? shown.at(-1), near) : 'no slot yet'}
        onPointerMove={move} onPointerLeave={() => setPicked(null)} onBlur={() => setPicked(null)} onKeyDown={key}
      >
        {width > 0 && (
          <svg width={width} height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} aria-hidden="true">
            <Axis width={width} top={top} scale={scale} start={start} end={end} />
            {slot && <rect class="pick" x={x(slot.at) - 1} y={head - 4} width={slotWidth} height={base - head + 4} />}
            {OUTCOMES.map(([name]) => <path key={name} class={`fill-${name}`} d={result[name]} />)}
            {OUTCOMES.map(([name]) => <path key={name} class={`fill-${name} running`} d={running[name]} />)}
            <g class="marks">
              {labels.map(mark => (
                <g key={mark.at + mark.text} class={MARK_TONE[mark.kind] ?? 'calm'}>
                  <line x1={mark.x} x2={mark.x} y1={8 + (isNarrow ? 0 : mark.line * LINE)} y2={base} />
                  <circle cx={mark.x} cy={8 + (isNarrow ? 0 : mark.line * LINE)} r="3.5" />
                  {!isNarrow && mark.hasLabel && (
                    <text x={mark.x + (mark.isLeft ? -8 : 8)} y={12 + mark.line * LINE} class={mark.isLeft ? 'right' : ''}>{cut(mark.text)}</text>
                  )}
                </g>
              ))}
            </g>
          </svg>
        )}
        {slot && <Tooltip slot={slot} marks={near} x={x(slot.at)} width={width} />}
      </div>
      <Marks marks={marks} isHidden={!isNarrow} />
    </>
  );
}

/// The marks as a list, newest first: for narrow screens, and for those who hear the page.
function Marks({ marks, isHidden = false }) {
  if (marks.length === 0) return null;
  return (
    <ol class={`mark-list ${isHidden ? 'sr' : ''}`} aria-label="What happened">
      {[...marks].reverse().slice(0, 8).map(mark => (
        <li key={mark.at + mark.text} class={MARK_TONE[mark.kind] ?? 'calm'}><time>{timeOfDay(mark.at)}</time> {mark.text}</li>
      ))}
    </ol>
  );
}

export function Traffic({ snapshot }) {
  const { chart } = snapshot;
  const hasTraffic = chart.slots.some(slot => slot.hit + slot.miss + slot.bypass + slot.error > 0);
  return (
    <Panel
      id="traffic" title="Traffic by outcome" note={`requests per second, last 15 minutes, ${clock.name}`}
      aside={<Legend items={[['hit', 'hit'], ['bypass', 'bypass'], ['miss', 'miss'], ['error', '5xx']]} />}
    >
      {!hasTraffic && <Empty>Waiting for the first request: each bar is {chart.slot_s} seconds of traffic.</Empty>}
      {hasTraffic ? <Chart snapshot={snapshot} /> : <Marks marks={chart.marks} />}
    </Panel>
  );
}
