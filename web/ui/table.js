// @ts-check
// A table that can be sorted, has only the rows in the DOM that are in sight, and goes with the arrow keys from row to row.
//
//   html`<${Table} title="Replicas" rows=${replicas} id=${(r) => r.replica_id} sort="sort" first="-rate" empty="No replica." columns=${[
//     { name: 'replica', title: 'Replica', value: (r) => r.replica_id, cell: (r) => html`<a href=${…}>${r.replica_id}</a>` },
//     { name: 'rate', title: 'Calls', unit: '/s', value: (r) => figures.get(r.replica_id)?.rate, cell: …, end: true, phone: false },
//   ]} />`
//
// A column: value gives what it is sorted by (null is always last), cell what is drawn (else the value); end aligns numbers to the right, phone: false leaves it out on
// narrow screens unless the address has it as the order, plain: true sorts text by its characters alone (the ids of replicas: #004 comes before #01b), width is a CSS width, and max the most that a cell takes before its text is cut. sort names the parameter of the address that has the order ("rate", "-rate" for the largest first), so that a link has it; first is
// the order without one, and "" keeps that of rows. Give each table of a page another name.
import { html, useEffect, useMemo, useRef, useState } from '../vendor/preact/standalone.module.js';
import { useQuery } from '../router.js';

/**
 * @typedef {{name: string, title: string, unit?: string, value?: (row: any) => any, cell?: (row: any) => any, end?: boolean, phone?: boolean, plain?: boolean, width?: string, max?: string, help?: string}} Column
 */

const rowHeight = 34; // Pixels; style.css has the same number.
const spare = 10; // Rows above and below those in sight.
const mostInSight = 40;

const words = new Intl.Collator(undefined, { numeric: true }); // Made once: a long table is sorted each second.

/** @param {any} a @param {any} b @param {boolean} [plain] */
function compare(a, b, plain) {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (plain) return a < b ? -1 : Number(a > b);
  return words.compare(String(a), String(b));
}

/**
 * The rows in the order of a column; unknown values are last in both directions.
 * @param {any[]} rows
 * @param {Column|undefined} column
 * @param {boolean} down
 */
export function sorted(rows, column, down) {
  const { value, plain } = column ?? {};
  if (!value) return rows;
  const missing = (/** @type {any} */ v) => v === null || v === undefined || v === '' || Number.isNaN(v);
  return rows.map((row) => ({ row, v: value(row) })).sort((a, b) => {
    if (missing(a.v) || missing(b.v)) return Number(missing(a.v)) - Number(missing(b.v));
    return down ? compare(b.v, a.v, plain) : compare(a.v, b.v, plain);
  }).map((x) => x.row);
}

/**
 * @param {{title: string, rows: any[], columns: Column[], id: (row: any) => string, sort?: string, first?: string, empty?: any, tone?: (row: any) => string|undefined, hideTitle?: boolean, focus?: boolean}} props
 *   tone: a class of the row, such as "bad"; focus: the rows have nothing that takes the focus, so that the keyboard needs the box to scroll a narrow one
 */
export function Table({ title, rows, columns, id, sort = 'sort', first = '', empty = 'Nothing.', tone, focus }) {
  const [query, setQuery] = useQuery();
  const order = query[sort] ?? first;
  const down = order.startsWith('-');
  const by = columns.find((c) => c.name === order.replace(/^-/, ''));
  const list = useMemo(() => sorted(rows, by, down), [rows, order, columns]);
  const box = useRef(/** @type {HTMLDivElement|null} */ (null));
  const [top, setTop] = useState(0);
  const focusRow = useRef(-1);

  const virtual = list.length > mostInSight + 2 * spare;
  const from = virtual ? Math.max(0, Math.min(Math.floor(top / rowHeight) - spare, list.length - mostInSight)) : 0;
  const to = virtual ? Math.min(list.length, from + mostInSight + spare) : list.length;

  useEffect(() => {
    if (focusRow.current < 0) return;
    const row = box.current?.querySelector(`tr[aria-rowindex="${focusRow.current + 2}"]`);
    focusRow.current = -1;
    /** @type {HTMLElement|null|undefined} */ (row?.querySelector('a, button') ?? row)?.focus();
  });

  const key = (/** @type {KeyboardEvent} */ e) => {
    const move = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[e.key];
    const row = e.target instanceof Element ? e.target.closest('tbody tr[aria-rowindex]') : null;
    if (!move || !row || !box.current) return;
    e.preventDefault();
    const next = Math.max(0, Math.min(list.length - 1, Number(row.getAttribute('aria-rowindex')) - 2 + move));
    focusRow.current = next;
    if (virtual) {
      const y = next * rowHeight;
      const b = box.current;
      if (y < b.scrollTop) b.scrollTop = y;
      else if (y + 2 * rowHeight > b.scrollTop + b.clientHeight) b.scrollTop = y + 2 * rowHeight - b.clientHeight;
    }
    setTop(box.current.scrollTop + (next + 1) / 1e6); // Draws again, also where nothing scrolls.
  };

  if (rows.length === 0) return html`<div class="empty"><p class="muted">${empty}</p></div>`;
  const head = (/** @type {Column} */ c) => {
    const on = by === c;
    const text = html`${c.title || html`<span class="visually-hidden">Actions</span>`}${c.unit && html`<span class="unit"> ${c.unit}</span>`}`;
    const next = (on ? !down : c.end) ? '-' + c.name : c.name; // Of numbers the largest are asked for first.
    return html`<th key=${c.name} scope="col" class=${(c.end ? 'end ' : '') + (c.phone === false && !(c === by && query[sort]) ? 'wide-only' : '')} style=${c.width ? { width: c.width } : undefined} title=${c.help}
      aria-sort=${on ? (down ? 'descending' : 'ascending') : undefined}>
      ${c.value ? html`<button class="sort" onClick=${() => setQuery({ [sort]: next === first ? null : next })}>${text}<span class="arrow" aria-hidden="true">${on ? (down ? '↓' : '↑') : ''}</span></button>` : text}</th>`;
  };
  return html`<div class=${'table-box' + (virtual ? ' virtual' : '')} ref=${box} tabindex=${virtual || focus ? 0 : undefined} role=${virtual || focus ? 'group' : undefined} aria-label=${virtual || focus ? title : undefined}
      onScroll=${virtual ? (/** @type {any} */ e) => { const t = e.target.scrollTop; if (Math.abs(t - top) >= rowHeight * (spare / 2) || t === 0) setTop(t); } : undefined}>
    <table aria-label=${title} aria-rowcount=${list.length + 1} onKeyDown=${key}>
      <thead><tr aria-rowindex="1">${columns.map(head)}</tr></thead>
      <tbody>
        ${from > 0 && html`<tr key="above" class="space" style=${{ height: from * rowHeight + 'px' }} aria-hidden="true"><td colspan=${columns.length}></td></tr>`}
        ${list.slice(from, to).map((row, i) => html`<tr key=${id(row)} aria-rowindex=${from + i + 2} class=${tone?.(row) ?? ''}>
          ${columns.map((c) => html`<td key=${c.name} class=${(c.end ? 'end ' : '') + (c.phone === false && !(c === by && query[sort]) ? 'wide-only' : '')} style=${c.max ? { maxWidth: c.max } : undefined}>${c.cell ? c.cell(row) : c.value?.(row)}</td>`)}</tr>`)}
        ${to < list.length && html`<tr key="below" class="space" style=${{ height: (list.length - to) * rowHeight + 'px' }} aria-hidden="true"><td colspan=${columns.length}></td></tr>`}
      </tbody>
    </table>
  </div>`;
}
