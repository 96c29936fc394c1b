// Kernels as fusion makes them: chains of ops in one launch, quantisation, and ops that depend on positions, routings
// and caches, all as loops.
import { describe, expect, test } from 'vitest';
import type { FunctionBuilder } from '../../../ir/builder.ts';
import {
  packedPositions,
  pageTable,
  stepPositions,
  newState,
  cacheRows,
} from '../../../ir/interpret/index.ts';
import { apply } from '../../../ir/interpret/testing.ts';
import type { RuntimeValue, StateData, TensorData } from '../../../ir/interpret/values.ts';
import type { Attributes, DimDeclaration, StateDeclaration, Value } from '../../../ir/module.ts';
import { type as typeOf } from '../../../ir/ops/testing.ts';
import type { TensorType } from '../../../ir/types.ts';
import {
  assembled,
  expectClose,
  kernelOf,
  random,
  reference,
  run,
  tensorValue,
  type Close,
  type Given,
} from '../../../test/support/kernel-subject.ts';
import { emitNestedLoops } from './index.ts';

const tokens: readonly DimDeclaration[] = [{ name: 'tokens', bound: 256 }];

async function check(
  given: Given,
  inputs: readonly RuntimeValue[],
  body: (b: FunctionBuilder, args: readonly Value[]) => readonly Value[],
  close: Close = {},
  sizes: Readonly<Record<string, number>> = {},
): Promise<string> {
  const subject = kernelOf(given, body);
  const kernel = emitNestedLoops(subject.fn, subject.module);
  const { results } = run(kernel, subject, inputs, { sizes });
  const want = reference(subject, inputs, sizes);
  for (const [i, w] of want.entries()) expectClose(trimmed(results[i], w), w, close);
  await assembled(kernel);
  return kernel.ptx;
}

/** A ragged result is laid out for its bound; the rows in use are compared. */
function trimmed(got: RuntimeValue, want: RuntimeValue): RuntimeValue {
  if (
    got.kind !== 'tensor' ||
    want.kind !== 'tensor' ||
    got.shape.length === 0 ||
    got.shape[0] === want.shape[0]
  )
    return got;
  const rows = want.shape[0];
  const cut = (t: { shape: readonly number[]; data: Float64Array }) => ({
    shape: t.shape.with(0, rows),
    data: t.data.slice(0, (t.data.length / t.shape[0]) * rows),
  });
  return { ...got, ...cut(got), scales: got.scales.map(cut) };
}

const t = (text: string): TensorType => typeOf(text) as TensorType;

describe('quantisation', () => {
  const quantised = (from: string, to: string, floor = 1e-4) =>
    [
      { args: [from], dims: tokens },
      (b: FunctionBuilder, [x]: readonly Value[]) => [b.one('quantize', [x], { floor }, t(to))],
    ] as const;
  const cases: [title: string, from: string, to: string, size?: number, floor?: number][] = [
    ['rows of tiles', 'bf16[tokens, 384]', 'f8e4m3<1x128; f32>[tokens, 384]', 3],
    ['a ragged last tile', 'bf16[tokens, 200]', 'f8e4m3<1x128; f32>[tokens, 200]', 3],
    ['powers of two', 'f32[tokens, 256]', 'f8e4m3<1x128; pow2>[tokens, 256]', 3],
    ['exponent bytes', 'f32[tokens, 256]', 'f8e4m3<1x128; ue8m0>[tokens, 256]', 3],
    ['small tiles', 'f32[tokens, 64]', 'f8e4m3<1x32; ue8m0>[tokens, 64]', 3],
    ['e5m2', 'f32[tokens, 256]', 'f8e5m2<1x128; f32>[tokens, 256]', 3],
    ['E5M6', 'bf16[tokens, 256]', 'f12e5m6<1x128; pow2>[tokens, 256]', 3],
    ['weight blocks', 'bf16[192, 300]', 'f8e4m3<128x128; f32>[192, 300]'],
    ['columns of tiles', 'f32[tokens, 40]', 'f8e4m3<128x1; f32>[tokens, 40]', 150],
    ['whole rows', 'f32[tokens, 300]', 'f8e4m3<1x*; f32>[tokens, 300]', 4],
    ['one scale', 'f32[tokens, 30]', 'f8e4m3<*x*; f32>[tokens, 30]', 4],
    ['stacked experts', 'bf16[2, 130, 128]', 'f8e4m3<1x128x128; f32>[2, 130, 128]'],
    ['no floor', 'f32[tokens, 256]', 'f8e4m3<1x128; f32>[tokens, 256]', 3, 0],
    ['no floor, powers of two', 'f32[tokens, 256]', 'f8e4m3<1x128; pow2>[tokens, 256]', 3, 0],
  ];
  for (const [title, from, to, n = 0, floor = 1e-4] of cases)
    test(title, async () => {
      const [given, body] = quantised(from, to, floor);
      const x = random(from, 5, { tokens: n });
      // One tile of zeros and one of tiny numbers.
      x.data.fill(0, 0, 128);
      if (floor === 0) for (let i = 128; i < 256; i++) x.data[i] = Math.fround((i % 7) * 2 ** -147);
      // Codes are exact: division and rounding are those of the reference.
      await check(given, [x], body, { relative: 0, share: 0 });
    });

  test('dequantize', async () => {
    for (const type of [
      'f8e4m3<1x128; f32>[tokens, 200]',
      'f8e4m3<128x128; f32>[200, 130]',
      'f8e4m3<1x32; ue8m0>[tokens, 64]',
    ]) {
      const plain = type.replace(/^f8e4m3<.*>/, 'bf16');
      const [scaled] = apply(
        'quantize',
        { operands: [plain.replace('tokens', '3')], declared: [type.replace('tokens', '3')] },
        [random(plain, 9, { tokens: 3 })],
      );
      await check(
        { args: [type], dims: tokens },
        [scaled],
        (b, [x]) => [b.one('dequantize', [x], {}, t(plain))],
        { relative: 0, share: 0 },
      );
    }
  });

  test('scaled values through views', async () => {
    const [scaled] = apply(
      'quantize',
      { operands: ['f32[6, 512]'], declared: ['f8e4m3<1x128; f32>[6, 512]'] },
      [random('f32[6, 512]', 9)],
    );
    await check({ args: ['f8e4m3<1x128; f32>[6, 512]'] }, [scaled], (b, [x]) => {
      const cut = b.one('slice', [x], { axis: 1, start: 128, stop: 384 });
      const [, second] = b.op('split', [x], { axis: 1, sizes: [256, 256] });
      return [
        cut,
        second,
        b.one('transpose', [cut], { order: [1, 0] }),
        b.one('concat', [cut, second], { axis: 1 }),
      ];
    });
  });
});

describe('fused chains', () => {
  test('residual add, rms_norm and quantize', async () => {
    const given: Given = { args: ['bf16[tokens, 512]', 'bf16[tokens, 512]', 'bf16[512]'], dims: tokens };
    const ptx = await check(
      given,
      [
        random(given.args[0], 1, { tokens: 3 }),
        random(given.args[1], 2, { tokens: 3 }),
        random(given.args[2], 3),
      ],
      (b, [x, y, w]) => {
        const h = b.one('add', [x, y]);
        const [normed, scaled] = b.op('rms_norm_quantize', [h, w], { epsilon: 1e-6 }, [
          h.type,
          t('f8e4m3<1x128; f32>[tokens, 512]'),
        ]);
        return [h, normed, scaled];
      },
    );
    // One pass for the sum of squares, one for the amax of tiles, one for all three results.
    expect(ptx.match(/ld\.global/g)!.length).toBeLessThanOrEqual(8);
    expect(ptx).not.toContain('ld.global.b16');
    expect(ptx).toContain('st.global.v2.b32');
  });

  test('rms_norm and quantize of long rows', async () => {
    const given: Given = { args: ['bf16[tokens, 7168]', 'bf16[7168]'], dims: tokens };
    await check(given, [random(given.args[0], 1, { tokens: 2 }), random(given.args[1], 2)], (b, [x, w]) => [
      b.op('rms_norm_quantize', [x, w], { epsilon: 1e-6 }, [
        x.type,
        t('f8e4m3<1x128; f32>[tokens, 7168]'),
      ])[1],
    ]);
  });

  test('silu_mul and quantize of the halves of one product', async () => {
    const given: Given = { args: ['bf16[tokens, 512]', 'f32[tokens]'], dims: tokens };
    await check(
      given,
      [random(given.args[0], 1, { tokens: 3 }), random(given.args[1], 2, { tokens: 3 })],
      (b, [x, weight]) => {
        const [gate, up] = b.op('split', [x], { axis: 1, sizes: [256, 256] });
        return [b.one('silu_mul_quantize', [gate, up, weight], {}, t('f8e4m3<1x128; pow2>[tokens, 256]'))];
      },
    );
  });

  test('mask and softmax', async () => {
    const given: Given = { args: ['bool[6, 200]', 'f32[6, 200]'] };
    const mask = random(given.args[0], 1);
    await check(given, [mask, random(given.args[1], 2)], (b, [m, x]) => [
      b.one(
        'softmax',
        [b.one('select', [m, x, b.one('const', [], { value: -Infinity }, x.type as TensorType)])],
        { axis: 1 },
      ),
    ]);
  });

  test('values in between take their dtype', async () => {
    const given: Given = { args: ['bf16[4, 64]', 'bf16[4, 64]'] };
    await check(
      given,
      [random(given.args[0], 1), random(given.args[1], 2)],
      (b, [x, y]) => {
        const product = b.one('mul', [x, y]);
        return [b.one('sub', [b.one('add', [product, y]), product])];
      },
      { relative: 0, absolute: 0, share: 0 },
    );
  });

  test('cross entropy', async () => {
    const given: Given = { args: ['bf16[tokens, 900]', 'i32[tokens]'], dims: tokens };
    await check(
      given,
      [random(given.args[0], 1, { tokens: 4 }), tensorValue('i32', [4], [0, 899, 5, 77])],
      (b, [x, label]) => {
        const wide = b.one('cast', [x], {}, t('f32[tokens, 900]'));
        const largest = b.one('max_over', [wide], { axes: [1] });
        const shifted = b.one('sub', [
          wide,
          b.one('broadcast', [largest], { axes: [0] }, t('f32[tokens, 900]')),
        ]);
        const total = b.one('log', [b.one('sum', [b.one('exp', [shifted])], { axes: [1] })]);
        const columns = b.one('iota', [], { axis: 1 }, t('i32[tokens, 900]'));
        const here = b.one('eq', [
          columns,
          b.one('broadcast', [label], { axes: [0] }, t('i32[tokens, 900]')),
        ]);
        const own = b.one(
          'sum',
          [b.one('select', [here, shifted, b.one('const', [], { value: 0 }, t('f32[tokens, 900]'))])],
          { axes: [1] },
        );
        return [b.one('sub', [total, own])];
      },
    );
  });

  test('results of different shapes', async () => {
    const given: Given = { args: ['f32[tokens, 96]'], dims: tokens };
    await check(
      given,
      [random(given.args[0], 1, { tokens: 5 })],
      (b, [x]) => [
        b.one('sum', [x], { axes: [1] }),
        b.one('exp', [x]),
        b.one('sum', [x], { axes: [0] }),
        b.one('transpose', [x], { order: [1, 0] }),
      ],
      { absolute: 1e-5 },
    );
  });

  test('rms_norm of the joined halves of a rope', async () => {
    const given: Given = {
      args: ['bf16[tokens, 3, 48]', 'positions[tokens, tokens, sequences, outputs]'],
      dims: [...tokens, { name: 'sequences', bound: 4 }, { name: 'outputs', bound: 64 }],
    };
    const frequencies = Array.from({ length: 8 }, (_, j) => 10000 ** (-j / 8));
    await check(given, [random(given.args[0], 1, { tokens: 5 }), packedPositions([3, 2])], (b, [x, at]) => {
      const [nope, turned] = b.op('split', [x], { axis: 2, sizes: [32, 16] });
      return [
        b.one('concat', [nope, b.one('rope', [turned, at], { frequencies, scale: 1.25 })], { axis: 2 }),
      ];
    });
  });
});

const positionDims: readonly DimDeclaration[] = [
  ...tokens,
  { name: 'sequences', bound: 4 },
  { name: 'outputs', bound: 64 },
  { name: 'cached', bound: 256 },
];

describe('positions', () => {
  test('rope far out', async () => {
    const frequencies = Array.from({ length: 16 }, (_, j) => 10000 ** (-j / 16));
    const given: Given = {
      args: ['f32[tokens, 2, 32]', 'positions[tokens, cached, sequences, outputs]'],
      dims: positionDims,
    };
    const at = stepPositions([163_000, 7], [2, 3], 'all', 2 ** 18, [Int32Array.of(0), Int32Array.of(1)]);
    await check(
      given,
      [random(given.args[0], 1, { tokens: 5 }), at],
      (b, [x, p]) => [b.one('rope', [x, p], { frequencies })],
      { absolute: 3e-6 },
    );
  });

  test('fields and visibility of packed tokens', async () => {
    const given: Given = { args: ['positions[tokens, tokens, sequences, outputs]'], dims: positionDims };
    for (const attributes of [{}, { causal: false }, { window: 2 }] as Attributes[])
      await check(given, [packedPositions([4, 1, 6], 'last')], (b, [at]) => [
        b.one('position_field', [at], { field: 'position' }),
        b.one('position_field', [at], { field: 'outputs' }),
        b.one('visible', [at], attributes),
      ]);
  });

  test('visibility in a paged cache', async () => {
    const given: Given = {
      args: ['positions[tokens, cached, sequences, outputs]'],
      dims: positionDims,
      states: [{ name: 'kv', policy: 'paged', page: 4, fields: [{ name: 'k', type: t('bf16[cached, 8]') }] }],
    };
    const pages = [Int32Array.of(3, 0, 5), Int32Array.of(1, 4)];
    for (const attributes of [{}, { causal: false }, { window: 3 }] as Attributes[])
      await check(
        given,
        [stepPositions([7, 2], [2, 3], 'last', 4, pages)],
        (b, [at]) => [b.one('visible', [at], attributes)],
        {},
        { cached: 24 },
      );
  });

  test('attention by its decomposition', async () => {
    const given: Given = {
      args: [
        'f32[tokens, 4, 16]',
        'f32[tokens, 2, 16]',
        'f32[tokens, 2, 8]',
        'positions[tokens, tokens, sequences, outputs]',
      ],
      dims: positionDims,
    };
    const at = packedPositions([4, 3]);
    await check(
      given,
      [0, 1, 2].map((i): RuntimeValue => random(given.args[i], i, { tokens: 7 })).concat([at]),
      (b, [q, k, v, p]) => [b.one('attention', [q, k, v, p], { scale: 0.25 })],
      { absolute: 1e-5 },
    );
  });
});

const routed: readonly DimDeclaration[] = [
  ...tokens,
  { name: 'slots', bound: 256 * 2 + 4 * 7, ragged: { of: 'tokens', per: 2, groups: 4, align: 8 } },
];
const routingType = 'routing[tokens, experts=4, top=2, slots]';

function routingFor(n: number): RuntimeValue {
  const scores = random('f32[tokens, 4]', 3, { tokens: n });
  return apply(
    'route',
    { operands: ['f32[tokens, experts=4]'], attributes: { top: 2 }, declared: [routingType], dims: routed },
    [scores],
  )[0];
}

describe('routing', () => {
  test('group_tokens of plain and scaled rows, and back', async () => {
    const routing = routingFor(9);
    const [scaled] = apply(
      'quantize',
      { operands: ['f32[9, 256]'], declared: ['f8e4m3<1x128; f32>[9, 256]'] },
      [random('f32[9, 256]', 9)],
    );
    await check(
      { args: ['bf16[tokens, 24]', 'f8e4m3<1x128; f32>[tokens, 256]', routingType], dims: routed },
      [random('bf16[9, 24]', 4), scaled, routing],
      (b, [x, y, r]) => [b.one('group_tokens', [x, r]), b.one('group_tokens', [y, r])],
    );
    const slots = (routing as Extract<RuntimeValue, { kind: 'routing' }>).tokenOf.length;
    const rows = random('bf16[slots, 24]', 5, { slots });
    await check({ args: ['bf16[slots, 24]', routingType], dims: routed }, [rows, routing], (b, [y, r]) => [
      b.one('combine_tokens', [y, r]),
      b.one('routing_field', [r], { field: 'slot_weights' }),
      b.one('routing_field', [r], { field: 'weights' }),
      b.one('routing_field', [r], { field: 'indices' }),
    ]);
  });

  test('rows beyond those in use stay untouched', async () => {
    const subject = kernelOf({ args: ['bf16[tokens, 16]', routingType], dims: routed }, (b, [x, r]) => [
      b.one('group_tokens', [x, r]),
    ]);
    const routing = routingFor(3) as Extract<RuntimeValue, { kind: 'routing' }>;
    const { arrays } = run(emitNestedLoops(subject.fn, subject.module), subject, [
      random('bf16[3, 16]', 4),
      routing,
    ]);
    const bytes = arrays.get(`${subject.fn.results[0].name} data`)!;
    expect(bytes.length).toBeGreaterThan(routing.tokenOf.length * 32);
    expect(new Set(bytes.slice(routing.tokenOf.length * 32))).toEqual(new Set([0xcd]));
  });

  test('silu_mul with the weights of slots, quantised', async () => {
    const routing = routingFor(5) as Extract<RuntimeValue, { kind: 'routing' }>;
    const slots = routing.tokenOf.length;
    const given: Given = { args: ['bf16[slots, 256]', routingType], dims: routed };
    await check(given, [random(given.args[0], 4, { slots }), routing], (b, [x, r]) => {
      const [gate, up] = b.op('split', [x], { axis: 1, sizes: [128, 128] });
      return [
        b.one(
          'silu_mul_quantize',
          [gate, up, b.one('routing_field', [r], { field: 'slot_weights' })],
          {},
          t('f8e4m3<1x128; f32>[slots, 128]'),
        ),
      ];
    });
  });
});

describe('caches', () => {
  const states: readonly StateDeclaration[] = [
    {
      name: 'latent',
      policy: 'paged',
      page: 4,
      fields: [
        { name: 'latent', type: t('bf16[cached, 16]') },
        { name: 'rope', type: t('f8e4m3<1x8; f32>[cached, 8]') },
      ],
    },
  ];
  const pages = [Int32Array.of(3, 0, 5), Int32Array.of(1, 4)];
  const at = stepPositions([7, 2], [2, 3], 'last', 4, pages);
  const given: Given = {
    args: [
      { kind: 'state', state: 'latent', count: null },
      'positions[tokens, cached, sequences, outputs]',
      'bf16[tokens, 16]',
      'f32[tokens, 8]',
    ],
    inout: [0],
    dims: positionDims,
    states,
  };

  test('cache_append writes rows through pages and nothing else', async () => {
    const subject = kernelOf(given, (b, [state, p, x, y]) => ({
      results: [],
      finals: [
        b.one('cache_append', [state, p, x, b.one('quantize', [y], {}, t('f8e4m3<1x8; f32>[tokens, 8]'))]),
      ],
    }));
    const kernel = emitNestedLoops(subject.fn, subject.module);
    const state = newState(states[0], null, 24) as StateData;
    const inputs = [
      state,
      at,
      random(given.args[2], 1, { tokens: 5 }),
      random(given.args[3], 2, { tokens: 5 }),
    ];
    const { arrays } = run(kernel, subject, inputs);
    reference(subject, inputs);
    const { latent, rope } = state.layers[0].fields;
    const { encodeBytes } = await import('../../../ir/formats/index.ts');
    const expectBytes = (key: string, bytes: Uint8Array): void =>
      expect(Array.from(arrays.get(key)!.slice(0, bytes.length)), key).toEqual(Array.from(bytes));
    expectBytes('x0 latent', encodeBytes('bf16', latent.data));
    expectBytes('x0 rope', encodeBytes('f8e4m3', rope.data));
    expectBytes('x0 rope.scale0', encodeBytes('f32', rope.scales[0].data));
    expect(latent.data.some((x) => x !== 0)).toBe(true);
    await assembled(kernel);
  });

  test('cache_read is a load where it is used', async () => {
    const state = newState(states[0], null, cacheRows(pageTable([20], 4), 4)) as StateData;
    const filled = state.layers[0].fields.latent as TensorData;
    filled.data.set(random('bf16[20, 16]', 7).data);
    await check(
      { args: [{ kind: 'state', state: 'latent', count: null }, 'i32[tokens]'], dims: positionDims, states },
      [state, tensorValue('i32', [3], [19, 0, 4])],
      (b, [s, i]) => [
        b.one('gather', [b.one('cache_read', [s], { field: 'latent' }), i]),
        b.one('cache_read', [s], { field: 'latent' }),
      ],
    );
  });
});

describe('contractions as loops', () => {
  test('matmul over one and two axes', async () => {
    await check(
      { args: ['f32[tokens, 40]', 'f32[12, 40]'], dims: tokens },
      [random('f32[3, 40]', 1), random('f32[12, 40]', 2)],
      (b, [x, w]) => [b.one('matmul', [x, w])],
      { absolute: 1e-5 },
    );
    await check(
      { args: ['bf16[tokens, 4, 10]', 'bf16[3, 5, 4, 10]'], dims: tokens },
      [random('bf16[3, 4, 10]', 1), random('bf16[3, 5, 4, 10]', 2)],
      (b, [x, w]) => [b.one('matmul', [x, w], { contract: 2 })],
    );
  });

  test('einsum', async () => {
    await check(
      { args: ['bf16[tokens, 4, 10]', 'bf16[4, 10, 6]'], dims: tokens },
      [random('bf16[3, 4, 10]', 1), random('bf16[4, 10, 6]', 2)],
      (b, [x, w]) => [b.one('einsum', [x, w], { spec: 'thn,hnr->thr' })],
    );
  });

  test('promoted products of scaled operands', async () => {
    const quantised = (type: string, scaled: string, seed: number): RuntimeValue =>
      apply('quantize', { operands: [type], declared: [scaled] }, [random(type, seed)])[0];
    const x = quantised('f32[5, 320]', 'f8e4m3<1x128; f32>[5, 320]', 1);
    const w = quantised('f32[140, 320]', 'f8e4m3<128x128; f32>[140, 320]', 2);
    await check(
      { args: ['f8e4m3<1x128; f32>[tokens, 320]', 'f8e4m3<128x128; f32>[140, 320]'], dims: tokens },
      [x, w],
      (b, [p, q]) => [b.one('matmul', [p, q], { promote: 128 }, t('f32[tokens, 140]'))],
      { absolute: 1e-4 },
    );
  });

  test('grouped_matmul', async () => {
    const routing = routingFor(5) as Extract<RuntimeValue, { kind: 'routing' }>;
    const slots = routing.tokenOf.length;
    await check(
      { args: ['bf16[slots, 24]', 'bf16[experts=4, 6, 24]', routingType], dims: routed },
      [random('bf16[slots, 24]', 4, { slots }), random('bf16[4, 6, 24]', 5), routing],
      (b, [x, w, r]) => [b.one('grouped_matmul', [x, w, r], {}, t('f32[slots, 6]'))],
      { absolute: 1e-5 },
    );
  });
});

describe('sizes', () => {
  test('more elements than 31 bits can count are addressed with 64', async () => {
    const dims: readonly DimDeclaration[] = [{ name: 'tokens', bound: 2 ** 20 }];
    const args = ['bf16[tokens, 16384]'];
    const x = random(args[0], 1, { tokens: 2 });
    const ptx = await check({ args, dims }, [x], (b, [v]) => [
      b.one('neg', [v]),
      b.one('max_over', [v], { axes: [1] }),
    ]);
    expect(ptx).toMatch(/setp\.ge\.u64|mul\.lo\.s64|mad\.lo\.s64/);
    await check({ args, dims }, [x], (b, [v]) => [b.one('transpose', [v], { order: [1, 0] })]);
  });

  test('a row number beyond the table stops the kernel', () => {
    const subject = kernelOf({ args: ['f32[10, 4]', 'i32[3]'] }, (b, [x, i]) => [b.one('gather', [x, i])]);
    const kernel = emitNestedLoops(subject.fn, subject.module);
    for (const wrong of [10, -1])
      expect(() =>
        run(kernel, subject, [random('f32[10, 4]', 1), tensorValue('i32', [3], [0, wrong, 2])]),
      ).toThrow('trap');
  });

  test('a grid of any size computes everything', () => {
    const subject = kernelOf({ args: ['f32[tokens, 300]'], dims: tokens }, (b, [x]) => [
      b.one('exp', [x]),
      b.one('sum', [x], { axes: [1] }),
    ]);
    const kernel = emitNestedLoops(subject.fn, subject.module);
    const inputs = [random('f32[tokens, 300]', 1, { tokens: 20 })];
    const want = reference(subject, inputs);
    for (const ctas of [1, 3, 64]) {
      const grid = { axes: [{ extent: { constant: ctas, terms: [] }, per: 1 }] };
      const { results } = run({ ...kernel, grid }, subject, inputs);
      for (const [i, w] of want.entries()) expectClose(results[i], w, { absolute: 1e-5 });
    }
  });

  test('a kernel that reads a cache it changes is refused', () => {
    const states: readonly StateDeclaration[] = [
      { name: 'kv', policy: 'paged', page: 4, fields: [{ name: 'k', type: t('bf16[cached, 8]') }] },
    ];
    const given: Given = {
      args: [
        { kind: 'state', state: 'kv', count: null },
        'positions[tokens, cached, sequences, outputs]',
        'bf16[tokens, 8]',
      ],
      inout: [0],
      dims: positionDims,
      states,
    };
    const subject = kernelOf(given, (b, [state, p, x]) => {
      const written = b.one('cache_append', [state, p, x]);
      return { results: [b.one('neg', [b.one('cache_read', [written], { field: 'k' })])], finals: [written] };
    });
    expect(() => emitNestedLoops(subject.fn, subject.module)).toThrow('reads a cache that it changes');
  });
});
