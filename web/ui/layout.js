// @ts-check
// The frame of the page, and the parts that every page is made of.
//
//   html`<${PageHead} kind="deployment" name="Ranker" state=${d.status} actions=${html`<${Action} … />`}>a line below the name</>`
//   html`<${Panel} title="Replicas" note="8 of 10 get calls" actions=${…}>…</>`
//   html`<${Figures} of=${[{ label: 'Calls', value: rate(f.rate), title: 'of the last 5 to 10 s' }, { label: 'p99', value: ms(f.p99_ms), tone: 'bad' }]} />`
import { html, useState } from '../vendor/preact/standalone.module.js';
import { createStore, useStore } from '../store.js';
import { link, navigate, useView } from '../router.js';
import { hasToken, signOut, useSession } from '../api.js';
import { connection, tryNow, useUpdates } from '../updates.js';
import { KeyHelp, useKeys } from './keys.js';
import { Notices } from './dialog.js';
import { openSignIn, SignIn } from './signin.js';
import { Sign, State } from './state.js';
import { age, clock } from './format.js';
import { useNow } from './time.js';

/** @typedef {import('./state.js').Tone} Tone */

// ---- theme

const themeKey = 'helve.theme';
const themes = /** @type {const} */ (['system', 'light', 'dark']);
const theme = createStore(/** @type {string} */ (document.documentElement.dataset.theme ?? 'system'));

/** The theme that is set: "system", "light" or "dark". Charts, which draw on a canvas, draw again when it changes. */
export const useTheme = () => useStore(theme);

/** @param {string} next */
function setTheme(next) {
  if (next === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try { localStorage.setItem(themeKey, next); } catch { /* Without storage the theme holds until the page is closed. */ }
  theme.set(next);
}

/** The theme after the present one. */
const turnTheme = () => setTheme(themes[(themes.indexOf(/** @type {any} */ (theme.get())) + 1) % themes.length]);

// ---- frame

const places = [
  { page: 'overview', title: 'Overview', keys: 'g o', to: link.overview },
  { page: 'replicas', title: 'Replicas', keys: 'g p', to: link.replicas },
  { page: 'requests', title: 'Requests', keys: 'g r', to: link.requests },
  { page: 'events', title: 'Events', keys: 'g e', to: link.events },
  { page: 'logs', title: 'Logs', keys: 'g l', to: link.logs },
  { page: 'settings', title: 'Settings', keys: 'g s', to: link.settings },
];

/** The place of the navigation that a page is below. @type {Record<string, string>} */
const placeOf = { application: 'overview', deployment: 'overview', replica: 'overview', request: 'requests' };

/** @param {{children?: any}} props */
export function Layout({ children }) {
  const view = useView();
  const [help, setHelp] = useState(false);
  const at = placeOf[view.page] ?? view.page;
  useKeys([
    ...places.map((p) => ({ keys: p.keys, says: p.title, run: () => navigate(p.to()) })),
    { keys: 'u', says: 'Up: from a replica to its deployment, and so on', run: () => up(view) },
    { keys: '/', says: 'Search or filter', run: () => /** @type {HTMLElement|null} */ (document.querySelector('main input[type=search]'))?.focus() },
    { keys: 't', says: 'Theme: system, light, dark', run: turnTheme },
    { keys: '?', says: 'This list', run: () => setHelp(true) },
  ]);
  return html`
    <a class="skip" href="#main">To the content</a>
    <header class="top">
      <a class="brand" href=${link.overview()}>Helve</a>
      <nav aria-label="Main">${places.map((p) => html`<a key=${p.page} href=${p.to()} aria-current=${p.page === at ? 'page' : undefined} title=${'Keys: ' + p.keys}>${p.title}</a>`)}</nav>
      <div class="top-end"><${NodeSign} /><${ThemeButton} /><${WhoButton} /><button class="quiet" title="Keyboard shortcuts (?)" aria-label="Keyboard shortcuts" onClick=${() => setHelp(true)}>?</button></div>
    </header>
    <${Banner} />
    <main id="main" tabindex="-1"><${Crumbs} />${children}</main>
    <${SignIn} /><${KeyHelp} open=${help} onClose=${() => setHelp(false)} /><${Notices} />`;
}

/** @param {import('../router.js').View} view */
function up({ page, params: { app = '', deployment = '' } }) {
  if (page === 'replica') navigate(link.deployment(app, deployment));
  else if (page === 'deployment') navigate(link.application(app));
  else if (page === 'request') navigate(link.requests());
  else navigate(link.overview());
}

function NodeSign() {
  const { node, connection: c } = useUpdates();
  const tone = c.state === 'live' ? (node?.draining ? 'warn' : 'good') : c.state === 'connecting' ? 'idle' : 'bad';
  const word = c.state === 'live' ? (node?.draining ? 'drains' : 'live') : c.state === 'connecting' ? 'connects' : c.state === 'refused' ? 'no access' : 'gone';
  return html`<span class="node-sign" title=${`The connection to the node ${node?.id ?? ''}: ${word}`}><${Sign} tone=${tone} /><span>${word}</span></span>`;
}

function ThemeButton() {
  const now = useTheme();
  return html`<button class="quiet" onClick=${turnTheme} title="Theme: system, light or dark (t)" aria-label=${`Theme: ${now}`}>
    <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true"><circle cx="8" cy="8" r="6" fill="none" stroke="currentColor" stroke-width="1.5" />
      ${now === 'light' ? html`<circle cx="8" cy="8" r="2.5" fill="currentColor" />` : now === 'dark' ? html`<circle cx="8" cy="8" r="6" fill="currentColor" />` : html`<path d="M8 2a6 6 0 0 1 0 12z" fill="currentColor" />`}</svg></button>`;
}

function WhoButton() {
  const s = useSession();
  if (s.state === 'asking') return null;
  const text = s.state === 'refused' ? 'Token refused' : s.name && s.role ? `${s.name} · ${s.role}` : 'Sign in';
  return html`<button class=${s.state === 'refused' ? 'danger' : ''} onClick=${openSignIn} title=${s.role ? `The page may ${s.role}` : 'A token lets the page act'}>${text}</button>`;
}

function Banner() {
  const c = useStore(connection);
  const now = useNow();
  if (c.state === 'gone') return html`<div class="banner bad" role="alert"><${Sign} tone="bad" /><span><b>The node is gone</b> since ${clock(c.since)} (${age(c.since, Math.max(now, c.since))}).
    What the page shows is from before; it comes back by itself. <span class="muted">${c.message}</span></span><button onClick=${tryNow}>Try now</button></div>`;
  if (c.state === 'refused') return html`<div class="banner warn" role="alert"><${Sign} tone="warn" /><span><b>${hasToken() ? 'The node refuses the token.' : 'The node wants a token.'}</b> ${c.message}</span>
    ${hasToken() && html`<button onClick=${signOut}>Go on without it</button>`}<button onClick=${openSignIn}>Sign in</button></div>`;
  return null;
}

function Crumbs() {
  const { page, params: { app, deployment, replica, id } } = useView();
  /** @type {{text: string, to?: string}[]} */
  const parts = [];
  if (app) parts.push({ text: 'Applications', to: link.overview() }, { text: app, to: link.application(app) });
  if (app && deployment) parts.push({ text: deployment, to: link.deployment(app, deployment) });
  if (replica) parts.push({ text: replica });
  if (page === 'request') parts.push({ text: 'Requests', to: link.requests() }, { text: id ?? '' });
  if (parts.length < 2) return null;
  return html`<nav class="crumbs" aria-label="Breadcrumb"><ol>${parts.map((p, i) => html`<li key=${i}>${i === parts.length - 1 ? html`<span aria-current="page" title=${p.text}>${p.text}</span>` : html`<a href=${p.to} title=${p.text}>${p.text}</a>`}</li>`)}</ol></nav>`;
}

// ---- parts of pages

/** @param {{kind?: string, name: string, state?: string, tone?: Tone, note?: string, actions?: any, children?: any}} props */
export function PageHead({ kind, name, state, tone, note, actions, children }) {
  return html`<div class="page-head">
    <div class="page-title"><h1 title=${name}>${kind && html`<span class="kind">${kind} </span>`}${name}</h1>${state && html`<${State} state=${state} tone=${tone} note=${note} />`}</div>
    ${actions && html`<div class="actions">${actions}</div>`}
    ${children && html`<div class="page-sub">${children}</div>`}
  </div>`;
}

/** @param {{title: string, note?: any, actions?: any, tone?: Tone, flush?: boolean, children?: any}} props flush: the body reaches the edges, for tables */
export function Panel({ title, note, actions, tone, flush, children }) {
  return html`<section class=${'panel' + (tone ? ' ' + tone : '') + (flush ? ' flush' : '')} aria-label=${title}>
    <div class="panel-head"><h2>${title}</h2>${note && html`<span class="muted">${note}</span>`}${actions && html`<div class="actions">${actions}</div>`}</div>
    <div class="panel-body">${children}</div>
  </section>`;
}

/** @param {{of: {label: string, value: any, title?: string, tone?: Tone, note?: any}[]}} props */
export function Figures({ of }) {
  return html`<dl class="figures">${of.map((f) => html`<div key=${f.label} title=${f.title}><dt>${f.label}</dt><dd class=${f.tone ?? ''}>${f.value}${f.note && html`<span class="muted"> ${f.note}</span>`}</dd></div>`)}</dl>`;
}

/** Names and values in two columns. @param {{of: [any, any][]}} props rows whose value is null, undefined or "" are left out */
export function Facts({ of }) {
  return html`<dl class="facts">${of.filter(([, v]) => v !== null && v !== undefined && v !== '').map(([name, v]) => html`<div key=${name}><dt>${name}</dt><dd>${v}</dd></div>`)}</dl>`;
}
