// @ts-check
// One application: its graph with load, its rollout, its deployments, its revisions and options, and the buttons to act.
import { html, useEffect, useMemo, useState } from '../vendor/preact/standalone.module.js';
import { get, path, send, useGet } from '../api.js';
import { link } from '../router.js';
import { useUpdates } from '../updates.js';
import { Code } from '../ui/code.js';
import { Action } from '../ui/dialog.js';
import { Answer, Empty, Loading } from '../ui/empty.js';
import { bytes, count, local, ms, number, percent, plural, rate, unknown, value } from '../ui/format.js';
import { useKeys } from '../ui/keys.js';
import { Figures, PageHead, Panel } from '../ui/layout.js';
import { State, Sign, toneOf } from '../ui/state.js';
import { Table } from '../ui/table.js';
import { Tabs } from '../ui/tabs.js';
import { Ago, At } from '../ui/time.js';
import { EventList, Why } from '../ui/why.js';
import { Charts } from './charts.js';
import { ChangeApplication } from './deploy.js';
import { Graph } from './graphview.js';
import { serving } from './parts.js';

const eventsOfTab = 100;
const eventsEvery = 5; // Seconds.

/** @type {import('./charts.js').ChartOf[]} */
const charts = [
  { title: 'Requests', unit: 'requests/s', format: number, empty: 'No request in this time',
    lines: [{ key: 'rate', label: 'answered', filled: true }, { key: 'error_rate', label: 'failed', colour: 'bad', dash: [5, 3] }] },
  { title: 'Time of a request', unit: 'in each step', p99: true, format: ms, empty: 'No request in this time',
    lines: [{ key: 'p50_ms', label: 'p50', colour: '4' }, { key: 'p90_ms', label: 'p90', colour: '2', dash: [6, 3] }, { key: 'p99_ms', label: 'p99', colour: '3', dash: [2, 2] }] },
];

/** @param {{params: import('../router.js').View['params']}} props */
export default function Application({ params }) {
  const name = /** @type {string} */ (params.app);
  const live = useUpdates({ app: name });
  const app = live.applications.get(name);
  if (!live.ready) return html`<${Loading} what="the application" />`;
  if (!app) {
    return html`<${PageHead} kind="application" name=${name} /><${Empty} title="The node has no application of this name">
      It may have been deleted. <a href=${link.events({ app: name })}>Its events</a>, <a href=${link.overview()}>all applications</a></>`;
  }
  const f = live.figures.applications.get(name) ?? {};
  return html`
    <${PageHead} kind="application" name=${name} state=${app.status} note=${app.rollout && `rollout ${app.rollout.state}`} actions=${html`<${Actions} app=${app} />`}>
      <${Origin} app=${app} node=${live.node} />
    </>
    ${app.rollout && html`<${Rollout} app=${app} />`}
    <${Trouble} app=${app} problems=${live.problems} />
    <${Panel} title="Now" note="rates of the last 5 to 10 s, latencies of the last minute">
      <${Figures} of=${[
        { label: app.route_prefix ? 'Requests' : 'Calls from outside', value: rate(f.rate) },
        { label: 'Errors', value: rate(f.error_rate), tone: f.error_rate ? 'bad' : undefined, note: f.error_rate && f.rate ? percent(f.error_rate / f.rate) : '' },
        { label: 'p50', value: ms(f.p50_ms) }, { label: 'p90', value: ms(f.p90_ms) }, { label: 'p99', value: ms(f.p99_ms) },
        { label: 'Under way', value: count(f.running), title: 'Requests that are not answered yet' },
        { label: 'Replicas', value: count(serving(app)), note: 'of ' + count(f.wanted), tone: serving(app) === f.wanted ? undefined : 'warn', title: 'Replicas that take calls, of those that there should be' },
      ]} />
    </>
    <${Tabs} tabs=${[
      { name: 'graph', title: 'Graph and deployments', body: () => html`<div class="stack tab-body"><${GraphPanel} app=${app} live=${live} /><${Deployments} app=${app} live=${live} />
        <${Panel} title="The last hour"><${Charts} object=${{ app: name }} group="application" charts=${charts} /></></div>` },
      { name: 'revisions', title: 'Revisions', body: () => html`<${Revisions} app=${app} />` },
      { name: 'options', title: 'Options', body: () => html`<${Options} app=${app} />` },
      { name: 'events', title: 'Events', body: () => html`<${Events} app=${name} />` },
    ]} />`;
}

/** Where the application came from and where it is. @param {{app: any, node: any}} props */
function Origin({ app, node }) {
  const history = useGet(path`/api/v1/applications/${app.name}/history`);
  useEffect(() => { if (history.data) history.reload(); }, [app.revision]);
  const now = history.data?.revisions?.find((/** @type {any} */ r) => r.number === app.revision);
  const url = node?.urls?.[0];
  return html`${app.route_prefix ? html`Route ${url?.startsWith('http') ? html`<a href=${url + app.route_prefix} target="_blank" rel="noreferrer">${app.route_prefix}</a>` : html`<code>${app.route_prefix}</code>`}` : 'No route over HTTP'}${
    app.revision > 0 && html` · revision ${app.revision}`} · deployed <${Ago} at=${app.deployed_at} /> ago${now?.rollback_of > 0 && `, as a rollback to revision ${now.rollback_of},`}${now?.by && ` by ${now.by}`}${now?.from && html` from <span class="origin">${now.from}</span>`}${now?.message && `: ${now.message}`}`;
}

/** @param {{app: any}} props */
function Actions({ app }) {
  const at = path`/api/v1/applications/${app.name}`;
  const going = app.rollout;
  return html`
    ${going && (going.state === 'paused' || going.state === 'waiting') && html`<${Resume} app=${app} />`}
    ${going && going.state !== 'paused' && going.state !== 'watching' && html`<${Pause} app=${app} />`}
    <${RollBack} app=${app} />
    <${Action} role="operate" label="Restart" title=${`Restart ${app.name}?`} says="All replicas of all its deployments are replaced, within the budgets of rollouts: calls go on meanwhile. The revision stays." run=${() => send('POST', at + '/restart')} done="The restart has begun." />
    <${ChangeApplication} app=${app.name} revision=${app.revision} />
    <${Action} role="deploy" danger label="Delete" title=${`Delete ${app.name}?`} verb="Delete the application" says=${html`${app.route_prefix ? html`Requests to <code>${app.route_prefix}</code> get 404 from then on. ` : ''}Calls that run may end first; then all ${plural(app.deployments.length, 'deployment')} stop. The revisions are gone too: only another deploy brings the application back.`}
      run=${() => send('DELETE', at)} done=${`${app.name} is being deleted.`} />`;
}

const Pause = (/** @type {{app: any}} */ { app }) => html`<${Action} role="operate" label="Pause" title=${`Pause the rollout of ${app.name}?`} says="The rollout stops where it is: replicas of both revisions serve until it is resumed, rolled back, or another deploy comes."
  run=${() => send('POST', path`/api/v1/applications/${app.name}/pause`)} done="The rollout is paused." />`;

const Resume = (/** @type {{app: any}} */ { app }) => html`<${Action} role="operate" label="Resume" title=${`Go on with the rollout of ${app.name}?`} says=${local(app.rollout.message)}
  run=${() => send('POST', path`/api/v1/applications/${app.name}/resume`)} done="The rollout goes on." />`;

/** @param {{app: any, to?: number, label?: string}} props to: the revision; without it the one before */
function RollBack({ app, to, label = 'Roll back' }) {
  const at = path`/api/v1/applications/${app.name}`;
  return html`<${Action} role="operate" label=${label} wide title=${to ? `Roll ${app.name} back to revision ${to}?` : `Roll ${app.name} back?`} verb="Roll back"
    says=${to ? 'A new revision repeats that one. It has no steps, but keeps the budgets of rollouts: calls go on meanwhile.' : 'The revision that ran before is deployed again. It has no steps, but keeps the budgets of rollouts: calls go on meanwhile.'}
    plan=${() => get(at + '/plan', { revision: to })}
    run=${(/** @type {any} */ _, /** @type {any} */ plan) => send('POST', at + '/rollback', to ? { revision: to } : undefined, { ifMatch: plan.generation })}
    done=${(/** @type {any} */ o) => `The rollback is revision ${o?.revision ?? ''}.`} />`;
}

/** @param {{app: any}} props */
function Rollout({ app }) {
  const r = app.rollout;
  const windows = [['new', r.to, r.new], ['old', r.from, r.old]];
  return html`<${Panel} title=${`Rollout from revision ${r.from} to ${r.to}`} tone=${toneOf(r.state)} note=${html`since <${Ago} at=${r.started_at} />`}>
    <div class="stack">
      <div class="rollout-line"><${State} state=${r.state} note=${html`since <${Ago} at=${r.since} />`} />
        ${r.steps > 0 && html`<ol class="steps" aria-label=${`Step ${r.step || r.steps} of ${r.steps}`}>${Array.from({ length: r.steps }, (_, i) => {
          const done = r.step === 0 || r.step === undefined || i + 1 < r.step;
          const now = i + 1 === r.step;
          return html`<li key=${i} class=${done ? 'done' : now ? 'now' : ''} aria-current=${now ? 'step' : undefined}><${Sign} tone=${done ? 'good' : now ? toneOf(r.state) : 'idle'} /> step ${i + 1}</li>`;
        })}</ol>`}
      </div>
      <p>${local(r.message)}</p>
      ${(r.new?.calls > 0 || r.old?.calls > 0) && html`<div class="scroll"><table class="plain narrow" aria-label="Calls of the two revisions in the window of the error rate">
        <thead><tr><th scope="col">revision</th><th scope="col" class="end">calls</th><th scope="col" class="end">failed</th><th scope="col" class="end">part</th></tr></thead>
        <tbody>${windows.map(([word, number, w]) => html`<tr key=${word}><td>${number} (${word})</td><td class="end">${count(w.calls)}</td><td class=${'end' + (w.failures > 0 ? ' bad' : '')}>${count(w.failures)}</td><td class="end">${w.calls > 0 ? percent(w.failures / w.calls) : unknown}</td></tr>`)}</tbody></table></div>`}
      ${r.deadline && r.state === 'going' && html`<p class="muted">It is given up at <${At} at=${r.deadline} /> if no replica becomes ready before.</p>`}
    </div>
  </>`;
}

/** Why the application is as it is, if it is not well; a deploy that has changed nothing. @param {{app: any, problems: any}} props */
function Trouble({ app, problems }) {
  const [open, setOpen] = useState(false);
  useKeys([{ keys: 'w', says: 'Why is it as it is', run: () => setOpen(!open) }]);
  const trouble = problems?.troubles?.find((/** @type {any} */ t) => t.object.app === app.name);
  const failed = app.failed_deploy;
  return html`
    ${failed && html`<${Panel} title="The newest deploy has changed nothing" tone="bad" note=${html`<${At} at=${failed.at} />${failed.by && ` by ${failed.by}`}`}><${Code} text=${failed.error} label="The error of the deploy" /></>`}
    ${trouble || open ? html`<${Panel} title="Why" tone=${!trouble ? undefined : toneOf(app.status) === 'bad' ? 'bad' : 'warn'}><${Why} of=${[app.name]} changed=${app.status + (trouble?.sentence.length ?? '')} /></>`
      : html`<p><button class="quiet why-button" onClick=${() => setOpen(true)}>Why is it as it is?</button></p>`}`;
}

/** @param {{app: any, live: import('../updates.js').Live}} props */
function GraphPanel({ app, live }) {
  if (app.deployments.length === 0) return html`<${Panel} title="Graph"><${Empty} title="No deployment runs" /></>`;
  return html`<${Panel} title="Graph" note="calls a second, failed calls, and the mean wait for a slot" flush><${Graph} app=${app} live=${live} /></>`;
}

/** @param {{app: any, live: import('../updates.js').Live}} props */
function Deployments({ app, live }) {
  const rows = [...live.deployments.values()];
  const columns = useMemo(() => {
    const f = (/** @type {any} */ d, /** @type {string} */ c) => live.figures.deployments.get(d.name)?.[c];
    return [
      { name: 'name', title: 'Deployment', value: (/** @type {any} */ d) => d.name, cell: (/** @type {any} */ d) => html`<a href=${link.deployment(app.name, d.name)} title=${d.name}>${d.name}</a>${d.name === app.ingress && html` <span class="muted small">ingress</span>`}` },
      { name: 'state', title: 'State', value: (/** @type {any} */ d) => d.status, cell: (/** @type {any} */ d) => html`<${State} state=${d.status} title=${d.message} />` },
      { name: 'replicas', title: 'Replicas', end: true, help: 'Replicas that take calls, of those that there should be', value: serving, cell: (/** @type {any} */ d) => html`<span class=${serving(d) === d.wanted ? '' : 'warn'}>${count(serving(d))}<span class="muted"> of ${count(d.wanted)}</span></span>` },
      { name: 'rate', title: 'Calls', end: true, value: (/** @type {any} */ d) => f(d, 'rate'), cell: (/** @type {any} */ d) => rate(f(d, 'rate')) },
      { name: 'errors', title: 'Errors', end: true, value: (/** @type {any} */ d) => f(d, 'error_rate'), cell: (/** @type {any} */ d) => html`<span class=${f(d, 'error_rate') ? 'bad' : ''}>${rate(f(d, 'error_rate'))}</span>` },
      { name: 'p50', title: 'p50', end: true, phone: false, value: (/** @type {any} */ d) => f(d, 'p50_ms'), cell: (/** @type {any} */ d) => ms(f(d, 'p50_ms')) },
      { name: 'p99', title: 'p99', end: true, value: (/** @type {any} */ d) => f(d, 'p99_ms'), cell: (/** @type {any} */ d) => ms(f(d, 'p99_ms')) },
      { name: 'queued', title: 'Queued', end: true, help: 'Calls that wait for a slot', value: (/** @type {any} */ d) => f(d, 'queued'), cell: (/** @type {any} */ d) => count(f(d, 'queued')) },
      { name: 'running', title: 'Running', end: true, help: 'Calls that hold a slot', value: (/** @type {any} */ d) => f(d, 'running'), cell: (/** @type {any} */ d) => count(f(d, 'running')) },
      { name: 'memory', title: 'Memory', end: true, phone: false, help: 'Of the processes of its replicas', value: (/** @type {any} */ d) => f(d, 'memory_bytes'), cell: (/** @type {any} */ d) => bytes(f(d, 'memory_bytes')) },
      { name: 'scaling', title: 'Autoscaler', phone: false, cell: (/** @type {any} */ d) => (d.autoscaling ? html`<span title=${d.autoscaling.reason}>${d.autoscaling.min_replicas} to ${d.autoscaling.max_replicas}, wants ${d.autoscaling.desired}${d.autoscaling.blocked && html` <span class="warn">(${d.autoscaling.blocked})</span>`}</span>` : html`<span class="muted">fixed</span>`) },
    ];
  }, [live, app.name, app.ingress]);
  return html`<${Panel} title="Deployments" note=${plural(rows.length, 'deployment')} flush><${Table} title="Deployments" rows=${rows} columns=${columns} first="name" id=${(/** @type {any} */ d) => d.name}
    tone=${(/** @type {any} */ d) => (toneOf(d.status) === 'bad' ? 'bad' : undefined)} empty="No deployment." /></>`;
}

/** @param {{app: any}} props */
function Revisions({ app }) {
  const history = useGet(path`/api/v1/applications/${app.name}/history`);
  useEffect(() => { if (history.data) history.reload(); }, [app.revision, app.status, app.rollout?.state]);
  return html`<div class="tab-body"><${Answer} of=${history} what="the revisions">${(/** @type {any} */ h) => (h.revisions?.length > 0 ? html`<ol class="revisions">${h.revisions.map((/** @type {any} */ r) => html`
    <li class="panel" key=${r.number}><div class="panel-head"><h2>Revision ${r.number}</h2><${State} state=${r.state} /><span class="muted"><${At} at=${r.at} />${r.by && `, ${r.by}`}${r.from && html`, from <span class="origin">${r.from}</span>`}</span>
      ${r.number !== app.revision && r.state !== 'running' && html`<div class="actions"><${RollBack} app=${app} to=${r.number} label="Roll back to this" /></div>`}</div>
      ${(r.message || r.reason || r.rollback_of || r.changes?.length > 0) && html`<div class="panel-body stack-small">
        ${r.message && html`<p>${r.message}</p>`}
        ${r.rollback_of > 0 && html`<p class="muted">It repeats revision ${r.rollback_of}.</p>`}
        ${r.changes?.length > 0 && html`<div><p class="muted">${r.before ? `Changes since revision ${r.before}:` : 'Changes:'}</p><ul class="lines">${r.changes.map((/** @type {string} */ c) => html`<li key=${c}>${c}</li>`)}</ul></div>`}
        ${r.reason && (r.reason.includes('\n') ? html`<${Code} text=${r.reason} label=${`Why revision ${r.number} is ${r.state}`} />` : html`<p>${r.reason}</p>`)}</div>`}
    </li>`)}</ol>` : html`<${Empty} title="No revision is kept" />`)}</></div>`;
}

/** @param {{app: any}} props */
function Options({ app }) {
  const config = useGet(path`/api/v1/applications/${app.name}/config`);
  useEffect(() => { if (config.data) config.reload(); }, [app.revision]);
  return html`<div class="tab-body"><${Answer} of=${config} what="the options">${(/** @type {any} */ c) => html`<div class="stack">
    <${Panel} title="Options of the application" note="those of a deployment are on its page" flush><${Table} title="Options" rows=${c.fields} id=${(/** @type {any} */ o) => o.path} columns=${[
      { name: 'path', title: 'Option', value: (/** @type {any} */ o) => o.path, cell: (/** @type {any} */ o) => html`<code>${o.path}</code>` },
      { name: 'value', title: 'Value', value: (/** @type {any} */ o) => value(o.value), cell: (/** @type {any} */ o) => html`<code title=${value(o.value)}>${value(o.value)}</code>` },
      { name: 'from', title: 'From', value: (/** @type {any} */ o) => o.from },
      { name: 'update', title: 'A change needs', value: (/** @type {any} */ o) => o.update, phone: false },
    ]} /></>
    ${c.submitted ? html`<${Panel} title="As it was submitted"><${Code} text=${JSON.stringify(c.submitted, null, 2)} label="The submitted configuration" /></>` : html`<p class="muted">A program has deployed this application, and no file.</p>`}
  </div>`}</></div>`;
}

/** @param {{app: string}} props */
function Events({ app }) {
  const events = useGet('/api/v1/events', { app, limit: eventsOfTab }, { every: eventsEvery });
  return html`<div class="tab-body"><${Panel} title="Events" note="the newest first" actions=${html`<a href=${link.events({ app })}>With filters</a>`}>
    <${Answer} of=${events} what="the events">${(/** @type {any} */ d) => (d.events?.length > 0 ? html`<${EventList} events=${[...d.events].reverse()} />` : html`<p class="muted">Nothing has happened yet.</p>`)}</></></div>`;
}
