// @ts-check
// Starts the dashboard: takes a token out of the address, opens the stream of updates, and draws the frame with the page that the address names.
// A page is a module below pages/ whose default export is a component; it gets { params } of the view, and is loaded when it is first shown.
import { html, render, useEffect, useErrorBoundary, useRef, useState } from './vendor/preact/standalone.module.js';
import { start, useView } from './router.js';
import { useStore } from './store.js';
import { askWho, takeTokens } from './api.js';
import { connection, startUpdates, useLive } from './updates.js';
import { Layout, PageHead } from './ui/layout.js';
import { Failure, Loading } from './ui/empty.js';

/** @type {Record<import('./router.js').PageName, () => Promise<{default: (props: any) => any}>>} */
const modules = {
  overview: () => import('./pages/overview.js'),
  application: () => import('./pages/application.js'),
  deployment: () => import('./pages/deployment.js'),
  replica: () => import('./pages/replica.js'),
  replicas: () => import('./pages/allreplicas.js'),
  requests: () => import('./pages/requests.js'),
  request: () => import('./pages/request.js'),
  events: () => import('./pages/events.js'),
  logs: () => import('./pages/logs.js'),
  settings: () => import('./pages/settings.js'),
  missing: () => import('./pages/missing.js'),
};

/** @type {Record<string, string>} */
const titles = { overview: 'Overview', replicas: 'Replicas', requests: 'Requests', events: 'Events', logs: 'Logs', settings: 'Settings', missing: 'No such page' };

/** @param {{view: import('./router.js').View}} props */
function Page({ view }) {
  const [loaded, setLoaded] = useState({ page: '', component: /** @type {any} */ (null), error: /** @type {any} */ (null) });
  useEffect(() => {
    let here = true;
    modules[view.page]().then(
      (m) => { if (here) setLoaded({ page: view.page, component: m.default, error: null }); },
      (error) => { if (here) setLoaded({ page: view.page, component: null, error }); },
    );
    return () => { here = false; };
  }, [view.page]);
  const { params } = view;
  const troubles = useLive((l) => l.problems?.troubles?.length);
  const gone = useStore(connection, (c) => c.state === 'gone');
  const name = params.replica ?? params.deployment ?? params.app ?? params.id ?? titles[view.page];
  const wrong = gone ? 'gone' : troubles || ''; // Seen at the tab of a page that is left open.
  const title = [wrong && `(${wrong})`, [name, params.deployment && params.app, 'Helve'].filter(Boolean).join(' · ')].filter(Boolean).join(' ');
  useEffect(() => { document.title = title; }, [title]);
  const at = JSON.stringify([view.page, params]);
  const shown = useRef(at);
  useEffect(() => { // The keyboard goes on at the begin of a new page, and not at a link that is gone.
    if (shown.current !== at) document.getElementById('main')?.focus({ preventScroll: true });
    shown.current = at;
  }, [at]);
  if (loaded.page !== view.page) return html`<${Loading} what="the page" />`;
  if (loaded.error) return html`<${Failure} error=${loaded.error} retry=${() => location.reload()} />`;
  // The key makes a page of another object a new one, with no state of the one before.
  return html`<${Guard} key=${at}><${loaded.component} params=${params} /></>`;
}

/** Shows a fault of a page in its place, so that the frame and the other pages go on. @param {{children?: any}} props */
function Guard({ children }) {
  const [error, reset] = useErrorBoundary((e) => console.error(e));
  if (error) return html`<${PageHead} name="This page has failed" /><${Failure} error=${error} retry=${reset} />`;
  return children;
}

function App() {
  return html`<${Layout}><${Page} view=${useView()} /></>`;
}

takeTokens();
start();
askWho();
startUpdates();
const root = /** @type {HTMLElement} */ (document.getElementById('app'));
root.textContent = '';
render(html`<${App} />`, root);
