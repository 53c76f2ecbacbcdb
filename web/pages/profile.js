// @ts-check
// Stacks of a replica, and profiles of its process as flame graphs. Both ask its process, so they need the role operate.
import { html, useEffect, useRef, useState } from '../vendor/preact/standalone.module.js';
import { ask, path, send, useGet, useSession } from '../api.js';
import { Code } from '../ui/code.js';
import { Action } from '../ui/dialog.js';
import { Empty, Failure } from '../ui/empty.js';
import { bytes, clock, ms, seconds as span } from '../ui/format.js';
import { openSignIn } from '../ui/signin.js';
import { FlameGraph } from './flamegraph.js';

/** @typedef {{app: string, deployment: string, replica: string, gone: boolean}} Of */

const nanoseconds = (/** @type {number} */ v) => ms(v / 1e6);

/** What profiles of each kind measure. The folded form has nanoseconds and bytes. */
const kinds = {
  cpu: { title: 'CPU time', says: 'where the process computes', what: 'CPU time', format: nanoseconds },
  block: { title: 'Waits', says: 'where tasks, goroutines and threads wait', what: 'time of waiting', format: nanoseconds },
  heap: { title: 'Memory', says: 'in Python memory that is allocated in this time and in use at its end, in Go all that is in use', what: 'memory', format: bytes },
};
/** @typedef {keyof typeof kinds} Kind */

const lengths = [2, 5, 10, 30, 60]; // seconds
const before = [60, 300, 900]; // seconds of continuous profiles

/** @param {Of} of */
const route = (of) => path`/api/v1/applications/${of.app}/deployments/${of.deployment}/replicas/${of.replica}/profile`;

/**
 * A question to the process of the replica, one at a time. It ends when the component is gone.
 * @returns {{text: string, at: number, error: any, since: number, run: (query: Record<string, any>) => void, stop: () => void}} since: when the question that runs was asked; 0 for none
 */
function useProcess(/** @type {Of} */ of) {
  const [state, setState] = useState({ text: '', at: 0, error: /** @type {any} */ (null), since: 0 });
  const running = useRef(/** @type {AbortController|null} */ (null));
  const stop = () => {
    running.current?.abort();
    running.current = null;
    setState((/** @type {any} */ s) => ({ ...s, since: 0 }));
  };
  const run = async (/** @type {Record<string, any>} */ query) => {
    stop();
    const abort = (running.current = new AbortController());
    setState((/** @type {any} */ s) => ({ ...s, error: null, since: Date.now() }));
    try {
      const text = await (await ask(route(of), query, { signal: abort.signal })).text();
      if (running.current === abort) setState({ text, at: Date.now(), error: null, since: 0 });
    } catch (error) {
      if (running.current === abort) setState((/** @type {any} */ s) => ({ ...s, error, since: 0 }));
    }
  };
  useEffect(() => () => running.current?.abort(), []);
  return { ...state, run, stop };
}

/** @param {{what: string}} props */
function NeedsRole({ what }) {
  return html`<${Empty} title=${`${what} need a token with the role operate`}><button onClick=${openSignIn}>Sign in</button></>`;
}

/** Where its threads, tasks and goroutines are now. @param {Of} of */
export function Stacks(of) {
  const { may } = useSession();
  const p = useProcess(of);
  const allowed = may('operate') && !of.gone;
  const take = () => p.run({ kind: 'stacks', format: 'text' });
  useEffect(() => { if (allowed) take(); }, [allowed]);
  if (of.gone) return html`<${Empty} title="The replica is gone, and has no stacks" />`;
  if (!allowed) return html`<${NeedsRole} what="Stacks" />`;
  return html`<div class="stack">
    <div class="filters"><button disabled=${p.since > 0} onClick=${take}>${p.since ? 'Asks the process …' : 'Take them again'}</button>
      <span class="muted" role="status">${p.since > 0 ? 'A process whose event loop stands answers after a while.' : p.at > 0 ? `taken at ${clock(p.at)}` : ''}</span></div>
    ${p.error && html`<${Failure} error=${p.error} />`}
    ${p.text && html`<${Code} text=${p.text} label="Stacks" />`}
  </div>`;
}

/** @param {Of} of */
export function Profile(of) {
  const { may } = useSession();
  const allowed = may('operate');
  const kept = useGet(allowed ? '/api/v1/profiles' : null);
  const p = useProcess(of);
  const [kind, setKind] = useState(/** @type {Kind} */ ('cpu'));
  const [long, setLong] = useState('5');
  const [shown, setShown] = useState({ kind: /** @type {Kind} */ ('cpu'), says: '' });
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!p.since) return;
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, [p.since]);
  if (!allowed) return html`<${NeedsRole} what="Profiles" />`;
  const continuous = kept.data?.continuous === true;
  const past = long.startsWith('last ');
  const length = Number(long.replace('last ', ''));
  const take = () => {
    setNow(Date.now());
    const says = past ? `${kinds.cpu.title} of the last ${span(length)}, of which a tenth was measured` : `${kinds[kind].title} in ${span(length)}`;
    setShown({ kind: past ? 'cpu' : kind, says });
    p.run(past ? { last: length, format: 'folded' } : { kind, seconds: length, format: 'folded' });
  };
  const left = Math.max(0, length - (now - p.since) / 1000);
  return html`<div class="stack">
    <form class="filters" onSubmit=${(/** @type {Event} */ e) => { e.preventDefault(); if (!p.since) take(); }}>
      <label>Profile of <select value=${past ? 'cpu' : kind} disabled=${past} onChange=${(/** @type {any} */ e) => setKind(e.target.value)}>${
        Object.entries(kinds).map(([name, k]) => html`<option key=${name} value=${name} selected=${name === kind}>${k.title}</option>`)}</select></label>
      <label>Time <select value=${long} onChange=${(/** @type {any} */ e) => setLong(e.target.value)}>
        ${!of.gone && lengths.map((s) => html`<option key=${s} value=${s} selected=${String(s) === long}>the next ${span(s)}</option>`)}
        ${continuous && before.map((s) => html`<option key=${'last' + s} value=${'last ' + s} selected=${'last ' + s === long}>the last ${span(s)}</option>`)}</select></label>
      ${p.since > 0 ? html`<button type="button" onClick=${p.stop}>Cancel</button>` : html`<button class="primary" disabled=${of.gone && !past}>Take it</button>`}
      <span class="muted" role="status">${p.since > 0 ? (left > 0 && !past ? `measures, ${Math.ceil(left)} s more` : 'asks the process …') : kinds[past ? 'cpu' : kind].says}</span>
    </form>
    ${p.error && html`<${Failure} error=${p.error} />`}
    ${p.at > 0 && !p.since && !p.error && html`<p class="muted">${shown.says}, taken at ${clock(p.at)}</p>`}
    ${p.at > 0 && html`<${FlameGraph} folded=${p.text} format=${kinds[shown.kind].format} what=${kinds[shown.kind].what} />`}
    ${kept.data && !continuous && html`<p class="muted">The minutes before are there with continuous profiles: a second of each ten, of all replicas. ${' '}<${Action} role="operate" label="Turn them on" title="Take continuous profiles of all replicas?" verb="Turn them on" says="The node measures a second of every ten of each process: 0.2 % of a CPU for each Python process at most. It keeps 15 minutes, and 16 MiB at most."
        run=${async () => { await send('PUT', '/api/v1/profiles', { continuous: true }); kept.reload(); }} done="Continuous profiles are on." /></p>`}
  </div>`;
}
