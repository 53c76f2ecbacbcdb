// The stream of updates, server-sent events, series, and the order of tables.
import assert from 'node:assert/strict';
import test from 'node:test';
import { apply, nothing } from '../../updates.js';
import { createParser } from '../../sse.js';
import { end, extend, read } from '../../history.js';
import { sorted } from '../../ui/table.js';
import { plain } from '../../ui/code.js';
import { serving } from '../../pages/parts.js';
import { meaning } from '../../pages/options.js';

const first = {
  at: '2026-05-04T10:00:00Z', whole: true, node: { id: 'local', pid: 1 }, problems: { sentence: 'all is well', troubles: [] },
  applications: [{ name: 'shop', status: 'RUNNING' }, { name: 'chat', status: 'RUNNING' }],
  deployments: [{ app: 'shop', name: 'Front', wanted: 1 }, { app: 'shop', name: 'Ranker', wanted: 2 }],
  replicas: [{ app: 'shop', deployment: 'Ranker', replica_id: 'Ranker#1' }, { app: 'shop', deployment: 'Ranker', replica_id: 'Ranker#2' }],
  edges: [{ id: 'http>Front', kind: 'http', to: 'Front' }],
  figures: {
    node: { rate: 3 }, applications: [{ names: ['shop', 'chat'], columns: { rate: [1, 2], p99_ms: [null, 5] } }],
    replicas: [{ names: ['Ranker#1'], columns: { rate: [7] } }], deployments: [{ names: ['Ranker'], columns: { rate: [1], queued: [0] } }],
  },
};

test('later items of the stream change only what they have', () => {
  let live = apply(nothing(), first);
  assert.deepEqual(live.figures.applications.get('shop'), { rate: 1, p99_ms: null });
  live = apply(live, { at: '2026-05-04T10:00:01Z', applications: [{ name: 'shop', status: 'UNHEALTHY' }], figures: { applications: [{ names: ['shop'], columns: { rate: [4] } }] } });
  assert.equal(live.applications.get('shop').status, 'UNHEALTHY');
  assert.deepEqual(live.figures.applications.get('shop'), { rate: 4, p99_ms: null });
  assert.deepEqual(live.figures.applications.get('chat'), { rate: 2, p99_ms: 5 });
  assert.deepEqual(live.figures.node, { rate: 3 });
  assert.equal(live.problems.sentence, 'all is well');
  assert.equal(live.edges.length, 1);
});

test('objects that are gone take along what is in them', () => {
  const replica = apply(apply(nothing(), first), { gone: [{ kind: 'replica', app: 'shop', deployment: 'Ranker', replica: 'Ranker#1' }] });
  assert.deepEqual([...replica.replicas.keys()], ['Ranker#2']);
  assert.equal(replica.figures.replicas.size, 0);
  assert.equal(replica.deployments.size, 2);
  const deployment = apply(apply(nothing(), first), { gone: [{ kind: 'deployment', app: 'shop', deployment: 'Ranker' }] });
  assert.deepEqual([...deployment.deployments.keys()], ['Front']);
  assert.equal(deployment.replicas.size, 0);
  const app = apply(apply(nothing(), first), { gone: [{ kind: 'application', app: 'shop' }] });
  assert.deepEqual([...app.applications.keys()], ['chat']);
  assert.equal(app.deployments.size + app.replicas.size, 0);
  const other = apply(apply(nothing(), first), { gone: [{ kind: 'application', app: 'chat' }] });
  assert.equal(other.deployments.size, 2);
});

test('edges that are gone take along their figures', () => {
  const edges = [{ id: 'http>Front', kind: 'http', to: 'Front' }, { id: 'Front>Ranker', from: 'Front', to: 'Ranker' }];
  const both = apply(apply(nothing(), first), { edges, figures: { edges: [{ names: ['http>Front', 'Front>Ranker'], columns: { rate: [1, 2] } }] } });
  assert.deepEqual([...both.figures.edges.keys()], ['http>Front', 'Front>Ranker']);
  const one = apply(both, { edges: edges.slice(0, 1) });
  assert.deepEqual([...one.figures.edges], [['http>Front', { rate: 1 }]]);
});

test('a whole item forgets all before', () => {
  const live = apply(apply(nothing(), first), { whole: true, node: { id: 'local', pid: 2 } });
  assert.equal(live.applications.size, 0);
  assert.equal(live.problems, null);
});

test('server-sent events may come in any pieces', () => {
  const text = ': hello\n\nevent: transition\nid: 7\ndata: {"a":\ndata: 1}\n\nevent: missed\r\ndata: 3\r\n\r\n:\n\n';
  const want = [{ event: 'transition', id: '7', data: '{"a":\n1}' }, { event: 'missed', id: '7', data: '3' }];
  for (let size = 1; size <= text.length; size++) {
    const parse = createParser();
    const got = [];
    for (let i = 0; i < text.length; i += size) got.push(...parse(text.slice(i, i + size)));
    assert.deepEqual(got, want, `pieces of ${size}`);
  }
});

test('a series goes on: steps that were not whole are replaced, and old ones fall out', () => {
  const s = (/** @type {string} */ from, /** @type {any} */ columns, /** @type {any[]} */ decisions = []) => read({ step_s: 5, from, columns, units: { rate: '1/s' }, decisions });
  const a = s('2026-05-04T10:00:00Z', { rate: [1, 2, 3] }, [{ at: '2026-05-04T10:00:01Z' }, { at: '2026-05-04T10:00:12Z' }]);
  const b = extend(a, s('2026-05-04T10:00:10Z', { rate: [30, 4], queued: [0, 1] }, [{ at: '2026-05-04T10:00:12Z' }]), 15_000);
  assert.deepEqual(b.columns, { rate: [2, 30, 4], queued: [null, 0, 1] });
  assert.equal(b.from, Date.parse('2026-05-04T10:00:05Z'));
  assert.equal(end(b), Date.parse('2026-05-04T10:00:20Z'));
  assert.deepEqual(b.decisions.map((d) => d.at), ['2026-05-04T10:00:12Z']);
  const gap = extend(a, s('2026-05-04T11:00:00Z', { rate: [9] }), 15_000);
  assert.deepEqual(gap.columns, { rate: [9] });
});

test('unknown values are last in both directions, and numbers in names count', () => {
  const rows = [{ n: 'a10', v: 1 }, { n: 'a9', v: null }, { n: 'b', v: 3 }];
  const by = (/** @type {string} */ name) => ({ name, title: '', value: (/** @type {any} */ r) => r[name] });
  assert.deepEqual(sorted(rows, by('v'), false).map((r) => r.n), ['a10', 'b', 'a9']);
  assert.deepEqual(sorted(rows, by('v'), true).map((r) => r.n), ['b', 'a10', 'a9']);
  assert.deepEqual(sorted(rows, by('n'), false).map((r) => r.n), ['a9', 'a10', 'b']);
  assert.deepEqual(sorted(rows, undefined, false), rows);
});

test('ids of replicas are sorted by their characters', () => {
  const column = { name: 'replica', title: '', plain: true, value: (/** @type {any} */ id) => id };
  assert.deepEqual(sorted(['Ranker#01b', 'Ranker#1c0', 'Ranker#004', 'Ranker#00a'], column, false), ['Ranker#004', 'Ranker#00a', 'Ranker#01b', 'Ranker#1c0']);
  assert.deepEqual(sorted(['Ranker#004', 'Ranker#01b'], column, true), ['Ranker#01b', 'Ranker#004']);
});

test('text of programs has no sequences of terminals', () => {
  assert.equal(plain('\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07'), 'red link');
});

test('replicas of an old revision serve too', () => {
  assert.equal(serving({ ready: 1, replica_counts: { running: 4 } }), 4);
  assert.equal(serving({ ready: 2, replica_counts: { running: 4, not_ready: 1, ejected: 1 } }), 2);
  assert.equal(serving({ ready: 0, replica_counts: {} }), 0);
  assert.equal(serving({}), undefined);
});

test('the meaning of an option has no marks of Markdown', () => {
  assert.equal(meaning('Environment, under the `runtime_env` of each: see [environments](environments.md).'), 'Environment, under the runtime_env of each: see environments.');
  assert.equal(meaning(undefined), undefined);
});
