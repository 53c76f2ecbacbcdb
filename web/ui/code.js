// @ts-check
// Text of programs: tracebacks, the last lines of a process, files, commands. Sequences of terminals for colours are taken out.
//
//   html`<${Code} text=${exit.lines.join('\n')} label="The last lines on stderr" />`
//   plain('\x1b[31mred')   "red"
import { html, useState } from '../vendor/preact/standalone.module.js';

/** @param {string} text */
export const plain = (text) => text.replace(/\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)/g, '');

const copied = 1500; // Milliseconds that the button says so.

/** @param {{text: string, label?: string}} props */
export function Code({ text, label = 'Text' }) {
  const [done, setDone] = useState(false);
  const clean = plain(text);
  const copy = async () => {
    try { await navigator.clipboard.writeText(clean); } catch { return; } // The browser may forbid it; the text can be selected.
    setDone(true);
    setTimeout(() => setDone(false), copied);
  };
  return html`<div class="code"><pre tabindex="0" aria-label=${label}>${clean}</pre>${navigator.clipboard && html`<button class="quiet copy" onClick=${copy}>${done ? 'Copied' : 'Copy'}</button>`}</div>`;
}
