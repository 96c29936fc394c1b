// Constant expressions: values by hand, and the same from ptxas where it is at hand.
import fc from 'fast-check';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { assemble, findPtxas } from '../ptxas.ts';
import type { Constant } from './ast.ts';
import { parsePtx } from './index.ts';

const file = (expressions: readonly string[], type = 'b64'): string =>
  `.version 8.0\n.target sm_90a\n.address_size 64\n.visible .global .align 8 .${type} x[${expressions.length}] = {${expressions.join(', ')}};\n`;

function constantsOf(expressions: readonly string[], type = 'b64'): Constant[] {
  const { module, diagnostics } = parsePtx(file(expressions, type), 'constants.ptx');
  expect(diagnostics).toEqual([]);
  const variables = module!.statements.find((s) => s.kind === 'variables')!;
  const value = variables.names[0].initialiser!;
  if (value.kind !== 'items') throw new Error('not a list');
  return value.items as Constant[];
}
const integers = (expressions: readonly string[]): bigint[] =>
  constantsOf(expressions).map((c) => (c.kind === 'integer' ? BigInt.asIntN(64, c.value) : -777n));

const cases: Readonly<Record<string, bigint>> = {
  '0': 0n,
  '0123': 83n,
  '0b1011': 11n,
  '0xFf': 255n,
  '18446744073709551615': -1n,
  '4294967295U': 4294967295n,
  WARP_SZ: 32n,
  '1 + 2 * 3': 7n,
  '(1 + 2) * 3': 9n,
  '10 - 5 - 3': 2n,
  '100 / 10 / 5': 2n,
  '-8 / 3': -2n,
  '8 / -3': -2n,
  '(.u64) -1 / 2': 2n ** 63n - 1n,
  '(.s64) 0xffffffffffffffff < 0': 1n,
  // Remainders read both sides as unsigned.
  '-7 % 4': 1n,
  '7 % 4': 3n,
  '1 << 3 + 1': 16n,
  '-1 >> 1': -1n,
  '~0 >> 1': 2n ** 63n - 1n,
  '1 << 63': -(2n ** 63n),
  '1 << 65': 2n,
  '-8 >> 70': -1n,
  '5 & 3 | 8 ^ 12': 5n,
  '0xfff & ~0xf': 4080n,
  '!5': 0n,
  '!!7': 1n,
  '- -5': 5n,
  '-(2 + 3)': -5n,
  '-1 < 1U': 0n,
  '0x8000000000000000 > 1': 1n,
  '1U - 2 < 0': 0n,
  '1 < 2 == 1': 1n,
  '2 || 0 && 0': 1n,
  '3 != 3': 0n,
  '1 ? 2 : 0 ? 3 : 4': 2n,
  '0 ? 2 : 0 ? 3 : 4': 4n,
  '1.5 < 2.0': 1n,
};

test('integer expressions', () => {
  expect(integers(Object.keys(cases))).toEqual(Object.values(cases));
});

const ptxas = await findPtxas();
const missing = ptxas ? '' : ' (skipped: no ptxas on this machine)';

/** The bytes that ptxas gives a variable which begins with eight bytes of 77. */
async function fromPtxas(expressions: readonly string[]): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'dsvc-constants-'));
  try {
    const marker = 0x4d4d4d4d4d4d4d4dn;
    const output = join(folder, 'x.cubin');
    const result = await assemble(file([`${marker}`, ...expressions]), { arch: 'sm_90a', output });
    expect(result.status).toBe('assembled');
    const cubin = await readFile(output);
    const needle = Buffer.alloc(8);
    needle.writeBigUInt64LE(marker);
    const at = cubin.indexOf(needle) + 8;
    return cubin.subarray(at, at + 8 * expressions.length);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test.skipIf(!ptxas)(`ptxas computes the same${missing}`, async () => {
  // ptxas has no comparison of floats in a list of integers.
  const expressions = Object.keys(cases).filter((e) => !e.includes('.5'));
  const bytes = await fromPtxas(expressions);
  expressions.forEach((e, i) => expect(bytes.readBigInt64LE(8 * i), e).toBe(cases[e]));
});

/** Random expressions of the operators whose meaning depends on signs and precedence. */
const expression = fc.letrec<{ all: string }>((tie) => ({
  all: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom('0', '1', '7', '0x10', '3U', '0xffffffffffffffff', '9223372036854775807', '-2'),
    fc.tuple(fc.constantFrom('-', '~', '!', '(.s64) ', '(.u64) '), tie('all')).map(([o, a]) => `${o}(${a})`),
    fc
      .tuple(
        tie('all'),
        fc.constantFrom(
          '+',
          '-',
          '*',
          '&',
          '|',
          '^',
          '<',
          '>=',
          '==',
          '!=',
          '&&',
          '||',
          '<<',
          '>>',
          '/',
          '%',
        ),
        tie('all'),
      )
      // Divisors are never zero, and counts of shifts are small.
      .map(([a, o, b]) =>
        o === '<<' || o === '>>' ? `${a} ${o} 3` : /[/%]/.test(o) ? `${a} ${o} 5` : `${a} ${o} ${b}`,
      ),
    // Of two sides of unlike sign ptxas keeps the chosen one's, where the ISA has both converted: ask for one sign.
    fc
      .tuple(tie('all'), tie('all'), tie('all'))
      .map(([a, b, c]) => `((${a}) ? (.s64) (${b}) : (.s64) (${c}))`),
  ),
})).all;

test.skipIf(!ptxas)(`ptxas computes the same for random expressions${missing}`, async () => {
  const expressions = fc.sample(expression, { numRuns: 400, seed: 4 });
  const bytes = await fromPtxas(expressions);
  const ours = integers(expressions);
  expressions.forEach((e, i) => expect(ours[i], e).toBe(bytes.readBigInt64LE(8 * i)));
});

test('floats', () => {
  const floats = constantsOf(
    ['1.0', '0f3F800000', '0D3FF0000000000000', '-0.5', '1.5 + 2.0 * 0.25', '1e3'],
    'f64',
  );
  const shown = floats.map((c) => (c.kind === 'float' ? `${c.width}:${c.bits.toString(16)}` : 'integer'));
  expect(shown).toEqual([
    '64:3ff0000000000000',
    '32:3f800000',
    '64:3ff0000000000000',
    '64:bfe0000000000000',
    '64:4000000000000000',
    '64:408f400000000000',
  ]);
});
