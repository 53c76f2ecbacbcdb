// @ts-check
// What runs, how it does, and what is wrong first.
import { html } from '../vendor/preact/standalone.module.js';
import { link } from '../router.js';
import { useUpdates } from '../updates.js';
import { PageHead, Panel } from '../ui/layout.js';
import { Loading } from '../ui/empty.js';
import { State } from '../ui/state.js';
import { Table } from '../ui/table.js';
import { rate } from '../ui/format.js';

export default function Overview() {
  const live = useUpdates();
  if (!live.ready) return html`<${Loading} what="the state" />`;
  return html`<${PageHead} name="Overview" /><${Panel} title="Applications" flush><${Table} title="Applications" rows=${[...live.applications.values()]} id=${(/** @type {any} */ a) => a.name} empty="No application." columns=${[
    { name: 'name', title: 'Application', value: (/** @type {any} */ a) => a.name, cell: (/** @type {any} */ a) => html`<a href=${link.application(a.name)}>${a.name}</a>` },
    { name: 'state', title: 'State', value: (/** @type {any} */ a) => a.status, cell: (/** @type {any} */ a) => html`<${State} state=${a.status} />` },
    { name: 'rate', title: 'Requests', end: true, value: (/** @type {any} */ a) => live.figures.applications.get(a.name)?.rate, cell: (/** @type {any} */ a) => rate(live.figures.applications.get(a.name)?.rate) },
  ]} /></>`;
}
