// @ts-check
// A flame graph that can be searched, enlarged, and walked through with the keyboard, with a table of its functions.
//
//   html`<${FlameGraph} folded=${text} format=${(value) => '1.2 s'} what="CPU time" />`
//
// Callers are above the functions that they call. A click, or Enter, shows a function over the whole width; Escape goes back to its caller. The colour is that of the package.

import { html, useEffect, useMemo, useRef, useState } from '../vendor/preact/standalone.module.js';
import { plural } from '../ui/format.js';
import { colouring, functions, layout, move, parseFolded, search } from './flame.js';

/** @typedef {import('./flame.js').Frame} Frame */

const ROW = 19; // pixels of a row with its border
const COLOURS = 6; // of deployment.css
const LISTED = 50; // functions in the table
const WORDY = 0.02; // a narrower box has no text

/**
 * @param {object} props
 * @param {string} props.folded
 * @param {(value: number) => string} props.format
 * @param {string} props.what what the values are, such as "CPU time"
 */
export function FlameGraph({ folded, format, what }) {
  const root = useMemo(() => parseFolded(folded), [folded]);
  const rows = useMemo(() => functions(root).filter((r) => r.self > 0), [root]);
  const colour = useMemo(() => colouring(root, COLOURS), [root]);
  const [shown, setShown] = useState(/** @type {Frame} */ (root));
  const [chosen, setChosen] = useState(/** @type {Frame} */ (root));
  const [text, setText] = useState('');
  const box = useRef(/** @type {any} */ (null));
  const moved = useRef(false);
  useEffect(() => {
    setShown(root);
    setChosen(root);
  }, [root]);

  const top = shown.value && rootOf(shown) === root ? shown : root;
  const { boxes, rows: height, hidden } = useMemo(() => layout(top), [top]);
  const found = useMemo(() => search(root, text), [root, text]);
  const at = boxes.find((b) => b.frame === chosen) ?? boxes.find((b) => b.frame === top) ?? boxes[0];
  useEffect(() => {
    if (moved.current) box.current?.querySelector('[tabindex="0"]')?.focus();
    moved.current = false;
  });
  if (!root.value) return html`<p class="flame-none">Nothing was measured in this time: no stack had ${what}.</p>`;

  const say = (/** @type {Frame} */ f) => `${f.name}: ${format(f.value)}, ${percent(f.value / root.value)}` + (f.self && f.children.length ? `; ${format(f.self)} of its own` : '');
  const enlarge = (/** @type {Frame} */ f) => {
    setShown(f);
    setChosen(f);
  };
  const onKey = (/** @type {KeyboardEvent} */ e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === 'Escape' || e.key === 'Backspace') {
      if (!top.parent) return;
      enlarge(top.parent);
    } else {
      const next = move(boxes, at, e.key);
      if (next === at && !/^(Arrow|Home)/.test(e.key)) return;
      setChosen(next.frame);
    }
    moved.current = true;
    e.preventDefault();
    e.stopPropagation();
  };

  return html`<section class="flame" aria-label=${`Flame graph: ${what}`}>
    <div class="flame-tools">
      <label>Search <input type="search" value=${text} placeholder="a function or package" spellcheck="false" onInput=${(/** @type {any} */ e) => setText(e.target.value)} /></label>
      <span role="status">${text.trim() && `${found.matches.size} boxes, ${percent(found.share)} of the ${what}`}</span>
      <button type="button" disabled=${top === root} onClick=${() => enlarge(root)}>Show all</button>
    </div>
    <p class="flame-about" aria-live="polite">${say(at.frame)}</p>
    <div class="flame-scroll">
      <div class="flame-graph" role="tree" aria-label=${`${what}: callers and the functions that they call`} ref=${box} style=${{ height: height * ROW + 'px' }} onKeyDown=${onKey}>
        ${boxes.map(
          (b) => html`<button
            type="button"
            role="treeitem"
            key=${b.row + ':' + b.x}
            aria-level=${b.row + 1}
            aria-label=${say(b.frame)}
            aria-selected=${b === at}
            tabindex=${b === at ? 0 : -1}
            title=${say(b.frame)}
            class=${'flame-box flame-' + (colour(b.frame.name) < 0 ? 'root' : colour(b.frame.name)) + (b.width >= WORDY ? ' flame-worded' : '') + (b.above ? ' flame-above' : '') + (text.trim() ? (found.matches.has(b.frame) ? ' flame-found' : ' flame-other') : '')}
            style=${{ left: 100 * b.x + '%', width: 100 * b.width + '%', top: b.row * ROW + 'px' }}
            onClick=${() => enlarge(b.frame)}
            onFocus=${() => setChosen(b.frame)}
            onMouseEnter=${() => setChosen(b.frame)}
          >
            ${b.width >= WORDY && b.frame.name}
          </button>`,
        )}
      </div>
    </div>
    ${hidden > 0 && html`<p class="flame-note">${plural(hidden, 'function')} too small for a box: enlarge a caller to see more.</p>`}
    <details class="flame-table">
      <summary>Functions by their own ${what}</summary>
      <div class="flame-scroll">
        <table>
          <thead><tr><th scope="col">Own</th><th scope="col">With calls</th><th scope="col">Function</th></tr></thead>
          <tbody>
            ${rows.slice(0, LISTED).map(
              (r) => html`<tr><td class="num">${format(r.self)} <small>${percent(r.self / root.value)}</small></td><td class="num">${format(r.total)}</td>
                <td><button type="button" class="linkish" title=${r.name} onClick=${() => setText(r.name)}>${r.name}</button></td></tr>`,
            )}
          </tbody>
        </table>
      </div>
      ${rows.length > LISTED && html`<p class="flame-note">The first ${LISTED} of ${rows.length} functions.</p>`}
    </details>
  </section>`;
}

/** @param {Frame} f */
function rootOf(f) {
  while (f.parent) f = f.parent;
  return f;
}

/** @param {number} share */
function percent(share) {
  return (100 * share).toFixed(share < 0.1 ? 1 : 0) + ' %';
}
