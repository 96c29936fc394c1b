// Tensor copies: every rank, swizzle, edge and element size against a model that follows the ISA's tables.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Bench, mapOf, moduleOf, pattern, summary } from './async.testing.ts';
import { tensorMapDTypes, type TensorMapDType, type TensorMapShape } from './tensor-map.ts';

type Shape = Pick<
  TensorMapShape,
  'dtype' | 'dims' | 'box' | 'strides' | 'elementStrides' | 'swizzle' | 'fill'
>;

// The ISA's swizzle tables (section 5.5.7): rows of eight 16-byte pieces; which piece lies where.
const tables: Record<Shape['swizzle'], readonly string[]> = {
  none: ['01234567'],
  '32B': ['01234567', '10325476'],
  '64B': ['01234567', '10325476', '23016745', '32107654'],
  '128B': ['01234567', '10325476', '23016745', '32107654', '45670123', '54761032', '67452301', '76543210'],
};
/** Where byte `at` of a tile (aligned to 1024) lies. */
function swizzledAt(at: number, swizzle: Shape['swizzle']): number {
  const table = tables[swizzle];
  const row = table[Math.floor(at / 128) % table.length];
  return at - (at % 128) + 16 * row.indexOf(String(Math.floor((at % 128) / 16))) + (at % 16);
}

const moved = (s: Shape): number[] => s.box.map((n, d) => (d === 0 ? n : Math.ceil(n / s.elementStrides[d])));
const boxBytes = (s: Shape): number => moved(s).reduce((a, b) => a * b, tensorMapDTypes[s.dtype].bytes);

/** Calls f with each element's place in the tile and in the tensor; null when it lies outside. */
function eachElement(
  s: Shape,
  at: readonly number[],
  f: (tile: number, tensor: number | null) => void,
): void {
  const size = tensorMapDTypes[s.dtype].bytes;
  const counts = moved(s);
  const total = counts.reduce((a, b) => a * b, 1);
  for (let n = 0; n < total; n++) {
    let rest = n;
    let offset: number | null = 0;
    for (const [d, count] of counts.entries()) {
      const c = at[d] + (rest % count) * (d === 0 ? 1 : s.elementStrides[d]);
      rest = Math.floor(rest / count);
      if (c < 0 || c >= s.dims[d]) offset = null;
      if (offset !== null) offset += c * (d === 0 ? size : s.strides[d - 1]);
    }
    f(swizzledAt(n * size, s.swizzle), offset);
  }
}

function loaded(s: Shape, tensor: Uint8Array, at: readonly number[]): Uint8Array {
  const size = tensorMapDTypes[s.dtype].bytes;
  const tile = new Uint8Array(boxBytes(s));
  const nan =
    size === 2
      ? [0xff, 0x7f]
      : size === 4
        ? [255, 255, 255, 0x7f]
        : [255, 255, 255, 255, 255, 255, 255, 0x7f];
  eachElement(s, at, (to, from) => {
    for (let k = 0; k < size; k++)
      tile[to + k] = from !== null ? tensor[from + k] : s.fill === 'nan' ? nan[k] : 0;
  });
  return tile;
}

const coordinates = (rank: number): string =>
  Array.from({ length: rank }, (_, d) => `%r${40 + d}`).join(', ');
const head = (rank: number): string => `.extern .shared .align 1024 .b8 tile[];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [buffer];
mov.b64 %rd2, map;
cvta.param.u64 %rd2, %rd2;
${Array.from({ length: rank }, (_, d) => `ld.param.u32 %r${40 + d}, [at+${4 * d}];`).join('\n')}
mov.u32 %r1, tile;
mov.u32 %r9, %tid.x;`;
const parameters = '.param .align 64 .b8 map[128], .param .u64 buffer, .param .align 4 .b8 at[20]';
/** The block's threads take turns with the words of the tile: `move` has the shared address in %r4, the global in %rd3. */
const words = (bytes: number, move: string, label: string): string => `mov.u32 %r2, %r9;
${label}:
setp.ge.u32 %p3, %r2, ${bytes / 4};
@%p3 bra ${label}_END;
shl.b32 %r3, %r2, 2;
add.u32 %r4, %r1, %r3;
cvt.u64.u32 %rd3, %r3;
add.u64 %rd3, %rd3, %rd1;
${move}
add.u32 %r2, %r2, 32;
bra ${label};
${label}_END:`;

const loadKernel = (rank: number, bytes: number, space: string): string =>
  moduleOf(
    parameters,
    `${head(rank)}
setp.ne.u32 %p0, %r9, 0;
@%p0 bra WAIT;
mbarrier.init.shared::cta.b64 [bar], 1;
prefetch.tensormap [%rd2];
cp.async.bulk.prefetch.tensor.${rank}d.L2.global.tile [%rd2, {${coordinates(rank)}}];
mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], ${bytes};
cp.async.bulk.tensor.${rank}d.${space}.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd2, {${coordinates(rank)}}], [bar];
WAIT:
bar.sync 0;
SPIN:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;
@!%p1 bra SPIN;
${words(bytes, 'ld.shared.u32 %r5, [%r4];\nst.global.u32 [%rd3], %r5;', 'OUT')}`,
  );
const storeKernel = (rank: number, bytes: number, op: string): string =>
  moduleOf(
    parameters,
    `${head(rank)}
${words(bytes, 'ld.global.u32 %r5, [%rd3];\nst.shared.u32 [%r4], %r5;', 'IN')}
fence.proxy.async.shared::cta;
bar.sync 0;
setp.ne.u32 %p0, %r9, 0;
@%p0 bra DONE;
cp.${op}.${rank}d.global.shared::cta${op.includes('reduce') ? '.REDUCTION' : ''}.tile.bulk_group [%rd2, {${coordinates(rank)}}], [%r1];
cp.async.bulk.commit_group;
cp.async.bulk.wait_group 0;
DONE:`,
  );

const at = (c: readonly number[]): Uint8Array => {
  const view = new DataView(new ArrayBuffer(20));
  c.forEach((x, d) => view.setInt32(4 * d, x, true));
  return new Uint8Array(view.buffer);
};
const tensorBytes = (s: Shape): number =>
  s.dims.length === 1
    ? s.dims[0] * tensorMapDTypes[s.dtype].bytes
    : s.dims[s.dims.length - 1] * s.strides[s.strides.length - 1];
const wellKnown = { interleave: 'none' } as const;

function load(s: Shape, c: readonly number[], seed = 0, space = 'shared::cluster'): Uint8Array {
  const bench = new Bench({ seed });
  const tensor = pattern(tensorBytes(s), 3);
  const from = bench.buffer(tensor);
  const bytes = boxBytes(s);
  const to = bench.buffer(bytes);
  const reports = bench.run(
    loadKernel(s.dims.length, bytes, space),
    [mapOf(from, { ...s, ...wellKnown }), to, at(c)],
    {
      dynamicSharedBytes: bytes + 1024,
    },
  );
  // A swizzle wider than a row is allowed, and warned about.
  expect(summary(reports).filter((r) => r !== 'warning emu/tma-swizzle-row')).toEqual([]);
  return bench.read(to, bytes);
}
const expectLoad = (s: Shape, c: readonly number[], seed = 0, space?: string): void =>
  expect(load(s, c, seed, space)).toEqual(loaded(s, pattern(tensorBytes(s), 3), c));

function shapeOf(dtype: TensorMapDType, dims: number[], box: number[], more: Partial<Shape> = {}): Shape {
  const strides: number[] = [];
  let stride = tensorMapDTypes[dtype].bytes * dims[0];
  for (const n of dims.slice(1)) {
    strides.push(Math.ceil(stride / 16) * 16);
    stride = strides[strides.length - 1] * n;
  }
  return {
    dtype,
    dims,
    box,
    strides,
    elementStrides: dims.map(() => 1),
    swizzle: 'none',
    fill: 'zero',
    ...more,
  };
}

describe('loads', () => {
  test.each(['none', '32B', '64B', '128B'] as const)('swizzle %s', (swizzle) => {
    const row = swizzle === 'none' ? 48 : parseInt(swizzle, 10);
    expectLoad(shapeOf('U8', [256, 64], [row, 40], { swizzle }), [32, 8]);
    expectLoad(shapeOf('BF16', [128, 64], [row / 2, 24], { swizzle }), [16, 40], 3, 'shared::cta');
    expectLoad(shapeOf('F32', [64, 64], [row / 4, 16], { swizzle }), [8, 3], 5);
  });

  test.each([1, 2, 3, 4, 5])('rank %i, inside and over every edge', (rank) => {
    const dims = [40, 6, 5, 4, 3].slice(0, rank);
    const box = [16, 3, 2, 2, 2].slice(0, rank);
    const s = shapeOf('F16', dims, box, { fill: 'nan' });
    expectLoad(
      s,
      dims.map(() => 0),
    );
    for (let d = 0; d < rank; d++)
      for (const c of [-1, -box[d], -box[d] - 5, dims[d] - 1, dims[d], dims[d] + 7])
        expectLoad(
          s,
          dims.map((_, e) => (e === d ? c : 1)),
          d,
        );
    expectLoad(
      s,
      dims.map((_, d) => dims[d] - 1),
    );
    expectLoad(
      s,
      dims.map(() => -1),
    );
  });

  test('element strides skip elements; the innermost is ignored', () => {
    expectLoad(shapeOf('F32', [32, 16, 9], [8, 7, 4], { elementStrides: [3, 2, 3] }), [5, -2, 1]);
  });

  test('f32.ftz loads flush subnormals to signed zero', () => {
    const bench = new Bench();
    const values = new Uint32Array([0x00000001, 0x807fffff, 0x00800000, 0x3f800000]);
    const from = bench.buffer(new Uint8Array(values.buffer));
    const to = bench.buffer(16);
    const map = mapOf(from, { dtype: 'F32_FTZ', dims: [4], box: [4] });
    expect(
      summary(
        bench.run(loadKernel(1, 16, 'shared::cluster'), [map, to, at([0])], { dynamicSharedBytes: 2048 }),
      ),
    ).toEqual([]);
    expect(bench.words(to, 4)).toEqual([0, 0x80000000, 0x00800000, 0x3f800000]);
  });

  test('random maps', () => {
    const dtype = fc.constantFrom<TensorMapDType>('U8', 'BF16', 'F16', 'I32', 'F32', 'F64', 'U16', 'I64');
    const arbitrary = fc
      .record({
        dtype,
        rank: fc.integer({ min: 1, max: 5 }),
        swizzle: fc.constantFrom('none', '32B', '64B', '128B') as fc.Arbitrary<Shape['swizzle']>,
        pieces: fc.integer({ min: 1, max: 8 }),
        sizes: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 5, maxLength: 5 }),
        boxes: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 5, maxLength: 5 }),
        steps: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 5, maxLength: 5 }),
        offsets: fc.array(fc.integer({ min: -8, max: 12 }), { minLength: 5, maxLength: 5 }),
        pad: fc.integer({ min: 0, max: 2 }),
        nan: fc.boolean(),
        seed: fc.integer({ min: 0, max: 1000 }),
      })
      .map((r) => {
        const { bytes, float } = tensorMapDTypes[r.dtype];
        const most = r.swizzle === 'none' ? 8 : parseInt(r.swizzle, 10) / 16;
        const row = (Math.min(r.pieces, most) * 16) / bytes;
        const dims = r.sizes.slice(0, r.rank).map((n, d) => (d === 0 ? n * 5 : n));
        const box = r.boxes.slice(0, r.rank).map((n, d) => (d === 0 ? row : n));
        const strides: number[] = [];
        let stride = bytes * dims[0];
        for (const n of dims.slice(1)) {
          strides.push(Math.ceil(stride / 16) * 16 + 16 * r.pad);
          stride = strides[strides.length - 1] * n;
        }
        const shape: Shape = {
          dtype: r.dtype,
          dims,
          box,
          strides,
          elementStrides: r.steps.slice(0, r.rank),
          swizzle: r.swizzle,
          fill: r.nan && float ? 'nan' : 'zero',
        };
        return { shape, at: r.offsets.slice(0, r.rank), seed: r.seed };
      });
    fc.assert(
      fc.property(arbitrary, ({ shape, at: c, seed }) => {
        expectLoad(shape, c, seed);
      }),
      { numRuns: 150, seed: 7 },
    );
  });
});

describe('stores and reductions', () => {
  function store(
    s: Shape,
    c: readonly number[],
    op: string,
    tile: Uint8Array,
    before: Uint8Array,
    seed: number,
  ): Uint8Array {
    const bench = new Bench({ seed });
    const tensor = bench.buffer(before);
    const from = bench.buffer(tile);
    const kernel = storeKernel(
      s.dims.length,
      tile.length,
      op === '' ? 'async.bulk.tensor' : 'reduce.async.bulk.tensor',
    );
    const reports = bench.run(
      kernel.replace('REDUCTION', op),
      [mapOf(tensor, { ...s, ...wellKnown }), from, at(c)],
      {
        dynamicSharedBytes: tile.length + 1024,
      },
    );
    expect(summary(reports)).toEqual([]);
    return bench.read(tensor, before.length);
  }
  const places: [Shape, number[]][] = [
    [shapeOf('BF16', [40, 20], [32, 8], { swizzle: '64B' }), [-3, 15]],
    [shapeOf('U8', [256, 20], [128, 12], { swizzle: '128B' }), [200, -4]],
    [shapeOf('F32', [10, 7, 5], [8, 3, 2], { swizzle: '32B', elementStrides: [1, 2, 1] }), [4, 5, 4]],
    [shapeOf('I64', [9], [4]), [7]],
    [shapeOf('F16', [16, 3, 3, 3, 3], [8, 2, 2, 2, 2]), [8, 2, -1, 1, 2]],
  ];
  test('a store writes what lies inside, and nothing else', () => {
    for (const [k, [s, c]] of places.entries()) {
      const tile = pattern(boxBytes(s), 9);
      const before = pattern(tensorBytes(s), 2);
      const expected = before.slice();
      eachElement(s, c, (from, to) => {
        if (to !== null) expected.set(tile.subarray(from, from + tensorMapDTypes[s.dtype].bytes), to);
      });
      for (const seed of [0, k + 1]) expect(store(s, c, '', tile, before, seed)).toEqual(expected);
    }
  });

  const u32 = (bytes: Uint8Array): Uint32Array => new Uint32Array(bytes.slice().buffer);
  test.each<[string, TensorMapDType, (old: number, x: number) => number]>([
    ['add', 'U32', (o, x) => o + x],
    ['add', 'I32', (o, x) => o + x],
    ['min', 'I32', (o, x) => Math.min(o | 0, x | 0)],
    ['max', 'U32', (o, x) => Math.max(o, x)],
    ['inc', 'U32', (o, x) => (o >= x ? 0 : o + 1)],
    ['dec', 'U32', (o, x) => (o === 0 || o > x ? x : o - 1)],
    ['xor', 'U32', (o, x) => o ^ x],
  ])('%s of %s', (op, dtype, f) => {
    const s = shapeOf(dtype, [12, 9], [8, 4], { swizzle: '32B' });
    const c = [7, -1];
    const tile = pattern(boxBytes(s), 9);
    const before = pattern(tensorBytes(s), 2);
    const expected = u32(before);
    eachElement(s, c, (from, to) => {
      if (to !== null) expected[to / 4] = f(expected[to / 4], u32(tile)[from / 4]);
    });
    expect(u32(store(s, c, op, tile, before, 1))).toEqual(expected);
  });

  test('add of BF16', () => {
    const s = shapeOf('BF16', [16, 4], [16, 2]);
    const bf16 = (values: number[]): Uint8Array => {
      const out = new Uint8Array(2 * values.length);
      values.forEach((v, i) => {
        const bits = new Uint32Array(new Float32Array([v]).buffer)[0];
        out.set([(bits >> 16) & 255, bits >>> 24], 2 * i);
      });
      return out;
    };
    const before = bf16(Array.from({ length: 64 }, (_, i) => i));
    const tile = bf16(Array.from({ length: 32 }, (_, i) => 2 * i));
    const expected = bf16(Array.from({ length: 64 }, (_, i) => (i >= 16 && i < 48 ? i + 2 * (i - 16) : i)));
    expect(store(s, [0, 1], 'add', tile, before, 2)).toEqual(expected);
  });
});

describe('maps changed on the device', () => {
  test('tensormap.replace of every field, then cp_fenceproxy and a load', () => {
    const ptx = moduleOf(
      '.param .u64 map, .param .u64 changed, .param .u64 tensor, .param .u64 out',
      `.shared .align 128 .b8 copy[128];
.shared .align 1024 .b8 tile[1024];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [map];
ld.param.u64 %rd2, [changed];
ld.param.u64 %rd3, [tensor];
ld.param.u64 %rd4, [out];
mov.u32 %r9, %tid.x;
mov.u32 %r1, copy;
mul.wide.u32 %rd5, %r9, 4;
add.u64 %rd6, %rd1, %rd5;
ld.global.u32 %r2, [%rd6];
mad.lo.u32 %r3, %r9, 4, %r1;
st.shared.u32 [%r3], %r2;
bar.sync 0;
setp.ne.u32 %p0, %r9, 0;
@%p0 bra SKIP;
mbarrier.init.shared::cta.b64 [bar], 1;
mov.u64 %rd7, 96;
mov.u32 %r10, 1;
mov.u32 %r11, 24;
mov.u32 %r12, 10;
mov.u32 %r13, 16;
mov.u32 %r14, 5;
mov.u32 %r15, 2;
tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%r1], %rd3;
tensormap.replace.tile.rank.shared::cta.b1024.b32 [%r1], %r10;
tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r1], 0, %r13;
tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r1], 1, %r14;
tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r1], 0, %r11;
tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r1], 1, %r12;
tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%r1], 0, %rd7;
tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [%r1], 1, %r15;
tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%r1], 6;
tensormap.replace.tile.interleave_layout.shared::cta.b1024.b32 [%r1], 0;
tensormap.replace.tile.swizzle_mode.shared::cta.b1024.b32 [%r1], 1;
tensormap.replace.tile.fill_mode.shared::cta.b1024.b32 [%r1], 1;
SKIP:
bar.sync 0;
tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd2], [%r1], 128;
@%p0 bra WAIT;
fence.proxy.tensormap::generic.acquire.gpu [%rd2], 128;
mov.u32 %r20, tile;
mov.u32 %r21, 12;
mov.u32 %r22, -1;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 96;
cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd2, {%r21, %r22}], [bar];
WAIT:
bar.sync 0;
SPIN:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;
@!%p1 bra SPIN;
setp.ge.u32 %p2, %r9, 24;
@%p2 bra DONE;
mov.u32 %r20, tile;
mad.lo.u32 %r3, %r9, 4, %r20;
ld.shared.u32 %r2, [%r3];
add.u64 %rd6, %rd4, %rd5;
st.global.u32 [%rd6], %r2;
DONE:`,
    );
    const bench = new Bench();
    const wrong = bench.buffer(4096, 'wrong tensor');
    const tensor = pattern(960, 4);
    const right = bench.buffer(tensor);
    const map = mapOf(wrong, { dtype: 'F32', dims: [8, 4, 4], box: [4, 2, 2] });
    const original = bench.buffer(map);
    const changed = bench.buffer(128);
    const out = bench.buffer(96);
    expect(summary(bench.run(ptx, [original, changed, right, out]))).toEqual([]);
    const s = shapeOf('F16', [24, 10], [16, 5], {
      strides: [96],
      elementStrides: [1, 2],
      swizzle: '32B',
      fill: 'nan',
    });
    expect(bench.read(out, 96)).toEqual(loaded(s, tensor, [12, -1]));
    // The object is what the host's encoder makes of the same fields, but for the third dimension, which lies idle.
    const encoded = mapOf(right, { ...s, ...wellKnown });
    const object = bench.read(changed, 128);
    for (const [i, byte] of encoded.entries())
      if (i < 0x10 || (i >= 0x20 && i < 0x28) || i > 0x40) expect([i, object[i]]).toEqual([i, byte]);
  });
});
