// @ts-check
// Numbers, times and sizes as text, with their units. All functions are pure: no clock and no zone but those that they get, except for clock() and date(), which
// use the zone of the viewer.
//
//   count(1204) "1,204"   rate(12.34) "12.3/s"   percent(0.034) "3.4 %"   ms(1263) "1.26 s"   seconds(4000) "1 h 6 min"   bytes(26001408) "24.8 MiB"
//   age("2026-11-30T16:25:28Z", Date.now()) "3 min"
// A value that is null, undefined or NaN is "–": unknown is not 0.

export const unknown = '–';

/** @param {number|null|undefined} n @returns {n is number} */
const known = (n) => typeof n === 'number' && Number.isFinite(n);

/**
 * Three digits that count: 0.123, 1.23, 12.3, 123, 1,234.
 * @param {number} n
 */
function digits(n) {
  const a = Math.abs(n);
  if (a === 0) return '0';
  const places = a >= 99.95 ? 0 : a >= 9.995 ? 1 : a >= 0.9995 ? 2 : 3;
  const text = n.toFixed(places);
  return places === 0 ? count(Number(text)) : text.replace(/\.?0+$/, '');
}

/** @param {number|null|undefined} n */
export function count(n) {
  if (!known(n)) return unknown;
  return Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A number with at most three digits that count. @param {number|null|undefined} n */
export const number = (n) => (known(n) ? digits(n) : unknown);

/** @param {number|null|undefined} n calls in a second */
export const rate = (n) => (known(n) ? digits(n) + '/s' : unknown);

/** @param {number|null|undefined} n a part of 1 */
export function percent(n) {
  if (!known(n)) return unknown;
  const p = n * 100;
  if (p !== 0 && Math.abs(p) < 0.01) return '< 0.01 %';
  return digits(p) + ' %';
}

/** @param {number|null|undefined} n milliseconds @returns {string} */
export function ms(n) {
  if (!known(n)) return unknown;
  if (n < 0.01 && n > 0) return digits(n * 1000) + ' µs';
  if (n < 999.5) return digits(n) + ' ms';
  if (n < 59_950) return digits(n / 1000) + ' s';
  return seconds(n / 1000);
}

/** @param {number|null|undefined} n seconds; two units at most @returns {string} */
export function seconds(n) {
  if (!known(n)) return unknown;
  if (n < 1) return n <= 0 ? '0 s' : ms(n * 1000);
  const s = Math.round(n);
  if (s < 60) return s + ' s';
  /** @type {[string, number][]} */
  const units = [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]];
  const i = units.findIndex(([, size]) => s >= size);
  const [unit, size] = units[i];
  const whole = Math.floor(s / size);
  const next = units[i + 1];
  const rest = next ? Math.floor((s - whole * size) / next[1]) : 0;
  return `${whole} ${unit}` + (rest > 0 ? ` ${rest} ${next[0]}` : '');
}

/** @param {number|null|undefined} n */
export function bytes(n) {
  if (!known(n)) return unknown;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let i = 0;
  while (Math.abs(n) >= 1023.5 && i < units.length - 1) { n /= 1024; i++; }
  return `${digits(n)} ${units[i]}`;
}

/**
 * The milliseconds since 1970 of a time of the API; NaN for none.
 * @param {string|number|Date|null|undefined} at
 */
export function stamp(at) {
  if (at === null || at === undefined || at === '' || (typeof at === 'string' && at.startsWith('0001-'))) return NaN; // The zero of a time in Go.
  return new Date(at).getTime();
}

/**
 * The time since at, in one unit: "12 s", "3 min", "5 h", "2 d".
 * @param {string|number|Date|null|undefined} at
 * @param {number} now milliseconds since 1970
 */
export function age(at, now) {
  const t = stamp(at);
  if (!known(t)) return unknown;
  const s = Math.max(0, (now - t) / 1000);
  if (s < 60) return Math.floor(s) + ' s';
  if (s < 3600) return Math.floor(s / 60) + ' min';
  if (s < 86_400) return Math.floor(s / 3600) + ' h';
  return Math.floor(s / 86_400) + ' d';
}

/** @param {number} n @param {number} [width] */
const pad = (n, width = 2) => String(n).padStart(width, '0');

/**
 * The time of the day in the zone of the viewer, "16:25:28"; "16:25:28.636" with milliseconds.
 * @param {string|number|Date|null|undefined} at
 * @param {boolean} [milliseconds]
 */
export function clock(at, milliseconds = false) {
  const t = stamp(at);
  if (!known(t)) return unknown;
  const d = new Date(t);
  return `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}` + (milliseconds ? '.' + pad(d.getMilliseconds(), 3) : '');
}

/**
 * The day and the time in the zone of the viewer, "2026-11-30 16:25:28".
 * @param {string|number|Date|null|undefined} at
 */
export function date(at) {
  const t = stamp(at);
  if (!known(t)) return unknown;
  const d = new Date(t);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(t)}`;
}

/**
 * The time of the day, with the day in front if that is another one than now's.
 * @param {string|number|Date|null|undefined} at
 * @param {number} now
 */
export function when(at, now) {
  const t = stamp(at);
  if (!known(t)) return unknown;
  return new Date(t).toDateString() === new Date(now).toDateString() ? clock(t) : date(t);
}

/**
 * A sentence of the node with its times in the zone of the viewer: "until 2026-05-04T12:05:00Z" is "until 2026-05-04 14:05:00" in Berlin.
 * @param {string|null|undefined} text
 */
export const local = (text) => (text ?? '').replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, (at) => date(at));

/** The zone of the viewer, such as "Europe/Berlin". */
export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || 'local time';

/** @param {number|null|undefined} n @param {string} one @param {string} [many] */
export const plural = (n, one, many = one + 's') => `${count(n)} ${n === 1 ? one : many}`;

/** A value of JSON as one line. A text stands without its quotation marks. @param {any} v */
export function value(v) {
  if (v === null || v === undefined) return unknown;
  return typeof v === 'string' ? v : JSON.stringify(v);
}
