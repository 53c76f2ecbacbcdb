// @ts-check
// Logs: the lines of all replicas and of the node as they come, or those that the filters in the address choose.
import { html, useEffect, useRef, useState } from '../vendor/preact/standalone.module.js';
import { useQuery } from '../router.js';
import { useUpdates } from '../updates.js';
import { PageHead, Panel } from '../ui/layout.js';
import { LogView } from '../ui/logview.js';

const typing = 300; // Milliseconds after the last key until a text is searched.

/**
 * A field whose text goes into the address when the reader pauses.
 * @param {{name: string, label: string, type?: string, list?: string[], placeholder?: string}} props
 */
export function TextFilter({ name, label, type = 'search', list, placeholder }) {
  const [query, setQuery] = useQuery();
  const [text, setText] = useState(query[name] ?? '');
  const timer = useRef(/** @type {any} */ (0));
  const sent = useRef(query[name] ?? '');
  useEffect(() => { // The address has changed by another way, such as "back".
    if ((query[name] ?? '') === sent.current) return;
    sent.current = query[name] ?? '';
    setText(sent.current);
  }, [query[name]]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const input = (/** @type {any} */ e) => {
    const value = e.target.value;
    setText(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => { sent.current = value.trim(); setQuery({ [name]: value.trim() }); }, typing);
  };
  return html`<label class=${'filter-' + name}>${label} <input type=${type} value=${text} onInput=${input} placeholder=${placeholder} spellcheck=${false} autocomplete="off" list=${list ? 'list-' + name : undefined} />
    ${list && html`<datalist id=${'list-' + name}>${list.map((v) => html`<option value=${v}></option>`)}</datalist>`}</label>`;
}

/**
 * A choice that is in the address. An option is a value or [value, text]; the first one is that without a parameter. A value of the address that is no option is one more.
 * @param {{name: string, label: string, options: (string|[string, string])[], also?: Record<string, null>}} props also: parameters that a change takes away
 */
export function SelectFilter({ name, label, options, also = {} }) {
  const [query, setQuery] = useQuery();
  const now = query[name] ?? '';
  const all = options.map((o) => (typeof o === 'string' ? [o, o] : o));
  if (now !== '' && !all.some(([v]) => v === now)) all.push([now, now]);
  return html`<label class=${'filter-' + name}>${label} <select value=${now} onChange=${(/** @type {any} */ e) => setQuery({ ...also, [name]: e.target.value })}>
    ${all.map(([v, text]) => html`<option key=${v} value=${v} selected=${v === now}>${text}</option>`)}</select></label>`;
}

/** The filters by application, deployment and, with `replica`, replica. @param {{replica?: boolean, gone?: string[]}} props gone: names of applications that may not be there any more */
export function ObjectFilters({ replica, gone = [] }) {
  const [{ app, deployment }] = useQuery();
  const live = useUpdates({ app, deployment: app ? deployment : undefined });
  const apps = [...new Set([...live.applications.keys(), ...gone])].sort();
  const deployments = app ? [...(live.applications.get(app)?.deployments ?? [])].sort() : [];
  const replicas = app && deployment ? [...live.replicas.values()].filter((r) => r.app === app && r.deployment === deployment).map((r) => r.replica_id).sort() : [];
  return html`<${SelectFilter} name="app" label="Application" options=${[['', 'all'], ...apps]} also=${{ deployment: null, replica: null }} />
    ${app && html`<${SelectFilter} name="deployment" label="Deployment" options=${[['', 'all'], ...deployments]} also=${{ replica: null }} />`}
    ${replica && app && deployment && html`<${SelectFilter} name="replica" label="Replica" options=${[['', 'all'], ...replicas]} />`}`;
}

export default function Logs() {
  const [query, setQuery] = useQuery();
  const { app, deployment, replica, request, level, text, since } = query;
  const access = query.access === '1';
  const filtered = app || deployment || replica || request || level || text || since;
  return html`<${PageHead} name="Logs" />
    <form class="filters" role="search" aria-label="Filter" onSubmit=${(/** @type {Event} */ e) => e.preventDefault()}>
      <${SelectFilter} name="access" label="Of" options=${[['', 'replicas and node'], ['1', 'HTTP access']]} />
      <${ObjectFilters} replica=${true} />
      <${SelectFilter} name="level" label="Level" options=${[['', 'all'], ['INFO', 'INFO and above'], ['WARN', 'WARN and above'], ['ERROR', 'ERROR']]} />
      <${SelectFilter} name="since" label="Of the last" options=${[['', 'all that is kept'], ['5m', '5 min'], ['15m', '15 min'], ['1h', '1 h'], ['24h', '24 h']]} />
      <${TextFilter} name="text" label="Text in message or attribute" placeholder="any letters" />
      <${TextFilter} name="request" label="Request" placeholder="id" />
      ${filtered && html`<button type="button" onClick=${() => setQuery({ app: null, deployment: null, replica: null, request: null, level: null, text: null, since: null })}>Clear</button>`}
    </form>
    <${Panel} title=${access ? 'Access log of HTTP' : 'Lines'} flush>
      <${LogView} query=${{ app, deployment, replica, request, level, text, since, access }} title=${access ? 'Access log' : 'Log lines'}
        empty=${filtered ? 'No line that is kept is like this. Lines that come will be here.' : access ? 'The node has no line of an access log. It writes one with --access-log.' : 'No line yet: what replicas log or print will be here.'} />
    </>`;
}
