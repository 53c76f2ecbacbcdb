// @ts-check
// Times that go on while the page is open, drawn from one clock.
//
//   html`<${Ago} at=${replica.started_at} />`     "3 min", with the whole time as its title
//   html`<${At} at=${event.time} />`              "16:25:28", with the day if it is another one
//   const now = useNow();                         drawn again each second
import { html } from '../vendor/preact/standalone.module.js';
import { createStore, useStore } from '../store.js';
import { age, date, stamp, unknown, when, zone } from './format.js';

const smallSkew = 2000; // Milliseconds that the clocks of the node and of the viewer may differ by: the way of an item takes some too.
let skew = 0;
const now = createStore(Date.now());
const tick = () => { if (!document.hidden) now.set(Math.floor((Date.now() + skew) / 1000) * 1000); };
if (typeof document !== 'undefined') {
  setInterval(tick, 1000);
  document.addEventListener('visibilitychange', tick);
}

/**
 * Sets by how much the clock of the node is before that of the viewer. Ages are by the clock of the node.
 * @param {number} by milliseconds
 */
export function setSkew(by) {
  skew = Math.abs(by) > smallSkew ? by : 0;
}

/** Milliseconds since 1970 by the clock of the node; the component is drawn again each second. */
export const useNow = () => useStore(now);

/** @param {string|number|null|undefined} at */
const whole = (at) => `${date(at)} (${zone()})`;

/** @param {{at: string|number|null|undefined}} props */
export function Ago({ at }) {
  const text = useStore(now, (t) => age(at, t)); // Drawn again only when the text changes.
  if (text === unknown) return html`<span class="muted">${unknown}</span>`;
  return html`<time dateTime=${new Date(stamp(at)).toISOString()} title=${whole(at)}>${text}</time>`;
}

/** @param {{at: string|number|null|undefined}} props */
export function At({ at }) {
  const text = useStore(now, (t) => when(at, t));
  if (text === unknown) return html`<span class="muted">${unknown}</span>`;
  return html`<time dateTime=${new Date(stamp(at)).toISOString()} title=${whole(at)}>${text}</time>`;
}
