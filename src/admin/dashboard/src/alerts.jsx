// Who was told? Alerts, the channels they went out by, and how fast the error budget burns.
import { duration, factor, fullTime, percent, secondsBetween, timeOfDay } from './format.js';
import { Chip, Empty, Facts, Meter, Panel } from './parts.jsx';

const STATES = { firing: 'firing', pending: 'pending', resolved: 'resolved', no_data: 'no data' };
const SEVERITIES = { critical: 'critical', warning: 'warning', info: 'info' };
const RESOLVED = 4;

function tone(item) {
  if (item.state === 'resolved') return 'resolved';
  if (item.state === 'no_data') return 'unknown';
  return SEVERITIES[item.severity] ?? 'info';
}

function Alert({ item, now, isTold }) {
  const isOver = item.state === 'resolved';
  return (
    <li class={`alert ${tone(item)} ${item.state === 'pending' ? 'pending' : ''}`}>
      <div class="alert-title">
        <b>{item.text}</b>
        {item.is_flapping && <Chip tone="warn" title="It comes and goes more than three times in 15 minutes: receivers are told once, until it is calm.">flapping</Chip>}
        <span class="state">{STATES[item.state] ?? item.state}</span>
      </div>
      <p>
        {item.severity}
        {item.value !== null && item.threshold !== 'yes' && <> · {item.value}{item.threshold !== null && ` (threshold ${item.threshold})`}</>}
        {isOver && item.resolved_at
          ? <> · <span title={fullTime(item.resolved_at)}>resolved {timeOfDay(item.resolved_at)}</span> after {duration(secondsBetween(item.since, item.resolved_at))}{item.reason && `, ${item.reason}`}</>
          : <> · <span title={fullTime(item.since)}>since {timeOfDay(item.since)}</span> · {duration(secondsBetween(item.since, now))}</>}
        {item.notified_at ? <> · <span title={fullTime(item.notified_at)}>notified {timeOfDay(item.notified_at)}</span></> : item.state === 'firing' && isTold && ' · nobody notified yet'}
        {item.pods && <> · on {item.pods.map((pod, i) => <span key={pod}>{i > 0 && ', '}<code>{pod}</code></span>)}</>}
      </p>
    </li>
  );
}

const CHANNELS = { ok: ['ok', 'good'], failing: ['failing', 'bad'], idle: ['nothing sent yet', 'plain'] };

function Channel({ channel, now }) {
  const [word, chip] = CHANNELS[channel.state] ?? [channel.state, 'plain'];
  const said = [`${channel.delivered} delivered`];
  if (channel.queued > 0) said.push(`${channel.queued} waiting`);
  if (channel.lost > 0) said.push(`${channel.lost} lost`);
  if (channel.last_success) said.push(`last ${duration(secondsBetween(channel.last_success, now))} ago`);
  return (
    <li>
      <span class="name" title={`${channel.name}, ${channel.kind}`}>{channel.name}{channel.name !== channel.kind && <small> {channel.kind}</small>}</span>
      <Chip tone={chip}>{word}</Chip>
      <small class="said">{said.join(' · ')}</small>
      {channel.last_error && <small class="channel-error fault">{channel.last_error}</small>}
    </li>
  );
}

function Burn({ burn, isMerged }) {
  const known = [burn.burn_1h, burn.burn_6h, burn.budget_left_percent].some(value => value !== null);
  const left = burn.budget_left_percent;
  return (
    <>
      <h3>Error budget, {burn.objective_percent ?? '–'}%, {isMerged ? 'of the pod that is worst off' : 'this pod'}, last 6 hours</h3>
      {!known && <Empty>Waiting for enough requests: a burn rate of a few says nothing.</Empty>}
      {known && (
        <>
          <Meter share={left === null ? 0 : left / 100} tone={left !== null && left <= 10 ? 'error' : left <= 40 ? 'miss' : 'hit'} />
          <Facts class="row" rows={[
            ['Left', percent(left, 0), left !== null && left <= 10 ? 'fault' : ''],
            ['Burn 1 h', factor(burn.burn_1h), burn.burn_1h > 1 ? 'warned' : ''],
            ['6 h', factor(burn.burn_6h), burn.burn_6h > 1 ? 'warned' : ''],
          ]} />
        </>
      )}
    </>
  );
}

export function Alerts({ snapshot }) {
  const { alerts, at } = snapshot;
  const open = alerts.items.filter(item => item.state !== 'resolved');
  const over = alerts.items.filter(item => item.state === 'resolved').slice(0, RESOLVED);
  const note = [alerts.firing > 0 && `${alerts.firing} firing`, alerts.pending > 0 && `${alerts.pending} pending`].filter(Boolean).join(', ');
  return (
    <Panel id="alerts" title="Alerts" note={note || (alerts.enabled ? 'none firing' : null)} aside={!alerts.enabled && <Chip tone="plain">off</Chip>}>
      {!alerts.enabled && <Empty>Alerts are off (telemetry.alerts.enabled). Nothing is evaluated and nobody is told.</Empty>}
      {alerts.enabled && open.length + over.length === 0 && <Empty>Nothing fired since start. The rules are evaluated every 10 s; one whose condition holds appears here as pending first.</Empty>}
      {open.length + over.length > 0 && <ul class="alerts">{[...open, ...over].map(item => <Alert key={item.id + item.since} item={item} now={at} isTold={alerts.channels.length > 0} />)}</ul>}
      {alerts.enabled && (
        <>
          <h3>Channels</h3>
          {alerts.channels.length === 0 && <Empty>None is configured (telemetry.alerts.notify): alerts show here and in the log only.</Empty>}
          {alerts.channels.length > 0 && <ul class="channels">{alerts.channels.map(channel => <Channel key={channel.name} channel={channel} now={at} />)}</ul>}
        </>
      )}
      {alerts.burn && <Burn burn={alerts.burn} isMerged={snapshot.meta.scope === 'merged'} />}
    </Panel>
  );
}
