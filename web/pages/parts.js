// @ts-check
// Parts that pages of applications, deployments and replicas share.
import { html } from '../vendor/preact/standalone.module.js';
import { link } from '../router.js';
import { Code } from '../ui/code.js';
import { At } from '../ui/time.js';

export { Why } from '../ui/why.js';

/**
 * The number of replicas that take calls, of all revisions: in a rollout those of the old revision serve too, and `ready` has those of the new one alone.
 * @param {any} of an application or a deployment
 * @returns {number|undefined} undefined before it is known
 */
export function serving({ replica_counts: c, ready }) {
  return c ? (c.running ?? 0) - (c.not_ready ?? 0) - (c.ejected ?? 0) : ready;
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
