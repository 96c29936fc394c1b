// Kernels that nvcc compiled, so that the emulator meets PTX that we did not write.
import { describe, expect, test } from 'vitest';
import { Bench } from './async.testing.ts';
import { bytesOf as bytes, CudaProgram, expectUpToDate, hasNvcc, levels } from './testing/cuda.ts';

test.skipIf(!hasNvcc)('the committed PTX is up to date', () => expectUpToDate('basics'));

describe.each(levels)('kernels from nvcc, %s', (level) => {
  const { run } = new CudaProgram('basics', level);
  const floats = (n: number, f: (i: number) => number): Float32Array =>
    Float32Array.from({ length: n }, (_, i) => f(i));

  test('reduction', { timeout: 60_000 }, () => {
    const n = 10_000;
    const x = floats(n, (i) => (i % 17) - 5);
    const bench = new Bench({ seed: 3, checks: ['all'] });
    const [from, out] = [bench.buffer(bytes(x)), bench.buffer(4)];
    run(bench, 'reduce', [from, out, n], { grid: [7, 1, 1], block: [256, 1, 1] });
    // Small integers: every order gives the same sum.
    expect(new Float32Array(bench.read(out, 4).buffer)[0]).toBe(x.reduce((s, v) => s + v, 0));
  });

  test('transpose', () => {
    const [rows, columns] = [70, 45];
    const x = Uint32Array.from({ length: rows * columns }, (_, i) => i * 2654435761);
    const bench = new Bench({ seed: 1, checks: ['all'] });
    const [from, out] = [bench.buffer(bytes(x)), bench.buffer(x.byteLength)];
    run(bench, 'transpose', [from, out, rows, columns], { grid: [2, 3, 1], block: [32, 8, 1] });
    expect(bench.words(out, x.length)).toEqual(
      Array.from({ length: x.length }, (_, k) => x[(k % rows) * columns + Math.floor(k / rows)]),
    );
  });

  test('histogram', () => {
    const x = Uint8Array.from({ length: 20_000 }, (_, i) => (i * i + (i >> 3)) & 255);
    const bench = new Bench({ seed: 2, checks: ['all'] });
    const [from, out] = [bench.buffer(x), bench.buffer(1024)];
    run(bench, 'histogram', [from, out, x.length], { grid: [5, 1, 1], block: [192, 1, 1] });
    const want = new Array<number>(256).fill(0);
    for (const v of x) want[v]++;
    expect(bench.words(out, 256)).toEqual(want);
  });

  test('softmax', () => {
    const [rows, columns] = [9, 200];
    const x = floats(rows * columns, (i) => Math.sin(i * 1.7) * 20);
    const bench = new Bench({ checks: ['all'] });
    const [from, out] = [bench.buffer(bytes(x)), bench.buffer(x.byteLength)];
    run(bench, 'softmax', [from, out, columns], {
      grid: [rows, 1, 1],
      block: [32, 1, 1],
      dynamicSharedBytes: columns * 4,
    });
    const y = new Float32Array(bench.read(out, x.byteLength).buffer);
    for (let r = 0; r < rows; r++) {
      const row = [...x.slice(r * columns, (r + 1) * columns)];
      const most = Math.max(...row);
      const e = row.map((v) => Math.exp(v - most));
      const total = e.reduce((a, b) => a + b, 0);
      e.forEach((v, i) => expect(Math.abs(y[r * columns + i] - v / total)).toBeLessThan(2e-6));
    }
  });

  test('recursion, function pointers, indexed local arrays', () => {
    const bench = new Bench({ seed: 6, checks: ['all'] });
    const out = bench.buffer(4 * 96);
    run(bench, 'calls', [out], { grid: [3, 1, 1], block: [32, 1, 1] });
    const collatz = (v: number): number => (v === 1 ? 0 : 1 + collatz(v % 2 ? 3 * v + 1 : v / 2));
    expect(bench.words(out, 96)).toEqual(
      Array.from({ length: 96 }, (_, i) => {
        // local[(3k + i) & 7] = k, read at i & 7: k = 0.
        const picked = (i % 2 ? i ** 3 : i * i) % 1000;
        return (collatz(i + 1) * 1000000 + picked * 10) >>> 0;
      }),
    );
  });

  test('doubles and 64-bit division', () => {
    const x = Float64Array.from({ length: 64 }, (_, i) => (i - 31) * 0.37);
    const bench = new Bench({ checks: ['all'] });
    const [from, out, z] = [bench.buffer(bytes(x)), bench.buffer(512), bench.buffer(512)];
    run(bench, 'doubles', [from, out, z], { block: [64, 1, 1] });
    const y = new Float64Array(bench.read(out, 512).buffer);
    x.forEach((v, i) => {
      const want = Math.exp(v) + (Math.sin(v) * Math.sqrt(Math.abs(v))) / (1 + v * v);
      expect(Math.abs(y[i] - want)).toBeLessThanOrEqual(Math.abs(want) * 1e-14 + 1e-14);
    });
    const q = new BigInt64Array(bench.read(z, 512).buffer);
    x.forEach((v, i) => {
      const d = BigInt(i - 17 === 0 ? 3 : i - 17);
      expect(q[i]).toBe(BigInt(Math.trunc(v * 1e9)) / d + ((BigInt(i) * BigInt(i)) % 7n));
    });
  });
});
