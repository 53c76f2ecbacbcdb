// A headless Chromium, Debian's, driven by playwright-core.
// @ts-check
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const limit = 120_000; // milliseconds of each wait for the browser and for a page: a machine that tests share is slow at times
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** @param {import('node:test').TestContext | {after: (f: () => Promise<void>) => void}} t */
export async function openBrowser(t) {
	const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'], timeout: limit });
	t.after(() => browser.close());
	return browser;
}

/**
 * openPage opens a tab. Errors of scripts, refusals of the content security policy and requests to other hosts are collected in `faults`, which each
 * test compares with none.
 * @param {import('playwright-core').Browser} browser
 * @param {string} url
 * @param {{dark?: boolean, width?: number, height?: number, token?: string}} [options]
 */
export async function openPage(browser, url, { dark = false, width = 1280, height = 900, token } = {}) {
	const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? 'dark' : 'light', reducedMotion: 'reduce', bypassCSP: false });
	context.setDefaultTimeout(limit);
	const page = await context.newPage();
	/** @type {string[]} */
	const faults = [];
	page.on('pageerror', (error) => faults.push(String(error.stack ?? error)));
	page.on('console', (message) => {
		// A refused or broken request is told by the browser itself: tests of these states look at the page.
		if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) faults.push(message.text());
	});
	page.on('request', (request) => {
		const to = new URL(request.url());
		if (!['data:', 'blob:'].includes(to.protocol) && to.host !== new URL(url).host) faults.push(`a request to ${to.host}`);
	});
	await page.goto(token ? `${url}#token=${token}` : url);
	return { page, faults, context };
}

/**
 * broken gives the rules of WCAG 2 A and AA that the page breaks, with the elements.
 * The script comes by the DevTools protocol, so the page's content security policy stays on.
 * @param {import('playwright-core').Page} page
 */
export async function broken(page) {
	await page.evaluate(axe);
	const result = await page.evaluate(() => /** @type {any} */ (globalThis).axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] }));
	return result.violations.map((/** @type {any} */ v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((/** @type {any} */ n) => `${n.html.slice(0, 150)} ${n.failureSummary ?? ''}`).join(' | ')}`);
}
