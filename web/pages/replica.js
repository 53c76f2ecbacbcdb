// @ts-check
// One replica: why it is as it is, its figures now and in the last hour, the calls that it runs, its logs, its stacks, and profiles of its process. A replica that is gone has its
// figures, logs and reasons for a while.
import { html } from '../vendor/preact/standalone.module.js';
import { path, send, useGet } from '../api.js';
import { link } from '../router.js';
import { useUpdates } from '../updates.js';
import { Action } from '../ui/dialog.js';
import { Answer, Empty, Loading } from '../ui/empty.js';
import { bytes, count, ms, number, plural, rate } from '../ui/format.js';
import { Figures, PageHead, Panel } from '../ui/layout.js';
import { LogView } from '../ui/logview.js';
import { State } from '../ui/state.js';
import { Table } from '../ui/table.js';
import { Tabs } from '../ui/tabs.js';
import { Ago } from '../ui/time.js';
import { Charts } from './charts.js';
import { Exit, Why } from './parts.js';
import { Profile, Stacks } from './profile.js';
import { stateOf } from './replicas.js';

/** @type {import('./charts.js').ChartOf[]} */
const charts = [
  { title: 'Calls', unit: 'calls/s', format: number, empty: 'No call in this time',
    lines: [{ key: 'rate', label: 'ended', filled: true }, { key: 'error_rate', label: 'failed', colour: 'bad', dash: [5, 3] }] },
  { title: 'Calls at one time', unit: 'calls', format: number, whole: true, lines: [{ key: 'running', label: 'run', filled: true }] },
  { title: 'CPU', unit: 'of one processor', format: (v) => number(v) + ' %', lines: [{ key: 'cpu_percent', label: 'CPU', colour: '2', filled: true }] },
  { title: 'Memory', unit: 'of the process', format: bytes, binary: true, lines: [{ key: 'memory_bytes', label: 'memory', colour: '3', filled: true }] },
  { title: 'Event loop delay', unit: 'lateness of timers', format: ms, empty: 'No values: replicas in Python have an event loop',
    lines: [{ key: 'loop_delay_ms', label: 'delay', colour: '5', filled: true }] },
];

/** @param {{params: import('../router.js').View['params']}} props */
export default function Replica({ params: { app = '', deployment = '', replica = '' } }) {
  const live = useUpdates({ app, deployment, replica });
  if (!live.ready) return html`<${PageHead} kind="replica" name=${replica} /><${Loading} what="the replica" />`;
  const r = live.replicas.get(replica);
  const f = live.figures.replicas.get(replica) ?? {};
  const of = { app, deployment, replica };
  const look = r && stateOf(r);

  return html`
    <${PageHead} kind="replica" name=${replica} ...${look ?? { state: 'gone', tone: 'idle' }}
      actions=${r && html`<${Action} role="operate" label="Restart" title=${`Restart ${replica}?`} verb="Restart"
        says="Another replica takes its place: it gets no new calls, finishes those that it runs within graceful_shutdown_timeout_s, and stops. State in its memory is lost."
        run=${() => send('POST', path`/api/v1/applications/${app}/deployments/${deployment}/replicas/${replica}/restart`)} done=${`The restart of ${replica} has begun.`} />`}>
      ${r ? html`<${About} r=${r} />` : html`It runs no more, or it never did. <a href=${link.deployment(app, deployment)}>The replicas of ${deployment}</a>`}</>
    <${Why} of=${[app, deployment, replica]} changed=${r ? `${look?.state} ${look?.note} ${r.ready}` : 'gone'} />
    ${r && html`<${Panel} title="Now" actions=${html`<nav class="links" aria-label="More about the replica"><a href=${link.events({ app, deployment, replica })}>Events</a><a href=${link.logs({ app, deployment, replica })}>Logs</a></nav>`}>
      <${Figures} of=${[
        { label: 'Calls', value: rate(f.rate), title: 'that have ended, in the last 5 to 10 s' },
        { label: 'Failed', value: rate(f.error_rate), title: 'calls that have failed, in the last 5 to 10 s', tone: f.error_rate ? 'bad' : undefined },
        { label: 'Run now', value: count(f.running), title: 'calls that hold a slot of it' },
        { label: 'Calls so far', value: count(f.calls), note: `${count(f.errors)} failed`, title: 'that were started, and of them those that have failed' },
        { label: 'Memory', value: bytes(f.memory_bytes), title: 'of the process' },
        ...r.gpus?.length > 0 ? [{ label: 'GPU memory', value: bytes(r.gpu_memory_bytes), title: 'of its GPUs, by the process and the processes that it has started, as the driver says' }] : [],
        { label: 'CPU', value: f.cpu_percent == null ? number(null) : number(f.cpu_percent) + ' %', title: 'of one processor' },
        { label: 'Event loop delay', value: ms(f.loop_delay_ms), title: 'by how much timers of the event loop were late, on average; replicas in Python have it' },
        { label: 'Restarts', value: count(r.restarts ?? 0), title: 'replicas in a row that ended, or failed to start, before this one' },
      ]} /></>`}
    ${r?.last_exit && html`<${Before} of=${of} r=${r} />`}
    <section class="panel" aria-label="Parts">
      <${Tabs} tabs=${[
        { name: 'hour', title: 'The last hour', body: () => html`<div class="panel-body"><${Charts} object=${of} group="replica" charts=${charts} /></div>` },
        { name: 'calls', title: 'Runs now', body: () => html`<${Calls} ...${of} />` },
        { name: 'logs', title: 'Logs', body: () => html`<${LogView} query=${of} title=${`Logs of ${replica}`} empty="The replica has written nothing that the node keeps." />` },
        { name: 'stacks', title: 'Stacks', body: () => html`<div class="panel-body"><${Stacks} ...${of} gone=${!r} /></div>` },
        { name: 'profile', title: 'Profile', body: () => html`<div class="panel-body"><${Profile} ...${of} gone=${!r} /></div>` },
      ]} />
    </section>`;
}

/** @param {{r: any}} props */
function About({ r }) {
  const held = Object.entries(r.resources ?? {}).map(([name, v]) => `${name} ${name.includes('memory') ? bytes(v) : number(v)}`).join(', ');
  return html`started <${Ago} at=${r.started_at} /> ago; revision ${r.revision ?? 0}; number ${r.rank} of its deployment${r.pid ? `; process ${r.pid}` : '; in the process of the node'}${
    r.gpus?.length > 0 && `; GPUs ${r.gpus.join(', ')}`}${held && `; holds ${held}`}${r.models?.length > 0 && html`; models <span title=${r.models.join(', ')}>${r.models.join(', ')}</span>`}`;
}

/** @typedef {{of: {app: string, deployment: string, replica: string}, r: any}} OneOf */

/** How the replica before this one ended, with the lines that the stream of updates leaves out. @param {OneOf} props */
function Before({ of, r }) {
  const status = useGet(path`/api/v1/applications/${of.app}`);
  const full = status.data?.deployments?.[of.deployment]?.replicas?.find((/** @type {any} */ x) => x.replica_id === of.replica) ?? r;
  return html`<${Panel} title="The end of the replica before it" note=${`${plural(r.restarts ?? 0, 'restart')} in a row`}><${Exit} exit=${full.last_exit ?? r.last_exit} app=${of.app} deployment=${of.deployment} /></>`;
}

const mostCalls = 1000; // The node lists so many at most.
const unnamed = '(default)'; // The method of a call without a name, as `helve calls` has it.

/** @param {{app: string, deployment: string, replica: string}} props */
function Calls({ app, deployment, replica }) {
  const list = useGet('/api/v1/calls', { app, deployment, replica, limit: mostCalls }, { every: 2 });
  const columns = [
    { name: 'since', title: 'For', end: true, value: (/** @type {any} */ c) => -Date.parse(c.since), cell: (/** @type {any} */ c) => html`<${Ago} at=${c.since} />` },
    { name: 'method', title: 'Method', value: (/** @type {any} */ c) => c.method || unnamed, cell: (/** @type {any} */ c) => html`${c.method || unnamed}${c.stream && html` <span class="muted">stream</span>`}` },
    { name: 'state', title: 'State', value: (/** @type {any} */ c) => c.state, cell: (/** @type {any} */ c) => html`<${State} state=${c.state} />` },
    { name: 'waits', title: 'Waits for', value: (/** @type {any} */ c) => c.waits_for, cell: (/** @type {any} */ c) => html`<span title=${c.waits_for}>${c.waits_for ?? ''}</span>${c.caller_ended && html` <span class="warn">its caller has ended</span>`}${
      c.unread_since && html` <span class="warn">its reader has read nothing for <${Ago} at=${c.unread_since} /></span>`}` },
    { name: 'request', title: 'Request', phone: false, cell: (/** @type {any} */ c) => html`<a href=${link.request(c.request_id)} title=${c.request_id}><code>${c.request_id}</code></a>` },
  ];
  return html`<${Answer} of=${list} what="its calls">${(/** @type {any} */ data) => {
    if (data.calls.length === 0) return html`<${Empty} title="It runs no call at this moment">The list asks again every 2 s.</>`;
    return html`${data.unlisted > 0 && html`<p class="muted">${plural(data.unlisted, 'call')} of it ${data.unlisted === 1 ? 'is' : 'are'} not listed.</p>`}
      <${Table} title="Calls that it runs" rows=${data.calls} columns=${columns} id=${(/** @type {any} */ c) => c.id} sort="calls_by" first="-since" />`;
  }}</>`;
}
