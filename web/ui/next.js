// @ts-check
// What comes next, in the words of the node. It names commands; where a page shows the same, the command leads there.
//
//   html`<${Next} text=${answer.next} />`     next: helve logs shop/Ranker --replica Ranker#003      a link to these lines
import { html } from '../vendor/preact/standalone.module.js';
import { link } from '../router.js';
import { useUpdates } from '../updates.js';
import { local } from './format.js';

/** @typedef {{text: string, to: string}} Piece to is "" for text without a page */

const command = /\bhelve (why|logs|calls|profile|events|scale|restart|rollback|resume|pause|history|set|status|tracing)\b((?: +(?:--(?:replica|request|revision|address|text|level) +[^\s;,]+|--[a-z-]+|[^\s;,-][^\s;,]*))*)/g;
const id = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/**
 * A text in pieces: commands that a page stands for, and the text between.
 * For example, of "helve calls shop/Ranker lists the calls" the first three words are one piece, with the address of the calls of Ranker.
 * @param {string} text
 * @param {(app: string) => boolean} known whether an application of this name is there: "helve calls those that run" names none
 * @returns {Piece[]}
 */
export function pieces(text, known) {
  /** @type {Piece[]} */
  const list = [];
  let at = 0;
  command.lastIndex = 0;
  for (let m = command.exec(text); m; m = command.exec(text)) {
    const { end, to } = address(m[1], m[2], known);
    const from = m.index, until = from + m[0].length - m[2].length + end;
    command.lastIndex = until; // The words behind the command may have the next one.
    if (to === '') continue;
    if (from > at) list.push({ text: text.slice(at, from), to: '' });
    list.push({ text: text.slice(from, until), to });
    at = until;
  }
  if (at < text.length) list.push({ text: text.slice(at), to: '' });
  return list;
}

/**
 * The page of a command, and the end of the command in its arguments, behind which a sentence may go on.
 * @param {string} verb
 * @param {string} rest
 * @param {(app: string) => boolean} known
 * @returns {{end: number, to: string}}
 */
function address(verb, rest, known) {
  /** @type {Record<string, string>} */
  const flags = {};
  let object = '', end = 0, flag = '';
  for (const word of rest.matchAll(/[^\s]+/g)) {
    const after = word.index + word[0].length;
    if (flag !== '') { flags[flag] = word[0]; flag = ''; }
    else if (word[0].startsWith('--')) {
      const name = word[0].slice(2);
      if (['replica', 'request', 'revision', 'address', 'text', 'level'].includes(name)) flag = name;
      else flags[name] = 'true';
    } else if (object === '' && (known(word[0].split('/')[0]) || (verb === 'why' && id.test(word[0])))) object = word[0];
    else if (verb === 'scale' && object !== '' && /^(\d+|N)$/.test(word[0])) { end = after; continue; }
    else break;
    end = after;
  }
  const [app, deployment, replica] = object.split('/');
  switch (verb) {
    case 'logs':
      return { end, to: app || flags.request ? link.logs({ app, deployment, replica: flags.replica, request: flags.request, level: flags.level?.toUpperCase() }) : '' };
    case 'why':
      if (flags.request || id.test(object)) return { end, to: link.request(flags.request ?? object) };
      if (flags.failed || flags.slow) return { end, to: link.requests({ app, kept: flags.failed ? 'failed' : 'slow' }) };
      break;
    case 'calls':
      return { end, to: app ? link.requests({ app, deployment }) : '' };
    case 'events':
      return { end, to: app ? link.events({ app, deployment, replica }) : '' };
    case 'tracing':
      return { end, to: link.settings({ tab: 'tracing' }) };
    case 'profile':
      if (replica) return { end, to: link.replica(app, deployment, replica, { tab: 'profile' }) };
      break;
  }
  return { end, to: app ? link.object({ app, deployment, replica }) : '' };
}

/** @param {{text?: string, children?: any}} props children stand behind the text */
export function Next({ text, children }) {
  const { applications } = useUpdates();
  if (!text) return null;
  return html`<p class="next"><span class="muted">next:</span> ${pieces(local(text), (app) => applications.has(app)).map((p) => (p.to ? html`<a href=${p.to}>${p.text}</a>` : p.text))}${children}</p>`;
}
