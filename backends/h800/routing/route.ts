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
import { multiprocessors, writeKernel, type KernelContext } from '../loops/context.ts';
import { Emitter } from '../loops/emit.ts';
import { forEach } from '../loops/control.ts';
import { everyLane, SlotWriter, type Rule } from './route-slots.ts';

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
  if (!op || fn.results.length !== 1 || fn.results[0] !== op.results[0])
    throw new Error(`kernel @${fn.name}: route must be its one result`);
  const rule = ruleOf(op, module);
  const pool = new Pool();
  const tokens = (op.results[0].type as RoutingType).tokens;
  const rows =
    tokens.size === null
      ? { constant: 0, terms: [{ dim: tokens.name!, factor: 1 }] }
      : { constant: tokens.size, terms: [] };
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
    return this.context.declareBuffer(
      this.context.pool.buffer(this.op.results[0].name, component, component === 'weights' ? 'f32' : 'i32'),
    );
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
    const arrays = Object.fromEntries(
      ['indices', 'weights', 'offsets', 'tokenOf', 'choiceOf', 'slotOf', 'expertOfBlock'].map((c) => [
        c,
        this.array(c),
      ]),
    );
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
    this.lastCta(counter, flag, () =>
      new SlotWriter(this.k, context, rule, this.lane, this.warp).write(arrays, count, rows, perExpert),
    );
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
  private scoreOf(
    i: Reg<'u32'>,
    picks: Reg<'u32'>,
    score: Expr,
    use: (score: Reg<'f32'>, expert: Reg<'u32'>) => void,
  ): void {
    const { k, e } = this;
    const [from, expert] = k.regs('u32', 2);
    k.mad.lo.u32(from, i, 4, picks);
    k.ld.shared.u32(expert, from);
    e.scoped(() => {
      e.bind(this.expert, expert);
      use(e.register(score) as Reg<'f32'>, expert);
    });
  }

  private storeChoices(
    t: Reg<'u32'>,
    picks: Reg<'u32'>,
    score: Expr,
    arrays: Record<string, Reg<'u64'>>,
  ): void {
    const { k, rule } = this;
    const total = k.reg('f32');
    if (rule.normalize) {
      const start = k.reg('u32');
      k.mov.u32(start, 0);
      k.mov.f32(total, 0);
      // In order of choice, by every lane alike.
      forEach(k, 'total', start, rule.top, 1, (i) =>
        this.scoreOf(i, picks, score, (s) => k.add.rn.f32(total, total, s)),
      );
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
      // The next launch finds it as this one did. Relaxed, as the additions of the other CTAs are: a plain store would be
      // a data race with them, harmless as it is.
      k.when(last, () => k.st.relaxed.gpu.global.u32(counter, 0));
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
}
