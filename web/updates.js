// @ts-check
// The one stream of updates of the page (docs/rest.md, GET /api/v1/updates), and what it has told so far.
//
//   const live = useUpdates();                                   // node, problems, applications
//   const live = useUpdates({ app, deployment });                // also the deployments and edges of the application, and the replicas of the deployment
//   if (!live.ready) return html`<${Loading} />`;
//   live.applications.get('shop').status       live.figures.applications.get('shop')?.rate
//   live.deployments.get('Ranker')             live.figures.deployments.get('Ranker')?.p99_ms       // of the asked application
//   live.replicas.get('Ranker#003')            live.figures.replicas.get('Ranker#003')?.rate        // of the asked deployment
//   live.edges                                 live.figures.edges.get('Front>Ranker')?.rate
//   const live = useUpdates({ all: true });                      // also the replicas of all deployments
//   live.node, live.figures.node, live.problems, live.at
//   const n = useLive((l) => l.problems?.troubles.length)        // drawn again only when this changes
// A component with useUpdates is drawn again with each item, about once a second and at once for a change of state. The page has one stream: a new view opens it anew, and the data before
// stay until the first item is there. Data of a node that is gone stay too; `connection` says so, and layout.js draws it.
import { useEffect, useRef } from './vendor/preact/standalone.module.js';
import { createStore, useStore } from './store.js';
import { followAgain } from './again.js';
import { ApiError, askWho, get, session } from './api.js';
import { setSkew } from './ui/time.js';

/**
 * @typedef {{app?: string, deployment?: string, replica?: string, all?: boolean}} Scope all: the replicas of all deployments, for a page that has no application
 * @typedef {Record<string, number|null>} Figures
 * @typedef {{at: string, node: any, problems: any, applications: Map<string, any>, deployments: Map<string, any>, replicas: Map<string, any>, edges: any[],
 *   figures: {node: Figures, applications: Map<string, Figures>, deployments: Map<string, Figures>, replicas: Map<string, Figures>, edges: Map<string, Figures>}}} Live
 * @typedef {{state: 'connecting'|'live'|'gone'|'refused', since: number, message: string}} Connection since: milliseconds since 1970
 */

/** Nothing known. @returns {Live} */
export const nothing = () => ({
  at: '', node: null, problems: null, applications: new Map(), deployments: new Map(), replicas: new Map(), edges: [],
  figures: { node: {}, applications: new Map(), deployments: new Map(), replicas: new Map(), edges: new Map() },
});

/**
 * Takes one item of the stream into what is known. It changes the maps of live, and returns a new object around them.
 * @param {Live} live
 * @param {any} item
 * @returns {Live}
 */
export function apply(live, item) {
  const next = item.whole ? nothing() : { ...live, figures: { ...live.figures } };
  next.at = item.at ?? next.at;
  if (item.node) next.node = item.node;
  if (item.problems) next.problems = item.problems;
  for (const a of item.applications ?? []) next.applications.set(a.name, a);
  for (const d of item.deployments ?? []) next.deployments.set(d.name, d);
  for (const r of item.replicas ?? []) next.replicas.set(r.replica_id, r);
  if (item.edges) {
    next.edges = item.edges;
    const there = new Set(item.edges.map((/** @type {{id: string}} */ e) => e.id));
    for (const id of next.figures.edges.keys()) if (!there.has(id)) next.figures.edges.delete(id);
  }
  const figures = item.figures ?? {};
  if (figures.node) next.figures.node = figures.node;
  for (const kind of /** @type {const} */ (['applications', 'deployments', 'replicas', 'edges'])) {
    for (const { names, columns } of figures[kind] ?? []) {
      names.forEach((/** @type {string} */ name, /** @type {number} */ i) => {
        /** @type {Figures} */
        const all = { ...next.figures[kind].get(name) };
        for (const c in columns) all[c] = columns[c][i];
        next.figures[kind].set(name, all);
      });
    }
  }
  for (const o of item.gone ?? []) remove(next, o);
  return next;
}

/**
 * An application that is gone takes its deployments along, and a deployment its replicas.
 * @param {Live} live
 * @param {{kind: string, app: string, deployment?: string, replica?: string}} o
 */
function remove(live, { kind, app, deployment = '', replica = '' }) {
  if (kind === 'application') {
    live.applications.delete(app);
    live.figures.applications.delete(app);
  }
  for (const [name, d] of live.deployments) {
    if (d.app !== app || kind === 'replica' || (kind === 'deployment' && name !== deployment)) continue;
    live.deployments.delete(name);
    live.figures.deployments.delete(name);
  }
  for (const [name, r] of live.replicas) {
    if (r.app !== app || (kind === 'deployment' && r.deployment !== deployment) || (kind === 'replica' && name !== replica)) continue;
    live.replicas.delete(name);
    live.figures.replicas.delete(name);
  }
}

// ---- the connection

const hiddenEvery = 30_000; // Milliseconds between questions of a page that is hidden, and has given its stream up: its tab says what is wrong all the same.

const live = createStore({ live: nothing(), scope: /** @type {Scope|null} */ (null) });

/** @type {import('./store.js').Store<Connection>} */
export const connection = createStore(/** @type {Connection} */ ({ state: 'connecting', since: Date.now(), message: '' }));

/** @type {Scope[]} The views that components want. */
const wanted = [];
/** @type {AbortController|null} */
let opened = null;
let openScope = '';
let soon = false;

/** The narrowest view that a component wants. @returns {Scope} */
function scope() {
  const size = (/** @type {Scope} */ s) => (s.app ? 1 : 0) + (s.deployment ? 1 : 0) + (s.replica ? 1 : 0) + (s.all ? 1 : 0);
  return wanted.reduce((best, s) => (size(s) > size(best) ? s : best), {});
}

const key = (/** @type {Scope} */ s) => JSON.stringify([s.app ?? '', s.deployment ?? '', s.replica ?? '', s.all ?? false]);

/** @param {Connection['state']} state @param {string} [message] */
function say(state, message = '') {
  const before = connection.get();
  if (before.state !== state || before.message !== message) connection.set({ state, message, since: before.state === state ? before.since : Date.now() });
}

/** Opens the stream for the present view, in the place of the one before. */
function open() {
  opened?.abort();
  const abort = opened = new AbortController();
  const asked = scope();
  openScope = key(asked);
  followAgain('/api/v1/updates', () => ({ app: asked.app, deployment: asked.deployment, replica: asked.replica, all_replicas: asked.all }), (item) => {
    const before = live.get();
    if (item.at) setSkew(Date.parse(item.at) - Date.now());
    if (before.live.node && item.node && before.live.node.pid !== item.node.pid) askWho(); // Another process: the node has been started again.
    say('live');
    live.set({ live: apply(before.live, item), scope: item.whole ? asked : before.scope });
  }, {
    signal: abort.signal,
    onLost: (why) => say('gone', why),
    onRefused: (e) => say(e.status === 401 || e.status === 403 ? 'refused' : 'gone', e.message), // A new token opens it again.
  });
}

/** Opens the stream anew if the view has changed, after all components of this change are drawn. */
function settle() {
  if (soon) return;
  soon = true;
  setTimeout(() => {
    soon = false;
    if (connection.get().state !== 'refused' && key(scope()) !== openScope) open();
  }, 0);
}

/** What is wrong, for a page that is hidden. */
async function askHidden() {
  if (!document.hidden || connection.get().state === 'refused') return;
  try {
    const problems = await get('/api/v1/why');
    say('live');
    live.set({ ...live.get(), live: apply(live.get().live, { problems }) });
  } catch (e) {
    if (e instanceof ApiError && e.status === 0) say('gone', e.message);
  }
}

/** Opens the stream. app.js calls it once. */
export function startUpdates() {
  open();
  let role = session.get().role;
  session.subscribe(() => {
    const now = session.get().role;
    if (now !== role && connection.get().state === 'refused') open();
    role = now;
  });
  addEventListener('online', () => { if (connection.get().state === 'gone') open(); });
  setInterval(askHidden, hiddenEvery);
}

/** Tries at once to reach a node that is gone. */
export const tryNow = () => open();

/** @param {Scope|null} has @param {Scope} wants */
const covers = (has, wants) => has !== null && (!wants.app || has.app === wants.app) && (!wants.deployment || has.deployment === wants.deployment) &&
  (!has.replica || has.replica === wants.replica) && (!wants.all || has.all === true);

/**
 * What the stream has told, with the objects of the scope.
 * @param {Scope} [wants]
 * @returns {Live & {ready: boolean, connection: Connection}} ready: the first item for this scope is there
 */
export function useUpdates(wants = {}) {
  const mine = useRef(/** @type {Scope} */ ({}));
  const id = key(wants);
  useEffect(() => {
    mine.current = { app: wants.app, deployment: wants.deployment, replica: wants.replica, all: wants.all };
    const s = mine.current;
    wanted.push(s);
    settle();
    return () => { wanted.splice(wanted.indexOf(s), 1); settle(); };
  }, [id]);
  const now = useStore(live);
  const link = useStore(connection);
  return { ...now.live, ready: covers(now.scope, wants), connection: link };
}

/**
 * A part of what the stream has told: the component is drawn again only when that part changes.
 * @template T
 * @param {(live: Live) => T} select
 * @returns {T}
 */
export const useLive = (select) => useStore(live, (v) => select(v.live));
