// Correct kernels that nvcc compiled, optimised and not: nothing of what compilers do with registers, local memory and
// partly written words is reported. And one that forgets something. Skipped where nvcc is not installed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import { loadCore } from './load-core.ts';

const hasNvcc = ((): boolean => {
  try {
    execFileSync('nvcc', ['--version'], { stdio: 'pipe' });
    return true;
  } catch {
    console.warn('nvcc is not installed: kernels that it compiles are not checked for uninitialised data');
    return false;
  }
})();

/** Each takes n words and gives n words. */
const source = `
#include <cuda_fp16.h>
struct P { unsigned char a, b; short c; };
__device__ __noinline__ P make(int i) { P p; p.a = i; p.b = i >> 1; p.c = -i; return p; }
__device__ __noinline__ int fibonacci(int n) { return n < 2 ? 1 : fibonacci(n - 1) + fibonacci(n - 2); }
#define KERNEL(name) extern "C" __global__ void name(const int* x, int* out, int n)
#define INDEX int i = threadIdx.x + blockIdx.x * blockDim.x; if (i >= n) return
KERNEL(structs) { INDEX; ((P*)out)[i] = make(x[i]); }
KERNEL(locals) { INDEX; int a[16]; for (int k = 0; k < 16; ++k) a[k] = x[i] ^ k; int s = 0; for (int k = 0; k < 8; ++k) s += a[(x[i] + k) & 15]; out[i] = s; }
KERNEL(math) { INDEX; float v = x[i] * 1e6f; ((float*)out)[i] = sinf(v) + powf(fabsf(v), 0.3f) + logf(fabsf(v) + 1) + fmodf(v, 3.7f); }
KERNEL(doubles) { INDEX; double v = x[i] * 1e5; out[i] = (int)(sin(v) / (cos(v) + 3) + sqrt(v) + (long long)v % 7 + (unsigned long long)(i + 5) / (i + 1u)); }
KERNEL(halves) { INDEX; __half2 v = ((const __half2*)x)[i]; v = __hfma2(v, v, __float2half2_rn(0.5f)); ((__half2*)out)[i] = __halves2half2(__high2half(v), __low2half(v)); }
KERNEL(bytes) { INDEX; unsigned char v = x[i]; uchar4 q = make_uchar4(v, v + 1, v * 2, 7); out[i] = (&q.x)[i & 3] ^ (v > 100 ? q.y : q.z); }
KERNEL(votes) {
  int i = threadIdx.x + blockIdx.x * blockDim.x, v = 0;
  bool in = i < n;
  if (in) v = x[i];
  unsigned m = __ballot_sync(~0u, in && v > 3);
  int any = __syncthreads_or(in && v == 5), count = __syncthreads_count(in && (v & 1));
  if (in) out[i] = __popc(m) + any * 100 + count + __reduce_add_sync(__activemask(), v);
}
KERNEL(tail) {
  __shared__ int s[256];
  int i = threadIdx.x + blockIdx.x * blockDim.x, v;
  if (i < n) v = x[i];
  if (i < n) s[threadIdx.x] = v;
  __syncthreads();
  int m = min(256, n - (int)(blockIdx.x * blockDim.x)), t = 0;
  for (int k = 0; k < m; ++k) t += s[k];
  if (i < n) out[i] = t;
}
KERNEL(recursion) { INDEX; out[i] = fibonacci(x[i] & 7); }
KERNEL(cases) { INDEX; int r; switch (x[i] & 7) { case 0: r = 4; break; case 1: r = x[i] * 2; break; case 2: r = 9; break; case 3: r = i; break; case 4: r = 77; break; case 5: r = -1; break; default: r = 3; } out[i] = r; }
KERNEL(exchange) { INDEX; out[i] = 0; unsigned old = out[i], as; do { as = old; old = atomicCAS((unsigned*)out + i, as, as + x[i]); } while (as != old); }
KERNEL(forgets) {
  __shared__ int s[256];
  int i = threadIdx.x + blockIdx.x * blockDim.x;
  if (i < n - 1) s[threadIdx.x] = x[i];
  __syncthreads();
  if (i < n) out[i] = s[threadIdx.x];
}
`;

function compile(flags: readonly string[]): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'dsvc-nvcc-'));
  try {
    writeFileSync(join(folder, 'k.cu'), source);
    execFileSync('nvcc', ['-ptx', '-arch=sm_90a', ...flags, 'k.cu', '-o', 'k.ptx'], {
      cwd: folder,
      stdio: 'pipe',
    });
    const { program, diagnostics } = decodePtx(readFileSync(join(folder, 'k.ptx'), 'utf8'), 'k.ptx');
    if (!program) throw new Error(diagnostics.map((d) => d.message).join('\n'));
    return program;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.skipIf(!hasNvcc).each([
  ['optimised', []],
  ['debug', ['-G']],
])('%s', (_name, flags) => {
  const n = 500;
  let program: Uint8Array | undefined;
  const found = (kernel: string): readonly string[] => {
    const core = loadCore();
    const device = core.createDevice({ checks: ['all'], stopAtError: false, seed: 3 });
    const handle = core.loadProgram(device, (program ??= compile(flags)));
    const [x, out] = [core.allocate(device, 4 * n, 'x', 4), core.allocate(device, 4 * n, 'out', 4)];
    core.write(
      device,
      x,
      Uint8Array.from({ length: 4 * n }, (_, k) => (k % 4 === 0 ? (k * 37) & 63 : 0)),
    );
    core.markOutput(device, out);
    const parameterBlock = new Uint8Array(20);
    const view = new DataView(parameterBlock.buffer);
    view.setBigUint64(0, x, true);
    view.setBigUint64(8, out, true);
    view.setInt32(16, n, true);
    const shape = { grid: [2, 1, 1], block: [256, 1, 1], cluster: [0, 0, 0], dynamicSharedBytes: 0 } as const;
    const { reports } = core.launch(device, handle, { kernel, ...shape, parameterBlock });
    return [...reports, ...core.outputReports(device, out)].map((r) => `${r.code} ${r.message}`);
  };
  const kernels = [...source.matchAll(/^KERNEL\((\w+)\)/gm)]
    .map(([, name]) => name)
    .filter((k) => k !== 'forgets');
  test.each(kernels)('%s', { timeout: 60_000 }, (kernel) => {
    expect(found(kernel)).toEqual([]);
  });
  test('forgets its last element', { timeout: 60_000 }, () => {
    expect(found('forgets')).toEqual([
      expect.stringMatching(
        /^emu\/uninitialised-output .* out\[499\], an output \(4 bytes .* of shared memory, which was never written$/,
      ),
    ]);
  });
});
