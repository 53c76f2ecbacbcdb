import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pieces } from '../../ui/next.js';

const known = (app) => app === 'shop' || app === 'chat';
const links = (text) => pieces(text, known).filter((p) => p.to).map((p) => [p.text, p.to.replace(/^\/ui/, '')]);

test('commands lead to pages', () => {
  for (const [text, want] of [
    ['helve logs shop/Ledger --replica Ledger#00a', [['helve logs shop/Ledger --replica Ledger#00a', '/logs?app=shop&deployment=Ledger&replica=Ledger%2300a']]],
    ['helve scale shop/Ranker N adds replicas; helve calls shop/Ranker lists the calls that hold the slots', [['helve scale shop/Ranker N', '/apps/shop/Ranker'], ['helve calls shop/Ranker', '/requests?app=shop&deployment=Ranker']]],
    ['helve profile shop/Ranker/Ranker#00c --cpu, or --block for code that waits', [['helve profile shop/Ranker/Ranker#00c --cpu', '/apps/shop/Ranker/Ranker%2300c?tab=profile']]],
    ['helve why 5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55 is the slowest of them', [['helve why 5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55', '/requests/5f0c4f0e-8f6a-4d1e-9f0b-2f6f8a1f7c55']]],
    ['helve why --request order-7 is the oldest', [['helve why --request order-7', '/requests/order-7']]],
    ['helve why --failed and helve why --slow list the requests that are kept, and helve calls those that run', [['helve why --failed', '/requests?kept=failed'], ['helve why --slow', '/requests?kept=slow']]],
    ['helve restart chat frees their slots', [['helve restart chat', '/apps/chat']]],
    ['deploy a corrected revision, or roll back', []],
    ['helve schema gives editors the schema of files', []],
    ['helve why unknown/Thing', []],
  ]) assert.deepEqual(links(text), want, text);
});

test('no letter of the text is lost', () => {
  for (const text of ['', 'helve', 'a helve logs shop, and helve calls shop/Ranker.', 'helve why shop', 'helve logs --request x; helve status']) assert.equal(pieces(text, known).map((p) => p.text).join(''), text);
});
