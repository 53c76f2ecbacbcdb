import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scrollFor } from '../../ui/tabs.js';

test('the open tab is in sight, with a part of its neighbour', () => {
  const at = (/** @type {number} */ scrollLeft, /** @type {number} */ offsetLeft, offsetWidth = 80) => scrollFor({ scrollLeft, clientWidth: 300 }, { offsetLeft, offsetWidth });
  assert.equal(at(0, 0), 0);
  assert.equal(at(0, 100), 0); // it is seen already
  assert.equal(at(0, 400), 204); // to the right
  assert.equal(at(204, 400), 204);
  assert.equal(at(204, 100), 76); // back to the left
  assert.equal(at(204, 10), 0);
  assert.equal(at(0, 400, 500), 376); // wider than the bar: its begin
});
