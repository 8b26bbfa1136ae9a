// The head of the page: whose numbers these are, over which time, and whether they are still coming.
import { useEffect, useState } from 'preact/hooks';
import { clock, count, duration, timeOfDay } from './format.js';
import { useInterval } from './parts.jsx';
import { choose, retry, store, toggleClock } from './store.js';

const WINDOWS = [['1m', '1 m', 'last minute'], ['5m', '5 m', 'last 5 minutes'], ['1h', '1 h', 'last hour']];
/// After so long without a message the dot says how old the numbers are.
const LATE_S = 4;

function Switch({ label, options, value, onChoose }) {
  return (
    <div class="switch" role="group" aria-label={label}>
      {options.map(([key, word, title]) => (
        <button type="button" key={key} aria-pressed={key === value} title={title} onClick={() => onChoose(key)}>{word}</button>
      ))}
    </div>
  );
}

function scopes(meta) {
  const pods = meta.peers?.asked;
  return [['pod', 'this pod', 'only what this process saw'], ['merged', pods ? `${count(pods)} pods, merged` : 'all pods, merged', 'asks every pod and adds up']];
}

function Live() {
  const [, tick] = useState(0);
  useInterval(() => tick(n => n + 1), 1000);
  const { stream, heardAt, snapshot } = store;
  const age = heardAt === null ? null : (Date.now() - heardAt) / 1000;
  if (stream.phase !== 'live') return <span class="live lost">{stream.phase === 'lost' ? 'no data' : 'connecting'}</span>;
  if (age !== null && age > LATE_S) return <span class="live late">{duration(age)} old</span>;
  return <span class="live">live <time>{timeOfDay(snapshot?.at)}</time></span>;
}

export function Header({ snapshot, isVerdictHidden }) {
  const { meta, health } = snapshot ?? {};
  return (
    <header>
      <div class="bar-inner">
        <b class="service" title={meta?.service}>{meta?.service ?? 'touchline'}</b>
        {meta && <code class="pod" title={meta.pod}>{meta.pod}</code>}
        {meta && (meta.can_merge || store.scope === 'merged') && (
          <Switch label="Scope" options={scopes(meta)} value={store.scope} onChoose={value => choose('scope', value)} />
        )}
        {meta && !meta.can_merge && store.scope !== 'merged' && <span class="mute scope-word">this pod</span>}
        {isVerdictHidden && health && (
          <a class={`mini ${health.status}`} href="#verdict"><b>{health.score}</b> {health.status}</a>
        )}
        <span class="gap" />
        {meta && (
          <span class="mute meta">
            up {duration(meta.uptime_s)} · config <code title={meta.config_loaded ? `loaded ${meta.config_loaded}` : undefined}>{meta.config_hash}</code>
          </span>
        )}
        <Switch label="Window" options={WINDOWS} value={store.window} onChoose={value => choose('window', value)} />
        <Live />
        <button type="button" class="zone" title="times in UTC or in your zone" onClick={toggleClock}>{clock.name}</button>
      </div>
    </header>
  );
}

/// What must be known before any number is believed: no stream, drain, rejected configuration, silent pods.
export function Notices({ snapshot }) {
  const { meta } = snapshot ?? {};
  const silent = meta?.peers?.silent ?? [];
  return (
    <div class="notices">
      <div role="status">{store.stream.phase === 'lost' && <Lost snapshot={snapshot} />}</div>
      {meta?.draining && <p class="notice warn"><b>Draining.</b> This pod finishes what it has and takes no new traffic.</p>}
      {meta?.config_rejected_since && (
        <p class="notice warn">
          <b>Configuration rejected</b> since {timeOfDay(meta.config_rejected_since)}: the one before, {meta.config_hash}, stays in force.
        </p>
      )}
      {meta?.peers && (
        <p class={`notice ${silent.length ? 'warn' : 'calm'}`}>
          <b>{count(meta.peers.answered)} of {count(meta.peers.asked)} pods answered.</b>
          {silent.length === 0 && ' Counts and latencies of all of them are added; memory, pools and breakers are per pod.'}
          {silent.length > 0 && ' Missing: '}
          {silent.map((peer, i) => (
            <span key={peer.pod}>{i > 0 && ', '}<code>{peer.pod}</code> ({peer.error})</span>
          ))}
        </p>
      )}
    </div>
  );
}

function Lost({ snapshot }) {
  const [, tick] = useState(0);
  useInterval(() => tick(n => n + 1), 1000);
  const { why, retryAt } = store.stream;
  const wait = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  return (
    <p class="notice bad">
      <b>{snapshot ? `No data since ${timeOfDay(snapshot.at)}.` : 'No data yet.'}</b> {why}{' '}
      <span aria-hidden="true">{wait > 0 ? `Next try in ${wait} s. ` : 'Trying again… '}</span>
      <button type="button" onClick={retry}>Try now</button>
    </p>
  );
}

const SHAPES = {
  healthy: '<circle cx="16" cy="16" r="14" fill="#1f9d7f"/><path d="M9 17l5 5 9-11" fill="none" stroke="#fff" stroke-width="3.5"/>',
  degraded: '<path d="M16 2l15 27H1z" fill="#e0a030"/><path d="M16 12v8M16 23v3" stroke="#1a1405" stroke-width="3.5"/>',
  unhealthy: '<path d="M10 1h12l9 9v12l-9 9H10l-9-9V10z" fill="#d83a32"/><path d="M10 10l12 12M22 10L10 22" stroke="#fff" stroke-width="3.5"/>',
  unknown: '<circle cx="16" cy="16" r="12" fill="none" stroke="#8a9799" stroke-width="4" stroke-dasharray="6 4"/>',
};

/// The tab as a monitor: the title says score and status, the icon shows it by colour and by shape.
export function useTab(snapshot, isLive) {
  const known = isLive && snapshot;
  const status = known && Object.hasOwn(SHAPES, snapshot.health.status) ? snapshot.health.status : 'unknown';
  const service = snapshot?.meta.service ?? 'touchline';
  const title = known ? `${snapshot.health.score} · ${snapshot.health.status} · ${service}` : `no data · ${service}`;
  useEffect(() => {
    document.title = title;
  }, [title]);
  useEffect(() => {
    let icon = document.querySelector('link[rel~="icon"]');
    if (!icon) {
      icon = document.createElement('link');
      icon.rel = 'icon';
      document.head.append(icon);
    }
    const drawing = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${SHAPES[status]}</svg>`;
    icon.href = `data:image/svg+xml,${encodeURIComponent(drawing)}`;
  }, [status]);
}
