// What may stand as an operand, and how it prints. Values only: whether one fits an instruction is decided in check.ts.
import type { RegClass, ScalarType } from './types.ts';

/** A virtual register; its class is part of its TypeScript type. */
export interface Reg<C extends RegClass = RegClass> {
  readonly kind: 'reg';
  readonly type: C;
  readonly name: string;
}

/** A predefined read-only register such as %tid.x: only `mov` reads it. */
export interface SpecialReg<C extends RegClass = RegClass> {
  readonly kind: 'special';
  readonly type: C;
  readonly name: string;
}

/** A variable or kernel parameter: an address in an `addr` operand, or the value of a `mov`. */
export interface Sym<S extends string = string> {
  readonly kind: 'symbol';
  readonly space: S;
  readonly name: string;
}

export interface Address {
  readonly kind: 'address';
  readonly base: Reg | Sym;
  /** Bytes. */
  readonly offset: number;
}

/** `[map, {c0, c1}]`: the tensor map's generic address and the box's first element, innermost coordinate first. */
export interface TensorAddress {
  readonly kind: 'tensor';
  readonly map: Reg;
  readonly coordinates: readonly (Reg | number)[];
}

export interface Label {
  readonly kind: 'label';
  readonly name: string;
}

/** `first|second`, as in the result of shfl or elect. */
export interface Pair {
  readonly kind: 'pair';
  readonly first: Reg | Sink;
  readonly second: Reg | Sink;
}

/** `!p` */
export interface Not {
  readonly kind: 'not';
  readonly of: Reg<'pred'>;
}

/** `_`: the result is not wanted. */
export interface Sink {
  readonly kind: 'sink';
}

export type Operand =
  | Reg
  | SpecialReg
  | Sym
  | Address
  | TensorAddress
  | Label
  | Pair
  | Not
  | Sink
  | number
  | bigint
  | readonly Reg[];

export const sink: Sink = { kind: 'sink' };

/** `[base+offset]`; the offset is in bytes. A bare register or symbol where an address is asked for means offset 0. */
export const at = (base: Reg | Sym, offset = 0): Address => ({ kind: 'address', base, offset });

/** `[map, {coordinates}]`, innermost coordinate first. */
export const tensorAt = (map: Reg<'u64' | 'b64'>, coordinates: readonly (Reg | number)[]): TensorAddress => ({
  kind: 'tensor',
  map,
  coordinates,
});

export const pair = <A extends Reg | Sink, B extends Reg | Sink>(
  first: A,
  second: B,
): Pair & { readonly first: A; readonly second: B } => ({
  kind: 'pair',
  first,
  second,
});

export const not = (of: Reg<'pred'>): Not => ({ kind: 'not', of });

const specialReg = <C extends RegClass>(name: string, type: C): SpecialReg<C> => ({
  kind: 'special',
  type,
  name,
});

/** Predefined registers, read with `mov`. */
export const special = {
  tidX: specialReg('%tid.x', 'u32'),
  tidY: specialReg('%tid.y', 'u32'),
  tidZ: specialReg('%tid.z', 'u32'),
  ntidX: specialReg('%ntid.x', 'u32'),
  ntidY: specialReg('%ntid.y', 'u32'),
  ntidZ: specialReg('%ntid.z', 'u32'),
  ctaidX: specialReg('%ctaid.x', 'u32'),
  ctaidY: specialReg('%ctaid.y', 'u32'),
  ctaidZ: specialReg('%ctaid.z', 'u32'),
  nctaidX: specialReg('%nctaid.x', 'u32'),
  nctaidY: specialReg('%nctaid.y', 'u32'),
  nctaidZ: specialReg('%nctaid.z', 'u32'),
  laneid: specialReg('%laneid', 'u32'),
  warpid: specialReg('%warpid', 'u32'),
  smid: specialReg('%smid', 'u32'),
  clusterCtarank: specialReg('%cluster_ctarank', 'u32'),
  clusterNctarank: specialReg('%cluster_nctarank', 'u32'),
  clusteridX: specialReg('%clusterid.x', 'u32'),
  lanemaskLt: specialReg('%lanemask_lt', 'u32'),
  lanemaskLe: specialReg('%lanemask_le', 'u32'),
  dynamicSmemSize: specialReg('%dynamic_smem_size', 'u32'),
  clock64: specialReg('%clock64', 'u64'),
  globaltimer: specialReg('%globaltimer', 'u64'),
} as const;

const scratch = new DataView(new ArrayBuffer(8));
const hex = (value: bigint, digits: number): string => value.toString(16).toUpperCase().padStart(digits, '0');

/** A float immediate as its exact bits, so that the text says what the kernel computes with. */
export function floatImmediate(value: number, type: 'f32' | 'f64'): string {
  if (type === 'f32') {
    scratch.setFloat32(0, value);
    return `0f${hex(BigInt(scratch.getUint32(0)), 8)}`;
  }
  scratch.setFloat64(0, value);
  return `0d${hex(scratch.getBigUint64(0), 16)}`;
}

/** True when an integer fits `bits` as a signed or an unsigned number. */
export const fitsBits = (value: number | bigint, bits: number): boolean =>
  typeof value === 'number' && !Number.isSafeInteger(value)
    ? false
    : BigInt(value) >= -(1n << BigInt(bits - 1)) && BigInt(value) < 1n << BigInt(bits);

/** One operand as PTX text; `type` says how an immediate is written. */
export function showOperand(operand: Operand, type?: ScalarType): string {
  if (typeof operand === 'number') {
    return type === 'f32' || type === 'f64' ? floatImmediate(operand, type) : String(operand);
  }
  if (typeof operand === 'bigint') return String(operand);
  if (Array.isArray(operand)) return `{${(operand as readonly Reg[]).map((r) => r.name).join(', ')}}`;
  return showSingle(operand as Exclude<Operand, number | bigint | readonly Reg[]>);
}

function showSingle(operand: Exclude<Operand, number | bigint | readonly Reg[]>): string {
  switch (operand.kind) {
    case 'reg':
    case 'special':
    case 'symbol':
    case 'label':
      return operand.name;
    case 'address': {
      const { base, offset } = operand;
      // PTX has no minus here: a negative offset is `+-32`.
      return offset === 0 ? `[${base.name}]` : `[${base.name}+${offset}]`;
    }
    case 'tensor': {
      const coordinates = operand.coordinates.map((c) => showOperand(c));
      return `[${operand.map.name}, {${coordinates.join(', ')}}]`;
    }
    case 'pair':
      return `${showSingle(operand.first)}|${showSingle(operand.second)}`;
    case 'not':
      return `!${operand.of.name}`;
    case 'sink':
      return '_';
  }
}
