// Asynchronous copies and the barriers they report to: mbarrier, cp.async, and TMA through tensor maps.
import type { Copies } from './async-work.ts';
import type { Compiler } from './instructions.ts';
import type { Thread } from './machine.ts';
import { sharedBase } from './memory.ts';
import type { Code, Get } from './operands.ts';
import { forEachBoxRow, swizzled, type TensorMap } from './tensor-map.ts';

const copies = (t: Thread): Copies => t.cta.work.copies(t.tid);

/** Waits: the thread gives up its turn and comes to the same instruction again. */
const again = (t: Thread): void => {
  t.pc--;
  t.rests = true;
};

const checked = (t: Thread, address: number, bytes: number, align: number): number => {
  if (address % align !== 0) throw new Error(`shared address ${address} is not a multiple of ${align}`);
  if (address < sharedBase || address + bytes > t.cta.shared.length)
    throw new Error(
      `shared address ${address} and ${bytes} bytes are out of bounds: ${sharedBase} to ${t.cta.shared.length}`,
    );
  return address;
};

const mbarrier: Compiler = (c) => {
  const [kind] = c.i.modifiers;
  if (kind === 'init') {
    const [address, count] = [c.address(0), c.int(1)];
    return (t) => {
      const expected = count(t);
      if (expected < 1) throw new Error(`an mbarrier of ${expected} arrivals`);
      t.cta.work.barriers.set(checked(t, address(t), 8, 8), {
        phase: 0,
        pending: expected,
        expected,
        bytes: 0,
      });
    };
  }
  if (kind === 'arrive') {
    if (c.operand(0).kind !== 'sink') c.fail('the state of the phase is not kept');
    const address = c.address(1);
    const [operand, expects] = [c.i.operands.length > 2 ? c.int(2) : null, c.has.has('expect_tx')];
    if (operand && !expects) c.fail('one arrival at a time');
    return (t) => t.cta.work.arrive(t.cta.work.barrier(address(t)), 1, operand ? -operand(t) : 0);
  }
  if (kind !== 'try_wait' || !c.has.has('parity'))
    return c.fail('an mbarrier instruction that ptx-run does not know');
  const [d, address, parity] = [c.putPredicate(0), c.address(1), c.int(2)];
  return (t) => {
    const { phase } = t.cta.work.barrier(address(t));
    const is = (phase & 1) !== parity(t);
    // It may also give up although the phase has completed; who waits must ask again.
    const done = is && t.cta.work.chance() > 0.05;
    d(t, done);
    t.rests = !done;
  };
};

/** The tensor map and the coordinates that an operand `[map, {x, y, …}]` names. */
function box(
  c: Code,
  n: number,
): (t: Thread) => { readonly map: TensorMap; readonly origin: readonly number[] } {
  const o = c.operand(n);
  if (o.kind !== 'tensor') return c.fail('expected a tensor map and coordinates');
  const map = c.longOf(o.base);
  const coordinates = o.coordinates.map((x): Get<number> => c.intOf(x));
  return (t) => {
    const found = c.machine.tensorMap(Number(map(t)));
    if (found.dims.length !== coordinates.length)
      throw new Error(`a tensor map of ${found.dims.length} dims, ${coordinates.length} coordinates`);
    return { map: found, origin: coordinates.map((x) => x(t)) };
  };
}

const boxBytes = (map: TensorMap): number => map.box.reduce((a, b) => a * b, map.elementBytes);

function bulkLoad(c: Code): (t: Thread) => void {
  const [to, source, barrier] = [c.address(0), box(c, 1), c.address(2)];
  return (t) => {
    const { cta } = t;
    const { map, origin } = source(t);
    const bytes = boxBytes(map);
    const start = checked(t, to(t), bytes, 128);
    const b = cta.work.barrier(barrier(t));
    cta.work.later(() => {
      forEachBoxRow(map, origin, start, (shared, global, from, until) => {
        const to = (i: number): number => swizzled(shared + i, map.swizzle);
        for (let i = 0; i < map.box[0] * map.elementBytes; i++)
          if (i < from || i >= until) cta.shared[to(i)] = 0;
        for (const [at, part] of partsOf(c, global + from, until - from))
          for (let i = 0; i < part.length; i++) cta.shared[to(from + at + i)] = part[i];
      });
      cta.work.arrive(b, 0, bytes);
    });
  };
}

function bulkStore(c: Code): (t: Thread) => void {
  const [target, from] = [box(c, 0), c.address(1)];
  return (t) => {
    const { cta } = t;
    const { map, origin } = target(t);
    const start = checked(t, from(t), boxBytes(map), 128);
    const store = { done: false };
    copies(t).stores.add(store);
    cta.work.later(() => {
      forEachBoxRow(map, origin, start, (shared, global, first, until) => {
        for (const [at, part] of partsOf(c, global + first, until - first))
          for (let i = 0; i < part.length; i++)
            part[i] = cta.shared[swizzled(shared + first + at + i, map.swizzle)];
      });
      store.done = true;
    });
  };
}

/** Bytes of global memory in one piece, or page by page, each with its place. Throws when they leave an allocation. */
function partsOf(c: Code, address: number, count: number): readonly (readonly [number, Uint8Array])[] {
  const parts: (readonly [number, Uint8Array])[] = [];
  for (let at = 0; at < count;) {
    const { base, bytes } = c.machine.memory.locate(address + at, 1);
    const from = address + at - base;
    const part = bytes.subarray(from, Math.min(bytes.length, from + count - at));
    parts.push([at, part]);
    at += part.length;
  }
  // The end counts as accessed, and must be there.
  if (count > 0) c.machine.memory.locate(address + count - 1, 1);
  return parts;
}

/** cp.async of a few bytes per thread; a smaller source size fills up with zeros. */
function copyWords(c: Code): (t: Thread) => void {
  const [to, from, size] = [c.address(0), c.address(1), c.int(2)];
  const source = c.i.operands.length > 3 ? c.int(3) : size;
  return (t) => {
    const { cta } = t;
    const [bytes, taken] = [size(t), source(t)];
    if (![4, 8, 16].includes(bytes) || taken > bytes || taken < 0)
      throw new Error(`cp.async of ${bytes} bytes, ${taken} from memory`);
    const target = checked(t, to(t), bytes, bytes);
    const global = from(t);
    copies(t).underWay++;
    cta.work.later(() => {
      cta.shared.fill(0, target, target + bytes);
      if (taken > 0) {
        const { base, bytes: array } = c.machine.memory.locate(global, bytes);
        cta.shared.set(array.subarray(global - base, global - base + taken), target);
      }
      copies(t).underWay--;
    });
  };
}

/** cp.async.mbarrier.arrive.noinc: arrives when this thread's copies have landed. */
function arriveAfterCopies(c: Code): (t: Thread) => void {
  const address = c.address(0);
  return (t) => {
    const barrier = t.cta.work.barrier(address(t));
    const arrive = (): void => {
      if (copies(t).underWay > 0) t.cta.work.later(arrive);
      else t.cta.work.arrive(barrier, 1, 0);
    };
    t.cta.work.later(arrive);
  };
}

const copy: Compiler = (c) => {
  const name = c.i.modifiers.join('.');
  if (/^async\.bulk\.tensor\.[1-5]d\.shared::cluster\.global\.mbarrier::complete_tx::bytes$/.test(name))
    return bulkLoad(c);
  if (/^async\.bulk\.tensor\.[1-5]d\.global\.shared::cta\.bulk_group$/.test(name)) return bulkStore(c);
  if (name === 'async.bulk.commit_group') return (t) => copies(t).stores.commit();
  if (/^async\.bulk\.wait_group(\.read)?$/.test(name)) {
    const keep = c.int(0);
    return (t) => {
      const { stores } = copies(t);
      if (stores.before(keep(t)).some((group) => group.some((s) => !s.done))) again(t);
      else stores.take(keep(t));
    };
  }
  if (/^async\.c[ag]\.shared(::cta)?\.global$/.test(name)) return copyWords(c);
  if (name === 'async.mbarrier.arrive.noinc.shared::cta.b64') return arriveAfterCopies(c);
  if (name === 'async.wait_all') return (t) => (copies(t).underWay > 0 ? again(t) : undefined);
  return c.fail('a copy that ptx-run does not know');
};

export const asynchronous: Readonly<Record<string, Compiler>> = {
  mbarrier,
  cp: copy,
  prefetch: (c) => {
    if (!c.has.has('tensormap')) return () => {};
    const address = c.address(0);
    return (t) => void c.machine.tensorMap(address(t));
  },
};
