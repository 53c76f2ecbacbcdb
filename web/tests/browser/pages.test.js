// Each page and each action in a headless Chromium, against a real node. The figures of a page are compared with those of the REST API.
// @ts-check
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { broken, openBrowser, openPage } from '../browser.js';
import { startNode, until } from '../node.js';
import { closeGate, openGate, settled, views, withHistory } from '../views.js';

/** @typedef {import('playwright-core').Page} Page */

/** @type {import('../node.js').Node} */
let node;
/** @type {import('playwright-core').Browser} */
let browser;
/** @type {(() => Promise<void>)[]} */
const ends = [];

before(async () => {
	const t = { after: (/** @type {() => Promise<void>} */ f) => ends.unshift(f) };
	node = await startNode(t);
	[browser] = await Promise.all([openBrowser(t), withHistory(node, 3)]);
});
after(async () => {
	for (const end of ends) await end();
});

/**
 * visit opens a page with the token of the node, gives it to the test, and expects no fault of it.
 * @param {string} path below /ui/
 * @param {(page: Page) => Promise<void>} look
 * @param {{token?: string, dark?: boolean, width?: number}} [options]
 */
async function visit(path, look, options = {}) {
	const { page, faults, context } = await openPage(browser, node.ui + path, { token: node.token(), ...options });
	try {
		await settled(page);
		await look(page);
		assert.deepEqual(faults, []);
	} finally {
		await context.close();
	}
}

/** panel is the part of the page with a title. @param {Page} page @param {string} title */
const panel = (page, title) => page.getByRole('region', { name: title, exact: true });

/** row is the row of a table that has a text. @param {Page} page @param {string} table @param {string} text */
const row = (page, table, text) => page.getByRole('table', { name: table, exact: true }).getByRole('row').filter({ hasText: text });

/**
 * act opens the dialog of a button, fills its fields, goes past its plan, and returns when the node has taken the change.
 * @param {Page} page
 * @param {string} label of the button
 * @param {string} verb of the button in the dialog
 * @param {Record<string, string>} [fields]
 * @param {(dialog: import('playwright-core').Locator) => Promise<void>} [plan] looks at the plan
 */
async function act(page, label, verb, fields = {}, plan) {
	await page.getByRole('button', { name: label, exact: true }).first().click();
	const dialog = page.getByRole('dialog');
	await dialog.waitFor();
	for (const [name, value] of Object.entries(fields)) {
		const field = dialog.getByLabel(name);
		if ((await field.evaluate((e) => e.tagName)) === 'SELECT') await field.selectOption(value);
		else await field.fill(value);
	}
	if (plan) {
		await dialog.getByRole('button', { name: 'Show the plan' }).click();
		await dialog.getByRole('region', { name: 'Plan' }).waitFor();
		await plan(dialog);
	}
	await dialog.getByRole('button', { name: verb, exact: true }).click();
	await dialog.waitFor({ state: 'hidden' });
}

test('the overview shows first what is wrong, in the words of the node, and each application with the figures of the node', () =>
	visit('', async (page) => {
		const why = await node.api('/api/v1/why');
		const wrong = panel(page, 'What is wrong');
		const first = wrong.getByRole('listitem').first();
		await first.getByRole('link', { name: 'broken' }).waitFor();
		assert.equal(why.troubles[0].object.app, 'broken');
		assert.match(await first.innerText(), /the weights are not there: \/srv\/weights\/model\.bin/);
		await until('each row has the state and the numbers of the node', async () => { // The autoscaler may change a number in between.
			const { applications } = await node.api('/api/v1/status');
			const rows = await Promise.all(Object.entries(applications).map(async ([name, a]) => {
				const text = (await row(page, 'Applications', name).innerText()).replace(/\s+/g, ' ');
				const sum = (/** @type {'ready'|'wanted'} */ what) => Object.values(a.deployments).reduce((n, d) => n + d[what], 0);
				return [a.status, `${sum('ready')} of ${sum('wanted')}`, a.route_prefix].every((part) => text.includes(part));
			}));
			return rows.every(Boolean);
		});
		await page.getByLabel('Filter by name or route').fill('shop');
		await page.waitForURL(/\?q=shop$/);
		assert.equal(await page.getByRole('table', { name: 'Applications' }).locator('tbody tr').count(), 1);
	}));

test('figures of pages are those of REST and of /metrics at the same moment', async () => {
	openGate(node);
	await until('nothing runs', async () => (await node.api('/api/v1/calls')).calls.length === 0);
	const calls = (await node.api('/api/v1/status')).applications.shop.deployments;
	const metrics = /** @type {string} */ (await node.api('/metrics'));
	await visit('apps/shop/Prices', async (page) => {
		const figures = panel(page, 'Now');
		const text = (await figures.innerText()).replace(/[\u2009\u202f\u00a0,]/g, '').replace(/\s+/g, ' ');
		assert.ok(text.includes(`Calls so far ${calls.Prices.calls.total} ${calls.Prices.calls.errors} failed`), text);
		const failed = /^helve_deployment_failed_calls_total\{application="shop",deployment="Prices"\} (\S+)$/m.exec(metrics);
		assert.equal(Number(failed?.[1]), calls.Prices.calls.errors);
		await until('the chart has the calls of the step that has ended', async () => {
			const series = await node.api('/api/v1/series?app=shop&deployment=Prices');
			const ended = series.columns.rate.reduce((/** @type {number} */ n, /** @type {number|null} */ v) => n + (v ?? 0) * series.step_s, 0);
			return Math.abs(ended - calls.Prices.calls.total) <= calls.Prices.calls.total * 0.1; // Looks at the counts are 5 s apart, more or less.
		});
		await page.getByText(/p99 about .*(ms|s)/).first().waitFor();
	});
});

test('the page of an application has its graph, with edges and load, its deployments and its revisions', () =>
	visit('apps/shop', async (page) => {
		const graph = page.getByRole('group', { name: 'Graph of shop' });
		for (const name of ['Front', 'Ranker', 'Prices']) await graph.getByText(name, { exact: true }).first().waitFor();
		for (const name of ['Front', 'Ranker', 'Prices']) await row(page, 'Deployments', name).waitFor();
		await page.getByRole('tab', { name: 'Revisions' }).click();
		await page.getByRole('heading', { name: 'Revision 1' }).waitFor();
		assert.match(page.url(), /tab=revisions/);
		await page.reload(); // The view is in the address.
		await page.getByRole('heading', { name: 'Revision 1' }).waitFor();
	}));

test('an application that has failed says why, with its traceback', () =>
	visit('apps/broken', async (page) => {
		await page.getByText('RuntimeError').first().waitFor();
		await page.getByText('DEPLOY_FAILED').first().waitFor();
		assert.match(await page.locator('main').innerText(), /raise RuntimeError|shop\.py line/);
	}));

test('a deployment is scaled, and the replicas come; its number is cleared', () =>
	visit('apps/shop/Prices', async (page) => {
		await act(page, 'Scale', 'Scale', { Replicas: '3' });
		await until('three replicas', async () => (await node.api('/api/v1/status')).applications.shop.deployments.Prices.ready === 3);
		await page.getByText('3 of 3 replicas ready').waitFor();
		assert.equal(await page.getByRole('table', { name: 'Replicas' }).locator('tbody tr').count(), 3);
		const option = row(page, 'Options', 'num_replicas');
		await option.getByText('override').waitFor();
		await option.getByRole('button', { name: 'Clear' }).click();
		const dialog = page.getByRole('dialog');
		await dialog.getByRole('button', { name: 'Show the plan' }).click();
		assert.match(await dialog.getByRole('region', { name: 'Plan' }).innerText(), /3/);
		await dialog.getByRole('button', { name: 'Clear it' }).click();
		await dialog.waitFor({ state: 'hidden' });
		await page.getByText('2 of 2 replicas ready').waitFor();
		await option.getByText('code').waitFor();
	}));

test('the bounds of an autoscaler are planned, then set, and their option has its source', () =>
	visit('apps/shop/Ranker', async (page) => {
		await act(page, 'Set bounds', 'Set the bounds', { Largest: '2' }, async (dialog) => {
			const plan = await dialog.getByRole('region', { name: 'Plan' }).innerText();
			assert.match(plan, /max_replicas/);
		});
		const { deployments } = await node.api('/api/v1/applications/shop/config');
		const option = deployments.Ranker.find((/** @type {any} */ o) => o.path.startsWith('autoscaling_config') && o.from === 'override');
		assert.ok(option, JSON.stringify(deployments.Ranker));
		await row(page, 'Options', 'autoscaling_config').filter({ hasText: 'override' }).first().waitFor();
	}));

test('a wrong value is refused by the plan with the words of the node, and stays in the field', () =>
	visit('apps/shop/Prices', async (page) => {
		await page.getByRole('button', { name: 'Set an option' }).click();
		const dialog = page.getByRole('dialog');
		await dialog.getByLabel('Option').selectOption('max_ongoing_requests');
		await dialog.getByLabel('Value').fill('"many"');
		await dialog.getByRole('button', { name: 'Show the plan' }).click();
		await dialog.getByRole('alert').getByText('max_ongoing_requests').first().waitFor();
		assert.equal(await dialog.getByLabel('Value').inputValue(), '"many"');
	}));

test('a deployment is restarted: its replicas are others', () =>
	visit('apps/shop/Prices', async (page) => {
		const ids = async () => (await node.api('/api/v1/status')).applications.shop.deployments.Prices.replicas.map((/** @type {any} */ r) => r.replica_id).sort();
		const old = await ids();
		await act(page, 'Restart', 'Restart');
		await until('others', async () => (await ids()).every((/** @type {string} */ id) => !old.includes(id)));
		await page.getByText('2 of 2 replicas ready').waitFor();
	}));

test('a file is planned and deployed, and the application is rolled back and deleted', () =>
	visit('', async (page) => {
		const file = (/** @type {number} */ n) => `applications:\n  - name: other\n    route_prefix: /other\n    import_path: shop:long_app\n    deployments:\n      - name: ${'A_deployment_whose_name_is_as_long_as_names_of_teams_that_write_all_into_them_for_example_of_a_tokenizer'}\n        max_ongoing_requests: ${n}\n`;
		const deploy = (/** @type {number} */ n) => act(page, 'Deploy a file', 'Deploy', { 'File, as YAML': file(n) }, async (dialog) => {
			assert.match(await dialog.getByRole('region', { name: 'Plan' }).innerText(), /other/);
		});
		await deploy(3);
		await row(page, 'Applications', '/other').getByText('RUNNING').waitFor();
		await deploy(4);
		await page.goto(node.ui + 'apps/other');
		await page.getByText('revision 2').first().waitFor();
		await until('running', async () => (await node.api('/api/v1/status')).applications.other.status === 'RUNNING');
		await act(page, 'Roll back', 'Roll back', {}, async (dialog) => assert.match(await dialog.innerText(), /max_ongoing_requests/));
		await page.getByText('revision 3').first().waitFor();
		await until('running', async () => (await node.api('/api/v1/status')).applications.other.status === 'RUNNING');
		await act(page, 'Delete', 'Delete the application');
		await until('deleted', async () => !(await node.api('/api/v1/status')).applications.other);
	}));

test('a mistake in a file is shown with its line, and the text stays', () =>
	visit('', async (page) => {
		await page.getByRole('button', { name: 'Deploy a file' }).click();
		const dialog = page.getByRole('dialog');
		const field = dialog.getByLabel('File, as YAML');
		await field.fill('applications:\n  - name: x\n    import_pat: shop:app\n');
		await dialog.getByRole('button', { name: 'Show the plan' }).click();
		await dialog.getByRole('alert').getByText('import_pat').first().waitFor();
		assert.match(await dialog.getByRole('alert').innerText(), /3/);
		assert.match(await field.inputValue(), /import_pat: shop/);
	}));

test('a rollout with steps is shown, resumed step by step, and watched', async () => {
	const deploy = (/** @type {number} */ n) => node.api('/api/v1/apply', { method: 'POST', body: { name: 'steps', source: 'steps', keep: true, config: JSON.stringify({ applications: [{ name: 'steps', route_prefix: '/steps', import_path: 'shop:steps_app',
		deployments: [{ name: 'Steps', rollout_config: { steps: [1] }, graceful_shutdown_timeout_s: n }] }] }) } });
	await deploy(5);
	await until('steps runs', async () => (await node.api('/api/v1/status')).applications.steps.status === 'RUNNING');
	await node.api('/api/v1/applications/steps', { method: 'PATCH', body: { deployments: { Steps: { ray_actor_options: { num_cpus: 0.5 } } } } });
	await until('the step waits', async () => (await node.api('/api/v1/status')).applications.steps.rollout?.state === 'waiting');
	await visit('apps/steps', async (page) => {
		const rollout = page.getByRole('region', { name: /^Rollout from revision/ });
		await rollout.getByText('step 1', { exact: true }).waitFor();
		const { rollout: truth } = (await node.api('/api/v1/status')).applications.steps;
		assert.ok((await rollout.innerText()).includes(truth.message.split(';')[0].split(' waits')[0]), truth.message);
		await act(page, 'Resume', 'Resume');
		await rollout.getByText('all replicas are new').waitFor();
		await until('over', async () => (await node.api('/api/v1/status')).applications.steps.status === 'RUNNING');
	});
});

test('a replica has its logs, its calls, stacks, and a profile as a flame graph', async () => {
	const all = await views(node);
	await visit(all.replica, async (page) => {
		await page.getByRole('tab', { name: 'Logs' }).click();
		await page.getByRole('tab', { name: 'Stacks' }).click();
		await page.getByText('thread helve-leash').first().waitFor();
		await page.getByRole('tab', { name: 'Profile' }).click();
		await page.getByLabel(/^Time/).selectOption('2');
		await page.getByRole('button', { name: 'Take it' }).click();
		await page.getByRole('tree').getByRole('treeitem').first().waitFor();
	});
});

test('all replicas of the node are in one table, with filters and an order in the address, and new ones come', () =>
	visit('replicas', async (page) => {
		const table = page.getByRole('table', { name: 'Replicas', exact: true });
		const shown = () => table.locator('tbody tr').allInnerTexts();
		await until('each replica has a row, with its application and its deployment', async () => {
			const { applications } = await node.api('/api/v1/status');
			const want = Object.entries(applications).flatMap(([app, a]) => Object.entries(a.deployments).flatMap(([deployment, d]) => d.replicas.map((/** @type {any} */ r) => [r.replica_id, app, deployment])));
			const rows = await shown();
			return rows.length === want.length && want.every((names) => rows.some((text) => names.every((name) => text.includes(name))));
		});
		await page.getByLabel('Order').selectOption('-memory');
		await page.waitForURL(/sort=-memory/);
		await until('the order is by memory', async () => {
			const cells = await table.locator('tbody tr').evaluateAll((rows) => rows.map((row) => row.querySelectorAll('td')[8].textContent ?? ''));
			const known = cells.map(parseFloat).filter((n) => !Number.isNaN(n));
			assert.ok((await table.getByRole('columnheader').nth(8).innerText()).startsWith('Memory'));
			return known.length > 3 && known.every((n, i) => i === 0 || known[i - 1] >= n);
		});
		await page.getByLabel('State').selectOption('ready');
		await page.getByLabel('Text').fill('PRICES');
		await page.waitForURL(/text=PRICES/);
		await until('the ready replicas of Prices', async () => (await shown()).length === 2 && (await shown()).every((text) => text.includes('Prices')));
		await page.reload(); // The view is in the address.
		await settled(page);
		assert.equal(await page.getByLabel('Text').inputValue(), 'PRICES');
		await until('the two rows are there again', async () => (await shown()).length === 2);
		await node.cli('scale', 'shop/Prices', '3');
		await until('the third one comes', async () => (await shown()).length === 3);
		await node.cli('scale', 'shop/Prices', '2');
		await until('one goes', async () => (await shown()).length === 2);
		await page.getByLabel('State').selectOption('unresponsive');
		await page.getByText('No replica is like this').waitFor();
		await page.getByRole('button', { name: 'Clear' }).click();
		await row(page, 'Replicas', 'Front').getByRole('link', { name: /Front#/ }).click();
		await page.waitForURL(/\/apps\/shop\/Front\/Front%23/);
		await page.keyboard.press('g');
		await page.keyboard.press('p');
		await page.waitForURL(/\/ui\/replicas$/);
	}));

test('on a phone the table of all replicas has the column that it is sorted by; without a token it is there too', () =>
	visit('replicas', async (page) => {
		const memory = page.getByRole('columnheader', { name: /Memory/ });
		await row(page, 'Replicas', 'Front').waitFor();
		assert.equal(await memory.isVisible(), false);
		await page.getByLabel('Order').selectOption('-memory');
		await memory.waitFor();
	}, { token: '', width: 390 }));

test('requests: the slow and the failed ones with their waterfall, and the search by id', () =>
	visit('requests?kept=failed', async (page) => {
		const { requests } = await node.api('/api/v1/requests?kept=failed&limit=1');
		await page.getByText('there is no price of broken').first().waitFor();
		await page.getByPlaceholder('Request id').fill(requests[0].request_id);
		await page.getByRole('button', { name: 'Open' }).click();
		await page.waitForURL(new RegExp(`/ui/requests/${requests[0].request_id}`));
		const spans = page.getByRole('tree', { name: 'Spans of the request' });
		await spans.getByText('shop/Prices').first().waitFor();
		const { spans: truth } = await node.api(`/api/v1/requests/${requests[0].request_id}`);
		assert.equal(await spans.getByRole('treeitem').count(), truth.length);
		assert.equal(await page.locator('b', { hasText: 'in bold' }).count(), 0, 'a message of a program is text');
	}));

test('requests: an unknown id says so', () =>
	visit('requests/00000000-0000-0000-0000-000000000000', async (page) => {
		await page.getByRole('alert').or(page.locator('.empty')).first().waitFor();
	}));

test('calls that run are there with the request that they belong to', async () => {
	closeGate(node); // A call that ends by itself may have ended before the page is open.
	const held = node.shop('held');
	await visit('requests', async (page) => {
		await page.getByText('Ranker.rank').first().waitFor();
		openGate(node);
		await held;
	});
});

test('events have their causes and effects, and a filter that is in the address', () =>
	visit('events?app=broken', async (page) => {
		const { events } = await node.api('/api/v1/events?app=broken&limit=1000');
		await page.getByRole('table', { name: 'Events' }).getByText('DEPLOY_FAILED').first().waitFor();
		const caused = events.find((/** @type {any} */ e) => e.cause);
		await page.goto(`${node.ui}events?app=broken&event=${caused.id}`);
		const detail = page.getByRole('complementary', { name: `Event #${caused.id}` });
		await detail.getByText(`#${caused.cause}`).first().waitFor();
		await detail.getByText('What led to it').waitFor();
	}));

test('logs: a line comes while the page looks, and filters leave others out', () =>
	visit('logs?app=shop&level=ERROR', async (page) => {
		const id = (await node.shop('broken')).id;
		await page.getByText('there is no price of broken').last().waitFor();
		await page.goto(`${node.ui}logs?request=${id}`);
		await page.getByText('there is no price of broken').first().waitFor();
	}));

test('settings: the sampler, the target capacity and the options of HTTP are changed, and hold', () =>
	visit('settings', async (page) => {
		for (const text of [node.admin, node.http.replace('http://', '')]) await page.getByText(text).first().waitFor();
		const change = async (/** @type {string} */ title, /** @type {Record<string, string>} */ fields) => {
			await panel(page, title).getByRole('button', { name: 'Change' }).click();
			const dialog = page.getByRole('dialog');
			for (const [name, value] of Object.entries(fields)) await dialog.getByLabel(name).fill(value);
			await dialog.getByRole('button', { name: 'Show the plan' }).click();
			await dialog.getByRole('region', { name: 'Plan' }).waitFor();
			assert.deepEqual(await broken(page), []);
			await dialog.getByRole('button', { name: 'Change', exact: true }).click();
			await dialog.waitFor({ state: 'hidden' });
		};
		await change('HTTP', { 'Longest time of a request': '77' });
		assert.equal((await node.api('/api/v1/settings')).http.options.request_timeout_s, 77);
		await change('Target capacity', { Percent: '90' });
		assert.equal((await node.api('/api/v1/settings')).target_capacity, 90);
		await change('Target capacity', { Percent: '' });
		await page.getByRole('tab', { name: 'Tracing and profiles' }).click();
		await page.getByLabel('Sampled part').fill('0.25');
		await panel(page, 'Tracing').getByRole('button', { name: 'Change' }).click();
		await page.getByText('25 % of the requests').waitFor();
		assert.equal((await node.api('/api/v1/tracing')).sampling_ratio, 0.25);
	}));

test('settings: a token is made, shown once, and removed; the list of changes has both', () =>
	visit('settings?tab=tokens', async (page) => {
		await page.getByRole('button', { name: 'New token' }).click();
		const dialog = page.getByRole('dialog');
		await dialog.getByLabel('Name').fill('ada');
		await dialog.getByLabel('Role').selectOption('operate');
		await dialog.getByRole('button', { name: 'New token' }).click();
		const token = await page.getByLabel('Token', { exact: true }).innerText();
		const who = await fetch(`${node.url}/api/v1/whoami`, { headers: { authorization: `Bearer ${token.trim()}` } });
		assert.equal((await who.json()).role, 'operate');
		await page.getByRole('dialog').getByRole('button', { name: 'Close' }).last().click();
		await row(page, 'Tokens', 'ada').getByRole('button', { name: 'Remove' }).click();
		await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
		await until('removed', async () => (await fetch(`${node.url}/api/v1/whoami`, { headers: { authorization: `Bearer ${token.trim()}` } })).status === 401);
		await page.getByRole('tab', { name: 'Changes' }).click();
		await page.getByText('remove_token').first().waitFor();
	}));

test('a request that runs is followed until it ends', async () => {
	closeGate(node); // A call that ends by itself may have ended before the page is open.
	const held = node.shop('held');
	await visit('requests', async (page) => {
		const id = await until('it runs', async () => (await node.api('/api/v1/calls')).calls.find((/** @type {any} */ c) => c.deployment === 'Front')?.request_id);
		await page.goto(`${node.ui}requests/${id}`);
		await settled(page);
		openGate(node);
		await held;
		await page.getByRole('region', { name: 'Request', exact: true }).getByText('200').waitFor();
	});
});

test('without a token the page reads, its actions are off and say the role, and logs ask to sign in', () =>
	visit('apps/shop/Prices', async (page) => {
		const scale = page.getByRole('button', { name: 'Scale', exact: true });
		assert.ok(await scale.isDisabled());
		assert.match((await scale.getAttribute('title')) ?? '', /role operate/);
		await page.goto(node.ui + 'logs');
		await page.getByRole('main').getByRole('button', { name: 'Sign in' }).first().waitFor();
	}, { token: '' }));

test('a wrong token is refused with words, and the right one signs in', () =>
	visit('', async (page) => {
		await page.getByRole('banner').getByRole('button', { name: 'Sign in' }).click();
		const dialog = page.getByRole('dialog');
		await dialog.getByLabel('Token').fill('wrong');
		await dialog.getByRole('button', { name: 'Sign in' }).click();
		await dialog.getByRole('alert').waitFor();
		await dialog.getByLabel('Token').fill(node.token());
		await dialog.getByRole('button', { name: 'Sign in' }).click();
		await dialog.waitFor({ state: 'hidden' });
		await until('the node has told the role', () => page.getByRole('button', { name: 'Deploy a file' }).isEnabled());
		await page.reload(); // The token is of the tab.
		await settled(page);
		await until('signed in', () => page.getByRole('button', { name: 'Deploy a file' }).isEnabled());
	}, { token: '' }));

test('the token of a link leaves the address at once', () =>
	visit('', async (page) => {
		assert.ok(!page.url().includes('token'), page.url());
	}));

test('an unknown application, deployment and page say so', async () => {
	for (const [path, words] of [['apps/nothing', 'no application of this name'], ['apps/shop/Nothing', 'no deployment shop/Nothing'], ['apps/shop/Prices/Prices%23zzz', 'It runs no more'], ['nothing/of/this', 'no such page']]) {
		await visit(path, (page) => page.getByRole('main').getByText(words).first().waitFor());
	}
});

test('the keyboard: ? lists the shortcuts, g e goes to the events, Escape closes', () =>
	visit('', async (page) => {
		await page.keyboard.press('?');
		await page.getByRole('dialog').getByText('This list').waitFor();
		await page.keyboard.press('Escape');
		await page.getByRole('dialog').waitFor({ state: 'hidden' });
		await page.keyboard.press('g');
		await page.keyboard.press('e');
		await page.waitForURL(/\/ui\/events/);
		await page.keyboard.press('Tab');
		assert.equal(await page.evaluate(() => document.activeElement?.tagName !== 'BODY'), true);
	}));

test('no page breaks a rule of WCAG AA, light and dark, wide and narrow, and none is wider than a phone', async () => {
	const all = await views(node);
	/** @type {string[]} */
	const faults = [];
	for (const [name, path] of Object.entries(all)) {
		for (const [dark, width] of /** @type {[boolean, number][]} */ ([[false, 1280], [true, 390]])) {
			await visit(path, async (page) => {
				for (const fault of await broken(page)) faults.push(`${name} ${dark ? 'dark' : 'light'} ${width}: ${fault}`);
				const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
				if (over > 0) faults.push(`${name} at ${width}: ${over} pixels too wide`);
			}, { dark, width });
		}
	}
	assert.deepEqual(faults, []);
});
