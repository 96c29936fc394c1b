// Whatever the text: decoding never throws, ends fast, and places every error inside the text.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Diagnostic } from '../../../ir/diagnostics.ts';
import { parsePtx, printParsed } from '../parse/index.ts';
import { gemm, syntax } from './fixtures.testing.ts';
import { decodePtx, encodeProgram, readProgram } from './index.ts';

/** What is wrong with a diagnostic for a text of these lines; a list, because thousands of expectations take long. */
function flaws(d: Diagnostic, lines: readonly string[]): string[] {
  const found: string[] = [];
  const hold = (what: string, condition: boolean): void => {
    if (!condition) found.push(`${what}: ${JSON.stringify(d)}`);
  };
  hold('code', /^ptx\/[a-z-]+$/.test(d.code));
  hold('message', /^(?!.*\b(undefined|NaN|null|object Object)\b).+$/.test(d.message));
  for (const place of [d.at!, ...(d.notes ?? []).map((n) => n.at!)]) {
    hold('file', place.file === 'fuzz.ptx');
    hold('line', place.line >= 1 && place.line <= lines.length);
    hold('column', place.column >= 1 && place.endColumn > place.column);
    // A mistake at a line's end is shown one column after it.
    hold('end', place.endColumn <= (lines[place.line - 1]?.length ?? 0) + 2);
  }
  return found;
}

/** Decodes and checks what must hold for every text; true when it is right. */
function check(text: string): boolean {
  const { program, diagnostics } = decodePtx(text, 'fuzz.ptx');
  const lines = text.split('\n');
  expect(diagnostics.flatMap((d) => flaws(d, lines))).toEqual([]);
  expect(program === null).toBe(diagnostics.length > 0);
  if (program === null) return false;
  expect(Buffer.compare(encodeProgram(readProgram(program)), program)).toBe(0);
  const printed = printParsed(parsePtx(text, 'fuzz.ptx').module!);
  const again = parsePtx(printed, 'again.ptx');
  expect(again.diagnostics).toEqual([]);
  expect(printParsed(again.module!)).toBe(printed);
  return true;
}

const pieces = [
  ...'{ } ( ) [ ] ; , : " /* */ // @ ! | % %r1 %p1 %tid.x _ 0x 0f3F800000 1.5 -1 - + < > = ? << 7 99999999999999999999'.split(
    ' ',
  ),
  ...'.reg .b32 .v4 .f32 .global .shared .param .entry .func .section .align .loc .file .version .target .pragma'.split(
    ' ',
  ),
  ...'add.s32 ld.global.b32 call bra ret mov.b64 setp.lt.s32 %rd1 generic WARP_SZ {%r1,%r2} {1,2} [%rd1+8]'.split(
    ' ',
  ),
  ...['\n', '\\\n', '§', '\0', '\ud800', 'l:'],
];

interface Edit {
  readonly kind: 'cut' | 'insert' | 'copy' | 'swap' | 'end';
  readonly at: number;
  readonly length: number;
  readonly from: number;
  readonly piece: string;
}
const edits: fc.Arbitrary<readonly Edit[]> = fc.array(
  fc.record({
    // Whole halves are cut off seldom: most of such texts are wrong at once.
    kind: fc.constantFrom('cut', 'cut', 'insert', 'insert', 'insert', 'copy', 'copy', 'swap', 'swap', 'end'),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.oneof(fc.nat(6), fc.nat(200)),
    from: fc.double({ min: 0, max: 1, noNaN: true }),
    piece: fc.constantFrom(...pieces),
  }),
  { minLength: 1, maxLength: 3 },
);

function apply(text: string, { kind, at, length, from, piece }: Edit): string {
  const place = Math.floor(at * text.length);
  switch (kind) {
    case 'cut':
      return text.slice(0, place) + text.slice(place + length);
    case 'insert':
      return `${text.slice(0, place)} ${piece} ${text.slice(place)}`;
    case 'copy': {
      const source = Math.floor(from * text.length);
      return text.slice(0, place) + text.slice(source, source + length) + text.slice(place);
    }
    case 'swap':
      return text.slice(0, place) + piece[0] + text.slice(place + 1);
    case 'end':
      return text.slice(0, place);
  }
}

test.each([
  ['odd syntax', syntax, 1500],
  ['a kernel of ours', gemm, 500],
])('%s, mutated', (_, text, numRuns) => {
  let right = 0;
  fc.assert(
    fc.property(edits, (all) => {
      right += check(all.reduce(apply, text)) ? 1 : 0;
    }),
    // One seed: how many texts stay right depends on it.
    { numRuns, seed: 1 },
  );
  // Else nothing but the first error of each text would be tried.
  expect(right).toBeGreaterThan(numRuns / 100);
});

test('random words', () => {
  const kernel = (inside: string): string =>
    `.version 8.0\n.target sm_90a\n.address_size 64\n.entry k()\n{\n.reg .b32 %r<4>;\n.reg .pred %p<4>;\n${inside}\n}\n`;
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...pieces, ';'), { maxLength: 40 }),
      fc.boolean(),
      (words, inside) => {
        check(inside ? kernel(words.join(' ')) : words.join(' '));
      },
    ),
    { numRuns: 1500 },
  );
});

test('random characters', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      check(text);
    }),
    { numRuns: 500 },
  );
});

const head = '.version 8.0\n.target sm_90a\n.address_size 64\n.entry k()\n{\n.reg .b32 %r<9>;\n';
/** Repeated until it is long enough to show time that grows with the square. */
const long = (text: string): string => text.repeat(Math.ceil(200_000 / text.length));
test.each([
  ['open braces', long('{')],
  ['open comments', long('/*')],
  ['quotes', long('"\\')],
  ['half addresses', long('[x ')],
  ['half lists', long('{%a,')],
  ['digits', `${head}mov.b32 %r1, ${long('7')};\n}`],
  ['digits in an address', `${head}ld.global.b32 %r1, [%r1+${long('7')}];\n}`],
  ['signs', `${head}mov.b32 %r1, ${long('- ')}1;\n}`],
  ['parentheses', `${head}mov.b32 %r1, ${long('(')}1;\n}`],
  ['conditionals', `${head}mov.b32 %r1, ${long('1?1:')}1;\n}`],
  ['a sum', `${head}mov.b32 %r1, ${long('1+')}1;\n}`],
  ['modifiers', `${head}add${long('.s32')} %r1, %r2;\n}`],
  ['no semicolons', head + long('add.s32 %r1, %r2, 1\n')],
  ['labels', head + long('a:')],
  ['blocks', `${head}${long('{')}${long('}')}}`],
  ['call blocks', `${head}${long('{ .param .b32 p; st.param.b32 [p], %r1; }')}}`],
  ['unknown names', `${head}${Array.from({ length: 8000 }, (_, i) => `mov.b32 %r1, x${i};`).join('\n')}}`],
  [
    'unknown names and a mistake',
    `*;${head}${Array.from({ length: 8000 }, (_, i) => `mov.b32 %r1, x${i};`).join('\n')}}`,
  ],
  ['sections', long('.section .a {')],
  ['initial values', `.global .b8 x[] = {${long('1, ')}1};`],
  ['nested initial values', `.global .b8 x[1] = ${long('{')}`],
  ['line noise', long('§$%&/()=?`´*+#\n')],
])('long: %s', (_, text) => {
  // Work that grows with the square would run into the limit of a test.
  check(text);
});
