// Wrong IR text.
import type { BadInput } from './case.ts';

const opt = (
  name: string,
  text: string | Uint8Array,
  codes: readonly string[],
  at: readonly string[],
): BadInput => ({
  name,
  files: { 'x.dsir': text },
  args: ['opt', 'x.dsir', '--pass', 'canonicalize', '-o', 'y.dsir'],
  codes,
  exit: 1,
  at,
});

const inModule = (lines: string): string => `dsir 1\nmodule @m {\n${lines}}\n`;
const inBlock = (lines: string, result = '%x'): string =>
  inModule(
    `  dim tokens <= 8\n\n  block @b(%x: f32[tokens, 4]) -> (f32[tokens, 4]) {\n${lines}    return ${result}\n  }\n`,
  );

export const irCases: readonly BadInput[] = [
  { name: 'missing IR file', args: ['opt', 'none.dsir'], codes: ['file/not-found'], exit: 1 },
  {
    name: 'folder as IR',
    files: { 'x.dsir/': '' },
    args: ['opt', 'x.dsir'],
    codes: ['file/not-a-file'],
    exit: 1,
  },
  {
    name: 'junk on standard input',
    args: ['opt', '-', '-o', '-'],
    stdin: 'hello\n',
    codes: ['ir/version'],
    exit: 1,
    at: ['<stdin>:1:1'],
  },
  opt('empty IR', '', ['ir/version'], ['x.dsir:1:1']),
  opt(
    'binary IR',
    Uint8Array.from({ length: 64 }, (_, i) => (i * 91) % 256),
    ['file/not-text'],
    [],
  ),
  opt(
    'invalid UTF-8',
    Uint8Array.of(0x64, 0x73, 0x69, 0x72, 0x20, 0x31, 0x0a, 0xff, 0xfe, 0xfd, 0x0a),
    ['ir/syntax'],
    ['x.dsir:2:1'],
  ),
  opt('another version', 'dsir 2\nmodule @m {\n}\n', ['ir/version'], ['x.dsir:1:6']),
  opt('text goes on', `${inModule('')}more\n`, ['ir/syntax'], ['x.dsir:4:1']),
  opt('text ends early', 'dsir 1\nmodule @m {\n', ['ir/syntax'], ['x.dsir:']),
  opt('syntax error', inBlock('    %y = add %x, , %x : f32[tokens, 4]\n'), ['ir/syntax'], ['x.dsir:6:18']),
  opt(
    'unknown op',
    inBlock('    %y = ad %x, %x : f32[tokens, 4]\n', '%y'),
    ['ir/unknown-op'],
    ['x.dsir:6:10'],
  ),
  opt(
    'unknown value',
    inBlock('    %y = add %x, %z : f32[tokens, 4]\n', '%y'),
    ['ir/unknown-value'],
    ['x.dsir:6:18'],
  ),
  opt('unknown dim', inBlock('    %y = cast %x : bf16[rows, 4]\n'), ['ir/unknown-dim'], ['x.dsir:6:25']),
  opt('unknown dtype', inBlock('    %y = cast %x : float32[tokens, 4]\n'), ['ir/type'], ['x.dsir:6:20']),
  opt(
    'unknown attribute',
    inBlock('    %y = softmax %x {axes = 1} : f32[tokens, 4]\n', '%y'),
    ['ir/attribute'],
    ['x.dsir:6:'],
  ),
  opt('wrong result type', inBlock('    %y = neg %x : f32[tokens, 8]\n'), ['ir/type'], ['x.dsir:6:19']),
  {
    ...opt(
      'wrong operand count',
      inBlock('    %y = add %x : f32[tokens, 4]\n', '%y'),
      ['ir/type'],
      ['x.dsir:6:10'],
    ),
    noFix: true,
  },
  opt(
    'two errors in one file',
    inBlock('    %y = ad %x, %x : f32[tokens, 4]\n    %w = add %x, %q : f32[tokens, 4]\n'),
    ['ir/unknown-op', 'ir/unknown-value'],
    ['x.dsir:6:10', 'x.dsir:7:18'],
  ),
  {
    ...opt('deep nesting', inModule(`  dim ${'('.repeat(20_000)}\n`), ['ir/syntax'], ['x.dsir:3:']),
    noFix: true,
  },
  opt('unknown target', 'dsir 1\nmodule @m {target = h900} {\n}\n', ['ir/unknown-target'], []),
  {
    name: 'broken IR to compile',
    files: { 'x.dsir': inBlock('    %y = ad %x, %x : f32[tokens, 4]\n') },
    args: ['compile', 'x.dsir', '-o', 'out'],
    codes: ['ir/unknown-op'],
    exit: 1,
    at: ['x.dsir:6:10'],
  },
];
