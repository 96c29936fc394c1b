// The interpreter itself: hand-written PTX whose outcome is known, and the mistakes that it must find.
import { describe, expect, test } from 'vitest';
import { DeviceMemory, runPtx, type Order } from './ptx-run.ts';
import { fusedMultiplyAdd } from './ptx-run/operands.ts';

const registers = `
  .reg .pred %p<4>;
  .reg .b16 %h<4>;
  .reg .b32 %b<8>;
  .reg .u32 %r<8>;
  .reg .f32 %f<8>;
  .reg .u64 %rd<8>;
  .reg .b64 %bd<4>;`;

/** A kernel of one pointer parameter, loaded to %rd1; %r0 is the thread's number and %rd2 its own word. */
const kernel = (body: string, threads = 32): string => `.version 8.0
.target sm_90a
.address_size 64

.visible .entry k(
  .param .u64 k_out
)
.reqntid ${threads}, 1, 1
{${registers}
  .shared .align 16 .b8 k_buffer[512];

  mov.u32 %r0, %tid.x;
  ld.param.u64 %rd0, [k_out];
  cvta.to.global.u64 %rd1, %rd0;
  mad.wide.u32 %rd2, %r0, 4, %rd1;
${body}
  ret;
}
`;

function words(
  body: string,
  { threads = 32, count = 0, order = 'forward' as Order, grid = 1 } = {},
): number[] {
  const memory = new DeviceMemory();
  const out = memory.allocate(4 * (count || threads), 'out');
  runPtx(kernel(body, threads), { memory, grid: [grid, 1, 1], parameters: [out], order, limit: 10_000 });
  return Array.from(new Int32Array(memory.bytesAt(out).buffer));
}

const floatOf = (bits: number): number => new Float32Array(Int32Array.of(bits).buffer)[0];
/** The first thread's result of instructions that leave an f32 in %f0. */
const float = (body: string): number => floatOf(words(`${body}\n  st.global.f32 [%rd2], %f0;`)[0]);

describe('arithmetic', () => {
  test('fma rounds once', () => {
    // 1 + 2^-23 squared, minus its rounded square: only the lost part is left.
    const x = 1 + 2 ** -23;
    const square = Math.fround(x * x);
    expect(fusedMultiplyAdd(x, x, -square)).toBe(2 ** -46);
    // The exact sum lies just above a tie of f32, but the f64 sum on it.
    expect(fusedMultiplyAdd(1 + 2 ** -12, 1 + 2 ** -12, 2 ** -54)).toBe(
      Math.fround((1 + 2 ** -12) ** 2 + 2 ** -30),
    );
    expect(fusedMultiplyAdd(3, 4, 5)).toBe(17);
    expect(fusedMultiplyAdd(1e30, 1e30, -Infinity)).toBe(-Infinity);
  });

  test('integers wrap and shifts beyond the width give zeros', () => {
    const body = `
  mov.u32 %r1, 4294967295;
  add.u32 %r2, %r1, 2;
  shl.b32 %b0, %r1, 32;
  shr.u32 %r3, %r1, 31;
  add.u32 %r2, %r2, %b0;
  mad.lo.u32 %r2, %r3, 10, %r2;
  st.global.u32 [%rd2], %r2;`;
    expect(words(body)[0]).toBe(11);
  });

  test('64-bit products and packing', () => {
    const body = `
  mov.u32 %r1, 4000000000;
  mul.wide.u32 %rd3, %r1, 4;
  shr.u64 %rd4, %rd3, 4;
  mov.b64 {%b0, %b1}, %rd3;
  cvt.u32.u64 %r2, %rd4;
  add.u32 %r2, %r2, %b1;
  st.global.u32 [%rd2], %r2;`;
    expect(words(body)[0]).toBe(1000000003);
  });

  test('NaN loses against numbers in max, and wins with .NaN', () => {
    expect(float('  mov.f32 %f1, 0f7FC00000;\n  max.f32 %f0, %f1, 0f40000000;')).toBe(2);
    expect(float('  mov.f32 %f1, 0f7FC00000;\n  max.NaN.f32 %f0, %f1, 0f40000000;')).toBeNaN();
  });

  test('conversions round to nearest even and saturate', () => {
    // 2049 lies between two f16; 500 is beyond e4m3.
    expect(float('  mov.f32 %f1, 0f45001000;\n  cvt.rn.f16.f32 %h0, %f1;\n  cvt.f32.f16 %f0, %h0;')).toBe(
      2048,
    );
    const body =
      '  mov.f32 %f1, 0f43FA0000;\n  cvt.rn.satfinite.e4m3x2.f32 %h0, 0f3F800000, %f1;\n  cvt.rn.f16x2.e4m3x2 %b0, %h0;\n  mov.b32 {%h1, %h2}, %b0;';
    expect(float(`${body}\n  cvt.f32.f16 %f0, %h1;`)).toBe(448);
    expect(float(`${body}\n  cvt.f32.f16 %f0, %h2;`)).toBe(1);
  });
});

describe('threads together', () => {
  test('a butterfly sums over a warp', () => {
    const steps = [16, 8, 4, 2, 1]
      .map((m) => `  shfl.sync.bfly.b32 %b0, %r1, ${m}, 31, 4294967295;\n  add.u32 %r1, %r1, %b0;`)
      .join('\n');
    expect(new Set(words(`  mov.u32 %r1, %r0;\n${steps}\n  st.global.u32 [%rd2], %r1;`))).toEqual(
      new Set([496]),
    );
  });

  test('shfl.up keeps the own value at the edge', () => {
    expect(
      words('  shfl.sync.up.b32 %b0, %r0, 4, 0, 4294967295;\n  st.global.u32 [%rd2], %b0;').slice(0, 6),
    ).toEqual([0, 1, 2, 3, 0, 1]);
  });

  test('votes and matches', () => {
    const body = `
  and.b32 %b0, %r0, 3;
  match.any.sync.b32 %b1, %b0, 4294967295;
  setp.lt.u32 %p0, %r0, 4;
  vote.sync.ballot.b32 %b2, %p0, 4294967295;
  and.b32 %b1, %b1, %b2;
  st.global.u32 [%rd2], %b1;`;
    expect(words(body).slice(0, 5)).toEqual([1, 2, 4, 8, 1]);
  });

  test('what one warp writes before a barrier, another reads after it', () => {
    const body = `
  mov.u32 %r1, k_buffer;
  mad.lo.u32 %r2, %r0, 4, %r1;
  st.shared.u32 [%r2], %r0;
  bar.sync 0;
  sub.u32 %r3, 63, %r0;
  mad.lo.u32 %r2, %r3, 4, %r1;
  ld.shared.u32 %r4, [%r2];
  st.global.u32 [%rd2], %r4;`;
    for (const order of ['forward', 'reverse'] as const)
      expect(words(body, { threads: 64, order })).toEqual(Array.from({ length: 64 }, (_, i) => 63 - i));
  });

  test('atomics count CTAs', () => {
    const body =
      '  mov.u32 %r1, 1;\n  setp.eq.u32 %p0, %r0, 0;\n  @%p0 st.global.u32 [%rd2], %r0;\n  bar.sync 0;\n  atom.global.add.u32 %r2, [%rd1], %r1;';
    expect(words(body, { count: 1, grid: 1 })).toEqual([32]);
  });

  test('without its barrier the outcome depends on the order of warps', () => {
    const body = `
  mov.u32 %r1, k_buffer;
  and.b32 %b0, %r0, 31;
  mad.lo.u32 %r2, %b0, 4, %r1;
  st.shared.u32 [%r2], %r0;
  ld.shared.u32 %r4, [%r1];
  st.global.u32 [%rd2], %r4;`;
    expect(words(body, { threads: 64 })).not.toEqual(words(body, { threads: 64, order: 'reverse' }));
  });
});

describe('mistakes', () => {
  const failing: [string, string, RegExp][] = [
    [
      'beyond an allocation',
      '  st.global.u32 [%rd2+4], %r0;',
      /thread 31.*out of bounds: byte 128 of out, which has 128/,
    ],
    ['misaligned', '  st.global.u32 [%rd1+2], %r0;', /not a multiple of 4/],
    ['an address that nothing has written', '  st.global.u32 [%rd7], %r0;', /no memory at address/],
    ['a predicate that nothing has set', '  @%p3 bra $end;\n$end:', /a predicate that nothing has set/],
    [
      'beyond shared memory',
      '  mov.u32 %r1, k_buffer;\n  st.shared.u32 [%r1+512], %r0;',
      /shared address 1536 is out of bounds/,
    ],
    [
      'a barrier that half of the threads skip',
      '  setp.lt.u32 %p0, %r0, 16;\n  @%p0 bar.sync 0;\n  shfl.sync.idx.b32 %b0, %r0, 0, 31, 4294967295;',
      /deadlock; 16 threads wait at line \d+: @%p0 bar\.sync 0/,
    ],
    ['a loop without end', '$again:\n  bra $again;', /no end after 10000 instructions/],
    ['a trap', '  trap;', /trap/],
    ['an unknown instruction', '  tanh.approx.f64 %f0, %f0;', /only f32 here/],
  ];
  for (const [title, body, message] of failing) test(title, () => expect(() => words(body)).toThrow(message));
});
