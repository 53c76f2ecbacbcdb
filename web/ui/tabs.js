// @ts-check
// Tabs whose choice is in the address.
//
//   html`<${Tabs} name="tab" tabs=${[{ name: 'charts', title: 'Charts', body: () => html`…` }, { name: 'options', title: 'Options', body: … }]} />`
// The first tab is the one without a parameter. Only the body of the open tab is drawn. ArrowLeft and ArrowRight go from tab to tab.
import { html, useRef } from '../vendor/preact/standalone.module.js';
import { useQuery } from '../router.js';

/** @param {{name?: string, label?: string, tabs: {name: string, title: any, body: () => any}[]}} props */
export function Tabs({ name = 'tab', label = 'Parts of the page', tabs }) {
  const [query, setQuery] = useQuery();
  const bar = useRef(/** @type {HTMLDivElement|null} */ (null));
  const open = tabs.find((t) => t.name === query[name]) ?? tabs[0];
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
