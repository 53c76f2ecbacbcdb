// Types of what the dashboard uses of standalone.module.js, for the checker of types in the tests. This file is Helve's own.
export type Node = any;
export type Component<P = any> = (props: P) => Node;
export type State<T> = [T, (next: T | ((before: T) => T)) => void];
export type Ref<T> = { current: T };

export function h(type: any, props?: any, ...children: any[]): Node;
export function html(strings: TemplateStringsArray, ...values: any[]): Node;
export function render(node: Node, parent: Element): void;
export function createContext<T>(value: T): any;
export function useState<T>(first: T | (() => T)): State<T>;
export function useReducer<S, A>(reduce: (state: S, action: A) => S, first: S): [S, (action: A) => void];
export function useEffect(run: () => void | (() => void), inputs?: readonly any[]): void;
export function useLayoutEffect(run: () => void | (() => void), inputs?: readonly any[]): void;
export function useRef<T = any>(first?: T): Ref<T>;
export function useMemo<T>(make: () => T, inputs: readonly any[]): T;
export function useCallback<F extends Function>(f: F, inputs: readonly any[]): F;
export function useContext<T = any>(context: any): T;
export function useErrorBoundary(onError?: (error: any) => void): [any, () => void];
