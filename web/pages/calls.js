// @ts-check
// The calls of GET /api/v1/calls as rows: each below the call whose method has made it. It is pure.

/**
 * @typedef {{id: string, parent?: string, request_id: string, trace_id: string, app: string, deployment: string, method: string, replica?: string, origin?: string, state: string,
 *   since: string, waits_for?: string, stream?: boolean, caller_ended?: boolean, unread_since?: string}} Call
 * @typedef {{call: Call, depth: number}} CallRow
 * @typedef {{what: string, count: number, oldest: Call}} Wait
 */

/**
 * The calls request by request, the oldest request first, as trees. The list is the node's, the oldest call first.
 * @param {Call[]} calls
 * @returns {CallRow[]}
 */
export function tree(calls) {
  const known = new Set(calls.map((c) => c.id));
  /** @type {Map<string, Call[]>} */
  const below = new Map();
  /** @type {Map<string, Call[]>} The first calls of each request. */
  const requests = new Map();
  for (const c of calls) {
    const inside = c.parent && c.parent !== c.id && known.has(c.parent);
    const map = inside ? below : requests, key = inside ? /** @type {string} */ (c.parent) : c.request_id;
    const list = map.get(key);
    if (list) list.push(c);
    else map.set(key, [c]);
  }
  /** @type {CallRow[]} */
  const rows = [];
  const seen = new Set();
  const todo = [...requests.values()].flat().reverse().map((call) => ({ call, depth: 0 }));
  for (let next = todo.pop(); next; next = todo.pop()) {
    if (seen.has(next.call.id)) continue;
    seen.add(next.call.id);
    rows.push(next);
    for (const call of [...(below.get(next.call.id) ?? [])].reverse()) todo.push({ call, depth: next.depth + 1 });
  }
  for (const call of calls) if (!seen.has(call.id)) rows.push({ call, depth: 0 }); // parents in a circle
  return rows;
}

/**
 * What failed requests have in common: the reason of the failure, the call that it comes from, and the first line of its text without its numbers, the most frequent first.
 * For example, "no room for entry 7" and "no room for entry 9" of one call are one.
 * @template {{reason?: string, failed_at?: string, message?: string}} R
 * @param {R[]} requests the newest first
 * @returns {{reason: string, at: string, count: number, newest: R}[]}
 */
export function failures(requests) {
  /** @type {Map<string, {reason: string, at: string, count: number, newest: R}>} */
  const all = new Map();
  for (const r of requests) {
    if (!r.reason) continue;
    const key = [r.reason, r.failed_at ?? '', (r.message ?? '').split('\n')[0].replace(/\d+/g, '#')].join('\u0000');
    const group = all.get(key);
    if (group) group.count++;
    else all.set(key, { reason: r.reason, at: r.failed_at ?? '', count: 1, newest: r });
  }
  return [...all.values()].sort((a, b) => b.count - a.count);
}

/**
 * What calls wait for, the oldest wait first.
 * @param {Call[]} calls the oldest first
 * @returns {Wait[]}
 */
export function waits(calls) {
  /** @type {Map<string, Wait>} */
  const all = new Map();
  for (const c of calls) {
    if (c.state !== 'waiting') continue;
    const what = c.waits_for || `a slot of ${c.app}/${c.deployment}`;
    const wait = all.get(what);
    if (wait) wait.count++;
    else all.set(what, { what, count: 1, oldest: c });
  }
  return [...all.values()];
}
