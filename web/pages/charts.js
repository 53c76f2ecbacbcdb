// @ts-check
// Charts of one object over the last hour, below one choice of the time, which is in the address: ?range=10m, or ?from=…&to=… after a drag over a chart.
//
//   html`<${Charts} object=${{ app, deployment }} group="deployment" charts=${[{ title: 'Calls', unit: 'calls/s', format: rate, lines: [{ key: 'rate', label: 'ended' }, …] }]}
//     below=${({ marks, active, setActive, show }) => …} />`
// The marks of all charts are the decisions of the autoscaler, and the events. below draws what belongs to them, such as their list.
import { html, useMemo, useState } from '../vendor/preact/standalone.module.js';
import { useSeries } from '../history.js';
import { useQuery } from '../router.js';
import { useUpdates } from '../updates.js';
import { Failure, Loading } from '../ui/empty.js';
import { Chart } from '../ui/chart.js';
import { columnsOf, marksOf, marksOfEvents, p99In, range } from '../ui/chartdata.js';
import { clock } from '../ui/format.js';

const ranges = [
  { name: '10m', says: '10 min', seconds: 600 },
  { name: '30m', says: '30 min', seconds: 1800 },
  { name: '1h', says: '1 h', seconds: 3600 },
];
const usual = ranges[1];

/**
 * @typedef {object} ChartOf
 * @property {string} title
 * @property {string} unit
 * @property {(value: number) => string} format
 * @property {import('../ui/chart.js').Line[]} lines
 * @property {boolean} [whole]
 * @property {boolean} [binary]
 * @property {string} [empty]
 * @property {boolean} [p99] the head has the p99 of all calls in the time
 */

/** @param {{object: {app?: string, deployment?: string, replica?: string}, group: string, charts: ChartOf[], events?: any[], below?: (of: any) => any}} props */
export function Charts({ object, group, charts, events, below }) {
  const [query, setQuery] = useQuery();
  const { series, error } = useSeries(object, '1h');
  const { node } = useUpdates();
  const [active, setActive] = useState('');
  const columns = useMemo(() => (series ? columnsOf(series) : { t: [] }), [series]);
  const marks = useMemo(() => {
    const decided = marksOf(series?.decisions ?? []);
    return [...decided, ...marksOfEvents(events ?? [], Math.min(...decided.map((m) => m.at)))].sort((a, b) => a.at - b.at);
  }, [series, events]);
  if (!series) return error ? html`<${Failure} error=${error} />` : html`<${Loading} what="the last hour" />`;

  const chosen = ranges.find((r) => r.name === query.range) ?? usual;
  const now = columns.t[columns.t.length - 1] ?? Date.now() / 1000;
  const time = range({ from: query.from, to: query.to, last: chosen.seconds, now });
  const started = Date.parse(node?.started_at ?? '') / 1000; // What was before is not in the memory of this node.
  const show = (/** @type {{from: number, to: number}|null} */ r) => setQuery({ from: r?.from ?? null, to: r?.to ?? null });
  return html`<div class="charts-bar" role="group" aria-label="Time of the charts">
      ${ranges.map((r) => html`<button key=${r.name} class="quiet" aria-pressed=${!time.chosen && r === chosen} onClick=${() => setQuery({ range: r === usual ? null : r.name, from: null, to: null })}>${r.says}</button>`)}
      ${time.chosen && html`<span class="charts-chosen">${clock(time.from * 1000)} to ${clock(time.to * 1000)} <button class="quiet" onClick=${() => show(null)}>Back to the last ${chosen.says}</button></span>`}
      <span class="muted charts-hint">${started > time.from && `The node has figures since its start, ${clock(started * 1000)}. `}${time.chosen ? '' : 'Drag over a chart to enlarge a time.'}</span>
    </div>
    ${error && html`<p class="warn-line" role="status">The charts stand still: ${error.message}</p>`}
    <div class="charts">
      ${charts.map((c) => html`<${Chart} key=${c.title} ...${c} unit=${c.unit + (c.p99 ? p99In(columns, time, c.format) : '')} sync=${group} columns=${columns} from=${time.from} to=${time.to} marks=${marks} active=${active} onMark=${setActive} onRange=${show} />`)}
    </div>
    ${below?.({ marks, active, setActive, show, time })}`;
}
