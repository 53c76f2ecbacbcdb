// Addresses and views.
import assert from 'node:assert/strict';
import test from 'node:test';
import { href, link, parse } from '../../router.js';

const view = (/** @type {string} */ address) => {
  const u = new URL('http://node' + address);
  return parse(u.pathname, u.search, '/ui/');
};

test('an address names its view', () => {
  assert.deepEqual(view('/ui/'), { page: 'overview', params: {}, query: {} });
  assert.deepEqual(view('/ui/apps/shop').params, { app: 'shop' });
  assert.deepEqual(view('/ui/apps/shop/Ranker/Ranker%23003?tab=logs'), { page: 'replica', params: { app: 'shop', deployment: 'Ranker', replica: 'Ranker#003' }, query: { tab: 'logs' } });
  assert.deepEqual(view('/ui/requests/a%2Fb').params, { id: 'a/b' });
  assert.equal(view('/ui/logs?level=ERROR').query.level, 'ERROR');
  for (const wrong of ['/ui/nothing', '/ui/apps', '/ui/apps/a/b/c/d', '/ui/requests/a/b', '/ui/apps/%E0%A4%A']) assert.equal(view(wrong).page, 'missing', wrong);
});

test('a link leads back to its view, whatever the names are', () => {
  for (const name of ['a b', 'a/b', 'ü%#?&', '..x', '日本']) {
    assert.deepEqual(view(link.replica(name, name, name)).params, { app: name, deployment: name, replica: name });
    assert.deepEqual(view(link.request(name)).params, { id: name });
    assert.equal(view(link.logs({ text: name })).query.text, name);
  }
  assert.equal(href(['logs'], { text: '', level: null, tail: 5, follow: undefined }), '/ui/logs?tail=5');
  assert.equal(link.object({ kind: 'node' }), '');
  assert.equal(link.object({ kind: 'deployment', app: 'shop', deployment: 'Ranker' }), '/ui/apps/shop/Ranker');
});
