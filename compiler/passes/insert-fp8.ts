// FP8 for inference as DeepSeek-V3 runs it: every linear's input is quantised online in 1x128 tiles, its weight in
// 128x128 blocks, and partial sums are promoted to f32 every 128 of K. Embedding, head, router, norms and the
// attention core stay high: they are recognised by what they are (f32 results, no weight) and by the recipe's names.
// Quantisation then moves into its producer: norms and SwiGLU write codes directly, dispatch moves codes.
import { deriveOp } from '../../ir/builder.ts';
import type { DeriveExpression, Function, Module, Op, Value } from '../../ir/module.ts';
import { dim, staticCount, tensor, type Dim, type ScaleLevel, type TensorType } from '../../ir/types.ts';
import type { Pass } from '../pass.ts';
import { canonicalizeFunction } from './canonicalize.ts';
import { definitions, mapBlocks, rewriteFunction, useCounts, type Rewriter } from '../rewrite.ts';

/** Length of a tile of activations, side of a block of weights, and the K after which partial sums are promoted. */
const tile = 128;

/** The recipe's kept-high list, by the last parts of the checkpoint's names. */
const keptHigh = [
  /(^|\.)lm_head\.weight$/,
  /(^|\.)embed_tokens\.weight$/,
  /(^|\.)gate\.weight$/,
  /(^|\.)eh_proj\.weight$/,
];

/** Smallest amax of an activation tile, as in DeepSeek's inference kernels: guards tiles of zeros. */
const activationFloor = 1e-4;

export const insertFp8: Pass = {
  name: 'insert-fp8',
  doc: 'quantises linears to FP8: 1x128 activations, 128x128 weights, promotion every 128 of K; fuses quantisation into producers',
  run: (module) =>
    module.attributes.precision === 'fp8'
      ? mapBlocks(module, (f) => {
          // Both steps may quantise one value: equal ops are merged before they move into producers.
          const quantised = sinkBelowGrouping(module, quantiseLinears(module, f));
          return fuseIntoProducers(module, canonicalizeFunction(module, quantised));
        })
      : module,
};

/** Is this contraction one of the recipe's FP8 linears? */
function isFp8Linear(op: Op): boolean {
  if (op.op !== 'matmul' && op.op !== 'grouped_matmul') return false;
  const [x, w] = op.operands;
  if (w.source !== 'parameter' && w.source !== 'derived') return false;
  const types = [x, w, op.results[0]].map((v) => v.type as TensorType);
  return (
    types.every((t) => t.dtype === 'bf16' && t.scales.length === 0) && !keptHigh.some((k) => k.test(w.name))
  );
}

function quantiseLinears(module: Module, f: Function): Function {
  const codes = new Map<string, Value>();
  return rewriteFunction(module, f, (op, r) => {
    if (!isFp8Linear(op)) return false;
    const [x, w, ...rest] = op.operands.map((v) => r.now(v));
    const grouped = op.op === 'grouped_matmul';
    const contract = grouped ? 1 : Number(op.attributes.contract);
    const result = op.results[0];
    const resultType = result.type as TensorType;
    const xType = x.type as TensorType;
    const lead = xType.dims.slice(0, xType.dims.length - contract);
    const depth = dim(null, staticCount(xType.dims.slice(xType.dims.length - contract)));
    const flatX = contract === 1 ? x : r.b.one('reshape', [x], {}, tensor('bf16', [...lead, depth]), x.name);
    const x8 = quantised(r, codes, flatX);
    const weight = quantisedWeight(r, f, w, grouped ? 1 : 0, contract);
    const rows = (weight.type as TensorType).dims.at(-2) as Dim;
    const flat = r.b.one(
      op.op,
      [x8, weight, ...rest],
      { ...op.attributes, ...(grouped ? {} : { contract: 1 }), promote: tile },
      tensor(resultType.dtype, [...lead, rows]),
      result.name,
    );
    const outputs = resultType.dims.length - lead.length;
    r.replace(result, outputs === 1 ? flat : r.b.one('reshape', [flat], {}, resultType, result.name));
    return true;
  });
}

/** Codes of an activation; two linears that read one input share them. */
function quantised(r: Rewriter, codes: Map<string, Value>, x: Value): Value {
  const known = codes.get(x.name);
  if (known) return known;
  const type = x.type as TensorType;
  const level: ScaleLevel = {
    tile: type.dims.map((_, i) => (i === type.dims.length - 1 ? tile : 1)),
    format: 'f32',
  };
  const made = r.b.one(
    'quantize',
    [x],
    { floor: activationFloor },
    tensor('f8e4m3', type.dims, [level]),
    `${x.name}_q`,
  );
  codes.set(x.name, made);
  return made;
}

/** The derived FP8 form of a weight, as a matrix [experts?, rows, depth]. */
function quantisedWeight(r: Rewriter, f: Function, w: Value, stacked: number, contract: number): Value {
  const declared = r.b.declaration(w.name) ?? f.declarations.find((d) => d.value === w);
  if (!declared) throw new Error(`insert-fp8: ${w.name} is not declared in @${f.name}`);
  const { dims } = w.type as TensorType;
  const front = dims.slice(0, stacked);
  const rows = dim(null, staticCount(dims.slice(stacked, dims.length - contract)));
  const depth = dim(null, staticCount(dims.slice(dims.length - contract)));
  const level = (n: number): ScaleLevel => ({
    tile: [...Array<number>(n - 2).fill(1), tile, tile],
    format: 'f32',
  });
  const shapeOf = (e: DeriveExpression): readonly Dim[] =>
    'op' in e ? e.type.dims : partDims(r, e.parameter);
  const quantize = (e: DeriveExpression, shape: readonly Dim[]): DeriveExpression => {
    const plain = shapeOf(e).length === shape.length ? e : reshaped(e, shape);
    const type = tensor('f8e4m3', shape, [level(shape.length)]);
    return deriveOp('quantize', [plain], { floor: activationFloor }, type);
  };
  const shape = [...front, rows, depth];
  const type = tensor('f8e4m3', shape, [level(shape.length)]);
  const name = w.name.replace(/(\.weight)?$/, '.f8$1');
  if (declared.kind !== 'derived') return r.b.derived(name, type, quantize({ parameter: w.name }, shape));
  // A joined weight: quantise each part, so that a checkpoint's own FP8 blocks are used as they are. Joining was
  // declined unless the parts meet at block borders (compiler/join-matmuls.ts).
  const e = declared.expression;
  if ('op' in e && e.op === 'concat' && e.attributes.axis === stacked)
    return r.b.derived(
      name,
      type,
      deriveOp(
        'concat',
        e.operands.map((part) => quantize(part, [...front, shapeOf(part)[stacked], depth])),
        { axis: stacked },
        type,
      ),
    );
  return r.b.derived(name, type, quantize(e, shape));
}

function partDims(r: Rewriter, parameter: string): readonly Dim[] {
  const d = r.b.declaration(parameter);
  if (!d) throw new Error(`insert-fp8: ${parameter} is not declared`);
  return d.value.type.dims;
}

const reshaped = (e: DeriveExpression, dims: readonly Dim[]): DeriveExpression =>
  deriveOp('reshape', [e], {}, tensor('bf16', dims));

/** quantize(group_tokens(x)) → group_tokens(quantize(x)): half the bytes move, and codes are made once per token. */
function sinkBelowGrouping(module: Module, f: Function): Function {
  const defs = definitions(f);
  const codes = new Map<string, Value>();
  return rewriteFunction(module, f, (op, r) => {
    if (op.op !== 'quantize') return false;
    const group = defs.get(op.operands[0]);
    if (group?.op !== 'group_tokens') return false;
    const [x, routing] = group.operands.map((v) => r.now(v));
    const type = op.results[0].type as TensorType;
    const key = x.name;
    const x8 =
      codes.get(key) ??
      r.b.one('quantize', [x], op.attributes, { ...type, dims: (x.type as TensorType).dims }, `${x.name}_q`);
    codes.set(key, x8);
    r.replace(op.results[0], r.b.one('group_tokens', [x8, routing], {}, undefined, op.results[0].name));
    return true;
  });
}

/** rms_norm and silu_mul followed by quantize write the codes themselves. */
function fuseIntoProducers(module: Module, f: Function): Function {
  const defs = definitions(f);
  const uses = useCounts(f);
  const quantizeOf = new Map<Op, Op>();
  for (const op of f.body) {
    const producer = op.op === 'quantize' ? defs.get(op.operands[0]) : undefined;
    if (producer?.op === 'rms_norm') quantizeOf.set(producer, op);
    // SwiGLU's plain result must have no other reader: the fused op writes codes only.
    if (producer?.op === 'silu_mul' && uses.get(op.operands[0]) === 1) quantizeOf.set(producer, op);
  }
  const done = new Set<Op>();
  return rewriteFunction(module, f, (op, r) => {
    if (done.has(op)) return true;
    const quantize = quantizeOf.get(op);
    if (!quantize) return false;
    done.add(quantize);
    const operands = op.operands.map((v) => r.now(v));
    const { type, name } = quantize.results[0];
    const plain = op.results[0];
    const { floor } = quantize.attributes;
    if (op.op === 'rms_norm') {
      const [normed, scaled] = r.b.op(
        'rms_norm_quantize',
        operands,
        { epsilon: op.attributes.epsilon, floor },
        [plain.type, type],
        [plain.name, name],
      );
      r.replace(plain, normed);
      r.replace(quantize.results[0], scaled);
    } else {
      r.replace(quantize.results[0], r.b.one('silu_mul_quantize', operands, { floor }, type, name));
    }
    return true;
  });
}
