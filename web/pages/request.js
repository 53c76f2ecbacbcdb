// @ts-check
// One request.
import { html } from '../vendor/preact/standalone.module.js';
import { PageHead } from '../ui/layout.js';
import { Empty } from '../ui/empty.js';

/** @param {{params: import('../router.js').View['params']}} props */
export default function Request({ params }) {
  return html`<${PageHead} kind="request" name=${params.replica ?? params.deployment ?? params.app ?? params.id ?? 'Request'} /><${Empty} title="Nothing here yet" />`;
}
