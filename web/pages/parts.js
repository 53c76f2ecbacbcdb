// @ts-check
// Parts that the pages of a deployment and of a replica share.
import { html } from '../vendor/preact/standalone.module.js';
import { link } from '../router.js';
import { Code } from '../ui/code.js';
import { At } from '../ui/time.js';

export { Why } from '../ui/why.js';

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
