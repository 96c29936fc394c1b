// Whatever the text: parsing never throws, ends fast, and places every error inside the text; and when a damaged
// module still reads well, it prints to a text that reads the same.
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Function, Module } from '../module.ts';
import { verifyModule } from '../verify.ts';
import { parseModule, printModule } from './index.ts';

const fixture = (name: string): string =>
  readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');
const everyOp = fixture('every-op.dsir');
const small = fixture('small.dsir');
const schedule = fixture('schedule.dsir');

/** Parses and checks what must hold for every text; gives the module when there is one. */
function check(text: string): Module | null {
  const { module, diagnostics, header } = parseModule(text, 'fuzz.dsir');
  const lines = text.split('\n');
  for (const d of diagnostics) {
    expect(d.code, d.message).not.toBe('ir/internal');
    expect(d.message).not.toBe('');
    const at = d.at!;
    expect(at.file).toBe('fuzz.dsir');
    for (const place of [at, ...(d.notes ?? []).flatMap((n) => n.at ?? [])]) {
      expect(place.line).toBeGreaterThanOrEqual(1);
      expect(place.line).toBeLessThanOrEqual(lines.length);
      expect(place.endLine).toBe(place.line);
      expect(place.column).toBeGreaterThanOrEqual(1);
      // A mistake at a line's end is shown one column after it.
      expect(place.endColumn).toBeLessThanOrEqual(lines[place.line - 1].length + 2);
      expect(place.endColumn).toBeGreaterThan(place.column);
    }
  }
  expect(module === null).toBe(diagnostics.length > 0);
  if (module === null) return null;
  const printed = printModule(module, { header });
  const again = parseModule(printed, 'again.dsir');
  expect(again.diagnostics).toEqual([]);
  expect(printModule(again.module!, again)).toBe(printed);
  // Not every module that reads well is sound, but the verifier must have an answer for it.
  for (const d of verifyModule(module)) expect(d.code, d.message).not.toBe('ir/internal');
  return module;
}

test('random characters', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
      expect(check(text)).toBeNull();
    }),
    { numRuns: 500 },
  );
});

test('random bytes, in the place of a function body too', () => {
  const [before, after] = ['dsir 1\nmodule @m {\n  block @f() -> () {\n', '\n    return\n  }\n}\n'];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, inside) => {
      const junk = Buffer.from(bytes).toString('latin1');
      check(inside ? before + junk + after : junk);
    }),
    { numRuns: 500 },
  );
});

const words = [
  ...'dsir module dim state ragged groups align entry block kernel inout param buffer derived derive stored return'.split(
    ' ',
  ),
  ...'at add matmul split const call repeat cache_append axis axes sizes prefix true inf f32 bf16 f8e4m3 positions routing'.split(
    ' ',
  ),
  ...'schedule layer stage order rank stages on after compute comm forward backward backward_input weights'.split(
    ' ',
  ),
  ...'overlap send receive commit activations gradients kind micro_batches d0 m0 d1 m99 moe attention(F) & <-'.split(
    ' ',
  ),
  ...[
    '%x',
    '%y',
    '%x.1',
    '@f',
    '@m',
    '"w"',
    '"',
    '0',
    '1',
    '-1',
    '2.5',
    '1e999',
    '1x128',
    '*',
    'heads*v',
    'tokens',
    'rows',
  ],
  ...[
    '->',
    '<=',
    '<',
    '>',
    '=',
    ',',
    ':',
    ';',
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    '//',
    'at m.ts:1:2-3',
    '\t',
    '\r',
    '\\',
    '%',
    'é',
    '\u2028',
  ],
  ...[
    '\n',
    '\n',
    '\n',
    'dsir 1\nmodule @m {\n',
    '\n  block @f(%x: f32[tokens, 4]) -> () {\n',
    '\n return\n}\n',
  ],
  ...['dim tokens <= 8\n', '%y = add %x, %x : f32[tokens, 4]\n', 'param "w": f32[4] stored [4]\n'],
];

test('token soup', () => {
  const soup = fc.array(fc.constantFrom(...words), { maxLength: 120 }).map((tokens) => tokens.join(' '));
  const start =
    'dsir 1\nmodule @m {\ndim tokens <= 8\nblock @f(%x: f32[tokens, 4], inout %y: f32[4]) -> () {\n';
  const inSchedule = schedule.slice(0, schedule.indexOf('      forward'));
  fc.assert(
    fc.property(soup, fc.constantFrom('', start, inSchedule), (text, before) => void check(before + text)),
    { numRuns: 1000 },
  );
});

/** Damages a text at a random place: characters or whole lines are dropped, doubled, swapped or put in. */
const damage = fc
  .record({
    kind: fc.constantFrom(
      'drop',
      'double',
      'swap',
      'insert',
      'dropLine',
      'doubleLine',
      'swapLines',
      'moveLine',
      'word',
    ),
    at: fc.nat(1_000_000),
    other: fc.nat(1_000_000),
    length: fc.integer({ min: 1, max: 6 }),
    word: fc.constantFrom(...words),
  })
  .map(({ kind, at, other, length, word }) => (text: string): string => {
    const i = at % (text.length + 1);
    const lines = text.split('\n');
    const [a, b] = [at % lines.length, other % lines.length];
    const line = lines[a];
    switch (kind) {
      case 'drop':
        return text.slice(0, i) + text.slice(i + length);
      case 'double':
        return text.slice(0, i + length) + text.slice(i);
      case 'swap':
        return text.slice(0, i) + text.slice(i + 1, i + 2) + text.slice(i, i + 1) + text.slice(i + 2);
      case 'insert':
        return text.slice(0, i) + word + text.slice(i);
      case 'word':
        // Replaces one word by another word of the text: names and types that exist, at the wrong place.
        return text.replace(/[%@]?[\w.]+/g, (w, at2: number) =>
          at2 <= i && i < at2 + w.length
            ? (text.slice(other % text.length).match(/[%@]?[\w.]+/)?.[0] ?? w)
            : w,
        );
      case 'dropLine':
        return lines.toSpliced(a, 1).join('\n');
      case 'doubleLine':
        return lines.toSpliced(a, 0, line).join('\n');
      case 'swapLines':
        return lines.with(a, lines[b]).with(b, line).join('\n');
      case 'moveLine':
        return lines.toSpliced(a, 1).toSpliced(b, 0, line).join('\n');
    }
  });

test.each([
  ['small.dsir', small, 700],
  ['every-op.dsir', everyOp, 700],
  ['schedule.dsir', schedule, 700],
])('mutations of %s', (_, text, numRuns) => {
  let [good, bad] = [0, 0];
  fc.assert(
    fc.property(fc.array(damage, { minLength: 1, maxLength: 3 }), (damages) => {
      if (check(damages.reduce((t, f) => f(t), text))) good++;
      else bad++;
    }),
    { numRuns },
  );
  // Both outcomes must occur often, or one half of `check` is idle.
  expect(good).toBeGreaterThan(numRuns / 50);
  expect(bad).toBeGreaterThan(numRuns / 4);
});

test('a damaged line is one or a few messages, not a flood', () => {
  const lines = everyOp.split('\n');
  for (const [i, line] of lines.entries()) {
    if (!line.trim().startsWith('%')) continue;
    const text = lines
      .with(
        i,
        line.replace(/\S+/g, (w) => (w === '=' ? '= =' : w)),
      )
      .join('\n');
    expect(parseModule(text, 'x').diagnostics.length, line).toBe(1);
  }
});

const large = 300_000;
const inside = 'dsir 1\nmodule @m {\nblock @f(%x: f32[4]) -> () {\n';
const inRank = 'dsir 1\nmodule @m {\nschedule @s {kind = ""} {\nrank 0 stages [0] {\n';
const fill = (piece: string): string => piece.repeat(Math.ceil(large / piece.length));

test.each<[string, string]>([
  ['lines of nothing', fill('\n')],
  ['one line of blanks', fill(' ')],
  ['short lines of words', fill('x\n')],
  ['one line of words', `${inside}${fill('x ')}`],
  ['escaped quotes without an end', `${inside}${fill('\\"')}`],
  ['quotes', `${inside}${fill('"')}`],
  ['open brackets', `${inside}%y = neg ${fill('[')}`],
  ['open parentheses in a derive', `${inside}derive "w": f32[4] = ${fill('neg(')}`],
  ['nested lists', `${inside}%y = neg %x {a = ${'['.repeat(150_000)}${']'.repeat(150_000)}}`],
  ['one long identifier', `${inside}${fill('x')}`],
  ['one long dim name', `${inside}${fill('x*')}`],
  ['places without numbers', `${inside}${fill('at x')}`],
  ['one long place', `${inside}at ${fill('x:1')}`],
  ['digits', `${inside}${fill('1')}`],
  ['digits and x', `${inside}${fill('1x')}`],
  ['odd characters', fill('\u2028\u00e9')],
  ['surrogates', fill('\ud800')],
  ['comments', fill('// \n')],
  ['a header of one line', `//${fill(' /')}`],
  [
    'unknown values with like names',
    `${inside}${Array.from({ length: 12_000 }, (_, i) => `%v${i} = neg %w${i} : f32[4]`).join('\n')}`,
  ],
  ['one long line of ops', `${inRank}${fill('commit; ')}commit`],
  ['wrong ops', `${inRank}${fill('send d0\n')}`],
  ['ranks that do not end', `${inRank}${fill('rank 1 stages [0] {\n')}`],
  ['one long direction', `${inRank}forward d${fill('1')} m0`],
  ['one long operand list', `${inside}%y = concat ${fill('%x, ')}%x {axis = 0} : f32[4]`],
])('300 KB of %s end in errors at places in the text', (_, text) => {
  check(text);
});

/** Copies of the fixture's functions under other names, until the text has a megabyte. */
function megabyte(): Module {
  const { module } = parseModule(everyOp, 'every-op.dsir');
  const functions: Function[] = [];
  const copied = module!.functions.filter((f) => !f.body.some((op) => 'callee' in op.attributes));
  while (functions.length < 1200)
    for (const f of copied) functions.push({ ...f, name: `${f.name}.${functions.length}` });
  return { ...module!, functions };
}

test('a megabyte round-trips and verifies', () => {
  const text = printModule(megabyte());
  expect(text.length).toBeGreaterThan(1_000_000);
  const { module } = parseModule(text, 'large.dsir');
  expect(verifyModule(module!)).toEqual([]);
  expect(printModule(module!)).toBe(text);
});

test('one function of very many ops', () => {
  const ops = 16_000;
  const text = `dsir 1\nmodule @m {\n  block @f(%x0: f32[4]) -> () {\n${Array.from({ length: ops }, (_, i) => `    %x${i + 1} = add %x${i}, %x${i} : f32[4]\n`).join('')}    return\n  }\n}\n`;
  const { module } = parseModule(text, 'x.dsir');
  expect(verifyModule(module!)).toEqual([]);
  expect(module!.functions[0].body.length).toBe(ops);
});

test('a schedule of very many ops', () => {
  const { module: small } = parseModule(schedule, 'schedule.dsir');
  const [train] = small!.schedules;
  const ops = Array.from({ length: 2000 }, () => train.programs[0].ops).flat();
  const programs = train.programs.with(0, { ...train.programs[0], ops });
  const text = printModule({ ...small!, schedules: [{ ...train, programs }] });
  const { module } = parseModule(text, 'x.dsir');
  expect(verifyModule(module!)).toEqual([]);
  expect(module!.schedules[0].programs[0].ops.length).toBe(26_000);
  expect(printModule(module!)).toBe(text);
});
