// Which part? The cache, Claude, the backend and Redis. A plane that is not configured has no panel.
import { bytes, bytesParts, clean, count, dollars, duration, fullTime, latency, percent, secondsBetween, short, timeOfDay, windowWords } from './format.js';
import { Bars, Chip, Empty, Facts, Figure, Meter, Panel, Since, Split, WideSpark } from './parts.jsx';

const SOURCES = { redis: 'Redis', stale: 'stale, refreshing' };
const SOURCE_TONES = { memory: 'hit', redis: 'redis', collapsed: 'collapsed', stale: 'stale' };
const MISSES = { 'uri-miss': 'not in cache', stale: 'expired', 'vary-miss': 'vary differs', request: 'client no-cache', method: 'method', bypass: 'bypass', partial: 'partial' };
const word = (words, name, otherwise = name) => (Object.hasOwn(words, name) ? words[name] : otherwise);

function Headline({ items }) {
  return (
    <dl class="headline">
      {items.filter(Boolean).map(([parts, name, tone]) => (
        <div key={name} class={tone ?? ''}>
          <dd><Figure parts={parts} /></dd>
          <dt>{name}</dt>
        </div>
      ))}
    </dl>
  );
}

export function Cache({ snapshot }) {
  const { cache, meta } = snapshot;
  const isUnder = cache.hit_percent !== null && cache.target_percent !== null && cache.hit_percent < cache.target_percent;
  const modes = { observe: 'observing: nothing is answered from it', off: 'off' };
  const [size, unit] = bytesParts(cache.bytes);
  return (
    <Panel id="cache" title="Cache" note={windowWords(meta)} aside={Object.hasOwn(modes, cache.mode) && <Chip tone="warn">{modes[cache.mode]}</Chip>}>
      <Headline items={[
        [[percent(cache.hit_percent, 1), ''], `hit, target ${percent(cache.target_percent, 0)}`, isUnder ? 'warned' : ''],
        [[count(cache.hits), ''], `hits of ${count(cache.lookups)} lookups`],
        [[size, unit], `of ${bytes(cache.bytes_max)}, ${count(cache.entries)} entries`],
      ]} />
      <Meter share={cache.bytes_max > 0 ? cache.bytes / cache.bytes_max : 0} tone="quiet" />
      {!(cache.lookups > 0) && <Empty>Waiting for the first request to a route with a cache rule.</Empty>}
      {cache.hits > 0 && (
        <>
          <h3>Where hits came from</h3>
          <Bars label="Hits by source" rows={cache.by_source.map(one => ({ key: one.source, name: word(SOURCES, one.source), count: one.count, text: count(one.count), tone: word(SOURCE_TONES, one.source, 'quiet') }))} />
        </>
      )}
      {cache.misses > 0 && (
        <>
          <h3>Why {count(cache.misses)} missed</h3>
          <Bars label="Misses by reason" rows={cache.by_miss.map(one => ({ key: one.reason, name: word(MISSES, one.reason), title: one.reason, count: one.count, text: count(one.count), tone: 'miss' }))} />
        </>
      )}
      {cache.top_keys.length > 0 && (
        <>
          <h3>Hottest keys</h3>
          <table class="keys">
            <thead class="sr"><tr><th scope="col">Key</th><th scope="col">Hits</th><th scope="col">Size</th><th scope="col">Time left</th></tr></thead>
            <tbody>
              {cache.top_keys.slice(0, 6).map(entry => (
                <tr key={entry.key}>
                  <th scope="row"><code title={clean(entry.key)}>{clean(entry.key)}</code></th>
                  <td class="n">{count(entry.hits)}</td><td class="n">{bytes(entry.bytes)}</td>
                  <td class="n">{entry.ttl_s > 0 ? `${duration(entry.ttl_s)} left` : 'expired'}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
      <Facts rows={[
        ['Bypassed, nothing to be kept', count(cache.bypass)],
        ['Revalidated', count(cache.revalidated)],
        ['Evicted for room', count(cache.evictions), cache.evictions > 0 ? 'warned' : ''],
      ]} />
    </Panel>
  );
}

const TIERS = { economy: 'economy', standard: 'standard', premium: 'premium' };
const calls = value => `${count(value)} ${value === 1 ? 'call' : 'calls'}`;
const ratio = (part, whole) => (whole > 0 && part !== null ? ` (${((100 * part) / whole).toFixed(0)}%)` : '');

function Budget({ budget }) {
  const share = budget.limit_usd > 0 ? budget.spent_usd / budget.limit_usd : 0;
  return (
    <li>
      <span class="name" title={budget.name}>{budget.name}</span>
      <Meter share={share} tone={share >= 1 ? 'error' : share >= 0.8 ? 'miss' : 'hit'} />
      <span><b>{dollars(budget.spent_usd)}</b> of {dollars(budget.limit_usd)}{budget.refused > 0 && <span class="fault"> · {count(budget.refused)} refused</span>}</span>
    </li>
  );
}

export function Claude({ snapshot }) {
  const { claude } = snapshot;
  const tiers = claude.tiers.filter(tier => tier.calls > 0);
  const modes = { observe: ['observing: models stay as asked for', 'warn'], off: ['routing off', 'plain'] };
  const mode = Object.hasOwn(modes, claude.mode) ? modes[claude.mode] : null;
  const cost = tiers.reduce((sum, tier) => sum + (tier.cost_usd ?? 0), 0);
  const saved = (value, name) => (value === null ? null : [[dollars(value), ''], `${name}${ratio(value, claude.cost_usd + value)}`, value < 0 ? 'warned' : '']);
  return (
    <Panel id="claude" title="Claude" note={claude.since ? <>since <span title={fullTime(claude.since)}>{timeOfDay(claude.since)}</span>, {duration(secondsBetween(claude.since, snapshot.at))}</> : null} aside={mode && <Chip tone={mode[1]}>{mode[0]}</Chip>}>
      <Headline items={[
        [[dollars(claude.cost_usd), ''], calls(claude.calls)],
        saved(claude.saved_vs_requested_usd, 'saved against the models asked for'),
        saved(claude.saved_vs_premium_usd, 'saved against all-premium'),
        claude.would_save_usd !== null && [[dollars(claude.would_save_usd), ''], 'routing would have saved'],
      ]} />
      {tiers.length === 0 && <Empty>Waiting for the first call to Claude.</Empty>}
      {tiers.length > 0 && (
        <>
          <Split
            class="thick" label={`Cost by tier: ${tiers.map(tier => `${tier.tier} ${dollars(tier.cost_usd)}`).join(', ')}`}
            parts={tiers.map(tier => ({ key: tier.tier, share: cost > 0 ? tier.cost_usd / cost : 0, tone: word(TIERS, tier.tier, 'quiet'), title: `${tier.tier}: ${dollars(tier.cost_usd)}` }))}
          />
          <table class="tiers">
            <thead><tr><th scope="col">Tier</th><th scope="col" class="n">Calls</th><th scope="col" class="n">In</th><th scope="col" class="n">Cached</th><th scope="col" class="n">Out</th><th scope="col" class="n">Cost</th></tr></thead>
            <tbody>
              {tiers.map(tier => (
                <tr key={tier.tier}>
                  <th scope="row"><i class={`swatch fill-${word(TIERS, tier.tier, 'quiet')}`} />{tier.tier}</th>
                  <td class="n">{count(tier.calls)}<small> {percent((100 * tier.calls) / claude.calls, 0)}</small></td>
                  <td class="n">{short(tier.input_tokens)}</td><td class="n">{short(tier.cache_read_tokens)}</td><td class="n">{short(tier.output_tokens)}</td>
                  <td class="n"><b>{dollars(tier.cost_usd)}</b></td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
      {claude.budgets.length > 0 && (
        <>
          <h3>Budgets</h3>
          <ul class="bars budgets">{claude.budgets.map(budget => <Budget key={budget.name} budget={budget} />)}</ul>
        </>
      )}
      <h3>Latency and refusals</h3>
      <Facts class="pairs" rows={[
        ['First token, P95', latency(claude.first_token_p95_ms)],
        ['Whole call, P95', latency(claude.call_p95_ms)],
        ['429 / 529', `${count(claude.refused_429)} / ${count(claude.refused_529)}`, claude.refused_429 + claude.refused_529 > 0 ? 'warned' : ''],
        ['Retries', count(claude.retries)],
        ['Counts estimated', calls(claude.estimated_calls), claude.estimated_calls > 0 ? 'warned' : ''],
        ['Usage not reported', calls(claude.unknown_usage), claude.unknown_usage > 0 ? 'warned' : ''],
      ]} />
      {claude.top_reasons.length > 0 && (
        <>
          <h3>Why a tier was chosen</h3>
          <Bars label="Reasons of routing" rows={claude.top_reasons.slice(0, 4).map(one => ({ key: one.reason, name: one.reason.replaceAll('_', ' '), title: one.reason, count: one.count, text: count(one.count), tone: 'latency' }))} />
        </>
      )}
    </Panel>
  );
}

function Breaker({ state }) {
  if (!state || state === 'closed') return null;
  return <Chip tone={state === 'open' ? 'warn' : 'plain'}>breaker {state.replace('_', ' ')}</Chip>;
}

function State({ up, since, now }) {
  if (up === null) return <Chip tone="plain">not tried yet</Chip>;
  const time = since ? ` ${duration(secondsBetween(since, now))}` : '';
  return <Chip tone={up ? 'good' : 'bad'} title={fullTime(since)}>{up ? 'up' : 'down'}{time}</Chip>;
}

function Backend({ backend, now, isAlone }) {
  const share = backend.places > 0 ? backend.in_flight / backend.places : 0;
  return (
    <>
      <div class="sub-head">{!isAlone && <h3 class="strong">Backend</h3>}<State up={backend.up} since={backend.since} now={now} /><Breaker state={backend.breaker} /></div>
      <ul class="bars places">
        <li>
          <span class="name">in flight</span>
          <Meter share={share} tone={share >= 0.9 ? 'error' : share >= 0.7 ? 'miss' : 'latency'} />
          <span><b>{count(backend.in_flight)}</b> of {count(backend.places)}</span>
        </li>
      </ul>
      <Facts rows={[
        ['Waiting for a place', count(backend.queued), backend.queued > 0 ? 'warned' : ''],
        ['Probe', latency(backend.probe_ms)],
        backend.breaker !== 'closed' && backend.breaker_since && ['Breaker', <Since at={backend.breaker_since} now={now} />],
        ['Address', <code>{backend.address}</code>],
        backend.pod && ['State of', <code>{backend.pod}</code>],
      ]} />
    </>
  );
}

function Redis({ redis, now, isAlone }) {
  // A minute is its slowest answer, however few there were. While there is none the line ends in that.
  const minutes = redis.ping_minutes ?? [];
  const pings = redis.up ? minutes : [...minutes.slice(0, -1), null].slice(-minutes.length);
  return (
    <>
      <div class="sub-head">{!isAlone && <h3 class="strong">Redis</h3>}<State up={redis.up} since={redis.since} now={now} /><Breaker state={redis.breaker} /></div>
      {(!redis.up || pings.some(ping => ping !== null)) && pings.length > 1 && <WideSpark values={pings} tone={redis.up ? 'hit' : 'quiet'} height={38} gapWord={redis.up ? null : 'no answer'} label={`Ping by minute, ${redis.up ? 'answering' : 'no answer'}`} />}
      <Facts rows={[
        redis.error && ['Last error', redis.error, redis.up ? '' : 'fault'],
        ['Ping', latency(redis.up ? redis.ping_ms : null)],
        ['Times lost since start', count(redis.losses)],
        ['Writes waiting', count(redis.pending_writes), redis.pending_writes > 0 ? 'warned' : ''],
        ['Writes dropped', count(redis.dropped_writes), redis.dropped_writes > 0 ? 'warned' : ''],
        ['Invalidations other pods miss', count(redis.pending_purges), redis.pending_purges > 0 ? 'fault' : ''],
        ['Address', <code>{redis.address}</code>],
        redis.pod && ['State of', <code>{redis.pod}</code>],
      ]} />
    </>
  );
}

export function Behind({ snapshot }) {
  const { backend, redis, at, meta } = snapshot;
  const title = backend && redis ? 'Backend and Redis' : backend ? 'Backend' : 'Redis';
  return (
    <Panel id="behind" title={title} note={meta.scope === 'merged' ? 'now: state of the worst pod, counts of all' : 'now'}>
      {backend && <Backend backend={backend} now={at} isAlone={!redis} />}
      {redis && <Redis redis={redis} now={at} isAlone={!backend} />}
    </Panel>
  );
}
