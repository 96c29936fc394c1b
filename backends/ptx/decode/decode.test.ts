import { expect, test } from 'vitest';
import { mnemonicNumber, modifierNumber, specialNumber } from './names.ts';
import { decodePtx, describeProgram, encodeProgram, readProgram, type DecodedProgram } from './index.ts';
import { gemm, syntax } from './fixtures.testing.ts';

function decoded(text: string): DecodedProgram {
  const { program, diagnostics } = decodePtx(text, 'x.ptx');
  expect(diagnostics).toEqual([]);
  return readProgram(program!);
}
const head = '.version 8.3\n.target sm_90a\n.address_size 64\n';

test('the bytes of a small program, one by one', () => {
  const text = `${head}.entry k(.param .u64 p)\n{\n  .reg .pred %q;\n  .reg .b32 %r<3>;\n  .loc 3 40 5\n  @!%q add.s32 %r2, %r1, -1;\n}\n`;
  const bytes: number[] = [];
  const u8 = (n: number): void => void bytes.push(n);
  const u16 = (n: number): void => [n, n >> 8].forEach((b) => u8(b & 255));
  const u32 = (n: number): void => [n, n >> 8, n >> 16, n >>> 24].forEach((b) => u8(b & 255));
  const u64 = (n: bigint): void => {
    u32(Number(n & 0xffffffffn));
    u32(Number((n >> 32n) & 0xffffffffn));
  };
  const ascii = (s: string): void => [...s].forEach((c) => u8(c.charCodeAt(0)));
  ascii('DPTX');
  u32(1);
  // Strings, in the order of their first use.
  const strings = ['sm_90a', 'k', 'p', '%r2', '%r1', '%q'];
  u32(strings.length);
  for (const s of strings) {
    u32(s.length);
    ascii(s);
  }
  [8, 3].forEach(u8);
  u32(0);
  u8(64);
  u32(0); // files
  u32(0); // variables
  u32(1); // functions
  u32(1); // k
  [1, 0].forEach(u8);
  u32(1); // parameters
  u32(2);
  u8(modifierNumber.get('u64')!);
  u32(8);
  u64(8n);
  u64(0n);
  u32(0); // returns
  for (let i = 0; i < 13; i++) u32(0); // reqntid to maxclusterrank
  [0, 0].forEach(u8);
  [1, 2, 0, 0].forEach(u32); // registers
  u32(3); // their names, in the order of use
  (u8(1), u32(0), u32(3));
  (u8(1), u32(1), u32(4));
  (u8(0), u32(0), u32(5));
  u32(0); // branch tables
  u32(0); // prototypes
  u32(1); // instructions
  u16(mnemonicNumber.get('add')!);
  u8(1);
  u16(modifierNumber.get('s32')!);
  u8(2);
  u32(0);
  (u32(9), u16(8)); // line and column of `add`
  (u32(3), u32(40), u16(5));
  u8(3); // operands
  (u8(0), u8(1), u32(0));
  (u8(0), u8(1), u32(1));
  (u8(1), u8(0), u64((1n << 64n) - 1n));
  expect([...decodePtx(text, 'x.ptx').program!]).toEqual(bytes);
});

test('odd syntax, decoded', () => {
  expect(describeProgram(decoded(syntax))).toMatchSnapshot();
});

test('reading gives what was encoded, and is encoded to the same bytes', () => {
  for (const text of [syntax, gemm]) {
    const { program } = decodePtx(text, 'x.ptx');
    expect(Buffer.compare(encodeProgram(readProgram(program!)), program!)).toBe(0);
  }
});

test('broken bytes are an Error', () => {
  const program = decodePtx(gemm, 'x.ptx').program!;
  expect(() => readProgram(program.subarray(0, program.length - 1))).toThrow('too early');
  expect(() => readProgram(Uint8Array.of(...program, 0))).toThrow('follow its end');
  expect(() => readProgram(new TextEncoder().encode('PTX!aaaa'))).toThrow('DPTX');
  const later = program.slice();
  later[4] = 2;
  expect(() => readProgram(later)).toThrow('version 2');
});

/** The operands of the last instruction of a body, and the program. */
function last(body: string): { readonly p: DecodedProgram; readonly operands: unknown } {
  const p = decoded(
    `${head}.entry k(.param .b32 a, .param .align 16 .b8 b[24], .param .b64 c)\n{\n${body}\n}\n`,
  );
  return { p, operands: p.functions[0].instructions.at(-1)!.operands };
}

test('parameters are laid out by their alignment', () => {
  const { p } = last('ret;');
  expect(p.functions[0].parameters.map(({ offset, size, align }) => [offset, size, align])).toEqual([
    [0, 4, 4],
    [16, 24, 16],
    [40, 8, 8],
  ]);
});

test('registers count once they are named, inner ones apart from outer ones', () => {
  const { p, operands } = last(
    '.reg .b32 %r<1000>;\nmov.b32 %r900, 1;\n{ .reg .b32 %r900; mov.b32 %r900, 2; }\nmov.b32 %r7, %r900;',
  );
  const { registers, registerNames, instructions } = p.functions[0];
  expect(registers).toEqual([0, 3, 0, 0]);
  expect(registerNames.map((r) => r.name)).toEqual(['%r900', '%r900', '%r7']);
  expect(instructions[1].operands[0]).toEqual({ kind: 'register', class: 1, index: 1 });
  expect(operands).toEqual([
    { kind: 'register', class: 1, index: 2 },
    { kind: 'register', class: 1, index: 0 },
  ]);
});

test('a range whose prefix ends in a digit', () => {
  const { p } = last('.reg .b32 %r1<12>;\nmov.b32 %r111, %r10;');
  expect(p.functions[0].registerNames.map((r) => r.name)).toEqual(['%r111', '%r10']);
  expect(
    decodePtx(`${head}.entry k()\n{\n.reg .b32 %r1<12>;\nmov.b32 %r112, 1;\n}\n`, 'x').program,
  ).toBeNull();
});

// szext stands in no table of ours: types are not compared.
test('classes of registers', () => {
  const types = ['pred', 'b8', 'u16', 'f16', 'bf16x2', 'f32', 's64', 'f64', 'b128'];
  const declared = types.map((t, i) => `.reg .${t} x${i};`).join('\n');
  const used = types.map((t, i) => (t === 'pred' ? `@x${i} ret;` : `szext.wrap.u32 x${i}, 1, 2;`)).join('\n');
  expect(last(`${declared}\n.reg .b32 m;\n${used}`).p.functions[0].registerNames.map((r) => r.class)).toEqual(
    [0, 1, 1, 1, 1, 1, 2, 2, 3],
  );
});

test('labels count instructions; one at the end stands behind the last', () => {
  const { p } = last('start: bra end;\n{ inner: bra start; bra inner; }\nend:');
  const targets = p.functions[0].instructions.map((i) => i.operands[0]);
  expect(targets).toEqual([3, 0, 1].map((instruction) => ({ kind: 'label', instruction })));
});

test('a block hides the labels of another', () => {
  const { p } = last('{ l: bra l; }\n{ ret; l: bra l; }');
  const targets = p.functions[0].instructions.flatMap((i) => i.operands);
  expect(targets).toEqual([0, 2].map((instruction) => ({ kind: 'label', instruction })));
});

test.each([
  ['ld.param.b32 x, [b+4];', { kind: 'parameter', index: 1, isReturn: false, offset: 0n }, 4n],
  ['ld.shared.b32 x, [s];', { kind: 'symbol', variable: 0, offset: 0n }, 0n],
  ['ld.shared.b32 x, [s+-4];', { kind: 'symbol', variable: 0, offset: 0n }, -4n],
  ['ld.shared.b32 x, s[3];', { kind: 'symbol', variable: 0, offset: 0n }, 12n],
  ['ld.shared.b32 x, [64];', { kind: 'immediate', form: 'integer', bits: 64n }, 0n],
  ['ld.shared.b32 x, [x+0x10];', { kind: 'register', class: 1, index: 0 }, 16n],
])('%s', (text, base, offset) => {
  const { operands } = last(`.reg .b32 x;\n.shared .b32 s[8];\n${text}`);
  expect(operands).toEqual([
    { kind: 'register', class: 1, index: 0 },
    { kind: 'address', base, offset },
  ]);
});

test.each([
  ['mov.u64 d, s;', { kind: 'symbol', variable: 0, offset: 0n }],
  ['mov.u64 d, s+8;', { kind: 'symbol', variable: 0, offset: 8n }],
  ['mov.u64 d, s[3];', { kind: 'symbol', variable: 0, offset: 12n }],
  ['mov.u64 d, c;', { kind: 'parameter', index: 2, isReturn: false, offset: 0n }],
  ['mov.u64 d, k;', { kind: 'function', index: 0 }],
  ['mov.u64 d, -1;', { kind: 'immediate', form: 'integer', bits: 2n ** 64n - 1n }],
  ['mov.f64 d, 0f3F800000;', { kind: 'immediate', form: 'f32', bits: 0x3f800000n }],
  ['mov.f64 d, 1.0;', { kind: 'immediate', form: 'f64', bits: 0x3ff0000000000000n }],
  ['mov.u64 d, %clock64;', { kind: 'special', id: specialNumber.get('clock64') }],
])('%s', (text, source) => {
  const { operands } = last(`.reg .b64 d;\n.shared .b32 s[8];\n${text}`);
  expect(operands).toEqual([{ kind: 'register', class: 2, index: 0 }, source]);
});

test('limits', () => {
  const p = decoded(
    `${head}.entry k() .reqntid 64, 2 .minnctapersm 3 .maxnreg 40 .reqnctapercluster 2, 1, 1 .explicitcluster .maxclusterrank 8\n{ ret; }\n.func f() .noreturn { exit; }\n`,
  );
  expect(p.functions.map((f) => f.limits)).toMatchObject([
    { reqntid: [64, 2, 1], maxntid: [0, 0, 0], minnctapersm: 3, maxnreg: 40, reqnctapercluster: [2, 1, 1] },
    { noreturn: true, explicitcluster: false, maxclusterrank: 0 },
  ]);
  expect(p.functions[0].limits).toMatchObject({ explicitcluster: true, maxclusterrank: 8, noreturn: false });
});

test('functions: declared, defined, external, and under another name', () => {
  const p = decoded(
    `${head}.extern .func e (.param .b32 x);\n.func f (.param .b32 x);\n.func g (.param .b32 y);\n.func f (.param .b32 x) { ret; }\n.alias g, f;\n.entry k() {\n.param .b32 q;\ncall f, (q);\ncall g, (q);\ncall e, (q);\n}\n`,
  );
  const at = (name: string): number => p.functions.findIndex((f) => f.name === name);
  expect(p.functions.map((f) => [f.name, f.isExtern])).toEqual([
    ['e', true],
    ['f', false],
    ['g', true],
    ['k', false],
  ]);
  const called = p.functions[at('k')].instructions.map((i) => i.operands[1]);
  expect(called).toEqual([at('f'), at('f'), at('e')].map((index) => ({ kind: 'function', index })));
});

test('a kernel of 20,000 lines is decoded', () => {
  // The size of a GEMM that nvcc makes from templates: most time goes into lists of a hundred registers.
  const list = Array.from({ length: 128 }, (_, i) => `%f${i}`).join(', ');
  const lines = Array.from({ length: 20_000 }, (_, i) =>
    i % 40 === 0
      ? `wgmma.mma_async.sync.aligned.m64n256k32.f32.e4m3.e4m3 {${list}}, %rd1, %rd2, %p1, 1, 1;`
      : i % 3 === 0
        ? `ld.global.nc.L2::128B.v4.f32 {%f1, %f2, %f3, %f4}, [%rd${i % 9}+${4 * i}];`
        : `fma.rn.f32 %f${i % 512}, %f${(i + 1) % 512}, 0f3F800000, %f2;`,
  );
  const text = `${head}.entry k()\n{\n.reg .pred %p<4>;\n.reg .f32 %f<512>;\n.reg .b64 %rd<9>;\n${lines.join('\n')}\nret;\n}\n`;
  const { diagnostics } = decodePtx(text, 'large.ptx');
  expect(diagnostics).toEqual([]);
});
