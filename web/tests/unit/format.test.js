// Numbers, times and sizes as text: node --test web/tests/unit
import assert from 'node:assert/strict';
import test from 'node:test';
import { age, bytes, clock, count, date, local, ms, number, percent, plural, rate, seconds, stamp, value, when } from '../../ui/format.js';

/** @param {(v: any) => string} f @param {[any, string][]} cases */
const table = (f, cases) => { for (const [v, want] of cases) assert.equal(f(v), want, `${f.name}(${v})`); };

test('a number that is not known is a dash, and not 0', () => {
  for (const f of [count, number, rate, percent, ms, seconds, bytes, clock, date]) {
    for (const v of [null, undefined, NaN]) assert.equal(f(v), '–', `${f.name}(${v})`);
  }
  assert.equal(age(null, 0), '–');
});

test('numbers have three digits that count, and their unit', () => {
  table(count, [[0, '0'], [999, '999'], [1204, '1,204'], [1234567, '1,234,567'], [-1204, '-1,204']]);
  table(number, [[0, '0'], [0.1234, '0.123'], [1, '1'], [1.2345, '1.23'], [12.345, '12.3'], [123.45, '123'], [1234.5, '1,235'], [9.999, '10'], [99.96, '100'], [100, '100'], [20, '20']]);
  table(rate, [[0, '0/s'], [12.34, '12.3/s'], [1204, '1,204/s']]);
  table(percent, [[0, '0 %'], [0.034, '3.4 %'], [1, '100 %'], [0.00001, '< 0.01 %']]);
  table(bytes, [[0, '0 B'], [512, '512 B'], [1024, '1 KiB'], [26001408, '24.8 MiB'], [33e9, '30.7 GiB'], [1023.6, '1 KiB']]);
});

test('durations have the unit in which they are read', () => {
  table(ms, [[0, '0 ms'], [0.0042, '4.2 µs'], [0.4, '0.4 ms'], [23, '23 ms'], [999.4, '999 ms'], [1263, '1.26 s'], [59_949, '59.9 s'], [61_000, '1 min 1 s']]);
  table(seconds, [[0, '0 s'], [0.25, '250 ms'], [12.4, '12 s'], [60, '1 min'], [4000, '1 h 6 min'], [90_000, '1 d 1 h'], [86_400, '1 d'], [3601, '1 h']]);
  const begin = Date.parse('2026-05-04T10:00:00Z');
  for (const [after, want] of /** @type {[number, string][]} */ ([[-5, '0 s'], [59.9, '59 s'], [61, '1 min'], [7200, '2 h'], [200_000, '2 d']])) {
    assert.equal(age('2026-05-04T10:00:00Z', begin + after * 1000), want);
  }
});

test('times are in the zone of the viewer, and the zero of Go is no time', () => {
  const at = new Date(2026, 4, 4, 7, 5, 9, 31);
  assert.equal(clock(at), '07:05:09');
  assert.equal(clock(at, true), '07:05:09.031');
  assert.equal(date(at.toISOString()), '2026-05-04 07:05:09');
  assert.equal(when(at, at.getTime() + 1000), '07:05:09');
  assert.equal(when(at, at.getTime() + 86_400_000), '2026-05-04 07:05:09');
  assert.ok(Number.isNaN(stamp('0001-01-01T00:00:00Z')));
  assert.equal(local(`it waits until ${at.toISOString()}, or longer`), 'it waits until 2026-05-04 07:05:09, or longer');
  assert.equal(local(undefined), '');
  assert.equal(clock('0001-01-01T00:00:00Z'), '–');
});

test('words', () => {
  assert.equal(plural(1, 'replica'), '1 replica');
  assert.equal(plural(1200, 'replica'), '1,200 replicas');
  table(value, [[null, '–'], ['a', 'a'], [3, '3'], [true, 'true'], [{ a: 1 }, '{"a":1}']]);
});
