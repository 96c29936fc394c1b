// The builder's TypeScript types, computed from the instruction table: `k.fma.rn.f32` exists because the table has a
// row that spells it, and it takes what the row's operands say. Nothing here runs.
import type { FormRow, InstructionTable } from './form.ts';
import type { Address, Label, Not, Pair, Reg, Sink, SpecialReg, Sym, TensorAddress } from './operands.ts';
import type { acceptedClasses, looseClasses, wideTypes } from './types.ts';

type Accepted = typeof acceptedClasses;
type Loose = typeof looseClasses;
type Wide = typeof wideTypes;

/** How a modifier is written as a property: `shared::cta` is shared_cta, `2d` is _2d. */
export type PropertyName<K extends string> = K extends `${infer A}::${infer B}`
  ? PropertyName<`${A}_${B}`>
  : K extends `${'1' | '2' | '3' | '4' | '5'}d`
    ? `_${K}`
    : K;

// --- modifiers -----------------------------------------------------------------------------------------------------

type Split<S extends string> = S extends `${infer H}|${infer R}` ? H | Split<R> : S;
type Required_<H extends string> = H extends `${infer B}?` ? B : H;
type Body<H extends string> = Required_<H> extends `${string}=${infer B}` ? B : Required_<H>;
type NameOf<H extends string> = Required_<H> extends `${infer N}=${string}` ? N : never;
type Head<M extends string> = M extends `${infer H} ${string}` ? H : M;
type Rest<M extends string> = M extends `${string} ${infer R}` ? R : '';

/** A form half spelled: modifiers still to come, operands, and what named modifiers stand for. */
interface State<M extends string = string, O extends string = string, B = unknown> {
  m: M;
  o: O;
  b: B;
}

type Next<M extends string> = M extends ''
  ? never
  : Split<Body<Head<M>>> | (Head<M> extends `${string}?` ? Next<Rest<M>> : never);

type StepOf<M extends string, O extends string, B, K extends string> = M extends ''
  ? never
  : | (K extends Split<Body<Head<M>>>
        ? State<Rest<M>, O, [NameOf<Head<M>>] extends [never] ? B : B & Record<NameOf<Head<M>>, K>>
        : never)
    | (Head<M> extends `${string}?` ? StepOf<Rest<M>, O, B, K> : never);

type NextOf<S> = S extends State<infer M, string> ? Next<M> : never;
type Advance<S, K extends string> = S extends State<infer M, infer O, infer B> ? StepOf<M, O, B, K> : never;
type IsDone<M extends string> = M extends '' ? true : Head<M> extends `${string}?` ? IsDone<Rest<M>> : false;

// --- operands ------------------------------------------------------------------------------------------------------

type Bound<T extends string, B> = T extends keyof B ? B[T] & string : T;
type RegOf<T extends string> = T extends keyof Accepted ? Reg<Accepted[T][number]> : never;
type LooseOf<T extends string> = T extends keyof Loose ? Reg<Loose[T][number]> : never;
type Imm<T extends string> = T extends 'f32' | 'f64'
  ? number
  : T extends 'pred' | 'f16' | 'bf16'
    ? never
    : number | bigint;
type SpecialOf<T extends string> = T extends keyof Accepted ? SpecialReg<Accepted[T][number]> : never;
type WideOf<T extends string> = T extends keyof Wide ? Wide[T] : never;
type Source<R extends string, V, I> = R extends 'd' | 'x' ? V : V | I;
type Wide64 = 'u64' | 'b64' | 's64';
/** An address in a space: `at(base, offset)`, or a bare register or symbol; global and generic ones are 64 bits wide. */
export type AddressOperand<S extends string> =
  Address | Reg<S extends 'global' | 'generic' ? Wide64 : Wide64 | 'u32' | 'b32' | 's32'> | Sym;

type KindOf<R extends string, K extends string, B> = K extends `loose(${infer T})`
  ? Source<R, LooseOf<Bound<T, B>>, Imm<Bound<T, B>>>
  : K extends `wide(${infer T})`
    ? Source<R, RegOf<WideOf<Bound<T, B>>>, Imm<WideOf<Bound<T, B>>>>
    : K extends `any(${infer T})`
      ? RegOf<Bound<T, B>> | SpecialOf<Bound<T, B>> | Sym | Imm<Bound<T, B>>
      : K extends `reg(${infer T})`
        ? RegOf<Bound<T, B>>
        : K extends `vec(${string},${infer T})` | `pack(${string},${infer T})`
          ? readonly RegOf<Bound<T, B>>[]
          : K extends `frag(${string})`
            ? readonly Reg<'b32'>[]
            : K extends `acc(${string},${infer T})`
              ? readonly RegOf<Bound<T, B> extends 'f16' ? 'b32' : 'f32'>[]
              : K extends `${'pair' | 'sinkable'}(${infer T},${infer U})`
                ? Pair & { readonly first: RegOf<T> | Sink; readonly second: RegOf<U> | Sink }
                : K extends `addr(${infer S})`
                  ? AddressOperand<Bound<S, B>>
                  : K extends `tensor(${string})`
                    ? TensorAddress
                    : K extends `int(${string})`
                      ? number
                      : K extends 'sign'
                        ? 1 | -1
                        : K extends 'flag'
                          ? Reg<'pred'>
                          : K extends 'npred'
                            ? Reg<'pred'> | Not
                            : K extends 'desc'
                              ? Reg<'b64' | 'u64' | 's64'>
                              : K extends 'label'
                                ? Label
                                : K extends '_'
                                  ? Sink
                                  : Source<R, RegOf<Bound<K, B>>, Imm<Bound<K, B>>>;

type One<S extends string, B> = S extends `${infer R}:${infer K}?`
  ? [operand?: KindOf<R, K, B>]
  : S extends `${infer R}:${infer K}`
    ? [operand: KindOf<R, K, B>]
    : [];
type Operands<O extends string, B> = O extends `${infer H} ${infer T}`
  ? [...One<H, B>, ...Operands<T, B>]
  : One<O, B>;

// --- chains --------------------------------------------------------------------------------------------------------

type CallOf<S> =
  S extends State<infer M, infer O, infer B>
    ? IsDone<M> extends true
      ? (...operands: Operands<O, B>) => void
      : never
    : never;
/** One signature for each form that is fully spelled here: overloads. */
type Overloads<F> = [F] extends [never]
  ? unknown
  : (F extends unknown ? (x: F) => void : never) extends (x: infer I) => void
    ? I
    : never;

/** What may follow a mnemonic's beginning, and the call when it may end here. */
export type Chain<S> = Overloads<CallOf<S>> & {
  readonly [K in NextOf<S> as PropertyName<K>]: Chain<Advance<S, K>>;
};

type StateOfRow<R> = R extends FormRow ? State<R[0], R[1], unknown> : never;
/** `k.add`, `k.ld`, ...: one chain for each base opcode of the table. */
export type Mnemonics<T extends InstructionTable> = {
  readonly [Op in keyof T]: Chain<StateOfRow<T[Op][number]>>;
};
