// Screenshots of each page, light and dark, wide and narrow, for people to look at: node screenshots.js [DIRECTORY]
// @ts-check
import { mkdirSync } from 'node:fs';
import { openBrowser, openPage } from './browser.js';
import { startNode } from './node.js';
import { settled, views, withHistory } from './views.js';

const dir = process.argv[2] ?? 'screenshots';
mkdirSync(dir, { recursive: true });
/** @type {(() => Promise<void>)[]} */
const ends = [];
const t = { after: (/** @type {() => Promise<void>} */ f) => ends.unshift(f) };
try {
	const node = await startNode(t);
	await withHistory(node, Number(process.env.SECONDS ?? 60));
	const browser = await openBrowser(t);
	for (const [name, path] of Object.entries(await views(node))) {
		for (const look of [{ dark: false, width: 1280 }, { dark: true, width: 1280 }, { dark: false, width: 390 }, { dark: true, width: 390 }]) {
			const { page, faults, context } = await openPage(browser, `${node.ui}${path}${/^(apps|$)/.test(path) ? '?range=10m' : ''}`, { ...look, height: look.width < 500 ? 844 : 900, token: node.token() });
			await settled(page);
			await page.screenshot({ path: `${dir}/${name}-${look.width < 500 ? 'narrow' : 'wide'}-${look.dark ? 'dark' : 'light'}.png`, fullPage: true });
			for (const fault of faults) console.log(`${name}: ${fault}`);
			await context.close();
		}
	}
} finally {
	for (const end of ends) await end();
}
