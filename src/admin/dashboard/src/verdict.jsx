// Is it bad, and why? The score, one sentence, what was deducted, what is fine; and four numbers.
import { Figure, Spark } from './parts.jsx';
import { DASH, duration, fullTime, latencyParts, percent, rate, secondsBetween, timeOfDay, windowWords } from './format.js';

const RADIUS = 52;
const ROUND = 2 * Math.PI * RADIUS;

function Ring({ score, status }) {
  const share = Math.max(0, Math.min(100, score)) / 100;
  return (
    <svg class="ring" viewBox="0 0 120 120" role="img" aria-label={`score ${score} of 100, ${status}`}>
      <circle cx="60" cy="60" r={RADIUS} />
      {share > 0 && <circle class="score" cx="60" cy="60" r={RADIUS} stroke-dasharray={`${share * ROUND} ${ROUND}`} transform="rotate(-90 60 60)" />}
      <text x="60" y="69">{score}</text>
      <text class="of" x="60" y="87">of 100</text>
    </svg>
  );
}

function Reasons({ health, now }) {
  return (
    <ul class="reasons">
      {health.reasons.map((reason, i) => (
        <li key={`${reason.code}${i}`}>
          <b>−{reason.points}</b>
          <span>{reason.text}</span>
          {reason.since && (
            <small title={fullTime(reason.since)}>since {timeOfDay(reason.since)} · {duration(secondsBetween(reason.since, now))}</small>
          )}
        </li>
      ))}
      {health.fine.length > 0 && (
        <li class="ok">
          <b>ok</b>
          <span>{health.fine.join(' · ')}</span>
        </li>
      )}
    </ul>
  );
}

/// The shares of each slot, for the small lines in the tiles; the running slot is not whole yet.
function perSlot(chart, now) {
  const end = Date.parse(now);
  const whole = chart.slots.filter(slot => Date.parse(slot.at) + chart.slot_s * 1000 <= end);
  const sums = whole.map(slot => ({ ...slot, all: slot.hit + slot.miss + slot.bypass + slot.error }));
  const share = pick => sums.map(slot => (slot.all > 0 ? (100 * pick(slot)) / slot.all : null));
  return {
    rate: sums.map(slot => slot.all / chart.slot_s),
    errors: share(slot => slot.error),
    saved: share(slot => slot.hit),
  };
}

function Tile({ name, parts, tone = '', values, line, floor }) {
  return (
    <div class={tone}>
      <dt>{name}</dt>
      <dd>
        <span class="value"><Figure parts={parts} /></span>
        {values?.some(value => value !== null) && values.length > 2 && (
          <Spark values={values} tone={line} floor={floor} width={64} height={22} label={`${name}, last 15 minutes`} />
        )}
      </dd>
    </div>
  );
}

function Tiles({ snapshot }) {
  const { tiles, chart, meta } = snapshot;
  const lines = perSlot(chart, snapshot.at);
  const errors = tiles.errors_5xx_percent;
  const isFault = errors !== null && errors >= 1;
  return (
    <div class="tiles-box">
      <dl class="tiles">
        <Tile name="requests" parts={[rate(tiles.requests_per_s), tiles.requests_per_s === null ? '' : '/s']} values={lines.rate} line="latency" />
        <Tile name="answered 5xx" parts={[percent(errors), '']} tone={isFault ? 'fault' : ''} values={lines.errors} line={isFault ? 'error' : 'quiet'} floor={1} />
        <Tile name="P95, streams excluded" parts={latencyParts(tiles.p95_ms)} values={tiles.p95_minutes} line="latency" />
        <Tile name="without the backend" parts={[percent(tiles.without_backend_percent, 1), '']} values={lines.saved} line="hit" floor={100} />
      </dl>
      <p class="note">{windowWords(meta)}</p>
    </div>
  );
}

export function Verdict({ snapshot }) {
  const { health } = snapshot;
  return (
    <section id="verdict" class={`verdict ${health.status}`} aria-labelledby="verdict-title">
      <Ring score={health.score ?? DASH} status={health.status} />
      <div class="words">
        <h1 id="verdict-title" aria-live="polite">{health.headline}</h1>
        <Reasons health={health} now={snapshot.at} />
      </div>
      <Tiles snapshot={snapshot} />
    </section>
  );
}
