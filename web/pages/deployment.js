// @ts-check
// One deployment.
import { html } from '../vendor/preact/standalone.module.js';
import { PageHead } from '../ui/layout.js';
import { Empty } from '../ui/empty.js';

/** @param {{params: import('../router.js').View['params']}} props */
export default function Deployment({ params }) {
  return html`<${PageHead} kind="deployment" name=${params.replica ?? params.deployment ?? params.app ?? params.id ?? 'Deployment'} /><${Empty} title="Nothing here yet" />`;
}
