// @ts-check
// The table of replicas, of a deployment or of the node: state, age, load, models, memory, restarts with their reason.
import { html } from '../vendor/preact/standalone.module.js';
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
 * The order of states: those that need a look come first.
 * @param {any} r
 */
export function rank(r) {
  const at = [r.unresponsive, r.ejected, r.not_ready, r.wait?.reason, r.state !== 'RUNNING' && r.state !== 'STOPPING', r.state === 'STOPPING'].findIndex(Boolean);
  return at < 0 ? 6 : at;
}

/** The filters by state, by their name in the address. @type {Record<string, {text: string, has: (r: any) => boolean}>} */
export const stateFilters = {
  ready: { text: 'gets calls', has: (r) => r.ready },
  not_ready: { text: 'not ready', has: (r) => Boolean(r.not_ready) },
  ejected: { text: 'ejected', has: (r) => Boolean(r.ejected) },
  unresponsive: { text: 'does not answer', has: (r) => Boolean(r.unresponsive) },
  starting: { text: 'starts', has: (r) => r.state === 'STARTING' || r.state === 'RECOVERING' },
  waiting: { text: 'waits for resources', has: (r) => Boolean(r.wait?.reason) },
  stopping: { text: 'stops', has: (r) => r.state === 'STOPPING' },
};

/**
 * Says whether a filter by state lets a replica through, and whether the replica has a text in its names, its devices, its models or the reason of its state.
 * @param {any} r
 * @param {string} [state] a name of stateFilters; "" for all
 * @param {string} [text]
 */
export function matches(r, state = '', text = '') {
  if (state !== '' && !stateFilters[state]?.has(r)) return false;
  const words = [r.app, r.deployment, r.replica_id, r.state, why(r), r.wait && `waits for ${r.wait.for}`, ...(r.gpus ?? []).map((/** @type {string} */ g) => `GPU ${g}`), ...(r.models ?? [])];
  return text === '' || words.some((w) => w && w.toLowerCase().includes(text.toLowerCase()));
}

/** Why a replica gets no calls; "" for one that does, and for one whose state says all. @param {any} r @returns {string} */
const why = (r) => r.ejected?.reason ?? r.not_ready?.reason ?? r.wait?.reason ?? '';

/** @param {string} name @param {string} to */
const named = (name, to) => html`<a href=${to} title=${name}>${name}</a>`;

/**
 * The table. Replicas of the whole node have their application and deployment beside them, and the reason of their state.
 * @param {{rows: any[], figures: Map<string, any>, whole?: boolean, sort: string, first: string, empty: any}} props sort, first: as of Table
 */
export function Replicas({ rows, figures, whole = false, sort, first, empty }) {
  const of = (/** @type {any} */ r) => figures.get(r.replica_id) ?? {};
  const some = (/** @type {(r: any) => any} */ has) => rows.some(has);
  const models = some((r) => r.models?.length > 0);
  const devices = some((r) => r.gpus?.length > 0);
  const reasons = whole && some(why);
  const revisions = !whole && new Set(rows.map((r) => r.revision)).size > 1;
  const loops = some((r) => of(r).loop_delay_ms != null);
  const columns = [
    { name: 'replica', title: 'Replica', plain: true, max: whole ? '20ch' : undefined, value: (/** @type {any} */ r) => r.replica_id, cell: (/** @type {any} */ r) => html`<a href=${link.replica(r.app, r.deployment, r.replica_id)} title=${r.replica_id}>${r.replica_id}</a>` },
    whole && { name: 'application', title: 'Application', plain: true, phone: false, max: '15ch', value: (/** @type {any} */ r) => `${r.app}/${r.deployment}/${r.replica_id}`, cell: (/** @type {any} */ r) => named(r.app, link.application(r.app)) },
    whole && { name: 'deployment', title: 'Deployment', plain: true, phone: false, max: '15ch', value: (/** @type {any} */ r) => `${r.deployment}/${r.app}/${r.replica_id}`, cell: (/** @type {any} */ r) => named(r.deployment, link.deployment(r.app, r.deployment)) },
    { name: 'state', title: 'State', value: rank, cell: (/** @type {any} */ r) => html`<${State} ...${stateOf(r)} />` },
    revisions && { name: 'revision', title: 'Revision', end: true, phone: false, value: (/** @type {any} */ r) => r.revision },
    { name: 'age', title: 'Age', end: true, phone: !whole, value: (/** @type {any} */ r) => -stamp(r.started_at), cell: (/** @type {any} */ r) => html`<${Ago} at=${r.started_at} />` },
    { name: 'rate', title: 'Calls', end: true, phone: !whole, value: (/** @type {any} */ r) => of(r).rate, cell: (/** @type {any} */ r) => rate(of(r).rate) },
    { name: 'errors', title: 'Failed', end: true, phone: false, value: (/** @type {any} */ r) => of(r).error_rate, cell: (/** @type {any} */ r) => rate(of(r).error_rate) },
    { name: 'running', title: 'Run now', end: true, phone: !whole, value: (/** @type {any} */ r) => of(r).running, cell: (/** @type {any} */ r) => count(of(r).running) },
    { name: 'memory', title: 'Memory', end: true, phone: false, value: (/** @type {any} */ r) => of(r).memory_bytes, cell: (/** @type {any} */ r) => bytes(of(r).memory_bytes) },
    { name: 'cpu', title: 'CPU %', end: true, phone: false, value: (/** @type {any} */ r) => of(r).cpu_percent, cell: (/** @type {any} */ r) => number(of(r).cpu_percent), help: 'of one processor' },
    devices && { name: 'gpus', title: 'GPUs', phone: false, value: (/** @type {any} */ r) => r.gpus?.join(', '), cell: (/** @type {any} */ r) => r.gpus?.join(', ') },
    loops && { name: 'loop', title: 'Loop delay', end: true, phone: false, value: (/** @type {any} */ r) => of(r).loop_delay_ms, cell: (/** @type {any} */ r) => ms(of(r).loop_delay_ms), help: 'by how much timers of the event loop were late' },
    reasons && { name: 'reason', title: 'Reason', phone: false, cell: (/** @type {any} */ r) => html`<span class="cut" title=${why(r)}>${why(r)}</span>` },
    models && { name: 'models', title: 'Models', phone: false, cell: (/** @type {any} */ r) => html`<span class="cut" title=${r.models?.join(', ')}>${r.models?.join(', ')}</span>` },
    { name: 'restarts', title: 'Restarts', value: (/** @type {any} */ r) => r.restarts ?? 0, phone: false,
      cell: (/** @type {any} */ r) => (r.restarts ? html`<span class="cut" title=${r.last_exit?.reason}>${count(r.restarts)}${r.last_exit && html` <span class="muted">${r.last_exit.reason}</span>`}</span>` : '0') },
  ].filter(Boolean);
  return html`<${Table} title="Replicas" rows=${rows} columns=${columns} id=${(/** @type {any} */ r) => r.replica_id} sort=${sort} first=${first} empty=${empty}
    tone=${(/** @type {any} */ r) => (r.unresponsive || r.ejected ? 'bad' : undefined)} />`;
}
