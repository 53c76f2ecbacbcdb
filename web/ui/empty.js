// @ts-check
// What stands in the place of data that are not there.
//
//   html`<${Empty} title="No request is kept">Requests that fail or are slow stand here.</>`
//   html`<${Loading} what="the events" />`
//   html`<${Failure} error=${error} retry=${reload} />`        an ApiError, with what to try next; a missing role or token says so
//   html`<${Answer} of=${useGet(…)} what="the history">${(data) => …}</>`   one of the three, or the data
import { html } from '../vendor/preact/standalone.module.js';
import { useStore } from '../store.js';
import { connection } from '../updates.js';
import { openSignIn } from './signin.js';
import { Next } from './next.js';

/** @param {{title: string, children?: any}} props */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p>${children && html`<div class="muted">${children}</div>`}</div>`;
}

/** @param {{what?: string}} props */
export function Loading({ what = 'the data' }) {
  const state = useStore(connection, (c) => c.state);
  const text = state === 'refused' ? `The node gives ${what} to readers with a token.` : state === 'gone' ? `The node is gone: ${what} will be here when it is back.` : `Asks the node for ${what} …`;
  return html`<div class="empty loading" role="status"><p class="muted">${text}</p></div>`;
}

/** The text of an error with its next step, for panels and dialogs. @param {{error: any, retry?: () => void}} props */
export function Failure({ error, retry }) {
  const auth = error.status === 401 || error.status === 403;
  const text = error.message || String(error);
  const mistakes = (error.mistakes ?? []).filter((/** @type {any} */ m) => !text.includes(m.message)); // The text of the node has most of them, with their lines.
  return html`<div class="failure" role="alert">
    <p class=${'failure-text' + (/\n\s+\d* \|/.test(text) ? ' lines-of-file' : '')}>${text}</p>
    <${Next} text=${error.next} />
    ${mistakes.length > 0 && html`<ul class="mistakes">${mistakes.map((/** @type {any} */ m) => html`<li>
      ${m.line > 0 && html`<span class="muted">line ${m.line}: </span>`}${m.path && html`<code>${m.path}</code>`} ${m.message}
      ${m.excerpt && html`<pre>${m.excerpt}</pre>`}</li>`)}</ul>`}
    ${(auth || retry) && html`<p class="buttons">
      ${auth && html`<button onClick=${openSignIn}>Sign in</button>`}
      ${retry && html`<button onClick=${retry}>Try again</button>`}</p>`}
  </div>`;
}

/** @param {{of: {data: any, error: any, reload?: () => void}, what?: string, children: (data: any) => any}} props */
export function Answer({ of, what, children }) {
  if (of.data !== undefined) return html`${of.error && html`<p class="warn-line" role="status">These data are old: ${of.error.message}</p>`}${children(of.data)}`;
  if (of.error) return html`<${Failure} error=${of.error} retry=${of.reload} />`;
  return html`<${Loading} what=${what} />`;
}
