// The token of the address.
import assert from 'node:assert/strict';
import test from 'node:test';
import { session, takeTokens } from '../../api.js';

test('a token is taken out of the address, also of one that is pasted into the tab later', async () => {
  const kept = new Map(), page = new EventTarget(), asked = [];
  const location = { hash: '', pathname: '/ui/', search: '?range=10m' };
  const globals = {
    location, history: { replaceState: (/** @type {any} */ _s, /** @type {any} */ _t, /** @type {string} */ to) => { asked.push(to); location.hash = ''; } },
    sessionStorage: { getItem: (/** @type {string} */ k) => kept.get(k) ?? null, setItem: (/** @type {string} */ k, /** @type {string} */ v) => kept.set(k, v) },
    addEventListener: page.addEventListener.bind(page),
    fetch: async (/** @type {string} */ at, /** @type {any} */ init) => {
      assert.match(at, /whoami$/);
      return Response.json({ name: init.headers.get('Authorization'), role: 'deploy', how: 'token' });
    },
  };
  for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

  location.hash = '#token=helve_1';
  takeTokens();
  assert.equal(kept.get('helve.token'), 'helve_1');
  assert.deepEqual(asked, ['/ui/?range=10m']);

  const known = new Promise((resolve) => { const stop = session.subscribe(() => { stop(); resolve(undefined); }); });
  location.hash = '#token=helve_2';
  page.dispatchEvent(new Event('hashchange'));
  await known;
  assert.equal(session.get().name, 'Bearer helve_2');
  assert.equal(location.hash, '');

  location.hash = '#main';
  page.dispatchEvent(new Event('hashchange'));
  assert.equal(kept.get('helve.token'), 'helve_2');
  assert.equal(location.hash, '#main');
});
