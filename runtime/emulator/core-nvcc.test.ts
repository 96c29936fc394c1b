// Kernels that nvcc compiled, so that the emulator meets PTX that we did not write. Skipped where nvcc is not installed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import { Bench, type Launch } from './async.testing.ts';

const hasNvcc = ((): boolean => {
  try {
    execFileSync('nvcc', ['--version'], { stdio: 'pipe' });
    return true;
  } catch {
    console.warn('nvcc is not installed: kernels that it compiles are not tested');
    return false;
  }
})();

const source = `
extern "C" __global__ void reduce(const float* x, float* out, int n) {
  __shared__ float part[32];
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
  for (int k = 16; k > 0; k >>= 1) sum += __shfl_down_sync(0xffffffffu, sum, k);
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
    for (int k = 16; k > 0; k >>= 1) sum += __shfl_down_sync(0xffffffffu, sum, k);
    if (threadIdx.x == 0) atomicAdd(out, sum);
  }
}
extern "C" __global__ void transpose(const unsigned* x, unsigned* y, int rows, int columns) {
  __shared__ unsigned tile[32][33];
  int c = blockIdx.x * 32 + threadIdx.x;
  for (int j = threadIdx.y; j < 32; j += blockDim.y) {
    int r = blockIdx.y * 32 + j;
    if (r < rows && c < columns) tile[j][threadIdx.x] = x[r * columns + c];
  }
  __syncthreads();
  int q = blockIdx.y * 32 + threadIdx.x;
  for (int j = threadIdx.y; j < 32; j += blockDim.y) {
    int p = blockIdx.x * 32 + j;
    if (p < columns && q < rows) y[p * rows + q] = tile[threadIdx.x][j];
  }
}
extern "C" __global__ void histogram(const unsigned char* x, unsigned* bins, int n) {
  __shared__ unsigned own[256];
  for (int i = threadIdx.x; i < 256; i += blockDim.x) own[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&own[x[i]], 1u);
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += blockDim.x) if (own[i]) atomicAdd(&bins[i], own[i]);
}
extern "C" __global__ void softmax(const float* x, float* y, int columns) {
  extern __shared__ float row[];
  __shared__ float most, total;
  const float* from = x + (size_t)blockIdx.x * columns;
  float m = -INFINITY;
  for (int i = threadIdx.x; i < columns; i += 32) m = fmaxf(m, row[i] = from[i]);
  for (int k = 16; k > 0; k >>= 1) m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, k));
  if (threadIdx.x == 0) most = m;
  __syncwarp();
  float sum = 0;
  for (int i = threadIdx.x; i < columns; i += 32) sum += row[i] = expf(row[i] - most);
  for (int k = 16; k > 0; k >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, k);
  if (threadIdx.x == 0) total = sum;
  __syncwarp();
  for (int i = threadIdx.x; i < columns; i += 32) y[(size_t)blockIdx.x * columns + i] = row[i] / total;
}
__device__ __noinline__ unsigned collatz(unsigned long long v) {
  return v == 1 ? 0 : 1 + collatz(v & 1 ? 3 * v + 1 : v / 2);
}
__device__ __noinline__ unsigned pick(unsigned v, unsigned (*f)(unsigned)) { return f(v); }
__device__ __noinline__ unsigned square(unsigned v) { return v * v; }
__device__ __noinline__ unsigned cube(unsigned v) { return v * v * v; }
__device__ unsigned (*const table[2])(unsigned) = {square, cube};
extern "C" __global__ void calls(unsigned* y) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  unsigned local[8];
  for (int k = 0; k < 8; ++k) local[(k * 3 + i) & 7] = k;
  y[i] = collatz(i + 1) * 1000000u + pick(i, table[i & 1]) % 1000u * 10u + local[i & 7];
}
extern "C" __global__ void doubles(const double* x, double* y, long long* z) {
  int i = threadIdx.x;
  y[i] = exp(x[i]) + sin(x[i]) * sqrt(fabs(x[i])) / (1.0 + x[i] * x[i]);
  z[i] = (long long)(x[i] * 1e9) / (i - 17 == 0 ? 3 : i - 17) + (long long)i * i % 7;
}
`;

/** nvcc's PTX, at an optimisation level. */
function compile(level: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'dsvc-nvcc-'));
  try {
    writeFileSync(join(folder, 'k.cu'), source);
    const flags = level === 'debug' ? ['-G'] : [];
    execFileSync('nvcc', ['-ptx', '-arch=sm_90a', ...flags, 'k.cu', '-o', 'k.ptx'], {
      cwd: folder,
      stdio: 'pipe',
    });
    return readFileSync(join(folder, 'k.ptx'), 'utf8');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.skipIf(!hasNvcc).each(['optimised', 'debug'])('kernels from nvcc, %s', (level) => {
  let program: Uint8Array | undefined;
  const decoded = (): Uint8Array => {
    const { program: made, diagnostics } = decodePtx(compile(level), 'k.ptx');
    if (!made) throw new Error(diagnostics.map((d) => d.message).join('\n'));
    return made;
  };
  const run = (bench: Bench, kernel: string, args: (number | bigint)[], launch: Launch): void => {
    const handle = bench.core.loadProgram(bench.device, (program ??= decoded()));
    const info = bench.core.describeProgram(handle).kernels.find((k) => k.name === kernel);
    if (!info) throw new Error(`no kernel ${kernel}`);
    const parameterBlock = new Uint8Array(info.parameterBytes);
    const view = new DataView(parameterBlock.buffer);
    args.forEach((v, i) => {
      if (typeof v === 'bigint') view.setBigUint64(info.parameters[i].offset, v, true);
      else view.setUint32(info.parameters[i].offset, v, true);
    });
    const request = {
      kernel,
      grid: [1, 1, 1],
      cluster: [0, 0, 0],
      block: [32, 1, 1],
      dynamicSharedBytes: 0,
      ...launch,
    } as const;
    expect(bench.core.launch(bench.device, handle, { ...request, parameterBlock }).reports).toEqual([]);
  };
  const floats = (n: number, f: (i: number) => number): Float32Array =>
    Float32Array.from({ length: n }, (_, i) => f(i));
  const bytes = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

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
