// @ts-check
// The layout of a waterfall: the spans of a request as rows of a tree, each with a bar on one axis of time. It is pure: the page draws what it says.
//
// The tree is that of `helve why REQUEST`: a span stands below the span that it is inside of. For example, of the spans
//
//     http 0..10, call Front 1..9, wait for Ranker 2..5, call Ranker 5..8
//
// the call of Front stands below the request, and the wait and the call of Ranker below the call of Front.

/**
 * A span of GET /api/v1/requests/{request}.
 * @typedef {{id: string, parent?: string, caller?: string, kind: string, name?: string, app?: string, deployment?: string, method?: string, replica?: string,
 *   origin?: string, without_replica_ms?: number, started: string, duration_ms: number, attempt?: number, runs_again?: boolean, reason?: string, message?: string,
 *   failed_at?: string, attributes?: Record<string, unknown>, links?: string[], open?: boolean, waits_for?: string}} Span
 *
 * A request with its spans.
 * @typedef {{request_id: string, trace_id: string, kind: string, name?: string, app: string, deployment?: string, method?: string, route?: string, status?: number,
 *   reason?: string, message?: string, failed_at?: string, started: string, duration_ms: number, kept?: string, sampled?: boolean, sentence: string, next?: string,
 *   spans: Span[], running?: boolean, missed?: number}} Trace
 *
 * A piece of a bar, in milliseconds from the begin of the waterfall.
 * @typedef {{from: number, to: number}} Piece
 *
 * A row: `index` is the place of its span in the answer, which stays the same while rows are folded. `parent` is the index of the span around it, -1 for none. `own` are the
 * pieces of the bar in which no span inside of it ran, `own_ms` is their sum.
 * @typedef {{index: number, span: Span, depth: number, parent: number, children: number, last: boolean, from: number, to: number, own: Piece[], own_ms: number}} Row
 *
 * A waterfall: `begin` is the time of its left end in milliseconds since 1970, `total` its width in milliseconds.
 * @typedef {{begin: number, total: number, rows: Row[]}} Waterfall
 */

/** The kinds of spans that are waits: a wait has the id of its call. */
const waits = new Set(['wait', 'arguments']);

/**
 * The time of a stamp of the node in milliseconds since 1970, with microseconds behind the point. Date.parse alone drops what is below a millisecond.
 * @param {string} stamp
 * @returns {number}
 */
export function stampMs(stamp) {
  const point = stamp.indexOf('.');
  if (point < 0) return Date.parse(stamp);
  let end = point + 1;
  while (end < stamp.length && stamp[end] >= '0' && stamp[end] <= '9') end++;
  return Date.parse(stamp.slice(0, point) + stamp.slice(end)) + Number('0' + stamp.slice(point, end)) * 1000;
}

/**
 * For each span the index of the span around it, -1 for none.
 * @param {Trace} trace
 * @returns {number[]}
 */
export function parents(trace) {
  const spans = trace.spans;
  const begins = spans.map((s) => stampMs(s.started));
  /** @type {Map<string, number[]>} */
  const byID = new Map();
  spans.forEach((s, i) => {
    if (waits.has(s.kind)) return;
    const same = byID.get(s.id);
    if (same) same.push(i);
    else byID.set(s.id, [i]);
  });
  const root = spans.findIndex((s) => s.kind === trace.kind && s.started === trace.started && (s.duration_ms === trace.duration_ms || Boolean(trace.kept)));
  let first = -1; // the call that an HTTP request makes
  const parent = spans.map((s, i) => {
    let up = -1;
    const around = byID.get(s.parent ?? '') ?? byID.get(s.caller ?? '') ?? []; // another library has the span, or its report comes later
    for (const p of around) {
      if (p !== i && (up < 0 || begins[p] <= begins[i])) up = p; // of several attempts the last that had begun
    }
    if (root >= 0 && up === root && trace.kind === 'http') { // a request makes one call: others are of code that hands its context on
      if (first < 0 && !waits.has(s.kind)) first = i;
      else if (first >= 0 && s.id !== spans[first].id) up = first;
    }
    return up;
  });
  for (let i = 0; i < parent.length; i++) { // ids that a broken program has sent
    let up = parent[i];
    for (let n = 0; up >= 0 && n < parent.length; n++) up = parent[up];
    if (up >= 0) parent[i] = -1;
  }
  return parent;
}

/**
 * The pieces of from..to that none of the parts covers.
 * @param {number} from
 * @param {number} to
 * @param {Piece[]} parts
 * @returns {Piece[]}
 */
export function uncovered(from, to, parts) {
  /** @type {Piece[]} */
  const own = [];
  let at = from;
  for (const p of [...parts].sort((a, b) => a.from - b.from)) {
    if (p.from > at) own.push({ from: at, to: Math.min(p.from, to) });
    at = Math.max(at, p.to);
    if (at >= to) break;
  }
  if (at < to) own.push({ from: at, to });
  return own.filter((p) => p.to > p.from);
}

/**
 * The waterfall of a request. Spans whose index is in `folded` have no rows below them.
 * @param {Trace} trace
 * @param {ReadonlySet<number>} [folded]
 * @returns {Waterfall}
 */
export function waterfall(trace, folded = new Set()) {
  const spans = trace.spans;
  const parent = parents(trace);
  const starts = spans.map((s) => stampMs(s.started));
  let begin = stampMs(trace.started), end = begin + trace.duration_ms;
  spans.forEach((s, i) => {
    begin = Math.min(begin, starts[i]);
    end = Math.max(end, starts[i] + s.duration_ms);
  });
  /** @type {Map<number, number[]>} */
  const inside = new Map();
  spans.forEach((_, i) => {
    const list = inside.get(parent[i]);
    if (list) list.push(i);
    else inside.set(parent[i], [i]);
  });
  for (const list of inside.values()) list.sort((a, b) => starts[a] - starts[b] || a - b);
  /** @type {Row[]} */
  const rows = [];
  /** @type {[number, number, boolean][]} */
  const todo = []; // index, depth, whether it is the last of its parent
  const push = (/** @type {number} */ of, /** @type {number} */ depth) => {
    const list = inside.get(of) ?? [];
    for (let k = list.length - 1; k >= 0; k--) todo.push([list[k], depth, k === list.length - 1]);
  };
  push(-1, 0);
  for (let next = todo.pop(); next; next = todo.pop()) {
    const [index, depth, last] = next;
    const children = inside.get(index) ?? [];
    const from = starts[index] - begin, to = from + spans[index].duration_ms;
    const parts = children.filter((c) => spans[c].kind !== 'arguments') // other calls have taken that time
      .map((c) => ({ from: starts[c] - begin, to: starts[c] - begin + spans[c].duration_ms }));
    const own = uncovered(from, to, parts);
    rows.push({
      index, span: spans[index], depth, parent: parent[index], children: children.length, last, from, to, own,
      own_ms: own.reduce((sum, p) => sum + p.to - p.from, 0),
    });
    if (!folded.has(index)) push(index, depth + 1);
  }
  return { begin, total: Math.max(end - begin, 0.001), rows };
}

/**
 * The marks of an axis from `from` to `to`: multiples of 1, 2 or 5 times a power of ten, at most `most` of them.
 * For example, ticks(0, 43, 6) is [0, 10, 20, 30, 40].
 * @param {number} from
 * @param {number} to
 * @param {number} most
 * @returns {number[]}
 */
export function ticks(from, to, most) {
  const width = to - from;
  if (!(width > 0) || most < 1) return [];
  let step = 10 ** Math.floor(Math.log10(width / most));
  for (const grow of [2, 2.5, 2]) { // 1, 2, 5, 10
    if (Math.floor(width / step) + 1 <= most) break;
    step *= grow;
  }
  const list = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + step * 1e-9; k++) list.push(Number((k * step).toPrecision(12)));
  return list;
}

/**
 * What a span is, in words, as `helve why` says it.
 * @param {Span} s
 * @param {Trace} trace
 * @returns {string}
 */
export function label(s, trace) {
  const place = (/** @type {string|undefined} */ method) => [s.app, s.deployment].filter(Boolean).join('/') + (method ? '.' + method : '');
  switch (s.kind) {
    case 'http':
      return `HTTP ${trace.route ?? ''}`.trim();
    case 'arguments':
      return `arguments of ${place(s.method)}`;
    case 'wait':
      if (s.origin === 'broadcast') return `wait for the broadcasts before it at ${place('')}`;
      return (s.without_replica_ms ?? 0) * 2 >= s.duration_ms && s.without_replica_ms ? `wait for a replica of ${place('')}` : `wait for a slot of ${place('')}`;
    case 'stall':
      return `event loop blocked in ${s.name ?? ''}`;
    case 'span':
      return s.name ?? 'span';
    case 'batch':
      return `batch ${s.name ?? ''}`.trim();
    default:
      return (s.kind === 'call' ? '' : s.kind + ' ') + place(s.method);
  }
}

/** How a bar is drawn: the class of its colour and its pattern. @param {Span} s @returns {'wait'|'span'|'stall'|'call'} */
export function look(s) {
  if (waits.has(s.kind)) return 'wait';
  if (s.kind === 'span') return 'span';
  return s.kind === 'stall' ? 'stall' : 'call';
}
