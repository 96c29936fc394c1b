// Kernels that copy rows and compute nothing: group_tokens, cache_append, cache_read and arrays of a routing. Rows are
// bytes here, so that codes of every dtype (NaN too) arrive as they were; each access is as wide as alignment allows.
// Limited by memory: a row is read once and written once.
import { bytesFor } from '../../../ir/formats/index.ts';
import type { Buffer } from '../../../ir/loops/expr.ts';
import { componentsOf, fieldComponent, levelOf, scaleDType, tensorOf } from '../../../ir/loops/components.ts';
import { constant, type Index } from '../../../ir/loops/indices.ts';
import type { Pull } from '../../../ir/loops/pull.ts';
import type { Function, Module, Op } from '../../../ir/module.ts';
import type { EmittedKernel, KernelFamily } from '../../../ir/plan.ts';
import type { RoutingType, TensorType } from '../../../ir/types.ts';
import type { Kernel } from '../../ptx/builder.ts';
import { at, type Reg } from '../../ptx/operands.ts';
import { lanesFor, writeRows, type Row, type RowContext } from './launch.ts';

/** One array that is moved: `bytes` from a row of `from` to a row of `to`. */
interface Part {
  readonly from: Buffer;
  readonly to: Buffer;
  readonly bytes: number;
}

/** Where a row comes from and goes to; without `present` the target row becomes zero. */
interface Move {
  readonly from: Reg<'u32'>;
  readonly to: Reg<'u32'>;
  readonly present: Reg<'pred'> | null;
}

/**
 * Bytes of one row (everything behind axis 0) of a component; null when rows are not whole bytes (two E5M6 codes share
 * three), hold a run-time axis, or share scales with their neighbours.
 */
export function rowBytes(type: TensorType, component: string): number | null {
  const level = levelOf(component);
  if (type.dims.length === 0) return null;
  let count = 1;
  for (const [axis, d] of type.dims.entries()) {
    const tile = level < 0 ? 1 : type.scales[level].tile[axis];
    if (axis === 0 ? tile !== 1 : d.size === null) return null;
    if (axis > 0) count *= tile === 0 ? 1 : Math.ceil(d.size! / tile);
  }
  const dtype = level < 0 ? type.dtype : scaleDType(type.scales[level]);
  if (dtype === 'f12e5m6' && count % 2 !== 0) return null;
  return bytesFor(dtype, count);
}

/** Whether every row of a value can be moved by itself. */
export const movable = (type: TensorType): boolean =>
  componentsOf(type).every((c) => (rowBytes(type, c) ?? 0) > 0);

/** The widest access that divides a row; arrays start at multiples of 256 bytes. */
const unitOf = (bytes: number): number => [16, 8, 4, 2].find((n) => bytes % n === 0) ?? 1;

/** One access of 1, 2, 4, 8 or 16 bytes. */
class Unit {
  readonly bytes: number;
  private readonly k: Kernel;
  private readonly modifiers: readonly string[];

  constructor(k: Kernel, bytes: number) {
    this.k = k;
    this.bytes = bytes;
    this.modifiers = bytes >= 8 ? [`v${bytes / 4}`, 'b32'] : [`b${8 * bytes}`];
  }

  registers(): readonly Reg[] {
    const { k, bytes } = this;
    return bytes >= 4 ? k.regs('b32', bytes / 4) : k.regs('b16', 1);
  }

  zero(registers: readonly Reg[]): void {
    for (const r of registers) this.k.emit('mov', [r.type], [r, 0]);
  }

  load(registers: readonly Reg[], from: Reg<'u64'>, offset: number): void {
    this.k.emit(
      'ld',
      ['global', ...this.modifiers],
      [registers.length > 1 ? registers : registers[0], at(from, offset)],
    );
  }

  store(registers: readonly Reg[], to: Reg<'u64'>, offset: number): void {
    this.k.emit(
      'st',
      ['global', ...this.modifiers],
      [at(to, offset), registers.length > 1 ? registers : registers[0]],
    );
  }
}

/** Loads that a thread has under way at a time. */
const batch = 4;

const guarded = (k: Kernel, p: Reg<'pred'> | null, body: () => void): void => (p ? k.when(p, body) : body());

/** Copies one part of a row by `lanes` threads. */
function copyPart(
  r: RowContext,
  part: Part,
  { lane }: Row,
  lanes: number,
  { from, to, present }: Move,
): void {
  const { k } = r;
  const unit = new Unit(k, unitOf(part.bytes));
  const units = part.bytes / unit.bytes;
  const stride = lanes * unit.bytes;
  const source = r.element(r.element(r.pointer(part.from), from, part.bytes), lane, unit.bytes);
  const target = r.element(r.element(r.pointer(part.to), to, part.bytes), lane, unit.bytes);
  const copy = (offsets: readonly number[], here: Reg<'pred'> | null): void => {
    const held = offsets.map(() => unit.registers());
    let loads = here;
    if (present) {
      for (const h of held) unit.zero(h);
      loads = present;
      if (here) {
        loads = k.reg('pred');
        k.and.pred(loads, present, here);
      }
    }
    guarded(k, loads, () => offsets.forEach((o, i) => unit.load(held[i], source, o)));
    guarded(k, here, () => offsets.forEach((o, i) => unit.store(held[i], target, o)));
  };
  const offsetsOf = (count: number): number[] => Array.from({ length: count }, (_, i) => i * stride);

  const full = Math.floor(units / lanes);
  const batches = Math.floor(full / batch);
  const advance = (): void => {
    for (const a of [source, target]) k.add.u64(a, a, batch * stride);
  };
  if (batches > 2) {
    const left = k.reg('u32');
    k.mov.u32(left, batches);
    k.loop('batch', ({ done }) => {
      const end = k.reg('pred');
      k.setp.eq.u32(end, left, 0);
      k.when(end, () => k.bra(done));
      copy(offsetsOf(batch), null);
      advance();
      k.sub.u32(left, left, 1);
    });
  } else
    for (let i = 0; i < batches; i++) {
      copy(offsetsOf(batch), null);
      advance();
    }
  if (full % batch > 0) copy(offsetsOf(full % batch), null);
  if (units % lanes > 0) {
    const here = k.reg('pred');
    k.setp.lt.u32(here, lane, units % lanes);
    copy([(full % batch) * stride], here);
  }
}

interface Moving {
  readonly family: KernelFamily;
  readonly op: Op;
  readonly parts: readonly Part[];
  readonly rows: (pull: Pull) => Index;
  /** Declares what places need, then gives the place of a row. */
  readonly place: (r: RowContext) => (row: Row) => Move;
}

function writeMoves(fn: Function, module: Module, { family, op, parts, rows, place }: Moving): EmittedKernel {
  const units = parts.reduce((n, p) => n + p.bytes / unitOf(p.bytes), 0);
  const lanes = lanesFor(units, batch);
  return writeRows(fn, module, { family, rows, lanes, op }, (r) => {
    for (const p of parts) for (const b of [p.from, p.to]) r.pointer(b);
    const placeOf = place(r);
    return (row) => {
      const move = placeOf(row);
      for (const p of parts) copyPart(r, p, row, lanes, move);
    };
  });
}

const dtypeOf = (type: TensorType, component: string) =>
  levelOf(component) < 0 ? type.dtype : scaleDType(type.scales[levelOf(component)]);

/** `group_tokens`: slot s gets row tokenOf[s], zeros on padding; rows beyond offsets[experts] stay as they are. */
export function emitGroupTokens(fn: Function, module: Module, op: Op): EmittedKernel {
  const [x, routing] = op.operands;
  const [result] = op.results;
  const type = tensorOf(x);
  const parts = componentsOf(type).map((component): Part => {
    const dtype = dtypeOf(type, component);
    return {
      from: { value: x.name, component, dtype },
      to: { value: result.name, component, dtype },
      bytes: rowBytes(type, component)!,
    };
  });
  return writeMoves(fn, module, {
    family: 'routing',
    op,
    parts,
    rows: (pull) => pull.count((routing.type as RoutingType).slots),
    place: (r) => {
      const tokenOf = r.array(routing.name, 'tokenOf');
      return ({ row }) => {
        const token = r.load(tokenOf, row);
        return { from: token, to: row, present: r.isSet(token) };
      };
    },
  });
}

/** An array of a routing or a cache's field as a tensor of its own: rows as they are. */
export function emitCopy(fn: Function, module: Module, op: Op): EmittedKernel {
  const [from] = op.operands;
  const [result] = op.results;
  const type = tensorOf(result);
  const field = String(op.attributes.field);
  const parts = componentsOf(type).map((component): Part => {
    const dtype = dtypeOf(type, component);
    return {
      from: { value: from.name, component: fieldComponent(field, component), dtype },
      to: { value: result.name, component, dtype },
      bytes: rowBytes(type, component)!,
    };
  });
  return writeMoves(fn, module, {
    family: from.type.kind === 'state' ? 'state' : 'routing',
    op,
    parts,
    rows: (pull) => pull.size(type.dims[0]),
    place: () => (row) => ({ from: row.row, to: row.row, present: null }),
  });
}

/**
 * `cache_append`: every field's row of a token goes to row pages[sequence][position / page] · page + position % page.
 * Stops the kernel where that is no row of the cache, as the interpreter does: it would be someone else's memory.
 */
export function emitCacheAppend(fn: Function, module: Module, op: Op): EmittedKernel {
  const [state, positions, ...values] = op.operands;
  const declared = module.states.find((s) => state.type.kind === 'state' && s.name === state.type.state);
  if (!declared || positions.type.kind !== 'positions')
    throw new Error(`kernel @${fn.name}: cache_append of no cache`);
  const { page, fields } = declared;
  const { tokens } = positions.type;
  const parts = values.flatMap((v, n) =>
    componentsOf(tensorOf(v)).map((component): Part => {
      const dtype = dtypeOf(tensorOf(v), component);
      return {
        from: { value: v.name, component, dtype },
        to: { value: state.name, component: fieldComponent(fields[n].name, component), dtype },
        bytes: rowBytes(tensorOf(v), component)!,
      };
    }),
  );
  return writeMoves(fn, module, {
    family: 'state',
    op,
    parts,
    rows: (pull) => pull.size(tokens),
    place: (r) => {
      const { k } = r;
      const arrays = ['position', 'sequence', 'pages'].map((c) => r.array(positions.name, c));
      const columns = r.size(r.pull.pages(positions));
      const rows = r.size(r.pull.size(fields[0].type.dims[0]));
      return ({ row }) => {
        const [position, sequence] = arrays.slice(0, 2).map((a) => r.load(a, row));
        const [column, within, entry, to] = k.regs('u32', 4);
        // ptxas turns division by a constant page into shifts or multiplications.
        k.div.u32(column, position, page);
        k.rem.u32(within, position, page);
        const bad = k.reg('pred');
        k.setp.ge.u32(bad, column, columns);
        k.when(bad, () => k.trap());
        k.mad.lo.u32(entry, sequence, columns, column);
        k.mad.lo.u32(to, r.load(arrays[2], entry), page, within);
        // As unsigned numbers, negative rows (no page: −1) are too large as well.
        k.setp.ge.u32(bad, to, rows);
        k.when(bad, () => k.trap());
        return { from: row, to, present: null };
      };
    },
  });
}

/** `routing_field slot_weights`: the weight of the choice that a slot is, 0 on padding. */
export function emitSlotWeights(fn: Function, module: Module, op: Op): EmittedKernel {
  const [routing] = op.operands;
  const { slots, top } = routing.type as RoutingType;
  return writeRows(
    fn,
    module,
    { family: 'routing', rows: (pull) => pull.count(slots), lanes: 1, op },
    (r) => {
      const { k } = r;
      const [tokenOf, choiceOf, weights] = ['tokenOf', 'choiceOf', 'weights'].map((c) =>
        r.array(routing.name, c),
      );
      const out = r.pointer({ value: op.results[0].name, component: 'data', dtype: 'f32' });
      const choices = r.size(constant(top.size!));
      return ({ row }) => {
        const [token, choice] = [r.load(tokenOf, row), r.load(choiceOf, row)];
        const [entry, weight] = [k.reg('u32'), k.reg('b32')];
        k.mad.lo.u32(entry, token, choices, choice);
        const from = r.element(weights, entry, 4);
        const to = r.element(out, row, 4);
        k.mov.b32(weight, 0);
        k.when(r.isSet(token), () => k.ld.global.b32(weight, from));
        k.st.global.b32(to, weight);
      };
    },
  );
}
