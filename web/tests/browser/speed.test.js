// The dashboard beside 1,000 replicas and 500 calls a second: the script of an update, the size of the page, the bytes of the stream.
// @ts-check
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openBrowser, openPage } from '../browser.js';
import { freePort, until } from '../node.js';
import { settled } from '../views.js';

const seconds = 10; // of the trace and of the stream
const mostScript = 50; // milliseconds of processor time of an update
const mostNodes = 5000;
const mostBytes = 50_000; // a second

test('an update beside 1,000 replicas takes little script, the page stays small, and so does the stream', async (t) => {
	const dir = mkdtempSync(join(tmpdir(), 'helve-web-many-'));
	t.after(() => rmSync(dir, { recursive: true, force: true }));
	const program = join(dir, 'many');
	execFileSync('go', ['build', '-o', program, '.'], { cwd: join(dirname(fileURLToPath(import.meta.url)), '../../../internal/e2e/many'), stdio: 'inherit' });
	const admin = `127.0.0.1:${await freePort()}`;
	const child = spawn(program, [admin], { stdio: ['pipe', 'pipe', 'inherit'] });
	t.after(async () => {
		child.stdin.end();
		await new Promise((done) => child.once('exit', done));
	});
	await new Promise((done, failed) => {
		child.stdout.once('data', done);
		child.once('exit', (code) => failed(new Error(`the program ended with ${code}`)));
	});

	const browser = await openBrowser(t);
	for (const [path, query] of [['apps/many/Many', 'app=many&deployment=Many'], ['replicas?sort=-memory', 'all_replicas'], ['replicas?text=many', 'all_replicas']]) {
		await t.test(path, (t) => look(t, browser, admin, path, query));
	}
});

/**
 * look measures the stream of a page, and its script.
 * @param {import('node:test').TestContext} t
 * @param {import('playwright-core').Browser} browser
 * @param {string} admin
 * @param {string} path of the page below /ui/
 * @param {string} query of its stream
 */
async function look(t, browser, admin, path, query) {
	const bytes = await streamed(`http://${admin}/api/v1/updates?${query}`);
	const { page, faults } = await openPage(browser, `http://${admin}/ui/${path}`);
	await settled(page);
	const rows = page.getByRole('table', { name: 'Replicas' });
	await until('the rows of the replicas in sight', async () => (await rows.locator('tbody tr').count()) > 20);
	assert.equal(await rows.getAttribute('aria-rowcount'), '1001');

	const session = await page.context().newCDPSession(page);
	/** @type {any[]} */
	const events = [];
	session.on('Tracing.dataCollected', ({ value }) => events.push(...value));
	const complete = new Promise((done) => session.once('Tracing.tracingComplete', done));
	await session.send('Tracing.start', { transferMode: 'ReportEvents', traceConfig: { includedCategories: ['devtools.timeline', 'toplevel', 'v8.execute'] } });
	// On a busy machine the updates may come later, and a trace of the same length would have too few of them.
	await Promise.all([new Promise((done) => setTimeout(done, seconds * 1000)), changes(page, seconds / 2 + 1)]);
	await session.send('Tracing.end');
	await complete;
	const main = events.find((e) => e.name === 'thread_name' && e.args.name === 'CrRendererMain');
	const tasks = events.filter((e) => ['FunctionCall', 'RunMicrotasks', 'EvaluateScript', 'v8.callFunction'].includes(e.name) && e.ph === 'X' && (!main || (e.pid === main.pid && e.tid === main.tid)));
	// The script of an update is a call, with the promises behind it, on the thread of the page. Those within another are a part of it.
	tasks.sort((a, b) => a.ts - b.ts || b.dur - a.dur);
	/** @type {number[]} */
	const script = [];
	let end = 0;
	for (const task of tasks) {
		if (task.ts < end) continue;
		end = task.ts + task.dur;
		script.push((task.tdur ?? task.dur) / 1000);
	}
	script.sort((a, b) => b - a);
	const nodes = await page.evaluate(() => document.querySelectorAll('*').length);
	t.diagnostic(`script: ${script.slice(0, 5).map((ms) => ms.toFixed(1)).join(', ')} ms of processor time at most in ${script.length} pieces; ${nodes} nodes; ${Math.round(bytes)} bytes a second`);
	assert.ok(script.length > seconds / 2, `${script.length} pieces of script in ${seconds} s: the page is not live`);
	assert.ok(script[0] <= mostScript, `${script[0]} ms of script`);
	assert.ok(nodes <= mostNodes, `${nodes} nodes`);
	assert.ok(bytes <= mostBytes, `${bytes} bytes a second`);
	assert.deepEqual(faults, []);
	await page.context().close();
}

/**
 * changes returns when the page has changed as often.
 * @param {import('playwright-core').Page} page
 * @param {number} times
 */
async function changes(page, times) {
	await page.evaluate((times) => new Promise((done) => {
		let left = times;
		const observer = new MutationObserver(() => --left === 0 && (observer.disconnect(), done(undefined)));
		observer.observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
	}), times);
}

/**
 * streamed gives the bytes a second of a stream, without its first item, which has all.
 * @param {string} url
 */
async function streamed(url) {
	const abort = new AbortController();
	const answer = await fetch(url, { signal: abort.signal });
	let bytes = 0;
	let first = true;
	const begin = Date.now();
	let from = begin;
	for await (const piece of /** @type {any} */ (answer.body)) {
		if (first) {
			if (!piece.includes(10)) continue; // The first line goes on.
			first = false;
			from = Date.now();
			continue;
		}
		bytes += piece.length;
		if (Date.now() - from >= seconds * 1000) break;
	}
	abort.abort();
	return bytes / ((Date.now() - from) / 1000);
}
