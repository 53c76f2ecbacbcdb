// A real node for the tests of the dashboard: the binary of this checkout, with the applications of shop/.
// @ts-check
import { spawn, execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '../..');
const binary = process.env.HELVE_BINARY ?? join(root, 'python/src/helve/_bin/helve');
const shop = process.env.HELVE_SHOP ?? join(here, 'shop'); // the applications
const python = process.env.HELVE_PYTHON ?? join(root, '.venv/bin/python');

/**
 * A port of the loopback interface that nothing listens on, below the ports that the kernel gives to connections: programs beside this one make hundreds of
 * connections in a second, and one of them would have the port of the node before the node listens, or while the node is down between two starts.
 * @returns {Promise<number>}
 */
export async function freePort() {
	for (;;) {
		const port = randomInt(10_000, 32_000);
		const server = createServer();
		server.listen(port, '127.0.0.1');
		try {
			await once(server, 'listening');
		} catch {
			continue; // taken
		}
		server.close();
		await once(server, 'close');
		return port;
	}
}

/** Node is a running `helve start`. */
export class Node {
	/** @param {string} dir @param {number} admin @param {number} http @param {string[]} flags */
	constructor(dir, admin, http, flags) {
		this.dir = dir;
		this.state = join(dir, 'state');
		this.run = join(dir, 'run'); // HELVE_RUNTIME_DIR: programs beside this one do not find the node, and deploy nothing to it
		mkdirSync(this.run, { recursive: true });
		this.gate = join(dir, 'gate'); // calls with name=held run until this file is there
		this.admin = `127.0.0.1:${admin}`;
		this.url = `http://${this.admin}`;
		this.ui = `${this.url}/ui/`;
		this.http = `http://127.0.0.1:${http}`;
		this.httpPort = http;
		this.flags = flags;
		this.output = '';
		/** @type {import('node:child_process').ChildProcess | undefined} */
		this.child = undefined;
	}

	/** up starts the process, and returns when the node serves. */
	async up() {
		const child = spawn(binary, ['start', '--state-dir', this.state, '--http', `127.0.0.1:${this.httpPort}`, '--admin', this.admin, ...this.flags], {
			cwd: shop,
			env: { ...process.env, HELVE_RUNTIME_DIR: this.run, SHOP_GATE: this.gate, HELVE_PYTHON: python, PYTHONDONTWRITEBYTECODE: '1' },
			stdio: ['ignore', 'pipe', 'pipe'],
		});
		this.child = child;
		await new Promise((done, failed) => {
			for (const stream of [child.stdout, child.stderr]) {
				stream?.on('data', (/** @type {Buffer} */ data) => {
					this.output = (this.output + data).slice(-64 << 10);
					if (this.output.includes(' serves on ')) done(undefined);
				});
			}
			child.once('error', failed);
			child.once('exit', (code) => failed(new Error(`helve start ended with ${code}: ${this.output}`)));
		});
		this.output = '';
	}

	/** down ends the process, and returns when it has ended. */
	async down() {
		const child = this.child;
		if (!child || child.exitCode !== null) return;
		const ended = once(child, 'exit');
		child.kill('SIGTERM');
		await ended;
	}

	token() {
		return readFileSync(join(this.state, 'admin.token'), 'utf8').trim();
	}

	/**
	 * cli runs a command of helve at this node, and gives its standard output.
	 * @param {string[]} args
	 * @returns {Promise<string>}
	 */
	cli(...args) {
		return new Promise((done, failed) => {
			const options = { cwd: shop, env: { ...process.env, HELVE_RUNTIME_DIR: this.run, SHOP_GATE: this.gate, HELVE_PYTHON: python, HELVE_ADDRESS: this.admin, HELVE_TOKEN: this.token() }, maxBuffer: 64 << 20 };
			execFile(binary, args, options, (error, stdout, stderr) => (error ? failed(new Error(`helve ${args.join(' ')}: ${error.message}\n${stdout}${stderr}`)) : done(stdout)));
		});
	}

	/**
	 * api asks the REST API with the token.
	 * @param {string} path
	 * @param {{method?: string, body?: unknown}} [options]
	 */
	async api(path, { method = 'GET', body } = {}) {
		const answer = await fetch(this.url + path, { method, headers: { authorization: `Bearer ${this.token()}` }, body: body === undefined ? undefined : JSON.stringify(body) });
		const text = await answer.text();
		if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
		return text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text;
	}

	/** shop calls the application. @param {string} name */
	async shop(name) {
		const answer = await fetch(`${this.http}/?name=${encodeURIComponent(name)}`);
		return { status: answer.status, body: await answer.text(), id: answer.headers.get('x-request-id') };
	}
}

/**
 * startNode starts a node in a directory of its own. The node ends, and the directory goes, with the test.
 * @param {import('node:test').TestContext | {after: (f: () => Promise<void>) => void}} t
 * @param {string[]} flags
 */
export async function startNode(t, ...flags) {
	const dir = mkdtempSync(join(process.env.HELVE_DIR ?? tmpdir(), 'helve-web-'));
	const node = new Node(dir, await freePort(), await freePort(), flags);
	t.after(async () => {
		await node.down();
		rmSync(dir, { recursive: true, force: true });
	});
	await node.up();
	return node;
}

/**
 * until asks again until the answer is true.
 * @template T
 * @param {string} what the condition, for the error
 * @param {() => Promise<T>} ask
 * @param {number} [seconds]
 * @returns {Promise<T>}
 */
export async function until(what, ask, seconds = 120) {
	const end = Date.now() + seconds * 1000;
	for (;;) {
		const answer = await ask();
		if (answer) return answer;
		if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
		await new Promise((done) => setTimeout(done, 50));
	}
}
