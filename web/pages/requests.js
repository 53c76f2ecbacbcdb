// @ts-check
// Requests: the calls that wait and run now, and the requests that the node keeps because they have failed, were slow or are sampled.
import { html, useMemo, useState } from '../vendor/preact/standalone.module.js';
import { link, navigate, useQuery } from '../router.js';
import { useGet } from '../api.js';
import { PageHead, Panel } from '../ui/layout.js';
import { Answer } from '../ui/empty.js';
import { State } from '../ui/state.js';
import { Table } from '../ui/table.js';
import { Ago } from '../ui/time.js';
import { clock, count, date, ms, plural, zone } from '../ui/format.js';
import { ObjectFilters, SelectFilter, TextFilter } from './logs.js';
import { failures, tree, waits } from './calls.js';

/**
 * @typedef {import('./calls.js').Call} Call
 * @typedef {import('./calls.js').CallRow} CallRow
 * @typedef {Omit<import('./waterfall.js').Trace, 'spans'|'sentence'>} KeptRequest
 */

const mostCalls = 200; // Calls that the page asks for.
const mostRequests = 200; // Kept requests that the page asks for.
const callsEvery = 2, requestsEvery = 5; // Seconds.
const mostWaits = 5; // Reasons of waits above the table.
const mostFailures = 4; // Groups of failures above the table.

export default function Requests() {
  const [query] = useQuery();
  return html`<${PageHead} name="Requests" actions=${html`<${Find} />`} />
    <form class="filters" role="search" aria-label="Filter" onSubmit=${(/** @type {Event} */ e) => e.preventDefault()}><${ObjectFilters} /></form>
    <${Now} app=${query.app} deployment=${query.deployment} state=${query.state} />
    <${Kept} app=${query.app} deployment=${query.deployment} />`;
}

/** The field for the id of a request. */
function Find() {
  const [id, setID] = useState('');
  const go = (/** @type {Event} */ e) => { e.preventDefault(); if (id.trim()) navigate(link.request(id.trim())); };
  return html`<form class="find" onSubmit=${go}><input type="search" value=${id} onInput=${(/** @type {any} */ e) => setID(e.target.value)} placeholder="Request id (X-Request-ID)" aria-label="Request id" size="38" spellcheck=${false} autocomplete="off" />
    <button disabled=${id.trim() === ''}>Open</button></form>`;
}

/** The name of what is called, as a link. @param {{of: {app: string, deployment?: string, method?: string}}} props */
function Place({ of }) {
  const text = [of.app, of.deployment].filter(Boolean).join('/') + (of.method ? '.' + of.method : '');
  const to = of.app && of.deployment ? link.deployment(of.app, of.deployment) : of.app ? link.application(of.app) : '';
  return html`<span class="object" title=${text}>${to ? html`<a href=${to}>${of.deployment ?? of.app}${of.method ? '.' + of.method : ''}</a>${of.deployment && html` <span class="muted">${of.app}</span>`}` : text || '–'}</span>`;
}

const callColumns = [
  { name: 'age', title: 'For', cell: (/** @type {CallRow} */ { call }) => html`<${Ago} at=${call.since} />`, end: true, width: '70px', help: 'How long it waits or runs' },
  { name: 'state', title: 'State', cell: (/** @type {CallRow} */ { call }) => html`<${State} state=${call.state} tone=${call.state === 'waiting' ? 'warn' : 'busy'} note=${call.stream ? 'stream' : ''} />` },
  { name: 'call', title: 'Call', cell: (/** @type {CallRow} */ { call, depth }) => html`<span style=${{ paddingLeft: Math.min(depth, 8) * 16 + 'px' }}>${depth > 0 && html`<span class="muted" aria-hidden="true">└ </span>`}<${Place} of=${call} /></span>` },
  { name: 'replica', title: 'Replica', cell: (/** @type {CallRow} */ { call }) => (call.replica ? html`<a href=${link.replica(call.app, call.deployment, call.replica)}>${call.replica}</a>` : html`<span class="muted">none yet</span>`), phone: false },
  { name: 'waits', title: 'Waits for', cell: (/** @type {CallRow} */ { call }) => html`<${WaitsFor} of=${call} />` },
  { name: 'request', title: 'Request', cell: (/** @type {CallRow} */ { call, depth }) => (depth === 0 ? html`<a href=${link.request(call.request_id)} title=${call.request_id}><code>${call.request_id}</code></a>` : ''), phone: false },
];

/** @param {{of: Call}} props */
function WaitsFor({ of: c }) {
  const parts = [];
  if (c.waits_for) parts.push(html`<span>${c.waits_for}${c.origin && c.state === 'waiting' && html`<span class="muted">, in the queue of ${c.origin}</span>`}</span>`);
  if (c.unread_since) parts.push(html`<span class="warn">its reader, for <${Ago} at=${c.unread_since} /></span>`);
  if (c.caller_ended) parts.push(html`<span class="warn">its caller has ended</span>`);
  return parts.length === 0 ? html`<span class="muted">–</span>` : html`<span title=${c.waits_for}>${parts.map((p, i) => html`${i > 0 && '; '}${p}`)}</span>`;
}

/** @param {{app?: string, deployment?: string, state?: string}} props */
function Now({ app, deployment, state }) {
  const answer = useGet('/api/v1/calls', { app, deployment: app ? deployment : undefined, limit: mostCalls }, { every: callsEvery });
  const calls = /** @type {Call[]} */ (answer.data?.calls ?? []);
  const waiting = useMemo(() => calls.filter((c) => c.state === 'waiting').length, [answer.data]);
  const rows = useMemo(() => (state ? calls.filter((c) => c.state === state).map((call) => ({ call, depth: 0 })) : tree(calls)), [answer.data, state]);
  const reasons = useMemo(() => waits(calls), [answer.data]);
  const unlisted = answer.data?.unlisted ?? 0;
  const note = calls.length > 0 && `${unlisted > 0 ? `of the ${count(calls.length)} oldest ` : ''}${count(waiting)} ${waiting === 1 ? 'waits' : 'wait'}, ${count(calls.length - waiting)} ${calls.length - waiting === 1 ? 'runs' : 'run'}${unlisted > 0 ? `; ${count(unlisted)} others are not listed` : ', the oldest first'}`;
  return html`<${Panel} title="Calls that wait and run now" note=${note} flush actions=${html`<${StateChoice} />`}>
    <${Answer} of=${answer} what="the calls">${() => html`
      ${reasons.length > 0 && html`<ul class="waits">${reasons.slice(0, mostWaits).map((w) => html`<li key=${w.what}><b>${plural(w.count, 'call')}</b> ${w.count === 1 ? 'waits' : 'wait'} for ${w.what}; the oldest for <b><${Ago} at=${w.oldest.since} /></b>: <a href=${link.request(w.oldest.request_id)}>its request</a></li>`)}
        ${reasons.length > mostWaits && html`<li class="muted">and ${count(reasons.length - mostWaits)} other reasons</li>`}</ul>`}
      <${Table} title="Calls that wait and run now" rows=${rows} columns=${callColumns} id=${(/** @type {CallRow} */ r) => r.call.id} sort="calls" tone=${(/** @type {CallRow} */ r) => (r.call.state === 'waiting' ? 'warn' : '')}
        empty=${state ? `No call is ${state}.` : 'No call waits or runs.'} />`}</>
  </>`;
}

function StateChoice() {
  const [query, setQuery] = useQuery();
  return html`<div class="choice" role="group" aria-label="State of the calls">${[['', 'All'], ['waiting', 'Waiting'], ['running', 'Running']].map(([v, text]) => html`<button key=${v} aria-pressed=${(query.state ?? '') === v} onClick=${() => setQuery({ state: v })}>${text}</button>`)}</div>`;
}

/** Why the node keeps a request. @param {{of: KeptRequest, slowFrom: number}} props */
function Why({ of: r, slowFrom }) {
  const text = r.kept === 'slow' && r.duration_ms < slowFrom ? 'slowest of its route' : r.kept ?? '';
  const tone = r.kept === 'failed' ? 'bad' : r.kept === 'slow' && r.duration_ms >= slowFrom ? 'warn' : 'idle';
  return html`<${State} state=${text} tone=${tone} note=${r.sampled && r.kept !== 'sampled' ? 'sampled' : ''} />`;
}

/** @param {{app?: string, deployment?: string}} props */
function Kept({ app, deployment }) {
  const [query, setQuery] = useQuery();
  const { kept, status, longer } = query;
  const [paused, setPaused] = useState(/** @type {any} */ (null));
  const wrong = longer !== undefined && !/^\d+$/.test(longer);
  const answer = useGet('/api/v1/requests', { app, kept, status: /^\d+$/.test(status ?? '') ? status : undefined, longer_than_ms: wrong ? undefined : longer, limit: mostRequests }, { every: paused ? 0 : requestsEvery });
  const shown = paused ? { ...answer, data: paused } : answer;
  const list = /** @type {KeptRequest[]} */ (shown.data?.requests ?? []);
  const rows = useMemo(() => (app && deployment ? list.filter((r) => r.deployment === deployment) : list), [shown.data, app, deployment]);
  const groups = useMemo(() => failures(rows), [rows]);
  const slowFrom = shown.data?.slow_from_ms ?? 0;
  const columns = useMemo(() => [
    { name: 'started', title: 'Time', value: (/** @type {KeptRequest} */ r) => Date.parse(r.started), cell: (/** @type {KeptRequest} */ r) => html`<a href=${link.request(r.request_id)} title=${`${date(r.started)} (${zone()})`}><time dateTime=${r.started}>${clock(r.started, true)}</time></a>` },
    { name: 'took', title: 'Took', value: (/** @type {KeptRequest} */ r) => r.duration_ms, cell: (/** @type {KeptRequest} */ r) => ms(r.duration_ms), end: true },
    { name: 'status', title: 'Status', value: (/** @type {KeptRequest} */ r) => r.status ?? null, cell: (/** @type {KeptRequest} */ r) => (r.status ? html`<span class=${r.kept === 'failed' ? 'bad' : ''}>${r.status}</span>` : html`<span class="muted">–</span>`), end: true },
    { name: 'to', title: 'To', value: (/** @type {KeptRequest} */ r) => `${r.app}/${r.deployment ?? ''}.${r.method ?? ''}`, cell: (/** @type {KeptRequest} */ r) => (r.kind === 'span' ? html`<span title="A span of a program">${r.name}</span>` : html`<${Place} of=${r} />`) },
    { name: 'why', title: 'Kept because', value: (/** @type {KeptRequest} */ r) => r.kept ?? '', cell: (/** @type {KeptRequest} */ r) => html`<${Why} of=${r} slowFrom=${slowFrom} />`, phone: false },
    { name: 'failure', title: 'Failure', cell: (/** @type {KeptRequest} */ r) => (r.reason ? html`<span title=${r.message}>${r.reason}${r.failed_at && html` <span class="muted">at</span> ${r.failed_at}`}${r.message && html`<span class="muted">: ${r.message}</span>`}</span>` : html`<span class="muted">–</span>`) },
    { name: 'id', title: 'Request', cell: (/** @type {KeptRequest} */ r) => html`<a href=${link.request(r.request_id)} title=${r.request_id}><code>${r.request_id}</code></a>`, phone: false },
  ], [slowFrom]);
  const dropped = (shown.data?.dropped_failed ?? 0) + (shown.data?.dropped_slow ?? 0);
  const filtered = kept || status || longer;
  return html`<${Panel} title="Requests that have failed or were slow" flush
      note=${shown.data && `${count(rows.length)}${list.length >= mostRequests ? ', the newest' : ''}${slowFrom > 0 ? `; slow is from ${ms(slowFrom)} on` : ''}${dropped > 0 ? `; ${count(dropped)} more were too many to keep` : ''}`}
      actions=${html`<button aria-pressed=${paused !== null} disabled=${!answer.data} onClick=${() => setPaused(paused ? null : answer.data)}>${paused ? 'Go on' : 'Pause'}</button>`}>
    <form class="filters in-panel" aria-label="Filter of kept requests" onSubmit=${(/** @type {Event} */ e) => e.preventDefault()}>
      <${SelectFilter} name="kept" label="Kept because" options=${[['', 'any reason'], ['failed', 'failed'], ['slow', 'slow'], ['sampled', 'sampled']]} />
      <${TextFilter} name="status" label="Status" type="text" placeholder="such as 500" />
      <${TextFilter} name="longer" label="Longer than (ms)" type="text" placeholder="0" />
      ${wrong && html`<span class="bad" role="alert">Milliseconds are a whole number.</span>`}
      ${filtered && html`<button type="button" onClick=${() => setQuery({ kept: null, status: null, longer: null })}>Clear</button>`}
    </form>
    <${Answer} of=${shown} what="the requests">${() => html`
      ${groups.length > 0 && html`<ul class="waits failures">${groups.slice(0, mostFailures).map((g) => html`<li key=${g.newest.request_id}><b>${plural(g.count, 'request')}</b> failed: ${g.reason}${g.at && html` at <b>${g.at}</b>`}${g.newest.message && html`: ${g.newest.message.split('\n')[0]}`} <a href=${link.request(g.newest.request_id)}>the newest of them</a></li>`)}
        ${groups.length > mostFailures && html`<li class="muted">and ${count(groups.length - mostFailures)} other failures</li>`}</ul>`}
      <${Table} title="Requests that have failed or were slow" rows=${rows} columns=${columns} id=${(/** @type {KeptRequest} */ r) => r.request_id + r.started} sort="sort" first="-started" tone=${(/** @type {KeptRequest} */ r) => (r.kept === 'failed' ? 'bad' : r.kept === 'slow' && r.duration_ms >= slowFrom ? 'warn' : '')}
      empty=${filtered || app ? 'The node keeps no request like this.' : 'The node keeps no request: those that fail, are slow or are sampled stay for some minutes.'} />`}</>
  </>`;
}
