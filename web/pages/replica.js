// @ts-check
// One replica.
import { html } from '../vendor/preact/standalone.module.js';
import { PageHead } from '../ui/layout.js';
import { Empty } from '../ui/empty.js';

/** @param {{params: import('../router.js').View['params']}} props */
export default function Replica({ params }) {
  return html`<${PageHead} kind="replica" name=${params.replica ?? params.deployment ?? params.app ?? params.id ?? 'Replica'} /><${Empty} title="Nothing here yet" />`;
}
