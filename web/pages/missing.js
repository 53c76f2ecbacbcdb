// @ts-check
// The page of an address that names no view.
import { html } from '../vendor/preact/standalone.module.js';
import { link } from '../router.js';
import { Empty } from '../ui/empty.js';
import { PageHead } from '../ui/layout.js';

export default function Missing() {
  return html`<${PageHead} name="No page" /><${Empty} title="There is no such page">The address <code>${location.pathname}</code> names no view. <a href=${link.overview()}>To the overview</a></>`;
}
