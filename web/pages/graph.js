// @ts-check
// The places of the boxes and edges of an application's graph: layers from left to right, callers before the deployments that they call. Pure: the same graph gets the same
// places, so that a graph that is drawn again each second stays where it is.
//
//   const { width, height, boxes, edges } = layout(['Front', 'Ranker'], [{ id: 'Front>Ranker', from: 'Front', to: 'Ranker' }]);
//   boxes.get('Front') { x, y, w, h }     edges[0] { id, path: 'M…', label: { x, y }, back }
// Edges from nowhere (HTTP, drivers, other applications) have a box of their own, of the source that sourceOf names. An edge of a circle that leads back is drawn below the boxes.

/**
 * @typedef {{id: string, from: string, to: string}} Line
 * @typedef {{x: number, y: number, w: number, h: number}} Box
 * @typedef {{id: string, from: string, to: string, path: string, label: {x: number, y: number}, back: boolean}} Placed
 */

export const sizes = { w: 210, h: 78, sourceW: 112, sourceH: 44, gapX: 180, gapY: 34, pad: 12, labelW: 112, labelH: 36 };

/**
 * The edges that close a circle, found by a walk from each box in order. For example, of A>B, B>C, C>A the last one.
 * @param {string[]} names
 * @param {Line[]} lines
 * @returns {Set<string>} their ids
 */
export function backEdges(names, lines) {
  const out = group(lines, (l) => l.from);
  /** @type {Map<string, 'open'|'done'>} */
  const seen = new Map();
  /** @type {Set<string>} */
  const back = new Set();
  // Without recursion: a chain of deployments may be long.
  const visit = (/** @type {string} */ start) => {
    /** @type {{name: string, next: number}[]} */
    const stack = [{ name: start, next: 0 }];
    seen.set(start, 'open');
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      const line = (out.get(top.name) ?? [])[top.next++];
      if (!line) {
        seen.set(top.name, 'done');
        stack.pop();
      } else if (seen.get(line.to) === 'open') back.add(line.id);
      else if (!seen.has(line.to)) {
        seen.set(line.to, 'open');
        stack.push({ name: line.to, next: 0 });
      }
    }
  };
  const called = new Set(lines.map((l) => l.to));
  for (const name of [...names.filter((n) => !called.has(n)), ...names]) if (!seen.has(name)) visit(name);
  return back;
}

/**
 * @template T
 * @param {T[]} list
 * @param {(item: T) => string} by
 */
function group(list, by) {
  /** @type {Map<string, T[]>} */
  const groups = new Map();
  for (const item of list) groups.set(by(item), [...(groups.get(by(item)) ?? []), item]);
  return groups;
}

/**
 * The layer of each box: one more than that of its farthest caller.
 * @param {string[]} names
 * @param {Line[]} lines without those that lead back
 * @returns {Map<string, number>}
 */
export function layersOf(names, lines) {
  const layer = new Map(names.map((n) => [n, 0]));
  const waits = new Map(names.map((n) => [n, 0]));
  for (const l of lines) waits.set(l.to, (waits.get(l.to) ?? 0) + 1);
  const out = group(lines, (l) => l.from);
  const ready = names.filter((n) => waits.get(n) === 0);
  while (ready.length > 0) {
    const name = /** @type {string} */ (ready.shift());
    for (const l of out.get(name) ?? []) {
      layer.set(l.to, Math.max(layer.get(l.to) ?? 0, (layer.get(name) ?? 0) + 1));
      const left = (waits.get(l.to) ?? 0) - 1;
      waits.set(l.to, left);
      if (left === 0) ready.push(l.to);
    }
  }
  return layer;
}

/**
 * The boxes of each layer from top to bottom, with places (names that begin with "\n") where an edge passes through: few edges cross.
 * @param {string[][]} layers
 * @param {Line[]} steps edges from one layer to the next one
 */
function order(layers, steps) {
  const into = group(steps, (l) => l.to);
  const out = group(steps, (l) => l.from);
  const sweeps = 4;
  for (let sweep = 0; sweep < sweeps; sweep++) {
    const down = sweep % 2 === 0;
    for (let k = 1; k < layers.length; k++) {
      const i = down ? k : layers.length - 1 - k;
      const beside = new Map(layers[down ? i - 1 : i + 1].map((n, at) => [n, at]));
      const centre = new Map(layers[i].map((n, at) => {
        const near = (down ? into.get(n)?.map((l) => l.from) : out.get(n)?.map((l) => l.to)) ?? [];
        const places = near.map((x) => beside.get(x) ?? 0);
        return [n, places.length === 0 ? at : places.reduce((a, b) => a + b, 0) / places.length];
      }));
      const before = new Map(layers[i].map((n, at) => [n, at]));
      layers[i].sort((a, b) => (centre.get(a) ?? 0) - (centre.get(b) ?? 0) || (before.get(a) ?? 0) - (before.get(b) ?? 0));
    }
  }
}

/**
 * @param {string[]} names deployments and sources, in the order in which they should stand where nothing else decides
 * @param {Line[]} lines
 * @param {(name: string) => boolean} [isSource] sources have smaller boxes
 * @returns {{width: number, height: number, boxes: Map<string, Box>, edges: Placed[]}}
 */
export function layout(names, lines, isSource = () => false) {
  const known = new Set(names);
  const all = lines.filter((l) => known.has(l.from) && known.has(l.to) && l.from !== l.to);
  const loops = lines.filter((l) => known.has(l.from) && l.from === l.to);
  const back = backEdges(names, all);
  const forward = all.filter((l) => !back.has(l.id));
  const layerOf = layersOf(names, forward);
  const count = Math.max(0, ...layerOf.values()) + 1;
  /** @type {string[][]} */
  const layers = Array.from({ length: count }, () => []);
  for (const n of names) layers[layerOf.get(n) ?? 0].push(n);

  // An edge over several layers passes through a place of its own in each of them.
  /** @type {Line[]} */
  const steps = [];
  /** @type {Map<string, string[]>} */
  const ways = new Map();
  for (const l of forward) {
    const way = [l.from];
    for (let i = (layerOf.get(l.from) ?? 0) + 1; i < (layerOf.get(l.to) ?? 0); i++) {
      const place = `\n${l.id}\n${i}`;
      layers[i].push(place);
      way.push(place);
    }
    way.push(l.to);
    ways.set(l.id, way);
    for (let i = 1; i < way.length; i++) steps.push({ id: l.id, from: way[i - 1], to: way[i] });
  }
  order(layers, steps);

  const heightOf = (/** @type {string} */ n) => (n.startsWith('\n') ? sizes.labelH : isSource(n) ? sizes.sourceH : sizes.h);
  const widthOf = (/** @type {string} */ n) => (isSource(n) ? sizes.sourceW : sizes.w);
  const heights = layers.map((l) => l.reduce((sum, n) => sum + heightOf(n) + sizes.gapY, -sizes.gapY));
  const inner = Math.max(sizes.h, ...heights);
  /** @type {Map<string, Box>} */
  const places = new Map();
  let x = sizes.pad;
  layers.forEach((layer, i) => {
    const w = Math.max(0, ...layer.filter((n) => !n.startsWith('\n')).map(widthOf));
    let y = sizes.pad + (inner - heights[i]) / 2;
    for (const n of layer) {
      const h = heightOf(n);
      const own = n.startsWith('\n') ? w : widthOf(n);
      places.set(n, { x: x + (w - own) / 2, y, w: own, h });
      y += h + sizes.gapY;
    }
    x += w + sizes.gapX;
  });
  const at = (/** @type {string} */ n) => /** @type {Box} */ (places.get(n));

  // Edges of one box leave and enter it one below the other, in the order of their other ends.
  const port = (/** @type {Line[]} */ list, /** @type {Line} */ l, /** @type {'from'|'to'} */ other, /** @type {Box} */ box) => {
    const sorted = [...list].sort((a, b) => at(a[other]).y - at(b[other]).y || (a.id < b.id ? -1 : 1));
    return box.y + (box.h * (sorted.indexOf(l) + 1)) / (sorted.length + 1);
  };
  const out = group(steps, (l) => l.from);
  const into = group(steps, (l) => l.to);

  /** @type {{x: number, y: number}[]} */
  const labels = [];
  const free = (/** @type {{x: number, y: number}} */ p) => labels.every((q) => Math.abs(p.x - q.x) >= sizes.labelW || Math.abs(p.y - q.y) >= sizes.labelH) &&
    [...places].every(([n, b]) => n.startsWith('\n') || p.x + sizes.labelW / 2 < b.x || p.x - sizes.labelW / 2 > b.x + b.w || p.y + sizes.labelH / 2 < b.y || p.y - sizes.labelH / 2 > b.y + b.h);

  /** @type {Placed[]} */
  const edges = [];
  for (const l of forward) {
    const way = /** @type {string[]} */ (ways.get(l.id));
    const mine = steps.filter((s) => s.id === l.id);
    let text = '';
    /** @type {{x: number, y: number}[]} */
    const candidates = [];
    mine.forEach((s, i) => {
      const a = at(way[i]), b = at(way[i + 1]);
      const from = { x: a.x + a.w, y: way[i].startsWith('\n') ? a.y + a.h / 2 : port(out.get(s.from) ?? [], s, 'to', a) };
      const to = { x: b.x, y: way[i + 1].startsWith('\n') ? b.y + b.h / 2 : port(into.get(s.to) ?? [], s, 'from', b) };
      const bend = (to.x - from.x) / 2;
      if (i === 0) text = `M${from.x} ${from.y}`;
      else text += ` L${from.x} ${from.y}`;
      text += ` C${from.x + bend} ${from.y} ${to.x - bend} ${to.y} ${to.x} ${to.y}`;
      for (const t of [0.5, 0.4, 0.6, 0.32, 0.68, 0.25, 0.75]) candidates.push(bezier(from, to, bend, t));
    });
    const label = candidates.find(free) ?? beside(candidates[0], free);
    labels.push(label);
    edges.push({ id: l.id, from: l.from, to: l.to, path: text, label, back: false });
  }

  // Edges that lead back go around below all boxes.
  let low = sizes.pad + inner;
  for (const l of [...all.filter((l) => back.has(l.id)), ...loops]) {
    const a = at(l.from), b = at(l.to);
    low += sizes.labelH + 12;
    const x1 = a.x + a.w * 0.7, x2 = b.x + b.w * 0.3;
    edges.push({
      id: l.id, from: l.from, to: l.to, back: true, label: { x: (x1 + x2) / 2, y: low - 8 },
      path: `M${x1} ${a.y + a.h} C${x1} ${low} ${x1} ${low - 8} ${(x1 + x2) / 2} ${low - 8} C${x2} ${low - 8} ${x2} ${low} ${x2} ${b.y + b.h}`,
    });
  }
  const width = Math.max(0, ...[...places.values()].map((b) => b.x + b.w)) + sizes.pad;
  return { width, height: low + sizes.pad, boxes: new Map(names.map((n) => [n, at(n)])), edges };
}

/**
 * The nearest free point above or below one, where many edges run close together.
 * @param {{x: number, y: number}} p
 * @param {(p: {x: number, y: number}) => boolean} free
 */
function beside(p, free) {
  const most = 400; // Steps of 2 pixels; beyond them labels overlap.
  for (let i = 1; i < most; i++) {
    const q = { x: p.x, y: p.y + (i % 2 === 0 ? 1 : -1) * i };
    if (q.y > sizes.labelH && free(q)) return q;
  }
  return p;
}

/**
 * A point of the curve from one box to the next.
 * @param {{x: number, y: number}} a
 * @param {{x: number, y: number}} b
 * @param {number} bend
 * @param {number} t 0 is the begin, 1 the end
 */
function bezier(a, b, bend, t) {
  const u = 1 - t;
  const mix = (/** @type {number} */ p0, /** @type {number} */ p1, /** @type {number} */ p2, /** @type {number} */ p3) => u * u * u * p0 + 3 * u * u * t * p1 + 3 * u * t * t * p2 + t * t * t * p3;
  return { x: mix(a.x, a.x + bend, b.x - bend, b.x), y: mix(a.y, a.y, b.y, b.y) };
}
