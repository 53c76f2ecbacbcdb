// @ts-check
// One request: why it was slow or has failed, and what took time in it, as a waterfall. A request that runs is followed until it ends.
import { html, useEffect, useMemo, useRef, useState } from '../vendor/preact/standalone.module.js';
import { link, navigate, useQuery } from '../router.js';
import { path, useGet } from '../api.js';
import { Facts, Figures, PageHead, Panel } from '../ui/layout.js';
import { Answer, Failure, Loading } from '../ui/empty.js';
import { Sign } from '../ui/state.js';
import { Code } from '../ui/code.js';
import { LogView } from '../ui/logview.js';
import { useKeys } from '../ui/keys.js';
import { Next } from '../ui/next.js';
import { clock, count, date, local, ms, plural, value, zone } from '../ui/format.js';
import { label, look, ticks, waterfall } from './waterfall.js';

/**
 * @typedef {import('./waterfall.js').Trace} Trace
 * @typedef {import('./waterfall.js').Row} Row
 */

const followEvery = 1; // Seconds between two looks at a request that runs.
const longestName = 24; // Letters of a request id that the name of the page has.

/** @param {{params: import('../router.js').View['params']}} props */
export default function RequestPage({ params: { id = '' } }) {
  const [open, setOpen] = useState(true); // Until the first answer says that it has ended.
  const answer = useGet(path`/api/v1/requests/${id}`, {}, { every: open ? followEvery : 0 });
  const trace = /** @type {Trace|undefined} */ (answer.data);
  const slowFrom = useGet('/api/v1/requests', { limit: 1 }).data?.slow_from_ms ?? 0;
  const slow = trace?.kept === 'slow' && trace.duration_ms >= slowFrom; // The node keeps the slowest of each route too, however fast they were.
  useEffect(() => { if (trace || answer.error) setOpen(trace?.running === true); }, [trace, answer.error]);
  const state = !trace ? undefined : trace.running ? 'running' : trace.reason || trace.kept === 'failed' ? 'failed' : slow ? 'slow' : 'ended';
  const tone = state === 'running' ? 'busy' : state === 'failed' ? 'bad' : state === 'slow' ? 'warn' : 'good';
  return html`<${PageHead} kind="request" name=${id.length > longestName ? id.slice(0, 8) + '…' : id} state=${state} tone=${state && tone} actions=${html`<button onClick=${answer.reload}>Look again</button>`}>
      <code class="whole">${id}</code>${trace?.trace_id && html` · trace <code class="whole">${trace.trace_id}</code>`}
    </>
    ${trace ? html`<${Found} trace=${trace} slow=${slow} id=${id} old=${answer.error} />` : answer.error?.status === 404 ? html`<${Unknown} id=${id} error=${answer.error} />`
      : answer.error ? html`<${Failure} error=${answer.error} retry=${answer.reload} />` : html`<${Loading} what="the request" />`}`;
}

/** @param {{id: string, error: any}} props */
function Unknown({ id, error }) {
  return html`<${Panel} title="The node does not know this request" tone="warn"><div class="stack">
      <p class="sentence">${error.message}</p><${Next} text=${error.next} />
      <p class="muted">A request is kept for some minutes if it has failed, was slow or is sampled. <a href=${link.requests()}>Requests that are kept</a></p></div></>
    <${Panel} title="Log lines of this request" flush><${LogView} query=${{ request: id }} title="Log lines" small /></>`;
}

/** @param {{trace: Trace, slow: boolean, id: string, old: any}} props */
function Found({ trace, slow, id, old }) {
  const kept = trace.kept === 'slow' && !slow ? 'slowest of its route' : trace.kept;
  const to = trace.app && trace.deployment ? link.deployment(trace.app, trace.deployment) : trace.app ? link.application(trace.app) : '';
  const place = [trace.app, trace.deployment].filter(Boolean).join('/') + (trace.method ? '.' + trace.method : '');
  const failed = Boolean(trace.reason) || trace.kept === 'failed';
  return html`
    ${old && html`<p class="warn-line" role="status">These data are old: ${old.message}</p>`}
    <${Panel} title=${failed ? 'Why it has failed' : trace.running ? 'What it does' : 'What took the time'} tone=${failed ? 'bad' : trace.running ? undefined : slow ? 'warn' : undefined}>
      <div class="stack tight">
        <p class="sentence">${local(trace.sentence)}</p>
        <${Next} text=${trace.next} />
        ${trace.message?.includes('\n') && html`<${Code} text=${trace.message} label="The failure" />`}
      </div>
    </>
    <${Panel} title="Request"><${Figures} of=${[
      { label: trace.running ? 'Runs for' : 'Took', value: ms(trace.duration_ms) },
      ...(trace.status ? [{ label: 'Status', value: trace.status, tone: /** @type {import('../ui/state.js').Tone} */ (failed ? 'bad' : 'good') }] : []),
      { label: 'Begin', value: clock(trace.started, true), title: `${date(trace.started)} (${zone()})` },
      { label: trace.kind === 'span' ? 'Span of a program' : 'To', value: trace.kind === 'span' ? trace.name : to ? html`<a href=${to}>${place}</a>` : place || '–' },
      ...(trace.route ? [{ label: 'Route', value: trace.route }] : []),
      ...(trace.running && !trace.kept ? [] : [{ label: 'Kept because', value: kept ? kept + (trace.sampled && trace.kept !== 'sampled' ? ', sampled' : '') : html`<span class="muted">not kept</span>` }]),
    ]} /></>
    <${Spans} trace=${trace} />
    <${Panel} title="Log lines of this request" flush actions=${html`<a href=${link.logs({ request: id })}>In Logs</a> <a href=${link.logs({ request: id, access: '1' })}>Access log</a>`}>
      <${LogView} key=${id} query=${{ request: id }} title="Log lines of this request" small empty="No line of this request is kept." /></>`;
}

const rowHeight = 30; // Pixels; lists.css has the same number.
const phoneRow = 46; // The same on a phone, where the bar is below the name.
const allRows = 80; // Rows up to which all are in the DOM.
const spare = 10; // Rows above and below those in sight.
const marks = 6; // Of the axis.

/** @param {{trace: Trace}} props */
function Spans({ trace }) {
  const [query, setQuery] = useQuery();
  const [folded, setFolded] = useState(/** @type {Set<number>} */ (new Set()));
  const [top, setTop] = useState(0);
  const box = useRef(/** @type {HTMLDivElement|null} */ (null));
  const focus = useRef(-1);
  const fall = useMemo(() => waterfall(trace, folded), [trace, folded]);
  const whole = useMemo(() => waterfall(trace), [trace]);
  const chosen = query.span === undefined ? -1 : Number(query.span);
  const [from, to] = part(query.part, whole.total);
  const narrow = matchMedia('(max-width: 700px)').matches;
  const height = narrow ? phoneRow : rowHeight;
  const rows = fall.rows;
  const virtual = rows.length > allRows;
  const first = virtual ? Math.max(0, Math.floor(top / height) - spare) : 0;
  const last = virtual ? Math.min(rows.length, first + Math.ceil(600 / height) + 2 * spare) : rows.length;
  const tabRow = rows.some((r) => r.index === chosen) ? chosen : rows[0]?.index;

  const choose = (/** @type {number} */ index) => setQuery({ span: index < 0 || index === chosen ? null : index });
  const fold = (/** @type {number} */ index, /** @type {boolean} */ on) => setFolded((before) => {
    const next = new Set(before);
    if (on) next.add(index);
    else next.delete(index);
    return next;
  });
  const zoomTo = (/** @type {number} */ a, /** @type {number} */ b) => setQuery({ part: `${Number(a.toFixed(3))}-${Number(b.toFixed(3))}` });
  const zoom = () => {
    const row = whole.rows.find((r) => r.index === chosen);
    if (row && row.to > row.from) zoomTo(row.from, row.to);
  };
  useKeys([
    { keys: 'z', says: 'Waterfall: the time of the chosen span alone', run: zoom },
    { keys: '0', says: 'Waterfall: the whole time', run: () => setQuery({ part: null }) },
  ]);
  useEffect(() => {
    if (focus.current < 0) return;
    /** @type {HTMLElement|null|undefined} */ (box.current?.querySelector(`[data-index="${focus.current}"]`))?.focus();
    focus.current = -1;
  });
  const move = (/** @type {number} */ at) => {
    const row = rows[Math.max(0, Math.min(rows.length - 1, at))];
    if (!row) return;
    focus.current = row.index;
    const b = box.current;
    if (virtual && b) {
      const y = rows.indexOf(row) * height;
      if (y < b.scrollTop) b.scrollTop = y;
      else if (y + height > b.scrollTop + b.clientHeight) b.scrollTop = y + height - b.clientHeight;
      setTop(b.scrollTop);
    }
    setQuery({ span: row.index });
  };
  const key = (/** @type {KeyboardEvent} */ e) => {
    const element = e.target instanceof Element ? e.target.closest('[data-index]') : null;
    const at = rows.findIndex((r) => String(r.index) === element?.getAttribute('data-index'));
    if (at < 0 || e.ctrlKey || e.metaKey || e.altKey) return;
    const row = rows[at];
    if (e.key === 'ArrowDown') move(at + 1);
    else if (e.key === 'ArrowUp') move(at - 1);
    else if (e.key === 'Home') move(0);
    else if (e.key === 'End') move(rows.length - 1);
    else if (e.key === 'ArrowLeft' && row.children > 0 && !folded.has(row.index)) fold(row.index, true);
    else if (e.key === 'ArrowLeft') move(rows.findIndex((r) => r.index === row.parent));
    else if (e.key === 'ArrowRight' && folded.has(row.index)) fold(row.index, false);
    else if (e.key === 'ArrowRight') move(at + 1);
    else if (e.key === 'Enter' || e.key === ' ') choose(row.index);
    else return;
    e.preventDefault();
  };
  if (rows.length === 0) return html`<${Panel} title="Waterfall"><p class="muted">No span of this request is kept.</p></>`;
  const chosenRow = whole.rows.find((r) => r.index === chosen);
  const note = `${plural(whole.rows.length, 'span')}${trace.missed ? `; ${count(trace.missed)} more have found no room` : ''}${trace.sampled ? '' : '; calls below 1 ms that did not fail are left out'}`;
  const zoomed = from > 0 || to < whole.total;
  return html`<div class=${chosenRow ? 'with-aside' : ''}>
    <${Panel} title="Waterfall" note=${note} flush actions=${html`
        ${zoomed && html`<button onClick=${() => setQuery({ part: null })}>Whole time</button>`}
        <button onClick=${() => setFolded(folded.size > 0 ? new Set() : new Set(whole.rows.filter((r) => r.depth >= 1 && r.children > 0).map((r) => r.index)))}>${folded.size > 0 ? 'Unfold all' : 'Fold'}</button>`}>
      <div class="fall">
        <${Axis} from=${from} to=${to} total=${whole.total} zoom=${zoomTo} />
        <div class=${'fall-box' + (virtual ? ' virtual' : '')} ref=${box} role="tree" aria-label="Spans of the request" onKeyDown=${key} onScroll=${virtual ? () => { const t = box.current?.scrollTop ?? 0; if (Math.abs(t - top) > height * (spare / 2)) setTop(t); } : undefined}>
          ${first > 0 && html`<div style=${{ height: first * height + 'px' }}></div>`}
          ${rows.slice(first, last).map((row) => html`<${Bar} key=${row.index} row=${row} trace=${trace} from=${from} to=${to} folded=${folded.has(row.index)} chosen=${row.index === chosen} tab=${row.index === tabRow} choose=${choose} fold=${fold} />`)}
          ${last < rows.length && html`<div style=${{ height: (rows.length - last) * height + 'px' }}></div>`}
        </div>
        <${Legend} spans=${trace.spans} />
      </div>
    </>
    ${chosenRow && html`<${Detail} row=${chosenRow} trace=${trace} begin=${whole.begin} close=${() => setQuery({ span: null })} zoom=${zoom} />`}
  </div>`;
}

/** The part of the time that the address says. @param {string|undefined} text @param {number} total @returns {[number, number]} */
function part(text, total) {
  const m = /^([\d.]+)-([\d.]+)$/.exec(text ?? '');
  if (!m) return [0, total];
  const from = Math.max(0, Number(m[1])), to = Math.min(Number(m[2]), total);
  return to > from ? [from, to] : [0, total];
}

/** The axis of time. A part of it that is drawn over with the pointer fills the width. @param {{from: number, to: number, total: number, zoom: (a: number, b: number) => void}} props */
function Axis({ from, to, zoom }) {
  const [drag, setDrag] = useState(/** @type {{a: number, b: number}|null} */ (null));
  const at = (/** @type {PointerEvent} */ e) => {
    const r = /** @type {HTMLElement} */ (e.currentTarget).getBoundingClientRect();
    return Math.min(1, Math.max(0, (e.clientX - r.left) / r.width));
  };
  const down = (/** @type {PointerEvent} */ e) => { /** @type {HTMLElement} */ (e.currentTarget).setPointerCapture(e.pointerId); setDrag({ a: at(e), b: at(e) }); };
  const up = () => {
    if (drag && Math.abs(drag.b - drag.a) > 0.01) {
      const width = to - from;
      zoom(from + Math.min(drag.a, drag.b) * width, from + Math.max(drag.a, drag.b) * width);
    }
    setDrag(null);
  };
  return html`<div class="fall-axis" aria-hidden="true"><span class="fall-name muted">span</span><span class="fall-took muted end">took</span>
    <div class="fall-track" title="Draw over a part of the time to see it alone" onPointerDown=${down} onPointerMove=${(/** @type {PointerEvent} */ e) => drag && setDrag({ ...drag, b: at(e) })} onPointerUp=${up} onPointerCancel=${() => setDrag(null)}>
      ${ticks(from, to, marks).map((t) => { const x = (t - from) / (to - from); return html`<span key=${t} class=${'fall-tick' + (x > 0.9 ? ' left' : '')} style=${{ left: 100 * x + '%' }}>${ms(t)}</span>`; })}
      ${drag && html`<span class="fall-drag" style=${{ left: 100 * Math.min(drag.a, drag.b) + '%', width: 100 * Math.abs(drag.b - drag.a) + '%' }}></span>`}
    </div></div>`;
}

/**
 * @param {{row: Row, trace: Trace, from: number, to: number, folded: boolean, chosen: boolean, tab: boolean, choose: (index: number) => void, fold: (index: number, on: boolean) => void}} props
 */
function Bar({ row, trace, from, to, folded, chosen, tab, choose, fold }) {
  const s = row.span, width = to - from;
  const x = (/** @type {number} */ t) => 100 * Math.min(1, Math.max(0, (t - from) / width));
  const inSight = row.to >= from && row.from <= to;
  const name = label(s, trace);
  const own = look(s) === 'call' ? row.own : [];
  const took = `${ms(s.duration_ms)}${s.open ? ' so far' : ''}`;
  const says = `${name}: from ${ms(row.from)} on, ${took}, ${ms(row.own_ms)} of its own${s.replica ? `, on ${s.replica}` : ''}${s.reason ? `, failed: ${s.reason}` : ''}`;
  return html`<div class=${'fall-row' + (chosen ? ' chosen' : '') + (s.reason ? ' failed' : '')} data-index=${row.index} role="treeitem" aria-level=${row.depth + 1} aria-expanded=${row.children > 0 ? !folded : undefined} aria-selected=${chosen} title=${says}
      tabindex=${tab ? 0 : -1} onClick=${() => choose(row.index)}>
    <span class="fall-name" style=${{ paddingLeft: Math.min(row.depth, 16) * 12 + 'px' }}>
      ${row.children > 0 ? html`<span class="fall-fold" aria-hidden="true" onClick=${(/** @type {MouseEvent} */ e) => { e.stopPropagation(); fold(row.index, !folded); }}>${folded ? '▸' : '▾'}</span>` : html`<span class="fall-fold"></span>`}
      ${s.reason && html`<${Sign} tone="bad" /><span class="visually-hidden">failed: </span>`}<span class="cut">${name}${folded && html`<span class="muted"> +${row.children}</span>`}${s.attempt ? html`<span class="muted">, attempt ${s.attempt + 1}</span>` : ''}${s.replica && s.kind !== 'wait' && html`<span class="muted"> ${s.replica}</span>`}</span></span>
    <span class="fall-took end">${took}</span>
    <span class="fall-track">${inSight && html`<span class=${`fall-bar ${look(s)}${s.open ? ' open' : ''}${s.reason && !s.failed_at ? ' failed' : ''}`} style=${{ left: x(row.from) + '%', width: `max(2px, ${x(row.to) - x(row.from)}%)` }}></span>
      ${own.map((p) => p.to >= from && p.from <= to && html`<span key=${p.from} class=${'fall-own' + (s.reason && !s.failed_at ? ' failed' : '')} style=${{ left: x(p.from) + '%', width: `max(1px, ${x(p.to) - x(p.from)}%)` }}></span>`)}`}</span>
  </div>`;
}

/** @param {{spans: import('./waterfall.js').Span[]}} props */
function Legend({ spans }) {
  const has = new Set(spans.map(look));
  return html`<p class="fall-legend muted small">
    ${has.has('call') && html`<span><i class="fall-key own"></i> its own time</span><span><i class="fall-key call"></i> in spans inside of it</span>`}
    ${has.has('wait') && html`<span><i class="fall-key wait"></i> waits</span>`}
    ${has.has('span') && html`<span><i class="fall-key span"></i> a part of user code</span>`}
    ${has.has('stall') && html`<span><i class="fall-key stall"></i> the event loop is blocked</span>`}
    ${spans.some((s) => s.reason) && html`<span><${Sign} tone="bad" /> failed</span>`}
    ${spans.some((s) => s.open) && html`<span><i class="fall-key open"></i> goes on</span>`}</p>`;
}

/** @param {{row: Row, trace: Trace, begin: number, close: () => void, zoom: () => void}} props */
function Detail({ row, trace, close, zoom }) {
  const s = row.span;
  const replica = s.app && s.deployment && s.replica ? html`<a href=${link.replica(s.app, s.deployment, s.replica)}>${s.replica}</a>` : s.replica;
  const box = useRef(/** @type {HTMLElement|null} */ (null));
  useEffect(() => { if (matchMedia('(max-width: 1000px)').matches) box.current?.scrollIntoView({ block: 'nearest' }); }, [row.index]);
  useKeys([{ keys: 'Escape', says: 'Close the details', run: close }]);
  const other = /** @type {string|undefined} */ (s.kind === 'stall' ? s.attributes?.request_id : undefined);
  return html`<aside class="panel aside" ref=${box} aria-label="Chosen span">
    <div class="panel-head"><h2 class="cut" title=${label(s, trace)}>${label(s, trace)}</h2><div class="actions"><button class="quiet" aria-label="Close" title="Close" onClick=${close}>✕</button></div></div>
    <div class="panel-body stack tight">
      ${s.reason && html`<div class="failure"><p class="failure-text">${s.reason}${s.runs_again ? ', and it runs again' : ''}${s.message ? ': ' + s.message : ''}</p>${s.failed_at && html`<p>It comes from <b>${s.failed_at}</b>.</p>`}</div>`}
      ${s.waits_for && html`<p class="warn-line">It waits for ${s.waits_for}</p>`}
      <${Facts} of=${[
        ['kind', s.kind], ['begin', `${ms(row.from)} after the first span`], ['at', `${clock(s.started, true)}`], ['took', ms(s.duration_ms) + (s.open ? ', and goes on' : '')],
        ['of its own', s.kind === 'wait' || s.kind === 'arguments' ? '' : ms(row.own_ms)], ['deployment', s.app && s.deployment ? html`<a href=${link.deployment(s.app, s.deployment)}>${s.app}/${s.deployment}</a>` : s.app],
        ['method', s.method], ['replica', replica], ['queue', s.origin], ['without a replica', s.without_replica_ms ? ms(s.without_replica_ms) : ''], ['attempt', s.attempt ? s.attempt + 1 : ''],
        ...Object.entries(s.attributes ?? {}).map(([name, v]) => /** @type {[any, any]} */ ([name, html`<code>${value(v)}</code>`])),
        ['span id', html`<code>${s.id}</code>`], ['links', s.links?.length ? html`<code class="whole">${s.links.join(' ')}</code>` : ''],
      ]} />
      <p class="buttons">
        <button onClick=${zoom} disabled=${row.to <= row.from}>Its time alone</button>
        ${s.app && s.deployment && s.replica && html`<button onClick=${() => navigate(link.logs({ app: s.app, deployment: s.deployment, replica: s.replica }))}>Logs of the replica</button>`}
        ${other && html`<a href=${link.request(String(other))}>The request that blocked it</a>`}
      </p>
    </div>
  </aside>`;
}
