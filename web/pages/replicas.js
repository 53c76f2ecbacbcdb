// @ts-check
// The replicas of a deployment: state, age, load, models, memory, restarts with their reason.
import { html, useMemo } from '../vendor/preact/standalone.module.js';
import { link } from '../router.js';
import { bytes, count, ms, number, rate, stamp } from '../ui/format.js';
import { State } from '../ui/state.js';
import { Table } from '../ui/table.js';
import { Ago } from '../ui/time.js';

/**
 * The state of a replica with what its word leaves out, as the props of State and PageHead.
 * @param {any} r
 * @returns {{state: string, tone?: import('../ui/state.js').Tone, note?: string, title?: string}}
 */
export function stateOf(r) {
  if (r.unresponsive) return { state: r.state, tone: 'bad', note: 'does not answer' };
  if (r.ejected) return { state: r.state, tone: 'bad', note: 'ejected', title: r.ejected.reason };
  if (r.not_ready) return { state: r.state, tone: 'warn', note: 'not ready', title: r.not_ready.reason };
  if (r.wait) return { state: r.state, note: `waits for ${r.wait.for}`, title: r.wait.reason };
  return { state: r.state };
}

/**
 * @param {{app: string, deployment: string, replicas: Map<string, any>, figures: Map<string, any>, at: string}} props
 */
export function Replicas({ app, deployment, replicas, figures, at }) {
  const rows = useMemo(() => [...replicas.values()], [at]);
  const of = (/** @type {any} */ r) => figures.get(r.replica_id) ?? {};
  const some = (/** @type {(r: any) => any} */ has) => rows.some(has);
  const models = some((r) => r.models?.length > 0);
  const revisions = new Set(rows.map((r) => r.revision)).size > 1;
  const loops = some((r) => of(r).loop_delay_ms != null);
  const columns = [
    { name: 'replica', title: 'Replica', plain: true, value: (/** @type {any} */ r) => r.replica_id, cell: (/** @type {any} */ r) => html`<a href=${link.replica(app, deployment, r.replica_id)}>${r.replica_id}</a>` },
    { name: 'state', title: 'State', value: (/** @type {any} */ r) => r.state, cell: (/** @type {any} */ r) => html`<${State} ...${stateOf(r)} />` },
    revisions && { name: 'revision', title: 'Revision', end: true, phone: false, value: (/** @type {any} */ r) => r.revision },
    { name: 'age', title: 'Age', end: true, value: (/** @type {any} */ r) => -stamp(r.started_at), cell: (/** @type {any} */ r) => html`<${Ago} at=${r.started_at} />` },
    { name: 'rate', title: 'Calls', end: true, value: (/** @type {any} */ r) => of(r).rate, cell: (/** @type {any} */ r) => rate(of(r).rate) },
    { name: 'errors', title: 'Failed', end: true, phone: false, value: (/** @type {any} */ r) => of(r).error_rate, cell: (/** @type {any} */ r) => rate(of(r).error_rate) },
    { name: 'running', title: 'Run now', end: true, value: (/** @type {any} */ r) => of(r).running, cell: (/** @type {any} */ r) => count(of(r).running) },
    { name: 'memory', title: 'Memory', end: true, phone: false, value: (/** @type {any} */ r) => of(r).memory_bytes, cell: (/** @type {any} */ r) => bytes(of(r).memory_bytes) },
    { name: 'cpu', title: 'CPU %', end: true, phone: false, value: (/** @type {any} */ r) => of(r).cpu_percent, cell: (/** @type {any} */ r) => number(of(r).cpu_percent), help: 'of one processor' },
    loops && { name: 'loop', title: 'Loop delay', end: true, phone: false, value: (/** @type {any} */ r) => of(r).loop_delay_ms, cell: (/** @type {any} */ r) => ms(of(r).loop_delay_ms), help: 'by how much timers of the event loop were late' },
    models && { name: 'models', title: 'Models', phone: false, cell: (/** @type {any} */ r) => html`<span class="cut" title=${r.models?.join(', ')}>${r.models?.join(', ')}</span>` },
    { name: 'restarts', title: 'Restarts', value: (/** @type {any} */ r) => r.restarts ?? 0, phone: false,
      cell: (/** @type {any} */ r) => (r.restarts ? html`<span class="cut" title=${r.last_exit?.reason}>${count(r.restarts)}${r.last_exit && html` <span class="muted">${r.last_exit.reason}</span>`}</span>` : '0') },
  ].filter(Boolean);
  return html`<${Table} title="Replicas" rows=${rows} columns=${columns} id=${(/** @type {any} */ r) => r.replica_id} sort="replicas" first="replica" empty="The deployment has no replica."
    tone=${(/** @type {any} */ r) => (r.unresponsive || r.ejected ? 'bad' : undefined)} />`;
}
