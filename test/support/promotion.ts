// What promotion is worth: FP8 products summed over all of K in the tensor core, whose sums keep 13 fraction bits, against
// sums of 128 that are added up in f32, as our GEMM does it. Both kernels are one text that differs in nothing else.
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import { encodeBytes } from '../../ir/formats/index.ts';
import { loadCore } from '../../runtime/emulator/load-core.ts';
import { Random } from '../../runtime/emulator/testing/tensor-bench.ts';
import { fp8Rows, plainSum } from './fp8-gemm-model.ts';

/** Rows and columns of a block's tile, K of a round: one 128-byte swizzle atom wide. */
const tile = 64;
const roundK = 128;
const steps = 4;
const registers = tile / 2;

const lines = (count: number, f: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => f(i)).join('\n');

/** A [64 · grid.x, k] times the transpose of B [64 · grid.y, k], e4m3 to f32. */
export function sumKernel(k: number, columns: number, promote: boolean): string {
  const sums = Array.from({ length: registers }, (_, i) => `%sum${i}`).join(', ');
  const parts = sums.replaceAll('sum', 'part');
  // Descriptors: 128-byte swizzle, 1024 bytes between groups of 8 rows; a step moves the start by 32 bytes.
  const high = (1 << 30) | (1024 >> 4);
  const load = (from: string, to: string): string =>
    lines(
      4,
      (c) => `ld.global.v4.b32 {%w0, %w1, %w2, %w3}, [${from}+${16 * c}];
xor.b32 %unit, %chunk, ${c};
shl.b32 %unit, %unit, 4;
add.u32 %unit, %unit, ${to};
st.shared.v4.b32 [%unit], {%w0, %w1, %w2, %w3};`,
    );
  return `.version 8.0
.target sm_90a
.address_size 64
.extern .shared .align 1024 .b8 smem[];
.visible .entry sums(.param .u64 a, .param .u64 b, .param .u64 out)
.reqntid 128, 1, 1
{
.reg .b32 %r<16>, %w<4>, %unit, %chunk, %rowA, %rowB, %k, %at<2>;
.reg .b64 %a, %b, %out, %to, %desc<${2 * steps}>;
.reg .f32 %sum<${registers}>, %part<${registers}>;
.reg .pred %goesOn, %never, %always, %more;
ld.param.u64 %a, [a];
ld.param.u64 %b, [b];
ld.param.u64 %out, [out];
mov.u32 %r0, %tid.x;
mov.u32 %r1, %ctaid.x;
mov.u32 %r2, %ctaid.y;
// Two threads copy a row of 128 bytes, each its half, in chunks of 16 that the swizzle permutes by row.
shr.u32 %r3, %r0, 1;
and.b32 %r4, %r0, 1;
mad.lo.u32 %r5, %r1, ${tile}, %r3;
mul.wide.u32 %to, %r5, ${k};
add.u64 %a, %a, %to;
mad.lo.u32 %r5, %r2, ${tile}, %r3;
mul.wide.u32 %to, %r5, ${k};
add.u64 %b, %b, %to;
mul.wide.u32 %to, %r4, 64;
add.u64 %a, %a, %to;
add.u64 %b, %b, %to;
mov.u32 %r6, smem;
mad.lo.u32 %rowA, %r3, 128, %r6;
add.u32 %rowB, %rowA, ${tile * roundK};
shl.b32 %chunk, %r4, 2;
and.b32 %r7, %r3, 7;
xor.b32 %chunk, %chunk, %r7;
shr.u32 %at0, %r6, 4;
or.b32 %at0, %at0, ${1 << 16};
add.u32 %at1, %at0, ${(tile * roundK) >> 4};
${lines(
  steps,
  (s) => `add.u32 %r8, %at0, ${2 * s};
mov.b64 %desc${2 * s}, {%r8, ${high}};
add.u32 %r8, %at1, ${2 * s};
mov.b64 %desc${2 * s + 1}, {%r8, ${high}};`,
)}
${lines(registers, (i) => `mov.f32 %sum${i}, 0f00000000;`)}
setp.ne.u32 %never, 0, 0;
setp.eq.u32 %always, 0, 0;
setp.ne.u32 %goesOn, 0, 0;
mov.u32 %k, 0;
ROUND:
${load('%a', '%rowA')}
${load('%b', '%rowB')}
fence.proxy.async.shared::cta;
bar.sync 0;
wgmma.fence.sync.aligned;
${lines(steps, (s) => {
  const scaleD = s > 0 ? '%always' : promote ? '%never' : '%goesOn';
  return `wgmma.mma_async.sync.aligned.m64n${tile}k32.f32.e4m3.e4m3 {${promote ? parts : sums}}, %desc${2 * s}, %desc${2 * s + 1}, ${scaleD}, 1, 1;`;
})}
wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;
${promote ? lines(registers, (i) => `add.rn.f32 %sum${i}, %sum${i}, %part${i};`) : '// The sums stay in the tensor core.'}
bar.sync 0;
mov.pred %goesOn, %always;
add.u64 %a, %a, ${roundK};
add.u64 %b, %b, ${roundK};
add.u32 %k, %k, ${roundK};
setp.lt.u32 %more, %k, ${k};
@%more bra ROUND;
// Register i of lane l in warp w: row 16 w + l / 4 + 8 (i / 2 mod 2), column 8 (i / 4) + 2 (l mod 4) + i mod 2.
and.b32 %r9, %r0, 31;
shr.u32 %r10, %r0, 5;
shr.u32 %r11, %r9, 2;
mad.lo.u32 %r11, %r10, 16, %r11;
mad.lo.u32 %r11, %r1, ${tile}, %r11;
and.b32 %r12, %r9, 3;
shl.b32 %r12, %r12, 1;
mad.lo.u32 %r12, %r2, ${tile}, %r12;
mad.lo.u32 %r13, %r11, ${columns}, %r12;
mul.wide.u32 %to, %r13, 4;
add.u64 %out, %out, %to;
${lines(registers, (i) => `st.global.f32 [%out+${4 * (8 * ((i >> 1) & 1) * columns + 8 * (i >> 2) + (i & 1))}], %sum${i};`)}
ret;
}
`;
}

export type Distribution = 'normal' | 'uniform';
/** Square operands: every row of A meets every row of B. */
export interface SumOperands {
  /** Rows of each: a multiple of 64. */
  readonly rows: number;
  readonly k: number;
  readonly a: Uint8Array;
  readonly b: Uint8Array;
}

/** Normal numbers, or uniform ones in (0, 1), rounded to e4m3. */
export function sumOperands(rows: number, k: number, distribution: Distribution, seed: number): SumOperands {
  const r = new Random(seed);
  const uniform = (): number => (r.next() + 0.5) * 2 ** -32;
  const draw =
    distribution === 'uniform'
      ? uniform
      : (): number => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  const matrix = (): Uint8Array => {
    const values = new Float64Array(rows * k);
    for (let i = 0; i < values.length; i++) values[i] = draw();
    return encodeBytes('f8e4m3', values);
  };
  return { rows, k, a: matrix(), b: matrix() };
}

/** The outputs, row by row, as the emulator computes them. Throws on reports. */
export function runSums({ rows, k, a, b }: SumOperands, promote: boolean): Float32Array {
  const { program, diagnostics } = decodePtx(sumKernel(k, rows, promote), 'sums.ptx');
  if (!program) throw new Error(diagnostics.map((d) => d.message).join('\n'));
  const core = loadCore();
  const device = core.createDevice({ checks: ['all'] });
  const handle = core.loadProgram(device, program);
  const [x, y, out] = [a.length, b.length, 4 * rows * rows].map((n, i) =>
    core.allocate(device, n, ['a', 'b', 'out'][i]),
  );
  core.write(device, x, a);
  core.write(device, y, b);
  const { reports } = core.launch(device, handle, {
    kernel: 'sums',
    grid: [rows / tile, rows / tile, 1],
    block: [128, 1, 1],
    cluster: [0, 0, 0],
    dynamicSharedBytes: 2 * tile * roundK,
    parameterBlock: new Uint8Array(BigUint64Array.of(x, y, out).buffer),
  });
  if (reports.length > 0) throw new Error(reports.map((p) => `${p.code}: ${p.message}`).join('\n'));
  return new Float32Array(core.read(device, out, 4 * rows * rows).slice().buffer);
}

/** The outputs in f64, from the same FP8 operands. */
export function plainSums({ rows, k, a, b }: SumOperands): Float64Array {
  const [x, y] = [fp8Rows(a, k), fp8Rows(b, k)];
  return Float64Array.from({ length: rows * rows }, (_, i) => plainSum(x, Math.floor(i / rows), y, i % rows));
}

/** The largest error over the largest magnitude. */
export function relativeError(got: Float32Array, want: Float64Array): number {
  let [error, largest] = [0, 0];
  want.forEach((c, i) => {
    error = Math.max(error, Math.abs(got[i] - c));
    largest = Math.max(largest, Math.abs(c));
  });
  return error / largest;
}

const rows = 128;
const seeds = [1, 2, 3, 4, 5];

/** The figures as docs/EMULATOR.md has them: they depend on the seeds alone. */
export function promotionTable(): string {
  const percent = (x: number): string => `${(100 * x).toPrecision(3)} %`.padStart(8);
  const figures = (['normal', 'uniform'] as const).flatMap((distribution) =>
    [4096, 7168].map((k) => {
      const errors = seeds.map((seed) => {
        const operands = sumOperands(rows, k, distribution, seed);
        const exact = plainSums(operands);
        return [false, true].map((promote) => relativeError(runSums(operands, promote), exact));
      });
      const range = (i: number): string => {
        const list = errors.map((e) => e[i]);
        return `${percent(Math.min(...list))} to ${percent(Math.max(...list))}`;
      };
      return `${distribution.padEnd(8)}  ${k}  ${range(0)}  ${range(1)}`;
    }),
  );
  return [
    `max |error| / max |c| over ${rows * rows} outputs, smallest and largest of ${seeds.length} seeds`,
    'numbers   K     never promoted        every 128',
    ...figures,
  ].join('\n');
}
