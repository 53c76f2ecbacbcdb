// @ts-check
// Settings of the node.
import { html } from '../vendor/preact/standalone.module.js';
import { PageHead } from '../ui/layout.js';
import { Empty } from '../ui/empty.js';

/** @param {{params: import('../router.js').View['params']}} props */
export default function Settings({ params }) {
  return html`<${PageHead} name=${params.replica ?? params.deployment ?? params.app ?? params.id ?? 'Settings'} /><${Empty} title="Nothing here yet" />`;
}
