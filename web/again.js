// @ts-check
// A stream of the node that goes on: it is opened again when the connection ends, or when the node is silent.
//
//   followAgain('/api/v1/events', () => ({ after: last, follow: true }), (event) => …, { signal, onOpen: …, onLost: (why) => …, onRefused: (error) => … });
//
// The query is asked for at each attempt, so that a stream goes on behind the last item. A refusal, such as a wrong token, is final: it would be the same again.
// A page that is hidden for a while gives its connection up, and goes on when it is seen again: a browser opens six to a node, for all its tabs together.
import { ApiError, follow } from './api.js';

const silence = 20_000; // Milliseconds without a byte after which a connection counts as lost. The node sends one each 15 s.
const firstPause = 500, longestPause = 5000; // Milliseconds between attempts.
const hiddenFor = 10_000; // Milliseconds after which a hidden page gives its connection up.

/** Resolves when the page is seen, or the signal is aborted. @param {AbortSignal} signal */
const seen = (signal) => new Promise((resolve) => {
  const check = () => {
    if (document.hidden && !signal.aborted) return;
    document.removeEventListener('visibilitychange', check);
    signal.removeEventListener('abort', check);
    resolve(undefined);
  };
  document.addEventListener('visibilitychange', check);
  signal.addEventListener('abort', check);
  check();
});

/**
 * @param {string} at
 * @param {() => Record<string, any>} query
 * @param {(item: any, event: {event: string, id: string}) => void} onItem
 * @param {{signal: AbortSignal, onOpen?: () => void, onLost?: (why: string) => void, onRefused?: (error: ApiError) => void}} options
 */
export async function followAgain(at, query, onItem, { signal, onOpen, onLost, onRefused }) {
  let pause = firstPause;
  while (!signal.aborted) {
    const attempt = new AbortController();
    const end = () => attempt.abort();
    signal.addEventListener('abort', end);
    let watchdog = /** @type {any} */ (0), silent = false;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => { silent = true; attempt.abort(); }, silence);
    };
    alive();
    let left = false, leaving = /** @type {any} */ (0);
    const hide = () => {
      clearTimeout(leaving);
      if (document.hidden) leaving = setTimeout(() => { left = true; attempt.abort(); }, hiddenFor);
    };
    document.addEventListener('visibilitychange', hide);
    hide();
    let why = 'The node has ended the connection.';
    try {
      await follow(at, query(), onItem, { signal: attempt.signal, onBytes: alive, onOpen: () => { pause = firstPause; onOpen?.(); } });
    } catch (e) {
      if (e instanceof ApiError && e.status >= 400 && e.status < 500) {
        if (!signal.aborted) onRefused?.(e);
        return;
      }
      why = e instanceof Error ? e.message : String(e);
    } finally {
      clearTimeout(watchdog);
      clearTimeout(leaving);
      document.removeEventListener('visibilitychange', hide);
      signal.removeEventListener('abort', end);
    }
    if (signal.aborted) return;
    if (left) {
      await seen(signal);
      continue;
    }
    onLost?.(silent ? `The node has sent nothing for ${silence / 1000} s.` : why);
    const wait = pause;
    await new Promise((resolve) => setTimeout(resolve, wait));
    pause = Math.min(2 * pause, longestPause);
  }
}
