// @ts-check
// Calls that wait and run, and requests that are kept.
import { html } from '../vendor/preact/standalone.module.js';
import { PageHead } from '../ui/layout.js';
import { Empty } from '../ui/empty.js';

/** @param {{params: import('../router.js').View['params']}} props */
export default function Requests({ params }) {
  return html`<${PageHead} name=${params.replica ?? params.deployment ?? params.app ?? params.id ?? 'Requests'} /><${Empty} title="Nothing here yet" />`;
}
