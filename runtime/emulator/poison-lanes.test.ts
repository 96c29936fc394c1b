// Uninitialised data that instructions move between lanes: exchanges, matrices, tensor-core products.
import { describe, expect, test } from 'vitest';
import { runGemm } from './testing/gemm.ts';
import { noSpan } from '../../ir/span.ts';
import { expectPoison, runPoisoned } from './testing/poison-bench.ts';

const out3 = 'st.global.u32 [%rd13], %r3;';
const told = [`uninitialised-output: ${out3}`];
/** %r1 is known in all lanes but `lane`. */
const but = (lane: number): string => `setp.ne.u32 %p0, %r0, ${lane};\n@%p0 mov.u32 %r1, 7;\n`;
const bytesOf = (message: string): number => Number(/\((\d+) bytes/.exec(message)?.[1]);

describe('exchanges', () => {
  test('shfl gives poison to who reads it', () => {
    const body = (how: string): string => `${but(5)}${how}\n${out3}`;
    const found = runPoisoned(body('shfl.sync.down.b32 %r3, %r1, 2, 31, -1;'));
    expect(found.told).toEqual(told);
    expect(found.reports[0].message).toMatch(/out\[3\], an output \(4 bytes .*%r1, which was never written/);
    expectPoison(body('shfl.sync.idx.b32 %r3, %r1, 4, 31, -1;'), []);
    expectPoison(body('shfl.sync.idx.b32 %r3, %r1, 5, 31, -1;'), told, /\(128 bytes/);
    expectPoison(body('shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;'), told, /out\[4\].*\(4 bytes/);
  });
  test('lanes that come on different paths', () => {
    const body = (lane: number): string => `${but(lane)}setp.lt.u32 %p1, %r0, 16;
@%p1 bra A;
shfl.sync.idx.b32 %r3, %r1, 2, 31, -1;
bra B;
A:
shfl.sync.idx.b32 %r3, %r1, 2, 31, -1;
B:
${out3}`;
    expectPoison(body(3), []);
    expectPoison(body(2), told, /\(128 bytes/);
  });
  test('votes: one that decides is enough', () => {
    const vote = (mode: string, known: string): string =>
      `mov.u32 %r2, 1;\n${but(9)}setp.eq.u32 %p1, %r1, 7;\nsetp.${known}.u32 %p2, %r0, 0;\nand.pred %p1, %p1, %p2;\nvote.sync.${mode}.pred %p3, %p1, -1;\nselp.u32 %r3, 1, 2, %p3;\n${out3}`;
    expectPoison(vote('any', 'ge'), []); // another lane says yes
    expectPoison(vote('all', 'ge'), told);
    expectPoison(vote('all', 'eq'), []); // others say no
    expectPoison(`${but(9)}setp.eq.u32 %p1, %r1, 7;\nvote.sync.ballot.b32 %r3, %p1, -1;\n${out3}`, told);
    expectPoison(`${but(40)}setp.eq.u32 %p1, %r1, 7;\nvote.sync.ballot.b32 %r3, %p1, -1;\n${out3}`, []);
  });
  test.each(['redux.sync.add.u32 %r3, %r1, -1;', 'match.any.sync.b32 %r3, %r1, -1;'])('%s', (line) => {
    expectPoison(`${but(9)}${line}\n${out3}`, told, /\(128 bytes/);
    expectPoison(`${but(40)}${line}\n${out3}`, []);
  });
});

describe('matrices of 8 x 8', () => {
  const head =
    '.shared .align 128 .b8 tile[1024];\nmov.u32 %r20, tile;\nshl.b32 %r21, %r0, 4;\nadd.u32 %r21, %r21, %r20;\n';
  /** Row `row` of the 32 rows stays unwritten. */
  const filled = (row: number): string =>
    `${head}setp.ne.u32 %p0, %r0, ${row};\n@%p0 st.shared.v4.u32 [%r21], {1, 2, 3, 4};\nbar.warp.sync -1;\n`;
  const load = (trans: string): string =>
    `ldmatrix.sync.aligned.m8n8.x4${trans}.shared.b16 {%r30, %r31, %r32, %r33}, [%r21];\n`;
  test('ldmatrix', () => {
    const body = (row: number, n: number, trans = ''): string =>
      `${filled(row)}${load(trans)}mov.u32 %r3, %r${30 + n};\n${out3}`;
    // Row 10 is row 2 of matrix 1: lanes 8 to 11.
    expectPoison(body(10, 1), told, /out\[8\].*\(16 bytes/);
    expectPoison(body(10, 0), []);
    // Transposed, it is column 2: one half of a register in lanes 1, 5, 9, ...
    expectPoison(body(10, 1, '.trans'), told, /out\[1\].*\(16 bytes/);
  });
  test('stmatrix', () => {
    const body = (
      lane: number,
    ): string => `${head}${but(lane)}stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r21], {%r1};
bar.warp.sync -1;
shl.b32 %r4, %r0, 2;
add.u32 %r4, %r4, %r20;
ld.shared.u32 %r3, [%r4];
${out3}`;
    expectPoison(body(6), told, /out\[6\].*\(4 bytes/);
    expectPoison(body(40), []);
  });
  test('movmatrix', () => {
    const body = (lane: number): string =>
      `${but(lane)}movmatrix.sync.aligned.m8n8.trans.b16 %r3, %r1;\n${out3}`;
    // Row 1, columns 4 and 5 become rows 4 and 5 of column 1.
    expectPoison(body(6), told, /out\[16\].*\(4 bytes/);
    expectPoison(body(40), []);
  });
});

describe('products', () => {
  const known = Array.from(
    { length: 4 },
    (_, k) => `mov.b32 %r${10 + k}, 0;\nmov.b32 %r${20 + k}, 0;\nmov.b32 %r${30 + k}, 0;`,
  ).join('\n');
  const mma = `mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r40, %r41, %r42, %r43}, {%r10, %r11, %r12, %r13}, {%r20, %r21}, {%r30, %r31, %r32, %r33};`;
  const vector = 'st.global.v4.u32 [%rd14], {%r40, %r41, %r42, %r43};';
  const all = `mul.wide.u32 %rd10, %r0, 16;\nadd.u64 %rd14, %rd3, %rd10;\n${vector}`;
  const lost = (what: string): number => {
    const found = runPoisoned(`${known}\nsetp.eq.u32 %p0, %r0, 9;\n${what}\n${mma}\n${all}`);
    expect(found.told).toEqual(found.reports.length ? [`uninitialised-output: ${vector}`] : []);
    return found.reports.length ? bytesOf(found.reports[0].message) : 0;
  };
  test('mma: a row of A, a column of B, an element of C', () => {
    expect(lost('')).toBe(0);
    expect(lost('@%p0 mov.b32 %r10, %r63;')).toBe(8 * 4); // row 2
    expect(lost('@%p0 mov.b32 %r21, %r63;')).toBe(16 * 4); // column 2
    expect(lost('@%p0 mov.b32 %r32, %r63;')).toBe(4);
  });
  test('wmma', () => {
    const body = (row: number): string => `.shared .align 128 .b8 tile[1024];
mov.u32 %r20, tile;
shl.b32 %r21, %r0, 4;
add.u32 %r21, %r21, %r20;
setp.ne.u32 %p0, %r0, ${row};
@%p0 st.shared.v4.u32 [%r21], {0, 0, 0, 0};
st.shared.v4.u32 [%r21+512], {0, 0, 0, 0};
bar.warp.sync -1;
wmma.load.a.sync.aligned.m16n16k16.shared.row.f16 {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, [%r20];
add.u32 %r22, %r20, 512;
wmma.load.b.sync.aligned.m16n16k16.shared.col.f16 {%r11, %r12, %r13, %r14, %r15, %r16, %r17, %r18}, [%r22];
${Array.from({ length: 8 }, (_, k) => `mov.b32 %r${30 + k}, 0;`).join('\n')}
wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {%r40, %r41, %r42, %r43, %r44, %r45, %r46, %r47}, {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, {%r11, %r12, %r13, %r14, %r15, %r16, %r17, %r18}, {%r30, %r31, %r32, %r33, %r34, %r35, %r36, %r37};
wmma.store.d.sync.aligned.m16n16k16.global.row.f32 [%rd3], {%r40, %r41, %r42, %r43, %r44, %r45, %r46, %r47};`;
    expect(runPoisoned(body(40)).told).toEqual([]);
    const { reports } = runPoisoned(body(6)); // half of row 3
    expect(reports.map((r) => r.code)).toEqual(['emu/uninitialised-output']);
    expect(reports[0].message).toMatch(/out\[48\], an output \(64 bytes/);
  });

  /** m64n8k16 over tiles of 8 x 16 bytes; 16-byte pieces of A and B stay unwritten where the predicates say. */
  const wgmma = (
    skipA: number,
    skipB: number,
    keep = 0,
    first = '',
  ): string => `.shared .align 128 .b8 a[2048];
.shared .align 128 .b8 b[256];
mov.u32 %r20, a;
mov.u32 %r21, b;
shl.b32 %r22, %r0, 4;
add.u32 %r23, %r20, %r22;
add.u32 %r24, %r21, %r22;
setp.ne.u32 %p0, %r0, ${skipA};
@%p0 st.shared.v4.u32 [%r23], {0, 0, 0, 0};
setp.lt.u32 %p1, %r0, 16;
setp.ne.and.u32 %p1, %r0, ${skipB}, %p1;
@%p1 st.shared.v4.u32 [%r24], {0, 0, 0, 0};
fence.proxy.async.shared::cta;
bar.sync 0;
shr.u32 %r20, %r20, 4;
shr.u32 %r21, %r21, 4;
or.b32 %r20, %r20, 0x80000;
or.b32 %r21, %r21, 0x80000;
mov.b64 %rd20, {%r20, 16};
mov.b64 %rd21, {%r21, 16};
${first}
setp.ne.u32 %p2, ${keep}, 0;
wgmma.fence.sync.aligned;
wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r40, %r41, %r42, %r43}, %rd20, %rd21, %p2, 1, 1, 0, 0;
wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;
${all}`;
  const four = { block: [128, 1, 1] } as const;
  const zero = [40, 41, 42, 43].map((k) => `mov.b32 %r${k}, 0;`).join('\n');
  const codes = (body: string): readonly string[] => runPoisoned(body, four).told;
  test('wgmma: rows of A and columns of B in shared memory', () => {
    expect(codes(wgmma(200, 200))).toEqual([]);
    const row = runPoisoned(wgmma(5, 200), four).reports;
    expect(row.map((r) => [r.code, bytesOf(r.message)])).toEqual([['emu/uninitialised-output', 8 * 4]]);
    const column = runPoisoned(wgmma(200, 11), four).reports;
    expect(column.map((r) => [r.code, bytesOf(r.message)])).toEqual([['emu/uninitialised-output', 64 * 4]]);
  });
  test('wgmma: accumulators count only with scale-d', () => {
    expect(codes(wgmma(200, 200, 0))).toEqual([]);
    expect(codes(wgmma(200, 200, 1))).toEqual([`uninitialised-output: ${vector}`]);
    expect(codes(wgmma(200, 200, 1, zero))).toEqual([]);
  });
  test('wgmma: an unknown descriptor is an operand', () => {
    const found = codes(
      wgmma(
        200,
        200,
        0,
        'ld.global.b64 %rd22, [%rd2];\nand.b64 %rd22, %rd22, 16;\nadd.u64 %rd21, %rd21, %rd22;',
      ),
    );
    expect(found.map((t) => t.split(':')[0])).toEqual(['uninitialised-operand']);
    const fixed = 'ld.global.b64 %rd22, [%rd1];\nand.b64 %rd22, %rd22, 16;\nadd.u64 %rd21, %rd21, %rd22;';
    expect(codes(wgmma(200, 200, 0, fixed))).toEqual([]);
  });

  test.each([0, 7])('our FP8 GEMM is silent, seed %i', (seed) => {
    const k = 256;
    const ones = (n: number): Float32Array => new Float32Array(n).fill(1);
    const run = runGemm(
      { name: 'gemm', n: 64, k, outDtype: 'f32', tile: { bm: 64, bn: 32, stages: 3 }, span: noSpan },
      { m: 70, a: new Uint8Array(70 * k), b: new Uint8Array(64 * k), aScale: ones(140), bScale: ones(2) },
      { seed, checks: ['all'], stopAtError: false },
    );
    expect(run.reports).toEqual([]);
  });
});
