// What can be tested without a browser: numbers and times in words, the reader of the stream, the order of routes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clean, clock, count, dollars, duration, latency, parse, percent, rate, roundUp, templateParts, timeOfDay, windowWords } from '../src/format.js';
import { matches, sorted } from '../src/order.js';
import { Messages, Stream, refusal } from '../src/stream.js';

test('what is unknown is a dash and never 0', () => {
  for (const format of [latency, count, dollars, duration, percent, rate]) {
    assert.equal(format(null), '–');
    assert.equal(format(undefined), '–');
    assert.equal(format(NaN), '–');
    assert.notEqual(format(0), '–');
  }
});

test('a latency has the unit that fits it, also where rounding carries over', () => {
  const cases = [[0.041, '0.04 ms'], [0.41, '0.41 ms'], [0.996, '1.0 ms'], [9.94, '9.9 ms'], [9.96, '10 ms'], [999.4, '999 ms'], [999.6, '1.00 s'], [2310, '2.31 s'], [120_000, '2.0 min']];
  for (const [ms, words] of cases) assert.equal(latency(ms), words);
});

test('money keeps its sign', () => {
  assert.equal(dollars(-1.5), '−$1.50');
  assert.equal(dollars(0.0123), '$0.0123');
  assert.equal(dollars(1234.5), '$1,234.50');
});

test('a duration has two units', () => {
  const cases = [[0, '0 s'], [59.4, '59 s'], [192, '3 m 12 s'], [660, '11 m'], [22_331, '6 h 12 m'], [90_000, '1 d 1 h']];
  for (const [seconds, words] of cases) assert.equal(duration(seconds), words);
});

test('a time is read in the zone of the clock', () => {
  clock.isLocal = false;
  assert.equal(timeOfDay('2026-11-23T14:05:53.114207+00:00'), '14:05:53');
  assert.equal(timeOfDay('2026-11-23T14:05:53.114207+00:00', 'millis'), '14:05:53.114');
  assert.equal(timeOfDay(null), '–');
  assert.equal(timeOfDay('nonsense'), '–');
});

test('text that hides or turns around what follows shows a mark', () => {
  assert.equal(clean('a\u202egnp.exe\u0000'), 'a\ufffdgnp.exe\ufffd');
  assert.equal(clean('rule:\n\tttl: 30m'), 'rule:\n\tttl: 30m');
});

test('a route key comes back to the server as it came, every other text is made showable', () => {
  assert.deepEqual(parse('{"key":"GET /\\u202e","template":"/\\u202e"}'), { key: 'GET /\u202e', template: '/\ufffd' });
});

test('parameters of a template are told apart', () => {
  assert.deepEqual(templateParts('/a/{b}/c{d}').filter(part => part.isParameter).map(part => part.text), ['{b}', '{d}']);
  assert.equal(templateParts('/a/{b').some(part => part.isParameter), false);
});

test('the top of an axis is round and never below the largest value', () => {
  for (const value of [0.07, 1, 3, 9.9, 86.3, 101, 4321]) assert.ok(roundUp(value) >= value && roundUp(value) <= value * 2.1, `${value}`);
  assert.equal(roundUp(0), 1);
});

test('a window that is not full yet says so', () => {
  assert.equal(windowWords({ window: '5m', covered_s: 291.2, uptime_s: 4000 }), 'last 5 minutes');
  assert.equal(windowWords({ window: '5m', covered_s: 42, uptime_s: 42 }), 'the 42 s since start');
});

const STREAM = ': hello\n\nevent: snapshot\nid: 7\ndata: {"a":1}\n\nevent: change\r\ndata: one\r\ndata:two\r\n\r\n: beat\n\n';

test('messages are the same wherever the stream is cut', () => {
  const whole = new Messages().feed(STREAM);
  assert.deepEqual(whole, [{ event: 'snapshot', id: '7', data: '{"a":1}' }, { event: 'change', id: null, data: 'one\ntwo' }]);
  for (let at = 0; at <= STREAM.length; at += 1) {
    const messages = new Messages();
    assert.deepEqual([...messages.feed(STREAM.slice(0, at)), ...messages.feed(STREAM.slice(at))], whole, `cut at ${at}`);
  }
  const slow = new Messages();
  assert.deepEqual([...STREAM].flatMap(character => slow.feed(character)), whole);
});

test('a message without an end is refused before it fills the memory', () => {
  const messages = new Messages();
  assert.throws(() => {
    for (let i = 0; i < 20; i += 1) messages.feed('x'.repeat(1024 * 1024));
  }, /too large/);
});

test('a refusal is a sentence', async () => {
  assert.match(await refusal(new Response('{"detail":"Not authenticated"}', { status: 401 })), /asks for a token \(401\)/);
  assert.equal(await refusal(new Response('{"detail":"32 viewers are connected"}', { status: 503 })), 'The admin listener answered 503: 32 viewers are connected.');
  assert.equal(await refusal(new Response('<html>', { status: 421 })), 'The admin listener answered 421.');
});

test('a lost stream connects again with the last id, and a refusal carries its status', async t => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const requests = [];
  const answers = [
    () => new Response('event: snapshot\nid: 9\ndata: {"key":"k"}\n\n'),
    () => new Response('{"detail":"full"}', { status: 503 }),
    () => { throw new TypeError('refused'); },
  ];
  t.mock.method(globalThis, 'fetch', async (url, options) => {
    requests.push([url, options.headers]);
    return (answers.shift() ?? (() => new Promise(() => {})))();
  });
  const states = [];
  const seen = [];
  const stream = new Stream({ url: () => 'events', onMessage: (event, data) => seen.push([event, data]), onState: state => states.push([state.phase, state.status]) });
  const settle = async () => {
    for (let i = 0; i < 50; i += 1) await new Promise(resolve => setImmediate(resolve));
  };
  await settle();
  for (let i = 0; i < 3; i += 1) {
    t.mock.timers.tick(5_000);
    await settle();
  }
  stream.close();

  assert.deepEqual(seen, [['snapshot', { key: 'k' }]]);
  assert.deepEqual(states, [['live', null], ['lost', null], ['lost', 503], ['lost', null]]);
  assert.deepEqual(requests.map(([, headers]) => headers['last-event-id']), [undefined, '9', '9', '9']);
});

const route = (template, more) => ({ method: 'GET', template, kind: 'plain', count: 100, few: false, per_s: 1, p95_ms: 1, p99_ms: 1, over_limit: false, cache: null, ...more });

test('routes sort by any column, unknown values after known ones, unmatched always last', () => {
  const routes = [
    route('unmatched', { method: null, per_s: 99, p95_ms: 99 }), route('/a', { per_s: 2, p95_ms: 5 }), route('/b', { per_s: 3, p95_ms: 1 }),
    route('/few', { count: 3, few: true, per_s: 0.1, p95_ms: 1, max_ms: 70, p99_ms: 80 }),
  ];
  const order = (column, isDown) => sorted(routes, { column, isDown }).map(one => one.template);
  assert.deepEqual(order('per_s', true), ['/b', '/a', '/few', 'unmatched']);
  assert.deepEqual(order('per_s', false), ['/few', '/a', '/b', 'unmatched']);
  assert.deepEqual(order('p95_ms', true), ['/few', '/a', '/b', 'unmatched']);
  assert.equal(order('p99_ms', true).at(-2), '/few');
  assert.equal(order('p99_ms', false).at(-2), '/few');
});

test('a filter looks for every word in method and template', () => {
  assert.ok(matches(route('/api/users'), 'get USERS'));
  assert.ok(matches(route('/api/users'), ''));
  assert.ok(!matches(route('/api/users'), 'post users'));
});
