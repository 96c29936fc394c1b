// One operation on values in registers: what an expression node is in instructions.
import type { Carrier, Expr } from '../../../ir/loops/expr.ts';
import { constantOf, type Index } from '../../../ir/loops/indices.ts';
import { at, type Reg } from '../../ptx/operands.ts';
import { Indexing, isWide, type Val } from './emit-index.ts';
import * as math from './math.ts';

/** Register class of a carrier. */
export const classOf = { f32: 'f32', i32: 's32', i64: 's64', bool: 'pred' } as const satisfies Record<
  Carrier,
  string
>;
/** The type that arithmetic on a carrier names. */
export const typeOf = { f32: 'f32', i32: 's32', i64: 's64' } as const;
export const numeric = (c: Carrier): 'f32' | 'i32' | 'i64' => {
  if (c === 'bool') throw new Error('no arithmetic on bool');
  return c;
};

export abstract class Operations extends Indexing {
  protected materialise(value: number, carrier: Carrier): Reg {
    const d = this.k.reg(classOf[carrier]);
    if (carrier === 'bool') this.k.emit('setp', ['ne', 'u32'], [d, value, 0]);
    else this.k.emit('mov', [typeOf[carrier]], [d, value]);
    return d;
  }

  protected inRegister(v: Val, carrier: Carrier): Reg {
    return typeof v === 'number' ? this.materialise(v, carrier) : v;
  }

  protected tableElement(values: readonly number[], i: Index, carrier: Carrier): Reg {
    const float = carrier === 'f32';
    const fixed = constantOf(i);
    if (fixed !== null) return this.materialise(values[fixed], carrier);
    const { k } = this;
    const address = k.reg('u32');
    k.emit(
      'mad',
      ['lo', 'u32'],
      [address, this.indexRegister(i, false), 4, this.context.table(values, float)],
    );
    const d = k.reg(float ? 'f32' : 's32');
    k.emit('ld', ['shared', float ? 'f32' : 's32'], [d, at(address)]);
    return carrier === 'i64' || carrier === 'bool' ? this.convert(d, 'i32', carrier) : d;
  }

  protected unary(e: Extract<Expr, { kind: 'unary' }>, a: Reg): Reg {
    const { k } = this;
    const x = a as Reg<'f32'>;
    const d = k.reg(classOf[e.carrier]) as Reg<'f32'>;
    const simple = (...modifiers: string[]): Reg => {
      k.emit(modifiers[0], modifiers.slice(1), [d, a]);
      return d;
    };
    switch (e.op) {
      case 'neg':
      case 'abs':
        return simple(e.op, typeOf[numeric(e.carrier)]);
      case 'not':
        return simple('not', 'pred');
      case 'exp':
        return math.exp(k, x);
      case 'exp2':
        return simple('ex2', 'approx', 'f32');
      case 'log2':
        return simple('lg2', 'approx', 'f32');
      case 'log':
        k.lg2.approx.f32(d, x);
        k.mul.rn.f32(d, d, Math.fround(Math.LN2));
        return d;
      case 'sqrt':
        return simple('sqrt', 'rn', 'f32');
      case 'rsqrt':
        return simple('rsqrt', 'approx', 'f32');
      case 'reciprocal':
        return simple('rcp', 'rn', 'f32');
      case 'floor':
        return simple('cvt', 'rmi', 'f32', 'f32');
      case 'sigmoid':
        return math.sigmoid(k, x);
      case 'silu':
        return math.silu(k, x);
      case 'tanh':
        return math.tanh(k, x);
      case 'sin':
      case 'cos':
        return math.sinOrCos(k, e.op, x);
      case 'power_of_two_above':
        return math.powerOfTwoAbove(k, x);
    }
  }

  protected binary(e: Extract<Expr, { kind: 'binary' }>, a: Val, b: Val): Reg {
    const { k } = this;
    const d = k.reg(classOf[e.carrier]);
    if (e.carrier === 'bool') {
      k.emit(e.op, ['pred'], [d, this.inRegister(a, 'bool'), this.inRegister(b, 'bool')]);
      return d;
    }
    const float = e.carrier === 'f32';
    const type = typeOf[numeric(e.carrier)];
    // Immediates stand in the second place, as people write them.
    const left = this.inRegister(a, e.carrier);
    switch (e.op) {
      case 'add':
      case 'sub':
      case 'mul':
      case 'div': {
        const modifiers = float ? ['rn', type] : e.op === 'mul' ? ['lo', type] : [type];
        k.emit(e.op, modifiers, [d, left, b]);
        return d;
      }
      case 'min':
      case 'max':
        k.emit(e.op, float ? ['NaN', type] : [type], [d, left, b]);
        return d;
      case 'larger':
        k.emit('max', [type], [d, left, b]);
        return d;
      case 'unscale':
        return this.unscale(left as Reg<'f32'>, this.inRegister(b, 'f32') as Reg<'f32'>);
      case 'pow':
        return math.pow(k, left as Reg<'f32'>, this.inRegister(b, 'f32') as Reg<'f32'>);
      case 'and':
      case 'or':
        throw new Error(`${e.op} is for bool`);
    }
  }

  /**
   * a / b by the reciprocal of b, which a tile's elements share: the quotient's error is added back, and the sum is
   * rounded as a division would (Markstein: true when the reciprocal is rounded correctly and nothing underflows).
   */
  protected unscale(a: Reg<'f32'>, b: Reg<'f32'>): Reg {
    const { k } = this;
    const key = `rcp ${b.name}`;
    let inverse = this.find(key) as Reg<'f32'> | undefined;
    if (!inverse) {
      inverse = k.reg('f32');
      k.rcp.rn.f32(inverse, b);
      this.keep(key, inverse);
    }
    const [q, rest, minus] = k.regs('f32', 3);
    k.mul.rn.f32(q, a, inverse);
    k.neg.f32(minus, q);
    k.fma.rn.f32(rest, minus, b, a);
    k.fma.rn.f32(q, rest, inverse, q);
    return q;
  }

  protected compare(e: Extract<Expr, { kind: 'compare' }>, a: Val, b: Val): Reg {
    const { k } = this;
    const p = k.reg('pred');
    const { carrier } = e.a;
    const left = this.inRegister(a, carrier);
    if (carrier === 'bool') {
      k.emit('xor', ['pred'], [p, left, this.inRegister(b, 'bool')]);
      if (e.op === 'ne') return p;
      const q = k.reg('pred');
      k.emit('not', ['pred'], [q, p]);
      return q;
    }
    // NaN differs from everything: the one comparison that holds for it.
    const op = carrier === 'f32' && e.op === 'ne' ? 'neu' : e.op;
    k.emit('setp', [op, typeOf[numeric(carrier)]], [p, left, b]);
    return p;
  }

  protected test(e: Extract<Expr, { kind: 'test' }>): Reg {
    const wide = isWide(e.a) || isWide(e.b);
    const p = this.k.reg('pred');
    this.k.emit(
      'setp',
      [e.op, wide ? 's64' : 's32'],
      [p, this.indexRegister(e.a, wide), this.index(e.b, wide)],
    );
    return p;
  }

  protected choose(c: Reg<'pred'>, a: Val, b: Val, carrier: Carrier): Reg {
    const { k } = this;
    const d = k.reg(classOf[carrier]);
    if (carrier !== 'bool') {
      k.emit('selp', [typeOf[carrier]], [d, a, b, c]);
      return d;
    }
    const [yes, no, other] = k.regs('pred', 3);
    k.and.pred(yes, c, this.inRegister(a, 'bool') as Reg<'pred'>);
    k.not.pred(other, c);
    k.and.pred(no, other, this.inRegister(b, 'bool') as Reg<'pred'>);
    k.emit('or', ['pred'], [d, yes, no]);
    return d;
  }

  protected convert(a: Reg, from: Carrier, to: Carrier): Reg {
    const { k } = this;
    const d = k.reg(classOf[to]);
    if (from === 'bool') {
      if (to === 'bool') throw new Error('no conversion');
      k.emit('selp', [typeOf[to]], [d, 1, 0, a]);
    } else if (to === 'bool') k.emit('setp', [from === 'f32' ? 'neu' : 'ne', typeOf[from]], [d, a, 0]);
    else if (to === 'f32') k.emit('cvt', ['rn', 'f32', typeOf[from]], [d, a]);
    else if (from === 'f32') k.emit('cvt', ['rzi', typeOf[to], 'f32'], [d, a]);
    else if (to === 'i64') k.emit('cvt', ['s64', 's32'], [d, a]);
    else k.emit('cvt', ['sat', 's32', 's64'], [d, a]);
    return d;
  }

  /** d = v, for a register that several paths write. */
  move(d: Reg, v: Val, carrier: Carrier): void {
    if (carrier === 'bool') this.k.emit('mov', ['pred'], [d, this.inRegister(v, 'bool')]);
    else this.k.emit('mov', [typeOf[carrier]], [d, v]);
  }
}
