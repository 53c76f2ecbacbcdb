import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bin, causes, effects, has } from '../../pages/timeline.js';
import { toneOfEvent } from '../../ui/state.js';

const begin = Date.UTC(2026, 4, 4, 10, 15, 0);
const event = (id, after, cause, more = {}) => ({ id, time: new Date(begin + after).toISOString(), object: { kind: 'replica', app: 'shop', deployment: 'Ranker', replica: 'Ranker#001' }, cause, ...more });

test('bins cover the range, and begin at round times', () => {
  const { width, bins } = bin([event(1, 0), event(2, 999, 0, { to: 'UNHEALTHY' }), event(3, 60_000)], begin, begin + 60_000, 61, (e) => (e.to ? 'bad' : 'idle'));
  assert.equal(width, 1000);
  assert.equal(bins.length, 61);
  assert.deepEqual(bins[0], { from: begin, to: begin + 1000, total: 2, counts: { idle: 1, bad: 1 } });
  assert.equal(bins[60].total, 1);
});

test('there are never more bins than asked for, but one', () => {
  for (const length of [0, 1, 1000, 61_000, 3_600_000, 400 * 86_400_000]) {
    const { bins } = bin([], begin + 13, begin + 13 + length, 60, () => 'idle');
    assert.ok(bins.length >= 1 && bins.length <= 61, `${length}: ${bins.length}`);
  }
});

test('events outside of the range are in no bin', () => {
  const { bins } = bin([event(1, -5000), event(2, 90_000)], begin, begin + 10_000, 11, () => 'idle');
  assert.equal(bins.reduce((n, b) => n + b.total, 0), 0);
});

test('causes go up to the first one, or to one that is not known', () => {
  const all = [event(1, 0, 0), event(2, 1, 1), event(3, 2, 2), event(9, 3, 7)];
  const known = new Map(all.map((e) => [e.id, e]));
  assert.deepEqual(causes(known, all[2]), { chain: [all[0], all[1]], missing: 0 });
  assert.deepEqual(causes(known, all[3]), { chain: [], missing: 7 });
  assert.deepEqual(causes(new Map([[4, event(4, 0, 5)], [5, event(5, 0, 4)]]), event(6, 0, 5)).missing, 0); // a broken node: no circle
});

test('effects are a tree', () => {
  const all = [event(1, 0), event(2, 1, 1), event(3, 2, 1), event(4, 3, 2), event(5, 4)];
  assert.deepEqual(effects(all, 1, 10).map((x) => [x.event.id, x.depth]), [[2, 0], [4, 1], [3, 0]]);
  assert.equal(effects(all, 1, 2).length, 2);
  assert.deepEqual(effects(all, 5, 10), []);
});

test('a text is found in all fields', () => {
  const e = event(1, 0, 0, { to: 'UNHEALTHY', reason: 'replica_failed', message: 'killed by SIGKILL', inputs: { ready: '1' } });
  for (const text of ['ranker#001', 'unhealthy', 'replica_F', 'sigkill', 'ready', '']) assert.ok(has(e, text), text);
  assert.ok(!has(e, 'Store'));
});

test('an event looks as bad as its severity says', () => {
  for (const [e, want] of /** @type {const} */ ([
    [{ severity: 'error' }, 'bad'], // a replica that has died: there is no state after that
    [{ severity: 'warning', to: 'UPDATING' }, 'warn'],
    [{ severity: 'info', to: 'RUNNING' }, 'good'],
    [{ severity: 'info', to: 'UNHEALTHY' }, 'idle'], // a decision of the autoscaler, for example
    [{ severity: 'info' }, 'idle'],
    [{ to: 'UNHEALTHY' }, 'bad'], // of a node that says no severity
  ])) assert.equal(toneOfEvent(e), want, JSON.stringify(e));
});
