// @ts-check
// Draws a plan of the node: what a change would do, before it is done (helvetype.Plan).
//
//   html`<${PlanView} plan=${plan} />`
import { html } from '../vendor/preact/standalone.module.js';
import { plural, value } from './format.js';

/** @param {{changes: any[]}} props */
function Changes({ changes }) {
  return html`<div class="scroll"><table class="changes">
    <thead><tr><th scope="col">option</th><th scope="col">before</th><th scope="col">after</th><th scope="col">needs</th></tr></thead>
    <tbody>${changes.map((c) => html`<tr key=${c.path}><td><code>${c.path}</code></td>
      <td><code>${value(c.before)}</code>${c.before_from && html` <span class="muted">${c.before_from}</span>`}</td>
      <td><code>${value(c.after)}</code>${c.after_from && html` <span class="muted">${c.after_from}</span>`}</td><td>${c.update}</td></tr>`)}</tbody>
  </table></div>`;
}

/** The overrides of a deployment that the table of its changes does not have already. @param {any} d */
const stays = (d) => (d.overrides ?? []).filter((/** @type {any} */ o) => !d.options?.some((/** @type {any} */ c) => c.path === o.path));

/** @param {{plan: any}} props */
export function PlanView({ plan }) {
  const apps = plan.applications ?? [];
  const same = apps.every((/** @type {any} */ a) => a.change === 'unchanged') && !plan.settings?.length;
  return html`<section class="plan" aria-label="Plan">
    <h3>Plan</h3>
    ${same && html`<p>Nothing changes.</p>`}
    ${plan.settings?.length > 0 && html`<p>Settings of the node:</p><${Changes} changes=${plan.settings} />`}
    ${plan.capacity?.length > 0 && html`<p>The target capacity changes other applications:</p><ul>${plan.capacity.map((/** @type {any} */ c) => html`<li key=${c.app + '/' + c.deployment}>${c.app}/${c.deployment}: ${c.wanted} to ${plural(c.next, 'replica')}</li>`)}</ul>`}
    ${apps.map((/** @type {any} */ a) => html`<div class="plan-app" key=${a.name}>
      <p><b>${a.name}</b> <span class=${'change ' + a.change}>${a.change}</span>${a.reason && html` <span class="muted">${a.reason}</span>`}</p>
      ${a.notes?.map((/** @type {string} */ n) => html`<p class="muted">${n}</p>`)}
      ${a.fields?.length > 0 && html`<${Changes} changes=${a.fields} />`}
      ${(a.deployments ?? []).map((/** @type {any} */ d) => html`<div class="plan-deployment" key=${d.name}>
        <p>${d.name} <span class=${'change ' + d.change}>${d.change}</span>${d.change !== 'unchanged' && d.update !== 'nothing' && html`, ${d.update}`}${d.reason && html`: ${d.reason}`}</p>
        ${d.change !== 'unchanged' && html`<p class="muted">${plural(d.replicas, 'replica')} now, ${d.next} after
          ${d.surge > 0 && `, ${d.surge} more meanwhile`}${d.unavailable > 0 && `, ${d.unavailable} may be missing meanwhile`}${d.scaled_by && `; scaled by ${d.scaled_by}`}</p>`}
        ${d.fit && html`<p class="warn-line">${d.fit}</p>`}
        ${!d.fit && d.no_surge && html`<p class="muted">There is no room for more replicas beside them: one more ${d.no_surge}</p>`}
        ${d.options?.length > 0 && html`<${Changes} changes=${d.options} />`}
        ${stays(d).length > 0 && html`<p class="muted">These options have an override, which stays:</p><${Changes} changes=${stays(d)} />`}
      </div>`)}
    </div>`)}
    ${plan.warnings?.map((/** @type {string} */ w) => html`<p class="warn-line">${w}</p>`)}
  </section>`;
}
