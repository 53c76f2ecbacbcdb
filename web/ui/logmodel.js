// @ts-check
// The lines of logs that the page keeps: a bounded list with the heights of its rows, so that the page draws only those that are seen. It is pure.
//
// A row has as many lines of text as its message, up to `foldAt`; a row that is open has the height that the page has measured. For example, with lines of 20 pixels a message of
// one line and a traceback of three are rows of 20 and 60 pixels, and rowAt(25) is the traceback.

/**
 * A record of GET /api/v1/logs.
 * @typedef {{time: string, level: string, app?: string, deployment?: string, replica?: string, request_id?: string, trace_id?: string, stream?: string, logger?: string,
 *   message: string, attributes?: Record<string, string>}} LogLine
 *
 * A line that the page keeps. `seq` numbers it; it stays the same while other lines come and go. `missed` of a row is the number of lines that the node says that it could not
 * send before the next one; such a row has no line.
 * @typedef {{seq: number, line: LogLine|null, missed: number, lines: number, height: number}} LogRow
 */

/** The largest number of lines of one message that a row shows; the rest is there when the row is open. */
export const foldAt = 30;

/** The number of lines that the page keeps. */
export const kept = 5000;

/**
 * The number of lines of text of a message.
 * @param {string} text
 * @returns {number}
 */
export function countLines(text) {
  let n = 1;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) n++;
  return n;
}

/**
 * The first lines of a message.
 * @param {string} text
 * @param {number} most
 * @returns {string}
 */
export function firstLines(text, most) {
  let at = -1;
  for (let n = 0; n < most; n++) {
    at = text.indexOf('\n', at + 1);
    if (at < 0) return text;
  }
  return text.slice(0, at);
}

/**
 * A text in pieces, those that are found and those between. Letters of any case are found, as by the node.
 * @param {string} text
 * @param {string} wanted
 * @returns {{text: string, found: boolean}[]}
 */
export function pieces(text, wanted) {
  const list = [], low = text.toLowerCase(), want = wanted.toLowerCase();
  if (want === '' || low.length !== text.length) return [{ text, found: false }]; // a letter whose small form is longer: places would be wrong
  let at = 0;
  for (let hit = low.indexOf(want); hit >= 0; hit = low.indexOf(want, at)) {
    if (hit > at) list.push({ text: text.slice(at, hit), found: false });
    list.push({ text: text.slice(hit, hit + want.length), found: true });
    at = hit + want.length;
  }
  if (at < text.length || list.length === 0) list.push({ text: text.slice(at), found: false });
  return list;
}

export class LogModel {
  /**
   * @param {{line?: number, pad?: number, most?: number}} [size] `line` is the height of a line of text, `pad` what a row has beside it, both in pixels; `most` the number of lines that are kept.
   */
  constructor({ line = 20, pad = 0, most = kept } = {}) {
    this.lineHeight = line;
    this.pad = pad;
    this.most = most;
    /** @type {LogRow[]} */
    this.rows = [];
    /** The number of old lines that were dropped for newer ones. */
    this.dropped = 0;
    this.next = 1;
    this.before = 0;
    /** @type {Map<number, number>} The measured heights of open rows by their numbers; 0 until one is measured. */
    this.open = new Map();
    /** @type {number[]} Where each row begins; one more for the end. */
    this.tops = [0];
    this.stale = 0; // the first row whose begin is not counted yet
  }

  /** Sets what a row has beside its lines of text, in pixels. @param {number} pad */
  setPad(pad) {
    if (pad === this.pad) return;
    this.pad = pad;
    for (const row of this.rows) row.height = this.#height(row);
    this.stale = 0;
  }

  /** @param {LogRow} row */
  #height(row) {
    const closed = Math.min(row.lines, foldAt) * this.lineHeight + this.pad;
    return Math.max(closed, this.open.get(row.seq) ?? 0);
  }

  /** @param {LogLine|null} line @param {number} missed @param {number} seq @returns {LogRow} */
  #row(line, missed, seq) {
    const lines = line ? countLines(line.message) : 1;
    const row = { seq, line, missed, lines, height: 0 };
    row.height = this.#height(row);
    return row;
  }

  /**
   * Adds lines behind the others. The oldest ones leave if there are too many.
   * @param {({line: LogLine} | {missed: number})[]} items
   */
  add(items) {
    this.stale = Math.min(this.stale, this.rows.length);
    for (const item of items) {
      this.rows.push('line' in item ? this.#row(item.line, 0, this.next++) : this.#row(null, item.missed, this.next++));
    }
    this.#cut(this.rows.length - this.most);
  }

  /**
   * Adds older lines before the others, as many as have room: the newest of them.
   * @param {LogLine[]} lines the oldest first
   * @returns {number} how many were added
   */
  addOlder(lines) {
    const room = Math.max(this.most - this.rows.length, 0), fit = room > 0 ? lines.slice(-room) : [];
    this.before -= fit.length;
    this.rows.unshift(...fit.map((line, i) => this.#row(line, 0, this.before + 1 + i)));
    this.stale = 0;
    return fit.length;
  }

  /** @param {number} n */
  #cut(n) {
    if (n <= 0) return;
    for (const row of this.rows.splice(0, n)) {
      this.open.delete(row.seq);
      this.dropped++;
    }
    this.stale = 0;
  }

  clear() {
    this.rows = [];
    this.open.clear();
    this.dropped = 0;
    this.stale = 0;
  }

  /** Opens a row, or closes it. @param {number} seq */
  toggle(seq) {
    if (!this.open.delete(seq)) this.open.set(seq, 0);
    this.#again(seq);
  }

  /**
   * Says how high an open row is.
   * @param {number} seq
   * @param {number} height
   * @returns {boolean} whether that has changed something
   */
  measured(seq, height) {
    if (!this.open.has(seq) || this.open.get(seq) === height) return false;
    this.open.set(seq, height);
    this.#again(seq);
    return true;
  }

  /** @param {number} seq */
  #again(seq) {
    const at = this.indexOf(seq);
    if (at < 0) return;
    this.rows[at].height = this.#height(this.rows[at]);
    this.stale = Math.min(this.stale, at);
  }

  /** The place of a row by its number, -1 for none. @param {number} seq */
  indexOf(seq) {
    let low = 0, high = this.rows.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (this.rows[mid].seq < seq) low = mid + 1;
      else high = mid;
    }
    return this.rows[low]?.seq === seq ? low : -1;
  }

  #count() {
    this.tops.length = this.rows.length + 1;
    if (this.stale === 0) this.tops[0] = 0;
    for (let i = this.stale; i < this.rows.length; i++) this.tops[i + 1] = this.tops[i] + this.rows[i].height;
    this.stale = this.rows.length;
  }

  /** The height of all rows in pixels. @returns {number} */
  height() {
    this.#count();
    return this.tops[this.rows.length];
  }

  /** Where a row begins, in pixels. @param {number} index @returns {number} */
  topOf(index) {
    this.#count();
    return this.tops[index];
  }

  /** The row at a height; the last one below all. @param {number} y @returns {number} */
  rowAt(y) {
    this.#count();
    let low = 0, high = this.rows.length - 1;
    while (low < high) {
      const mid = (low + high + 1) >> 1;
      if (this.tops[mid] <= y) low = mid;
      else high = mid - 1;
    }
    return Math.max(low, 0);
  }

  /**
   * The rows that are seen: indexes from..to, without `to`.
   * @param {number} top
   * @param {number} height
   * @returns {{from: number, to: number}}
   */
  seen(top, height) {
    if (this.rows.length === 0) return { from: 0, to: 0 };
    return { from: this.rowAt(top), to: this.rowAt(top + height) + 1 };
  }

  /** The newest line. @returns {LogLine|null} */
  newest() {
    for (let i = this.rows.length - 1; i >= 0; i--) if (this.rows[i].line) return this.rows[i].line;
    return null;
  }

  /** The oldest line. @returns {LogLine|null} */
  oldest() {
    return this.rows.find((r) => r.line)?.line ?? null;
  }
}
