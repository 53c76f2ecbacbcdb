// @ts-check
// One application.
import { html } from '../vendor/preact/standalone.module.js';
import { PageHead } from '../ui/layout.js';
import { Empty } from '../ui/empty.js';

/** @param {{params: import('../router.js').View['params']}} props */
export default function Application({ params }) {
  return html`<${PageHead} kind="application" name=${params.replica ?? params.deployment ?? params.app ?? params.id ?? 'Application'} /><${Empty} title="Nothing here yet" />`;
}
