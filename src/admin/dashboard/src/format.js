// Numbers, times and names as the page shows them. What is unknown is a dash, never 0.

export const DASH = '–';
const known = value => typeof value === 'number' && Number.isFinite(value);
const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/// A latency as [number, unit]: the unit that fits it.
export function latencyParts(ms) {
  if (!known(ms)) return [DASH, ''];
  if (ms >= 99_995) return [(ms / 60_000).toFixed(1), 'min'];
  if (ms >= 999.5) return [(ms / 1000).toFixed(2), 's'];
  if (ms >= 9.95) return [ms.toFixed(0), 'ms'];
  if (ms >= 0.995) return [ms.toFixed(1), 'ms'];
  return [ms.toFixed(2), 'ms'];
}

export function latency(ms) {
  const [value, unit] = latencyParts(ms);
  return unit ? `${value} ${unit}` : value;
}

/// A latency limit: round numbers stay round.
export function limit(ms) {
  if (!known(ms)) return DASH;
  return ms >= 1000 ? `${+(ms / 1000).toFixed(2)} s` : `${+ms.toFixed(1)} ms`;
}

export function count(value) {
  return known(value) ? grouped.format(value) : DASH;
}

/// A count in few characters: 1.21 M, 98 k.
export function short(value) {
  if (!known(value)) return DASH;
  if (value >= 999_500) return `${(value / 1e6).toFixed(2)} M`;
  if (value >= 9_995) return `${(value / 1e3).toFixed(0)} k`;
  return grouped.format(value);
}

export function rate(value) {
  if (!known(value)) return DASH;
  if (value >= 999.5) return grouped.format(value);
  if (value >= 9.95) return value.toFixed(1);
  return value.toFixed(2);
}

export function percent(value, digits = 2) {
  return known(value) ? `${value.toFixed(digits)}%` : DASH;
}

export function bytesParts(value) {
  if (!known(value)) return [DASH, ''];
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (value >= 1023.5 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return [at === 0 ? String(Math.round(value)) : value.toFixed(value >= 99.5 ? 0 : 1), units[at]];
}

export function bytes(value) {
  return bytesParts(value).join(' ').trim();
}

export function dollars(value) {
  if (!known(value)) return DASH;
  const size = Math.abs(value);
  const digits = size > 0 && size < 0.1 ? 4 : 2;
  return `${value < 0 ? '−' : ''}$${size.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

export function factor(value) {
  return known(value) ? `${value.toFixed(1)}×` : DASH;
}

/// How long in two units: 3 m 12 s.
export function duration(seconds) {
  if (!known(seconds)) return DASH;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const [d, h, m, s] = [Math.floor(whole / 86_400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} m`;
  return whole < 600 && s ? `${m} m ${s} s` : `${m} m`;
}

/// Seconds from one ISO time to another, or null.
export function secondsBetween(from, to) {
  const span = (Date.parse(to) - Date.parse(from)) / 1000;
  return Number.isFinite(span) ? Math.max(0, span) : null;
}

let isLocal = false;
export const clock = {
  get isLocal() {
    return isLocal;
  },
  set isLocal(value) {
    isLocal = value;
  },
  get name() {
    return isLocal ? 'local' : 'UTC';
  },
};

/// The time of day of an ISO time or of milliseconds, in the zone of the clock: 14:05:53.
export function timeOfDay(at, digits = 'seconds') {
  const date = new Date(at);
  if (at === null || at === undefined || Number.isNaN(date.getTime())) return DASH;
  const moved = isLocal ? new Date(date.getTime() - date.getTimezoneOffset() * 60_000) : date;
  const text = moved.toISOString();
  return text.slice(11, { minutes: 16, seconds: 19, millis: 23 }[digits]);
}

/// The whole time, for a tooltip.
export function fullTime(at) {
  const date = new Date(at);
  return at && !Number.isNaN(date.getTime()) ? date.toISOString().replace('T', ' ').replace('Z', ' UTC') : '';
}

// Control characters hide text and bidirectional overrides reorder it; a name that holds them shows a mark instead.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
export function clean(text) {
  return String(text).replace(HIDDEN, '\ufffd');
}

/// Parses what the server sent, with every text made showable. A route's key stays as it is: the server gets it back.
export function parse(text) {
  return JSON.parse(text, (name, value) => (typeof value === 'string' && name !== 'key' ? clean(value) : value));
}

/// A template cut where its parameters are: [{text, isParameter}].
export function templateParts(template) {
  return template.split(/(\{[^{}]*\})/).filter(Boolean).map(text => ({ text, isParameter: /^\{.*\}$/.test(text) }));
}

/// The smallest round number at or above a value, for the top of an axis.
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 2.5, 4, 5, 8, 10]) if (step * power >= value * 0.9999) return step * power;
  return 10 * power;
}

const WINDOWS = { '1m': 60, '5m': 300, '1h': 3600 };
const WINDOW_WORDS = { '1m': 'last minute', '5m': 'last 5 minutes', '1h': 'last hour' };

/// What a window really holds: a process that just started has seen less of it.
export function windowWords(meta) {
  const length = WINDOWS[meta.window] ?? 300;
  if (known(meta.uptime_s) && meta.uptime_s < length) return `the ${duration(meta.uptime_s)} since start`;
  return WINDOW_WORDS[meta.window] ?? 'last 5 minutes';
}
