// The second half of `route`: from every token's experts to slots grouped by expert, by one CTA.
import type { Kernel } from '../../ptx/builder.ts';
import { at, special, type Reg } from '../../ptx/operands.ts';
import type { KernelContext } from '../loops/context.ts';
import { forEach } from '../loops/control.ts';

export const everyLane = 0xffffffff;

/** What `route` is asked for, and how its CTAs are cut. */
export interface Rule {
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

/** A counting sort of the choices by expert, stable, so that an expert's slots are in token order. */
export class SlotWriter {
  private readonly k: Kernel;
  private readonly context: KernelContext;
  private readonly rule: Rule;
  private readonly lane: Reg<'u32'>;
  private readonly warp: Reg<'u32'>;

  constructor(k: Kernel, context: KernelContext, rule: Rule, lane: Reg<'u32'>, warp: Reg<'u32'>) {
    this.k = k;
    this.context = context;
    this.rule = rule;
    this.lane = lane;
    this.warp = warp;
  }

  private ofWarp(base: Reg<'u32'>, bytes: number): Reg<'u32'> {
    const d = this.k.reg('u32');
    this.k.mad.lo.u32(d, this.warp, bytes, base);
    return d;
  }

  private firstLane(body: () => void): void {
    const p = this.k.reg('pred');
    this.k.setp.eq.u32(p, this.lane, 0);
    this.k.branch(p, 'lane', body);
  }

  /** Counts per warp and expert, turns counts into slots, and writes both directions of the permutation. */
  write(
    arrays: Record<string, Reg<'u64'>>,
    tokens: Reg<'u32'>,
    counts: Reg<'u32'>,
    perExpert: Reg<'u32'>,
  ): void {
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
  private walk(
    arrays: Record<string, Reg<'u64'>>,
    from: Reg<'u32'>,
    end: Reg<'u32'>,
    own: Reg<'u32'>,
    starts: Reg<'u32'> | null,
  ): void {
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
