// The views of the dashboard that tests and screenshots go through, on a node with the applications of shop/ and some of their past.
// @ts-check
import { rmSync, writeFileSync } from 'node:fs';
import { until } from './node.js';

/**
 * deployShop deploys the applications, and returns when two of them run and the third has failed.
 * @param {import('./node.js').Node} node
 */
export async function deployShop(node) {
	await node.cli('deploy', 'serve.yaml');
	await until('the applications are up', async () => {
		const { applications } = await node.api('/api/v1/status');
		const is = Object.fromEntries(Object.entries(applications).map(([name, a]) => [name, a.status]));
		return is.shop === 'RUNNING' && is.broken === 'DEPLOY_FAILED' && Object.values(is).filter((s) => s === 'RUNNING').length === 2;
	});
}

/**
 * withHistory deploys the applications and gives them load, with some slow and some failed requests, and two that wait until the gate of the node opens.
 * @param {import('./node.js').Node} node
 * @param {number} seconds
 */
export async function withHistory(node, seconds) {
	await deployShop(node);
	for (const name of ['slow', 'broken', 'slow', 'tea']) await node.shop(name);
	const end = Date.now() + seconds * 1000;
	const clients = Array.from({ length: 3 }, async () => {
		for (let i = 0; Date.now() < end; i++) {
			await node.shop(i % 40 === 39 ? 'broken' : i % 15 === 14 ? 'slow' : 'tea');
			await new Promise((done) => setTimeout(done, 30));
		}
	});
	await Promise.all(clients);
	for (let i = 0; i < 4; i++) node.shop('held').catch(() => {});
	await until('calls run', async () => (await node.api('/api/v1/calls')).calls?.some((/** @type {any} */ c) => c.deployment === 'Prices'));
}

/** opens the gate: the calls that are held end. @param {import('./node.js').Node} node */
export const openGate = (node) => writeFileSync(node.gate, '');

/** closes the gate: calls with name=held run until it opens again. @param {import('./node.js').Node} node */
export const closeGate = (node) => rmSync(node.gate, { force: true });

/**
 * views are the addresses of all pages, by name.
 * @param {import('./node.js').Node} node
 * @returns {Promise<Record<string, string>>}
 */
export async function views(node) {
	const status = await node.api('/api/v1/status');
	const replica = status.applications.shop.deployments.Ranker.replicas.find((/** @type {any} */ r) => r.state === 'RUNNING').replica_id;
	const { requests } = await node.api('/api/v1/requests?kept=slow&limit=1');
	const [long, { deployments }] = Object.entries(status.applications).find(([name]) => name.startsWith('an-')) ?? ['', { deployments: {} }];
	return {
		overview: '',
		application: 'apps/shop',
		'application-failed': 'apps/broken',
		'application-long': `apps/${long}/${Object.keys(deployments)[0]}`,
		deployment: 'apps/shop/Ranker',
		replica: `apps/shop/Ranker/${encodeURIComponent(replica)}`,
		replicas: 'replicas',
		requests: 'requests',
		request: `requests/${requests[0].request_id}`,
		events: 'events',
		logs: 'logs',
		settings: 'settings',
	};
}

/**
 * settled returns when the page has its data: the stream has told the state, nothing is being loaded, and charts are drawn.
 * @param {import('playwright-core').Page} page
 */
export async function settled(page) {
	await page.locator('.node-sign', { hasText: 'live' }).waitFor();
	await page.locator('main h1').first().waitFor();
	await page.waitForFunction(() => !document.querySelector('main [aria-busy=true], main .loading'));
}
