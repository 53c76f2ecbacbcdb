import { test } from 'node:test';
import assert from 'node:assert/strict';
import { colouring, each, functions, layout, move, packageOf, parseFolded, search } from '../../pages/flame.js';

const folded = 'main;handle;score 30\nmain;handle 10\nmain;idle 60\nworker;score 100\n';

test('folded stacks become a tree whose callers have the values of all that they call', () => {
  const root = parseFolded(folded);
  assert.equal(root.value, 200);
  assert.deepEqual(
    root.children.map((c) => [c.name, c.value, c.self]),
    [
      ['main', 100, 0],
      ['worker', 100, 0],
    ],
  );
  const handle = root.children[0].children[1];
  assert.deepEqual([handle.name, handle.value, handle.self, handle.depth], ['handle', 40, 10, 2]);
});

test('lines that are no stacks count nothing', () => {
  assert.equal(parseFolded('').value, 0);
  assert.equal(parseFolded('\n 5\nmain\nmain x\nmain -3\nmain 0\nan error. 7\n').value, 7, 'a name may have spaces');
});

test('a stack of any depth is read', () => {
  const root = parseFolded(Array.from({ length: 50000 }, (_, i) => 'f' + i).join(';') + ' 1');
  assert.equal([...each(root)].length, 50001);
  assert.equal(functions(root).length, 50000);
  assert.equal(layout(root).rows, 1500);
});

test('boxes are as wide as their share, and lie inside of their callers', () => {
  const { boxes, rows, hidden } = layout(parseFolded(folded));
  assert.equal(rows, 4);
  assert.equal(hidden, 0);
  assert.deepEqual(
    boxes.map((b) => [b.frame.name, b.row, b.x, b.width]),
    [
      ['all', 0, 0, 1],
      ['main', 1, 0, 0.5],
      ['worker', 1, 0.5, 0.5],
      ['idle', 2, 0, 0.3],
      ['handle', 2, 0.3, 0.2],
      ['score', 2, 0.5, 0.5],
      ['score', 3, 0.3, 0.15],
    ],
  );
});

test('a frame that is shown whole has its callers above it, and nothing beside it', () => {
  const root = parseFolded(folded);
  const handle = root.children[0].children[1];
  const { boxes } = layout(handle);
  assert.deepEqual(
    boxes.map((b) => [b.frame.name, b.row, b.width, b.above]),
    [
      ['all', 0, 1, true],
      ['main', 1, 1, true],
      ['handle', 2, 1, false],
      ['score', 3, 0.75, false],
    ],
  );
});

test('small boxes are left out and counted; no box loses its caller', () => {
  const text = Array.from({ length: 100 }, (_, i) => `main;f${i};g ${i + 1}`).join('\n');
  const narrow = layout(parseFolded(text), { minShare: 0.01 });
  assert.equal(narrow.boxes.length + narrow.hidden, 202);
  assert.ok(narrow.boxes.every((b) => b.width >= 0.01));
  const few = layout(parseFolded(text), { minShare: 0, maxBoxes: 20 });
  assert.equal(few.boxes.length, 20);
  assert.equal(few.hidden, 182);
  const kept = new Set(few.boxes.map((b) => b.frame));
  assert.ok(few.boxes.every((b) => !b.frame.parent || kept.has(b.frame.parent)));
});

test('a search counts each stack once', () => {
  const root = parseFolded('a;score;score 10\na;b 30\nSCORE.x 60\n');
  const found = search(root, 'score');
  assert.equal(found.matches.size, 3);
  assert.equal(found.value, 70);
  assert.equal(found.share, 0.7);
  assert.equal(search(root, ' ').matches.size, 0);
  assert.equal(search(root, 'all').matches.size, 0, 'the root is no function');
});

test('a function has its own value and that of its stacks, a recursive one once', () => {
  assert.deepEqual(functions(parseFolded('a;b;a 10\na 5\nb 7\n')), [
    { name: 'a', self: 15, total: 15 },
    { name: 'b', self: 7, total: 17 },
  ]);
});

test('keys move along callers, called functions and neighbours', () => {
  const { boxes } = layout(parseFolded(folded));
  const named = (/** @type {string} */ key, /** @type {number} */ from) => move(boxes, boxes[from], key).frame.name;
  assert.equal(named('ArrowDown', 1), 'idle');
  assert.equal(named('ArrowUp', 4), 'main');
  assert.equal(named('ArrowRight', 4), 'score');
  assert.equal(named('ArrowRight', 2), 'worker', 'there is no neighbour in its row');
  assert.equal(named('ArrowLeft', 3), 'idle');
  assert.equal(named('Home', 6), 'all');
  assert.equal(named('x', 4), 'handle');
});

test('a move down from a caller goes to the frame that is shown', () => {
  const { boxes } = layout(parseFolded(folded).children[0].children[1]);
  assert.equal(move(boxes, boxes[1], 'ArrowDown').frame.name, 'handle', 'and not to idle, which is larger and not shown');
});

test('a function has the colour of its package, and the largest packages have different ones', () => {
  assert.equal(packageOf('asyncio.tasks.sleep'), 'asyncio');
  assert.equal(packageOf('example.com/shop/rank.(*Ranker).Rank'), 'example.com/shop/rank');
  assert.equal(packageOf('MainThread'), 'MainThread');
  const colour = colouring(parseFolded('MainThread;a.f;b.g 5\nMainThread;a.f;c.h 9\nMainThread;a.g 1\n'), 2);
  assert.deepEqual(['c.h', 'b.g', 'a.f', 'a.g', 'MainThread'].map(colour), [0, 1, 0, 0, -1]);
});
