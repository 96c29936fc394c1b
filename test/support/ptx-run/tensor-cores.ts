// wgmma, and what comes with it: matrices written by a warp, registers handed from warp to warp.
import { decode, type CodedDType } from '../../../ir/formats/index.ts';
import { Groups } from './async-work.ts';
import type { Compiler, Step } from './instructions.ts';
import type { Cta, Thread } from './machine.ts';
import { sharedBase } from './memory.ts';
import type { Code } from './operands.ts';
import { swizzled } from './tensor-map.ts';

const formats: Record<string, { readonly dtype: CodedDType; readonly bytes: 1 | 2 }> = {
  e4m3: { dtype: 'f8e4m3', bytes: 1 },
  e5m2: { dtype: 'f8e5m2', bytes: 1 },
  bf16: { dtype: 'bf16', bytes: 2 },
  f16: { dtype: 'f16', bytes: 2 },
};

const tables = new Map<string, Float64Array>();
/** Value of every code. */
function valuesOf(format: string): Float64Array {
  let table = tables.get(format);
  if (!table) {
    const { dtype, bytes } = formats[format];
    tables.set(
      format,
      (table = Float64Array.from({ length: 256 ** bytes }, (_, code) => decode(dtype, code))),
    );
  }
  return table;
}

/** One product: computes when it is waited for. `registers` says which accumulators it holds until then. */
interface Product {
  readonly registers: string;
  readonly run: () => void;
}
const productsOf = new WeakMap<Cta, Map<number, Groups<Product>>>();
function products(t: Thread): Groups<Product> {
  let groups = productsOf.get(t.cta);
  if (!groups) productsOf.set(t.cta, (groups = new Map()));
  let found = groups.get(t.tid >> 7);
  if (!found) groups.set(t.tid >> 7, (found = new Groups()));
  return found;
}

/** An instruction that the 128 threads of a warpgroup execute together. */
const byWarpgroup = (together: Step['together']): Step => ({
  run: (t) => {
    t.waiting = { kind: 'warpgroup', mask: -1, barrier: -1, count: 0 };
  },
  together,
});

/** An instruction that a whole warp executes together. */
const byWarp = (together: Step['together']): Step => ({
  run: (t) => {
    t.waiting = { kind: 'warp', mask: -1, barrier: -1, count: 0 };
  },
  together,
});

/**
 * `D = A · B (+ D)` with A and B in shared memory, K innermost, 128-byte swizzled. The accumulators are NaN from here until
 * the group is waited for.
 */
function multiply(c: Code): Step {
  const [shape, type, left, right] = c.i.modifiers.slice(3);
  const size = /^m64n(\d+)k(\d+)$/.exec(shape);
  const operand = c.operand(0);
  if (!size || type !== 'f32' || operand.kind !== 'vector' || !formats[left] || !formats[right])
    return c.fail('a product that ptx-run does not know');
  const [n, k] = [Number(size[1]), Number(size[2])];
  const { bytes } = formats[left];
  if (n % 8 !== 0 || n > 256 || k * bytes !== 32 || formats[right].bytes !== bytes) c.fail(`shape ${shape}`);
  const accumulators = operand.items.map((o) => c.slot(o));
  if (accumulators.length !== n / 2) c.fail(`${accumulators.length} accumulators`);
  const registers = accumulators.join();
  const [da, db, keeps] = [c.long(1), c.long(2), c.predicate(3)];
  for (const i of [4, 5]) {
    const o = c.operand(i);
    if (o.kind !== 'imm' || o.value !== 1) c.fail('only scales of 1');
  }
  const [leftValues, rightValues] = [valuesOf(left), valuesOf(right)];

  return byWarpgroup((members) => {
    const [first] = members;
    const [a, b, keep] = [da(first), db(first), keeps(first)];
    if (members.some((t) => da(t) !== a || db(t) !== b || keeps(t) !== keep))
      throw new Error('operands differ in the warpgroup');
    const groups = products(first);
    const chained = groups.all.some((p) => p.registers === registers);
    const old = chained ? null : members.map((t) => accumulators.map((slot) => t.f32[slot]));
    for (const t of members) for (const slot of accumulators) t.lo[slot] = 0x7fffffff;
    const run = (): void => {
      const rowsA = rowsOf(first.cta, a, 64, k, bytes, leftValues);
      const rowsB = rowsOf(first.cta, b, n, k, bytes, rightValues);
      for (const [m, t] of members.entries()) {
        const [warp, lane] = [m >> 5, m & 31];
        for (const [j, slot] of accumulators.entries()) {
          const row = 16 * warp + (lane >> 2) + 8 * ((j >> 1) & 1);
          const column = 8 * (j >> 2) + 2 * (lane & 3) + (j & 1);
          let sum = keep ? (old ? old[m][j] : t.f32[slot]) : 0;
          for (let i = 0, x = row * k, y = column * k; i < k; i++) sum += rowsA[x + i] * rowsB[y + i];
          t.f32[slot] = sum;
        }
      }
    };
    groups.add({ registers, run });
  });
}

/** The values of `rows` rows of `k` elements that a descriptor stands for. */
function rowsOf(
  cta: Cta,
  descriptor: bigint,
  rows: number,
  k: number,
  bytes: 1 | 2,
  values: Float64Array,
): Float64Array {
  if (descriptor >> 62n !== 1n) throw new Error('wgmma: only 128-byte swizzled descriptors');
  const start = Number(descriptor & 0x3fffn) << 4;
  const stride = Number((descriptor >> 32n) & 0x3fffn) << 4;
  const out = new Float64Array(rows * k);
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < k; i++) {
      const at = swizzled(start + (row % 8) * 128 + (row >> 3) * stride + i * bytes, 128);
      if (at < sharedBase || at + bytes > cta.shared.length)
        throw new Error(`wgmma: shared address ${at} is out of bounds`);
      out[row * k + i] = values[bytes === 1 ? cta.shared[at] : cta.sharedView.getUint16(at, true)];
    }
  return out;
}

const wgmma: Compiler = (c) => {
  const [kind] = c.i.modifiers;
  if (kind === 'fence') return byWarpgroup(() => {});
  if (kind === 'commit_group') return byWarpgroup(([first]) => products(first).commit());
  if (kind === 'mma_async') return multiply(c);
  if (kind !== 'wait_group') return c.fail('a wgmma instruction that ptx-run does not know');
  const keep = c.int(0);
  return byWarpgroup(([first]) => {
    for (const group of products(first).take(keep(first))) for (const p of group) p.run();
  });
};

/** stmatrix: lane l gives the address of row l mod 8 of matrix l div 8; two 16-bit elements in every lane's register. */
const storeMatrix: Compiler = (c) => {
  const operand = c.operand(1);
  if (!c.has.has('m8n8') || c.has.has('trans') || operand.kind !== 'vector')
    return c.fail('a matrix that ptx-run does not know');
  const address = c.address(0);
  const registers = operand.items.map((o) => c.intOf(o));
  return byWarp((members) => {
    for (const [m, register] of registers.entries())
      for (let row = 0; row < 8; row++) {
        const to = address(members[8 * m + row]);
        const { shared, sharedView } = members[0].cta;
        if (to % 16 !== 0) throw new Error(`shared address ${to} is not a multiple of 16`);
        if (to < sharedBase || to + 16 > shared.length)
          throw new Error(`shared address ${to} is out of bounds`);
        for (let q = 0; q < 4; q++) sharedView.setInt32(to + 4 * q, register(members[4 * row + q]), true);
      }
  });
};

export const tensorCores: Readonly<Record<string, Compiler>> = {
  wgmma,
  stmatrix: storeMatrix,
  // Registers are not counted here.
  setmaxnreg: () => byWarp(() => {}),
};
