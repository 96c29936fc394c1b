// From checkpoint tensors to the values that a function's declarations name: views, casts, stacks of experts, and
// derived expressions. Only what ops use is kept, and only until it is released: a layer's weights can be dropped when
// the layer is done, so that a model larger than memory still runs.
import { dequantizeTiles, roundInto } from '../formats/index.ts';
import { fail } from '../diagnostics.ts';
import type {
  Declaration,
  DeriveExpression,
  DerivedDeclaration,
  Function,
  ParameterDeclaration,
} from '../module.ts';
import { completeAttributes } from '../ops/define.ts';
import { opDefinition } from '../ops/index.ts';
import { tileOf } from '../ops/scaling.ts';
import { showType, type ScaleLevel, type TensorType, type Type } from '../types.ts';
import type { RuntimeValue, TensorData } from './values.ts';

/** Where weights come from: a checkpoint reader, or a test's table. */
export interface WeightSource {
  /**
   * The tensor stored under a full name, in its stored dtype (FP8 with its scales: `scales` non-empty), or undefined
   * when there is none. `stored` is the shape that the model expects. The interpreter does not change its data.
   */
  get(name: string, stored: readonly number[]): TensorData | undefined;
}

/** In the name of a parameter: one checkpoint tensor per expert, stacked over axis 0. */
const expertMark = '{experts}';

/** Values of declarations by prefix. Keep one over several interpretations to read each weight once. */
export class WeightCache {
  private readonly source: WeightSource;
  private readonly values = new Map<string, TensorData>();
  private readonly keys = new WeakMap<Declaration, string>();

  constructor(source: WeightSource) {
    this.source = source;
  }

  /** The value of a function's declaration under a prefix; a rounded one unless `rounding` is off. */
  value(f: Function, name: string, prefix: string, rounding: boolean): TensorData {
    const declaration = declarationOf(f, name);
    const key = `${prefix}\n${rounding}\n${this.keyOf(declaration)}`;
    let found = this.values.get(key);
    if (!found)
      this.values.set(key, (found = new Resolver(this.source, f, prefix, rounding).resolve(declaration)));
    return found;
  }

  /** Forgets every value under a prefix (and under longer ones); '' forgets all, as after an optimizer step. */
  release(prefix: string): void {
    for (const key of [...this.values.keys()]) if (key.startsWith(prefix)) this.values.delete(key);
  }

  /** Elements held now: what tests of memory look at. */
  get held(): number {
    return [...this.values.values()].reduce((n, v) => n + v.data.length, 0);
  }

  // Two functions (forward and backward of a block) may declare the same thing: it is resolved once.
  private keyOf(d: Declaration): string {
    let key = this.keys.get(d);
    if (key === undefined) {
      const what = d.kind === 'derived' ? JSON.stringify(d.expression) : d.stored.join(',');
      this.keys.set(d, (key = `${d.value.name}\n${showType(d.value.type)}\n${what}`));
    }
    return key;
  }
}

function declarationOf(f: Function, name: string): Declaration {
  const found = f.declarations.find((d) => d.value.name === name);
  if (!found) throw new Error(`@${f.name} declares no ${name}`);
  return found;
}

/** Resolves declarations of one function under one prefix. */
class Resolver {
  private readonly source: WeightSource;
  private readonly f: Function;
  private readonly prefix: string;
  private readonly rounding: boolean;

  constructor(source: WeightSource, f: Function, prefix: string, rounding: boolean) {
    this.source = source;
    this.f = f;
    this.prefix = prefix;
    this.rounding = rounding;
  }

  resolve(d: Declaration): TensorData {
    return d.kind === 'derived' ? this.evaluate(d.expression, d) : this.parameter(d);
  }

  private parameter(d: ParameterDeclaration): TensorData {
    const { type } = d.value;
    const raw = this.raw(d);
    if (type.scales.length > 0) {
      const scaled = storedScaled(raw, d, type);
      if (scaled) return scaled;
      fail({
        code: 'weights/scales-differ',
        at: d.span,
        message: `${this.prefix}${d.value.name} is declared ${showType(type)}, but the checkpoint has ${showStored(raw)}`,
        fix: 'declare it in bf16 and derive the quantised weight from it',
      });
    }
    const shape = type.dims.map((x) => x.size!);
    const parts = raw.map((r) => (r.scales.length > 0 ? dequantized(r, this.rounding) : r.data));
    const exact = raw.every((r) => r.dtype === type.dtype && r.scales.length === 0);
    const data = joined(parts, exact);
    if (this.rounding && !exact) roundInto(type.dtype, data);
    return { kind: 'tensor', dtype: type.dtype, shape, data, scales: [] };
  }

  /** The checkpoint tensors of a parameter: one, or one per expert. */
  private raw(d: ParameterDeclaration): TensorData[] {
    const { type, name } = d.value;
    const full = this.prefix + name;
    const experts = full.includes(expertMark) ? (type.dims[0]?.size ?? 0) : 0;
    const names = full.includes(expertMark)
      ? Array.from({ length: experts }, (_, e) => full.replaceAll(expertMark, String(e)))
      : [full];
    const declared = type.dims.reduce((n, x) => n * (x.size ?? NaN), 1);
    const held = d.stored.reduce((n, s) => n * s, names.length);
    if (declared !== held)
      fail({
        code: 'weights/shape-differs',
        at: d.span,
        message: `${full} is declared ${showType(type)}, which does not view the stored [${d.stored.join(', ')}]${experts > 0 ? ` of ${experts} experts` : ''}`,
      });
    return names.map((n) => this.tensor(n, d));
  }

  private tensor(name: string, d: ParameterDeclaration): TensorData {
    const found = this.source.get(name, d.stored);
    if (!found)
      fail({
        code: 'weights/missing',
        at: d.span,
        message: `the checkpoint has no tensor ${name}`,
        label: `declared ${showType(d.value.type)}`,
        fix: "check the checkpoint, or the prefix of the block's call",
      });
    if (found.shape.length !== d.stored.length || found.shape.some((s, i) => s !== d.stored[i]))
      fail({
        code: 'weights/shape-differs',
        at: d.span,
        message: `${name} is [${found.shape.join(', ')}] in the checkpoint, but the model expects [${d.stored.join(', ')}]`,
      });
    return found;
  }

  private evaluate(e: DeriveExpression, of: DerivedDeclaration): TensorData {
    if ('parameter' in e) return this.resolve(declarationOf(this.f, e.parameter));
    if (e.op === 'quantize') {
      const scaled = this.scaledAlready(e.operands[0], e.type);
      if (scaled) return scaled;
    }
    return this.apply(
      e.op,
      e.operands.map((o) => this.evaluate(o, of)),
      e,
      of,
    );
  }

  private apply(
    op: string,
    inputs: readonly TensorData[],
    e: Exclude<DeriveExpression, { parameter: string }>,
    of: DerivedDeclaration,
  ): TensorData {
    const definition = opDefinition(op);
    const unknown = (name: string): never => {
      throw new Error(`derived weights have no run-time dim ${name}`);
    };
    let results: readonly RuntimeValue[];
    try {
      results = definition.reference!(inputs, completeAttributes(definition, e.attributes), {
        operands: e.operands.map((o) => this.typeOf(o)),
        results: [e.type],
        size: unknown,
        shapeOf: (type: Type) => (type as TensorType).dims.map((d) => d.size ?? unknown(d.name!)),
        alignOf: unknown,
        rounding: this.rounding,
      });
    } catch (error) {
      return fail({
        code: 'weights/derive-failed',
        at: of.span,
        message: `${this.prefix}${of.value.name}: ${op}: ${(error as Error).message}`,
      });
    }
    const result = results[0] as TensorData;
    if (!this.rounding || result.scales.length > 0) return result;
    // A view shares its operand's data, which may be the checkpoint's own.
    const shared = inputs.some((x) => x.data.buffer === result.data.buffer);
    if (shared && inputs[0].dtype === result.dtype) return result;
    const data = shared ? result.data.slice() : result.data;
    roundInto(result.dtype, data);
    return { ...result, data };
  }

  private typeOf(e: DeriveExpression): TensorType {
    return 'parameter' in e ? declarationOf(this.f, e.parameter).value.type : e.type;
  }

  /**
   * quantize(e) when the checkpoint holds it quantised already, with the same tiles: its codes and scales as they are.
   * Looks through concat where every part ends on a tile, because then no tile mixes two weights.
   */
  private scaledAlready(e: DeriveExpression, type: TensorType): TensorData | null {
    const dims = this.typeOf(e).dims;
    if ('parameter' in e) {
      const d = declarationOf(this.f, e.parameter);
      return d.kind === 'derived' ? null : storedScaled(this.raw(d), d, { ...type, dims });
    }
    if (e.op !== 'concat') return null;
    const axis = e.attributes.axis as number;
    const tile = type.scales[0].tile[axis];
    const sizes = e.operands.map((o) => this.typeOf(o).dims[axis].size!);
    if (tile === 0 || sizes.slice(0, -1).some((n) => n % tile !== 0)) return null;
    const parts = e.operands.map((o) => this.scaledAlready(o, type));
    if (parts.some((p) => p === null)) return null;
    const along = (xs: readonly { shape: readonly number[]; data: Float64Array }[]) => concatenated(xs, axis);
    const whole = parts as TensorData[];
    return { ...whole[0], ...along(whole), scales: [along(whole.map((p) => p.scales[0]))] };
  }
}

/** The stored codes and scales as a value of `type`, or null when they are not what it says. */
function storedScaled(
  raw: readonly TensorData[],
  d: ParameterDeclaration,
  type: TensorType,
): TensorData | null {
  if (type.scales.length !== 1) return null;
  const [level] = type.scales;
  const stacked = raw.length > 1 || d.value.name.includes(expertMark);
  const shape = type.dims.map((x) => x.size!);
  const own = stacked ? shape.slice(1) : shape;
  const tile = stacked ? level.tile.slice(1) : level.tile;
  // Tiles follow the declared axes: they mean the stored ones only where the two are the same.
  if (own.length !== d.stored.length || own.some((n, i) => n !== d.stored[i])) return null;
  if (stacked && level.tile[0] !== 1) return null;
  if (!raw.every((r) => fits(r, type, own, { ...level, tile }))) return null;
  const scaleShape = raw[0].scales[0].shape;
  return {
    kind: 'tensor',
    dtype: type.dtype,
    shape,
    data: joined(
      raw.map((r) => r.data),
      true,
    ),
    scales: [
      {
        shape: stacked ? [raw.length, ...scaleShape] : scaleShape,
        data: joined(
          raw.map((r) => r.scales[0].data),
          true,
        ),
      },
    ],
  };
}

function fits(r: TensorData, type: TensorType, shape: readonly number[], level: ScaleLevel): boolean {
  if (r.dtype !== type.dtype || r.scales.length !== 1) return false;
  const tile = tileOf(level, shape);
  const [scales] = r.scales;
  if (scales.shape.length !== shape.length) return false;
  if (scales.shape.some((s, i) => s !== Math.ceil(shape[i] / tile[i]))) return false;
  return level.format === 'f32' || scales.data.every((s) => Number.isInteger(Math.log2(s)));
}

/** Values of a stored FP8 tensor. Its tiles follow from the shapes: 128, one element, or the whole axis. */
function dequantized(r: TensorData, rounding: boolean): Float64Array {
  let codes = r.data;
  for (const { shape, data } of r.scales) {
    const tile = r.shape.map((n, axis) => tileLength(n, shape[axis]));
    if (rounding) codes = dequantizeTiles({ codes, scales: data, shape: r.shape, tile });
    else {
      const spread = dequantizeTiles({ codes: codes.map(() => 1), scales: data, shape: r.shape, tile });
      codes = codes.map((c, i) => c * spread[i]);
    }
  }
  return codes;
}

function tileLength(size: number, tiles: number): number {
  if (tiles === size) return 1;
  if (tiles === Math.ceil(size / 128)) return 128;
  if (tiles === 1) return size;
  if (size % tiles === 0) return size / tiles;
  throw new Error(`${tiles} scales over an axis of ${size} elements: no tile length is known`);
}

function showStored(raw: readonly TensorData[]): string {
  const scales = raw[0].scales.map((s) => ` with scales [${s.shape.join(', ')}]`).join('');
  return `${raw.length > 1 ? `${raw.length} times ` : ''}${raw[0].dtype}[${raw[0].shape.join(', ')}]${scales}`;
}

/** One array after the other: a new array, unless there is one only and it may be shared. */
function joined(parts: readonly Float64Array[], share = false): Float64Array {
  if (share && parts.length === 1) return parts[0];
  const out = new Float64Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

function concatenated(parts: readonly { shape: readonly number[]; data: Float64Array }[], axis: number) {
  const size = parts.reduce((n, p) => n + p.shape[axis], 0);
  const shape = parts[0].shape.with(axis, size);
  const outer = shape.slice(0, axis).reduce((n, s) => n * s, 1);
  const pieces: Float64Array[] = [];
  for (let o = 0; o < outer; o++)
    for (const p of parts) {
      const run = p.data.length / outer;
      pieces.push(p.data.subarray(o * run, (o + 1) * run));
    }
  return { shape, data: joined(pieces) };
}
