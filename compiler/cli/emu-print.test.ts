import { expect, test } from 'vitest';
import { parsePtx } from '../../backends/ptx/parse/index.ts';
import { printKernels } from './emu-print.ts';

const print = (ptx: string): string => {
  const { module, diagnostics } = parsePtx(ptx, 'k.ptx');
  expect(diagnostics).toEqual([]);
  return printKernels(module!);
};

test('parameters lie where PTX puts them; what a kernel declares is told', () => {
  const text = print(`
    .version 8.0
    .target sm_90a
    .address_size 64
    .func helper(.param .b32 a) { ret; }
    .visible .entry k(
      .param .u8 flag, .param .u64 .ptr .global .align 16 out, .param .f16 h,
      .param .align 64 .b8 map[128], .param .v4 .f32 v, .param .b16 list[3])
      .reqntid 128, 1, 1
      .reqnctapercluster 2
    { ret; }
    .entry empty() { exit; }
  `);
  expect(text.split('\n').filter((l) => l.startsWith('//'))).toMatchInlineSnapshot(`
    [
      "// kernel k: 6 parameters",
      "//   [0] flag: .u8, 1 byte at 0, aligned to 1",
      "//   [1] out: .u64, 8 bytes at 8, aligned to 8, points to .global",
      "//   [2] h: .f16, 2 bytes at 16, aligned to 2",
      "//   [3] map: .b8[], 128 bytes at 64, aligned to 64",
      "//   [4] v: .f32, 16 bytes at 192, aligned to 16",
      "//   [5] list: .b16[], 6 bytes at 208, aligned to 2",
      "//   .reqntid 128, 1, 1",
      "//   .reqnctapercluster 2",
      "// kernel empty: no parameters",
    ]
  `);
});

test('a file without a kernel says so', () => {
  expect(print('.version 8.0\n.target sm_90\n.address_size 64\n')).toBe(
    '// no kernel\n.version 8.0\n.target sm_90\n.address_size 64\n',
  );
});
