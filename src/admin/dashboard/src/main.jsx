// The page of the admin listener. It takes the place of what the server drew once it has something better to show.
import { render } from 'preact';
import { useEffect, useReducer, useState } from 'preact/hooks';
import { Alerts } from './alerts.jsx';
import { Drawer } from './drawer.jsx';
import { Header, Notices, useTab } from './header.jsx';
import { Help, useKeys } from './keys.jsx';
import { Behind, Cache, Claude } from './panels.jsx';
import { Guard } from './parts.jsx';
import { Routes } from './routes.jsx';
import { Slow } from './slow.jsx';
import { connect, store, subscribe } from './store.js';
import { Tail } from './tail.jsx';
import { Traffic } from './traffic.jsx';
import { Verdict } from './verdict.jsx';

const LINKS = ['metrics', 'performance/metrics', 'performance/health', 'performance/cache/stats', 'health', 'readyz', 'livez'];

function Panels({ snapshot }) {
  const guarded = (Panel, name) => <Guard key={name} name={name} snapshot={snapshot}><Panel snapshot={snapshot} /></Guard>;
  const planes = [
    snapshot.cache && guarded(Cache, 'Cache'),
    snapshot.claude && guarded(Claude, 'Claude'),
    (snapshot.backend || snapshot.redis) && guarded(Behind, 'Backend and Redis'),
  ].filter(Boolean);
  return (
    <>
      {guarded(Verdict, 'Verdict')}
      {guarded(Traffic, 'Traffic by outcome')}
      {guarded(Routes, 'Routes')}
      {planes.length > 0 && <div class={`columns of-${planes.length}`}>{planes}</div>}
      <div class="columns uneven">
        {snapshot.slow && guarded(Slow, 'Slow requests')}
        {snapshot.alerts && guarded(Alerts, 'Alerts')}
      </div>
    </>
  );
}

/// Whether the verdict is above the screen; the header shows the score then.
function useVerdictHidden(isThere) {
  const [isHidden, setIsHidden] = useState(false);
  useEffect(() => {
    const target = document.getElementById('verdict');
    if (!target) return undefined;
    const observer = new IntersectionObserver(([entry]) => setIsHidden(!entry.isIntersecting));
    observer.observe(target);
    return () => observer.disconnect();
  }, [isThere]);
  return isHidden;
}

function Page() {
  const [, redraw] = useReducer(n => n + 1, 0);
  const [isHelp, setIsHelp] = useState(false);
  const [isPaused, setIsPaused] = useState(false);
  const { snapshot, stream } = store;
  const onPause = () => setIsPaused(before => !before);
  useEffect(() => subscribe(redraw), []);
  useKeys({ onHelp: () => setIsHelp(true), onPause });
  useTab(snapshot, stream.phase !== 'lost');
  const isVerdictHidden = useVerdictHidden(snapshot !== null);
  return (
    <>
      <Header snapshot={snapshot} isVerdictHidden={isVerdictHidden} />
      <main id="app" class={stream.phase === 'lost' ? 'stale' : ''}>
        <Notices snapshot={snapshot} />
        {snapshot ? <Panels snapshot={snapshot} /> : <section><h1>Waiting for the first snapshot.</h1></section>}
        {snapshot && <Tail isPaused={isPaused} onPause={onPause} scope={store.scope} />}
        {snapshot && <span id="ready" hidden />}
      </main>
      <footer>
        <nav aria-label="Other answers of this listener">{LINKS.map(path => <a key={path} href={path}><code>/{path}</code></a>)}</nav>
        <span class="gap" />
        <button type="button" class="plain" onClick={() => setIsHelp(true)}>Keys <kbd>?</kbd></button>
        {snapshot && <span>touchline {snapshot.meta.version}</span>}
      </footer>
      {snapshot && store.route !== null && <Guard key={store.route} name="Route" snapshot={snapshot}><Drawer snapshot={snapshot} /></Guard>}
      {isHelp && <Help onClose={() => setIsHelp(false)} />}
    </>
  );
}

/// Draws at the first news, good or bad: until then the server's own page stays.
const stop = subscribe(() => {
  stop();
  const root = document.createElement('div');
  root.id = 'root';
  document.body.replaceChildren(root);
  render(<Page />, root);
});
connect();
