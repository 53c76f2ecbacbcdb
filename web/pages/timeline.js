// @ts-check
// Events in bins of time, for the strip above their list. It is pure.

/**
 * An event of GET /api/v1/events.
 * @typedef {{id: number, time: string, object: {kind: string, app: string, deployment?: string, replica?: string}, from?: string, to?: string, severity?: 'info'|'warning'|'error', reason?: string, message?: string,
 *   inputs?: Record<string, string>, cause?: number}} HelveEvent
 *
 * `counts` has the number of events by tone.
 * @typedef {{from: number, to: number, total: number, counts: Record<string, number>}} Bin
 */

/** Milliseconds that a bin may be wide: it begins at a multiple of that, so bins stay where they are while time goes on. */
const widths = [1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 86_400_000];

/**
 * @param {HelveEvent[]} events
 * @param {number} from milliseconds since 1970
 * @param {number} to
 * @param {number} most the largest number of bins
 * @param {(e: HelveEvent) => string} tone
 * @returns {{width: number, bins: Bin[]}}
 */
export function bin(events, from, to, most, tone) {
  const wanted = Math.max(to - from, 1) / Math.max(most - 1, 1);
  const width = widths.find((w) => w >= wanted) ?? Math.ceil(wanted / 86_400_000) * 86_400_000;
  const first = Math.floor(from / width);
  const n = Math.floor(to / width) - first + 1;
  /** @type {Bin[]} */
  const bins = Array.from({ length: n }, (_, i) => ({ from: (first + i) * width, to: (first + i + 1) * width, total: 0, counts: {} }));
  for (const e of events) {
    const b = bins[Math.floor(Date.parse(e.time) / width) - first];
    if (!b) continue;
    const t = tone(e);
    b.total++;
    b.counts[t] = (b.counts[t] ?? 0) + 1;
  }
  return { width, bins };
}

/**
 * The events that led to one, the first cause first, as far as they are known.
 * @param {Map<number, HelveEvent>} known
 * @param {HelveEvent} event
 * @returns {{chain: HelveEvent[], missing: number}} missing is the id of a cause that is not known; 0 for none
 */
export function causes(known, event) {
  /** @type {HelveEvent[]} */
  const chain = [];
  let at = event.cause ?? 0;
  while (at !== 0) {
    const e = known.get(at);
    if (!e || chain.length >= 50) return { chain, missing: at };
    chain.unshift(e);
    at = e.cause !== undefined && e.cause < e.id ? e.cause : 0; // A cause is older.
  }
  return { chain, missing: 0 };
}

/**
 * The events that an event has led to, with those that these have led to, in the order of a tree.
 * @param {Iterable<HelveEvent>} events
 * @param {number} id
 * @param {number} most
 * @returns {{event: HelveEvent, depth: number}[]}
 */
export function effects(events, id, most) {
  /** @type {Map<number, HelveEvent[]>} */
  const by = new Map();
  for (const e of events) {
    if (!e.cause || e.cause >= e.id) continue;
    const list = by.get(e.cause);
    if (list) list.push(e);
    else by.set(e.cause, [e]);
  }
  /** @type {{event: HelveEvent, depth: number}[]} */
  const found = [];
  const todo = (by.get(id) ?? []).map((event) => ({ event, depth: 0 })).reverse();
  for (let next = todo.pop(); next && found.length < most; next = todo.pop()) {
    found.push(next);
    const depth = next.depth + 1;
    for (const event of [...(by.get(next.event.id) ?? [])].reverse()) todo.push({ event, depth });
  }
  return found;
}

/**
 * Whether a text is in an event: in its object, states, reason, message or inputs, in letters of any case.
 * @param {HelveEvent} e
 * @param {string} text
 */
export function has(e, text) {
  const want = text.toLowerCase();
  const { app, deployment, replica } = e.object;
  return [app, deployment, replica, e.from, e.to, e.reason, e.message, ...Object.entries(e.inputs ?? {}).flat()].some((v) => v !== undefined && v.toLowerCase().includes(want));
}
