// A quantile of all calls by the quantiles of steps: bounds that always hold, and the error for simulated calls.
import assert from 'node:assert/strict';
import test from 'node:test';
import { mixture } from '../../ui/mixture.js';

/** The same numbers for each run. @param {number} seed */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const parts = [0.5, 0.9, 0.99];

/** The time in which a part of the calls have ended. @param {number[]} times rising @param {number} part */
const quantile = (times, part) => times[Math.max(0, Math.ceil(part * times.length) - 1)];

/** @typedef {() => number} Random */
/** Kinds of calls: each gives a load, that gives the times of its calls. @type {Record<string, (random: Random) => () => number>} */
const loads = {
  even(random) { return () => 0.5 + random(); },
  exponential(random) { return () => -Math.log(1 - random()); },
  'log-normal'(random) {
    const spread = 0.1 + 1.4 * random();
    return () => Math.exp(spread * normal(random));
  },
};

/** @param {Random} random */
const normal = (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/**
 * Simulated steps, and the times of all their calls.
 * @param {Random} random
 * @param {() => number} load
 * @param {{least: number, most: number, varies: number, slow: number}} of calls in a step; how much steps differ; the part of the steps that are 20 times as slow
 */
function simulate(random, load, { least, most, varies, slow }) {
  const steps = [], all = [];
  for (let i = 2 + Math.floor(random() * 60); i > 0; i--) {
    const scale = Math.exp(varies * normal(random)) * (random() < slow ? 20 : 1);
    const times = Array.from({ length: least + Math.floor(random() * (most - least)) }, () => scale * load()).sort((a, b) => a - b);
    all.push(...times);
    steps.push({ weight: times.length / 5, at: parts.map((p) => /** @type {[number, number]} */ ([p, quantile(times, p)])) });
  }
  return { steps, exact: quantile(all.sort((a, b) => a - b), 0.99) };
}

test('the quantile of simulated calls is near the exact one', () => {
  for (const [name, kind] of Object.entries(loads)) {
    const random = generator(7);
    /** @type {number[]} */
    const factors = [];
    let better = 0, runs = 0;
    for (const varies of [0, 0.3, 1]) {
      for (const slow of [0, 0.1]) {
        for (let i = 0; i < 20; i++) {
          const { steps, exact } = simulate(random, kind(random), { least: 50, most: 400, varies, slow });
          const error = (/** @type {number|null} */ v) => Math.exp(Math.abs(Math.log((v ?? 0) / exact)));
          factors.push(error(mixture(steps, 0.99)));
          better += Number(error(mixture(steps, 0.99)) <= error(Math.max(...steps.map((s) => s.at[2][1]))));
          runs++;
        }
      }
    }
    factors.sort((a, b) => a - b);
    const at = (/** @type {number} */ part) => factors[Math.floor(part * (runs - 1))];
    assert.ok(at(0.5) <= 1.06, `${name}: half of the answers are within a factor of ${at(0.5)}`);
    assert.ok(at(0.97) <= 1.35, `${name}: nearly all answers are within a factor of ${at(0.97)}`);
    assert.ok(better >= 0.9 * runs, `${name}: ${better} of ${runs} answers are at least as near as the highest step`);
  }
});

test('the quantile is between those of the steps, follows their scale, grows with the weight of a slow step, and needs no order', () => {
  const random = generator(11);
  for (let i = 0; i < 300; i++) {
    const load = Object.values(loads)[i % 3](random);
    const { steps } = simulate(random, load, { least: 1, most: 20, varies: 1, slow: 0.1 });
    const got = mixture(steps, 0.99) ?? NaN;
    const of = steps.map((s) => s.at[2][1]);
    assert.ok(got >= Math.min(...of) && got <= Math.max(...of), `${got} of ${of}`);
    const near = (/** @type {number|null} */ v, /** @type {number} */ want) => assert.ok(Math.abs(Math.log((v ?? 0) / want)) < 0.001, `${v}, not ${want}`);
    near(mixture(steps.map((s) => ({ weight: 3 * s.weight, at: s.at.map(([p, t]) => /** @type {[number, number]} */ ([p, 1000 * t])) })), 0.99), 1000 * got);
    near(mixture([...steps].reverse(), 0.99), got);
    near(mixture([...steps, ...steps], 0.99), got);
    near(mixture([steps[0]], 0.99), of[0]);
    const slowest = steps[of.indexOf(Math.max(...of))];
    assert.ok((mixture([...steps, { weight: 1e9, at: slowest.at }], 0.99) ?? 0) >= got * 0.999);
  }
});

test('steps without calls, and without times, count for nothing', () => {
  assert.equal(mixture([], 0.99), null);
  assert.equal(mixture([{ weight: 0, at: [[0.5, 1], [0.9, 2], [0.99, 3]] }], 0.99), null);
  const got = mixture([{ weight: 1, at: [[0.5, 1], [0.9, 2], [0.99, 3]] }, { weight: 0, at: [[0.5, 10], [0.9, 20], [0.99, 30]] }, { weight: 5, at: [[0.5, 0], [0.9, 0], [0.99, 0]] }], 0.99);
  assert.equal(got, 3);
  assert.equal(mixture([{ weight: 1, at: [[0.5, 5], [0.9, 5], [0.99, 5]] }, { weight: 1, at: [[0.5, 5], [0.9, 5], [0.99, 5]] }], 0.99), 5);
  const doc = mixture([{ weight: 900, at: [[0.5, 10], [0.9, 20], [0.99, 40]] }, { weight: 100, at: [[0.5, 80], [0.9, 90], [0.99, 99]] }], 0.99) ?? 0;
  assert.equal(doc.toFixed(1), '90.0');
});
