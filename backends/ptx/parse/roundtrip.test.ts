import { expect, test } from 'vitest';
import { gemm, normalised, syntax } from '../decode/fixtures.testing.ts';
import { assemble, findPtxas } from '../ptxas.ts';
import { parsePtx, printParsed } from './index.ts';

const ptxas = await findPtxas();

test.each([
  ['odd syntax', syntax],
  ['a kernel of ours', gemm],
])('%s: the printed tree is the source', (_, text) => {
  const { module, diagnostics } = parsePtx(text, 'x.ptx');
  expect(diagnostics).toEqual([]);
  const printed = printParsed(module!);
  expect(normalised(printed)).toBe(normalised(text));
  // And what was printed reads the same.
  expect(printParsed(parsePtx(printed, 'x.ptx').module!)).toBe(printed);
});

test.skipIf(!ptxas)('ptxas takes the odd syntax, as it stands and as printed', async () => {
  for (const text of [syntax, printParsed(parsePtx(syntax, 'x.ptx').module!)])
    expect((await assemble(text, { arch: 'sm_90a' })).status).toBe('assembled');
});

/** What is between the braces of a kernel, read and printed. */
function statement(text: string): string {
  const { module, diagnostics } = parsePtx(`.entry k() {\n${text}\n}`, 'x.ptx');
  expect(diagnostics).toEqual([]);
  const lines = printParsed(module!).trimEnd().split('\n');
  return lines.slice(2, -1).join('\n').trim();
}

// Ways of writing that ptxas refuses and that are plain nonetheless.
test.each([
  ['ld.global.b32 %r1, [%rd1 - 8];', 'ld.global.b32 %r1, [%rd1-8];'],
  ['ld.global.b32 %r1, [%rd1 - (4 + 4)];', 'ld.global.b32 %r1, [%rd1-(4 + 4)];'],
  ['ld.global.b32 %r1, [ 0x1000 + 16 ];', 'ld.global.b32 %r1, [0x1000 + 16];'],
  ['add .s32 %r1, %r2,\\\n 7;', 'add.s32 %r1, %r2, 7;'],
  ['mov.b32 %r1, 12u;', 'mov.b32 %r1, 12u;'],
  ['ret\n\n;', 'ret;'],
  ['a: b: ret;', 'a:\nb:\n  ret;'],
  ['{ { ret; } }', '{\n    {\n      ret;\n    }\n  }'],
  ['tex.2d.v4.f32.f32 {%f1, %f2, %f3, %f4}, [texture, {%f1, 0f00000000}];', null],
  ['tex.2d.v4.f32.f32 {%f1, %f2, %f3, %f4}, [texture, sampler, {%f1, %f2}];', null],
])('%s', (text, printed) => {
  expect(statement(text)).toBe(printed ?? text);
});
