// Uninitialised data in registers: which instructions hand it on, which results do not depend on it, and where it is
// reported. `load` gives %r1 a word that was never written; %r2 is known.
import { expect, test } from 'vitest';
import { expectPoison, runPoisoned } from './testing/poison-bench.ts';

const load = 'ld.global.u32 %r1, [%rd12];\nld.global.u32 %r2, [%rd11];\n';
const store = 'st.global.u32 [%rd13], %r3;';

/** Packs `count` values of 4 bits into a register that was never written. */
const nibbles = (count: number): string =>
  Array.from(
    { length: count },
    (_, k) => `bfi.b32 %r${k === count - 1 ? 3 : 9}, %r2, %r9, ${4 * k}, 4;`,
  ).join('\n');

/** Instructions from %r1 (never written) and %r2 (known) to %r3. */
const poisoned: readonly [name: string, body: string][] = [
  ['add', 'add.u32 %r3, %r1, %r2;'],
  ['a chain', 'add.u32 %r4, %r1, 1;\nmul.lo.u32 %r5, %r4, %r2;\nxor.b32 %r3, %r5, 3;'],
  ['a product with zero', 'mul.lo.u32 %r3, %r1, 0;'],
  ['a register never written', 'add.u32 %r3, %r40, %r2;'],
  ['and of two', 'and.b32 %r3, %r1, %r2;\nor.b32 %r3, %r3, %r1;'],
  ['xor of two that are unknown', 'ld.global.u32 %r4, [%rd2+512];\nxor.b32 %r3, %r1, %r4;'],
  ['a shift by an unknown amount', 'shl.b32 %r3, %r2, %r1;'],
  ['prmt that picks an unknown byte', 'prmt.b32 %r3, %r2, %r1, 0x3214;'],
  ['bfi that leaves a byte', 'bfi.b32 %r3, %r2, %r1, 8, 16;'],
  ['selp of an unknown value', 'setp.eq.u32 %p0, %r2, %r2;\nselp.b32 %r3, %r1, %r2, %p0;'],
  ['selp by an unknown predicate', 'setp.eq.u32 %p0, %r1, 7;\nselp.b32 %r3, %r2, 5, %p0;'],
  ['a move under an unknown guard', 'setp.eq.u32 %p0, %r1, 7;\nmov.u32 %r3, 1;\n@%p0 mov.u32 %r3, 2;'],
  ['a float', 'mov.b32 %f0, %r1;\nadd.f32 %f1, %f0, 0f3f800000;\nmov.b32 %r3, %f1;'],
  ['fma', 'mov.b32 %f0, %r1;\nfma.rn.f32 %f1, 0f3f800000, 0f3f800000, %f0;\nmov.b32 %r3, %f1;'],
  ['a conversion to 64 bits', 'cvt.u64.u32 %rd20, %r1;\nadd.u64 %rd20, %rd20, 1;\ncvt.u32.u64 %r3, %rd20;'],
  ['the low half of a pair', 'mov.b64 %rd20, {%r1, %r2};\ncvt.u32.u64 %r3, %rd20;'],
  ['one half of a pair of halves', 'mov.b32 {%h0, %h1}, %r1;\nmov.u16 %h2, 1;\nmov.b32 %r3, {%h2, %h1};'],
  ['one half of packed arithmetic', 'and.b32 %r4, %r1, 0xffff;\nadd.f16x2 %r3, %r4, %r4;'],
  ['popc', 'popc.b32 %r3, %r1;'],
  ['set', 'set.eq.u32.u32 %r3, %r1, %r2;'],
  ['the sign of a byte', 'ld.global.s8 %r3, [%rd12];'],
  ['a nibble short', nibbles(7)],
  ['lop3', 'lop3.b32 %r3, %r1, %r2, 0, 0x96;'],
  ['a funnel shift', 'shf.l.wrap.b32 %r3, %r1, %r2, 8;'],
];
/** The same kinds of instruction where the result is known all the same. */
const clean: readonly [name: string, body: string][] = [
  ['xor with itself', 'xor.b32 %r3, %r1, %r1;'],
  ['xor of a register never written', 'xor.b32 %r3, %r40, %r40;'],
  ['sub of itself', 'sub.u32 %r3, %r1, %r1;'],
  ['and with zero', 'and.b32 %r3, %r1, 0;'],
  ['or with ones', 'or.b32 %r3, %r1, -1;'],
  [
    'a mask and a merge',
    'and.b32 %r3, %r1, 0x00ff0000;\nor.b32 %r3, %r3, 0xffff0000;\nand.b32 %r3, %r3, 0xff00ffff;',
  ],
  ['shifted out', 'shl.b32 %r4, %r1, 16;\nbfi.b32 %r3, %r2, %r4, 16, 16;'],
  ['prmt of known bytes', 'prmt.b32 %r3, %r2, %r1, 0x3210;'],
  ['bfi over all', 'bfi.b32 %r3, %r2, %r1, 0, 32;'],
  ['eight nibbles', nibbles(8)],
  ['bfe of known bits', 'bfi.b32 %r4, %r1, %r2, 16, 16;\nbfe.u32 %r3, %r4, 8, 8;'],
  ['selp of the known value', 'setp.eq.u32 %p0, %r2, %r2;\nselp.b32 %r3, %r2, %r1, %p0;'],
  ['selp of equal values', 'setp.eq.u32 %p0, %r1, 7;\nselp.b32 %r3, %r2, %r2, %p0;'],
  ['overwritten', 'mov.u32 %r1, 5;\nadd.u32 %r3, %r1, %r2;'],
  [
    'the known half of a pair',
    'mov.b64 %rd20, {%r1, %r2};\nshr.u64 %rd20, %rd20, 32;\ncvt.u32.u64 %r3, %rd20;',
  ],
  ['the other half', 'mov.b64 %rd20, {%r1, %r2};\nmov.b64 {%r4, %r3}, %rd20;'],
  ['16 bits of 32', 'mov.b32 {%h0, %h1}, %r1;\nmov.u16 %h2, 1;\nmov.b32 %r3, {%h2, %h2};'],
  ['a narrow conversion', 'bfi.b32 %r4, %r1, %r2, 8, 24;\ncvt.u32.u8 %r3, %r4;'],
  [
    'a narrow conversion through 16 bits',
    'bfi.b32 %r4, %r1, %r2, 16, 16;\ncvt.u16.u32 %h0, %r4;\ncvt.u32.u16 %r3, %h0;',
  ],
  [
    'the known half of packed arithmetic',
    'bfi.b32 %r4, %r1, %r2, 16, 16;\nadd.f16x2 %r5, %r4, %r4;\nand.b32 %r3, %r5, 0xffff;',
  ],
  ['lop3 that ignores it', 'lop3.b32 %r3, %r1, %r2, 0, 0xcc;'],
  [
    'a predicate and false',
    'setp.eq.u32 %p0, %r1, 7;\nsetp.ne.u32 %p1, %r2, %r2;\nand.pred %p2, %p0, %p1;\nselp.b32 %r3, 1, 2, %p2;',
  ],
  [
    'setp with and false',
    'setp.ne.u32 %p1, %r2, %r2;\nsetp.eq.and.u32 %p2, %r1, 7, %p1;\nselp.b32 %r3, 1, 2, %p2;',
  ],
  [
    'a predicated write of the other lanes',
    'setp.lt.u32 %p0, %r0, 16;\n@%p0 mov.u32 %r3, 1;\n@!%p0 mov.u32 %r3, 2;',
  ],
];

test.each(poisoned)('%s: reported at the store', (_name, body) => {
  expectPoison(`${load}${body}\n${store}`, [`uninitialised-output: ${store}`]);
});
test.each(clean)('%s: silent', (_name, body) => {
  expectPoison(`${load}${body}\n${store}`, []);
});

const unknown = 'setp.eq.u32 %p0, %r1, 7;\n';
test.each<[name: string, body: string, line: string, repaired: string]>([
  ['a branch', `${unknown}@%p0 bra L;\nst.global.u32 [%rd13], %r2;\nL:`, 'predicate: @%p0 bra L;', '%r1'],
  ['exit', `${unknown}@%p0 exit;\n`, 'predicate: @%p0 exit;', '%r1'],
  [
    'a guarded store',
    `${unknown}@!%p0 st.global.u32 [%rd13], %r2;`,
    'predicate: @!%p0 st.global.u32 [%rd13], %r2;',
    '%r1',
  ],
  [
    'a branch that no lane takes',
    `setp.ne.u32 %p1, %r1, %r1;\n@%p1 bra L;\nL:`,
    'predicate: @%p1 bra L;',
    '%r1',
  ],
  [
    'a branch on bits of it',
    `and.b32 %r4, %r1, 1;\nsetp.eq.u32 %p0, %r4, 1;\n@%p0 bra L;\nL:`,
    'predicate: @%p0 bra L;',
    '%r1',
  ],
  [
    'brx.idx',
    'and.b32 %r4, %r1, 0;\nadd.u32 %r4, %r4, %r1;\nT: .branchtargets L, L;\nbrx.idx %r4, T;\nL:',
    'predicate: brx.idx %r4, T;',
    '%r1',
  ],
])('%s: uninitialised-predicate', (_name, body, line) => {
  const from = `uninitialised-${line}`;
  expectPoison(load + body, [from], /raw\[0\], which was never written/);
  expectPoison(load.replace('[%rd12]', '[%rd1]') + body, []);
});

test.each<[name: string, body: string, line: string, fixed?: string]>([
  [
    'a load',
    'cvt.u64.u32 %rd20, %r1;\nadd.u64 %rd20, %rd20, %rd1;\nld.global.u32 %r3, [%rd20];',
    'ld.global.u32 %r3, [%rd20];',
  ],
  [
    'a store',
    'cvt.u64.u32 %rd20, %r1;\nadd.u64 %rd20, %rd20, %rd3;\nst.global.u32 [%rd20], %r2;',
    'st.global.u32 [%rd20], %r2;',
  ],
  [
    'a shared store',
    '.shared .b8 s[128];\nmov.u32 %r3, s;\nadd.u32 %r3, %r3, %r1;\nst.shared.u32 [%r3], %r2;',
    'st.shared.u32 [%r3], %r2;',
  ],
  [
    'an atomic',
    'cvt.u64.u32 %rd20, %r1;\nadd.u64 %rd20, %rd20, %rd1;\natom.global.add.u32 %r3, [%rd20], 1;',
    'atom.global.add.u32 %r3, [%rd20], 1;',
  ],
])('the address of %s: uninitialised-address', (_name, body, line) => {
  expectPoison(
    load + body,
    [`uninitialised-address: ${line}`],
    /the address in %r.*raw\[0\], which was never written/,
  );
  expectPoison(load.replace('[%rd12]', '[%rd1]') + body, []);
});

test('names a register that was never written', () => {
  const { reports } = runPoisoned(`mov.b32 %f1, %f3;\nst.global.f32 [%rd13], %f1;`);
  expect(reports[0].message).toBe(
    'st.global.f32 stored uninitialised data to out[0], an output (128 bytes of it in all): it comes from %f3, which was never written',
  );
});

test('lanes are told apart', () => {
  const body = `setp.lt.u32 %p0, %r0, 20;
mov.u32 %r3, 1;
@!%p0 mov.u32 %r3, %r50;
st.global.u32 [%rd13], %r3;`;
  const { reports } = runPoisoned(body);
  expect(reports.map((r) => [r.code, r.message])).toEqual([
    [
      'emu/uninitialised-output',
      'st.global.u32 stored uninitialised data to out[20], an output (48 bytes of it in all): it comes from %r50, which was never written',
    ],
  ]);
});

test('a chosen check alone is reported', () => {
  const body = `${load}${unknown}@%p0 bra L;\nL:\nst.global.u32 [%rd13], %r1;`;
  const codes = (checks: readonly string[]): readonly string[] =>
    runPoisoned(body, { settings: { checks } }).reports.map((r) => r.code);
  expect(codes(['uninitialised-predicate'])).toEqual(['emu/uninitialised-predicate']);
  expect(codes(['uninitialised-output'])).toEqual(['emu/uninitialised-output']);
  expect(codes(['wgmma-missing-fence'])).toEqual([]);
});
