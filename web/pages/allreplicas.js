// @ts-check
// The replicas of all deployments of the node: which of them takes the most memory, is not ready, waits for a GPU.
import { html } from '../vendor/preact/standalone.module.js';
import { link, useQuery } from '../router.js';
import { useUpdates } from '../updates.js';
import { Empty, Loading } from '../ui/empty.js';
import { count, plural } from '../ui/format.js';
import { PageHead, Panel } from '../ui/layout.js';
import { SelectFilter, TextFilter } from './logs.js';
import { Replicas, matches, stateFilters } from './replicas.js';

const first = 'application'; // The order without another one in the address.

/** The orders that answer a question. Each title of a column gives its own, on wide screens. @type {[string, string][]} */
const orders = [
  ['', 'application'], ['state', 'faults first'], ['-memory', 'most memory'], ['-cpu', 'most CPU'], ['-loop', 'slowest event loop'], ['-rate', 'most calls'], ['-errors', 'most failed calls'],
  ['-running', 'most calls now'], ['-restarts', 'most restarts'], ['age', 'newest'], ['-age', 'oldest'],
];

export default function AllReplicas() {
  const [query, setQuery] = useQuery();
  const live = useUpdates({ all: true });
  if (!live.ready) return html`<${PageHead} name="Replicas" /><${Loading} what="the replicas" />`;
  const { state = '', text = '' } = query;
  const all = [...live.replicas.values()];
  const rows = all.filter((r) => matches(r, state, text));
  const clear = () => setQuery({ state: null, text: null });
  return html`<${PageHead} name="Replicas" />
    <form class="filters" role="search" aria-label="Filter" onSubmit=${(/** @type {Event} */ e) => e.preventDefault()}>
      <${SelectFilter} name="state" label="State" options=${[['', 'any'], ...Object.entries(stateFilters).map(([name, p]) => [name, p.text])]} />
      <${TextFilter} name="text" label="Text" placeholder="name, reason, model" />
      <${SelectFilter} name="sort" label="Order" options=${orders} />
      ${(state || text) && html`<button type="button" onClick=${clear}>Clear</button>`}
    </form>
    <${Panel} title="Replicas of the node" note=${rows.length === all.length ? plural(all.length, 'replica') : `${count(rows.length)} of ${plural(all.length, 'replica')}`} flush=${true}>
      ${all.length === 0 ? html`<${Empty} title="The node has no replica">
          <p>${live.applications.size === 0 ? 'It has no application.' : 'Its applications have none now.'} <a href=${link.overview()}>Overview</a></p></>`
        : html`<${Replicas} rows=${rows} figures=${live.figures.replicas} whole=${true} sort="sort" first=${first} empty="No replica is like this." />`}
    </>`;
}
