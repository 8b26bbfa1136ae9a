// What the page knows: the snapshot, the state of the stream, the window and scope that were asked for.
import { clock, parse } from './format.js';
import { Stream } from './stream.js';

const WINDOWS = ['1m', '5m', '1h'];
const SCOPES = ['pod', 'merged'];

const asked = new URLSearchParams(location.search);
const oneOf = (list, value, fallback) => (list.includes(value) ? value : fallback);

export const store = {
  snapshot: null,
  /// phase: connecting, live, lost
  stream: { phase: 'connecting', why: null, retryAt: null },
  /// When the last message came, by this machine's clock.
  heardAt: null,
  window: oneOf(WINDOWS, asked.get('window'), '5m'),
  scope: oneOf(SCOPES, asked.get('scope'), 'pod'),
  /// The key of the route whose drawer is open.
  route: new URLSearchParams(location.hash.slice(1)).get('route'),
};

const listeners = new Set();
let source = null;

/// Calls back after each change; returns what ends that.
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function changed() {
  for (const listener of listeners) listener();
}

function receive(event, data) {
  store.heardAt = Date.now();
  if (event === 'snapshot') store.snapshot = data;
  // Sections that did not change stay the same objects, so what shows them need not be drawn again.
  else if (event === 'change' && store.snapshot) store.snapshot = { ...store.snapshot, ...data };
  else return;
  changed();
}

export function connect() {
  source?.close();
  source = new Stream({
    url: () => `api/v1/events?window=${store.window}&scope=${store.scope}`,
    onMessage: receive,
    onState(state) {
      store.stream = state;
      changed();
      // All places of viewers are taken: single snapshots are better than nothing.
      if (state.status === 503) askOnce();
    },
  });
}

async function askOnce() {
  try {
    const response = await fetch(`api/v1/snapshot?window=${store.window}&scope=${store.scope}`, { cache: 'no-store' });
    if (response.ok) receive('snapshot', parse(await response.text()));
  } catch {
    // The next try of the stream says what is wrong.
  }
}

export function retry() {
  source?.retry();
}

/// Asks for another window or scope and writes it into the address, so that a link shows the same.
export function choose(name, value) {
  if (store[name] === value) return;
  store[name] = value;
  const query = new URLSearchParams(location.search);
  query.set(name, value);
  history.replaceState(null, '', `?${query}${location.hash}`);
  connect();
  changed();
}

/// Opens the drawer of a route, or closes it with null; the address follows.
export function openRoute(key) {
  store.route = key;
  const hash = key === null ? '' : `#${new URLSearchParams({ route: key })}`;
  history.replaceState(null, '', `${location.pathname}${location.search}${hash}`);
  changed();
}

export function toggleClock() {
  clock.isLocal = !clock.isLocal;
  remember('clock', clock.name);
  changed();
}

function remember(name, value) {
  try {
    localStorage.setItem(`touchline.${name}`, value);
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
  }
}

try {
  clock.isLocal = localStorage.getItem('touchline.clock') === 'local';
} catch {
  // As above.
}
