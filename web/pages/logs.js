// @ts-check
// Lines that replicas have written.
import { html } from '../vendor/preact/standalone.module.js';
import { PageHead } from '../ui/layout.js';
import { Empty } from '../ui/empty.js';

/** @param {{params: import('../router.js').View['params']}} props */
export default function Logs({ params }) {
  return html`<${PageHead} name=${params.replica ?? params.deployment ?? params.app ?? params.id ?? 'Logs'} /><${Empty} title="Nothing here yet" />`;
}
