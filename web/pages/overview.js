// @ts-check
// What is wrong first, what runs and how it does, the node and its machine.
import { html, useState } from '../vendor/preact/standalone.module.js';
import { useGet } from '../api.js';
import { link, useQuery } from '../router.js';
import { useUpdates } from '../updates.js';
import { Answer, Empty, Loading } from '../ui/empty.js';
import { bytes, count, local, ms, number, plural, rate, unknown } from '../ui/format.js';
import { Facts, Figures, PageHead, Panel } from '../ui/layout.js';
import { Sign, State, toneOf } from '../ui/state.js';
import { Table } from '../ui/table.js';
import { Ago } from '../ui/time.js';
import { EventList } from '../ui/why.js';
import { Charts } from './charts.js';
import { DeployFile } from './deploy.js';
import { serving } from './parts.js';
import { Next } from '../ui/next.js';

const mostTroubles = 6; // Until a reader asks for all.
const newestEvents = 10;
const eventsEvery = 5; // Seconds.

/** @type {import('./charts.js').ChartOf[]} */
const charts = [
  { title: 'Requests', unit: 'requests/s', format: number, empty: 'No request in this time',
    lines: [{ key: 'rate', label: 'answered', filled: true }, { key: 'error_rate', label: 'failed', colour: 'bad', dash: [5, 3] }] },
  { title: 'Time of a request', unit: 'in each step', p99: true, format: ms, empty: 'No request in this time',
    lines: [{ key: 'p50_ms', label: 'p50', colour: '4' }, { key: 'p90_ms', label: 'p90', colour: '2', dash: [6, 3] }, { key: 'p99_ms', label: 'p99', colour: '3', dash: [2, 2] }] },
  { title: 'Processors', unit: '%', format: number,
    lines: [{ key: 'machine_cpu_percent', label: 'machine, of all', colour: '3', filled: true }, { key: 'cpu_percent', label: 'node, of one', colour: '1', dash: [6, 3] }] },
  { title: 'Memory', unit: '', format: bytes, binary: true,
    lines: [{ key: 'machine_memory_bytes', label: 'machine', colour: '3', filled: true }, { key: 'memory_bytes', label: 'node', colour: '1', dash: [6, 3] }] },
];

export default function Overview() {
  const live = useUpdates();
  if (!live.ready) return html`<${Loading} what="its state" />`;
  const { node, problems, figures: { node: f } } = live;
  return html`
    <${PageHead} name=${'Node ' + (node?.id ?? '')} state=${node?.draining ? 'DRAINING' : undefined} actions=${html`<${DeployFile} />`} />
    <${Problems} problems=${problems} live=${live} />
    <${Panel} title="Now" note="rates of the last 5 to 10 s, latencies of the last minute">
      <${Figures} of=${[
        { label: 'Requests', value: rate(f.rate) },
        { label: 'Errors', value: rate(f.error_rate), tone: f.error_rate ? 'bad' : undefined, title: 'Requests that were answered with a status of 500 or more' },
        { label: 'p50', value: ms(f.p50_ms) }, { label: 'p90', value: ms(f.p90_ms) }, { label: 'p99', value: ms(f.p99_ms) },
        { label: 'Under way', value: count(f.running), title: 'Requests that are not answered yet' },
        { label: 'Node CPU', value: cpu(f.cpu_percent), title: 'Of the process of the node: 100 % is one processor' },
        { label: 'Node memory', value: bytes(f.memory_bytes) },
        { label: 'Machine CPU', value: cpu(f.machine_cpu_percent), title: 'Of all processors of the machine' },
        { label: 'Machine memory', value: bytes(f.machine_memory_bytes), note: node?.machine?.memory_bytes ? 'of ' + bytes(node.machine.memory_bytes) : '' },
      ]} />
    </>
    <${Applications} live=${live} />
    <${Panel} title="The last hour"><${Charts} object=${{}} group="node" charts=${charts} /></>
    <div class="columns"><${NodePanel} node=${node} figures=${f} /><${Events} /></div>`;
}

const known = (/** @type {any} */ n) => typeof n === 'number';

/** @param {number|null|undefined} p percent */
const cpu = (p) => (p === null || p === undefined ? unknown : number(p) + ' %');

/** @param {{problems: any, live: import('../updates.js').Live}} props */
function Problems({ problems, live }) {
  const [all, setAll] = useState(false);
  const troubles = problems?.troubles ?? [];
  if (troubles.length === 0) return html`<p class="well"><${Sign} tone="good" /> ${problems?.sentence ?? ''}</p>`;
  const shown = all ? troubles : troubles.slice(0, mostTroubles);
  return html`<${Panel} title="What is wrong" note=${problems.sentence} tone="bad" flush>
    <ol class="troubles">${shown.map((/** @type {any} */ t) => {
      const app = live.applications.get(t.object.app);
      return html`<li key=${t.object.app}><div class="trouble-head">${link.object(t.object) ? html`<a class="cut" href=${link.object(t.object)} title=${t.object.app}>${t.object.app}</a>` : html`<span>${t.object.kind}</span>`}${app && html`<${State} state=${app.status} />`}</div>
        <p>${local(t.sentence)}</p><${Next} text=${t.next} /></li>`;
    })}</ol>
    ${troubles.length > shown.length && html`<p class="more"><button onClick=${() => setAll(true)}>${plural(troubles.length - shown.length, 'more application')}</button></p>`}
  </>`;
}

/** @param {{live: import('../updates.js').Live}} props */
function Applications({ live }) {
  const [query, setQuery] = useQuery();
  const text = (query.q ?? '').toLowerCase();
  const rank = new Map((live.problems?.troubles ?? []).map((/** @type {any} */ t, /** @type {number} */ i) => [t.object.app, i]));
  const place = (/** @type {any} */ a) => rank.get(a.name) ?? Infinity;
  const all = [...live.applications.values()];
  const rows = all.filter((a) => a.name.toLowerCase().includes(text) || (a.route_prefix ?? '').toLowerCase().includes(text))
    .sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b)) || a.name.localeCompare(b.name, undefined, { numeric: true }));
  if (all.length === 0) {
    return html`<${Panel} title="Applications"><${Empty} title="The node is empty">
      <p>Deploy a program, and it is here:</p><p><code>helve deploy app:app --name shop</code></p><p>or the button <b>Deploy a file</b> above, with a token of the role deploy.</p></></>`;
  }
  const figure = (/** @type {any} */ a, /** @type {string} */ name) => live.figures.applications.get(a.name)?.[name];
  const columns = [
    { name: 'name', title: 'Application', max: '30ch', value: (/** @type {any} */ a) => a.name, cell: (/** @type {any} */ a) => html`<a href=${link.application(a.name)} title=${a.name}>${a.name}</a>` },
    { name: 'state', title: 'State', value: (/** @type {any} */ a) => a.status, cell: (/** @type {any} */ a) => html`<${State} state=${a.status} note=${a.rollout && `rollout ${a.rollout.state}`} title=${a.message} />` },
    { name: 'replicas', title: 'Replicas', end: true, help: 'Replicas that take calls, of those that there should be', value: serving, cell: (/** @type {any} */ a) => of(serving(a), figure(a, 'wanted')) },
    { name: 'rate', title: 'Requests', end: true, value: (/** @type {any} */ a) => figure(a, 'rate'), cell: (/** @type {any} */ a) => rate(figure(a, 'rate')) },
    { name: 'errors', title: 'Errors', end: true, value: (/** @type {any} */ a) => figure(a, 'error_rate'), cell: (/** @type {any} */ a) => html`<span class=${figure(a, 'error_rate') ? 'bad' : ''}>${rate(figure(a, 'error_rate'))}</span>` },
    { name: 'p50', title: 'p50', end: true, phone: false, value: (/** @type {any} */ a) => figure(a, 'p50_ms'), cell: (/** @type {any} */ a) => ms(figure(a, 'p50_ms')) },
    { name: 'p99', title: 'p99', end: true, value: (/** @type {any} */ a) => figure(a, 'p99_ms'), cell: (/** @type {any} */ a) => ms(figure(a, 'p99_ms')) },
    { name: 'running', title: 'Under way', end: true, phone: false, value: (/** @type {any} */ a) => figure(a, 'running'), cell: (/** @type {any} */ a) => count(figure(a, 'running')) },
    { name: 'memory', title: 'Memory', end: true, phone: false, help: 'Of the processes of its replicas', value: (/** @type {any} */ a) => figure(a, 'memory_bytes'), cell: (/** @type {any} */ a) => bytes(figure(a, 'memory_bytes')) },
    { name: 'route', title: 'Route', phone: false, max: '18ch', value: (/** @type {any} */ a) => a.route_prefix, cell: (/** @type {any} */ a) => (a.route_prefix ? html`<code>${a.route_prefix}</code>` : html`<span class="muted">no HTTP</span>`) },
    { name: 'revision', title: 'Revision', end: true, phone: false, value: (/** @type {any} */ a) => a.revision, cell: (/** @type {any} */ a) => a.revision || unknown },
    { name: 'deployed', title: 'Deployed', end: true, phone: false, value: (/** @type {any} */ a) => a.deployed_at, cell: (/** @type {any} */ a) => html`<${Ago} at=${a.deployed_at} />` },
  ];
  return html`<${Panel} title="Applications" note=${rows.length === all.length ? plural(all.length, 'application') : `${rows.length} of ${plural(all.length, 'application')}`} flush
      actions=${html`<input type="search" placeholder="Name or route" aria-label="Filter by name or route" value=${query.q ?? ''} onInput=${(/** @type {any} */ e) => setQuery({ q: e.target.value })} />`}>
    <${Table} title="Applications" rows=${rows} columns=${columns} id=${(/** @type {any} */ a) => a.name} empty="No application has this name or route." tone=${(/** @type {any} */ a) => (rank.has(a.name) ? (toneOf(a.status) === 'bad' ? 'bad' : 'warn') : undefined)} />
  </>`;
}

/** @param {number|null|undefined} ready @param {number|null|undefined} wanted */
const of = (ready, wanted) => html`<span class=${ready !== wanted ? 'warn' : ''}>${count(ready)}<span class="muted"> of ${count(wanted)}</span></span>`;

/** @param {{node: any, figures: import('../updates.js').Figures}} props */
function NodePanel({ node, figures }) {
  const machine = node?.machine ?? {};
  const gpus = machine.gpus ?? [];
  const resources = Object.entries(node?.resources ?? {});
  const amount = (/** @type {string} */ name, /** @type {number|undefined} */ n) => (n === undefined || n === null ? unknown : name === 'memory' ? bytes(n) : number(n));
  return html`<${Panel} title="Node and machine">
    <${Facts} of=${[
      ['version', node?.version], ['started', html`<${Ago} at=${node?.started_at} /> ago, process ${node?.pid}`],
      ['HTTP', (node?.urls ?? []).length > 0 ? node.urls.map((/** @type {string} */ u) => html`<code>${u}</code> `) : 'none'],
      ['state', node?.durable ? 'kept in a directory: applications outlive the node' : 'in memory: applications end with the node'],
      ['goroutines', figures.goroutines === undefined ? '' : count(figures.goroutines)],
      ['machine', [machine.system, machine.cpus && plural(machine.cpus, 'processor'), machine.memory_bytes && bytes(machine.memory_bytes)].filter(Boolean).join(', ')],
    ]} />
    ${gpus.length > 0 && html`<div class="scroll"><table class="plain" aria-label="GPUs"><thead><tr><th scope="col">GPU</th><th scope="col">kind</th><th scope="col" class="end">busy</th><th scope="col" class="end">memory</th></tr></thead>
      <tbody>${gpus.map((/** @type {any} */ g) => html`<tr key=${g.index}><td>${g.index}</td><td>${g.name}</td><td class="end">${cpu(g.busy_percent)}</td><td class="end">${bytes(g.memory_used_bytes)}${known(g.memory_used_bytes) && known(g.memory_free_bytes) && html` <span class="muted">of ${bytes(g.memory_used_bytes + g.memory_free_bytes)}</span>`}</td></tr>`)}</tbody></table></div>`}
    ${resources.length > 0 && html`<div class="scroll"><table class="plain" aria-label="Resources"><thead><tr><th scope="col">resource</th><th scope="col" class="end" title="The amount that the node gives out; – if none was stated, so that no replica waits">total</th><th scope="col" class="end">held by replicas</th><th scope="col" class="end">free</th></tr></thead>
      <tbody>${resources.map(([name, r]) => html`<tr key=${name}><td>${name}</td><td class="end">${amount(name, r.total)}</td><td class="end">${amount(name, r.held)}</td><td class="end">${amount(name, r.free)}</td></tr>`)}</tbody></table></div>`}
  </>`;
}

function Events() {
  const events = useGet('/api/v1/events', { limit: newestEvents }, { every: eventsEvery });
  return html`<${Panel} title="Newest events" actions=${html`<a href=${link.events()}>All events</a>`}>
    <${Answer} of=${events} what="the events">${(/** @type {any} */ d) => (d.events?.length > 0 ? html`<${EventList} events=${[...d.events].reverse()} whole />` : html`<p class="muted">Nothing has happened yet.</p>`)}</>
  </>`;
}
