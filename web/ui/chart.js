// @ts-check
// A chart of lines over time, drawn by uPlot.
//
//   html`<${Chart} title="Rate" unit="calls/s" sync="deployment"
//     lines=${[{key: "rate", label: "calls"}, {key: "errors", label: "errors", colour: "bad", dash: [4, 3]}]}
//     columns=${{t: [1760000000, …], rate: [1.5, …], errors: [0, …]}}      // t in seconds since 1970; null is an unknown value
//     from=${…} to=${…} onRange=${(range) => …}                            // {from, to} of a drag with the pointer, null after a double click
//     marks=${[{at, kind: "up", text: "2 -> 4: 8 calls …", id}]} active=${id} format=${(v) => …} empty="No calls in this hour" />`
//
// Charts with the same sync show the same time under the pointer. The values under the pointer are in the legend; without a pointer the newest ones are.
// Colours are custom properties of style.css, read again when the theme changes. A line is told by its dashes too.

import { html, useEffect, useLayoutEffect, useRef, useState } from '../vendor/preact/standalone.module.js';
import uPlot from '../vendor/uplot/uPlot.esm.js';
import { axisTime, binaryIncrements, lone, near, scaleTop, sentence, summary } from './chartdata.js';

/** @typedef {import("./chartdata.js").Mark} Mark */

/**
 * @typedef {object} Line
 * @property {string} key of its column
 * @property {string} label
 * @property {string} [colour] the name of a colour: "1" to "6" of the series, "bad" or "muted"
 * @property {number[]} [dash] lengths in pixels
 * @property {boolean} [stepped] whether a value holds until the next one, as a number of replicas does
 * @property {boolean} [filled] whether the area below it is tinted
 */

/**
 * @typedef {object} ChartProps
 * @property {string} title
 * @property {string} unit
 * @property {Line[]} lines
 * @property {Record<string, (number|null)[]> & {t: number[]}} columns
 * @property {number} from
 * @property {number} to
 * @property {(value: number) => string} format
 * @property {boolean} [whole] whether the values are counts
 * @property {boolean} [binary] whether the values are bytes
 * @property {Mark[]} [marks]
 * @property {string} [active] the id of the mark that is drawn strongly
 * @property {(id: string) => void} [onMark] the pointer is at this mark; "" for none
 * @property {(range: {from: number, to: number}|null) => void} [onRange]
 * @property {string} [sync]
 * @property {number} [height]
 * @property {string} [empty]
 */

const AXIS_WIDTH = 56; // of all charts, so that their times are below each other
const MARK_REACH = 7; // pixels between the pointer and a mark that is explained
const SIGN = 4; // half of the width of the sign of a mark
const AREA = '1f'; // the opacity of the area below a line, behind a colour of six digits
const NOTHING = '–';
const markColours = { up: '--good', down: '--series-3', note: '--muted' };

/** The custom property of a colour. @param {string} [colour] */
const property = (colour = '1') => (/^\d/.test(colour) ? '--series-' : '--') + colour;

/** @param {ChartProps} props */
export function Chart(props) {
  const { title, unit, lines, columns, from, to, format, height = 132, empty = 'No values in this time' } = props;
  const box = useRef(/** @type {any} */ (null));
  const legend = useRef(/** @type {any} */ (null));
  const live = useRef(/** @type {ChartProps} */ (props));
  const plot = useRef(/** @type {uPlot|null} */ (null));
  const [hover, setHover] = useState(/** @type {{left: number, at: number, marks: Mark[]}|null} */ (null));
  const [hidden, setHidden] = useState(/** @type {ReadonlySet<string>} */ (new Set()));
  live.current = props;

  const shape = JSON.stringify(lines);
  useLayoutEffect(() => {
    const root = box.current;
    const colours = palette(root);
    const u = new uPlot(
      options(root, live, colours, height, setHover, (i) => values(legend.current, live.current, i)),
      data(live.current),
      root,
    );
    plot.current = u;
    const size = new ResizeObserver(() => root.clientWidth && u.setSize({ width: root.clientWidth, height }));
    size.observe(root);
    const repaint = () => (colours.read(), u.redraw());
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', repaint);
    const theme = new MutationObserver(repaint);
    theme.observe(document.documentElement, { attributes: true });
    return () => {
      size.disconnect();
      theme.disconnect();
      dark.removeEventListener('change', repaint);
      u.destroy();
      plot.current = null;
    };
  }, [shape, height]);

  useEffect(() => {
    const u = plot.current;
    if (!u) return;
    u.setData(data(props), true);
    values(legend.current, props, u.cursor.idx ?? null);
  }, [columns, from, to, shape]);
  useEffect(() => plot.current?.redraw(false), [props.marks, props.active]);
  useEffect(() => {
    lines.forEach((line, i) => plot.current?.setSeries(i + 1, { show: !hidden.has(line.key) }));
  }, [hidden, shape]);

  const sums = lines.map((line) => summary(columns.t, columns[line.key] ?? [], from, to));
  const none = sums.every((s) => s.last == null);
  const toggle = (/** @type {string} */ key) =>
    setHidden((before) => {
      const next = new Set(before);
      if (!next.delete(key)) next.add(key);
      return next.size < lines.length ? next : new Set();
    });

  return html`<figure class="chart" aria-label=${`${title}, ${unit}`}>
    <figcaption class="chart-head">
      <span class="chart-title">${title}</span> <span class="chart-unit">${unit}</span>
      <span class="chart-legend" ref=${legend}>
        ${lines.map(
          (line) =>
            html`<button
              type="button"
              class="chart-key"
              aria-pressed=${!hidden.has(line.key)}
              onClick=${() => toggle(line.key)}
              title=${`Show or hide ${line.label}`}
            >
              <svg class="chart-sign" width="18" height="8" aria-hidden="true">
                <line x1="0" y1="4" x2="18" y2="4" style=${{ stroke: `var(${property(line.colour)})` }} stroke-dasharray=${(line.dash ?? []).join(' ')} />
              </svg>
              ${line.label} <span class="chart-value" data-key=${line.key}></span>
            </button>`,
        )}
      </span>
    </figcaption>
    <div class="chart-box" ref=${box} aria-hidden="true">
      ${none && html`<p class="chart-empty">${empty}</p>`} ${hover && html`<${Bubble} ...${hover} right=${hover.left > (box.current?.clientWidth ?? 0) / 2} />`}
    </div>
    <p class="chart-words">${lines.map((line, i) => sentence(line.label, sums[i], format)).join(' ')}</p>
  </figure>`;
}

/** @param {{left: number, at: number, marks: Mark[], right: boolean}} props */
function Bubble({ left, at, marks, right }) {
  return html`<div class=${'chart-bubble' + (right ? ' chart-bubble-left' : '')} style=${{ left: left + 'px' }}>
    <time>${axisTime(at, 1)}</time>
    ${marks.map((m) => html`<p class=${'chart-mark-' + m.kind}>${sign(m.kind)} ${axisTime(m.at, 1)} ${m.text}</p>`)}
  </div>`;
}

/** @param {Mark["kind"]} kind */
export function sign(kind) {
  return { up: '▲', down: '▼', note: '◆' }[kind];
}

/** @param {ChartProps} props */
function data(props) {
  return /** @type {any} */ ([props.columns.t, ...props.lines.map((line) => props.columns[line.key] ?? [])]);
}

/**
 * Writes the values of a time into the legend, past the page's own drawing: it comes with each move of the pointer.
 * @param {HTMLElement} legend
 * @param {ChartProps} props
 * @param {number|null} i the index of the time; null for the newest values
 */
function values(legend, props, i) {
  for (const line of props.lines) {
    const place = legend?.querySelector(`[data-key="${CSS.escape(line.key)}"]`);
    if (!place) continue;
    const column = props.columns[line.key] ?? [];
    const v = i == null ? summary(props.columns.t, column, props.from, props.to).last : column[i];
    place.textContent = v == null ? NOTHING : props.format(v);
  }
}

/**
 * The colours of the theme, which a canvas does not find by itself.
 * @param {Element} root
 */
function palette(root) {
  /** @type {Map<string, string>} */
  const known = new Map();
  return {
    read: () => known.clear(),
    /** @param {string} name */
    of(name) {
      let colour = known.get(name);
      if (colour === undefined) known.set(name, (colour = getComputedStyle(root).getPropertyValue(name).trim() || '#888888'));
      return colour;
    },
  };
}

/**
 * @param {HTMLElement} root
 * @param {{current: ChartProps}} live
 * @param {ReturnType<typeof palette>} colours
 * @param {number} height
 * @param {(hover: any) => void} setHover
 * @param {(i: number|null) => void} setValues
 * @returns {uPlot.Options}
 */
function options(root, live, colours, height, setHover, setValues) {
  const font = '11px ' + getComputedStyle(root).fontFamily;
  const axis = {
    stroke: () => colours.of('--muted'),
    grid: { stroke: () => colours.of('--border'), width: 1 },
    ticks: { show: false },
    font,
  };
  let known = ''; // the marks at the pointer
  return {
    width: root.clientWidth || 300,
    height,
    padding: [10, 18, 0, 0],
    legend: { show: false },
    scales: {
      x: { time: true, range: () => [live.current.from, live.current.to] },
      y: { range: (_, least, most) => [Math.min(0, least ?? 0), scaleTop(most, live.current.whole, live.current.binary)] },
    },
    axes: [
      { ...axis, size: 24, space: 64, values: (_, at, __, ___, apart) => at.map((t) => axisTime(t, apart)) },
      {
        ...axis,
        size: AXIS_WIDTH,
        space: 26,
        incrs: live.current.binary ? binaryIncrements : live.current.whole ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] : undefined,
        values: (_, at) => at.map((v) => live.current.format(v)),
      },
    ],
    series: [
      {},
      ...live.current.lines.map((line) => {
        const stroke = () => colours.of(property(line.colour));
        return {
          label: line.label,
          stroke,
          width: 1.5,
          dash: line.dash,
          fill: line.filled ? () => colours.of(property(line.colour)) + AREA : undefined,
          paths: line.stepped ? uPlot.paths.stepped?.({ align: 1 }) : undefined,
          points: {
            show: false,
            size: 4,
            width: 0,
            fill: stroke,
            filter: (/** @type {uPlot} */ u, /** @type {number} */ i) => lone(/** @type {any} */ (u.data[i])),
          },
        };
      }),
    ],
    cursor: {
      y: false,
      points: { size: 5 },
      drag: { x: true, y: false, setScale: false },
      sync: live.current.sync ? { key: live.current.sync, scales: ['x', null], setSeries: false } : undefined,
      bind: { dblclick: () => () => (live.current.onRange?.(null), null) },
    },
    hooks: {
      draw: [(u) => drawMarks(u, live.current, colours)],
      setCursor: [
        (u) => {
          const { idx, left, event } = u.cursor;
          setValues(left != null && left >= 0 ? (idx ?? null) : null);
          // Only the chart under the pointer explains marks; the others of its group only follow.
          if (left == null || left < 0 || !event || !u.root.matches(':hover')) {
            setHover(null);
            if (known) live.current.onMark?.((known = ''));
            return;
          }
          const at = u.posToVal(left, 'x');
          const reach = MARK_REACH * ((live.current.to - live.current.from) / (u.over.clientWidth || 1));
          const marks = near(live.current.marks ?? [], at, reach).slice(0, 3);
          setHover({ left: left + AXIS_WIDTH, at, marks });
          const id = marks[0]?.id ?? '';
          if (id !== known) live.current.onMark?.((known = id));
        },
      ],
      setSelect: [
        (u) => {
          const { left, width } = u.select;
          if (width < 4) return;
          const chosen = { from: Math.floor(u.posToVal(left, 'x')), to: Math.ceil(u.posToVal(left + width, 'x')) };
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          if (chosen.to > chosen.from) live.current.onRange?.(chosen);
        },
      ],
    },
  };
}

/**
 * @param {uPlot} u
 * @param {ChartProps} props
 * @param {ReturnType<typeof palette>} colours
 */
function drawMarks(u, props, colours) {
  const { ctx, bbox } = u;
  const r = uPlot.pxRatio;
  ctx.save();
  for (const m of props.marks ?? []) {
    if (m.at < props.from || m.at > props.to) continue;
    const strong = m.id != null && m.id === props.active;
    const x = Math.round(u.valToPos(m.at, 'x', true));
    ctx.strokeStyle = ctx.fillStyle = colours.of(strong ? '--text' : markColours[m.kind]);
    ctx.lineWidth = strong ? 2 * r : r;
    ctx.setLineDash(strong ? [] : [2 * r, 3 * r]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const w = (strong ? SIGN + 2 : SIGN) * r;
    const top = bbox.top - 7 * r;
    const bottom = bbox.top + 2 * r;
    ctx.beginPath();
    if (m.kind === 'note') {
      const middle = (top + bottom) / 2;
      ctx.moveTo(x, top);
      ctx.lineTo(x + w, middle);
      ctx.lineTo(x, bottom);
      ctx.lineTo(x - w, middle);
    } else {
      const [tip, base] = m.kind === 'down' ? [bottom, top] : [top, bottom];
      ctx.moveTo(x, tip);
      ctx.lineTo(x - w, base);
      ctx.lineTo(x + w, base);
    }
    ctx.fill();
  }
  ctx.restore();
}
