// @ts-check
// Lines of logs, live: the newest ones that the node keeps, and then those to come. Only the lines in sight are in the DOM.
//
//   html`<${LogView} query=${{ app, deployment, replica }} title="Logs of Ranker#003" />`
//   html`<${LogView} query=${{ request: id }} title="Log lines" tail=${200} small />`
//
// query has the parameters of GET /api/v1/logs: app, deployment, replica, request, level, text, since, access; a new one reads again. The view follows the newest line while its
// end is in sight; a reader who scrolls up stays where they are. `small` is a lower box for pages with other parts.
import { html, useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from '../vendor/preact/standalone.module.js';
import { ApiError, get, useSession } from '../api.js';
import { followAgain } from '../again.js';
import { link, navigate } from '../router.js';
import { Failure, Loading } from './empty.js';
import { clock, count, date, plural, zone } from './format.js';
import { plain } from './code.js';
import { useKeys } from './keys.js';
import { LogModel, firstLines, foldAt, pieces } from './logmodel.js';

/**
 * @typedef {import('./logmodel.js').LogLine} LogLine
 * @typedef {import('./logmodel.js').LogRow} LogRow
 * @typedef {{app?: string, deployment?: string, replica?: string, request?: string, level?: string, text?: string, since?: string, access?: boolean}} LogQuery
 */

const lineHeight = 20; // Pixels of a line of text; lists.css has the same number.
const phone = '(max-width: 700px)';
const metaHeight = 18; // Pixels of the line with time and replica above the message on a phone.
const spare = 200; // Pixels above and below the sight that are drawn.
const flushEvery = 100; // Milliseconds in which lines are drawn together.
const overlap = 2000; // Milliseconds before the newest line that are read again after a lost connection: lines may come late.
const atEnd = 30; // Pixels from the end within which the view still follows.

/** What tells a line from others when the same part is read twice. @param {LogLine} l */
const key = (l) => `${l.time} ${l.replica ?? ''} ${l.request_id ?? ''} ${l.message}`;

/**
 * The lines of a query, as they come.
 * @param {LogQuery} query
 * @param {number} tail
 */
function useLines(query, tail) {
  const [, draw] = useReducer((/** @type {number} */ n) => n + 1, 0);
  const { role } = useSession();
  const id = JSON.stringify([query, tail, role]);
  const state = useMemo(() => ({
    model: new LogModel({ line: lineHeight }), error: /** @type {ApiError|null} */ (null), connected: false, begun: false, lost: '', exhausted: false, loading: false,
  }), [id]);
  useEffect(() => {
    const abort = new AbortController();
    /** @type {({line: LogLine}|{missed: number})[]} */
    let waiting = [];
    let timer = /** @type {any} */ (0);
    const flush = () => {
      timer = 0;
      if (!state.begun && !state.connected) { draw(0); return; }
      state.begun = true;
      state.model.add(waiting);
      waiting = [];
      draw(0);
    };
    const soon = () => { if (timer === 0) timer = setTimeout(flush, flushEvery); };
    let have = new Set();
    const part = () => { // Behind a lost connection the last lines are read again, and those that are there are left out.
      const newest = state.model.newest();
      have = new Set(newest ? state.model.rows.slice(-2000).flatMap((r) => (r.line ? [key(r.line)] : [])) : []);
      return { ...query, ...(newest ? { since: new Date(Date.parse(newest.time) - overlap).toISOString() } : { tail }), follow: true };
    };
    followAgain('/api/v1/logs', part, (item, { event }) => {
      if (event === 'missed') waiting.push({ missed: item.missed });
      else if (!have.has(key(item))) waiting.push({ line: item });
      soon();
    }, {
      signal: abort.signal,
      onOpen: () => { state.connected = true; state.error = null; state.lost = ''; soon(); },
      onLost: (why) => { state.connected = false; state.lost = why; soon(); },
      onRefused: (error) => { state.error = error; draw(0); },
    });
    return () => { abort.abort(); clearTimeout(timer); };
  }, [id]);
  const older = async () => {
    const first = state.model.oldest();
    if (!first || state.loading) return;
    state.loading = true;
    draw(0);
    try {
      const have = new Set(state.model.rows.slice(0, 1000).flatMap((r) => (r.line ? [key(r.line)] : [])));
      const { lines } = await get('/api/v1/logs', { ...query, until: first.time, tail: 1000 });
      const fresh = lines.filter((/** @type {LogLine} */ l) => !have.has(key(l)));
      state.exhausted = state.model.addOlder(fresh) === 0;
    } catch (e) {
      if (e instanceof ApiError) state.lost = e.message;
    }
    state.loading = false;
    draw(0);
  };
  return { ...state, older, draw: () => draw(0) };
}

/** @param {string} query */
function useMedia(query) {
  const list = useMemo(() => matchMedia(query), [query]);
  const [on, set] = useState(list.matches);
  useEffect(() => {
    const change = () => set(list.matches);
    list.addEventListener('change', change);
    return () => list.removeEventListener('change', change);
  }, [list]);
  return on;
}

/** @param {{query: LogQuery, title: string, tail?: number, small?: boolean, empty?: any}} props */
export function LogView({ query, title, tail = 500, small, empty }) {
  const { model, error, connected, begun, lost, exhausted, loading, older, draw } = useLines(query, tail);
  const narrow = useMedia(phone);
  const box = useRef(/** @type {HTMLDivElement|null} */ (null));
  const following = useRef(true);
  const anchor = useRef({ seq: 0, off: 0 });
  const [seen, setSeen] = useState({ top: 0, height: 600 });
  const [behind, setBehind] = useState(0); // The number of the newest line when the reader has left the end; 0 while the view follows.
  model.setPad(narrow ? metaHeight : 0);
  const total = model.height();

  useLayoutEffect(() => { // A new list begins at its end.
    following.current = true;
    setBehind(0);
  }, [model]);

  useLayoutEffect(() => { // The reader stays at their line when lines leave or come above it, and at the end when they follow.
    const b = box.current;
    if (!b) return;
    if (following.current) b.scrollTop = b.scrollHeight;
    else {
      const at = model.indexOf(anchor.current.seq);
      const want = (at < 0 ? 0 : model.topOf(at)) + anchor.current.off;
      if (Math.abs(b.scrollTop - want) > 1) b.scrollTop = want;
    }
    if (b.clientHeight !== seen.height || Math.abs(b.scrollTop - seen.top) > spare / 2) setSeen({ top: b.scrollTop, height: b.clientHeight });
  });

  const scrolled = () => {
    const b = /** @type {HTMLDivElement} */ (box.current);
    following.current = b.scrollTop + b.clientHeight >= b.scrollHeight - atEnd;
    const at = model.rowAt(b.scrollTop);
    anchor.current = { seq: model.rows[at]?.seq ?? 0, off: b.scrollTop - model.topOf(at) };
    const newest = model.rows.at(-1)?.seq ?? 0;
    if (following.current !== (behind === 0)) setBehind(following.current ? 0 : newest);
    if (Math.abs(b.scrollTop - seen.top) > spare / 2 || b.scrollTop === 0) setSeen({ top: b.scrollTop, height: b.clientHeight });
  };
  const toEnd = () => { following.current = true; setBehind(0); draw(); };
  const toggle = (/** @type {number} */ seq) => {
    const b = /** @type {HTMLDivElement} */ (box.current);
    const at = model.rowAt(b.scrollTop);
    anchor.current = { seq: model.rows[at]?.seq ?? 0, off: b.scrollTop - model.topOf(at) };
    following.current = false;
    if (behind === 0) setBehind(model.rows.at(-1)?.seq ?? 0);
    model.toggle(seq);
    draw();
  };
  useKeys([{ keys: 'f', says: 'Logs: follow the newest line', run: toEnd }]);
  const save = () => {
    const text = model.rows.flatMap((r) => (r.line ? [JSON.stringify(r.line) + '\n'] : [])).join('');
    const url = URL.createObjectURL(new Blob([text], { type: 'application/jsonl' }));
    const a = Object.assign(document.createElement('a'), { href: url, download: 'helve-logs.jsonl' });
    a.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  const keys = (/** @type {KeyboardEvent} */ e) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    const row = e.target instanceof Element ? e.target.closest('[data-seq]') : null;
    if (e.key === 'End' && e.target === box.current) { e.preventDefault(); toEnd(); }
    if (!move || !row || !(e.target instanceof HTMLButtonElement) || !e.target.classList.contains('log-time')) return;
    e.preventDefault();
    const next = model.rows[model.indexOf(Number(row.getAttribute('data-seq'))) + move];
    if (!next) return;
    /** @type {HTMLElement|null|undefined} */ (box.current?.querySelector(`[data-seq="${next.seq}"] .log-time`))?.focus();
  };

  if (error) return html`<${Failure} error=${error} />`;
  if (!begun) return lost ? html`<${Failure} error=${{ message: lost, next: 'The page tries again by itself.' }} />` : html`<${Loading} what="log lines" />`;
  const { from, to } = model.seen(seen.top - spare, seen.height + 2 * spare);
  const fresh = behind === 0 ? 0 : (model.rows.at(-1)?.seq ?? 0) - behind;
  const first = model.oldest();
  return html`<div class=${'logs' + (small ? ' small-box' : '')}>
    <div class="log-bar">
      <span class="muted">${plural(model.rows.length, 'line')}${first && html` since ${clock(first.time)}`}${model.dropped > 0 && `; ${count(model.dropped)} older ones have left this page`}</span>
      ${model.rows.length > 0 && !query.request && (exhausted || model.rows.length >= model.most ? html`<span class="muted">${exhausted ? 'the node keeps no older ones' : 'the page is full'}</span>`
        : html`<button class="quiet" disabled=${loading} onClick=${older}>${loading ? 'Asks the node …' : 'Older lines'}</button>`)}
      ${model.rows.length > 0 && html`<button class="quiet" title="Save these lines in a file, a line of JSON for each" onClick=${save}>Save</button>`}
      <span class="log-live" role="status">${!connected ? html`<span class="warn">Not connected: ${lost}</span>` : behind === 0 ? html`<span class="dot good" aria-hidden="true"></span> follows` : html`<button onClick=${toEnd}>${fresh > 0 ? `${plural(fresh, 'new line')} ↓` : 'Follow ↓'}</button>`}</span>
    </div>
    <div class="log-box" ref=${box} onScroll=${scrolled} onKeyDown=${keys} tabindex="0" role="group" aria-label=${title}>
      ${model.rows.length === 0 ? html`<div class="empty"><p class="muted">${empty ?? 'No line yet.'}</p></div>`
        : html`<div class="log-sheet" style=${{ height: total + 'px' }}>${model.rows.slice(from, to).map((r, i) => html`<${Row} key=${r.seq} row=${r} top=${model.topOf(from + i)} open=${model.open.has(r.seq)} version=${model.open.get(r.seq)}
          query=${query} narrow=${narrow} toggle=${toggle} measured=${(/** @type {number} */ h) => { if (model.measured(r.seq, h)) draw(); }} />`)}</div>`}
    </div>
  </div>`;
}

/** @type {Record<string, string>} */
const tones = { ERROR: 'bad', WARN: 'warn', DEBUG: 'idle' };

/**
 * @param {{row: LogRow, top: number, open: boolean, version?: number, query: LogQuery, narrow: boolean, toggle: (seq: number) => void, measured: (height: number) => void}} props
 */
function Row({ row, top, open, query, toggle, measured }) {
  const element = useRef(/** @type {HTMLDivElement|null} */ (null));
  useLayoutEffect(() => { if (open && element.current) measured(element.current.offsetHeight); });
  const place = { transform: `translateY(${top}px)` };
  const l = row.line;
  if (!l) return html`<div class="log-row missed" style=${place}><span class="warn">${plural(row.missed, 'line')} left out here: the page was too slow for them, or the node keeps them no more</span></div>`;
  const click = (/** @type {MouseEvent} */ e) => {
    if (e.target instanceof Element && e.target.closest('a, button, .log-more')) return;
    if (getSelection()?.isCollapsed !== false) toggle(row.seq);
  };
  const writer = l.replica ?? l.deployment ?? l.app ?? 'node';
  const message = plain(l.message);
  return html`<div ref=${element} class=${'log-row ' + (tones[l.level] ?? '') + (open ? ' open' : '')} data-seq=${row.seq} style=${place} onClick=${click}>
    <button class="log-time" aria-expanded=${open} title=${`${date(l.time)} (${zone()}): show all of the line`} onClick=${() => toggle(row.seq)}>${clock(l.time, true)}</button>
    <span class="log-level">${l.level}</span>
    <span class="log-writer" title=${[l.app, l.replica ?? l.deployment].filter(Boolean).join('/') || 'the node'}>${query.replica ? l.logger ?? l.stream ?? '' : writer}</span>
    <pre class="log-text">${open ? marked(message, query.text) : marked(firstLines(message, foldAt), query.text)}${!open && row.lines > foldAt && html`<span class="muted">${'\n'}${plural(row.lines - foldAt, 'more line')}</span>`}</pre>
    ${open && html`<${More} line=${l} />`}
  </div>`;
}

/** @param {string} text @param {string} [wanted] */
function marked(text, wanted) {
  if (!wanted) return text;
  return pieces(text, wanted).map((p) => (p.found ? html`<mark>${p.text}</mark>` : p.text));
}

/** What a line has beside its text. @param {{line: LogLine}} props */
function More({ line: l }) {
  const copy = () => navigator.clipboard?.writeText(JSON.stringify(l, null, 2)).catch(() => {});
  const of = [
    ['time', `${date(l.time)}.${clock(l.time, true).slice(-3)} (${zone()})`],
    ['replica', l.app && l.deployment && l.replica ? html`<a href=${link.replica(l.app, l.deployment, l.replica)}>${l.app}/${l.deployment}/${l.replica}</a>` : l.app ?? 'the node'],
    ['request', l.request_id && html`<a href=${link.request(l.request_id)}><code>${l.request_id}</code></a>`],
    ['trace', l.trace_id && html`<code>${l.trace_id}</code>`],
    ['logger', l.logger], ['stream', l.stream],
    ...Object.entries(l.attributes ?? {}).map(([name, v]) => [name, html`<code>${v}</code>`]),
  ];
  return html`<div class="log-more">
    <dl class="facts">${of.filter(([, v]) => v).map(([name, v]) => html`<div key=${name}><dt>${name}</dt><dd>${v}</dd></div>`)}</dl>
    <p class="buttons">
      ${l.replica && html`<button onClick=${() => navigate(link.logs({ app: l.app, deployment: l.deployment, replica: l.replica }))}>Lines of this replica</button>`}
      ${l.request_id && html`<button onClick=${() => navigate(link.logs({ request: l.request_id }))}>Lines of this request</button>`}
      ${navigator.clipboard && html`<button onClick=${copy}>Copy as JSON</button>`}
    </p>
  </div>`;
}
