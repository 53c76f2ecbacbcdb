// @ts-check
// Events: the transitions of the node, live, with what led to each and what it led to.
import { html, useEffect, useMemo, useReducer, useRef, useState } from '../vendor/preact/standalone.module.js';
import { link, useQuery } from '../router.js';
import { ApiError, get, useSession } from '../api.js';
import { followAgain } from '../again.js';
import { PageHead, Panel } from '../ui/layout.js';
import { Empty, Failure, Loading } from '../ui/empty.js';
import { useKeys } from '../ui/keys.js';
import { Sign, State, toneOfEvent as tone } from '../ui/state.js';
import { Table } from '../ui/table.js';
import { useNow } from '../ui/time.js';
import { clock, count, date, plural, when, zone } from '../ui/format.js';
import { ObjectFilters, SelectFilter, TextFilter } from './logs.js';
import { bin, causes, effects, has } from './timeline.js';

/** @typedef {import('./timeline.js').HelveEvent} HelveEvent */

const firstEvents = 2000; // Events that the page begins with.
const mostEvents = 4096; // Events that the page keeps; the node keeps as many.
const flushEvery = 200; // Milliseconds in which events are drawn together.
const mostEffects = 40;
const narrow = '(max-width: 1000px)'; // The details stand above the list there; lists.css has the same number.
const shortestStrip = 60_000; // Milliseconds that the strip has at least.
const stripEvery = 5000; // Milliseconds after which the strip moves on without an event.
const order = /** @type {const} */ (['bad', 'warn', 'busy', 'idle', 'good']); // From the bottom of a bar to its top.

/**
 * The events of a query, the newest first, as they come.
 * @param {{kind?: string, app?: string, deployment?: string, replica?: string}} query
 */
function useEvents(query) {
  const [, draw] = useReducer((/** @type {number} */ n) => n + 1, 0);
  const { role } = useSession();
  const id = JSON.stringify([query, role]);
  const state = useMemo(() => ({ list: /** @type {HelveEvent[]} */ ([]), begun: false, error: /** @type {ApiError|null} */ (null), lost: '', missed: 0 }), [id]);
  useEffect(() => {
    const abort = new AbortController();
    /** @type {HelveEvent[]} */
    let waiting = [];
    let timer = /** @type {any} */ (0);
    const flush = () => {
      timer = 0;
      if (waiting.length > 0) {
        const first = waiting[0].id; // A node that was started anew numbers from 1 again.
        const before = first <= (state.list[0]?.id ?? 0) ? [] : state.list;
        state.list = [...waiting.reverse(), ...before].slice(0, mostEvents);
        waiting = [];
      }
      draw(0);
    };
    const soon = () => { if (timer === 0) timer = setTimeout(flush, flushEvery); };
    const part = () => {
      const last = state.list[0]?.id;
      return { ...query, ...(last ? { after: last } : { limit: firstEvents }), follow: true };
    };
    followAgain('/api/v1/events', part, (item, { event }) => {
      if (event === 'missed') state.missed += item.missed;
      else waiting.push(item);
      soon();
    }, {
      signal: abort.signal,
      onOpen: () => { state.begun = true; state.error = null; state.lost = ''; soon(); },
      onLost: (why) => { state.lost = why; soon(); },
      onRefused: (error) => { state.error = error; draw(0); },
    });
    return () => { abort.abort(); clearTimeout(timer); };
  }, [id]);
  return state;
}

/** The change of an event: state before, state after. @param {{of: HelveEvent}} props */
function Change({ of: e }) {
  if (!e.from && !e.to) return html`<span class="muted">–</span>`;
  return html`<span class="change">${e.from && html`<span class="muted from">${e.from}</span><span class="muted" aria-label="to">→</span>`}${e.to ? html`<${State} state=${e.to} />` : html`<${State} state="gone" tone=${tone(e)} />`}</span>`;
}

/** The object of an event, as a link to its page. @param {{of: HelveEvent['object']}} props */
export function ObjectLink({ of: o }) {
  const to = link.object(o);
  const name = o.replica ?? o.deployment ?? o.app;
  const above = o.replica ? `${o.app}/${o.deployment}` : o.deployment ? o.app : ''; // Behind the name, so that a long one does not hide it.
  return html`<span class="object" title=${`${o.kind} ${[o.app, o.deployment, o.replica].filter(Boolean).join('/')}`}>${to ? html`<a href=${to}>${name}</a>` : name || 'the node'}${above && html` <span class="muted">${above}</span>`}</span>`;
}

export default function Events() {
  const [query, setQuery] = useQuery();
  const { kind, app, deployment, replica, text, range } = query;
  const { list, begun, error, lost, missed } = useEvents({ kind, app, deployment, replica });
  const now = useNow();
  const [paused, setPaused] = useState(/** @type {HelveEvent[]|null} */ (null));
  const shown = paused ?? list;
  const [from, to] = useMemo(() => bounds(range, query.from, query.to, now, shown), [range, query.from, query.to, Math.floor(now / stripEvery), shown]);
  const matching = useMemo(() => (text ? shown.filter((e) => has(e, text)) : shown), [shown, text]);
  const rows = useMemo(() => (range || query.from ? matching.filter((e) => { const t = Date.parse(e.time); return t >= from && t < to; }) : matching), [matching, from, to]);
  const apps = useMemo(() => [...new Set(list.map((e) => e.object.app ?? ''))].filter(Boolean), [list]); // Deleted ones too.
  const known = useMemo(() => new Map(list.map((e) => [e.id, e])), [list]);
  const chosen = Number(query.event ?? 0);
  const columns = useMemo(() => [
    { name: 'id', title: '#', cell: (/** @type {HelveEvent} */ e) => html`<button class="link" aria-pressed=${e.id === chosen} title="Causes and effects" onClick=${() => setQuery({ event: e.id === chosen ? null : e.id })}>#${e.id}</button>`, width: '70px' },
    { name: 'time', title: 'Time', cell: (/** @type {HelveEvent} */ e) => html`<time dateTime=${e.time} title=${`${date(e.time)} (${zone()})`}>${clock(e.time, true)}</time>` },
    { name: 'object', title: 'Object', cell: (/** @type {HelveEvent} */ e) => html`<${ObjectLink} of=${e.object} />` },
    { name: 'change', title: 'Change', cell: (/** @type {HelveEvent} */ e) => html`<${Change} of=${e} />` },
    { name: 'reason', title: 'Reason', cell: (/** @type {HelveEvent} */ e) => e.reason ?? '', phone: false },
    { name: 'cause', title: 'Cause', cell: (/** @type {HelveEvent} */ e) => (e.cause ? html`<button class="link" title=${`The event that led to this one: #${e.cause}`} onClick=${() => setQuery({ event: e.cause })}>#${e.cause}</button>` : ''), phone: false, width: '70px' },
    { name: 'message', title: 'Message', cell: (/** @type {HelveEvent} */ e) => html`<span title=${e.message}>${e.message ?? ''}</span>` },
  ], [chosen]);
  const filtered = kind || app || text || range || query.from;
  const gone = { kind: null, app: null, deployment: null, replica: null, text: null, range: null, from: null, to: null };
  return html`<${PageHead} name="Events" actions=${html`<a href=${link.settings({ tab: 'audit' })}>Who has changed what</a><button aria-pressed=${paused !== null} onClick=${() => setPaused(paused ? null : list)}>${paused ? 'Go on' : 'Pause'}</button>`} />
    <form class="filters" role="search" aria-label="Filter" onSubmit=${(/** @type {Event} */ e) => e.preventDefault()}>
      <${SelectFilter} name="kind" label="Objects" options=${[['', 'all'], ['application', 'applications'], ['deployment', 'deployments'], ['replica', 'replicas'], ['node', 'the node']]} />
      <${ObjectFilters} replica=${true} gone=${apps} />
      <${SelectFilter} name="range" label="Of the last" options=${[['', 'all that is kept'], ['5m', '5 min'], ['15m', '15 min'], ['1h', '1 h'], ['24h', '24 h']]} also=${{ from: null, to: null }} />
      <${TextFilter} name="text" label="Text" placeholder="state, reason, message" />
      ${query.from && html`<button type="button" title="Show all times again" onClick=${() => setQuery({ from: null, to: null })}>${when(from, now)} to ${clock(to)} ✕</button>`}
      ${filtered && html`<button type="button" onClick=${() => setQuery(gone)}>Clear</button>`}
    </form>
    ${lost && html`<p class="warn-line" role="status">Not connected, tries again: ${lost}</p>`}
    ${error ? html`<${Failure} error=${error} />` : !begun ? html`<${Loading} what="the events" />` : list.length === 0
      ? html`<${Panel} title="Transitions"><${Empty} title="No event">${filtered ? 'The node keeps no event of these objects.' : 'What happens to applications, deployments and replicas will be here.'}</></>`
      : html`<${Strip} events=${matching} from=${from} to=${to} choose=${(/** @type {import('./timeline.js').Bin} */ b) => setQuery({ from: new Date(b.from).toISOString(), to: new Date(b.to).toISOString(), range: null })} />
      <div class=${chosen ? 'with-aside first' : ''}>
        <${Panel} title="Transitions" note=${`${count(rows.length)}${rows.length < shown.length ? ` of ${count(shown.length)}` : ''}, the newest first${paused ? `, paused: ${count(list.length ? list.filter((e) => e.id > (paused[0]?.id ?? 0)).length : 0)} newer` : ''}${missed > 0 ? `; ${count(missed)} left out` : ''}`} flush>
          <${Table} title="Events" rows=${rows} columns=${columns} id=${(/** @type {HelveEvent} */ e) => String(e.id)} sort="order" tone=${(/** @type {HelveEvent} */ e) => (e.id === chosen ? 'chosen' : tone(e) === 'bad' ? 'bad' : tone(e) === 'warn' ? 'warn' : '')}
            empty=${html`No event is like this. <button onClick=${() => setQuery(gone)}>Clear the filter</button>`} />
        </>
        ${chosen > 0 && html`<${Detail} id=${chosen} known=${known} close=${() => setQuery({ event: null })} open=${(/** @type {number} */ id) => setQuery({ event: id })} />`}
      </div>`}`;
}

/**
 * The times that are shown.
 * @param {string|undefined} range
 * @param {string|undefined} from
 * @param {string|undefined} to
 * @param {number} now
 * @param {HelveEvent[]} list the newest first
 * @returns {[number, number]} milliseconds since 1970
 */
function bounds(range, from, to, now, list) {
  if (from) return [Date.parse(from), to ? Date.parse(to) : now + 1000];
  const m = /^(\d+)([mh])$/.exec(range ?? '');
  if (m) return [now - Number(m[1]) * (m[2] === 'm' ? 60_000 : 3_600_000), now + 1000];
  const newest = list[0], oldest = list.at(-1);
  const end = Math.max(now, newest ? Date.parse(newest.time) + 1 : 0);
  return [Math.min(oldest ? Date.parse(oldest.time) : end, end - shortestStrip), end];
}

const stripHeight = 56;

/** The number of events over time, by tone. @param {{events: HelveEvent[], from: number, to: number, choose: (b: import('./timeline.js').Bin) => void}} props */
function Strip({ events, from, to, choose }) {
  const { width, bins } = useMemo(() => bin(events, from, to, 90, tone), [events, from, to]);
  const top = Math.max(1, ...bins.map((b) => b.total));
  const first = bins[0].from, last = bins[bins.length - 1].to;
  const step = 100 / bins.length;
  const says = (/** @type {import('./timeline.js').Bin} */ b) => `${clock(b.from)} to ${clock(b.to)}: ${plural(b.total, 'event')}` + (b.counts.bad ? `, ${b.counts.bad} bad` : '') + (b.counts.warn ? `, ${b.counts.warn} to look at` : '');
  return html`<section class="panel strip" aria-label="Events over time">
    <div class="strip-head"><span class="muted">events in ${width < 60_000 ? `${width / 1000} s` : width < 3_600_000 ? `${width / 60_000} min` : `${width / 3_600_000} h`}, at most ${count(top)}</span>
      <span class="legend">${/** @type {const} */ ([['bad', 'bad'], ['warn', 'to look at'], ['busy', 'in change'], ['idle', 'other'], ['good', 'good']]).map(([t, word]) => html`<span key=${t}><${Sign} tone=${t} />${word}</span>`)}</span></div>
    <div class="strip-bars" style=${{ height: stripHeight + 'px' }} role="group" aria-label="Choose a time">
      ${bins.map((b, i) => b.total > 0 && html`<button key=${b.from} class="strip-bar" style=${{ left: i * step + '%', width: step + '%' }} title=${says(b)} aria-label=${says(b)} onClick=${() => choose(b)}>
        ${order.filter((t) => b.counts[t]).map((t) => html`<span key=${t} class=${t} style=${{ height: Math.max(2, ((stripHeight - 4) * b.counts[t]) / top) + 'px' }}></span>`)}</button>`)}
    </div>
    <div class="strip-axis muted"><span>${date(first)}</span><span>${date(last)}</span></div>
  </section>`;
}

/**
 * An event with its causes and effects. Those that the list does not have come from the node.
 * @param {{id: number, known: Map<number, HelveEvent>, close: () => void, open: (id: number) => void}} props
 */
function Detail({ id, known, close, open }) {
  const [fetched, setFetched] = useState(/** @type {Map<number, HelveEvent>} */ (new Map()));
  const [absent, setAbsent] = useState(/** @type {Set<number>} */ (new Set()));
  const all = useMemo(() => new Map([...fetched, ...known]), [fetched, known]);
  const event = all.get(id);
  const { chain, missing } = event ? causes(all, event) : { chain: [], missing: id };
  useEffect(() => { // The list may have a filter, or may not go back as far: the node is asked for a cause by its id.
    if (missing === 0 || absent.has(missing)) return;
    const abort = new AbortController();
    get('/api/v1/events', { after: missing - 1, limit: 1 }, { signal: abort.signal }).then(({ events: [found] }) => {
      if (found?.id === missing) setFetched((m) => new Map(m).set(missing, found));
      else setAbsent((s) => new Set(s).add(missing));
    }, () => { if (!abort.signal.aborted) setAbsent((s) => new Set(s).add(missing)); });
    return () => abort.abort();
  }, [missing, absent]);
  useEffect(() => { // Effects may be of objects that the filter leaves out.
    const abort = new AbortController();
    get('/api/v1/events', { after: id, limit: 500 }, { signal: abort.signal }).then(({ events }) => setFetched((m) => new Map([...m, ...events.map((/** @type {HelveEvent} */ e) => [e.id, e])])), () => {});
    return () => abort.abort();
  }, [id]);
  const box = useRef(/** @type {HTMLElement|null} */ (null));
  useEffect(() => { if (matchMedia(narrow).matches) box.current?.scrollIntoView({ block: 'start' }); }, [id]);
  useKeys([{ keys: 'Escape', says: 'Close the details', run: close }]);
  const led = useMemo(() => effects(all.values(), id, mostEffects), [all, id]);
  const item = (/** @type {HelveEvent} */ e, depth = 0, on = false) => html`<li key=${e.id} class=${'chain-item' + (on ? ' on' : '')} style=${{ paddingLeft: 10 + Math.min(depth, 6) * 14 + 'px' }}>
    <div class="chain-line">${on ? html`<b>#${e.id}</b>` : html`<button class="link" onClick=${() => open(e.id)}>#${e.id}</button>`}<span class="muted">${clock(e.time, true)}</span><${Change} of=${e} /></div>
    <div><${ObjectLink} of=${e.object} />${e.reason && html` <span class="muted">${e.reason}</span>`}</div>
    ${e.message && html`<div class=${on ? 'whole' : 'cut'} title=${e.message}>${e.message}</div>`}</li>`;
  return html`<aside class="panel aside" ref=${box} aria-label=${`Event #${id}`}>
    <div class="panel-head"><h2>Event #${id}</h2><div class="actions"><button class="quiet" aria-label="Close" title="Close" onClick=${close}>✕</button></div></div>
    <div class="panel-body stack">
      ${!event ? (absent.has(id) ? html`<p class="muted">The node does not keep this event any more.</p>` : html`<p class="muted">Asks the node …</p>`) : html`
        <section><h3>${chain.length > 0 || missing ? 'What led to it' : 'It has no cause that is an event'}</h3>
          <ol class="chain">${missing > 0 && html`<li class="muted chain-item">#${missing} is not kept any more</li>`}${chain.map((e) => item(e))}${item(event, 0, true)}</ol></section>
        ${event.inputs && html`<section><h3>Decided from</h3><dl class="facts">${Object.entries(event.inputs).map(([name, v]) => html`<div key=${name}><dt>${name}</dt><dd>${v}</dd></div>`)}</dl></section>`}
        <section><h3>What it led to</h3>${led.length === 0 ? html`<p class="muted">Nothing.</p>` : html`<ol class="chain">${led.map((x) => item(x.event, x.depth))}</ol>`}
          ${led.length >= mostEffects && html`<p class="muted">The first ${mostEffects} of them.</p>`}</section>
        <p class="buttons">
          <a href=${link.events({ kind: event.object.kind, app: event.object.app, deployment: event.object.deployment, replica: event.object.replica })}>All events of it</a>
          ${event.object.app && html`<a href=${link.logs({ app: event.object.app, deployment: event.object.deployment, replica: event.object.replica })}>Its logs</a>`}</p>`}
    </div>
  </aside>`;
}
