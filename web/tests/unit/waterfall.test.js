import assert from 'node:assert/strict';
import { test } from 'node:test';
import { label, parents, stampMs, ticks, uncovered, waterfall } from '../../pages/waterfall.js';

const at = (ms) => new Date(Date.UTC(2026, 4, 4, 10, 15, 2) + ms).toISOString();
const span = (id, parent, kind, from, took, more = {}) => ({ id, parent, kind, app: 'shop', deployment: 'Front', started: at(from), duration_ms: took, ...more });
const request = (spans, more = {}) => ({
  request_id: 'r', trace_id: 't', kind: 'http', app: 'shop', route: '/', started: at(0), duration_ms: 100, kept: 'slow', sentence: '', spans, ...more,
});

test('a stamp keeps its microseconds', () => {
  assert.equal(stampMs('2026-05-04T10:15:02Z'), Date.UTC(2026, 4, 4, 10, 15, 2));
  assert.ok(Math.abs(stampMs('2026-05-04T10:15:02.031250123Z') - Date.UTC(2026, 4, 4, 10, 15, 2) - 31.250123) < 0.001);
  assert.ok(Math.abs(stampMs('2026-05-04T12:15:02.5+02:00') - Date.UTC(2026, 4, 4, 10, 15, 2) - 500) < 0.001);
});

test('rows are a tree, and a wait stands beside its call', () => {
  const t = request([
    span('a', '', 'http', 0, 100),
    span('b', 'a', 'call', 1, 98),
    span('c', 'b', 'wait', 5, 60, { deployment: 'Ranker' }),
    span('c', 'b', 'call', 65, 30, { deployment: 'Ranker' }),
    span('d', 'c', 'span', 70, 10, { name: 'tokenize' }),
  ]);
  const w = waterfall(t);
  assert.deepEqual(w.rows.map((r) => [r.index, r.depth, r.children]), [[0, 0, 1], [1, 1, 2], [2, 2, 0], [3, 2, 1], [4, 3, 0]]);
  assert.equal(w.total, 100);
  assert.equal(w.rows[1].own_ms, 8); // 1..5 and 95..99
  assert.deepEqual(w.rows[3].own, [{ from: 65, to: 70 }, { from: 80, to: 95 }]);
});

test('folded rows hide those below them, and keep their indexes', () => {
  const t = request([span('a', '', 'http', 0, 100), span('b', 'a', 'call', 1, 98), span('c', 'b', 'call', 5, 60), span('e', 'a', 'call', 99, 1)]);
  assert.deepEqual(waterfall(t, new Set([1])).rows.map((r) => r.index), [0, 1]);
  assert.deepEqual(waterfall(t).rows.map((r) => r.index), [0, 1, 2, 3]); // another call of the request's context stands below its first one
  assert.equal(parents(t)[3], 1);
});

test('of several attempts the last that had begun has the calls below it', () => {
  const t = request([
    span('a', '', 'call', 0, 100), span('b', 'a', 'call', 0, 10, { runs_again: true }), span('b', 'a', 'call', 20, 50, { attempt: 1 }), span('c', 'b', 'call', 5, 1), span('d', 'b', 'call', 30, 1),
  ], { kind: 'call' });
  assert.deepEqual(parents(t), [-1, 0, 0, 1, 2]);
});

test('a span whose parent is elsewhere stands below its caller, or at the top', () => {
  const t = request([span('a', '', 'call', 0, 100), span('b', 'zz', 'call', 1, 2, { caller: 'a' }), span('c', 'zz', 'call', 3, 2)], { kind: 'call' });
  assert.deepEqual(parents(t), [-1, 0, -1]);
});

test('ids in a circle end at the top', () => {
  const t = request([span('a', 'b', 'call', 0, 1), span('b', 'a', 'call', 0, 1)], { kind: 'call' });
  assert.equal(waterfall(t).rows.length, 2);
});

test('a span that lasts longer than the request widens the axis', () => {
  const t = request([span('a', '', 'http', 0, 100), span('b', 'a', 'call', -5, 10), span('c', 'b', 'stream', 50, 250)]);
  const w = waterfall(t);
  assert.equal(w.total, 305);
  assert.equal(w.rows[0].from, 5);
});

test('a request without spans has an axis', () => {
  const w = waterfall(request([]));
  assert.equal(w.rows.length, 0);
  assert.equal(w.total, 100);
  assert.ok(waterfall(request([], { duration_ms: 0 })).total > 0);
});

test('deep trees do not overflow the stack', () => {
  const spans = Array.from({ length: 20000 }, (_, i) => span(`s${i}`, i ? `s${i - 1}` : '', 'call', 0, 1));
  const small = waterfall(request(spans.slice(0, 2000), { kind: 'call' }));
  assert.equal(small.rows.length, 2000);
  assert.equal(small.rows.at(-1).depth, 1999);
});

test('overlapping parts count once', () => {
  assert.deepEqual(uncovered(0, 10, [{ from: 2, to: 5 }, { from: 1, to: 3 }, { from: 9, to: 20 }]), [{ from: 0, to: 1 }, { from: 5, to: 9 }]);
  assert.deepEqual(uncovered(0, 10, []), [{ from: 0, to: 10 }]);
  assert.deepEqual(uncovered(0, 10, [{ from: -5, to: 20 }]), []);
});

test('ticks are few and round', () => {
  assert.deepEqual(ticks(0, 43, 6), [0, 10, 20, 30, 40]);
  assert.deepEqual(ticks(0, 1, 6), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(12, 17, 6), [12, 13, 14, 15, 16, 17]);
  assert.deepEqual(ticks(0, 0, 6), []);
  for (const width of [0.003, 0.7, 9.99, 10, 1234, 86400000]) {
    for (const most of [2, 4, 8]) {
      const list = ticks(0, width, most);
      assert.ok(list.length >= 1 && list.length <= most, `${width} ${most}: ${list}`);
    }
  }
});

test('labels say what a span is', () => {
  const t = request([]);
  assert.equal(label(span('a', '', 'http', 0, 1), t), 'HTTP /');
  assert.equal(label(span('a', '', 'call', 0, 1, { method: 'rank' }), t), 'shop/Front.rank');
  assert.equal(label(span('a', '', 'wait', 0, 10, { without_replica_ms: 8 }), t), 'wait for a replica of shop/Front');
  assert.equal(label(span('a', '', 'wait', 0, 10), t), 'wait for a slot of shop/Front');
  assert.equal(label(span('a', '', 'span', 0, 10, { name: 'tokenize' }), t), 'tokenize');
  assert.equal(label(span('a', '', 'stream', 0, 10), t), 'stream shop/Front');
});
