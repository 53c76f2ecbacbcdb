// @ts-check
// One deployment: why it is as it is, its figures now and in the last hour with the decisions of the autoscaler, its replicas, its options, and what can be done with it.
import { html } from '../vendor/preact/standalone.module.js';
import { path, send, useGet } from '../api.js';
import { link } from '../router.js';
import { useUpdates } from '../updates.js';
import { Action } from '../ui/dialog.js';
import { Answer, Empty, Loading } from '../ui/empty.js';
import { sign } from '../ui/chart.js';
import { bytes, clock, count, ms, number, plural, rate } from '../ui/format.js';
import { Charts } from './charts.js';
import { Options, ReconfigureAction, SetAction, changeOptions, planOptions } from './options.js';
import { Replicas } from './replicas.js';
import { Figures, PageHead, Panel } from '../ui/layout.js';
import { Exit, Why, serving } from './parts.js';

/** @type {import('./charts.js').ChartOf[]} */
const charts = [
  { title: 'Calls', unit: 'calls/s', format: number, empty: 'No call in this time',
    lines: [{ key: 'rate', label: 'ended', filled: true }, { key: 'error_rate', label: 'failed', colour: 'bad', dash: [5, 3] }] },
  { title: 'Time of a call', unit: 'in each step', p99: true, format: ms, empty: 'No call in this time',
    lines: [{ key: 'p50_ms', label: 'p50', colour: '4' }, { key: 'p90_ms', label: 'p90', colour: '2', dash: [6, 3] }, { key: 'p99_ms', label: 'p99', colour: '3', dash: [2, 2] }] },
  { title: 'Calls at one time', unit: 'calls', format: number, whole: true,
    lines: [{ key: 'queued', label: 'wait', colour: '2', filled: true }, { key: 'running', label: 'run', colour: '1', dash: [6, 3] }] },
  { title: 'Replicas', unit: 'of all revisions', format: number, whole: true,
    lines: [{ key: 'ready', label: 'ready', colour: '4', stepped: true, filled: true }, { key: 'wanted', label: 'wanted', colour: '3', stepped: true, dash: [4, 3] }] },
];

/** @param {{params: import('../router.js').View['params']}} props */
export default function Deployment({ params: { app = '', deployment = '' } }) {
  const live = useUpdates({ app, deployment });
  const d = live.deployments.get(deployment);
  const config = useGet(path`/api/v1/applications/${app}/config`, {}, { every: 15 });
  const events = useGet('/api/v1/events', { app, deployment, kind: 'deployment', limit: mostEvents }, { every: 10 });
  if (!live.ready) return html`<${PageHead} kind="deployment" name=${deployment} /><${Loading} what="the deployment" />`;
  if (!d) return html`<${PageHead} kind="deployment" name=${deployment} /><${Empty} title=${`There is no deployment ${app}/${deployment}`}>
    <p>It may have been deleted, or the application has another revision. <a href=${link.events({ app })}>Events of ${app}</a></p></>`;
  const f = live.figures.deployments.get(deployment) ?? {};
  const options = config.data?.deployments?.[deployment] ?? [];

  return html`
    <${PageHead} kind="deployment" name=${deployment} state=${d.status} note=${d.status_trigger === 'UNSPECIFIED' ? '' : d.status_trigger}
      actions=${html`<${Actions} app=${app} deployment=${deployment} d=${d} options=${options} reload=${config.reload} />`}>
      ${counts(d)}</>
    <${Why} of=${[app, deployment]} changed=${`${d.status} ${d.message ?? ''} ${d.ready} ${d.wanted}`} message=${d.message} />
    <${Panel} title="Now" actions=${html`<nav class="links" aria-label="More about the deployment"><a href=${link.requests({ app })}>Requests</a><a href=${link.events({ app, deployment })}>Events</a><a href=${link.logs({ app, deployment })}>Logs</a></nav>`}>
      <${Figures} of=${[
        { label: 'Calls', value: rate(f.rate), title: 'that have ended, in the last 5 to 10 s' },
        { label: 'Failed', value: rate(f.error_rate), title: 'calls that have failed, in the last 5 to 10 s', tone: f.error_rate ? 'bad' : undefined },
        { label: 'Rejected', value: rate(f.rejected_rate), title: 'calls that have failed before their start, because too many waited', tone: f.rejected_rate ? 'bad' : undefined },
        { label: 'p50', value: ms(f.p50_ms), title: 'half of the calls of the last minute have ended in this time' },
        { label: 'p90', value: ms(f.p90_ms), title: '90 of 100 calls of the last minute have ended in this time' },
        { label: 'p99', value: ms(f.p99_ms), title: '99 of 100 calls of the last minute have ended in this time' },
        { label: 'Mean wait', value: ms(f.wait_ms), title: 'for a slot, of the calls of the last minute' },
        { label: 'Wait now', value: count(f.queued), title: 'calls that wait for a slot' },
        { label: 'Run now', value: count(f.running), title: 'calls that hold a slot' },
        { label: 'Replicas', value: `${count(serving(d))} / ${count(d.wanted)}`, title: 'that take calls, and that there should be' },
        { label: 'Memory', value: bytes(f.memory_bytes), title: 'of the processes of its replicas' },
        { label: 'Calls so far', value: count(f.calls), note: `${count(f.errors)} failed`, title: 'that were started, and of them those that have failed' },
      ]} />
    </>
    <${Panel} title="The last hour">
      <${Charts} object=${{ app, deployment }} group="deployment" charts=${charts} events=${events.data?.events}
        below=${(/** @type {any} */ of) => html`${d.autoscaling && html`<${Autoscaler} s=${d.autoscaling} />`}<${Happenings} ...${of} />`} />
    </>
    <${Panel} title="Replicas" note=${plural(live.replicas.size, 'replica')} flush=${true}>
      <${Replicas} rows=${[...live.replicas.values()]} figures=${live.figures.replicas} sort="replicas" first="replica" empty="The deployment has no replica." />
    </>
    ${(d.last_exit || d.first_failure) && html`<${Panel} title="Failures" note=${d.failures > 0 ? `${d.failures}${d.max_failures ? ` of ${d.max_failures}` : ''} since all was well` : ''}>
      ${d.last_exit && html`<h3>The last end of a replica that nothing had asked for</h3><${Exit} exit=${d.last_exit} app=${app} deployment=${deployment} />`}
      ${d.first_failure && d.first_failure.error !== d.last_exit?.reason && html`<h3>The first of the last row of failures</h3><${Exit} exit=${{ ...d.first_failure, reason: d.first_failure.error }} app=${app} deployment=${deployment} />`}</>`}
    <${Panel} title="Options" note="the values that hold, and where they come from">
      <${Answer} of=${config} what="the options">${() => html`<${Options} app=${app} deployment=${deployment} options=${options} reload=${config.reload} />`}</>
    </>`;
}

/** The numbers of replicas in words, those that are 0 left out. @param {any} d */
function counts(d) {
  const c = d.replica_counts ?? {};
  const more = [['starting', c.starting], ['recovering', c.recovering], ['stopping', c.stopping], ['not ready', c.not_ready], ['ejected', c.ejected]].filter(([, n]) => n > 0).map(([word, n]) => `${n} ${word}`);
  const all = serving(d);
  return `${count(all)} of ${plural(d.wanted, 'replica')} ready` + (all !== undefined && d.ready < all ? `, ${count(d.ready)} of the new revision` : '') + (more.length ? ` (${more.join(', ')})` : '');
}

/** @param {{app: string, deployment: string, d: any, options: any[], reload: () => void}} props */
function Actions({ app, deployment, d, options, reload }) {
  const at = `${app}/${deployment}`;
  const config = options.find((o) => o.path === 'autoscaling_config')?.value ?? {};
  const bounds = (/** @type {any} */ v) => ({ autoscaling_config: { min_replicas: Number(v.min), max_replicas: Number(v.max) } });
  return html`
    ${d.autoscaling
      ? html`<${Action} role="deploy" planRole="read" label="Set bounds" title=${`The bounds of the autoscaler of ${at}`} wide=${true} verb="Set the bounds"
          says="The autoscaler keeps the number of replicas between the two. The bounds stay over deploys until they are cleared."
          fields=${[{ name: 'min', label: 'Smallest number of replicas', type: 'number', min: 0, value: config.min_replicas ?? 1 }, { name: 'max', label: 'Largest number of replicas', type: 'number', min: 1, value: config.max_replicas ?? 1 }]}
          plan=${(/** @type {any} */ v) => planOptions(app, deployment, bounds(v))}
          run=${async (/** @type {any} */ v) => { const answer = await changeOptions(app, deployment, bounds(v)); reload(); return answer; }} done="The bounds are set." />`
      : html`<${Action} role="operate" label="Scale" title=${`The number of replicas of ${at}`} verb="Scale"
          says=${`It has ${plural(d.wanted, 'replica')} now. Replicas that are too many finish their calls before they stop. The number stays over deploys that do not change num_replicas.`}
          fields=${[{ name: 'replicas', label: 'Replicas', type: 'number', min: 0, value: d.wanted }]}
          run=${async (/** @type {any} */ v) => { const answer = await send('POST', path`/api/v1/applications/${app}/deployments/${deployment}/scale`, { target_num_replicas: Number(v.replicas) }); reload(); return answer; }}
          done=${() => `${at} gets another number of replicas.`} />`}
    <${Action} role="operate" label="Restart" title=${`Restart all replicas of ${at}?`} verb="Restart"
      says=${`${plural(d.ready, 'replica')} ${d.ready === 1 ? 'is' : 'are'} replaced within the budgets of its rollout: calls that run are finished, and new ones go to replicas that are ready. State in the memory of the replicas is lost.`}
      run=${() => send('POST', path`/api/v1/applications/${app}/deployments/${deployment}/restart`)} done=${`The restart of ${at} has begun.`} />
    <${ReconfigureAction} app=${app} deployment=${deployment} options=${options} reload=${reload} />
    <${SetAction} app=${app} deployment=${deployment} options=${options} reload=${reload} />`;
}

/** @param {{s: any}} props */
function Autoscaler({ s }) {
  return html`<div class="scaler">
    <h3>Autoscaler</h3>
    <p>wants <b>${plural(s.target, 'replica')}</b>, between ${count(s.min_replicas)} and ${count(s.max_replicas)}${s.desired !== s.target && html`; the load asks for <b>${count(s.desired)}</b>`}${s.reason && html`: ${s.reason}`}</p>
    ${s.blocked && !s.reason?.includes(s.blocked) && html`<p class="warn-line">It is held: ${s.blocked}</p>`}
    ${s.metrics_health && s.metrics_health !== 'healthy' && html`<p class="warn-line">Its numbers are ${s.metrics_health}.</p>`}
    ${s.errors?.map((/** @type {string} */ e) => html`<p class="warn-line">${e}</p>`)}
    ${s.policy && html`<p class="muted">The policy ${s.policy} decides.</p>`}
  </div>`;
}

const mostEvents = 200; // That charts mark.
const listed = 8; // Marks that are shown without a click.
const around = 120; // Seconds before and after a mark that a click shows.
const words = { up: 'more replicas', down: 'fewer replicas', note: 'event' };

/**
 * The marks of the charts as a list: decisions of the autoscaler, and events.
 * @param {{marks: import('../ui/chart.js').Mark[], active: string, setActive: (id: string) => void, show: (r: {from: number, to: number}) => void, time: {from: number, to: number}}} props
 */
function Happenings({ marks, active, setActive, show, time }) {
  const seen = marks.filter((m) => m.at >= time.from && m.at <= time.to).reverse();
  const line = (/** @type {import('../ui/chart.js').Mark} */ m) => html`<li key=${m.id} class=${m.id === active ? 'active' : ''}>
    <button class="decision" title="Show the minutes around it" onMouseEnter=${() => setActive(m.id ?? '')} onMouseLeave=${() => setActive('')} onFocus=${() => setActive(m.id ?? '')} onBlur=${() => setActive('')}
      onClick=${() => show({ from: Math.floor(m.at) - around, to: Math.ceil(m.at) + around })}>
      <span class=${'chart-mark-' + m.kind}><span aria-hidden="true">${sign(m.kind)}</span><span class="visually-hidden">${words[m.kind]}</span></span> <time>${clock(m.at * 1000)}</time> <span>${m.text}</span></button></li>`;
  return html`<div class="scaler">
    <h3>What happened in this time <span class="count">${seen.length}</span></h3>
    ${seen.length === 0 ? html`<p class="muted">The number of replicas has not changed, and there was no event.</p>`
      : html`<ol class="decisions">${seen.slice(0, listed).map(line)}</ol>
        ${seen.length > listed && html`<details><summary>${seen.length - listed} earlier</summary><ol class="decisions">${seen.slice(listed).map(line)}</ol></details>`}`}
  </div>`;
}
