// @ts-check
// Tabs whose choice is in the address.
//
//   html`<${Tabs} name="tab" tabs=${[{ name: 'charts', title: 'Charts', body: () => html`…` }, { name: 'options', title: 'Options', body: … }]} />`
// The first tab is the one without a parameter. Only the body of the open tab is drawn. ArrowLeft and ArrowRight go from tab to tab.
import { html, useLayoutEffect, useRef } from '../vendor/preact/standalone.module.js';
import { useQuery } from '../router.js';

/**
 * Where a bar of tabs must be scrolled to for the open tab, with a part of its neighbour, to be seen.
 * @param {{scrollLeft: number, clientWidth: number}} bar
 * @param {{offsetLeft: number, offsetWidth: number}} tab its place in the bar
 * @returns {number} the scrollLeft of the bar
 */
export function scrollFor(bar, tab) {
  const neighbour = 24; // Pixels of the tab beside it, by which a reader sees that the bar goes on.
  const first = Math.max(0, tab.offsetLeft - neighbour), last = tab.offsetLeft + tab.offsetWidth + neighbour;
  if (first < bar.scrollLeft || last - first > bar.clientWidth) return first;
  return Math.max(bar.scrollLeft, last - bar.clientWidth);
}

/** @param {{name?: string, label?: string, tabs: {name: string, title: any, body: () => any}[]}} props */
export function Tabs({ name = 'tab', label = 'Parts of the page', tabs }) {
  const [query, setQuery] = useQuery();
  const bar = useRef(/** @type {HTMLDivElement|null} */ (null));
  const open = tabs.find((t) => t.name === query[name]) ?? tabs[0];
  useLayoutEffect(() => { // On a phone the bar is wider than the screen. The page itself must not move, as scrollIntoView would have it.
    const box = bar.current, tab = /** @type {HTMLElement|null|undefined} */ (box?.querySelector('[aria-selected=true]'));
    if (box && tab) box.scrollLeft = scrollFor(box, { offsetLeft: tab.offsetLeft - box.offsetLeft, offsetWidth: tab.offsetWidth });
  }, [open.name]);
  const choose = (/** @type {number} */ i) => setQuery({ [name]: i === 0 ? null : tabs[i].name });
  const key = (/** @type {KeyboardEvent} */ e) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!move) return;
    const next = (tabs.indexOf(open) + move + tabs.length) % tabs.length;
    choose(next);
    /** @type {HTMLElement|undefined} */ (bar.current?.querySelectorAll('[role=tab]')[next])?.focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} ref=${bar} onKeyDown=${key}>${tabs.map((t, i) => html`<button key=${t.name} role="tab" id=${`tab-${name}-${t.name}`}
      aria-selected=${t === open} aria-controls=${`panel-${name}`} tabindex=${t === open ? 0 : -1} onClick=${() => choose(i)}>${t.title}</button>`)}</div>
    <div role="tabpanel" id=${`panel-${name}`} aria-labelledby=${`tab-${name}-${open.name}`}>${open.body()}</div>`;
}
