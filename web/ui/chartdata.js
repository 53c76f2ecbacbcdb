// @ts-check
// The numbers of charts: scales, labels of axes, marks near the pointer, and sentences for screen readers. It draws nothing; chart.js does.
import { mixture } from './mixture.js';

/**
 * A decision or an event that a chart marks at its time.
 * @typedef {object} Mark
 * @property {number} at seconds since 1970
 * @property {string} text one sentence
 * @property {"up"|"down"|"note"} kind
 * @property {string} [id] the same mark has the same id in all charts
 */

/**
 * @typedef {object} Summary
 * @property {number|null} last the newest value in the range
 * @property {number|null} least
 * @property {number|null} most
 */

/**
 * The top of a scale that begins at 0: a round number a little above the largest value, at least 1 for counts.
 * @param {number|null|undefined} most the largest value; null without values
 * @param {boolean} [whole] whether the values are counts
 * @param {boolean} [binary] whether the values are bytes, whose round numbers are those of KiB, MiB and so on
 * @returns {number}
 */
export function scaleTop(most, whole = false, binary = false) {
  if (!most || !(most > 0)) return binary ? 1024 : 1;
  if (binary) {
    const prefix = 1024 ** Math.floor(Math.log2(most) / 10);
    return prefix * scaleTop(most / prefix);
  }
  if (whole && most <= 4) return Math.max(1, Math.ceil(most * 1.01));
  const wanted = most * 1.05;
  const unit = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((s) => s * unit >= wanted) ?? 10;
  return step * unit;
}

/** Distances of the labels of bytes: 1, 2, 5, 10 … of each of B, KiB, MiB, GiB, TiB. */
export const binaryIncrements = [1, 1024, 1024 ** 2, 1024 ** 3, 1024 ** 4].flatMap((prefix) => [1, 2, 5, 10, 20, 50, 100, 200, 500].map((n) => n * prefix));

/**
 * The label of a time at an axis, in the zone of the viewer: "15:04", with seconds where the labels are less than a minute apart.
 * @param {number} at seconds since 1970
 * @param {number} apart seconds between two labels
 */
export function axisTime(at, apart) {
  const d = new Date(at * 1000);
  const two = (/** @type {number} */ n) => String(n).padStart(2, '0');
  return two(d.getHours()) + ':' + two(d.getMinutes()) + (apart < 60 ? ':' + two(d.getSeconds()) : '');
}

/**
 * The least, the most and the newest value between two times.
 * @param {readonly number[]} times rising
 * @param {readonly (number|null|undefined)[]} values
 * @param {number} from
 * @param {number} to
 * @returns {Summary}
 */
export function summary(times, values, from, to) {
  /** @type {Summary} */
  const s = { last: null, least: null, most: null };
  for (let i = 0; i < times.length; i++) {
    const v = values[i];
    if (v == null || times[i] < from || times[i] > to) continue;
    s.last = v;
    if (s.least == null || v < s.least) s.least = v;
    if (s.most == null || v > s.most) s.most = v;
  }
  return s;
}

/**
 * The sentence of a screen reader about one line of a chart.
 * @param {string} label
 * @param {Summary} s
 * @param {(value: number) => string} format
 */
export function sentence(label, s, format) {
  if (s.last == null || s.least == null || s.most == null) return `${label}: no value.`;
  if (s.least === s.most) return `${label}: ${format(s.last)} all the time.`;
  return `${label}: ${format(s.last)} now, between ${format(s.least)} and ${format(s.most)}.`;
}

/**
 * The indices of values that have no neighbour, so that a line would not show them.
 * @param {readonly (number|null|undefined)[]} values
 * @returns {number[]}
 */
export function lone(values) {
  const found = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] != null && values[i - 1] == null && values[i + 1] == null) found.push(i);
  }
  return found;
}

/**
 * The marks near a time, the nearest first.
 * @param {readonly Mark[]} marks
 * @param {number} at
 * @param {number} within seconds
 * @returns {Mark[]}
 */
export function near(marks, at, within) {
  return marks.filter((m) => Math.abs(m.at - at) <= within).sort((a, b) => Math.abs(a.at - at) - Math.abs(b.at - at) || a.at - b.at);
}

/**
 * The times of a chart that shows the last seconds, or of one that an operator has chosen. A chosen range that is none is the last seconds.
 * @param {{from?: string|number|null, to?: string|number|null, last: number, now: number}} chosen in seconds
 * @returns {{from: number, to: number, chosen: boolean}}
 */
export function range({ from, to, last, now }) {
  const a = Number(from);
  const b = Number(to);
  if (from != null && to != null && from !== '' && to !== '' && a > 0 && b > a) return { from: a, to: b, chosen: true };
  return { from: now - last, to: now, chosen: false };
}

/**
 * The columns of a series (history.js) as a chart takes them: each value at the end of its step, because counts are of that time.
 * @param {{step: number, from: number, columns: Record<string, (number|null)[]>}} series step and from in milliseconds
 * @returns {Record<string, (number|null)[]> & {t: number[]}}
 */
export function columnsOf(series) {
  const length = Object.values(series.columns).reduce((most, c) => Math.max(most, c.length), 0);
  const t = Array.from({ length }, (_, i) => (series.from + (i + 1) * series.step) / 1000);
  return /** @type {any} */ ({ ...series.columns, t });
}

/**
 * The marks of the decisions of an autoscaler.
 * @param {readonly {at: string, from: number, to: number, reason: string, policy?: string}[]} decisions
 * @returns {Mark[]}
 */
export function marksOf(decisions) {
  return decisions.map((d) => ({
    id: `${d.at} ${d.to}`,
    at: Date.parse(d.at) / 1000,
    kind: d.to > d.from ? 'up' : 'down',
    text: `${d.from} → ${d.to}: ${d.reason}` + (d.policy ? ` (policy ${d.policy})` : ''),
  }));
}

/** Events of a deployment that its decisions tell already. */
const ofScaling = new Set(['autoscale_up', 'autoscale_down', 'autoscaling', 'upscale_completed', 'downscale_completed']);

/** @type {Record<string, 'up'|'down'>} */
const scalings = { autoscale_up: 'up', autoscale_down: 'down' };

/**
 * The marks of events, such as deploys, failures and recoveries; those of the autoscaler are left out from `told` on, because its decisions are marks of their own. A node keeps
 * decisions in memory and events on disk: what a node before it has decided is in events alone.
 * @param {readonly {id: number, time: string, from?: string, to?: string, reason?: string, message?: string}[]} events
 * @param {number} [told] the time of the first decision in seconds
 * @returns {Mark[]}
 */
export function marksOfEvents(events, told = -Infinity) {
  return events
    .filter((e) => !ofScaling.has(e.reason ?? '') || (scalings[e.reason ?? ''] && Date.parse(e.time) / 1000 < told - 1)) // An event may be a little before its decision.
    .map((e) => {
      const message = (e.message ?? '').split('\n', 1)[0];
      const scaling = scalings[e.reason ?? ''];
      if (scaling) return { id: `event ${e.id}`, at: Date.parse(e.time) / 1000, kind: scaling, text: message.replace(/^(\d+) -> (\d+) replicas/, '$1 → $2') };
      const change = e.from === e.to ? '' : `, ${e.from || 'none'} → ${e.to || 'gone'}`;
      return { id: `event ${e.id}`, at: Date.parse(e.time) / 1000, kind: 'note', text: (e.reason ?? '').replaceAll('_', ' ') + change + (message && `: ${message}`) };
    });
}

/** The columns of quantiles. @type {[number, string][]} */
const quantiles = [[0.5, 'p50_ms'], [0.9, 'p90_ms'], [0.99, 'p99_ms']];

/**
 * The p99 of all calls in a time, and that of the slowest step in it, for the head of a chart: ", p99 about 1.2 s, at most 1.5 s in a step".
 * @param {Record<string, any>} columns
 * @param {{from: number, to: number}} time
 * @param {(value: number) => string} format
 */
export function p99In(columns, time, format) {
  const steps = [];
  for (let i = 0; i < columns.t.length; i++) {
    if (columns.t[i] < time.from || columns.t[i] > time.to || quantiles.some(([, name]) => typeof columns[name]?.[i] !== 'number')) continue;
    steps.push({ weight: columns.rate?.[i] ?? 0, at: quantiles.map(([part, name]) => /** @type {[number, number]} */ ([part, columns[name][i]])) });
  }
  const about = mixture(steps, 0.99);
  if (about === null) return '';
  const most = format(Math.max(...steps.map((s) => s.at[2][1])));
  return format(about) === most ? `, p99 about ${most}` : `, p99 about ${format(about)}, at most ${most} in a step`;
}
