// @ts-check
// Shortcuts of the keyboard, and their list at "?".
//
//   useKeys([{ keys: 'g o', says: 'Overview', run: () => navigate(link.overview()) }]);   // while the component is there
// Two keys with a space between are pressed one after the other. Shortcuts rest while a field has the focus, or a dialog is open.
import { html, useEffect, useRef, useState } from '../vendor/preact/standalone.module.js';
import { createStore, useStore } from '../store.js';
import { Dialog } from './modal.js';

/** @typedef {{keys: string, says: string, run: () => void}} Shortcut */

const sets = createStore(/** @type {{list: Shortcut[]}[]} */ ([]));
const secondKey = 1500; // Milliseconds that the first of two keys counts.
let first = '';
let firstAt = 0;

/** @param {Shortcut[]} list */
export function useKeys(list) {
  const now = useRef({ list });
  now.current.list = list; // The functions of the newest drawing run.
  useEffect(() => {
    const set = now.current;
    sets.set([...sets.get(), set]);
    return () => sets.set(sets.get().filter((s) => s !== set));
  }, []);
}

/** @param {KeyboardEvent} e */
function press(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented) return;
  const target = /** @type {Element} */ (e.target);
  if (target.closest?.('input, textarea, select, [contenteditable], dialog')) return;
  const all = sets.get().flatMap((s) => s.list);
  const pair = e.timeStamp - firstAt < secondKey && first !== '' ? `${first} ${e.key}` : '';
  const found = all.findLast((s) => s.keys === pair) ?? all.findLast((s) => s.keys === e.key);
  first = found ? '' : e.key;
  firstAt = e.timeStamp;
  if (!found) return;
  e.preventDefault();
  found.run();
}

/** The listener, and the dialog with the list. layout.js draws it once. @param {{open: boolean, onClose: () => void}} props */
export function KeyHelp({ open, onClose }) {
  const all = useStore(sets);
  const [, setReady] = useState(false);
  useEffect(() => {
    addEventListener('keydown', press);
    setReady(true);
    return () => removeEventListener('keydown', press);
  }, []);
  return html`<${Dialog} open=${open} title="Keyboard" onClose=${onClose}>
    <dl class="keys">${all.flatMap((s) => s.list).map((s) => html`<div key=${s.keys}><dt>${s.keys.split(' ').map((k) => html`<kbd>${k}</kbd> `)}</dt><dd>${s.says}</dd></div>`)}
      <div><dt><kbd>↑</kbd> <kbd>↓</kbd></dt><dd>Rows of a table, when one has the focus</dd></div>
      <div><dt><kbd>Esc</kbd></dt><dd>Close a dialog</dd></div>
    </dl>
    <div class="buttons"><button onClick=${onClose}>Close</button></div>
  </>`;
}
