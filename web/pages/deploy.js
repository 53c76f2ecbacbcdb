// @ts-check
// The dialogs that deploy: the node says first what would happen, and takes the change only if nothing else has changed since.
import { html } from '../vendor/preact/standalone.module.js';
import { path, send, useGet } from '../api.js';
import { Action } from '../ui/dialog.js';

/** @param {any} answer of an apply */
const outcome = (answer) => Object.entries(answer.applications ?? {}).map(([name, o]) => `${name}: ${o.change}${o.revision ? ', revision ' + o.revision : ''}${o.error ? ', ' + o.error : ''}`).join('; ') || 'Nothing has changed.';

/** Fails with the first application that the node has refused, so that the dialog stays open with the file. @param {any} answer */
function taken(answer) {
  const refused = Object.entries(answer.applications ?? {}).filter(([, o]) => o.error);
  if (refused.length > 0) throw Object.assign(new Error(refused.map(([name, o]) => `${name}: ${o.error}`).join('\n')), { next: refused.map(([, o]) => o.next).filter(Boolean).join('\n') });
  return answer;
}

/** A file with applications, for the whole node. */
export function DeployFile() {
  const body = (/** @type {any} */ v) => ({ config: v.config, name: 'dashboard', source: v.source.trim(), keep: v.keep, dir: v.dir.trim(), message: v.message.trim() });
  return html`<${Action} role="deploy" label="Deploy a file" title="Deploy the applications of a file" verb="Deploy" wide
    says="The file has the form of Ray Serve's configuration. The node changes what is different and keeps what is the same. It says first what would happen."
    fields=${[
      { name: 'config', label: 'File, as YAML or JSON', type: 'file', value: '' },
      { name: 'message', label: 'Message for the history' },
      { name: 'dir', label: 'Directory for import paths', note: 'On the machine of the node; empty for the directory of the node.' },
      { name: 'source', label: 'Source', note: 'Names the writer of the file; empty for the source "default".' },
      { name: 'keep', label: 'Applications of this source that the file does not have stay', type: 'checkbox', value: true },
    ]}
    plan=${(/** @type {any} */ v) => send('POST', '/api/v1/plan', body(v))}
    run=${async (/** @type {any} */ v, /** @type {any} */ plan) => taken(await send('POST', '/api/v1/apply', { ...body(v), if: plan.generation }))}
    done=${outcome} />`;
}

/**
 * The element of one application in its file. @param {{app: string, revision: number}} props
 */
export function ChangeApplication({ app, revision }) {
  const submitted = useGet(path`/api/v1/applications/${app}/submitted`, { of: undefined }, {});
  const history = useGet(path`/api/v1/applications/${app}/history`);
  const source = history.data?.revisions?.find((/** @type {any} */ r) => r.number === revision)?.source ?? '';
  const from = submitted.data ? JSON.stringify(submitted.data, null, 2) : '';
  const query = (/** @type {any} */ v) => ({ source: v.source.trim() || undefined });
  return html`<${Action} role="deploy" label="Change" title=${`Change ${app}`} verb="Deploy" wide disabled=${submitted.data === null} why="A program has deployed this application, and no file: deploy it again with the program"
    says="The configuration as it was submitted. Other applications stay as they are. The node says first what would happen."
    fields=${[
      { name: 'config', label: 'Configuration, as YAML or JSON', type: 'file', value: from },
      { name: 'message', label: 'Message for the history' },
      { name: 'source', label: 'Source', value: source, note: 'Names the writer of the file.' },
    ]}
    plan=${(/** @type {any} */ v) => send('POST', path`/api/v1/applications/${app}/plan`, v.config, { query: query(v) })}
    run=${async (/** @type {any} */ v, /** @type {any} */ plan) => taken(await send('PUT', path`/api/v1/applications/${app}`, v.config, { query: { ...query(v), message: v.message.trim() }, ifMatch: plan.generation }))}
    done=${outcome} />`;
}
