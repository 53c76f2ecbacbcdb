// @ts-check
// The state of an object as sign, colour and word. The word is the node's; the sign says the same as the colour for readers who see none.
//
//   html`<${State} state=${app.status} />`                   ✓ RUNNING
//   html`<${State} state="RUNNING" tone="bad" note="not ready" />`
import { html } from '../vendor/preact/standalone.module.js';

/** @typedef {'good'|'busy'|'warn'|'bad'|'idle'} Tone */

/** @type {Record<string, Tone>} How the words of the API look; a word that is not here is idle. */
const tones = {
  RUNNING: 'good', HEALTHY: 'good', running: 'good', done: 'good',
  DEPLOYING: 'busy', UPDATING: 'busy', UPSCALING: 'busy', DOWNSCALING: 'busy', STARTING: 'busy', RECOVERING: 'busy', going: 'busy', starting: 'busy', watching: 'busy',
  DELETING: 'idle', STOPPING: 'idle', NOT_STARTED: 'idle', retired: 'idle', superseded: 'idle',
  DRAINING: 'warn', paused: 'warn', waiting: 'warn', 'rolling back': 'warn',
  UNHEALTHY: 'bad', DEPLOY_FAILED: 'bad', failed: 'bad', refused: 'bad',
};

/** @param {string} state @returns {Tone} */
export const toneOf = (state) => tones[state] ?? 'idle';

/**
 * How an event looks: by its severity, and one that is as it should be as the state it leads to. For example, a replica that dies is bad, though it has no state after that.
 * @param {{to?: string, severity?: string}} e
 * @returns {Tone}
 */
export function toneOfEvent(e) {
  if (e.severity === 'error') return 'bad';
  if (e.severity === 'warning') return 'warn';
  const tone = toneOf(e.to ?? '');
  return e.severity && (tone === 'bad' || tone === 'warn') ? 'idle' : tone; // The state is bad, and the event is not what made it so.
}

/** @type {Record<Tone, string>} */
const shapes = {
  good: 'M4 8.5 7 11.5 12 5',
  busy: 'M8 3.5V8l3 2',
  warn: 'M8 3.5v5M8 11.5v1',
  bad: 'M5 5l6 6M11 5l-6 6',
  idle: 'M5 8h6',
};

/** @param {{tone: Tone}} props */
export function Sign({ tone }) {
  return html`<svg class=${'sign ' + tone} viewBox="0 0 16 16" width="16" height="16" aria-hidden="true"><circle cx="8" cy="8" r="7" /><path d=${shapes[tone]} /></svg>`;
}

/** @param {{state: string, tone?: Tone, note?: string, title?: string}} props */
export function State({ state, tone, note, title }) {
  const t = tone ?? toneOf(state);
  return html`<span class=${'state ' + t} title=${title}><${Sign} tone=${t} /><span class="word">${state || 'unknown'}</span>${note && html`<span class="note"> ${note}</span>`}</span>`;
}
