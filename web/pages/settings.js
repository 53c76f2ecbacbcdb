// @ts-check
// Settings of the node: what is set, where it comes from, and the few that change while it runs.
import { html, useState } from '../vendor/preact/standalone.module.js';
import { useQuery } from '../router.js';
import { path, send, useGet, useSession } from '../api.js';
import { useUpdates } from '../updates.js';
import { Facts, PageHead, Panel } from '../ui/layout.js';
import { Answer, Failure } from '../ui/empty.js';
import { Action, notify } from '../ui/dialog.js';
import { Dialog } from '../ui/modal.js';
import { Table } from '../ui/table.js';
import { Tabs } from '../ui/tabs.js';
import { Ago, At } from '../ui/time.js';
import { bytes, count, date, percent, plural, seconds } from '../ui/format.js';

const settingsEvery = 5; // Seconds after which settings are asked again: a file or a command may change them.

export default function Settings() {
  return html`<${PageHead} name="Settings" /><${Tabs} tabs=${[
    { name: 'node', title: 'Node', body: () => html`<${Node} />` },
    { name: 'tracing', title: 'Tracing and profiles', body: () => html`<${Tracing} /><${Profiles} />` },
    { name: 'tokens', title: 'Tokens', body: () => html`<${Tokens} />` },
    { name: 'audit', title: 'Changes', body: () => html`<${Audit} />` },
  ]} />`;
}

function Node() {
  const answer = useGet('/api/v1/settings', {}, { every: settingsEvery });
  const { node } = useUpdates();
  return html`<${Answer} of=${answer} what="the settings">${(/** @type {any} */ s) => html`
    <div class="columns">
      <${Panel} title="HTTP" actions=${html`<${ChangeHTTP} now=${s} changed=${answer.reload} />`}><${Facts} of=${[
        ['listens on', s.http.urls?.length > 0 ? s.http.urls.join(', ') : 'nothing'],
        ['encrypted', s.http.options.tls ? 'yes, TLS' : 'no'],
        ['longest request', html`${s.http.options.request_timeout_s > 0 ? seconds(s.http.options.request_timeout_s) : 'no limit'}<${From} of=${s.http.set} name="request_timeout_s" />`],
        ['idle connection', html`${seconds(s.http.options.keep_alive_timeout_s)}<${From} of=${s.http.set} name="keep_alive_timeout_s" />`],
        ['path in front of routes', html`${s.http.options.root_path || 'none'}<${From} of=${s.http.set} name="root_path" />`],
        ['set by files and requests', Object.keys(s.http.set ?? {}).length > 0 ? html`<code class="whole">${JSON.stringify(s.http.set)}</code>` : 'nothing: all is as the node was started'],
      ]} /></>
      <${Panel} title="Store" tone=${s.store.failing ? 'bad' : undefined}><div class="stack tight">
        ${s.store.failing && html`<${Failure} error=${{ message: `The last write has failed: ${s.store.failing}` }} />`}
        <${Facts} of=${[
          ['kind', s.store.kind === 'memory' ? 'memory: nothing is left when the node ends' : s.store.kind], ['directory', s.store.dir && html`<code class="whole">${s.store.dir}</code>`],
          ['records', s.store.bytes ? bytes(s.store.bytes) : ''], ['writes since the start', s.store.kind === 'memory' ? '' : count(s.store.writes ?? 0)], ['syncs since the start', s.store.kind === 'memory' ? '' : count(s.store.syncs ?? 0)],
          ['generation', html`${s.generation} <span class="muted">rises with each change of the target</span>`],
        ]} /></div></>
      <${Panel} title="Admin interface"><${Facts} of=${[
        ['listens on', s.admin.urls?.length > 0 ? s.admin.urls.join(', ') : 'its unix socket alone'], ['encrypted', s.admin.tls ? 'yes, TLS' : 'no'],
        ['dashboard', s.admin.dashboard && html`<a href=${s.admin.dashboard}>${s.admin.dashboard}</a>`],
        ['tokens', s.admin.tokens ? 'yes' : 'none: requests over TCP only read'],
      ]} /></>
      <${Panel} title="Keeper" note="the process above a durable node, which starts it again">${s.keeper ? html`<${Facts} of=${[
        ['process', s.keeper.pid], ['nodes that it has started', count(s.keeper.starts)], ['end of the node before', s.keeper.last_end || 'none before'],
      ]} />` : html`<p class="muted">This node has no keeper: one with a state directory has.</p>`}</>
      <${Panel} title="Process and machine"><${Facts} of=${[
        ['version', s.node.version], ['process', s.node.pid], ['started', html`<${At} at=${s.node.started_at} />, <${Ago} at=${s.node.started_at} /> ago`],
        ['drains', node?.draining ? 'yes: it takes no new requests' : ''],
        ['machine', node?.machine ? `${node.machine.system}, ${plural(node.machine.cpus, 'CPU')}, ${bytes(node.machine.memory_bytes)}` : ''],
        ['logging of files', Object.keys(s.logging_set ?? {}).length === 0 ? '' : html`<code class="whole">${JSON.stringify(s.logging_set)}</code>`],
      ]} /></>
      <${Panel} title="Target capacity" actions=${html`<${ChangeCapacity} now=${s} changed=${answer.reload} />`}>
        <p>${s.target_capacity === null || s.target_capacity === undefined ? '100 % of all numbers of replicas run: no capacity is set.' : `${s.target_capacity} % of all numbers of replicas run.`}</p></>
    </div>`}</>`;
}

/** Where a value of http_options comes from. @param {{of: any, name: string}} props */
function From({ of, name }) {
  return html` <span class="muted">${of && name in of ? 'set' : 'as started'}</span>`;
}

/** A plan of settings in the form of other plans. @param {any} p */
const planOf = (p) => ({ settings: p.changes ?? [], warnings: p.warnings ?? [], generation: p.generation });

/** @param {any} outcome @param {string} text */
const said = (outcome, text) => [text, ...(outcome?.warnings ?? [])].join(' ');

/** The number of a field; null for an empty one, which the node takes as "as it was started". @param {any} text */
const numberOf = (text) => (String(text).trim() === '' ? null : Number(text));

/** @param {{now: any, changed: () => void}} props */
function ChangeHTTP({ now, changed }) {
  const o = now.http.options;
  const body = (/** @type {any} */ v) => {
    /** @type {Record<string, any>} */
    const set = {};
    if (numberOf(v.timeout) !== o.request_timeout_s) set.request_timeout_s = numberOf(v.timeout);
    if (numberOf(v.idle) !== o.keep_alive_timeout_s) set.keep_alive_timeout_s = numberOf(v.idle);
    if (v.root.trim() !== (o.root_path ?? '')) set.root_path = v.root.trim() === '' ? null : v.root.trim();
    return { http_options: set };
  };
  return html`<${Action} role="deploy" planRole="read" label="Change" verb="Change" title="Change the options of HTTP" says="They hold for the next requests; the node goes on serving."
    fields=${[
      { name: 'timeout', label: 'Longest time of a request, in seconds', type: 'number', step: 'any', min: 0, value: o.request_timeout_s, note: '0 for no limit; empty: as the node was started' },
      { name: 'idle', label: 'Longest time of a connection without a request, in seconds', type: 'number', step: 'any', min: 0, value: o.keep_alive_timeout_s, note: 'Empty: as the node was started' },
      { name: 'root', label: 'Path in front of all routes', value: o.root_path ?? '', note: 'Such as /serve, for a load balancer that gives the node that part of its paths. Empty: as the node was started' },
    ]}
    plan=${async (/** @type {any} */ v) => planOf(await send('PATCH', '/api/v1/settings/plan', body(v)))}
    run=${async (/** @type {any} */ v, /** @type {any} */ plan) => { const done = await send('PATCH', '/api/v1/settings', body(v), { ifMatch: plan.generation }); changed(); return done; }}
    done=${(/** @type {any} */ a) => said(a, 'The options of HTTP have changed.')} />`;
}

/** @param {{now: any, changed: () => void}} props */
function ChangeCapacity({ now, changed }) {
  const body = (/** @type {any} */ v) => ({ target_capacity: numberOf(v.percent) });
  return html`<${Action} role="deploy" planRole="read" label="Change" verb="Change" title="Change the target capacity"
    says="The part of all numbers of replicas that runs on this node. Two nodes share the load while one takes over from the other; 0 stops all replicas, and calls wait."
    fields=${[{ name: 'percent', label: 'Percent', type: 'number', step: 'any', min: 0, max: 100, value: now.target_capacity ?? '', note: 'Empty for 100' }]}
    plan=${async (/** @type {any} */ v) => planOf(await send('PATCH', '/api/v1/settings/plan', body(v)))}
    run=${async (/** @type {any} */ v, /** @type {any} */ plan) => { const done = await send('PATCH', '/api/v1/settings', body(v), { ifMatch: plan.generation }); changed(); return done; }}
    done=${(/** @type {any} */ a) => said(a, 'The target capacity has changed.')} />`;
}

/** A form whose text stays when the node refuses it. @param {{label: string, role: import('../api.js').Role, fields: any, run: () => Promise<any>, ok?: boolean}} props */
function Form({ label, role, fields, run, ok = true }) {
  const { may } = useSession();
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const submit = async (/** @type {Event} */ e) => {
    e.preventDefault();
    setBusy(true);
    setError(null);
    try { await run(); } catch (failure) { setError(failure); }
    setBusy(false);
  };
  return html`<form class="stack tight" onSubmit=${submit}><div class="setting">${fields}<button class="primary" disabled=${busy || !ok || !may(role)} title=${may(role) ? undefined : `Needs a token with the role ${role}`}>${busy ? 'Asks the node …' : label}</button></div>
    ${error && html`<${Failure} error=${error} />`}</form>`;
}

function Tracing() {
  const answer = useGet('/api/v1/tracing', {}, { every: 5 });
  return html`<${Panel} title="Tracing"><${Answer} of=${answer} what="the tracing">${(/** @type {any} */ t) => html`<div class="stack">
    <${Facts} of=${[
      ['sampled', `${percent(t.sampling_ratio)} of the requests`], ['slow', t.slow_request_s > 0 ? `from ${seconds(t.slow_request_s)} on` : 'no request counts as slow'],
      ['receiver', t.otlp_endpoint ? html`<code class="whole">${t.otlp_endpoint}</code>` : 'none: sampled requests stay in the node for some minutes'],
      ['spans', `${count(t.spans_sent)} sent, ${count(t.spans_dropped)} dropped`],
    ]} />
    <${TracingForm} key=${t.sampling_ratio + ' ' + t.slow_request_s} now=${t} changed=${answer.reload} /></div>`}</></>`;
}

/** @param {{now: any, changed: () => void}} props */
function TracingForm({ now, changed }) {
  const [ratio, setRatio] = useState(String(now.sampling_ratio));
  const [slow, setSlow] = useState(String(now.slow_request_s));
  const number = (/** @type {string} */ text) => (text.trim() === '' ? NaN : Number(text));
  const run = async () => {
    /** @type {Record<string, number>} */
    const change = {};
    if (number(ratio) !== now.sampling_ratio) change.sampling_ratio = number(ratio);
    if (number(slow) !== now.slow_request_s) change.slow_request_s = number(slow);
    await send('PATCH', '/api/v1/tracing', change);
    notify('The tracing has changed: the next request has it.');
    changed();
  };
  const same = number(ratio) === now.sampling_ratio && number(slow) === now.slow_request_s;
  const ok = Number.isFinite(number(ratio)) && Number.isFinite(number(slow)) && !same;
  return html`<${Form} label="Change" role="operate" run=${run} ok=${ok} fields=${html`
      <label>Sampled part, 0 to 1 <input type="number" step="any" min="0" max="1" value=${ratio} onInput=${(/** @type {any} */ e) => setRatio(e.target.value)} /></label>
      <label>Slow from, in seconds; 0 for never <input type="number" step="any" min="0" value=${slow} onInput=${(/** @type {any} */ e) => setSlow(e.target.value)} /></label>`} />
    <div class="buttons"><${Action} role="operate" label="Back to the start" title="Put tracing back?" says="Changes by commands, files and this page are dropped: the node has the tracing that it was started with."
      run=${async () => { await send('PATCH', '/api/v1/tracing', { reset: true }); changed(); }} done="The tracing is that of the start of the node." /></div>`;
}

function Profiles() {
  const { may } = useSession();
  const answer = useGet('/api/v1/profiles', {}, { every: 10 });
  return html`<${Panel} title="Continuous profiles" note="short profiles of all replicas, again and again"><${Answer} of=${answer} what="the profiles">${(/** @type {any} */ p) => html`<div class="stack">
    <p>${p.continuous ? html`On${p.since && html` since <${At} at=${p.since} />`}: ${plural(p.profiles, 'profile')}, ${bytes(p.bytes)}.` : 'Off.'}</p>
    <div class="buttons"><${Action} key=${p.continuous} role="operate" disabled=${!may('operate')} label=${p.continuous ? 'Turn off' : 'Turn on'} title=${p.continuous ? 'Turn continuous profiles off?' : 'Turn continuous profiles on?'}
      says=${p.continuous ? 'The profiles that were taken are dropped.' : 'The node takes a short profile of each process from time to time. It costs a small part of a processor.'}
      run=${async () => { await send('PUT', '/api/v1/profiles', { continuous: !p.continuous }); answer.reload(); }} done=${p.continuous ? 'Continuous profiles are off.' : 'Continuous profiles are on.'} /></div></div>`}</></>`;
}

function Tokens() {
  const { may, name: mine } = useSession();
  const allowed = may('deploy');
  const answer = useGet(allowed ? '/api/v1/tokens' : null);
  const [made, setMade] = useState(/** @type {any} */ (null));
  if (!allowed) return html`<${Panel} title="Tokens"><p class="muted">A token with the role deploy lists tokens, and makes and removes them.</p></>`;
  const make = html`<${Action} role="deploy" label="New token" title="Make a token" says="Its text is shown once, and never again."
    fields=${[{ name: 'name', label: 'Name', note: 'The list of changes shows it.' }, { name: 'role', label: 'Role', options: ['read', 'operate', 'deploy'], value: 'read', note: 'read: see all; operate: also scale, restart, pause, roll back; deploy: also deploy, delete and make tokens' }]}
    run=${async (/** @type {any} */ v) => { setMade(await send('POST', '/api/v1/tokens', { name: v.name, role: v.role })); answer.reload(); }} done="The token is made." />`;
  return html`<${Panel} title="Tokens" flush actions=${make}><${Answer} of=${answer} what="the tokens">${(/** @type {any} */ { tokens }) => html`<${Table} title="Tokens" rows=${tokens} id=${(/** @type {any} */ t) => t.name} sort="tokens" columns=${[
      { name: 'name', title: 'Name', value: (/** @type {any} */ t) => t.name, cell: (/** @type {any} */ t) => html`${t.name}${t.name === mine && html` <span class="muted">(this page)</span>`}` },
      { name: 'role', title: 'Role', value: (/** @type {any} */ t) => t.role },
      { name: 'created', title: 'Made', value: (/** @type {any} */ t) => Date.parse(t.created_at), cell: (/** @type {any} */ t) => date(t.created_at), phone: false },
      { name: 'actions', title: 'Actions', end: true, cell: (/** @type {any} */ t) => html`<${Action} role="deploy" danger label="Remove" title=${`Remove the token ${t.name}?`} says=${`Each request with it is refused from then on.${t.name === mine ? ' This page uses it.' : ''}`}
        run=${async () => { await send('DELETE', path`/api/v1/tokens/${t.name}`); answer.reload(); }} done=${`The token ${t.name} is removed.`} />` },
    ]} />`}</></>
    <${Dialog} open=${made !== null} title=${`The token ${made?.name ?? ''}`} onClose=${() => setMade(null)}><div class="stack tight"><p>Copy it now: it is shown nowhere else, and never again.</p>
      <pre class="secret" tabindex="0" aria-label="Token">${made?.token ?? ''}</pre>
      <div class="buttons"><button class="primary" onClick=${() => navigator.clipboard?.writeText(made.token).then(() => notify('The token is copied.'), () => {})}>Copy</button><button onClick=${() => setMade(null)}>Close</button></div></div></>`;
}

const auditEntries = 500;

function Audit() {
  const [query, setQuery] = useQuery();
  const answer = useGet('/api/v1/audit', { limit: auditEntries }, { every: 5 });
  const refused = query.refused === '1';
  return html`<${Panel} title="Who has changed what" note="and which requests were refused; the newest first" flush
      actions=${html`<button aria-pressed=${refused} onClick=${() => setQuery({ refused: refused ? null : '1' })}>Refused or failed alone</button>`}><${Answer} of=${answer} what="the list of changes">${(/** @type {any} */ { entries }) => html`<${Table} title="Changes" sort="audit" focus empty="No change yet."
      rows=${[...entries].reverse().filter((/** @type {any} */ e) => !refused || e.error)} id=${(/** @type {any} */ e) => e.at + e.operation + e.object} tone=${(/** @type {any} */ e) => (e.error ? 'warn' : '')} columns=${[
      { name: 'at', title: 'Time', cell: (/** @type {any} */ e) => html`<${At} at=${e.at} />` },
      { name: 'author', title: 'Author', cell: (/** @type {any} */ e) => html`<span title=${[e.author.via, e.author.address].filter(Boolean).join(', ')}>${e.author.name}${e.author.role && html` <span class="muted">${e.author.role}</span>`}</span>` },
      { name: 'operation', title: 'Operation', cell: (/** @type {any} */ e) => e.operation },
      { name: 'object', title: 'Object', cell: (/** @type {any} */ e) => html`<span title=${e.object}>${e.object}</span>` },
      { name: 'detail', title: 'Detail', cell: (/** @type {any} */ e) => html`<span title=${e.error || e.detail}>${e.error ? html`<span class="bad">${e.error}</span>` : e.detail}</span>` },
    ]} />`}</></>`;
}
