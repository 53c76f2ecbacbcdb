import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LogModel, countLines, firstLines, foldAt, pieces } from '../../ui/logmodel.js';

const line = (message) => ({ line: { time: '2026-05-04T10:15:02Z', level: 'INFO', message } });
const texts = (m) => m.rows.map((r) => r.line?.message ?? `missed ${r.missed}`);

test('the oldest lines leave when there are too many', () => {
  const m = new LogModel({ most: 3 });
  m.add([line('a'), line('b')]);
  m.add([{ missed: 7 }, line('c'), line('d')]);
  assert.deepEqual(texts(m), ['missed 7', 'c', 'd']);
  assert.equal(m.dropped, 2);
  assert.deepEqual(m.rows.map((r) => r.seq), [3, 4, 5]);
  assert.equal(m.oldest().message, 'c');
  assert.equal(m.newest().message, 'd');
});

test('older lines go before the others, the newest of them if there is no room for all', () => {
  const m = new LogModel({ most: 4 });
  m.add([line('c'), line('d')]);
  assert.equal(m.addOlder([line('x').line, line('a').line, line('b').line]), 2);
  assert.deepEqual(texts(m), ['a', 'b', 'c', 'd']);
  assert.equal(m.addOlder([line('y').line]), 0);
  assert.deepEqual(m.rows.map((r) => m.indexOf(r.seq)), [0, 1, 2, 3]);
  m.add([line('e')]);
  assert.deepEqual(texts(m), ['b', 'c', 'd', 'e']);
});

test('rows are as high as their lines, up to the fold', () => {
  const m = new LogModel({ line: 20, pad: 2 });
  m.add([line('a'), line('x\ny\nz'), line('\n'.repeat(foldAt + 10))]);
  assert.equal(m.height(), 22 + 62 + foldAt * 20 + 2);
  assert.equal(m.rowAt(0), 0);
  assert.equal(m.rowAt(21), 0);
  assert.equal(m.rowAt(22), 1);
  assert.equal(m.rowAt(1e9), 2);
  assert.deepEqual(m.seen(30, 10), { from: 1, to: 2 });
  assert.equal(m.topOf(2), 84);
});

test('an open row has its measured height, and loses it when it closes', () => {
  const m = new LogModel({ line: 20 });
  m.add([line('a'), line('b'), line('c')]);
  assert.equal(m.measured(2, 300), false); // it is not open
  m.toggle(2);
  assert.equal(m.height(), 60);
  assert.equal(m.measured(2, 300), true);
  assert.equal(m.measured(2, 300), false);
  assert.equal(m.height(), 340);
  assert.equal(m.topOf(2), 320);
  m.toggle(2);
  assert.equal(m.height(), 60);
});

test('an open row that leaves is forgotten', () => {
  const m = new LogModel({ line: 20, most: 2 });
  m.add([line('a'), line('b')]);
  m.toggle(1);
  m.measured(1, 500);
  m.add([line('c')]);
  assert.equal(m.height(), 40);
  assert.equal(m.open.size, 0);
});

test('heights are right after each step of a long run', () => {
  const m = new LogModel({ line: 10, most: 50 });
  let seed = 7;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  for (let i = 0; i < 500; i++) {
    switch (random(4)) {
      case 0: m.add(Array.from({ length: random(9) }, () => line('\n'.repeat(random(5))))); break;
      case 1: m.addOlder(Array.from({ length: random(4) }, () => line('x').line)); break;
      case 2: if (m.rows.length) m.toggle(m.rows[random(m.rows.length)].seq); break;
      default: if (m.rows.length) m.measured(m.rows[random(m.rows.length)].seq, 10 * random(30));
    }
    let y = 0;
    m.rows.forEach((r, k) => { assert.equal(m.topOf(k), y); assert.equal(m.rowAt(y), k); y += r.height; });
    assert.equal(m.height(), y);
    assert.ok(m.rows.length <= 50);
  }
});

test('texts are counted, cut and marked', () => {
  assert.equal(countLines(''), 1);
  assert.equal(countLines('a\nb\n'), 3);
  assert.equal(firstLines('a\nb\nc', 2), 'a\nb');
  assert.equal(firstLines('a', 2), 'a');
  assert.deepEqual(pieces('No room, no room', 'NO R'), [
    { text: 'No r', found: true }, { text: 'oom, ', found: false }, { text: 'no r', found: true }, { text: 'oom', found: false },
  ]);
  assert.deepEqual(pieces('abc', ''), [{ text: 'abc', found: false }]);
  assert.deepEqual(pieces('', 'x'), [{ text: '', found: false }]);
  assert.deepEqual(pieces('İx', 'x').map((p) => p.text).join(''), 'İx');
});

test('another width of the page changes all rows', () => {
  const m = new LogModel({ line: 20 });
  m.add([line('a'), line('b\nc')]);
  m.setPad(18);
  assert.equal(m.height(), 96);
  assert.equal(m.topOf(1), 38);
});
