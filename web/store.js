// @ts-check
// A value that changes, and components that draw it.
//
//   const theme = createStore('light');
//   theme.set('dark');
//   const now = useStore(theme);                     // in a component: draws again when the value changes
//   const name = useStore(session, (s) => s.name);   // draws again only when the name changes
import { useEffect, useReducer, useRef } from './vendor/preact/standalone.module.js';

/**
 * @template T
 * @typedef {{get: () => T, set: (next: T) => void, subscribe: (run: () => void) => () => void}} Store
 */

/**
 * @template T
 * @param {T} value
 * @returns {Store<T>}
 */
export function createStore(value) {
  /** @type {Set<() => void>} */
  const readers = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const run of [...readers]) run();
    },
    subscribe(run) {
      readers.add(run);
      return () => { readers.delete(run); };
    },
  };
}

/**
 * The value of a store, or a part of it. The component is drawn again when that changes, by Object.is: a select function that makes a new object at each call
 * draws at each change of the store.
 * @template T
 * @template [U=T]
 * @param {Store<T>} store
 * @param {(value: T) => U} [select]
 * @returns {U}
 */
export function useStore(store, select) {
  const [, draw] = useReducer((/** @type {number} */ n) => n + 1, 0);
  const pick = select ?? ((/** @type {any} */ v) => v);
  const value = pick(store.get());
  const drawn = useRef({ value, pick });
  drawn.current = { value, pick };
  useEffect(() => {
    const check = () => {
      const { value, pick } = drawn.current;
      if (!Object.is(pick(store.get()), value)) draw(0);
    };
    check(); // The value may have changed between the drawing and this effect.
    return store.subscribe(check);
  }, [store]);
  return value;
}
