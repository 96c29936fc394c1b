// Loads, stores, atomics and control flow.
import type { Compiler } from './instructions.ts';
import type { Code } from './operands.ts';
import type { Operand } from './parse.ts';
import type { Thread } from './machine.ts';
import { sharedBase } from './memory.ts';

const sizes: Record<string, number> = {
  b8: 1,
  u8: 1,
  s8: 1,
  b16: 2,
  u16: 2,
  s16: 2,
  b32: 4,
  u32: 4,
  s32: 4,
  f32: 4,
  b64: 8,
  u64: 8,
  s64: 8,
  f64: 8,
};

interface Place {
  readonly view: DataView;
  readonly offset: number;
}

/** Where `bytes` at an address lie. Throws a sentence when they lie nowhere. */
function locator(c: Code): (t: Thread, address: number, bytes: number) => Place {
  const { memory, parameterView } = c.machine;
  if (c.has.has('param')) return (_, address) => ({ view: parameterView, offset: address });
  if (c.i.modifiers.some((m) => m.startsWith('shared')))
    return (t, address, bytes) => {
      const { shared, sharedView } = t.cta;
      if (address % bytes !== 0) throw new Error(`shared address ${address} is not a multiple of ${bytes}`);
      if (address < sharedBase || address + bytes > shared.length)
        throw new Error(`shared address ${address} is out of bounds: ${sharedBase} to ${shared.length}`);
      return { view: sharedView, offset: address };
    };
  return (_, address, bytes) => {
    const a = memory.locate(address, bytes);
    return { view: a.view, offset: address - a.base };
  };
}

const partsOf = (o: Operand): readonly Operand[] => (o.kind === 'vector' ? o.items : [o]);

function load(c: Code): (t: Thread) => void {
  const size = sizes[c.type] ?? c.fail(`type ${c.type}`);
  const signed = c.type.startsWith('s');
  const to = partsOf(c.operand(0));
  const address = c.address(1);
  const locate = locator(c);
  const ints = to.map((o) => c.putIntOf(o));
  const longs = to.map((o) => c.putLongOf(o));
  return (t) => {
    const { view, offset } = locate(t, address(t), size * to.length);
    for (let i = 0; i < to.length; i++) {
      const at = offset + i * size;
      if (size === 8) longs[i](t, view.getBigUint64(at, true));
      else if (size === 4) ints[i](t, view.getInt32(at, true));
      else if (size === 2) ints[i](t, signed ? view.getInt16(at, true) : view.getUint16(at, true));
      else ints[i](t, signed ? view.getInt8(at) : view.getUint8(at));
    }
  };
}

function store(c: Code): (t: Thread) => void {
  const size = sizes[c.type] ?? c.fail(`type ${c.type}`);
  const from = partsOf(c.operand(1));
  const address = c.address(0);
  const locate = locator(c);
  const ints = size === 8 ? [] : from.map((o) => c.intOf(o));
  const longs = size === 8 ? from.map((o) => c.longOf(o)) : [];
  return (t) => {
    const { view, offset } = locate(t, address(t), size * from.length);
    for (let i = 0; i < from.length; i++) {
      const at = offset + i * size;
      if (size === 8) view.setBigUint64(at, longs[i](t), true);
      else if (size === 4) view.setInt32(at, ints[i](t), true);
      else if (size === 2) view.setInt16(at, ints[i](t), true);
      else view.setInt8(at, ints[i](t));
    }
  };
}

const operations: Record<string, (old: number, v: number, type: string) => number> = {
  add: (old, v) => old + v,
  min: (old, v, type) => (type === 'u32' ? Math.min(old >>> 0, v >>> 0) : Math.min(old, v)),
  max: (old, v, type) => (type === 'u32' ? Math.max(old >>> 0, v >>> 0) : Math.max(old, v)),
  and: (old, v) => old & v,
  or: (old, v) => old | v,
  xor: (old, v) => old ^ v,
  exch: (_, v) => v,
  inc: (old, v) => (old >>> 0 >= v >>> 0 ? 0 : old + 1),
};

/** atom and red on 32 bits. */
function atomic(c: Code, returns: boolean): (t: Thread) => void {
  const name = c.i.modifiers.find((m) => operations[m]) ?? c.fail('which operation?');
  if (sizes[c.type] !== 4) c.fail('only 32 bits here');
  const shift = returns ? 1 : 0;
  const address = c.address(shift);
  const locate = locator(c);
  const d = returns ? c.putInt(0) : null;
  if (c.type === 'f32') {
    const v = c.float(1 + shift);
    return (t) => {
      const { view, offset } = locate(t, address(t), 4);
      d?.(t, view.getInt32(offset, true));
      view.setFloat32(offset, view.getFloat32(offset, true) + v(t), true);
    };
  }
  const v = c.int(1 + shift);
  const op = operations[name];
  return (t) => {
    const { view, offset } = locate(t, address(t), 4);
    const old = view.getInt32(offset, true);
    view.setInt32(offset, op(old, v(t), c.type), true);
    d?.(t, old);
  };
}

const nothing: Compiler = () => () => {};
const leave: Compiler = () => (t) => {
  t.done = true;
};

export const data: Readonly<Record<string, Compiler>> = {
  ld: load,
  st: store,
  atom: (c) => atomic(c, true),
  red: (c) => atomic(c, false),
  // Memory is always coherent here.
  membar: nothing,
  fence: nothing,
  bra: (c) => {
    const o = c.operand(0);
    const target = o.kind === 'symbol' ? c.machine.entry.labels.get(o.name) : undefined;
    if (target === undefined) return c.fail('no such label');
    return (t) => {
      t.pc = target;
    };
  },
  ret: leave,
  exit: leave,
  trap: () => () => {
    throw new Error('trap');
  },
};
