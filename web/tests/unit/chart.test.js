import { test } from 'node:test';
import assert from 'node:assert/strict';
import { axisTime, columnsOf, lone, marksOf, marksOfEvents, near, p99In, range, scaleTop, sentence, summary } from '../../ui/chartdata.js';

test('a scale ends at a round number above the largest value', () => {
  for (const [most, top] of [
    [0, 1],
    [null, 1],
    [0.3, 0.4],
    [1, 1.5],
    [9.4, 10],
    [10, 15],
    [118, 150],
    [99, 150],
    [2400, 3000],
    [0.0021, 0.0025],
  ]) {
    assert.ok(Math.abs(scaleTop(most) - /** @type {number} */ (top)) < 1e-9, `${most}: ${scaleTop(most)}`);
  }
  for (let v = 0.001; v < 1e6; v *= 1.37) assert.ok(scaleTop(v) > v && scaleTop(v) < 1.7 * v, `${v}: ${scaleTop(v)}`);
});

test('a scale of counts has no parts of one', () => {
  assert.equal(scaleTop(1, true), 2);
  assert.equal(scaleTop(3, true), 4);
  assert.equal(scaleTop(0, true), 1);
});

test('a scale of bytes ends at a round number of MiB', () => {
  const MiB = 1024 ** 2;
  assert.equal(scaleTop(27.3 * MiB, false, true), 30 * MiB);
  assert.equal(scaleTop(1000 * MiB, false, true), 1500 * MiB);
  assert.equal(scaleTop(300, false, true), 400);
  assert.equal(scaleTop(0, false, true), 1024);
});

test('labels of times have seconds where they are close', () => {
  const at = new Date(2026, 4, 4, 9, 5, 7).getTime() / 1000;
  assert.equal(axisTime(at, 300), '09:05');
  assert.equal(axisTime(at, 15), '09:05:07');
});

test('the summary is of the range, and knows no value where there is none', () => {
  assert.deepEqual(summary([1, 2, 3, 4], [9, 5, null, 7], 2, 4), { last: 7, least: 5, most: 7 });
  assert.deepEqual(summary([1, 2], [null, null], 0, 9), { last: null, least: null, most: null });
  const s = (/** @type {number} */ v) => v + ' ms';
  assert.equal(sentence('p99', { last: 7, least: 5, most: 7 }, s), 'p99: 7 ms now, between 5 ms and 7 ms.');
  assert.equal(sentence('p99', { last: 5, least: 5, most: 5 }, s), 'p99: 5 ms all the time.');
  assert.equal(sentence('p99', { last: null, least: null, most: null }, s), 'p99: no value.');
});

test('a value between gaps is found, so that it can be drawn as a point', () => {
  assert.deepEqual(lone([1, null, 2, null, 3, 4, null]), [0, 2]);
});

test('marks near a time are found, the nearest first', () => {
  const marks = [1, 5, 6, 20].map((at) => ({ at, text: '', kind: /** @type {const} */ ('note') }));
  assert.deepEqual(
    near(marks, 5.6, 2).map((m) => m.at),
    [6, 5],
  );
});

test('a range that is none shows the last seconds', () => {
  assert.deepEqual(range({ from: '100', to: '160', last: 60, now: 1000 }), { from: 100, to: 160, chosen: true });
  for (const [from, to] of [
    ['160', '100'],
    ['x', '9'],
    [null, '9'],
    ['', ''],
  ]) {
    assert.deepEqual(range({ from, to, last: 60, now: 1000 }), { from: 940, to: 1000, chosen: false });
  }
});

test('values of a series stand at the ends of their steps', () => {
  assert.deepEqual(columnsOf({ step: 5000, from: 100_000, columns: { rate: [1, null] } }), { t: [105, 110], rate: [1, null] });
  assert.deepEqual(columnsOf({ step: 5000, from: 100_000, columns: {} }), { t: [] });
});

test('a decision is a mark with its reason', () => {
  const at = '2026-05-04T10:15:02Z';
  assert.deepEqual(marksOf([{ at, from: 2, to: 1, reason: 'no call for 90 s', policy: 'shop:scale' }]), [
    { id: at + ' 1', at: Date.parse(at) / 1000, kind: 'down', text: '2 → 1: no call for 90 s (policy shop:scale)' },
  ]);
});

test('an event is a mark, but for those of the autoscaler', () => {
  const time = '2026-05-04T10:15:02Z';
  const of = [
    { id: 7, time, from: 'HEALTHY', to: 'UNHEALTHY', reason: 'replica_failed', message: 'killed by SIGKILL\nmore' },
    { id: 8, time, from: 'HEALTHY', to: 'HEALTHY', reason: 'autoscale_up' },
    { id: 9, time, from: 'HEALTHY', to: 'HEALTHY', reason: 'slots_held' },
  ];
  assert.deepEqual(marksOfEvents(of), [
    { id: 'event 7', at: Date.parse(time) / 1000, kind: 'note', text: 'replica failed, HEALTHY → UNHEALTHY: killed by SIGKILL' },
    { id: 'event 9', at: Date.parse(time) / 1000, kind: 'note', text: 'slots held' },
  ]);
});

test('an event of the autoscaler from before its first decision is a mark, as of a node that was started anew', () => {
  const time = '2026-05-04T10:15:02Z', at = Date.parse(time) / 1000;
  const of = [
    { id: 4, time, from: 'HEALTHY', to: 'HEALTHY', reason: 'autoscale_down', message: '4 -> 2 replicas: the bounds are 1 to 2' },
    { id: 5, time, from: 'HEALTHY', to: 'DOWNSCALING', reason: 'autoscaling' },
  ];
  const mark = { id: 'event 4', at, kind: 'down', text: '4 → 2: the bounds are 1 to 2' };
  assert.deepEqual(marksOfEvents(of, at + 60), [mark]);
  assert.deepEqual(marksOfEvents(of, Infinity), [mark], 'no decision');
  assert.deepEqual(marksOfEvents(of, at), [], 'the decision itself');
});

test('the head of a chart has the p99 of all calls in the time, and that of the slowest step', () => {
  const format = (/** @type {number} */ v) => `${Math.round(v)} ms`;
  const columns = { t: [1, 2, 3, 4], rate: [1, null, 90, 10], p50_ms: [500, null, 4, 40], p90_ms: [700, null, 6, 60], p99_ms: [900, null, 8, 80] };
  assert.equal(p99In(columns, { from: 2, to: 3 }, format), ', p99 about 8 ms');
  assert.equal(p99In(columns, { from: 2, to: 4 }, format), ', p99 about 60 ms, at most 80 ms in a step');
  assert.equal(p99In(columns, { from: 2, to: 2 }, format), '');
  assert.equal(p99In({ t: [] }, { from: 2, to: 2 }, format), '');
});
