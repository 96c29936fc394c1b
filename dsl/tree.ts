// What blocks take and give: handles, alone or in lists and objects, among plain values. Flattened to the IR's
// operands and rebuilt on the other side.
import { Handle, isPoison, StateHandle, TensorHandle, type AnyHandle } from './tensor.ts';
import { nanReported } from './context.ts';
import { showType } from '../ir/types.ts';

const isHandle = (v: unknown): v is AnyHandle => v instanceof Handle || v instanceof StateHandle;

const isPlain = (v: unknown): v is Readonly<Record<string, unknown>> =>
  typeof v === 'object' &&
  v !== null &&
  (Object.getPrototypeOf(v) === Object.prototype || Object.getPrototypeOf(v) === null);

/** Handles in order, each with the words that lead to it. */
export function leavesOf(value: unknown, path = ''): { readonly handle: AnyHandle; readonly path: string }[] {
  if (isHandle(value)) return [{ handle: value, path }];
  if (Array.isArray(value))
    return value.flatMap((v, i) => leavesOf(v, path === '' ? `${i}` : `${path}_${i}`));
  if (isPlain(value)) return Object.entries(value).flatMap(([k, v]) => leavesOf(v, k));
  return [];
}

/** True when some part is unknown because of an earlier mistake. */
export function hasPoison(value: unknown): boolean {
  if (isPoison(value) || (Number.isNaN(value) && nanReported())) return true;
  if (isHandle(value)) return false;
  if (Array.isArray(value)) return value.some(hasPoison);
  return isPlain(value) && Object.values(value).some(hasPoison);
}

/** The same structure with each handle replaced, in order. */
export function rebuild(value: unknown, next: (old: AnyHandle) => unknown): unknown {
  if (isHandle(value)) return next(value);
  if (Array.isArray(value)) return value.map((v) => rebuild(v, next));
  if (isPlain(value)) return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, rebuild(v, next)]));
  return value;
}

/** A handle's type with the author's dims: blocks are traced once for each. */
export function signature(h: AnyHandle): string {
  if (h instanceof TensorHandle) return String(h);
  if (h instanceof StateHandle) return `state ${h.state}${h.count === null ? '' : `[${h.count}]`}`;
  return showType(h.value.type);
}

const functionIds = new WeakMap<object, number>();
let nextId = 0;
function idOf(f: object): number {
  const id = functionIds.get(f) ?? nextId++;
  functionIds.set(f, id);
  return id;
}

/** What a structure is, handles by type and everything else by value. */
export function keyOf(value: unknown): string {
  if (isHandle(value)) return `<${signature(value)}>`;
  if (Array.isArray(value)) return `[${value.map(keyOf).join(',')}]`;
  if (isPlain(value))
    return `{${Object.entries(value)
      .map(([k, v]) => `${JSON.stringify(k)}:${keyOf(v)}`)
      .join(',')}}`;
  if (typeof value === 'function' || (typeof value === 'object' && value !== null)) return `#${idOf(value)}`;
  return `${typeof value}:${String(value)}`;
}
