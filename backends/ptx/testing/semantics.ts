// What each instruction does in the test interpreter: see machine.ts for threads, memory and time.
import type { Instruction } from '../ast.ts';
import { accumulatorRegisters } from '../check.ts';
import type { Address, Operand, Reg } from '../operands.ts';
import { bitsOf, type ScalarType } from '../types.ts';
import { bf16Bits, e4m3, swizzled } from './formats.ts';
import { blocked, exits, parameterBase, sharedBase, type Cta, type Step, type Thread } from './machine.ts';

/** What a statement does: for one thread, or for a group that must come to it together. */
export function stepOf(cta: Cta, i: Instruction): Step {
  const mnemonic = [i.opcode, ...i.modifiers].join('.');
  const scope =
    mnemonic === 'bar.sync'
      ? 'barrier'
      : i.opcode === 'wgmma'
        ? 'warpgroup'
        : /^(bar\.warp|shfl|stmatrix|setmaxnreg)/.test(mnemonic)
          ? 'warp'
          : 'thread';
  return { instruction: i, scope, run: scope === 'thread' ? scalar(cta, i, mnemonic) : () => undefined };
}

function scalar(cta: Cta, i: Instruction, mnemonic: string): Step['run'] {
  const [d, a, b, c] = i.operands;
  const v = (t: Thread, o: Operand | undefined): number => cta.value(t, o!);
  const type = i.modifiers.at(-1) as ScalarType;
  const wrap = (x: number): number =>
    type === 'f32' ? Math.fround(x) : bitsOf[type] === 64 ? x : type === 's32' ? x | 0 : x >>> 0;
  const low32 = (x: number, y: number): number => Math.imul(x, y);
  const binary = (f: (x: number, y: number) => number) => (t: Thread) =>
    cta.set(t, d!, wrap(f(v(t, a), v(t, b))));
  const compare: Record<string, (x: number, y: number) => boolean> = {
    eq: (x, y) => x === y,
    ne: (x, y) => x !== y,
    lt: (x, y) => x < y,
    le: (x, y) => x <= y,
    gt: (x, y) => x > y,
    ge: (x, y) => x >= y,
  };
  switch (i.opcode) {
    case 'mov':
      if (Array.isArray(a))
        return (t) => cta.set(t, d!, BigInt(v(t, a[0] as Reg)) | (BigInt(v(t, a[1] as Reg)) << 32n));
      return (t) => cta.set(t, d!, v(t, a));
    case 'cvta':
      return (t) => cta.set(t, d!, v(t, a));
    case 'add':
      return binary((x, y) => x + y);
    case 'sub':
      return binary((x, y) => x - y);
    case 'and':
      return binary((x, y) => x & y);
    case 'or':
      return binary((x, y) => x | y);
    case 'xor':
      return binary((x, y) => x ^ y);
    case 'shr':
      return binary((x, y) => (x >>> 0) >>> y);
    case 'min':
      return binary(Math.min);
    case 'div':
      return binary((x, y) => Math.floor(x / y));
    case 'mul':
      return binary(type === 'f32' ? (x, y) => x * y : low32);
    case 'mad':
      if (i.modifiers[0] === 'wide') return (t) => cta.set(t, d!, (v(t, a) >>> 0) * v(t, b) + v(t, c));
      return (t) => cta.set(t, d!, wrap(low32(v(t, a), v(t, b)) + v(t, c)));
    case 'fma':
      return (t) => cta.set(t, d!, Math.fround(v(t, a) * v(t, b) + v(t, c)));
    case 'setp': {
      const holds = compare[i.modifiers[0]!]!;
      return (t) => cta.set(t, d!, holds(wrap(v(t, a)), wrap(v(t, b))) ? 1 : 0);
    }
    case 'selp':
      return (t) => cta.set(t, d!, v(t, c) ? v(t, a) : v(t, b));
    case 'cvt':
      if (mnemonic === 'cvt.rn.bf16x2.f32')
        return (t) => cta.set(t, d!, ((bf16Bits(v(t, a)) << 16) | bf16Bits(v(t, b))) >>> 0);
      break;
    case 'bra':
      return () => cta.labels.get((d as { name: string }).name)!;
    case 'ret':
      return () => exits;
    case 'prefetch':
      return (t) => void cta.map(cta.address(t, d!));
    case 'fence':
      return () => undefined;
    case 'ld':
      return loadStep(cta, i, mnemonic);
    case 'st':
      if (mnemonic === 'st.shared.v2.f32')
        return (t) =>
          (a as readonly Reg[]).forEach((r, n) => {
            const to = cta.address(t, d!) - sharedBase + 4 * n;
            if (n === 0 && to % 8 !== 0) throw new Error(`misaligned v2 store at ${to}`);
            cta.shared.setFloat32(to, v(t, r), true);
          });
      break;
    case 'mbarrier':
      return barrierStep(cta, i, mnemonic);
    case 'cp':
      return copyStep(cta, i, mnemonic);
  }
  throw new Error(`the test interpreter does not know ${mnemonic}`);
}

function loadStep(cta: Cta, i: Instruction, mnemonic: string): Step['run'] {
  const [d, a] = i.operands;
  const type = i.modifiers.at(-1) as ScalarType;
  if (i.modifiers[0] === 'param')
    return (t) => cta.set(t, d!, cta.launch.parameters[cta.address(t, a!) - parameterBase] as number);
  const view = i.modifiers[0] === 'shared' ? cta.shared : cta.global;
  const base = i.modifiers[0] === 'shared' ? sharedBase : 0;
  const targets = (Array.isArray(d) ? d : [d]) as Reg[];
  if (!/^ld\.(shared|global)\.(v[24]\.)?(f32|u32|s32)$/.test(mnemonic))
    throw new Error(`unknown ${mnemonic}`);
  return (t) => {
    const from = cta.address(t, a!) - base;
    if (from % (4 * targets.length) !== 0) throw new Error(`misaligned ${mnemonic} at ${from}`);
    targets.forEach((r, n) => cta.set(t, r, cta.load(view, from + 4 * n, type)));
  };
}

function barrierStep(cta: Cta, i: Instruction, mnemonic: string): Step['run'] {
  const [d, a, b] = i.operands;
  if (mnemonic === 'mbarrier.init.shared::cta.b64')
    return (t) => {
      const n = cta.value(t, a!);
      cta.barriers.set(cta.address(t, d!), { phase: 0, pending: n, expected: n, bytes: 0 });
    };
  if (
    mnemonic === 'mbarrier.arrive.shared::cta.b64' ||
    mnemonic === 'mbarrier.arrive.expect_tx.shared::cta.b64'
  )
    return (t) => {
      const barrier = cta.barrier(cta.address(t, a!));
      if (b !== undefined) barrier.bytes += cta.value(t, b);
      barrier.pending--;
      cta.settle(barrier);
    };
  if (mnemonic === 'mbarrier.try_wait.parity.shared::cta.b64')
    return (t) => {
      const { phase } = cta.barrier(cta.address(t, a!));
      // It may also give up although the phase has completed.
      const done = (phase & 1) !== cta.value(t, b!) && cta.chance() > 0.05;
      cta.set(t, d!, done ? 1 : 0);
    };
  throw new Error(`the test interpreter does not know ${mnemonic}`);
}

function copyStep(cta: Cta, i: Instruction, mnemonic: string): Step['run'] {
  const [d, a, b, c] = i.operands;
  const bytes = (view: DataView): Uint8Array => new Uint8Array(view.buffer);
  if (mnemonic === 'cp.async.ca.shared::cta.global')
    return (t) => {
      const to = cta.address(t, d!) - sharedBase;
      const from = cta.address(t, a!);
      const size = c === undefined ? 4 : cta.value(t, c);
      if (b !== 4 || to % 4 !== 0 || from % 4 !== 0) throw new Error('cp.async: only aligned words');
      t.copies++;
      cta.later(() => {
        cta.shared.setUint32(to, size === 0 ? 0 : cta.global.getUint32(from, true), true);
        t.copies--;
      });
    };
  if (mnemonic === 'cp.async.mbarrier.arrive.noinc.shared::cta.b64')
    return (t) => {
      const barrier = cta.barrier(cta.address(t, d!));
      const arrive = (): void => {
        if (t.copies > 0) return cta.later(arrive);
        barrier.pending--;
        cta.settle(barrier);
      };
      cta.later(arrive);
    };
  if (mnemonic === 'cp.async.wait_all') return (t) => (t.copies > 0 ? blocked : undefined);
  if (
    /^cp\.async\.bulk\.tensor\.[23]d\.shared::cluster\.global\.mbarrier::complete_tx::bytes$/.test(mnemonic)
  )
    return (t) => {
      const { map, origin } = cta.tensor(t, a!);
      const to = cta.address(t, d!);
      const barrier = cta.barrier(cta.address(t, b!));
      cta.later(() => {
        let count = 0;
        cta.box(map, origin, to, (s, g) => {
          bytes(cta.shared)[s] = g === undefined ? 0 : bytes(cta.global)[g]!;
          count++;
        });
        barrier.bytes -= count;
        cta.settle(barrier);
      });
    };
  if (mnemonic === 'cp.async.bulk.tensor.2d.global.shared::cta.bulk_group')
    return (t) => {
      const { map, origin } = cta.tensor(t, d!);
      const from = cta.address(t, a!);
      t.storesUnread++;
      cta.later(() => {
        cta.box(map, origin, from, (s, g) => {
          if (g !== undefined) bytes(cta.global)[g] = bytes(cta.shared)[s]!;
        });
        t.storesUnread--;
      });
    };
  if (mnemonic === 'cp.async.bulk.commit_group') return () => undefined;
  if (/^cp\.async\.bulk\.wait_group(\.read)?$/.test(mnemonic) && d === 0)
    return (t) => (t.storesUnread > 0 ? blocked : undefined);
  throw new Error(`the test interpreter does not know ${mnemonic}`);
}

/** Instructions of a warp, a warpgroup or a barrier's threads. */
export function collective(cta: Cta, i: Instruction, members: readonly Thread[]): void {
  const mnemonic = [i.opcode, ...i.modifiers].join('.');
  if (i.opcode === 'bar' || i.opcode === 'setmaxnreg') return;
  if (mnemonic === 'shfl.sync.idx.b32') {
    const [d, a, b] = i.operands;
    const all = members.map((t) => cta.value(t, a!));
    return members.forEach((t) => cta.set(t, d!, all[cta.value(t, b!)]!));
  }
  if (mnemonic === 'stmatrix.sync.aligned.m8n8.x4.shared.b16') return storeMatrices(cta, i, members);
  if (i.opcode !== 'wgmma') throw new Error(`the test interpreter does not know ${mnemonic}`);
  const group = members[0]!.id >> 7;
  const queue = cta.products.get(group) ?? [];
  cta.products.set(group, queue);
  if (i.modifiers[0] === 'mma_async') queue.push(product(cta, i, members));
  if (i.modifiers[0] === 'wait_group') queue.splice(0).forEach((run) => run());
}

function storeMatrices(cta: Cta, i: Instruction, members: readonly Thread[]): void {
  const [address, registers] = i.operands as [Address, readonly Reg[]];
  registers.forEach((r, m) => {
    for (let row = 0; row < 8; row++) {
      const to = cta.address(members[8 * m + row]!, address) - sharedBase;
      if (to % 16 !== 0) throw new Error(`stmatrix: misaligned row at ${to}`);
      for (let q = 0; q < 4; q++) cta.shared.setUint32(to + 4 * q, cta.value(members[4 * row + q]!, r), true);
    }
  });
}

/** One FP8 wgmma: poisons its accumulators now, reads shared memory and writes them when waited for. */
function product(cta: Cta, i: Instruction, members: readonly Thread[]): () => void {
  const [acc, a, b, p] = i.operands as [readonly Reg[], Reg, Reg, Reg];
  const shape = i.modifiers[3]!;
  const count = accumulatorRegisters(shape, 'f32');
  const descriptors = members.map((t) => [cta.get(t, a), cta.get(t, b)] as [bigint, bigint]);
  const [da, db] = descriptors[0]!;
  if (descriptors.some(([x, y]) => x !== da || y !== db))
    throw new Error('wgmma: descriptors differ in a warpgroup');
  const keep = members.map((t) => Boolean(cta.get(t, p)));
  const old = members.map((t) => acc.map((r) => t.values[cta.slot(r)]));
  members.forEach((t) => acc.forEach((r) => cta.set(t, r, NaN)));
  const queued = cta.products.get(members[0]!.id >> 7)!;
  const chained = queued.length > 0;
  return () => {
    const bytes = new Uint8Array(cta.shared.buffer);
    const read = (d: bigint, row: number, k: number): number => {
      const start = Number(d & 0x3fffn) << 4;
      const stride = Number((d >> 32n) & 0x3fffn) << 4;
      if (d >> 62n !== 1n) throw new Error('wgmma: only 128-byte swizzled descriptors');
      const at = swizzled(start + (row % 8) * 128 + (row >> 3) * stride + k, 128);
      return e4m3(bytes[at - sharedBase]!);
    };
    const n = count * 2;
    const left = Array.from({ length: 64 }, (_, r) =>
      Float64Array.from({ length: 32 }, (_, k) => read(da, r, k)),
    );
    const right = Array.from({ length: n }, (_, r) =>
      Float64Array.from({ length: 32 }, (_, k) => read(db, r, k)),
    );
    members.forEach((t, m) => {
      const warp = m >> 5;
      const lane = m & 31;
      for (let j = 0; j < count; j++) {
        const row = left[16 * warp + (lane >> 2) + 8 * ((j >> 1) & 1)]!;
        const column = right[8 * (j >> 2) + 2 * (lane & 3) + (j & 1)]!;
        let sum = keep[m] ? Number(chained ? cta.get(t, acc[j]!) : old[m]![j]) : 0;
        for (let k = 0; k < 32; k++) sum += row[k]! * column[k]!;
        cta.set(t, acc[j]!, Math.fround(sum));
      }
    });
  };
}
