import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseLaunchFile } from './launch-file.ts';
import { LaunchError } from './launch-problem.ts';

const good = {
  kernel: 'add',
  grid: [4, 1, 1],
  block: [256, 1, 1],
  buffers: { x: { dtype: 'F32', shape: [1024], fill: 1 } },
  parameters: [{ buffer: 'x' }, { u32: 1024 }],
  outputs: ['x'],
};

function problemsOf(text: string): string[] {
  try {
    parseLaunchFile(text);
  } catch (error) {
    if (!(error instanceof LaunchError)) throw error;
    return error.problems.map(
      ({ code, place, message, fix }) =>
        `${code}: ${message}\n  at: ${text.slice(place.start, place.end).slice(0, 60)}\n  fix: ${fix}`,
    );
  }
  return [];
}
const withMap = (change: object): object => ({
  ...good,
  parameters: [
    { tensorMap: { buffer: 'x', dtype: 'F32', dims: [32, 32], strides: [128], box: [32, 8], ...change } },
  ],
});

test('what a launch file says', () => {
  const file = parseLaunchFile(
    JSON.stringify({
      ...good,
      cluster: [2, 1, 1],
      dynamicSharedBytes: 1024,
      buffers: {
        ...good.buffers,
        f: { safetensors: 'in.safetensors', tensor: 'w' },
        r: { dtype: 'BF16', shape: [2, 3], fill: { random: 7 } },
        h: { dtype: 'I16', shape: [2], hex: '01 02\nff7F' },
        u: { dtype: 'U8', shape: [] },
        i: { dtype: 'I64', shape: [1], fill: -3 },
        n: { dtype: 'F16', shape: [1], fill: 'nan' },
      },
      parameters: [
        { buffer: 'x', offset: 16 },
        { u32: 4294967295 },
        { s32: -1 },
        { f32: 1.5 },
        { f64: '-inf' },
        { hex: 'aabbcc' },
        {
          fields: [
            { at: 8, buffer: 'r' },
            { at: 0, fields: [{ at: 0, u32: 1 }] },
          ],
        },
        {
          tensorMap: {
            buffer: 'r',
            dtype: 'BF16',
            dims: [64, 2],
            strides: [128],
            box: [64, 2],
            swizzle: '128B',
          },
        },
      ],
      outputs: ['x', 'u'],
    }),
  );
  expect(file.buffers.map((b) => [b.name, b.content])).toEqual([
    ['x', { kind: 'fill', dtype: 'F32', shape: [1024], value: 1 }],
    ['f', { kind: 'file', file: 'in.safetensors', tensor: 'w' }],
    ['r', { kind: 'random', dtype: 'BF16', shape: [2, 3], seed: 7 }],
    ['h', { kind: 'hex', dtype: 'I16', shape: [2], bytes: Uint8Array.of(1, 2, 255, 127) }],
    ['u', { kind: 'uninitialised', dtype: 'U8', shape: [] }],
    ['i', { kind: 'fill', dtype: 'I64', shape: [1], value: -3n }],
    ['n', { kind: 'fill', dtype: 'F16', shape: [1], value: NaN }],
  ]);
  const [launch] = file.launches;
  expect(launch).toMatchObject({
    kernel: 'add',
    grid: [4, 1, 1],
    block: [256, 1, 1],
    cluster: [2, 1, 1],
    clusterGiven: true,
    dynamicSharedBytes: 1024,
  });
  expect(launch.parameters).toMatchObject([
    { kind: 'buffer', buffer: 'x', offset: 16 },
    { kind: 'bytes', bytes: Uint8Array.of(255, 255, 255, 255) },
    { kind: 'bytes', bytes: Uint8Array.of(255, 255, 255, 255) },
    { kind: 'bytes', bytes: Uint8Array.of(0, 0, 0xc0, 0x3f) },
    { kind: 'bytes', bytes: Uint8Array.of(0, 0, 0, 0, 0, 0, 0xf0, 0xff) },
    { kind: 'bytes', bytes: Uint8Array.of(0xaa, 0xbb, 0xcc) },
    { kind: 'fields', fields: [{ at: 8 }, { at: 0, value: { kind: 'fields' } }] },
    {
      kind: 'tensorMap',
      shape: { dtype: 'BF16', elementStrides: [1, 1], swizzle: '128B', interleave: 'none', fill: 'zero' },
    },
  ]);
  expect(file.outputs.map((o) => o.name)).toEqual(['x', 'u']);
});

test('64-bit values are exact, in digits and in hex', () => {
  const { launches } = parseLaunchFile(
    '{"kernel": "k", "grid": [1,1,1], "block": [1,1,1], "outputs": [], "parameters": [{"u64": 18446744073709551615}, {"u64": "0xfedcba9876543210"}, {"s64": -9223372036854775807}]}',
  );
  const values = launches[0].parameters.map((p) =>
    p.kind === 'bytes' ? new DataView(p.bytes.buffer).getBigUint64(0, true) : null,
  );
  expect(values).toEqual([2n ** 64n - 1n, 0xfedcba9876543210n, 2n ** 63n + 1n]);
});

test('several launches: one at the top comes first', () => {
  const { kernel, grid, block, parameters, ...rest } = good;
  const launch = { kernel, grid, block, parameters };
  const names = (file: object): string[] =>
    parseLaunchFile(JSON.stringify(file)).launches.map((l) => l.kernel);
  expect(
    names({
      ...rest,
      launches: [
        { ...launch, kernel: 'a' },
        { ...launch, kernel: 'b' },
      ],
    }),
  ).toEqual(['a', 'b']);
  expect(names({ ...good, launches: [{ ...launch, kernel: 'b' }] })).toEqual(['add', 'b']);
  expect(parseLaunchFile(JSON.stringify(good)).launches[0].clusterGiven).toBe(false);
});

const buffer = (change: object): object => ({
  ...good,
  buffers: { x: { dtype: 'F32', shape: [4], ...change } },
});
const parameter = (value: unknown): object => ({ ...good, parameters: [value] });
const without = (key: keyof typeof good): object => {
  const { [key]: _, ...rest } = good;
  return rest;
};

describe('wrong launch files', () => {
  test.each<[string, string | object]>([
    ['no JSON', '{"kernel": "add",\n  grid: [1, 1, 1]}'],
    ['a comma too many', '{"outputs": ["x",]}'],
    ['a key twice', '{"kernel": "a", "kernel": "b"}'],
    ['nothing', ''],
    ['a list', '[]'],
    ['an unknown key', { ...good, blocks: [1, 1, 1] }],
    ['no kernel', without('kernel')],
    ['no grid, no outputs', { kernel: 'k', block: [1, 1, 1] }],
    ['a kernel that is a number', { ...good, kernel: 7 }],
    ['a grid of two', { ...good, grid: [4, 1] }],
    ['a grid of zero', { ...good, grid: [4, 0, 1] }],
    ['a grid that is a number', { ...good, grid: 4 }],
    ['a grid beyond the machine', { ...good, grid: [1, 65536, 1] }],
    ['a fraction of a block', { ...good, block: [1.5, 1, 1] }],
    ['a block in text', { ...good, block: ['256', 1, 1] }],
    ['a block beyond the machine', { ...good, block: [64, 32, 1] }],
    ['a block too deep', { ...good, block: [1, 1, 65] }],
    ['a cluster of 32', { ...good, grid: [64, 1, 1], cluster: [32, 1, 1] }],
    ['a cluster that does not divide', { ...good, cluster: [3, 1, 1] }],
    ['too much shared memory', { ...good, dynamicSharedBytes: 232449 }],
    ['negative shared memory', { ...good, dynamicSharedBytes: -1 }],
    ['buffers in a list', { ...good, buffers: [] }],
    ['a buffer without dtype and shape', { ...good, buffers: { x: { fill: 0 } } }],
    ['a dtype in small letters', buffer({ dtype: 'f32' })],
    ['a shape with a hole', buffer({ shape: [4, null] })],
    ['a buffer beyond memory', buffer({ shape: [2 ** 40, 2 ** 40] })],
    ['a buffer beyond the card', buffer({ shape: [2 ** 35] })],
    ['a file and a fill', { ...good, buffers: { x: { safetensors: 'a', tensor: 'b', fill: 0 } } }],
    ['a file without a tensor', { ...good, buffers: { x: { safetensors: 'a' } } }],
    ['hex and a fill', buffer({ hex: '00', fill: 0 })],
    ['hex of the wrong length', buffer({ hex: '0011' })],
    ['half a byte of hex', buffer({ hex: '001' })],
    ['hex with 0x', buffer({ hex: '0x0011' })],
    ['a fill in words', buffer({ fill: 'zero' })],
    ['a fill that overflows', buffer({ dtype: 'F8_E4M3', fill: 500 })],
    ['a fraction for integers', buffer({ dtype: 'I32', fill: 0.5 })],
    ['a negative fill for unsigned', buffer({ dtype: 'U8', fill: -1 })],
    ['a random seed that is none', buffer({ fill: { random: -1 } })],
    ['an unknown fill', buffer({ fill: { normal: 1 } })],
    ['an output that is no buffer', { ...good, outputs: ['y'] }],
    ['an output twice', { ...good, outputs: ['x', 'x'] }],
    ['a parameter of an unknown kind', parameter({ i32: 1 })],
    ['a parameter of two kinds', parameter({ u32: 1, f32: 1 })],
    ['a bare number', parameter(3)],
    ['an unknown buffer', parameter({ buffer: 'z' })],
    ['an offset without a buffer', parameter({ u32: 1, offset: 4 })],
    ['a negative offset', parameter({ buffer: 'x', offset: -4 })],
    ['u32 out of range', parameter({ u32: 4294967296 })],
    ['s32 out of range', parameter({ s32: 2147483648 })],
    ['u64 with a fraction', parameter({ u64: 0.5 })],
    ['f32 out of range', parameter({ f32: 1e39 })],
    ['a field without a place', parameter({ fields: [{ u32: 1 }] })],
    ['a field with an unknown buffer', parameter({ fields: [{ at: 0, buffer: 'z' }] })],
    ['a tensor map without a box', withMap({ box: undefined })],
    ['a tensor map of FP8', withMap({ dtype: 'F8_E4M3' })],
    ['a tensor map of an unknown type', withMap({ dtype: 'float' })],
    ['a tensor map with a wrong swizzle', withMap({ swizzle: '256B' })],
    ['a tensor map with a wrong fill', withMap({ fill: 0 })],
    ['a tensor map over an unknown buffer', withMap({ buffer: 'q' })],
    ['no launch in the list', { outputs: [], launches: [] }],
    [
      'buffers in a launch',
      { outputs: [], launches: [{ kernel: 'k', grid: [1, 1, 1], block: [1, 1, 1], buffers: {} }] },
    ],
    [
      'half a launch at the top',
      { kernel: 'k', outputs: [], launches: [{ kernel: 'k', grid: [1, 1, 1], block: [1, 1, 1] }] },
    ],
    [
      'many mistakes at once',
      {
        ...buffer({ dtype: 'f32' }),
        grid: [0, 1, 1],
        parameters: [{ u32: -1 }, { buffer: 'y' }],
        outputs: ['z'],
      },
    ],
  ])('%s', (_, file) => {
    const found = problemsOf(typeof file === 'string' ? file : JSON.stringify(file));
    expect(found.length).toBeGreaterThan(0);
    expect(`\n${found.join('\n')}\n`).toMatchSnapshot();
  });
});

test('fuzz: whatever a file says, nothing is thrown but LaunchError', () => {
  const keys = [
    'kernel',
    'grid',
    'block',
    'buffers',
    'parameters',
    'outputs',
    'launches',
    'fields',
    'tensorMap',
    'x',
    'dtype',
    'shape',
    'fill',
    'hex',
    'buffer',
    'u32',
    'at',
    '__proto__',
    'constructor',
  ];
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 5 },
      fc.constantFrom('x', 'F32', 'add', 1, 0, -1, 1e300, null, true, ''),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(fc.constantFrom(...keys), tie('value')),
    ),
  }));
  let good_ = 0;
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...keys), value), fc.boolean(), (change, whole) => {
      if (problemsOf(JSON.stringify(whole ? change : { ...good, ...change })).length === 0) good_++;
    }),
    { numRuns: 3000 },
  );
  expect(good_).toBeGreaterThan(0);
});
