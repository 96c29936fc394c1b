import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeBytes } from '../../../ir/formats/index.ts';
import { newState, stepPositions } from '../../../ir/interpret/index.ts';
import { apply } from '../../../ir/interpret/testing.ts';
import type { RuntimeValue, StateData, TensorData } from '../../../ir/interpret/values.ts';
import type { DimDeclaration, StateDeclaration } from '../../../ir/module.ts';
import { type as typeOf } from '../../../ir/ops/testing.ts';
import type { TensorType } from '../../../ir/types.ts';
import { assembled, kernelOf, random, reference, run } from '../../../test/support/kernel-subject.ts';
import { emitRouting } from './index.ts';
import { movable, rowBytes } from './move-rows.ts';
import { check, routedDims, routingFor, routingType, type RoutingShape } from './testing.ts';

const scattered = (t: number, e: number): number => ((t * 7 + e * 13) % 17) / 17;

/** A random value of a type; scaled types through quantize, as their codes come about. */
function valueOf(type: string, seed: number, tokens: number): RuntimeValue {
  const fixed = type.replace('tokens', `${tokens}`);
  if (!type.includes('<')) return random(fixed, seed);
  const plain = fixed.replace(/^\w+<.*>/, 'f32');
  return apply('quantize', { operands: [plain], declared: [fixed] }, [random(plain, seed)])[0];
}

const group = (shape: RoutingShape, type: string, seed = 1, score = scattered) =>
  check(
    { args: [type, routingType(shape)], dims: routedDims(shape), name: 'group_tokens' },
    [valueOf(type, seed, shape.tokens), routingFor(shape, score)],
    (b, [x, r]) => [b.one('group_tokens', [x, r])],
  );

describe('rowBytes', () => {
  const bytes = (text: string, component = 'data') => rowBytes(typeOf(text) as TensorType, component);

  test('codes and scales of a DeepSeek-V3 row', () => {
    expect(bytes('f8e4m3<1x128; f32>[tokens, 7168]')).toBe(7168);
    expect(bytes('f8e4m3<1x128; f32>[tokens, 7168]', 'scale0')).toBe(4 * 56);
    expect(bytes('f8e4m3<1x*; ue8m0>[tokens, 100]', 'scale0')).toBe(1);
    expect(bytes('f32[tokens]')).toBe(4);
  });

  test('rows that cannot be moved alone', () => {
    expect(bytes('f12e5m6[tokens, 8]')).toBe(12);
    expect(bytes('f12e5m6[tokens, 7]')).toBeNull();
    expect(bytes('f8e4m3<128x128; f32>[256, 256]', 'scale0')).toBeNull();
    expect(movable(typeOf('f8e4m3<128x128; f32>[256, 256]') as TensorType)).toBe(false);
    expect(bytes('f32[tokens, keys]')).toBeNull();
    expect(bytes('f32[]')).toBeNull();
  });
});

describe('group_tokens', () => {
  const shape: RoutingShape = { tokens: 13, experts: 6, top: 2, align: 8 };

  test.each([
    'bf16[tokens, 24]',
    'bf16[tokens, 7]',
    'f32[tokens]',
    'f32[tokens, 3, 5]',
    'f16[tokens, 12]',
    'i32[tokens, 2]',
    'bool[tokens, 5]',
    'f12e5m6[tokens, 10]',
    'f8e4m3[tokens, 9]',
    'f8e4m3<1x128; f32>[tokens, 300]',
    'f8e5m2<1x32; pow2>[tokens, 64]',
    'f8e4m3<1x*; f32>[tokens, 40]',
  ])('%s', (type) => group(shape, type).then(() => undefined));

  // Every slot is in use: the pattern of fresh memory is no i64 that a double holds.
  test('i64[tokens, 3]', () => group({ ...shape, align: 1 }, 'i64[tokens, 3]').then(() => undefined));

  test('exponent bytes of scales arrive as they are', async () => {
    const type = 'f8e4m3<1x32; ue8m0>[tokens, 96]';
    const routing = routingFor(shape, scattered);
    const subject = kernelOf({ args: [type, routingType(shape)], dims: routedDims(shape) }, (b, [x, r]) => [
      b.one('group_tokens', [x, r]),
    ]);
    const x = valueOf(type, 3, 13) as TensorData;
    const { arrays } = run(emitRouting(subject.fn, subject.module), subject, [x, routing]);
    const [from, to] = [arrays.get('x0 scale0')!, arrays.get(`${subject.fn.results[0].name} scale0`)!];
    expect(new Set(from.slice(0, 13 * 3)).size).toBeGreaterThan(1);
    for (const [slot, token] of routing.tokenOf.entries())
      expect([...to.slice(3 * slot, 3 * slot + 3)]).toEqual(
        token < 0 ? [0, 0, 0] : [...from.slice(3 * token, 3 * token + 3)],
      );
  });

  test('real width: 16-byte accesses', async () => {
    const ptx = await group({ tokens: 3, experts: 8, top: 8, align: 2 }, 'f8e4m3<1x128; f32>[tokens, 7168]');
    expect(ptx).toContain('ld.global.v4.b32');
    expect(ptx).not.toContain('cvt.rn');
  });

  test('long rows loop', async () => {
    const ptx = await group({ tokens: 2, experts: 2, top: 1, align: 1 }, 'f32[tokens, 17001]');
    expect(ptx).toContain('batch');
    await group({ tokens: 2, experts: 2, top: 1, align: 1 }, 'f32[tokens, 80004]');
  });

  test('one expert takes all, one token, all experts', async () => {
    await group({ tokens: 20, experts: 9, top: 1, align: 16 }, 'bf16[tokens, 16]', 4, (_, e) =>
      e === 8 ? 1 : 0,
    );
    await group({ tokens: 1, experts: 4, top: 4, align: 128 }, 'bf16[tokens, 16]', 5);
  });

  test('rows beyond those in use stay untouched', () => {
    const routing = routingFor(shape, (_, e) => -e);
    const subject = kernelOf(
      { args: ['bf16[tokens, 16]', routingType(shape)], dims: routedDims(shape) },
      (b, [x, r]) => [b.one('group_tokens', [x, r])],
    );
    const { arrays } = run(emitRouting(subject.fn, subject.module), subject, [
      random('bf16[13, 16]', 4),
      routing,
    ]);
    const rest = arrays.get(`${subject.fn.results[0].name} data`)!.slice(routing.tokenOf.length * 32);
    expect(rest.length).toBeGreaterThan(0);
    expect(new Set(rest)).toEqual(new Set([0xcd]));
  });

  test('any sizes', () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({
          tokens: fc.integer({ min: 1, max: 40 }),
          experts: fc.integer({ min: 1, max: 12 }),
          top: fc.integer({ min: 1, max: 4 }),
          align: fc.constantFrom(1, 4, 16),
        }),
        fc.integer({ min: 1, max: 70 }),
        fc.constantFrom('bf16', 'f32', 'f8e4m3', 'bool'),
        async ({ tokens, experts, top, align }, width, dtype) => {
          await group({ tokens, experts, top: Math.min(top, experts), align }, `${dtype}[tokens, ${width}]`);
        },
      ),
      { numRuns: 12, seed: 7 },
    ));
});

describe('arrays of a routing', () => {
  const shape: RoutingShape = { tokens: 13, experts: 6, top: 3, align: 8 };

  test.each(['slot_weights', 'weights', 'indices'])('%s', async (field) => {
    const routing = routingFor(shape, (t, e) => 0.1 + scattered(t, e));
    await check(
      { args: [routingType(shape)], dims: routedDims(shape) },
      [routing],
      (b, [r]) => [b.one('routing_field', [r], { field })],
      { relative: 1e-7 },
    );
  });
});

describe('caches', () => {
  const dims: readonly DimDeclaration[] = ['tokens', 'sequences', 'outputs', 'cached'].map((name) => ({
    name,
    bound: 256,
  }));
  const fields = [
    { name: 'latent', type: typeOf('bf16[cached, 512]') as TensorType },
    { name: 'rope', type: typeOf('bf16[cached, 64]') as TensorType },
    { name: 'keys', type: typeOf('f8e4m3<1x8; f32>[cached, 3, 8]') as TensorType },
  ];
  const stateOf = (page: number): StateDeclaration => ({ name: 'latent', policy: 'paged', page, fields });
  const rowTypes = fields.map((f) =>
    f.name === 'keys' ? 'f8e4m3<1x1x8; f32>[tokens, 3, 8]' : `bf16[tokens, ${f.type.dims[1].size}]`,
  );
  fields[2] = { name: 'keys', type: typeOf('f8e4m3<1x1x8; f32>[cached, 3, 8]') as TensorType };

  const subjectOf = (page: number) =>
    kernelOf(
      {
        args: [
          { kind: 'state', state: 'latent', count: null },
          'positions[tokens, cached, sequences, outputs]',
          ...rowTypes,
        ],
        inout: [0],
        dims,
        states: [stateOf(page)],
      },
      (b, [state, at, ...rows]) => ({ results: [], finals: [b.one('cache_append', [state, at, ...rows])] }),
    );

  test.each([4, 3, 64])('cache_append, pages of %i rows', async (page) => {
    const subject = subjectOf(page);
    const kernel = emitRouting(subject.fn, subject.module);
    expect(kernel.family).toBe('state');
    // The last sequence rests; page numbers in no order.
    const at = stepPositions([7, 2, 5], [5, 3, 0], 'last', page, [
      Int32Array.of(3, 0, 5, 6),
      Int32Array.of(1, 4),
      Int32Array.of(2, 7),
    ]);
    const state = newState(stateOf(page), null, page * 8) as StateData;
    for (const f of fields) state.layers[0].fields[f.name].data.fill(0.5);
    const inputs = [state, at, ...rowTypes.map((t, i) => valueOf(t, i + 1, 8))];
    const { arrays } = run(kernel, subject, inputs);
    reference(subject, inputs);
    const { latent, rope, keys } = state.layers[0].fields;
    const expectBytes = (key: string, bytes: Uint8Array): void =>
      expect(Buffer.from(arrays.get(key)!).subarray(0, bytes.length).equals(Buffer.from(bytes)), key).toBe(
        true,
      );
    expectBytes('x0 latent', encodeBytes('bf16', latent.data));
    expectBytes('x0 rope', encodeBytes('bf16', rope.data));
    expectBytes('x0 keys', encodeBytes('f8e4m3', keys.data));
    expectBytes('x0 keys.scale0', encodeBytes('f32', keys.scales[0].data));
    await assembled(kernel);
  });

  test('a position without a page, or with one outside of the cache, stops the kernel', () => {
    const subject = subjectOf(4);
    const kernel = emitRouting(subject.fn, subject.module);
    const attempt = (pages: number[], position: number): void => {
      const at = {
        ...stepPositions([0], [1], 'last', 4, [Int32Array.from(pages)]),
        position: Int32Array.of(position),
      };
      const state = newState(stateOf(4), null, 8);
      run(kernel, subject, [state, at, ...rowTypes.map((t, i) => valueOf(t, i, 1))]);
    };
    attempt([0, 1], 7);
    expect(() => attempt([0, 1], 8)).toThrow(/trap/);
    expect(() => attempt([0, 2], 5)).toThrow(/trap/);
    expect(() => attempt([0, -1], 5)).toThrow(/trap/);
    expect(() => attempt([0, 1], -1)).toThrow(/trap/);
  });

  test('cache_read', async () => {
    const state = newState(stateOf(4), null, 12) as StateData;
    state.layers[0].fields.rope.data.set(random('bf16[12, 64]', 7).data);
    await check(
      { args: [{ kind: 'state', state: 'latent', count: null }], dims, states: [stateOf(4)] },
      [state],
      (b, [s]) => [b.one('cache_read', [s], { field: 'rope' })],
    );
  });
});
