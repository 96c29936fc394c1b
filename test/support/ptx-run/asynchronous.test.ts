// Asynchronous copies and tensor maps in the interpreter: hand-written PTX, and the mistakes that it must find.
import { describe, expect, test } from 'vitest';
import { DeviceMemory, runPtx, type TensorMap } from '../ptx-run.ts';
import { forEachBoxRow, swizzled, tensorMapProblem } from './tensor-map.ts';

/** One thread loads a box of 4 x 32 bytes through `in`, waits, and stores it through `out`. */
const copy = `.version 8.0
.target sm_90a
.address_size 64

.extern .shared .align 1024 .b8 k_shared[];

.visible .entry k(
  .param .align 64 .b8 k_in[128],
  .param .align 64 .b8 k_out[128]
)
.reqntid 32, 1, 1
{
  .reg .pred %p<2>;
  .reg .u32 %r<8>;
  .reg .u64 %rd<4>;

  mov.u64 %rd0, k_in;
  cvta.param.u64 %rd0, %rd0;
  mov.u64 %rd1, k_out;
  cvta.param.u64 %rd1, %rd1;
  mov.u32 %r0, k_shared;
  add.u32 %r1, %r0, 128;
  mov.u32 %r2, %tid.x;
  setp.ne.u32 %p0, %r2, 0;
  @%p0 bra $end;
  mbarrier.init.shared::cta.b64 [%r1], 1;
  fence.mbarrier_init.release.cluster;
  mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 128;
  mov.u32 %r3, 16;
  mov.u32 %r4, 1;
  cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r0], [%rd0, {%r3, %r4}], [%r1];
$wait:
  mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0;
  @!%p1 bra $wait;
  mov.u32 %r5, 0;
  cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {%r5, %r5}], [%r0];
  cp.async.bulk.commit_group;
  cp.async.bulk.wait_group 0;
$end:
  ret;
}
`;

/** 3 rows of 40 bytes, numbered; each begins 48 bytes after the last. */
const source = Uint8Array.from({ length: 3 * 48 }, (_, i) => (i % 48 < 40 ? i : 0xee));

function launch(ptx: string, { swizzle = 0, seed = 1 } = {}): number[][] {
  const memory = new DeviceMemory();
  const map = (bytes: Uint8Array | number, width: number, rows: number, stride: number): TensorMap => ({
    address: memory.allocate(bytes),
    elementBytes: 1,
    dims: [width, rows],
    strides: [stride],
    box: [32, 4],
    swizzle,
  });
  const [from, to] = [map(source, 40, 3, 48), map(3 * 32, 28, 3, 32)];
  runPtx(ptx, {
    memory,
    grid: [1, 1, 1],
    parameters: [from, to],
    dynamicSharedBytes: 256,
    seed,
    limit: 10_000,
  });
  const out = memory.bytesAt(to.address);
  return [0, 1, 2].map((row) => [...out.slice(32 * row, 32 * row + 32)]);
}

/** Columns 16 … of rows 1 …: zeros beyond row 2 and column 39; nothing is written beyond column 27 of the target. */
const expected = [1, 2, 3].map((row) =>
  Array.from({ length: 32 }, (_, i) => (i >= 28 ? 0xcd : row < 3 && 16 + i < 40 ? 48 * row + 16 + i : 0)),
);

describe('TMA', () => {
  test.each([0, 32])('fills up with zeros and clips, swizzle %i', (swizzle) => {
    for (const seed of [1, 2, 3]) expect(launch(copy, { swizzle, seed })).toEqual(expected);
  });

  test('a copy that nobody waits for is not there yet', () => {
    const early = copy.replace('@!%p1 bra $wait;', '');
    const isRight = (seed: number): boolean => {
      try {
        return JSON.stringify(launch(early, { seed })) === JSON.stringify(expected);
      } catch (e) {
        expect(String(e)).toMatch(/under way/);
        return false;
      }
    };
    expect([1, 2, 3, 4, 5, 6].every(isRight)).toBe(false);
  });

  test.each([
    ['exits while copies are under way', /cp\.async\.bulk\.wait_group 0;/, ''],
    ['no mbarrier was initialised', /mbarrier\.init\S* \S+ 1;/, ''],
    ['deadlock', /_, \[%r1\], 128;/, '_, [%r1], 256;'],
    ['no tensor map', /cvta\.param\.u64 %rd0, %rd0;/, ''],
    ['not a multiple of 128', /mov\.u32 %r0, k_shared;/, 'mov.u32 %r0, k_shared;\n  add.u32 %r0, %r0, 16;'],
    ['3 coordinates', /\{%r3, %r4\}/, '{%r3, %r4, %r4}'],
  ])('says: %s', (message, from, to) => {
    expect(copy).toMatch(from);
    expect(() => launch(copy.replace(from, to))).toThrow(message);
  });
});

test('a swizzle exchanges units of 16 bytes within 8 rows', () => {
  for (const bytes of [32, 64, 128]) {
    const places = Array.from({ length: 1024 }, (_, i) => swizzled(i, bytes));
    expect(new Set(places).size).toBe(1024);
    places.forEach((p, i) => {
      expect(p % 16).toBe(i % 16);
      expect(p >> Math.log2(bytes)).toBe(i >> Math.log2(bytes));
    });
  }
  // Row 3 of 128-byte rows: unit 0 goes to unit 3.
  expect(swizzled(3 * 128, 128)).toBe(3 * 128 + 48);
});

describe('tensor maps', () => {
  const map: TensorMap = {
    address: 256,
    elementBytes: 2,
    dims: [100, 7],
    strides: [208],
    box: [64, 8],
    swizzle: 128,
  };

  test('what the driver refuses', () => {
    expect(tensorMapProblem(map)).toBeNull();
    expect(tensorMapProblem({ ...map, address: 8 })).toMatch(/multiple of 16/);
    expect(tensorMapProblem({ ...map, strides: [200] })).toMatch(/multiples of 16/);
    expect(tensorMapProblem({ ...map, box: [100, 1] })).toMatch(/multiple of 16/);
    expect(tensorMapProblem({ ...map, box: [128, 8] })).toMatch(/exceed the swizzle/);
    expect(tensorMapProblem({ ...map, box: [64, 512] })).toMatch(/box/);
    expect(tensorMapProblem({ ...map, dims: [100, 0] })).toMatch(/dims/);
    expect(tensorMapProblem({ ...map, strides: [] })).toMatch(/rank/);
  });

  test('the rows of a box, inside and out', () => {
    const rows: number[][] = [];
    forEachBoxRow({ ...map, box: [64, 2] }, [64, 6], 1024, (...row) => rows.push(row));
    expect(rows).toEqual([
      [1024, 256 + 128 + 6 * 208, 0, 72],
      [1152, 256 + 128 + 7 * 208, 0, 0],
    ]);
  });
});
