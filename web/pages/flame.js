// @ts-check
// The model of a flame graph: a tree of functions from folded stacks, its layout, search and moves. It draws nothing; flamegraph.js does.
//
//   const root = parseFolded("main;handle;score 30\nmain;handle 10\n");
//   const {boxes, rows} = layout(root, root);   // x and width are shares of the whole width, row 0 is the outermost function
//   search(root, "score");                      // {matches, value, share}

/**
 * A function with the functions that have called it.
 * @typedef {object} Frame
 * @property {string} name
 * @property {number} value the value of the function with all that it has called
 * @property {number} self the value of the function itself
 * @property {number} depth 0 for the root
 * @property {Frame|null} parent
 * @property {Frame[]} children the largest first
 */

/**
 * A frame that is drawn.
 * @typedef {object} Box
 * @property {Frame} frame
 * @property {number} row
 * @property {number} x share of the width, from 0 to 1
 * @property {number} width share of the width
 * @property {boolean} above whether it is a caller of the frame that is shown whole
 */

/**
 * A function with its values in all stacks.
 * @typedef {object} FunctionRow
 * @property {string} name
 * @property {number} self
 * @property {number} total the value of all stacks that have it; a recursive function counts once in a stack
 */

/** Narrower boxes are not drawn: a share of the width, about a pixel. */
export const MIN_SHARE = 1 / 1200;
/** The largest number of boxes that are drawn; the smallest ones are left out. */
export const MAX_BOXES = 1500;

/**
 * Reads folded stacks: a line has the functions from the outermost one, divided by semicolons, then a space and a number.
 * Lines that are not of this form count nothing.
 * @param {string} text
 * @returns {Frame}
 */
export function parseFolded(text) {
  /** @type {Frame} */
  const root = { name: 'all', value: 0, self: 0, depth: 0, parent: null, children: [] };
  /** @type {Map<Frame, Map<string, Frame>>} */
  const index = new Map();
  for (const line of text.split('\n')) {
    const cut = line.lastIndexOf(' ');
    const value = Number(line.slice(cut + 1));
    if (cut <= 0 || !(value > 0)) continue;
    root.value += value;
    let at = root;
    for (const name of line.slice(0, cut).split(';')) {
      let byName = index.get(at);
      if (!byName) index.set(at, (byName = new Map()));
      let child = byName.get(name);
      if (!child) {
        child = { name, value: 0, self: 0, depth: at.depth + 1, parent: at, children: [] };
        byName.set(name, child);
        at.children.push(child);
      }
      child.value += value;
      at = child;
    }
    at.self += value;
  }
  for (const frame of each(root)) frame.children.sort((a, b) => b.value - a.value || (a.name < b.name ? -1 : 1));
  return root;
}

/**
 * All frames below and with one, a caller before the functions that it has called.
 * @param {Frame} root
 * @returns {Generator<Frame>}
 */
export function* each(root) {
  const open = [root];
  for (let frame = open.pop(); frame; frame = open.pop()) {
    yield frame;
    for (let i = frame.children.length - 1; i >= 0; i--) open.push(frame.children[i]);
  }
}

/**
 * The boxes of a frame that is shown over the whole width: its callers above, and all that it has called below.
 * @param {Frame} shown
 * @param {{minShare?: number, maxBoxes?: number}} [limits]
 * @returns {{boxes: Box[], rows: number, hidden: number}} the boxes row by row and from left to right; hidden is the number of frames that are too small
 */
export function layout(shown, { minShare = MIN_SHARE, maxBoxes = MAX_BOXES } = {}) {
  /** @type {Box[]} */
  let boxes = [];
  for (let up = shown.parent; up; up = up.parent) boxes.push({ frame: up, row: up.depth, x: 0, width: 1, above: true });
  const whole = shown.value || 1;
  let hidden = 0;
  /** @type {{frame: Frame, x: number}[]} */
  const open = [{ frame: shown, x: 0 }];
  for (let at = open.pop(); at; at = open.pop()) {
    const width = at.frame.value / whole;
    if (width < minShare && at.frame !== shown) {
      hidden += count(at.frame);
      continue;
    }
    boxes.push({ frame: at.frame, row: at.frame.depth, x: at.x, width: at.frame === shown ? 1 : width, above: false });
    let x = at.x;
    for (const child of at.frame.children) {
      open.push({ frame: child, x });
      x += child.value / whole;
    }
  }
  if (boxes.length > maxBoxes) {
    // A caller is at least as large as the functions that it calls, so no box loses its caller.
    boxes.sort((a, b) => Number(b.above) - Number(a.above) || b.frame.value - a.frame.value || a.row - b.row);
    hidden += boxes.length - maxBoxes;
    boxes = boxes.slice(0, maxBoxes);
  }
  boxes.sort((a, b) => a.row - b.row || a.x - b.x);
  return { boxes, rows: boxes.reduce((most, b) => Math.max(most, b.row + 1), 0), hidden };
}

/** @param {Frame} root */
function count(root) {
  let n = 0;
  for (const _ of each(root)) n++;
  return n;
}

/**
 * The frames whose name has a text, in letters of any case.
 * @param {Frame} root
 * @param {string} text an empty text finds nothing
 * @returns {{matches: Set<Frame>, value: number, share: number}} value is that of the stacks with such a frame, each counted once
 */
export function search(root, text) {
  const matches = new Set();
  const wanted = text.trim().toLowerCase();
  if (!wanted) return { matches, value: 0, share: 0 };
  let value = 0;
  /** @type {{frame: Frame, inside: boolean}[]} */
  const open = [{ frame: root, inside: false }];
  for (let at = open.pop(); at; at = open.pop()) {
    let inside = at.inside;
    if (at.frame.parent && at.frame.name.toLowerCase().includes(wanted)) {
      matches.add(at.frame);
      if (!inside) value += at.frame.value;
      inside = true;
    }
    for (const frame of at.frame.children) open.push({ frame, inside });
  }
  return { matches, value, share: root.value ? value / root.value : 0 };
}

/**
 * The functions of all stacks, those with the most of their own first.
 * @param {Frame} root
 * @returns {FunctionRow[]}
 */
export function functions(root) {
  /** @type {Map<string, FunctionRow>} */
  const rows = new Map();
  /** @type {Map<string, number>} how often a name is on the path to the frame */
  const path = new Map();
  /** @type {{frame: Frame, leave: boolean}[]} */
  const open = root.children.map((frame) => ({ frame, leave: false }));
  for (let at = open.pop(); at; at = open.pop()) {
    const { frame } = at;
    const times = path.get(frame.name) ?? 0;
    if (at.leave) {
      path.set(frame.name, times - 1);
      continue;
    }
    path.set(frame.name, times + 1);
    const row = rows.get(frame.name) ?? { name: frame.name, self: 0, total: 0 };
    rows.set(frame.name, row);
    row.self += frame.self;
    if (!times) row.total += frame.value;
    open.push({ frame, leave: true });
    for (const child of frame.children) open.push({ frame: child, leave: false });
  }
  return [...rows.values()].sort((a, b) => b.self - a.self || b.total - a.total || (a.name < b.name ? -1 : 1));
}

/**
 * The box to which a key moves: ArrowUp to the caller, ArrowDown to the largest function that it calls, ArrowLeft and ArrowRight to the neighbours in its row,
 * Home to the outermost function. It is the same box where there is none, and for other keys.
 * @param {Box[]} boxes as layout has them
 * @param {Box} from
 * @param {string} key
 * @returns {Box}
 */
export function move(boxes, from, key) {
  const at = boxes.indexOf(from);
  /** @param {Frame|null|undefined} frame */
  const of = (frame) => (frame && boxes.find((b) => b.frame === frame)) || from;
  switch (key) {
    case 'ArrowUp':
      return of(from.frame.parent);
    case 'ArrowDown': {
      // A caller of the frame that is shown whole has one box below it, whichever of its functions is the largest.
      if (from.above) return boxes.find((b) => b.row === from.row + 1) ?? from;
      return of(from.frame.children[0]);
    }
    case 'ArrowLeft':
      return boxes[at - 1]?.row === from.row ? boxes[at - 1] : from;
    case 'ArrowRight':
      return boxes[at + 1]?.row === from.row ? boxes[at + 1] : from;
    case 'Home':
      return boxes[0];
  }
  return from;
}

/**
 * The package of a function, by which boxes have their colours: "asyncio" of asyncio.tasks.sleep, "example.com/shop/rank" of example.com/shop/rank.(*Ranker).Rank.
 * @param {string} name
 */
export function packageOf(name) {
  const slash = name.lastIndexOf('/');
  const dot = name.indexOf('.', slash + 1);
  return dot < 0 ? name : name.slice(0, dot);
}

/**
 * The numbers of the colours of packages: those with the most of their own have colours that differ, and further ones share them.
 * @param {Frame} root
 * @param {number} colours
 * @returns {(name: string) => number} for the name of a function; -1 for a name without a package, such as that of a thread
 */
export function colouring(root, colours) {
  /** @type {Map<string, number>} */
  const own = new Map();
  for (const frame of each(root)) {
    const name = packageOf(frame.name);
    if (frame.parent && name !== frame.name) own.set(name, (own.get(name) ?? 0) + frame.self);
  }
  const order = [...own].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const numbers = new Map(order.map(([name], i) => [name, i % colours]));
  return (name) => numbers.get(packageOf(name)) ?? -1;
}
