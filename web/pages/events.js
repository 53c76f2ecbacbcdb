// @ts-check
// Transitions of the node and its objects.
import { html } from '../vendor/preact/standalone.module.js';
import { PageHead } from '../ui/layout.js';
import { Empty } from '../ui/empty.js';

/** @param {{params: import('../router.js').View['params']}} props */
export default function Events({ params }) {
  return html`<${PageHead} name=${params.replica ?? params.deployment ?? params.app ?? params.id ?? 'Events'} /><${Empty} title="Nothing here yet" />`;
}
