// The keyboard: what each key does, and the page that says so.
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { choose, store } from './store.js';

const KEYS = [
  ['/', 'filter the routes'], ['j  k', 'next and previous route'], ['Enter', 'open the route'], ['Esc', 'close, or leave the filter'],
  ['1  2  3', 'last minute, 5 minutes, hour'], ['s', 'this pod, or all pods merged'], ['p', 'pause the live tail, and resume'], ['?', 'this list'],
];

function step(by) {
  const rows = [...document.querySelectorAll('[data-route]')];
  if (rows.length === 0) return;
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + by));
  rows[next].focus();
  rows[next].scrollIntoView({ block: 'nearest' });
}

/// Listens for the keys of the page. Keys with a modifier, and those typed into a field, are not ours.
export function useKeys({ onHelp, onPause }) {
  const latest = useRef(null);
  latest.current = { onHelp, onPause };
  useEffect(() => {
    const press = event => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      if (event.target.closest?.('input, select, textarea, dialog')) return;
      const actions = {
        '/': () => document.getElementById('route-filter')?.focus(),
        j: () => step(1),
        k: () => step(-1),
        1: () => choose('window', '1m'),
        2: () => choose('window', '5m'),
        3: () => choose('window', '1h'),
        s: () => store.snapshot?.meta.can_merge && choose('scope', store.scope === 'pod' ? 'merged' : 'pod'),
        p: latest.current.onPause,
        '?': latest.current.onHelp,
        Escape: () => document.activeElement?.blur?.(),
      };
      if (!Object.hasOwn(actions, event.key)) return;
      if (event.key !== 'Escape') event.preventDefault();
      actions[event.key]();
    };
    document.addEventListener('keydown', press);
    return () => document.removeEventListener('keydown', press);
  }, []);
}

export function Help({ onClose }) {
  const ref = useRef(null);
  useLayoutEffect(() => {
    const opener = document.activeElement;
    ref.current.showModal();
    return () => opener?.focus?.({ preventScroll: true });
  }, []);
  return (
    <dialog ref={ref} class="help" aria-labelledby="help-title" onClose={onClose} onClick={event => event.target === ref.current && onClose()}>
      <div class="drawer-head"><h2 id="help-title">Keys</h2><button type="button" class="close" onClick={onClose} aria-label="Close">×</button></div>
      <dl>
        {KEYS.map(([keys, words]) => (
          <div key={keys}>
            <dt>{keys.split('  ').map(key => <kbd key={key}>{key}</kbd>)}</dt>
            <dd>{words}</dd>
          </div>
        ))}
      </dl>
    </dialog>
  );
}
