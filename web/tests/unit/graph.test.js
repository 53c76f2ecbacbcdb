// The layout of an application's graph.
import assert from 'node:assert/strict';
import test from 'node:test';
import { backEdges, layersOf, layout, sizes } from '../../pages/graph.js';

/** @param {string} text edges such as "A>B A>C" */
const lines = (text) => text.split(' ').map((id) => ({ id, from: id.split('>')[0], to: id.split('>')[1] }));

test('callers stand before the deployments that they call', () => {
  const layers = layersOf(['A', 'B', 'C', 'D'], lines('A>B B>C A>C C>D A>D'));
  assert.deepEqual([...layers], [['A', 0], ['B', 1], ['C', 2], ['D', 3]]);
});

test('an edge that closes a circle leads back, and no other', () => {
  assert.deepEqual([...backEdges(['A', 'B', 'C'], lines('A>B B>C C>A'))], ['C>A']);
  assert.deepEqual([...backEdges(['A', 'B', 'C'], lines('A>B A>C B>C'))], []);
  assert.deepEqual([...backEdges(['X', 'A', 'B'], lines('A>X X>B B>X'))], ['B>X']); // The walk begins at A, which nothing calls.
});

/** No two boxes share a point. @param {Map<string, import('../../pages/graph.js').Box>} boxes */
function apart(boxes) {
  const all = [...boxes];
  all.forEach(([n, a], i) => all.slice(i + 1).forEach(([m, b]) => assert.ok(a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y, `${n} and ${m} overlap`)));
}

test('boxes and labels do not overlap, and all is inside', () => {
  for (const text of ['A>B', 'A>B A>C A>D B>E C>E D>E', 'A>C A>D B>C B>D', 'A>B B>C C>D A>D B>D', 'A>B B>A B>B', 'H>A A>B A>C B>D C>D D>A']) {
    const ls = lines(text);
    const names = [...new Set(ls.flatMap((l) => [l.from, l.to]))];
    const g = layout(names, ls, (n) => n === 'H');
    apart(g.boxes);
    assert.equal(g.edges.length, ls.length, text);
    for (const [n, b] of g.boxes) assert.ok(b.x >= 0 && b.y >= 0 && b.x + b.w <= g.width && b.y + b.h <= g.height, `${n} of ${text}`);
    g.edges.forEach((e, i) => {
      assert.ok(e.label.y <= g.height, text);
      for (const f of g.edges.slice(i + 1)) {
        if (e.back || f.back) continue;
        assert.ok(Math.abs(e.label.x - f.label.x) >= sizes.labelW || Math.abs(e.label.y - f.label.y) >= sizes.labelH, `labels of ${e.id} and ${f.id} of ${text}`);
      }
    });
  }
});

test('the places stay the same when the same graph comes again, and an unknown end is no edge', () => {
  const ls = lines('A>B A>C C>B');
  assert.deepEqual(layout(['A', 'B', 'C'], ls), layout(['A', 'B', 'C'], ls));
  assert.equal(layout(['A'], lines('A>Z')).edges.length, 0);
  assert.equal(layout([], []).boxes.size, 0);
});

test('a long chain and a wide layer', () => {
  const chain = Array.from({ length: 2000 }, (_, i) => 'D' + i);
  const g = layout(chain, chain.slice(1).map((to, i) => ({ id: `${chain[i]}>${to}`, from: chain[i], to })));
  assert.equal(new Set([...g.boxes.values()].map((b) => b.x)).size, 2000);
  apart(layout(['A', ...chain.slice(0, 60)], chain.slice(0, 60).map((to) => ({ id: `A>${to}`, from: 'A', to }))).boxes);
});
