// @ts-check
// Draws the graph of an application: deployments as boxes with their replicas and load, edges with their rate, errors and wait. The table of deployments below it has the same
// for readers without the picture; the boxes are links in the order of the layout.
import { html, useLayoutEffect, useMemo, useRef, useState } from '../vendor/preact/standalone.module.js';
import { link, setQuery, useQuery } from '../router.js';
import { count, ms, rate } from '../ui/format.js';
import { Sign, toneOf } from '../ui/state.js';
import { layout, sizes } from './graph.js';
import { serving } from './parts.js';

const smallest = 0.3; // The scale below which nothing can be read.
const readable = 0.8; // The scale from which on a graph that is a little too large is drawn whole without a click.
const mostHeight = 0.75; // Of the window; application.css has the same number.

/** The name of the box that an edge comes from; those of sources begin with a space, which no deployment does. @param {any} e */
const sourceOf = (e) => (e.kind === 'http' ? ' HTTP' : e.kind === 'driver' ? ' Programs' : e.from_app ? ` ${e.from_app}/${e.from}` : e.from);

/** @param {{app: any, live: import('../updates.js').Live}} props */
export function Graph({ app, live }) {
  const edges = live.edges ?? [];
  const shape = JSON.stringify([app.deployments, edges.map((e) => [e.id, sourceOf(e), e.to])]);
  const g = useMemo(() => {
    const lines = edges.map((e) => ({ id: e.id, from: sourceOf(e), to: e.to }));
    const sources = [...new Set(lines.map((l) => l.from))].filter((n) => n.startsWith(' '));
    return layout([...sources, ...app.deployments], lines, (n) => n.startsWith(' '));
  }, [shape]);
  const box = useRef(/** @type {HTMLDivElement|null} */ (null));
  const [size, setSize] = useState({ w: 0, h: 0 });
  const [query] = useQuery();
  useLayoutEffect(() => {
    const b = /** @type {HTMLDivElement} */ (box.current);
    const measure = () => setSize({ w: b.clientWidth, h: b.clientHeight });
    const watch = new ResizeObserver(measure);
    watch.observe(b);
    return () => watch.disconnect();
  }, []);
  const whole = Math.max(smallest, Math.min(1, size.w / g.width, window.innerHeight * mostHeight / g.height));
  const scale = query.fit !== undefined || whole >= readable ? whole : 1;
  useLayoutEffect(() => { // The first layer of a tall graph is in its middle.
    const b = /** @type {HTMLDivElement} */ (box.current);
    b.scrollTop = (b.scrollHeight - b.clientHeight) / 2;
    b.scrollLeft = 0;
  }, [shape, scale]);
  return html`${size.w > 0 && whole < readable && html`<div class="graph-bar"><button class="quiet" aria-pressed=${query.fit !== undefined} onClick=${() => setQuery({ fit: query.fit === undefined ? '1' : null })}>${query.fit === undefined ? 'Show the whole graph' : 'Show it in full size'}</button></div>`}
    <div class="graph-box" ref=${box} role="group" aria-label=${`Graph of ${app.name}`} tabindex="0"><div class="graph-space" style=${{ width: g.width * scale + 'px', height: g.height * scale + 'px' }}>
    <div class="graph" style=${{ width: g.width + 'px', height: g.height + 'px', transform: scale === 1 ? '' : `scale(${scale})` }}>
    <svg width=${g.width} height=${g.height} aria-hidden="true">
      <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" class="arrow-head" /></marker></defs>
      ${g.edges.map((e) => html`<path key=${e.id} class=${edgeClass(live, e.id)} d=${e.path} marker-end="url(#arrow)" />`)}
    </svg>
    ${g.edges.map((e) => html`<${EdgeLabel} key=${e.id} edge=${e} figures=${live.figures.edges.get(e.id)} />`)}
    ${[...g.boxes].map(([name, place]) => (name.startsWith(' ') ? html`<${Source} key=${name} name=${name.slice(1)} box=${place} />`
      : html`<${DeploymentBox} key=${name} app=${app} d=${live.deployments.get(name) ?? { name }} figures=${live.figures.deployments.get(name) ?? {}} box=${place} />`))}
  </div></div></div>`;
}

/** @param {import('../updates.js').Live} live @param {string} id */
function edgeClass(live, id) {
  const f = live.figures.edges.get(id);
  return 'edge' + (f?.error_rate ? ' failing' : f?.rate ? '' : ' still');
}

/** @param {import('./graph.js').Box} box */
const at = (box) => ({ left: box.x + 'px', top: box.y + 'px', width: box.w + 'px', height: box.h + 'px' });

/** @param {{edge: import('./graph.js').Placed, figures: import('../updates.js').Figures|undefined}} props */
function EdgeLabel({ edge, figures: f = {} }) {
  if (f.rate === null || f.rate === undefined) return null;
  const title = `${edge.from.trim()} calls ${edge.to}: ${rate(f.rate)}, ${rate(f.error_rate)} fail, a call waits ${ms(f.wait_ms)} for a slot on average`;
  return html`<span class="edge-label" title=${title} style=${{ left: edge.label.x - sizes.labelW / 2 + 'px', top: edge.label.y - sizes.labelH / 2 + 'px', width: sizes.labelW + 'px', height: sizes.labelH + 'px' }}><span class="edge-text">${
    rate(f.rate)}${f.error_rate ? html` <b class="bad">✕ ${rate(f.error_rate)}</b>` : ''}</span>${
    f.rate && f.wait_ms !== null && f.wait_ms !== undefined ? html`<span class="edge-text muted">waits ${ms(f.wait_ms)}</span>` : ''}</span>`;
}

/** @param {{name: string, box: import('./graph.js').Box}} props */
function Source({ name, box }) {
  const [app, deployment] = name.split('/');
  if (deployment) return html`<a class="source" style=${at(box)} title=${name} href=${link.deployment(app, deployment)}><span class="cut">${deployment}</span><span class="muted small cut">of ${app}</span></a>`;
  return html`<span class="source" style=${at(box)}>${name === 'HTTP' ? 'HTTP' : 'Programs'}</span>`;
}

const mostDots = 12;

/** @param {{app: any, d: any, figures: import('../updates.js').Figures, box: import('./graph.js').Box}} props */
function DeploymentBox({ app, d, figures: f, box }) {
  const tone = toneOf(d.status);
  const c = d.replica_counts ?? {};
  return html`<a class=${'node ' + tone} style=${at(box)} href=${link.deployment(app.name, d.name)} title=${`${d.name}: ${d.status ?? ''}${d.message ? ', ' + d.message.split('\n')[0] : ''}`}>
    <span class="node-head"><${Sign} tone=${tone} /><b class="cut">${d.name}</b></span>
    <span class="node-line"><${Dots} ready=${serving(d) ?? 0} wanted=${d.wanted ?? 0} /><span class=${serving(d) === d.wanted ? 'muted' : 'warn'}>${count(serving(d))} of ${count(d.wanted)}${c.starting > 0 && `, ${c.starting} start`}</span></span>
    <span class="node-line muted"><span>${count(f.running)} run</span><span class=${f.queued ? 'warn' : ''}>${count(f.queued)} wait</span><span>p99 ${ms(f.p99_ms)}</span></span>
  </a>`;
}

/** A dot per replica, for few of them. @param {{ready: number, wanted: number}} props */
function Dots({ ready, wanted }) {
  const all = Math.max(ready, wanted);
  if (all === 0 || all > mostDots) return null;
  return html`<svg class="dots" width=${all * 9} height="8" aria-hidden="true">${Array.from({ length: all }, (_, i) => html`<circle key=${i} cx=${i * 9 + 4} cy="4" r="3" class=${i < ready ? (i < wanted ? 'full' : 'extra') : 'none'} />`)}</svg>`;
}
