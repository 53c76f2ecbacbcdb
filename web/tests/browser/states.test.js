// States that users meet beside a node in use: an empty node, a node that goes and comes back, a content security policy that holds.
// @ts-check
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { broken, openBrowser, openPage } from '../browser.js';
import { startNode, until } from '../node.js';
import { deployShop, settled } from '../views.js';

/** @type {import('../node.js').Node} */
let node;
/** @type {import('playwright-core').Browser} */
let browser;
/** @type {(() => Promise<void>)[]} */
const ends = [];

before(async () => {
	const t = { after: (/** @type {() => Promise<void>} */ f) => ends.unshift(f) };
	[node, browser] = await Promise.all([startNode(t), openBrowser(t)]);
});
after(async () => {
	for (const end of ends) await end();
});

test('an empty node says how to deploy, and shows the first application without a reload', async () => {
	const { page, faults } = await openPage(browser, node.ui, { token: node.token() });
	await settled(page);
	await page.getByText('The node is empty').waitFor();
	assert.deepEqual(await broken(page), []);
	for (const path of ['replicas', 'requests', 'events', 'logs', 'settings']) {
		await page.goto(node.ui + path);
		await settled(page);
		assert.deepEqual(await broken(page), []);
	}
	await page.goto(node.ui + 'replicas');
	await page.getByText('The node has no replica').waitFor();
	await page.goto(node.ui);
	await deployShop(node);
	await page.getByRole('table', { name: 'Applications' }).getByText('shop', { exact: true }).waitFor();
	assert.deepEqual(faults, []);
	await page.context().close();
});

test('a node that ends is said to be gone, keeps its last data in sight, and comes back', async () => {
	const { page, faults } = await openPage(browser, node.ui, { token: node.token() });
	await settled(page);
	await node.down();
	await page.getByRole('alert').getByText('The node is gone').waitFor();
	await page.getByRole('table', { name: 'Applications' }).getByText('shop', { exact: true }).waitFor();
	await node.up();
	await page.getByRole('alert').waitFor({ state: 'hidden' });
	await page.locator('.node-sign', { hasText: 'live' }).waitFor();
	await until('the application is back', async () => (await page.getByRole('table', { name: 'Applications' }).getByRole('row').filter({ hasText: 'shop' }).innerText()).includes('RUNNING'));
	assert.deepEqual(faults, []);
	await page.context().close();
});

test('each answer below /ui/ has the content security policy, and the policy refuses scripts within the page', async () => {
	for (const path of ['', 'app.js', 'style.css', 'apps/shop', 'vendor/preact/standalone.module.js']) {
		const answer = await fetch(node.ui + path);
		assert.equal(answer.status, 200, path);
		assert.match(answer.headers.get('content-security-policy') ?? '', /default-src 'none'; script-src 'self'/, path);
	}
	const { page } = await openPage(browser, node.ui);
	await settled(page);
	const ran = await page.evaluate(() => {
		const script = document.createElement('script');
		script.textContent = 'window.ran = true';
		document.body.append(script);
		return Boolean(/** @type {any} */ (window).ran);
	});
	assert.equal(ran, false);
	await page.context().close();
});

test('a page of an address with the token in it is never asked of the node with the token', async () => {
	const { page, context } = await openPage(browser, 'about:blank'); // The fragment stays in the browser.
	/** @type {string[]} */
	const asked = [];
	page.on('request', (request) => asked.push(request.url()));
	await page.goto(`${node.ui}#token=${node.token()}`);
	await settled(page);
	assert.ok(asked.length > 5);
	assert.deepEqual(asked.filter((url) => url.includes(node.token())), []);
	await context.close();
});
