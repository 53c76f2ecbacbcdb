// The table of replicas: which ones a filter lets through, and the order of their states.
import assert from 'node:assert/strict';
import test from 'node:test';
import { matches, rank } from '../../pages/replicas.js';

const at = { app: 'shop', deployment: 'Ranker', state: 'RUNNING' };
const all = {
  ready: { ...at, replica_id: 'Ranker#001', ready: true, models: ['llama'] },
  gpu: { ...at, replica_id: 'Ranker#002', state: 'STARTING', wait: { for: 'resources', reason: 'it needs 1 GPU: Other#003 holds it' } },
  starting: { ...at, replica_id: 'Ranker#004', state: 'STARTING', wait: { for: 'the constructor' } },
  recovering: { ...at, replica_id: 'Ranker#005', state: 'RECOVERING' },
  not_ready: { ...at, replica_id: 'Ranker#006', not_ready: { reason: 'the cache is cold' } },
  kept: { ...at, replica_id: 'Ranker#00a', ready: true, not_ready: { reason: 'the cache is cold', kept: 'the last replica' } },
  ejected: { ...at, replica_id: 'Ranker#007', ejected: { reason: 'connection refused' } },
  unresponsive: { ...at, replica_id: 'Ranker#008', ready: true, unresponsive: { since: '' } },
  stopping: { ...at, app: 'chat', deployment: 'Front', replica_id: 'Front#009', state: 'STOPPING', gpus: ['3'] },
};

/** @param {string} [state] @param {string} [text] */
const found = (state, text) => Object.entries(all).filter(([, r]) => matches(r, state, text)).map(([name]) => name);

test('a filter by state lets through the replicas in that state', () => {
  assert.equal(found().length, 9);
  assert.deepEqual(found('ready'), ['ready', 'kept', 'unresponsive']);
  assert.deepEqual(found('waiting'), ['gpu']);
  assert.deepEqual(found('starting'), ['gpu', 'starting', 'recovering']);
  assert.deepEqual(found('not_ready'), ['not_ready', 'kept']);
  assert.deepEqual(found('ejected'), ['ejected']);
  assert.deepEqual(found('unresponsive'), ['unresponsive']);
  assert.deepEqual(found('stopping'), ['stopping']);
  assert.deepEqual(found('of another version'), []);
});

test('a filter by text finds names, reasons, devices and models, in letters of any case', () => {
  assert.deepEqual(found('', 'CHAT'), ['stopping']);
  assert.deepEqual(found('', 'front#'), ['stopping']);
  assert.deepEqual(found('', '1 gpu'), ['gpu']);
  assert.deepEqual(found('', 'gpu 3'), ['stopping']);
  assert.deepEqual(found('', 'Llama'), ['ready']);
  assert.deepEqual(found('', 'cold'), ['not_ready', 'kept']);
  assert.deepEqual(found('waiting', 'cold'), []);
  assert.deepEqual(found('', 'constructor'), ['starting']);
});

test('the order of states begins with those that need a look', () => {
  const names = Object.entries(all).sort(([, a], [, b]) => rank(a) - rank(b)).map(([name]) => name);
  assert.deepEqual(names, ['unresponsive', 'ejected', 'not_ready', 'kept', 'gpu', 'starting', 'recovering', 'stopping', 'ready']);
});
