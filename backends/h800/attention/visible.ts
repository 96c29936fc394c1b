// Which keys a token sees, as a range, and which row a key of that range has. The rule is that of the `attention` op
// (ir/ops/support.ts keysVisibleTo): packed tokens see tokens of their own sequence, other tokens see cached positions.
import { variableIndex, type Index, type Variable } from '../../../ir/loops/indices.ts';
import type { Pull } from '../../../ir/loops/pull.ts';
import type { Expr } from '../../../ir/loops/expr.ts';
import type { Op, Value } from '../../../ir/module.ts';
import { sameDim, type PositionsType } from '../../../ir/types.ts';
import { at, type Reg } from '../../ptx/operands.ts';
import type { Emitter } from '../loops/emit.ts';

const everyLane = 0xffffffff;

/** The visibility of one attention op, for the token that `token` counts. */
export class Visible {
  /** The keys are the step's own tokens. */
  readonly packed: boolean;
  private readonly at: Value;
  private readonly type: PositionsType;
  private readonly causal: boolean;
  private readonly window: number;
  private readonly pull: Pull;
  private readonly token: Variable;

  constructor(op: Op, pull: Pull, token: Variable) {
    this.at = op.operands[3];
    this.type = this.at.type as PositionsType;
    this.packed = sameDim(this.type.keys, this.type.tokens);
    this.causal = op.attributes.causal === true;
    this.window = Number(op.attributes.window);
    this.pull = pull;
    this.token = token;
  }

  private field(name: string, i: Index = variableIndex(this.token)): Expr {
    return this.pull.positionField(this.at, name, i);
  }

  /** Arrays that `range` reads, for declaration. */
  get fields(): Expr[] {
    const names = this.packed ? (this.causal ? ['first'] : ['first', 'sequence']) : ['position', 'sequence'];
    return names.map((n) => this.field(n));
  }

  /** How many keys there are at most, for the loop variable of a key. */
  get extent(): Index {
    return this.pull.size(this.type.keys);
  }

  /** The row of k and v: the key itself, or for a cache where the token's sequence keeps that position. */
  row(key: Variable): Index {
    if (this.packed) return variableIndex(key);
    const position = this.pull.pool.index(variableIndex(key), 'i32');
    const page = this.pull.pageOf(this.at);
    return this.pull.cacheRow(this.at, this.field('sequence'), position, page, this.extent);
  }

  /**
   * Emits the range of keys that the bound token sees: [begin, end). Packed: row numbers of tokens; cached: positions.
   * All lanes of the warp must come, for one token.
   */
  range(e: Emitter, token: Reg<'u32'>, lane: Reg<'u32'>): { begin: Reg<'s32'>; end: Reg<'s32'> } {
    const { k } = e;
    const [begin, end, self] = k.regs('s32', 3);
    if (this.packed) {
      k.mov.b32(self, token);
      k.mov.s32(begin, e.register(this.field('first')) as Reg<'s32'>);
    } else {
      k.mov.s32(self, e.register(this.field('position')) as Reg<'s32'>);
      k.mov.s32(begin, 0);
    }
    const sequenceEnd = this.causal ? null : this.sequenceEnd(e, token, lane);
    if (sequenceEnd) k.mov.s32(end, sequenceEnd);
    else k.add.s32(end, self, 1);
    if (this.window > 0) {
      const limit = k.reg('s32');
      k.sub.s32(limit, self, this.window - 1);
      k.max.s32(begin, begin, limit);
      if (!this.causal) {
        k.add.s32(limit, self, this.window);
        k.min.s32(end, end, limit);
      }
    }
    return { begin, end };
  }

  /** Where the token's sequence ends. Nobody has stored it: the lanes look at 32 tokens' sequences at a time. */
  private sequenceEnd(e: Emitter, token: Reg<'u32'>, lane: Reg<'u32'>): Reg<'s32'> {
    const { k } = e;
    const own = e.register(this.field('sequence')) as Reg<'s32'>;
    const tokens = e.indexRegister(this.pull.size(this.type.tokens), false) as Reg<'u32'>;
    const arrays = Object.fromEntries(
      ['sequence', 'position'].map((f) => [f, this.pull.pool.buffer(this.at.name, f, 'i32')]),
    );
    const [i, end] = [k.reg('u32'), k.reg('s32')];
    const [inside, same] = k.regs('pred', 2);
    const other = k.reg('s32');
    const address = k.reg('u64');
    /** `same`: lane's token `i` exists and belongs to the own sequence. */
    const compare = (): void => {
      k.setp.lt.u32(inside, i, tokens);
      k.mov.s32(other, own);
      k.mad.wide.u32(address, i, 4, e.context.pointer(arrays.sequence));
      k.when(inside, () => k.ld.global.s32(other, at(address)));
      k.setp.eq.s32(same, other, own);
      k.and.pred(same, same, inside);
    };
    if (this.packed) {
      // A packed sequence's tokens lie together, so those of 32 that belong to it come first.
      const [members, count] = k.regs('u32', 2);
      const full = k.reg('pred');
      k.mov.b32(end, token);
      k.loop('sequence_end', ({ done }) => {
        k.add.u32(i, end, lane);
        compare();
        k.vote.sync.ballot.b32(members, same, everyLane);
        k.popc.b32(count, members);
        k.add.s32(end, end, count);
        k.setp.eq.u32(full, count, 32);
        k.unless(full, () => k.bra(done));
      });
      return end;
    }
    // The cache reaches to the last of the sequence's tokens in this step, wherever they stand.
    const position = k.reg('s32');
    const over = k.reg('pred');
    k.mov.s32(end, 0);
    k.mov.u32(i, lane);
    k.loop('sequence_end', ({ done }) => {
      k.setp.ge.u32(over, i, tokens);
      k.when(over, () => k.bra(done));
      compare();
      k.mad.wide.u32(address, i, 4, e.context.pointer(arrays.position));
      k.ld.global.s32(position, at(address));
      k.add.s32(position, position, 1);
      k.max.s32(position, position, end);
      k.selp.s32(end, position, end, same);
      k.add.u32(i, i, 32);
    });
    const most = k.reg('s32');
    k.redux.sync.max.s32(most, end, everyLane);
    return most;
  }
}
