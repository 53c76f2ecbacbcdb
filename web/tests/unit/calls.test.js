import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failures, tree, waits } from '../../pages/calls.js';

const call = (id, request, parent = '', more = {}) => ({ id, parent, request_id: request, trace_id: 't', app: 'shop', deployment: 'Front', method: 'run', state: 'running', since: '', ...more });
const shape = (rows) => rows.map((r) => [r.call.id, r.depth]);

test('calls stand below their callers, request by request', () => {
  const calls = [call('a', 'one'), call('x', 'two'), call('b', 'one', 'a'), call('c', 'one', 'b'), call('y', 'two', 'x'), call('d', 'one', 'a')];
  assert.deepEqual(shape(tree(calls)), [['a', 0], ['b', 1], ['c', 2], ['d', 1], ['x', 0], ['y', 1]]);
});

test('a call whose caller is not on the list is the first of its request', () => {
  assert.deepEqual(shape(tree([call('a', 'one'), call('b', 'one', 'gone')])), [['a', 0], ['b', 0]]);
});

test('no call is lost, and none comes twice', () => {
  assert.deepEqual(shape(tree([call('a', 'one', 'b'), call('b', 'one', 'a'), call('c', 'one', 'c')])).map(([id]) => id).sort(), ['a', 'b', 'c']);
  assert.equal(tree([call('a', 'one'), call('a', 'one')]).length, 1);
});

test('waits are counted by what they are for', () => {
  const w = (id, what) => call(id, 'r', '', { state: 'waiting', waits_for: what });
  assert.deepEqual(waits([w('a', 'a slot of shop/Ranker'), call('b', 'r', '', { waits_for: 'its call a' }), w('c', 'a slot of shop/Ranker'), w('d', '')]).map((x) => [x.what, x.count, x.oldest.id]), [
    ['a slot of shop/Ranker', 2, 'a'], ['a slot of shop/Front', 1, 'd'],
  ]);
});

test('failures are counted by what they have in common', () => {
  const r = (id, message, at = 'shop/Ledger.append', reason = 'user') => ({ request_id: id, reason, failed_at: at, message });
  const groups = failures([r('a', 'timeout', '', 'deadline'), r('b', 'no room for entry 7\n  at line 3'), r('c', 'no room for entry 12'), { request_id: 'slow' }, r('d', 'no room for entry 7', 'shop/Other')]);
  assert.deepEqual(groups.map((g) => [g.reason, g.at, g.count, g.newest.request_id]), [['user', 'shop/Ledger.append', 2, 'b'], ['deadline', '', 1, 'a'], ['user', 'shop/Other', 1, 'd']]);
});
