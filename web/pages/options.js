// @ts-check
// The effective options of a deployment with their source, and the dialogs that change them: the node says first what would happen.
import { html, useState } from '../vendor/preact/standalone.module.js';
import { path, send } from '../api.js';
import { useQuery } from '../router.js';
import { Action } from '../ui/dialog.js';
import { value } from '../ui/format.js';
import { Table } from '../ui/table.js';

/**
 * What a change of options would do. @param {string} app @param {string} deployment @param {any} options
 * @returns {Promise<any>} a plan
 */
export const planOptions = (app, deployment, options) => send('PATCH', path`/api/v1/applications/${app}/plan`, { deployments: { [deployment]: options } });

/** Sets options above those of file and code; null clears one. @param {string} app @param {string} deployment @param {any} options */
export const changeOptions = (app, deployment, options) => send('PATCH', path`/api/v1/applications/${app}`, { deployments: { [deployment]: options } });

/**
 * The options of a path: {a: {b: 1}} for "a.b".
 * @param {string} at
 * @param {any} v
 */
export const nested = (at, v) => at.split('.').reduceRight((inner, name) => ({ [name]: inner }), v);

/**
 * A value as it was typed: JSON, or else a text, as `helve set` takes it. Nothing clears the option.
 * @param {string} text
 */
export function typed(text) {
  if (text.trim() === '') return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const edit = (/** @type {any} */ v) => (v === null || v === undefined ? '' : typeof v === 'string' ? v : JSON.stringify(v, null, typeof v === 'object' ? 1 : 0).replace(/\n\s*/g, ' '));

/** @typedef {{app: string, deployment: string, options: any[], reload: () => void}} Of */

/** The dialog for one option. @param {Of & {option?: any, label?: string}} props */
export function SetAction({ app, deployment, options, reload, option, label = 'Set an option' }) {
  const change = (/** @type {any} */ v) => nested(option?.path ?? v.option, typed(v.value));
  const fields = [
    !option && { name: 'option', label: 'Option', options: options.map((o) => o.path), value: options[0]?.path, note: 'A dot leads into an option.' },
    { name: 'value', label: 'Value', value: option ? edit(option.value) : '', note: 'JSON, or a text. No value clears what was set here: that of file, code or default holds again.' },
  ].filter(Boolean);
  return html`<${Action} role="deploy" planRole="read" label=${label} wide=${true} title=${option ? `${option.path} of ${app}/${deployment}` : `Set an option of ${app}/${deployment}`} verb="Set it" fields=${fields}
    says="The value goes over that of the file and the code, also of later deploys, until it is cleared."
    plan=${(/** @type {any} */ v) => planOptions(app, deployment, change(v))}
    run=${async (/** @type {any} */ v) => { const answer = await changeOptions(app, deployment, change(v)); reload(); return answer; }}
    done=${(/** @type {any} */ answer) => (answer?.change === 'unchanged' ? 'Nothing has changed.' : 'The option is set.')} />`;
}

/** The dialog that takes away what was set above file and code; of num_replicas also the number that Scale has set. @param {Of & {option: any}} props */
function ClearAction({ app, deployment, reload, option }) {
  const change = nested(option.path, null);
  return html`<${Action} role="deploy" planRole="read" label="Clear" wide=${true} title=${`Clear ${option.path} of ${app}/${deployment}`} verb="Clear it"
    says="What was set above the file and the code goes away: their value holds again, or else the default."
    plan=${() => planOptions(app, deployment, change)}
    run=${async () => { const answer = await changeOptions(app, deployment, change); reload(); return answer; }} done="The option is cleared." />`;
}

/** The dialog for user_config. @param {Of} props */
export function ReconfigureAction({ app, deployment, options, reload }) {
  const now = options.find((o) => o.path === 'user_config');
  if (!now) return null;
  const change = (/** @type {any} */ v) => ({ user_config: typed(v.config) });
  return html`<${Action} role="deploy" planRole="read" label="Reconfigure" wide=${true} title=${`Reconfigure ${app}/${deployment}`} verb="Reconfigure"
    says="Replicas get the user_config by their method reconfigure, without a restart."
    fields=${[{ name: 'config', label: 'user_config', type: 'textarea', rows: 10, value: now.value === null ? '' : JSON.stringify(now.value, null, 2), note: 'JSON. Nothing clears what was set here.' }]}
    plan=${(/** @type {any} */ v) => planOptions(app, deployment, change(v))}
    run=${async (/** @type {any} */ v) => { const answer = await changeOptions(app, deployment, change(v)); reload(); return answer; }} done="The replicas are reconfigured." />`;
}

/** What an option means, without the marks of Markdown. @param {string|undefined} about */
export const meaning = (about) => about?.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll('`', '');

/** @param {Of} props */
export function Options({ app, deployment, options, reload }) {
  const [query, setQuery] = useQuery();
  const [text, setText] = useState(query.option ?? '');
  const all = query.options === 'all';
  const wanted = text.trim().toLowerCase();
  const rows = options.filter((o) => (wanted ? o.path.toLowerCase().includes(wanted) : all || o.from !== 'default'));
  const columns = [
    { name: 'option', title: 'Option', value: (/** @type {any} */ o) => o.path, cell: (/** @type {any} */ o) => html`<code title=${meaning(o.about)}>${o.path}</code>` },
    { name: 'value', title: 'Value', cell: (/** @type {any} */ o) => html`<code class="cut option-value" title=${value(o.value)}>${value(o.value)}</code>` },
    { name: 'from', title: 'From', value: (/** @type {any} */ o) => o.from, cell: (/** @type {any} */ o) => html`<span class=${'from from-' + o.from} title=${o.from === 'override' ? 'set above file and code: here, with helve set or helve scale, or by the autoscaler' : undefined}>${o.from}</span>` },
    { name: 'update', title: 'A change needs', phone: false, help: 'What a change of the option does to the replicas: nothing, a call of reconfigure in place, new replicas, or all of the application anew', value: (/** @type {any} */ o) => o.update },
    { name: 'set', title: '', cell: (/** @type {any} */ o) => html`<${SetAction} app=${app} deployment=${deployment} options=${options} option=${o} label="Set" reload=${reload} />${
      o.from === 'override' && html` <${ClearAction} app=${app} deployment=${deployment} options=${options} option=${o} reload=${reload} />`}` },
  ];
  return html`<div class="filter">
      <label>Find <input type="search" value=${text} placeholder="the name of an option" spellcheck=${false} onInput=${(/** @type {any} */ e) => { setText(e.target.value); setQuery({ option: e.target.value }); }} /></label>
      <label class="check"><input type="checkbox" checked=${all} disabled=${wanted !== ''} onChange=${(/** @type {any} */ e) => setQuery({ options: e.target.checked ? 'all' : null })} /> with defaults</label>
      <span class="muted" role="status">${rows.length} of ${options.length}</span>
    </div>
    <${Table} title="Options" rows=${rows} columns=${columns} id=${(/** @type {any} */ o) => o.path} sort="options_by" empty=${wanted ? 'No option has this name.' : 'All options have their defaults.'} />`;
}
