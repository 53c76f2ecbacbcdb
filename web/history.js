// @ts-check
// The hour that the node keeps: series of figures of one object (GET /api/v1/series), which go on while the page is open.
//
//   const { series, error } = useSeries({ app, deployment }, '10m');
//   series.columns.p99_ms[i] is of the time from series.from + i * series.step on (milliseconds since 1970); null is unknown
//   series.units.p99_ms "ms"     series.decisions [{ at, from, to, reason, policy }]
import { useEffect, useState } from './vendor/preact/standalone.module.js';
import { ApiError, get, useSession } from './api.js';

/** @typedef {{step: number, from: number, columns: Record<string, (number|null)[]>, units: Record<string, string>, decisions: any[]}} Series step and from: milliseconds */

/** @param {any} answer @returns {Series} */
export function read(answer) {
  return { step: answer.step_s * 1000, from: Date.parse(answer.from), columns: answer.columns ?? {}, units: answer.units ?? {}, decisions: answer.decisions ?? [] };
}

/** The end of a series: milliseconds since 1970. @param {Series} s */
export const end = (s) => s.from + s.step * Math.max(0, ...Object.values(s.columns).map((c) => c.length));

/**
 * A series with newer values behind it, of which the first may be those of the last steps again, and without values older than length.
 * @param {Series} a
 * @param {Series} b
 * @param {number} length milliseconds
 * @returns {Series}
 */
export function extend(a, b, length) {
  if (a.step !== b.step || b.from > end(a) || b.from < a.from) return b; // The node was started again, or the page has slept: b starts anew.
  const keep = Math.round((b.from - a.from) / a.step);
  const drop = Math.max(0, Math.floor((end(b) - length - a.from) / a.step));
  /** @type {Record<string, (number|null)[]>} */
  const columns = {};
  for (const name of new Set([...Object.keys(a.columns), ...Object.keys(b.columns)])) {
    const before = a.columns[name] ?? [];
    const old = Array.from({ length: keep }, (_, i) => before[i] ?? null);
    columns[name] = [...old, ...(b.columns[name] ?? [])].slice(drop);
  }
  const seen = new Set(b.decisions.map((d) => d.at));
  const from = a.from + drop * a.step;
  const decisions = [...a.decisions.filter((d) => !seen.has(d.at) && Date.parse(d.at) >= from), ...b.decisions];
  return { step: a.step, from, columns, units: { ...a.units, ...b.units }, decisions };
}

/** Milliseconds of "10m", "1h", "90s". @param {string} range */
export function lengthOf(range) {
  const m = /^(\d+)([smh])$/.exec(range);
  return m ? Number(m[1]) * { s: 1000, m: 60_000, h: 3_600_000 }[/** @type {'s'|'m'|'h'} */ (m[2])] : 3_600_000;
}

const shortestPause = 2000; // Milliseconds between two questions.

/**
 * @param {{app?: string, deployment?: string, replica?: string}} object none of them: the node
 * @param {string} [range] "10m"; default the whole hour
 * @returns {{series: Series|null, error: ApiError|null}}
 */
export function useSeries(object, range = '1h') {
  const [state, setState] = useState({ key: '', series: /** @type {Series|null} */ (null), error: /** @type {ApiError|null} */ (null) });
  const { role } = useSession();
  const key = JSON.stringify([object.app, object.deployment, object.replica, range]);
  useEffect(() => {
    const abort = new AbortController();
    let timer = /** @type {any} */ (0);
    /** @type {Series|null} */
    let all = null;
    const ask = async () => {
      let pause = 5000;
      try {
        if (!document.hidden || !all) {
          const since = all ? new Date(end(all) - 2 * all.step).toISOString() : range; // The last steps may not have been whole.
          const more = read(await get('/api/v1/series', { ...object, since }, { signal: abort.signal }));
          all = all ? extend(all, more, lengthOf(range)) : more;
          pause = Math.max(shortestPause, all.step);
          setState({ key, series: all, error: null });
        }
      } catch (e) {
        if (abort.signal.aborted) return;
        if (e instanceof ApiError) setState((s) => ({ key, series: s.key === key ? s.series : null, error: /** @type {ApiError} */ (e) }));
      }
      if (!abort.signal.aborted) timer = setTimeout(ask, pause);
    };
    ask();
    return () => { abort.abort(); clearTimeout(timer); };
  }, [key, role]);
  return state.key === key ? { series: state.series, error: state.error } : { series: null, error: null };
}
