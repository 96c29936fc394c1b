// Contractions: sums of products. Plain operands accumulate in f32 or wider; scaled operands (FP8) are multiplied as
// codes and promoted every 128 of K, which only some pairs of tilings allow: a partial sum may have one scale per side.
import type { DType } from '../formats/index.ts';
import type { Attributes } from '../module.ts';
import type { ReferenceContext, TensorData } from '../interpret/values.ts';
import {
  sameDim,
  sameDims,
  showDim,
  showType,
  tensor,
  type Dim,
  type TensorType,
  type Type,
} from '../types.ts';
import { defineOp, problem, type OpDefinition } from './define.ts';
import { evaluateEinsum, parseEinsum } from './einsum.ts';
import { multiply, multiplyPromoted, type Promotion, type RowScales } from './multiply.ts';
import {
  asRouting,
  asTensor,
  costOf,
  elements,
  expectDeclared,
  expectElements,
  expectRouting,
  expectTensor,
  integerOf,
  isOf,
  named,
  product,
  sizeOf,
  tensorData,
  textOf,
} from './support.ts';

/** K per partial sum: the checkpoint's scale block, and what Hopper's tensor cores can add up before they lose bits. */
const promoteBlock = 128;

const promoteAttribute = {
  promote: {
    kind: 'integer',
    default: 0,
    doc: 'K per partial sum; 128 for scaled operands, 0 for plain ones',
  },
} as const;

const tileOf = (t: TensorType): string => t.scales[0].tile.join('x');

/**
 * Checks what two factors must share besides their shapes: both plain floats of one dtype, or both scaled FP8 of a
 * pair of tilings that a kernel can promote. `experts`: w has an axis of experts in front.
 */
function checkFactors(x: TensorType, w: TensorType, promote: number, op: string, experts = false): void {
  const types = `x is ${showType(x)}, w is ${showType(w)}`;
  const [xScaled, wScaled] = [x.scales.length > 0, w.scales.length > 0];
  if (!xScaled && !wScaled) {
    if (promote !== 0)
      problem(
        `${op}: promote is ${promote}, but the operands are plain: ${types}`,
        'promote',
        'leave promote out',
      );
    for (const [name, t] of [
      ['x', x],
      ['w', w],
    ] as const)
      expectElements('float', t, name, op);
    if (x.dtype !== w.dtype)
      problem(
        `${op} needs x and w of one dtype: ${types}`,
        'w',
        `cast one of them: to ${x.dtype} or ${w.dtype}`,
      );
    return;
  }
  if (xScaled !== wScaled) {
    const plain = xScaled ? 'w' : 'x';
    problem(
      `${op} needs both operands scaled or both plain: ${types}`,
      plain,
      `quantize ${plain}, or dequantize the other`,
    );
  }
  for (const [name, t] of [
    ['x', x],
    ['w', w],
  ] as const)
    if (t.dtype !== 'f8e4m3' && t.dtype !== 'f8e5m2')
      problem(
        `${op}: tensor cores multiply scaled f8e4m3 and f8e5m2 only: ${types}`,
        name,
        `dequantize ${name}, or quantize it to f8e4m3`,
      );
  const row = (t: TensorType): boolean =>
    t.scales.length === 1 &&
    t.scales[0].tile.every((n, i) => n === (i === t.dims.length - 1 ? promoteBlock : 1));
  const weight = experts ? '1x128x128' : '128x128';
  const forward = w.scales.length === 1 && tileOf(w) === weight && row(x);
  // Weight gradients contract over tokens: both sides hold one scale per row and 128 tokens.
  const gradient = !experts && x.dims.length === 2 && w.dims.length === 2 && row(x) && row(w);
  if (!forward && !gradient) {
    const rowTile = [...x.dims.slice(1).map(() => '1'), '128'].join('x');
    const pairs = experts
      ? `x in tiles of 1x128 with w in ${weight}`
      : `x in tiles of ${rowTile} with w[N, K] in 128x128 (forward, input gradient), or both 2-d in 1x128 (weight gradient)`;
    problem(
      `${op}: no kernel can promote this pair of tilings: ${types}`,
      row(x) ? 'w' : 'x',
      `quantize ${pairs}`,
    );
  }
  if (promote !== promoteBlock)
    problem(
      `${op}: scaled operands need promote = 128, but it is ${promote}: a partial sum may have one scale per side only`,
      'promote',
      'set promote = 128',
    );
}

/** The result with these dims: declared dtype (a plain float), by default that of plain operands. */
function resultOf(
  x: TensorType,
  dims: readonly Dim[],
  declared: readonly Type[] | null,
  op: string,
): readonly Type[] {
  if (declared === null && x.scales.length > 0)
    problem(
      `${op} of scaled operands cannot know its result dtype`,
      null,
      'declare the result, in bf16 or f32',
    );
  const to = declared === null ? tensor(x.dtype, dims) : expectDeclared(declared, op);
  if (to.scales.length > 0 || !isOf('float', to))
    problem(`${op} gives plain floats, but ${showType(to)} is declared`, null, 'declare bf16 or f32');
  return named([tensor(to.dtype, dims)], [to]);
}

/** Scales as the rows of a packed matrix. */
const rowScales = (value: TensorData, rowTile: number): RowScales => {
  const { shape, data } = value.scales[0];
  return { data, offset: 0, columns: shape.at(-1)!, rowTile };
};

/** How to promote, or null for plain operands. Scales of the first expert's matrix in grouped_matmul. */
function promotionOf(x: TensorData, w: TensorData, context: ReferenceContext): Promotion | null {
  if (x.scales.length === 0) return null;
  const { tile } = (context.operands[1] as TensorType).scales[0];
  return {
    a: rowScales(x, 1),
    // 128 in weight blocks, 1 in rows.
    b: rowScales(w, tile.at(-2)!),
    block: promoteBlock,
    rounding: context.rounding,
  };
}

const dtypeOf = (context: ReferenceContext): DType => (context.results[0] as TensorType).dtype;

/** Trailing axes that a matmul sums over. */
function contractedAxes(attributes: Attributes, x: TensorType, w: TensorType): number {
  const contract = integerOf(attributes, 'contract');
  if (contract < 1 || contract > Math.min(x.dims.length, w.dims.length))
    problem(
      `matmul: contract is ${contract}, but x is ${showType(x)} and w is ${showType(w)}`,
      'contract',
      'contract at least one and at most all axes of either',
    );
  return contract;
}

export const contractionOps = {
  matmul: defineOp({
    name: 'matmul',
    class: 'contraction',
    doc: 'x times the transpose of w: sums over the trailing axes of both, in f32 or wider',
    operands: ['x', 'w'],
    attributes: {
      contract: { kind: 'integer', default: 1, doc: 'trailing axes summed over' },
      ...promoteAttribute,
    },
    infer: ([xType, wType], attributes, declared) => {
      const x = expectTensor(xType, 'x', 'matmul');
      const w = expectTensor(wType, 'w', 'matmul');
      const contract = contractedAxes(attributes, x, w);
      const [xKept, xSummed] = [x.dims.slice(0, -contract), x.dims.slice(-contract)];
      const [wKept, wSummed] = [w.dims.slice(0, -contract), w.dims.slice(-contract)];
      if (!sameDims(xSummed, wSummed))
        problem(
          `matmul sums over [${xSummed.map(showDim).join(', ')}] of x and [${wSummed.map(showDim).join(', ')}] of w: x is ${showType(x)}, w is ${showType(w)}`,
          'w',
          sameDims(xSummed, w.dims.slice(0, contract)) ? 'transpose w: its summed axes come last' : null,
        );
      checkFactors(x, w, integerOf(attributes, 'promote'), 'matmul');
      if (x.scales.length > 0 && (contract !== 1 || w.dims.length !== 2))
        problem(
          `matmul of scaled operands needs w as [N, K] and contract = 1: w is ${showType(w)}, contract is ${contract}`,
          contract === 1 ? 'w' : 'contract',
          'reshape w to two axes before quantize',
        );
      return resultOf(x, [...xKept, ...wKept], declared, 'matmul');
    },
    reference: ([xValue, wValue], attributes, context) => {
      const [x, w] = [asTensor(xValue), asTensor(wValue)];
      const contract = integerOf(attributes, 'contract');
      const [xKept, wKept] = [x.shape.slice(0, -contract), w.shape.slice(0, -contract)];
      const [m, n, k] = [xKept, wKept, x.shape.slice(-contract)].map(product);
      const out = new Float64Array(m * n);
      const a = { data: x.data, offset: 0, stride: k };
      const b = { data: w.data, offset: 0, stride: k };
      const promotion = promotionOf(x, w, context);
      if (promotion) multiplyPromoted(a, b, m, n, k, promotion, out);
      else multiply(a, b, m, n, k, out);
      return [tensorData(dtypeOf(context), [...xKept, ...wKept], out)];
    },
    cost: ([x, w], results, attributes, sizes) => {
      const summed = (x as TensorType).dims.slice(-integerOf(attributes, 'contract'));
      const k = product(summed.map((d) => sizeOf(d, sizes)));
      return costOf(2 * k * elements(results[0] as TensorType, sizes), [x, w], results, sizes);
    },
  } satisfies OpDefinition),

  einsum: defineOp({
    name: 'einsum',
    class: 'contraction',
    doc: 'Sums of products by a spec like "thn,hnr->thr": letters that the result lacks are summed over',
    operands: ['a', 'b'],
    attributes: { spec: { kind: 'string', doc: 'one letter per axis: axes of a, of b, -> of the result' } },
    infer: ([aType, bType], attributes, declared) => {
      const a = expectElements('float', aType, 'a', 'einsum');
      const b = expectElements('float', bType, 'b', 'einsum');
      const spec = textOf(attributes, 'spec');
      const letters = parseEinsum(spec);
      const axes = new Map<string, { dim: Dim; type: TensorType }>();
      for (const [name, type] of [
        ['a', a],
        ['b', b],
      ] as const) {
        if (letters[name].length !== type.dims.length)
          problem(
            `einsum: "${spec}" gives ${name} ${letters[name].length} axes, but it is ${showType(type)}`,
            'spec',
            'write one letter per axis',
          );
        for (const [i, l] of letters[name].entries()) {
          const known = axes.get(l);
          if (known && !sameDim(known.dim, type.dims[i]))
            problem(
              `einsum: ${l} of "${spec}" is ${showDim(known.dim)} in a and ${showDim(type.dims[i])} in b: a is ${showType(a)}, b is ${showType(b)}`,
              'b',
            );
          if (!known) axes.set(l, { dim: type.dims[i], type });
        }
      }
      if (a.dtype !== b.dtype)
        problem(
          `einsum needs a and b of one dtype: a is ${showType(a)}, b is ${showType(b)}`,
          'b',
          `cast one of them: to ${a.dtype} or ${b.dtype}`,
        );
      return resultOf(
        a,
        letters.out.map((l) => axes.get(l)!.dim),
        declared,
        'einsum',
      );
    },
    reference: ([aValue, bValue], attributes, context) => {
      const data = evaluateEinsum(
        parseEinsum(textOf(attributes, 'spec')),
        asTensor(aValue),
        asTensor(bValue),
      );
      return [tensorData(dtypeOf(context), context.shapeOf(context.results[0]), data)];
    },
    cost: ([a, b], results, attributes, sizes) => {
      const letters = parseEinsum(textOf(attributes, 'spec'));
      const dims = new Map<string, Dim>();
      for (const [l, d] of [
        ...letters.a.map((l, i) => [l, (a as TensorType).dims[i]] as const),
        ...letters.b.map((l, i) => [l, (b as TensorType).dims[i]] as const),
      ])
        dims.set(l, d);
      const products = product([...dims.values()].map((d) => sizeOf(d, sizes)));
      return costOf(2 * products, [a, b], results, sizes);
    },
  } satisfies OpDefinition),

  grouped_matmul: defineOp({
    name: 'grouped_matmul',
    class: 'contraction',
    doc: "Each row of x times the transpose of its expert's matrix; padding rows give 0",
    operands: ['x', 'w', 'routing'],
    attributes: promoteAttribute,
    infer: ([xType, wType, routingType], attributes, declared) => {
      const x = expectTensor(xType, 'x', 'grouped_matmul');
      const w = expectTensor(wType, 'w', 'grouped_matmul');
      const routing = expectRouting(routingType, 'routing', 'grouped_matmul');
      const types = `x is ${showType(x)}, w is ${showType(w)}, routing is ${showType(routing)}`;
      if (x.dims.length !== 2) problem(`grouped_matmul needs x as [slots, K]: ${types}`, 'x');
      if (w.dims.length !== 3) problem(`grouped_matmul needs w as [experts, N, K]: ${types}`, 'w');
      if (!sameDim(x.dims[0], routing.slots))
        problem(
          `grouped_matmul: rows of x are ${showDim(x.dims[0])}, but the routing has ${showDim(routing.slots)}: ${types}`,
          'x',
          'group_tokens brings rows into the order of a routing',
        );
      if (!sameDim(w.dims[0], routing.experts))
        problem(
          `grouped_matmul: w has ${showDim(w.dims[0])} matrices, the routing ${showDim(routing.experts)} experts: ${types}`,
          'w',
        );
      if (!sameDim(x.dims[1], w.dims[2]))
        problem(
          `grouped_matmul sums over ${showDim(x.dims[1])} of x and ${showDim(w.dims[2])} of w: ${types}`,
          'w',
          sameDim(x.dims[1], w.dims[1]) ? 'transpose w: its summed axis comes last' : null,
        );
      checkFactors(x, w, integerOf(attributes, 'promote'), 'grouped_matmul', true);
      return resultOf(x, [x.dims[0], w.dims[1]], declared, 'grouped_matmul');
    },
    reference: ([xValue, wValue, routingValue], _, context) => {
      const [x, w, routing] = [asTensor(xValue), asTensor(wValue), asRouting(routingValue)];
      const [slots, k] = x.shape;
      const n = w.shape[1];
      const out = new Float64Array(slots * n);
      const promotion = promotionOf(x, w, context);
      for (let expert = 0; expert < routing.experts; expert++) {
        const [first, end] = [routing.offsets[expert], routing.offsets[expert + 1]];
        const a = { data: x.data, offset: first * k, stride: k };
        const b = { data: w.data, offset: expert * n * k, stride: k };
        if (promotion) {
          const [, scaleRows, columns] = w.scales[0].shape;
          const own: Promotion = {
            ...promotion,
            a: { ...promotion.a, offset: first * columns },
            b: { ...promotion.b, offset: expert * scaleRows * columns },
          };
          multiplyPromoted(a, b, end - first, n, k, own, out, first * n);
        } else multiply(a, b, end - first, n, k, out, first * n);
      }
      // Whatever the padding rows of x hold (a kernel may leave them unset), the result's are 0.
      for (const [slot, token] of routing.tokenOf.entries())
        if (token < 0) out.fill(0, slot * n, (slot + 1) * n);
      return [tensorData(dtypeOf(context), [slots, n], out)];
    },
    cost: ([x, w, routing], results, _, sizes) => {
      const k = sizeOf((x as TensorType).dims[1], sizes);
      return costOf(2 * k * elements(results[0] as TensorType, sizes), [x, w, routing], results, sizes);
    },
  } satisfies OpDefinition),
};
