// @ts-check
// The REST API of the node (docs/rest.md), with the token of the page.
//
//   const status = await get('/api/v1/status', {}, { signal });
//   await send('POST', path`/api/v1/applications/${app}/pause`);
//   await follow('/api/v1/logs', { app, follow: true }, (line, { event }) => …, { signal });
//   const { data, error, loading, reload } = useGet(path`/api/v1/applications/${app}/history`, {}, { every: 5 });
//   const { role, may } = useSession();   may('operate')
//
// All failures are an ApiError, with the sentence of the node and what to try next.
import { useCallback, useEffect, useState } from './vendor/preact/standalone.module.js';
import { createStore, useStore } from './store.js';
import { createParser } from './sse.js';
import { base } from './router.js';

const tokenKey = 'helve.token';
const rootPath = base.replace(/ui\/$/, '');

/** A failure of the API. status is that of HTTP; 0 if the node cannot be reached. code is gRPC's. */
export class ApiError extends Error {
  /** @param {{status: number, code?: number, message: string, next?: string, mistakes?: Mistake[]}} e */
  constructor({ status, code = 0, message, next = '', mistakes = [] }) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.next = next;
    this.mistakes = mistakes;
  }
}

/**
 * @typedef {{file?: string, line?: number, column?: number, path?: string, message: string, excerpt?: string}} Mistake
 * @typedef {'read'|'operate'|'deploy'} Role
 * @typedef {{name: string, role: Role|'', how: string, state: 'asking'|'known'|'refused', message: string}} Session
 */

/**
 * A path with names in it, each percent-encoded: path`/api/v1/why/${app}/${replica}`.
 * @param {TemplateStringsArray} texts
 * @param {...string} names
 */
export function path(texts, ...names) {
  return texts.reduce((all, text, i) => all + encodeURIComponent(names[i - 1]) + text);
}

/**
 * @param {string} at
 * @param {Record<string, any>} [query] undefined, null, "" and false are left out; true is a parameter without a value
 */
export function address(at, query = {}) {
  const parts = [];
  for (const [name, v] of Object.entries(query)) {
    if (v === undefined || v === null || v === '' || v === false) continue;
    parts.push(v === true ? encodeURIComponent(name) : `${encodeURIComponent(name)}=${encodeURIComponent(String(v))}`);
  }
  return rootPath + at.replace(/^\//, '') + (parts.length === 0 ? '' : '?' + parts.join('&'));
}

/**
 * @param {string} at
 * @param {Record<string, any>} [query]
 * @param {RequestInit} [init]
 * @returns {Promise<Response>} a response whose status is 2xx
 */
export async function ask(at, query, init = {}) {
  const headers = new Headers(init.headers);
  const token = sessionStorage.getItem(tokenKey);
  if (token) headers.set('Authorization', 'Bearer ' + token);
  let response;
  try {
    response = await fetch(address(at, query), { cache: 'no-store', ...init, headers });
  } catch (e) {
    if (init.signal?.aborted) throw e;
    throw new ApiError({ status: 0, code: 14, message: 'The node does not answer.', next: 'The page tries again by itself.' });
  }
  if (response.ok) return response;
  const text = await response.text().catch(() => '');
  /** @type {any} */
  let body = {};
  try { body = JSON.parse(text); } catch { body = { error: text.trim().slice(0, 400) }; } // A proxy in front of the node may answer with text.
  if (response.status === 401 && token) session.set({ ...session.get(), state: 'refused', name: '', role: '', message: body.error ?? '' });
  throw new ApiError({
    status: response.status, code: body.code, message: body.error || `The node answers with status ${response.status}.`, next: body.next, mistakes: body.mistakes ?? [],
  });
}

/**
 * @param {string} at
 * @param {Record<string, any>} [query]
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function get(at, query, { signal } = {}) {
  return (await ask(at, query, { signal })).json();
}

/**
 * Asks for a change. A body that is a string goes as it is, such as YAML; others go as JSON.
 * @param {'POST'|'PUT'|'PATCH'|'DELETE'} method
 * @param {string} at
 * @param {any} [body]
 * @param {{query?: Record<string, any>, ifMatch?: number|string, signal?: AbortSignal}} [options] ifMatch: the generation that the page has seen; the node refuses the change if it has another one now
 * @returns {Promise<any>} the answer; null for one without a body
 */
export async function send(method, at, body, { query, ifMatch, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (body !== undefined) headers['Content-Type'] = typeof body === 'string' ? 'application/yaml' : 'application/json';
  if (ifMatch !== undefined) headers['If-Match'] = `"${ifMatch}"`;
  const response = await ask(at, query, { method, signal, headers, body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body) });
  const text = await response.text();
  return text === '' ? null : JSON.parse(text);
}

/**
 * Reads a stream of the node until it ends, or until the signal is aborted. Each item goes to onItem with the name of its event and its id.
 * @param {string} at
 * @param {Record<string, any>} query
 * @param {(item: any, event: {event: string, id: string}) => void} onItem
 * @param {{signal?: AbortSignal, onOpen?: () => void, onBytes?: () => void}} [options] onBytes is called for each piece, also for one that only keeps the connection open
 * @returns {Promise<void>} resolves when the node has ended the stream; an abort is no error
 */
export async function follow(at, query, onItem, { signal, onOpen, onBytes } = {}) {
  try {
    const response = await ask(at, query, { signal, headers: { Accept: 'text/event-stream' } });
    onOpen?.();
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    const decoder = new TextDecoder();
    const parse = createParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes?.();
      for (const e of parse(decoder.decode(value, { stream: true }))) onItem(JSON.parse(e.data), e);
    }
  } catch (e) {
    if (signal?.aborted) return;
    if (e instanceof ApiError) throw e;
    if (e instanceof TypeError) throw new ApiError({ status: 0, code: 14, message: 'The connection to the node has ended.' });
    throw e;
  }
}

/**
 * The answer of a path, for a component. A new path or query asks again; the answer before stays until the next one is there.
 * @param {string|null} at null asks for nothing
 * @param {Record<string, any>} [query]
 * @param {{every?: number}} [options] every: seconds after which it asks again
 * @returns {{data: any, error: ApiError|null, loading: boolean, reload: () => void}}
 */
export function useGet(at, query = {}, { every = 0 } = {}) {
  const key = at === null ? '' : address(at, query);
  const [answer, setAnswer] = useState({ key: '', data: /** @type {any} */ (undefined), error: /** @type {ApiError|null} */ (null) });
  const [turn, setTurn] = useState(0);
  const role = useStore(session, (s) => s.role);
  useEffect(() => {
    if (at === null) return;
    const abort = new AbortController();
    const load = () => get(at, query, { signal: abort.signal }).then(
      (data) => setAnswer({ key, data, error: null }),
      (error) => {
        if (abort.signal.aborted) return;
        if (error.status === 401 || error.status === 403) clearInterval(timer); // The node would refuse it again, and note each time; another token asks again.
        setAnswer((a) => ({ key, data: a.key === key ? a.data : undefined, error }));
      },
    );
    const timer = every > 0 ? setInterval(() => { if (!document.hidden) load(); }, every * 1000) : 0;
    load();
    return () => { abort.abort(); clearInterval(timer); };
  }, [key, turn, every, role]);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  const stale = answer.key !== key;
  return { data: stale ? undefined : answer.data, error: stale ? null : answer.error, loading: stale && at !== null, reload };
}

// ---- who asks

/** @type {import('./store.js').Store<Session>} */
export const session = createStore(/** @type {Session} */ ({ name: '', role: '', how: '', state: 'asking', message: '' }));

const ranks = { '': 0, read: 1, operate: 2, deploy: 3 };

/**
 * Asks the node for the name and the role of the page's token, or of a page without one.
 * @returns {Promise<Session>}
 */
export async function askWho() {
  try {
    const who = await get('/api/v1/whoami');
    session.set({ name: who.name ?? '', role: who.role ?? '', how: who.how ?? '', state: 'known', message: '' });
  } catch (e) {
    if (e instanceof ApiError && (e.status === 401 || e.status === 403)) session.set({ name: '', role: '', how: '', state: 'refused', message: e.message });
    else if (e instanceof ApiError && e.status !== 0) session.set({ name: '', role: 'read', how: '', state: 'known', message: '' });
  }
  return session.get();
}

/** Whether the page has a token. */
export const hasToken = () => !!sessionStorage.getItem(tokenKey);

/**
 * Uses a token from now on, and asks the node for its role. The token stays in this tab of the browser until it is closed.
 * @param {string} token
 */
export async function signIn(token) {
  sessionStorage.setItem(tokenKey, token.trim());
  return askWho();
}

/** Forgets the token. */
export async function signOut() {
  sessionStorage.removeItem(tokenKey);
  return askWho();
}

/**
 * Takes the token out of the fragment of the address, #token=…, as `helve dashboard` prints it. A fragment never goes to a server, and the address is without it at once.
 * @returns {boolean} whether there was one
 */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (!token) return false;
  sessionStorage.setItem(tokenKey, token);
  history.replaceState(null, '', location.pathname + location.search);
  return true;
}

/** Takes the token of the address now, and of an address that is pasted into this tab later: a browser loads no page for another fragment. app.js calls it once. */
export function takeTokens() {
  takeToken();
  addEventListener('hashchange', () => { if (takeToken()) askWho(); });
}

/**
 * The session, and whether it may do what needs a role.
 * @returns {Session & {may: (role: Role) => boolean}}
 */
export function useSession() {
  const s = useStore(session);
  return { ...s, may: (role) => ranks[s.role] >= ranks[role] };
}
