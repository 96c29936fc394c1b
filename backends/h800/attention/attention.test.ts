// Attention kernels: those of DeepSeek-V3 assembled, and every form of the op at small sizes executed by the
// functional PTX interpreter against the IR interpreter's reference.
import { describe, expect, test } from 'vitest';
import { packedPositions, pageTable, stepPositions } from '../../../ir/interpret/index.ts';
import type { PositionsData, RuntimeValue, TensorData } from '../../../ir/interpret/values.ts';
import type { Attributes, DimDeclaration } from '../../../ir/module.ts';
import { type as typeOf } from '../../../ir/ops/testing.ts';
import type { TensorType } from '../../../ir/types.ts';
import {
  assembled,
  expectClose,
  kernelOf,
  random,
  reference,
  run,
  type Close,
  type Subject,
} from '../../../test/support/kernel-subject.ts';
import { emitAttention, tileFor } from './index.ts';

const t = (text: string): TensorType => typeOf(text) as TensorType;

const page = 4;
const dimsWith = (tokens: number, cached: number): readonly DimDeclaration[] => [
  { name: 'tokens', bound: tokens },
  { name: 'cached', bound: cached },
  { name: 'sequences', bound: 128 },
  { name: 'outputs', bound: tokens },
];
const small = dimsWith(64, 256);
const pagedState = [
  { name: 'cache', policy: 'paged' as const, page, fields: [{ name: 'row', type: t('bf16[cached, 8]') }] },
];
const packedType = 'positions[tokens, tokens, sequences, outputs]';
const pagedType = 'positions[tokens, cached, sequences, outputs]';

interface Options {
  readonly dtype?: string;
  readonly attributes?: Attributes;
  readonly dims?: readonly DimDeclaration[];
}

/** Nothing before the op: packed, or paged with `keys` cached. */
function plain(
  keys: 'tokens' | 'cached',
  [heads, groups, depth, width]: readonly number[],
  { dtype = 'bf16', attributes = {}, dims = small }: Options = {},
): Subject {
  const args = [
    `${dtype}[tokens, ${heads}, ${depth}]`,
    `${dtype}[${keys}, ${groups}, ${depth}]`,
    `${dtype}[${keys}, ${groups}, ${width}]`,
    keys === 'tokens' ? packedType : pagedType,
  ];
  return kernelOf({ args, dims, states: pagedState }, (b, operands) => [
    b.one('attention', operands, { scale: depth ** -0.5, ...attributes }),
  ]);
}

/** Prefill as fuse-loops leaves it: q and k joined from halves of products and the turned parts. */
function prefill(
  [heads, nope, rope, width]: readonly number[],
  { dtype = 'bf16', attributes = {}, dims = small }: Options = {},
): Subject {
  const args = [
    `${dtype}[tokens, ${heads * (nope + rope)}]`,
    `${dtype}[tokens, ${heads}, ${rope}]`,
    `${dtype}[tokens, ${heads * (nope + width)}]`,
    `${dtype}[tokens, ${rope}]`,
    packedType,
  ];
  return kernelOf({ args, dims, name: 'prefill' }, (b, [q0, qRope, kv, kRope, at]) => {
    const [qNope] = b.op(
      'split',
      [b.one('reshape', [q0], {}, t(`${dtype}[tokens, ${heads}, ${nope + rope}]`))],
      { axis: 2, sizes: [nope, rope] },
    );
    const q = b.one('concat', [qNope, qRope], { axis: 2 });
    const [kNope, v] = b.op(
      'split',
      [b.one('reshape', [kv], {}, t(`${dtype}[tokens, ${heads}, ${nope + width}]`))],
      { axis: 2, sizes: [nope, width] },
    );
    const k = b.one(
      'concat',
      [kNope, b.one('broadcast', [kRope], { axes: [0, 2] }, t(`${dtype}[tokens, ${heads}, ${rope}]`))],
      { axis: 2 },
    );
    return [b.one('attention', [q, k, v, at], { scale: 0.1352337788608801, ...attributes })];
  });
}

/** Decode in absorbed form: one key head, whose values are the first part of the keys. */
function decode(
  [heads, rank, rope]: readonly number[],
  { dtype = 'bf16', attributes = {}, dims = small }: Options = {},
): Subject {
  const args = [
    `${dtype}[tokens, ${heads}, ${rank}]`,
    `${dtype}[tokens, ${heads}, ${rope}]`,
    `${dtype}[cached, ${rank}]`,
    `${dtype}[cached, ${rope}]`,
    pagedType,
  ];
  return kernelOf(
    { args, dims, states: pagedState, name: 'decode' },
    (b, [qLatent, qRope, latents, ropes, at]) => {
      const q = b.one('concat', [qLatent, qRope], { axis: 2 });
      const k = b.one(
        'reshape',
        [b.one('concat', [latents, ropes], { axis: 1 })],
        {},
        t(`${dtype}[cached, 1, ${rank + rope}]`),
      );
      const v = b.one('reshape', [latents], {}, t(`${dtype}[cached, 1, ${rank}]`));
      return [b.one('attention', [q, k, v, at], { scale: 0.1352337788608801, ...attributes })];
    },
  );
}

const packed = packedPositions([4, 1, 9, 2]);
/** Pages in no order; a step of several tokens for some sequences, none for one. */
const pages = [Int32Array.of(3, 0, 5), Int32Array.of(1, 4), Int32Array.of(7), Int32Array.of(2, 6, 8)];
const paged = stepPositions([7, 2, 3, 11], [2, 3, 0, 1], 'all', page, pages);

/** Random inputs of a subject for positions. */
function inputsFor({ fn }: Subject, at: PositionsData, spread = 2): RuntimeValue[] {
  const sizes = { tokens: at.position.length, cached: at.page * 9 };
  return fn.arguments.map(({ value }, i) =>
    value.type.kind === 'positions' ? at : random(value.type, 31 * i + 7, sizes, spread),
  );
}

async function check(subject: Subject, inputs: readonly RuntimeValue[], close: Close = {}): Promise<string> {
  const kernel = emitAttention(subject.fn, subject.module);
  const [want] = reference(subject, inputs);
  const { results } = run(kernel, subject, inputs);
  expectClose(results[0], want, { absolute: 2e-5, share: 0.02, ...close });
  await assembled(kernel);
  return kernel.ptx;
}

describe('shapes', () => {
  for (const dtype of ['f32', 'bf16', 'f16'])
    for (const [keys, at] of [
      ['tokens', packed],
      ['cached', paged],
    ] as const)
      test(`${dtype} along ${keys}`, async () => {
        const subject = plain(keys, [4, 2, 32, 64], { dtype });
        await check(subject, inputsFor(subject, at));
      });

  const shapes: [title: string, shape: readonly number[]][] = [
    ['one head', [1, 1, 16, 16]],
    ['equal heads', [3, 3, 40, 24]],
    ['three heads to a key head', [6, 2, 16, 8]],
    ['twelve heads, one key head', [12, 1, 24, 72]],
    ['odd lengths', [2, 1, 17, 33]],
    ['length 1', [2, 2, 1, 1]],
    ['more than one chunk of every width', [1, 1, 328, 300]],
  ];
  for (const [title, shape] of shapes)
    test(title, async () => {
      for (const [keys, at] of [
        ['tokens', packed],
        ['cached', paged],
      ] as const) {
        const subject = plain(keys, shape);
        await check(subject, inputsFor(subject, at));
      }
    });
});

describe('visibility', () => {
  const attributes: Attributes[] = [
    {},
    { window: 1 },
    { window: 3 },
    { causal: false },
    { causal: false, window: 2 },
    { window: 100 },
  ];
  for (const a of attributes)
    test(JSON.stringify(a), async () => {
      for (const [keys, at] of [
        ['tokens', packed],
        ['cached', paged],
      ] as const) {
        const subject = plain(keys, [2, 1, 32, 32], { dtype: 'f32', attributes: a });
        await check(subject, inputsFor(subject, at));
      }
    });

  test('a sequence longer than a warp is wide', async () => {
    const at = packedPositions([3, 70, 32, 1]);
    const dims = dimsWith(128, 256);
    for (const a of [{}, { causal: false }, { causal: false, window: 40 }] as Attributes[]) {
      const subject = plain('tokens', [1, 1, 8, 8], { dtype: 'f32', attributes: a, dims });
      await check(subject, inputsFor(subject, at));
    }
  });

  test('more tokens in a step than a warp is wide', async () => {
    const lengths = [40, 3];
    const at = stepPositions([5, 30], lengths, 'all', page, pageTable([45, 33], page));
    const subject = plain('cached', [1, 1, 8, 8], { dtype: 'f32', attributes: { causal: false } });
    const rows = 96;
    await check(subject, [
      random('f32[43, 1, 8]', 1),
      random(`f32[${rows}, 1, 8]`, 2),
      random(`f32[${rows}, 1, 8]`, 3),
      at,
    ]);
  });
});

describe('views in front', () => {
  const odd = [3, 10, 6, 14];
  for (const dtype of ['f32', 'bf16'])
    test(`prefill, ${dtype}`, async () => {
      for (const shape of [odd, [2, 32, 16, 32], [4, 128, 64, 128]]) {
        const subject = prefill(shape, { dtype });
        await check(subject, inputsFor(subject, packed));
      }
    });

  for (const dtype of ['f32', 'bf16'])
    test(`absorbed decode, ${dtype}`, async () => {
      for (const shape of [
        [4, 64, 8],
        [3, 20, 6],
        [8, 512, 64],
      ]) {
        const subject = decode(shape, { dtype });
        await check(subject, inputsFor(subject, paged));
      }
    });

  test('transpose, cast, slice and a reshape behind', async () => {
    const subject = kernelOf(
      { args: ['f32[tokens, 2, 24]', 'bf16[2, 16, tokens]', 'bf16[2, tokens, 20]', packedType], dims: small },
      (b, [x, y, z, at]) => {
        const q = b.one(
          'cast',
          [b.one('slice', [x], { axis: 2, start: 8, stop: 24 })],
          {},
          t('bf16[tokens, 2, 16]'),
        );
        const k = b.one('transpose', [y], { order: [2, 0, 1] });
        const v = b.one('transpose', [z], { order: [1, 0, 2] });
        const out = b.one('attention', [q, k, v, at], { scale: 0.25 });
        return [b.one('reshape', [out], {}, t('bf16[tokens, 40]'))];
      },
    );
    await check(subject, inputsFor(subject, packed));
  });

  test('key heads that share a tensor with the values, and padding', async () => {
    const subject = kernelOf(
      { args: ['f32[tokens, 2, 20]', 'f32[tokens, 64]', packedType], dims: small },
      (b, [q, kv, at]) => {
        const joined = b.one('reshape', [kv], {}, t('f32[tokens, 2, 2, 16]'));
        const [k, v] = b.op('split', [joined], { axis: 1, sizes: [1, 1] });
        const keys = b.one('pad', [b.one('reshape', [k], {}, t('f32[tokens, 2, 16]'))], {
          axis: 2,
          before: 3,
          after: 1,
          value: 0.5,
        });
        return [
          b.one('attention', [q, keys, b.one('reshape', [v], {}, t('f32[tokens, 2, 16]')), at], {
            scale: 0.25,
          }),
        ];
      },
    );
    await check(subject, inputsFor(subject, packed));
  });
});

describe('numbers', () => {
  test('large scores', async () => {
    const subject = plain('tokens', [2, 1, 64, 32], { dtype: 'f32' });
    // Scores up to some hundreds: what f32 leaves of them bounds the relative error of the weights.
    await check(subject, inputsFor(subject, packed, 20), { relative: 1e-4, absolute: 1e-3 });
  });

  test('scores of -infinity weigh nothing, from the first round on', async () => {
    const subject = plain('tokens', [1, 1, 8, 8], { dtype: 'f32' });
    const inputs = inputsFor(subject, packedPositions([9]));
    const [q, k] = inputs as TensorData[];
    // In the last element: idle lanes load it again, and 0 times it would be NaN.
    for (let row = 0; row < 9; row++) q.data[8 * row + 7] = 1;
    for (let row = 0; row < 5; row++) k.data[8 * row + 7] = -Infinity;
    const { results } = run(emitAttention(subject.fn, subject.module), subject, inputs);
    const [want] = reference(subject, inputs) as TensorData[];
    // The first five tokens see nothing else: NaN in both; the others see some keys.
    expect(Array.from(want.data, Number.isNaN)).toEqual(Array.from({ length: 72 }, (_, i) => i < 40));
    expectClose(results[0], want, { absolute: 2e-5 });
  });

  test('NaN and infinite scores', async () => {
    for (const x of [NaN, Infinity]) {
      const subject = plain('tokens', [1, 1, 8, 8], { dtype: 'f32' });
      const inputs = inputsFor(subject, packedPositions([9]));
      const [q, k] = inputs as TensorData[];
      for (let row = 0; row < 9; row++) q.data[8 * row] = 1;
      k.data[8 * 6] = x;
      const { results } = run(emitAttention(subject.fn, subject.module), subject, inputs);
      const [want] = reference(subject, inputs) as TensorData[];
      expect(Array.from(want.data, Number.isNaN)).toEqual(Array.from({ length: 72 }, (_, i) => i >= 48));
      expectClose(results[0], want, { absolute: 2e-5 });
    }
  });
});

describe('addresses', () => {
  test('beyond 2^31 elements', async () => {
    const dims = dimsWith(2 ** 22, 2 ** 26);
    for (const subject of [
      prefill([4, 128, 64, 128], { dims: dimsWith(2 ** 24, 1) }),
      decode([8, 512, 64], { dims }),
      plain('cached', [2, 2, 64, 64], { dims: dimsWith(2 ** 26, 2 ** 27) }),
    ]) {
      const ptx = await check(subject, inputsFor(subject, subject.fn.name === 'prefill' ? packed : paged));
      expect(ptx).toMatch(/mul\.lo\.s64|mad\.lo\.s64/);
    }
  });

  test('no element is loaded alone where rows are aligned', () => {
    for (const subject of [prefill([128, 128, 64, 128]), decode([128, 512, 64])]) {
      const { ptx } = emitAttention(subject.fn, subject.module);
      expect(ptx).not.toMatch(/ld\.global\.b16/);
      expect(ptx).toMatch(/ld\.global\.v[24]\.b32/);
    }
    // Values are the latents that the key was: they are not loaded twice.
    const { ptx } = emitAttention(decode([128, 512, 64]).fn, decode([128, 512, 64]).module);
    expect(ptx.match(/ld\.global\.v4\.b32/g)).toHaveLength(2 + 4 * 2);
  });
});

describe('launch', () => {
  test('warps of a CTA read the same keys', () => {
    expect(tileFor(128, 128, true)).toEqual({ tokens: 8, heads: 1 });
    expect(tileFor(128, 1, false)).toEqual({ tokens: 1, heads: 8 });
    expect(tileFor(128, 128, false)).toEqual({ tokens: 1, heads: 8 });
    expect(tileFor(12, 2, true)).toEqual({ tokens: 4, heads: 2 });
    expect(tileFor(3, 3, false)).toEqual({ tokens: 8, heads: 1 });
  });

  test("DeepSeek-V3's kernels assemble without spills", async () => {
    const dims = dimsWith(16384, 2 ** 20);
    for (const subject of [prefill([128, 128, 64, 128], { dims }), decode([128, 512, 64], { dims })]) {
      const kernel = emitAttention(subject.fn, subject.module);
      expect(kernel.family).toBe('attention');
      expect(kernel.grid.axes).toHaveLength(2);
      expect(kernel.ptx).toContain('.loc 1 7 3');
      await assembled(kernel);
    }
  });

  test('a function that is more than attention is refused', () => {
    const two = kernelOf({ args: ['f32[tokens, 1, 8]', packedType], dims: small }, (b, [x, at]) => {
      const y = b.one('attention', [x, x, x, at], { scale: 1 });
      return [b.one('attention', [y, x, x, at], { scale: 1 })];
    });
    expect(() => emitAttention(two.fn, two.module)).toThrow(/one attention and one result/);
    const after = kernelOf({ args: ['f32[tokens, 1, 8]', packedType], dims: small }, (b, [x, at]) => [
      b.one('neg', [b.one('attention', [x, x, x, at], { scale: 1 })]),
    ]);
    expect(() => emitAttention(after.fn, after.module)).toThrow(/neg stands between/);
  });
});
