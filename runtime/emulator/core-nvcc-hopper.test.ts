// What Hopper adds, in CUDA C++: tensor copies under libcu++'s barriers, a wgmma GEMM, distributed shared memory.
import { describe, expect, test } from 'vitest';
import { Bench, mapOf } from './async.testing.ts';
import { bytesOf, CudaProgram, expectUpToDate, hasNvcc, levels } from './testing/cuda.ts';
import { Random } from './testing/tensor-bench.ts';

test.skipIf(!hasNvcc)('the committed PTX is up to date', () => expectUpToDate('hopper'));

describe.each(levels)('kernels from nvcc for Hopper, %s', (level) => {
  const { run } = new CudaProgram('hopper', level);

  test.each([0, 5])('tensor copies, seed %i', { timeout: 120_000 }, (seed) => {
    const [rows, columns] = [40, 72];
    const x = Float32Array.from({ length: rows * columns }, (_, i) => Math.fround(Math.sin(i) * 100));
    const bench = new Bench({ seed });
    const [from, to] = [bench.buffer(bytesOf(x)), bench.buffer(x.byteLength)];
    const map = (at: bigint): Uint8Array => mapOf(at, { dtype: 'F32', dims: [columns, rows], box: [32, 16] });
    run(bench, 'tma_double', [map(from), map(to)], { grid: [3, 3, 1], block: [64, 1, 1] });
    expect(new Float32Array(bench.read(to, x.byteLength).buffer)).toEqual(x.map((v) => 2 * v));
  });

  // Debug code copies the accumulators to memory behind every wgmma, before anyone waited for it: it has no result.
  test.skipIf(level === 'debug').each([
    [64, 64, 64],
    [100, 72, 328],
  ])('wgmma GEMM %i x %i x %i', { timeout: 120_000 }, (m, n, k) => {
    const random = new Random(m);
    // Whole numbers from -4 to 4: every sum is exact. Their bf16 codes are the upper halves of the f32 ones.
    const draw = (count: number): Float32Array =>
      Float32Array.from({ length: count }, () => random.below(9) - 4);
    const codes = (x: Float32Array): Uint8Array =>
      bytesOf(Uint16Array.from(new Uint32Array(x.buffer), (bits) => bits >>> 16));
    const [a, b] = [draw(m * k), draw(n * k)];
    const bench = new Bench({ seed: k });
    const map = (codesOf: Uint8Array, rows: number): Uint8Array =>
      mapOf(bench.buffer(codesOf), { dtype: 'BF16', dims: [k, rows], box: [64, 64], swizzle: '128B' });
    const d = bench.buffer(4 * m * n);
    run(bench, 'wgmma_gemm', [map(codes(a), m), map(codes(b), n), d, m, n, k], {
      grid: [Math.ceil(n / 64), Math.ceil(m / 64), 1],
      block: [160, 1, 1],
      dynamicSharedBytes: 3 * 16384 + 48 + 1024,
    });
    const want = new Float32Array(m * n);
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) for (let x = 0; x < k; x++) want[i * n + j] += a[i * k + x] * b[j * k + x];
    expect(new Float32Array(bench.read(d, want.byteLength).buffer)).toEqual(want);
  });

  test.each([1, 2, 4, 8])('sums over clusters of %i', { timeout: 120_000 }, (cluster) => {
    const [clusters, each] = [3, 1000];
    const x = Int32Array.from({ length: clusters * each }, (_, i) => ((i * 7919) % 2001) - 1000);
    const bench = new Bench({ seed: cluster });
    const [from, sums, negatives] = [bench.buffer(bytesOf(x)), bench.buffer(12), bench.buffer(12)];
    run(bench, 'cluster_sum', [from, sums, negatives, each], {
      grid: [clusters * cluster, 1, 1],
      block: [64, 1, 1],
      cluster: [cluster, 1, 1],
    });
    const parts = Array.from({ length: clusters }, (_, c) => [...x.slice(c * each, (c + 1) * each)]);
    const read = (at: bigint): number[] => [...new Int32Array(bench.read(at, 12).buffer)];
    expect(read(sums)).toEqual(parts.map((p) => p.reduce((s, v) => s + v, 0)));
    expect(read(negatives)).toEqual(parts.map((p) => p.filter((v) => v < 0).length));
  });
});
