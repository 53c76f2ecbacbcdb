// @ts-check
// Parts that the pages of a deployment and of a replica share.
import { html, useEffect } from '../vendor/preact/standalone.module.js';
import { path, useGet } from '../api.js';
import { link } from '../router.js';
import { Code } from '../ui/code.js';
import { clock } from '../ui/format.js';
import { At } from '../ui/time.js';

/**
 * The answer of the node to the question why an object is as it is, asked again when the object changes, and now and then. Until it is there the message of the object stands in its place.
 * @param {{of: string[], changed: string, message?: string}} props
 */
export function Why({ of, changed, message }) {
  const [app, deployment, replica] = of;
  const at = replica ? path`/api/v1/why/${app}/${deployment}/${replica}` : path`/api/v1/why/${app}/${deployment}`;
  const why = useGet(at, {}, { every: 10 });
  useEffect(() => why.reload(), [changed]);
  if (!why.data) return message ? html`<section class="why" aria-label="Its message"><p>${message}</p></section>` : null;
  const events = why.data.timeline ?? [];
  return html`<section class="why" aria-label="Why it is as it is">
    <p>${why.data.sentence}</p>
    ${why.data.next && html`<p class="next"><span class="muted">next:</span> ${why.data.next}</p>`}
    ${why.data.detail && html`<${Code} text=${why.data.detail} label="The error" />`}
    ${events.length > 0 && html`<details><summary>What led there: ${events.length} events</summary>
      <ol class="why-events">${events.map((/** @type {any} */ e) => html`<li key=${e.id}><a href=${link.events({ app, event: e.id })} class="num">${clock(e.time, true)}</a>
        <span>${e.object.replica ?? e.object.deployment ?? e.object.app}</span> <span class="why-change">${e.from || '(none)'} → ${e.to || '(gone)'}</span> <b>${e.reason}</b>${e.message && html` ${e.message}`}</li>`)}</ol></details>`}
  </section>`;
}

/**
 * The end of a replica. A reason of several lines, such as a traceback, is below its first line.
 * @param {{exit: {at: string, replica_id: string, reason: string, out_of_memory?: boolean, lines?: string[]}, app: string, deployment: string}} props
 */
export function Exit({ exit, app, deployment }) {
  const [first] = exit.reason.split('\n', 1);
  return html`<div class="exit"><p><${At} at=${exit.at} />, <a href=${link.replica(app, deployment, exit.replica_id)}>${exit.replica_id}</a>: ${first}</p>
    ${first !== exit.reason && html`<${Code} text=${exit.reason} label="The error" />`}
    ${exit.out_of_memory && html`<p class="warn-line">The process ended because it ran out of memory.</p>`}
    ${exit.lines && exit.lines.length > 0 && html`<p class="muted">The last lines that the process wrote to stderr:</p><${Code} text=${exit.lines.join('\n')} label="The last lines that the process wrote to stderr" />`}</div>`;
}
