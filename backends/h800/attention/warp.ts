// One warp's work: its token and head, the query in registers spread over the lanes, keys four at a time, the lanes'
// partial dot products joined by shuffles, and the running maximum, sum and weighted values (online softmax, Milakov
// and Gimelshein 2018) in f32.
import type { Expr, Pool } from '../../../ir/loops/expr.ts';
import {
  constant,
  linear,
  quotient,
  variableIndex,
  type Index,
  type Variable,
} from '../../../ir/loops/indices.ts';
import { Pull } from '../../../ir/loops/pull.ts';
import type { Function, Module, Op, Value } from '../../../ir/module.ts';
import type { TensorType } from '../../../ir/types.ts';
import { special, type Reg } from '../../ptx/operands.ts';
import type { KernelContext } from '../loops/context.ts';
import { Emitter } from '../loops/emit.ts';
import { chunksOf, LaneVariables, type Chunk, type RowElement } from './chunks.ts';
import { Visible } from './visible.ts';

/** Keys per round: their loads and shuffles overlap, and the rescaling is shared. */
const keysPerRound = 4;

const everyLane = 0xffffffff;

type F32 = Reg<'f32'>;

/** How a CTA's warps are laid over tokens and heads. */
export interface Tile {
  readonly tokens: number;
  readonly heads: number;
}

/** A chunk with its elements' expressions. */
interface Part {
  readonly chunk: Chunk;
  readonly elements: readonly Expr[];
}

/** Plans an attention op (its element expressions and how lanes share them) and writes it: one `write` per kernel. */
export class AttentionWriter {
  /** Rows of q. */
  readonly tokens: Index;
  private readonly op: Op;
  private readonly pull: Pull;
  private readonly tile: Tile;
  private readonly visible: Visible;
  private readonly lanes: LaneVariables;
  private readonly token: Variable;
  private readonly head: Variable;
  private readonly keys: readonly Variable[];
  private readonly query: readonly Part[];
  /** Per key of a round. */
  private readonly key: readonly (readonly Part[])[];
  private readonly value: readonly (readonly Part[])[];
  private readonly output: { readonly value: Value; readonly offsets: readonly (readonly Index[])[] };

  constructor(fn: Function, module: Module, pool: Pool, op: Op, result: Value, tile: Tile) {
    const pull = new Pull(fn, module, pool);
    const [q, k, v] = op.operands;
    const [heads, depth] = (q.type as TensorType).dims.slice(1).map((d) => d.size!);
    const [groups, width] = (v.type as TensorType).dims.slice(1).map((d) => d.size!);
    this.op = op;
    this.pull = pull;
    this.tile = tile;
    this.lanes = new LaneVariables(pool);
    this.token = pull.loop((q.type as TensorType).dims[0]);
    this.tokens = this.token.extent;
    this.head = pool.variable('head', constant(heads));
    this.visible = new Visible(op, pull, this.token);
    this.keys = Array.from({ length: keysPerRound }, () => pool.variable('key', this.visible.extent));
    const [t, h] = [this.token, this.head].map(variableIndex);
    const group = quotient(h, constant(heads / groups));
    const rows = this.keys.map((key) => this.visible.row(key));
    const element =
      (x: Value, row: Index, at: Index): RowElement =>
      (i) =>
        pull.at(x, [row, at, i]);
    const parts = (chunks: readonly Chunk[], e: RowElement): Part[] =>
      chunks.map((chunk) => ({ chunk, elements: this.lanes.places(chunk).map(e) }));
    const ofQuery = element(q, t, h);
    const ofKey = rows.map((row) => element(k, row, group));
    const ofValue = rows.map((row) => element(v, row, group));
    const alongDepth = chunksOf(depth, [ofKey[0], ofQuery], this.lanes, pool);
    const alongWidth = chunksOf(width, [ofValue[0]], this.lanes, pool);
    this.query = parts(alongDepth, ofQuery);
    this.key = ofKey.map((e) => parts(alongDepth, e));
    this.value = ofValue.map((e) => parts(alongWidth, e));
    const shape = [this.tokens, constant(heads), constant(width)];
    this.output = {
      value: result,
      offsets: alongWidth.map((chunk) => this.lanes.places(chunk).map((i) => linear([t, h, i], shape))),
    };
  }

  /** Emits the whole kernel body but the final `ret`; CTAs are laid out as `tile` says, x over tokens, y over heads. */
  write(context: KernelContext): void {
    const { k } = context;
    const e = new Emitter(context);
    const out = this.pull.buffer(this.output.value, 'data');
    k.at(this.op.span);
    context.declareIndex(this.tokens);
    for (const x of [
      ...this.visible.fields,
      ...[this.query, ...this.key, ...this.value].flatMap((parts) => parts.flatMap((p) => p.elements)),
    ])
      context.declare(x);
    context.declareBuffer(out);
    context.ready();
    const { lane, token } = this.place(e);
    const bounds = new Bounds(e, this.lanes, lane);
    const { begin, end } = this.visible.range(e, token, lane);

    const query = this.query.map((part) => bounds.masked(part.chunk, registers(e, part.elements)));
    const accumulators = this.value[0].map(({ chunk }) => zeros(e, chunk.width));
    const [largest, sum] = k.regs('f32', 2);
    k.mov.f32(largest, -Infinity);
    k.mov.f32(sum, 0);
    const inner = new Set(this.keys);
    e.prepare(
      [...this.key, ...this.value].flatMap((parts) => parts.flatMap((p) => p.elements)),
      inner,
    );
    const [from, last] = k.regs('s32', 2);
    k.mov.s32(from, begin);
    k.sub.s32(last, end, 1);
    k.loop('keys', ({ done }) => {
      const over = k.reg('pred');
      k.setp.ge.s32(over, from, end);
      k.when(over, () => k.bra(done));
      e.scoped(() => {
        const exists = this.bindKeys(e, from, last);
        const scores = this.scores(e, query, bounds);
        this.accumulate(e, scores, exists, largest, sum, accumulators);
      });
      k.add.s32(from, from, keysPerRound);
    });

    // A token that sees no key gets zeros; a sum of 0 or infinity from scores that are not finite gives NaN.
    const inverse = k.reg('f32');
    const none = k.reg('pred');
    k.rcp.rn.f32(inverse, sum);
    k.setp.ge.s32(none, begin, end);
    k.selp.f32(inverse, 0, inverse, none);
    for (const [n, { chunk }] of this.value[0].entries()) {
      for (const a of accumulators[n]) k.mul.rn.f32(a, a, inverse);
      bounds.branch(chunk, () =>
        e.scoped(() => e.storeRegisters(out, this.output.offsets[n], accumulators[n])),
      );
    }
  }

  /** Binds this warp's token and head; warps beyond the last token end here. */
  private place(e: Emitter): { lane: Reg<'u32'>; token: Reg<'u32'> } {
    const { k, context } = e;
    const { tokens, heads } = this.tile;
    const [lane, warp, token, head, block] = k.regs('u32', 5);
    k.and.b32(lane, context.tid, 31);
    k.shr.u32(warp, context.tid, 5);
    // Among packed tokens later ones see more keys: they start first, so that short ones fill the end.
    k.mov.u32(block, special.ctaidX);
    if (this.visible.packed) {
      k.mov.u32(token, special.nctaidX);
      k.sub.u32(block, token, block);
      k.sub.u32(block, block, 1);
    }
    k.shr.u32(token, warp, Math.log2(heads));
    k.mad.lo.u32(token, block, tokens, token);
    k.mov.u32(block, special.ctaidY);
    k.and.b32(head, warp, heads - 1);
    k.mad.lo.u32(head, block, heads, head);
    const beyond = k.reg('pred');
    k.setp.ge.u32(beyond, token, e.indexRegister(this.tokens, false) as Reg<'u32'>);
    k.when(beyond, () => k.ret());
    e.bind(this.token, token);
    e.bind(this.head, head);
    return { lane, token };
  }

  /** Binds the round's keys. The last round may be short: its keys beyond the range stand for the last one, and count for nothing. */
  private bindKeys(e: Emitter, from: Reg<'s32'>, last: Reg<'s32'>): readonly (Reg<'pred'> | null)[] {
    const { k } = e;
    return this.keys.map((variable, n) => {
      if (n === 0) {
        e.bind(variable, from);
        return null;
      }
      const [next, key] = k.regs('s32', 2);
      const exists = k.reg('pred');
      k.add.s32(next, from, n);
      k.setp.le.s32(exists, next, last);
      k.min.s32(key, next, last);
      e.bind(variable, key);
      return exists;
    });
  }

  /** Dot products of the query with the round's keys, in every lane. */
  private scores(e: Emitter, query: readonly (readonly F32[])[], bounds: Bounds): F32[] {
    const { k } = e;
    const dots = this.key.map((parts) => {
      const [dot] = zeros(e, 1);
      for (const [n, { chunk, elements }] of parts.entries()) {
        const key = bounds.masked(chunk, registers(e, elements));
        for (const [i, x] of key.entries()) k.fma.rn.f32(dot, query[n][i], x, dot);
      }
      return dot;
    });
    for (let mask = 16; mask >= 1; mask /= 2) {
      const others = k.regs('f32', dots.length);
      for (const [i, dot] of dots.entries()) k.shfl.sync.bfly.b32(others[i], dot, mask, 31, everyLane);
      for (const [i, dot] of dots.entries()) k.add.rn.f32(dot, dot, others[i]);
    }
    return dots;
  }

  private accumulate(
    e: Emitter,
    scores: readonly F32[],
    exists: readonly (Reg<'pred'> | null)[],
    largest: F32,
    sum: F32,
    accumulators: readonly (readonly F32[])[],
  ): void {
    const { k } = e;
    const [now, shift, keep, nothing] = k.regs('f32', 4);
    // e^x = 2^(x · log2 e): the factor joins the scale.
    const scale = Math.fround(Number(this.op.attributes.scale) * Math.LOG2E);
    k.mov.f32(nothing, -Infinity);
    k.mov.f32(now, largest);
    for (const [i, s] of scores.entries()) {
      k.mul.rn.f32(s, s, scale);
      const p = exists[i];
      if (p) k.selp.f32(s, s, nothing, p);
      k.max.f32(now, now, s);
    }
    // While every score is -infinity, nothing may be subtracted from it: the weights are 0, not NaN.
    const empty = k.reg('pred');
    k.setp.eq.f32(empty, now, nothing);
    k.selp.f32(shift, 0, now, empty);
    k.sub.rn.f32(keep, largest, shift);
    k.ex2.approx.f32(keep, keep);
    k.mov.f32(largest, now);
    k.mul.rn.f32(sum, sum, keep);
    for (const s of scores) {
      k.sub.rn.f32(s, s, shift);
      k.ex2.approx.f32(s, s);
      k.add.rn.f32(sum, sum, s);
    }
    for (const list of accumulators) for (const a of list) k.mul.rn.f32(a, a, keep);
    for (const [i, parts] of this.value.entries())
      for (const [n, { elements }] of parts.entries())
        for (const [j, x] of registers(e, elements).entries())
          k.fma.rn.f32(accumulators[n][j], scores[i], x, accumulators[n][j]);
  }
}

/** Lane numbers bound for the emitter, and which lanes take part in a chunk that is not for all of them. */
class Bounds {
  private readonly inside = new Map<number, Reg<'pred'>>();
  private readonly e: Emitter;

  constructor(e: Emitter, lanes: LaneVariables, lane: Reg<'u32'>) {
    this.e = e;
    const { k } = e;
    for (const [n, variable] of lanes.all) {
      if (n === 32) {
        e.bind(variable, lane);
        continue;
      }
      // Lanes without an element load the last one again.
      const clamped = k.reg('u32');
      const inside = k.reg('pred');
      k.setp.lt.u32(inside, lane, n);
      k.min.u32(clamped, lane, n - 1);
      e.bind(variable, clamped);
      this.inside.set(n, inside);
    }
  }

  /** The values, 0 in lanes that have none. */
  masked(chunk: Chunk, values: readonly F32[]): F32[] {
    const { k } = this.e;
    const inside = this.inside.get(chunk.lanes);
    if (!inside) return [...values];
    return values.map((v) => {
      const d = k.reg('f32');
      k.selp.f32(d, v, 0, inside);
      return d;
    });
  }

  /** Runs `body` in the lanes that take part. */
  branch(chunk: Chunk, body: () => void): void {
    const inside = this.inside.get(chunk.lanes);
    if (inside) this.e.k.branch(inside, 'inside', body);
    else body();
  }
}

function zeros(e: Emitter, count: number): F32[] {
  const out = e.k.regs('f32', count);
  for (const r of out) e.k.mov.f32(r, 0);
  return out;
}

/** Values of alike expressions, each in a register. */
function registers(e: Emitter, list: readonly Expr[]): F32[] {
  return e.values(list).map((v) => {
    if (typeof v !== 'number') return v as F32;
    const d = e.k.reg('f32');
    e.k.mov.f32(d, v);
    return d;
  });
}
