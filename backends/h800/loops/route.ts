// `route` in one launch: every warp chooses the experts of its tokens; the CTA that finishes last gives every choice its
// slot. Slots of an expert are in token order whatever the order of CTAs, so results never differ between runs.
// Scratch: one counter, zero before the launch and left zero. Group scores and the choice are computed in f32 as the
// reference rounds them, so that both see the same ties.
import { Pool, type Expr } from '../../../ir/loops/expr.ts';
import { Pull } from '../../../ir/loops/pull.ts';
import { constant, variableIndex } from '../../../ir/loops/indices.ts';
import type { Function, Module, Op } from '../../../ir/module.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import type { RoutingType } from '../../../ir/types.ts';
import type { Kernel } from '../../ptx/builder.ts';
import { at, special, type Reg } from '../../ptx/operands.ts';
import { multiprocessors, writeKernel, type KernelContext } from './context.ts';
import { Emitter } from './emit.ts';
import { forEach } from './control.ts';

const everyLane = 0xffffffff;

interface Rule {
  readonly experts: number;
  readonly top: number;
  readonly groups: number;
  readonly topGroups: number;
  readonly sumOfTwo: boolean;
  readonly normalize: boolean;
  readonly scale: number;
  readonly epsilon: number;
  readonly align: number;
  /** Warps per CTA: as many as their rows of scores (later counts) fit shared memory. */
  readonly warps: number;
}

function ruleOf(op: Op, module: Module): Rule {
  const type = op.results[0].type as RoutingType;
  const experts = type.experts.size!;
  const { top, groups, top_groups, group_score, normalize, scale, epsilon } = op.attributes;
  const warps = [16, 8, 4, 2, 1].find((w) => w * experts * 4 <= 32768);
  if (!warps) throw new Error(`route: ${experts} experts do not fit shared memory`);
  return {
    experts,
    top: Number(top),
    groups: Number(groups),
    topGroups: Number(top_groups),
    sumOfTwo: group_score === 'top2' && experts > Number(groups),
    normalize: Boolean(normalize),
    scale: Number(scale),
    epsilon: Number(epsilon),
    align: module.dims.find((d) => d.name === type.slots.name)!.ragged!.align,
    warps,
  };
}

/** Writes a kernel function whose result is a `route`; its scores may be computed on the way. */
export function emitRoute(fn: Function, module: Module): EmittedKernel {
  const op = fn.body.find((o) => o.op === 'route');
  if (!op || fn.results.length !== 1 || fn.results[0] !== op.results[0]) throw new Error(`kernel @${fn.name}: route must be its one result`);
  const rule = ruleOf(op, module);
  const pool = new Pool();
  const tokens = (op.results[0].type as RoutingType).tokens;
  const rows = tokens.size === null ? { constant: 0, terms: [{ dim: tokens.name!, factor: 1 }] } : { constant: tokens.size, terms: [] };
  return writeKernel(
    fn,
    module,
    pool,
    {
      family: 'routing',
      threads: 32 * rule.warps,
      grid: { axes: [{ extent: rows, per: rule.warps }], atMost: 4 * multiprocessors },
      scratchBytes: 16,
    },
    (context) => new RouteWriter(context, op, rule, new Pull(fn, module, pool)).write(),
  );
}

class RouteWriter {
  private readonly context: KernelContext;
  private readonly k: Kernel;
  private readonly e: Emitter;
  private readonly op: Op;
  private readonly rule: Rule;
  private readonly pull: Pull;
  private readonly lane: Reg<'u32'>;
  private readonly warp: Reg<'u32'>;
  private readonly token;
  private readonly expert;

  constructor(context: KernelContext, op: Op, rule: Rule, pull: Pull) {
    this.context = context;
    this.k = context.k;
    this.e = new Emitter(context);
    this.op = op;
    this.rule = rule;
    this.pull = pull;
    [this.lane, this.warp] = this.k.regs('u32', 2);
    this.token = pull.loop((op.results[0].type as RoutingType).tokens);
    this.expert = context.pool.variable('expert', constant(rule.experts));
  }

  private array(component: string): Reg<'u64'> {
    return this.context.declareBuffer(this.context.pool.buffer(this.op.results[0].name, component, component === 'weights' ? 'f32' : 'i32'));
  }

  /** score[token, expert], and with the bias the number that decides. */
  private scores(): { score: Expr; choice: Expr } {
    const [scores, bias] = this.op.operands;
    const e = variableIndex(this.expert);
    const score = this.pull.at(scores, [variableIndex(this.token), e]);
    return { score, choice: bias ? this.context.pool.binary('add', score, this.pull.at(bias, [e])) : score };
  }

  write(): void {
    const { context, k, rule } = this;
    const type = this.op.results[0].type as RoutingType;
    const { score, choice } = this.scores();
    context.declare(choice);
    const [tokens, slots] = [type.tokens, type.slots].map((d) => this.pull.size(d));
    context.declareIndex(tokens);
    context.declareIndex(slots);
    const arrays = Object.fromEntries(['indices', 'weights', 'offsets', 'tokenOf', 'choiceOf', 'slotOf', 'expertOfBlock'].map((c) => [c, this.array(c)]));
    const counter = context.declareScratch();
    // Rows of scores per warp; once all are chosen, counts per warp and expert.
    const rows = context.shared('rows', 4 * rule.warps * rule.experts);
    const perExpert = context.shared('experts', 8 * rule.experts);
    const perGroup = context.shared('groups', 8 * rule.warps * rule.groups);
    const chosen = context.shared('chosen', 4 * rule.warps * rule.top);
    const flag = context.shared('last', 4);
    context.ready();
    k.at(this.op.span);
    k.and.b32(this.lane, context.tid, 31);
    k.shr.u32(this.warp, context.tid, 5);
    const count = this.e.indexRegister(tokens, false) as Reg<'u32'>;
    const room = this.e.indexRegister(slots, false) as Reg<'u32'>;
    this.clear(arrays, room);

    const [first, step] = k.regs('u32', 2);
    k.mov.u32(first, special.ctaidX);
    k.mad.lo.u32(first, first, rule.warps, this.warp);
    k.mov.u32(step, special.nctaidX);
    k.mul.lo.u32(step, step, rule.warps);
    const own = this.ofWarp(rows, 4 * rule.experts);
    const groups = this.ofWarp(perGroup, 8 * rule.groups);
    const picks = this.ofWarp(chosen, 4 * rule.top);
    forEach(k, 'token', first, count, step, (t) =>
      this.e.scoped(() => {
        this.e.bind(this.token, t);
        this.loadChoices(own, choice);
        if (rule.topGroups < rule.groups) this.closeGroups(own, groups);
        this.pick(own, picks);
        this.storeChoices(t, picks, score, arrays);
      }),
    );
    this.lastCta(counter, flag, () => this.layOut(arrays, count, rows, perExpert));
  }

  private ofWarp(base: Reg<'u32'>, bytes: number): Reg<'u32'> {
    const d = this.k.reg('u32');
    this.k.mad.lo.u32(d, this.warp, bytes, base);
    return d;
  }

  /** −1 in every slot and block: what no choice fills stays so. The whole grid takes part. */
  private clear(arrays: Record<string, Reg<'u64'>>, slots: Reg<'u32'>): void {
    const { k, context, rule } = this;
    const [first, step, blocks] = k.regs('u32', 3);
    k.mov.u32(first, special.ctaidX);
    k.mad.lo.u32(first, first, context.threads, context.tid);
    k.mov.u32(step, special.nctaidX);
    k.mul.lo.u32(step, step, context.threads);
    const none = k.reg('s32');
    k.mov.s32(none, -1);
    const put = (array: Reg<'u64'>, i: Reg<'u32'>): void => {
      const to = k.reg('u64');
      k.mad.wide.u32(to, i, 4, array);
      k.st.global.s32(to, none);
    };
    forEach(k, 'clear', first, slots, step, (i) => {
      put(arrays.tokenOf, i);
      put(arrays.choiceOf, i);
    });
    k.div.u32(blocks, slots, rule.align);
    forEach(k, 'clear_blocks', first, blocks, step, (i) => put(arrays.expertOfBlock, i));
  }

  private loadChoices(own: Reg<'u32'>, choice: Expr): void {
    const { k, e } = this;
    k.bar.warp.sync(everyLane);
    e.prepare([choice], new Set([this.expert]));
    forEach(k, 'score', this.lane, this.rule.experts, 32, (i) =>
      e.scoped(() => {
        e.bind(this.expert, i);
        const to = k.reg('u32');
        k.mad.lo.u32(to, i, 4, own);
        k.st.shared.f32(to, e.register(choice) as Reg<'f32'>);
      }),
    );
    k.bar.warp.sync(everyLane);
  }

  /** Lowest index of the largest element that `visit` shows each lane; every lane gets it. */
  private warpArgmax(visit: (consider: (index: Reg<'u32'>, value: Reg<'f32'>) => void) => void): Reg<'s32'> {
    const { k } = this;
    const index = k.reg('s32');
    const value = k.reg('f32');
    // Beyond every index, so that even −infinity is taken when nothing else is left; NaN never is.
    k.mov.s32(index, 0x7fffffff);
    k.mov.f32(value, -Infinity);
    const join = (i: Reg, v: Reg): void => this.e.accumulate('argmax', 'f32', [index, value], [i, v]);
    visit(join);
    for (let mask = 16; mask >= 1; mask /= 2) {
      const i = k.reg('s32');
      const v = k.reg('f32');
      k.shfl.sync.bfly.b32(i, index, mask, 31, everyLane);
      k.emit('shfl', ['sync', 'bfly', 'b32'], [v, value, mask, 31, everyLane]);
      join(i, v);
    }
    return index;
  }

  /** Element of an array of f32 in shared memory. */
  private element(base: Reg<'u32'>, i: Reg, offset = 0): { address: Reg<'u32'>; value: Reg<'f32'> } {
    const { k } = this;
    const address = k.reg('u32');
    const value = k.reg('f32');
    k.emit('mad', ['lo', 'u32'], [address, i, 4, base]);
    k.ld.shared.f32(value, at(address, offset));
    return { address, value };
  }

  /** Sets the choices outside of the best groups to −infinity. `groups`: scores, then 1 where a group is open. */
  private closeGroups(own: Reg<'u32'>, groups: Reg<'u32'>): void {
    const { k, rule, lane } = this;
    const size = rule.experts / rule.groups;
    const openAt = 4 * rule.groups;
    forEach(k, 'group', lane, rule.groups, 32, (g) => {
      const [best, second, low] = k.regs('f32', 3);
      k.mov.f32(best, -Infinity);
      k.mov.f32(second, -Infinity);
      const from = k.reg('u32');
      k.mul.lo.u32(from, g, size);
      const end = k.reg('u32');
      k.add.u32(end, from, size);
      forEach(k, 'member', from, end, 1, (i) => {
        const { value } = this.element(own, i);
        k.min.f32(low, best, value);
        k.max.f32(best, best, value);
        k.max.f32(second, second, low);
      });
      if (rule.sumOfTwo) k.add.rn.f32(best, best, second);
      const { address } = this.element(groups, g);
      k.st.shared.f32(address, best);
      k.st.shared.u32(at(address, openAt), 0);
    });
    k.bar.warp.sync(everyLane);
    const round = k.reg('u32');
    k.mov.u32(round, 0);
    forEach(k, 'open', round, rule.topGroups, 1, () => {
      const g = this.warpArgmax((consider) =>
        forEach(k, 'best', lane, rule.groups, 32, (i) => {
          const { value } = this.element(groups, i);
          consider(i, value);
        }),
      );
      const { address } = this.element(groups, g);
      k.bar.warp.sync(everyLane);
      this.firstLane(() => {
        k.st.shared.f32(address, NaN);
        k.st.shared.u32(at(address, openAt), 1);
      });
      k.bar.warp.sync(everyLane);
    });
    forEach(k, 'close', lane, rule.experts, 32, (i) => {
      const [g, open, flagAt, to] = k.regs('u32', 4);
      const closed = k.reg('pred');
      k.div.u32(g, i, size);
      k.mad.lo.u32(flagAt, g, 4, groups);
      k.ld.shared.u32(open, at(flagAt, openAt));
      k.mad.lo.u32(to, i, 4, own);
      k.setp.eq.u32(closed, open, 0);
      k.when(closed, () => k.st.shared.f32(to, -Infinity));
    });
    k.bar.warp.sync(everyLane);
  }

  private firstLane(body: () => void): void {
    const { k } = this;
    const p = k.reg('pred');
    k.setp.eq.u32(p, this.lane, 0);
    k.branch(p, 'lane', body);
  }

  /** The `top` largest choices, in order. A choice that is taken becomes NaN, which no comparison prefers. */
  private pick(own: Reg<'u32'>, picks: Reg<'u32'>): void {
    const { k, rule } = this;
    const start = k.reg('u32');
    k.mov.u32(start, 0);
    forEach(k, 'pick', start, rule.top, 1, (i) => {
      const index = this.warpArgmax((consider) =>
        forEach(k, 'candidate', this.lane, rule.experts, 32, (j) => {
          const { value } = this.element(own, j);
          consider(j, value);
        }),
      );
      k.bar.warp.sync(everyLane);
      this.firstLane(() => {
        const [taken, to] = k.regs('u32', 2);
        k.emit('mad', ['lo', 'u32'], [taken, index, 4, own]);
        k.st.shared.f32(taken, NaN);
        k.mad.lo.u32(to, i, 4, picks);
        k.st.shared.s32(to, index);
      });
      k.bar.warp.sync(everyLane);
    });
  }

  /** Calls `use` with the score of a token's i-th choice and its expert. */
  private scoreOf(i: Reg<'u32'>, picks: Reg<'u32'>, score: Expr, use: (score: Reg<'f32'>, expert: Reg<'u32'>) => void): void {
    const { k, e } = this;
    const [from, expert] = k.regs('u32', 2);
    k.mad.lo.u32(from, i, 4, picks);
    k.ld.shared.u32(expert, from);
    e.scoped(() => {
      e.bind(this.expert, expert);
      use(e.register(score) as Reg<'f32'>, expert);
    });
  }

  private storeChoices(t: Reg<'u32'>, picks: Reg<'u32'>, score: Expr, arrays: Record<string, Reg<'u64'>>): void {
    const { k, rule } = this;
    const total = k.reg('f32');
    if (rule.normalize) {
      const start = k.reg('u32');
      k.mov.u32(start, 0);
      k.mov.f32(total, 0);
      // In order of choice, by every lane alike.
      forEach(k, 'total', start, rule.top, 1, (i) => this.scoreOf(i, picks, score, (s) => k.add.rn.f32(total, total, s)));
      k.add.rn.f32(total, total, Math.fround(rule.epsilon));
    }
    forEach(k, 'weigh', this.lane, rule.top, 32, (i) =>
      this.scoreOf(i, picks, score, (s, expert) => {
        const w = k.reg('f32');
        if (rule.normalize) k.div.rn.f32(w, s, total);
        else k.mov.f32(w, s);
        if (rule.scale !== 1) k.mul.rn.f32(w, w, Math.fround(rule.scale));
        const place = k.reg('u32');
        k.mad.lo.u32(place, t, rule.top, i);
        const [toIndex, toWeight] = k.regs('u64', 2);
        k.mad.wide.u32(toIndex, place, 4, arrays.indices);
        k.mad.wide.u32(toWeight, place, 4, arrays.weights);
        k.st.global.u32(toIndex, expert);
        k.st.global.f32(toWeight, w);
      }),
    );
  }

  /** Runs `body` in the CTA that gets here last, when what all CTAs wrote is visible. */
  private lastCta(counter: Reg<'u64'>, flag: Reg<'u32'>, body: () => void): void {
    const { k, context } = this;
    const leader = k.reg('pred');
    k.membar.gl();
    k.bar.sync(0);
    k.setp.eq.u32(leader, context.tid, 0);
    k.branch(leader, 'arrive', () => {
      const [before, all] = k.regs('u32', 2);
      k.mov.u32(all, special.nctaidX);
      k.sub.u32(all, all, 1);
      k.atom.global.add.u32(before, counter, 1);
      const last = k.reg('pred');
      const bit = k.reg('u32');
      k.setp.eq.u32(last, before, all);
      k.selp.u32(bit, 1, 0, last);
      k.st.shared.u32(flag, bit);
      // The next launch finds it as this one did.
      k.when(last, () => k.st.global.u32(counter, 0));
    });
    k.bar.sync(0);
    const mine = k.reg('u32');
    const go = k.reg('pred');
    k.ld.shared.u32(mine, flag);
    k.setp.ne.u32(go, mine, 0);
    k.branch(go, 'last', () => {
      k.membar.gl();
      body();
    });
  }

  /** Counts per warp and expert, turns counts into slots, and writes both directions of the permutation. */
  private layOut(arrays: Record<string, Reg<'u64'>>, tokens: Reg<'u32'>, counts: Reg<'u32'>, perExpert: Reg<'u32'>): void {
    const { k, rule, context } = this;
    const { experts, warps, top } = rule;
    const startAt = 4 * experts;
    const total = k.reg('u32');
    k.mul.lo.u32(total, tokens, top);
    // Entries of a warp: consecutive, a multiple of 32.
    const [chunk, from, to, end] = k.regs('u32', 4);
    k.add.u32(chunk, total, 32 * warps - 1);
    k.div.u32(chunk, chunk, 32 * warps);
    k.shl.b32(chunk, chunk, 5);
    k.mul.lo.u32(from, this.warp, chunk);
    k.add.u32(to, from, chunk);
    k.min.u32(end, to, total);

    forEach(k, 'zero', context.tid, warps * experts, context.threads, (i) => {
      const address = k.reg('u32');
      k.mad.lo.u32(address, i, 4, counts);
      k.st.shared.u32(address, 0);
    });
    k.bar.sync(0);
    const own = this.ofWarp(counts, 4 * experts);
    this.walk(arrays, from, end, own, null);
    k.bar.sync(0);

    // Over warps: a warp's entries come after those of the warps before it.
    forEach(k, 'count', context.tid, experts, context.threads, (e) => {
      const [sum, address, here] = k.regs('u32', 3);
      k.mov.u32(sum, 0);
      k.mad.lo.u32(address, e, 4, counts);
      const w = k.reg('u32');
      k.mov.u32(w, 0);
      forEach(k, 'warp', w, warps, 1, () => {
        k.ld.shared.u32(here, address);
        k.st.shared.u32(address, sum);
        k.add.u32(sum, sum, here);
        k.add.u32(address, address, 4 * experts);
      });
      const place = k.reg('u32');
      k.mad.lo.u32(place, e, 4, perExpert);
      k.st.shared.u32(place, sum);
    });
    k.bar.sync(0);
    const firstWarp = k.reg('pred');
    k.setp.eq.u32(firstWarp, this.warp, 0);
    k.branch(firstWarp, 'offsets', () => this.offsets(arrays, perExpert, startAt));
    k.bar.sync(0);
    this.walk(arrays, from, end, own, perExpert);
    this.blocks(arrays, perExpert, startAt);
  }

  /** Aligned starts of the experts' groups by one warp: a scan over 32 experts at a time. */
  private offsets(arrays: Record<string, Reg<'u64'>>, perExpert: Reg<'u32'>, startAt: number): void {
    const { k, rule, lane } = this;
    const carry = k.reg('u32');
    k.mov.u32(carry, 0);
    const base = k.reg('u32');
    k.mov.u32(base, 0);
    forEach(k, 'scan', base, rule.experts, 32, (b) => {
      const [e, place, size, sum, start, last] = k.regs('u32', 6);
      const here = k.reg('pred');
      k.add.u32(e, b, lane);
      k.setp.lt.u32(here, e, rule.experts);
      k.mad.lo.u32(place, e, 4, perExpert);
      k.mov.u32(size, 0);
      k.when(here, () => k.ld.shared.u32(size, place));
      k.add.u32(size, size, rule.align - 1);
      k.div.u32(size, size, rule.align);
      k.mul.lo.u32(size, size, rule.align);
      k.mov.u32(sum, size);
      for (let by = 1; by < 32; by *= 2) {
        const other = k.reg('u32');
        const has = k.reg('pred');
        k.shfl.sync.up.b32(other, sum, by, 0, everyLane);
        k.setp.ge.u32(has, lane, by);
        k.when(has, () => k.add.u32(sum, sum, other));
      }
      k.sub.u32(start, sum, size);
      k.add.u32(start, start, carry);
      const to = k.reg('u64');
      k.mad.wide.u32(to, e, 4, arrays.offsets);
      k.when(here, () => {
        k.st.shared.u32(at(place, startAt), start);
        k.st.global.u32(to, start);
      });
      k.shfl.sync.idx.b32(last, sum, 31, 31, everyLane);
      k.add.u32(carry, carry, last);
    });
    this.firstLane(() => k.st.global.u32(at(arrays.offsets, 4 * rule.experts), carry));
  }

  /**
   * One warp over its entries in order, 32 at a time. Counts them per expert in `own`; with `starts`, where `own`
   * holds how many came before, writes each entry's slot as well.
   */
  private walk(arrays: Record<string, Reg<'u64'>>, from: Reg<'u32'>, end: Reg<'u32'>, own: Reg<'u32'>, starts: Reg<'u32'> | null): void {
    const { k, rule, lane } = this;
    const below = k.reg('u32');
    k.mov.u32(below, special.lanemaskLt);
    forEach(k, starts ? 'place' : 'tally', from, end, 32, (b) => {
      const [i, expert, mask, before, rank, many, place, count] = k.regs('u32', 8);
      const [here, leads] = k.regs('pred', 2);
      const source = k.reg('u64');
      k.add.u32(i, b, lane);
      k.setp.lt.u32(here, i, end);
      k.mad.wide.u32(source, i, 4, arrays.indices);
      k.mov.u32(expert, everyLane);
      // Other CTAs wrote these: read them where all CTAs see the same, in L2.
      k.when(here, () => k.ld.global.cg.u32(expert, source));
      k.match.any.sync.b32(mask, expert, everyLane);
      k.and.b32(before, mask, below);
      k.popc.b32(rank, before);
      k.popc.b32(many, mask);
      k.mad.lo.u32(place, expert, 4, own);
      k.mov.u32(count, 0);
      k.when(here, () => k.ld.shared.u32(count, place));
      k.bar.warp.sync(everyLane);
      k.setp.eq.u32(leads, rank, 0);
      k.and.pred(leads, leads, here);
      k.add.u32(many, many, count);
      k.when(leads, () => k.st.shared.u32(place, many));
      if (starts)
        k.branch(here, 'slot', () => {
          const [start, slot, token, choice] = k.regs('u32', 4);
          const [toToken, toChoice, toSlot] = k.regs('u64', 3);
          k.mad.lo.u32(start, expert, 4, starts);
          k.ld.shared.u32(slot, at(start, 4 * rule.experts));
          k.add.u32(slot, slot, count);
          k.add.u32(slot, slot, rank);
          k.div.u32(token, i, rule.top);
          k.rem.u32(choice, i, rule.top);
          k.mad.wide.u32(toToken, slot, 4, arrays.tokenOf);
          k.mad.wide.u32(toChoice, slot, 4, arrays.choiceOf);
          k.mad.wide.u32(toSlot, i, 4, arrays.slotOf);
          k.st.global.u32(toToken, token);
          k.st.global.u32(toChoice, choice);
          k.st.global.u32(toSlot, slot);
        });
      k.bar.warp.sync(everyLane);
    });
  }

  /** The expert of every block of aligned rows. */
  private blocks(arrays: Record<string, Reg<'u64'>>, perExpert: Reg<'u32'>, startAt: number): void {
    const { k, rule } = this;
    forEach(k, 'expert', this.warp, rule.experts, rule.warps, (e) => {
      const [place, count, start, first, end, own] = k.regs('u32', 6);
      k.mad.lo.u32(place, e, 4, perExpert);
      k.ld.shared.u32(count, place);
      k.ld.shared.u32(start, at(place, startAt));
      k.div.u32(first, start, rule.align);
      k.add.u32(count, count, rule.align - 1);
      k.div.u32(count, count, rule.align);
      k.add.u32(end, first, count);
      k.add.u32(own, first, this.lane);
      forEach(k, 'block', own, end, 32, (i) => {
        const to = k.reg('u64');
        k.mad.wide.u32(to, i, 4, arrays.expertOfBlock);
        k.st.global.u32(to, e);
      });
    });
  }
}
