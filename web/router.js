// @ts-check
// The address and the view. The address has the whole view, so that a link shows the same to a colleague: names in the path, filters, sorts and tabs in the query.
//
//   html`<a href=${link.deployment('shop', 'Ranker')}>Ranker</a>`   // a plain link: the router takes its click
//   navigate(link.requests({ kept: 'failed' }))
//   const [query, setQuery] = useQuery();                           // query.range, and setQuery({ range: '10m' }); null takes a parameter away
import { createStore, useStore } from './store.js';

/** The path of the dashboard, "/ui/", also behind a proxy that adds a prefix. */
export const base = typeof location === 'undefined' ? '/ui/' : new URL('.', import.meta.url).pathname;

/**
 * @typedef {'overview'|'application'|'deployment'|'replica'|'replicas'|'requests'|'request'|'events'|'logs'|'settings'|'missing'} PageName
 * @typedef {{page: PageName, params: {app?: string, deployment?: string, replica?: string, id?: string}, query: Record<string, string>}} View
 * @typedef {Record<string, string|number|boolean|null|undefined>} Query
 */

/**
 * The view of an address. Names in it are percent-encoded: the replica Ranker#003 is Ranker%23003.
 * @param {string} pathname
 * @param {string} search
 * @param {string} [root] the path of the dashboard
 * @returns {View}
 */
export function parse(pathname, search, root = base) {
  const query = Object.fromEntries(new URLSearchParams(search));
  /** @type {string[]} */
  let parts;
  try {
    parts = pathname.slice(root.length).split('/').filter((p) => p !== '').map(decodeURIComponent);
  } catch { // A percent sign without two digits.
    return { page: 'missing', params: {}, query };
  }
  const [first, a, b, c] = parts;
  if (parts.length === 0) return { page: 'overview', params: {}, query };
  if (first === 'apps') {
    if (parts.length === 2) return { page: 'application', params: { app: a }, query };
    if (parts.length === 3) return { page: 'deployment', params: { app: a, deployment: b }, query };
    if (parts.length === 4) return { page: 'replica', params: { app: a, deployment: b, replica: c }, query };
  }
  if (first === 'requests' && parts.length === 2) return { page: 'request', params: { id: a }, query };
  if (parts.length === 1 && (first === 'replicas' || first === 'requests' || first === 'events' || first === 'logs' || first === 'settings')) return { page: first, params: {}, query };
  return { page: 'missing', params: {}, query };
}

/**
 * @param {string[]} parts
 * @param {Query} [query] parameters that are null, undefined or "" are left out
 */
export function href(parts, query = {}) {
  const q = new URLSearchParams();
  for (const [name, v] of Object.entries(query)) if (v !== null && v !== undefined && v !== '') q.set(name, String(v));
  const text = q.toString();
  return base + parts.map(encodeURIComponent).join('/') + (text === '' ? '' : '?' + text);
}

/** The addresses of the views. */
export const link = {
  overview: () => href([]),
  /** @param {string} app @param {Query} [q] */
  application: (app, q) => href(['apps', app], q),
  /** @param {string} app @param {string} deployment @param {Query} [q] */
  deployment: (app, deployment, q) => href(['apps', app, deployment], q),
  /** @param {string} app @param {string} deployment @param {string} replica @param {Query} [q] */
  replica: (app, deployment, replica, q) => href(['apps', app, deployment, replica], q),
  /** @param {Query} [q] */
  replicas: (q) => href(['replicas'], q),
  /** @param {Query} [q] */
  requests: (q) => href(['requests'], q),
  /** @param {string} id @param {Query} [q] */
  request: (id, q) => href(['requests', id], q),
  /** @param {Query} [q] */
  events: (q) => href(['events'], q),
  /** @param {Query} [q] */
  logs: (q) => href(['logs'], q),
  /** @param {Query} [q] */
  settings: (q) => href(['settings'], q),
  /**
   * The address of an object of the API, such as that of an event; "" for the node.
   * @param {{kind?: string, app?: string, deployment?: string, replica?: string}} o
   */
  object(o) {
    if (o.app && o.deployment && o.replica) return this.replica(o.app, o.deployment, o.replica);
    if (o.app && o.deployment) return this.deployment(o.app, o.deployment);
    return o.app ? this.application(o.app) : '';
  },
};

const here = () => (typeof location === 'undefined' ? parse(base, '') : parse(location.pathname, location.search));
const view = createStore(here());

/**
 * Goes to an address of the dashboard.
 * @param {string} to
 * @param {{replace?: boolean}} [options] replace: the button "back" does not return to the present address
 */
export function navigate(to, { replace = false } = {}) {
  const path = location.pathname;
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  if (location.pathname !== path) scrollTo(0, 0);
  view.set(here());
}

/** The view of the address; the component is drawn again when it changes. */
export const useView = () => useStore(view);

/**
 * The parameters of the address, and a function that changes some of them. A change replaces the address, so that "back" leaves the page and not a filter;
 * with {push: true} it is a step of its own.
 * @returns {[Record<string, string>, (patch: Query, options?: {push?: boolean}) => void]}
 */
export function useQuery() {
  return [useStore(view, (v) => v.query), setQuery];
}

/**
 * @param {Query} patch
 * @param {{push?: boolean}} [options]
 */
export function setQuery(patch, { push = false } = {}) {
  const q = new URLSearchParams(location.search);
  for (const [name, v] of Object.entries(patch)) {
    if (v === null || v === undefined || v === '' || v === false) q.delete(name);
    else q.set(name, String(v));
  }
  const text = q.toString();
  navigate(location.pathname + (text === '' ? '' : '?' + text), { replace: !push });
}

/** Takes clicks on links of the dashboard, and the buttons "back" and "forward". app.js calls it once. */
export function start() {
  addEventListener('popstate', () => view.set(here()));
  document.addEventListener('click', (e) => {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    const a = e.target instanceof Element ? e.target.closest('a[href]') : null;
    if (!(a instanceof HTMLAnchorElement) || a.target !== '' || a.hasAttribute('download') || a.origin !== location.origin || !a.pathname.startsWith(base)) return;
    if (a.hash !== '' && a.pathname === location.pathname && a.search === location.search) return;
    e.preventDefault();
    navigate(a.pathname + a.search);
  });
}
