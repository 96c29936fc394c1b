// Printing what was parsed gives the same bytes, and parsing what was printed gives the same module.
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { renderDiagnostic } from '../diagnostics.ts';
import { randomModule } from '../fixtures/random-module.ts';
import type { Module } from '../module.ts';
import { opNames } from '../ops/index.ts';
import { verifyModule } from '../verify.ts';
import type { Schedule, ScheduleOp } from '../schedule.ts';
import { noSpan } from '../span.ts';
import { parseModule, printFunction, printModule, printOp, printSchedule, printScheduleOp } from './index.ts';

const fixture = (name: string): string =>
  readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');

/** The module in a text that must be right. */
function parsed(text: string): { module: Module; header: readonly string[] } {
  const { module, diagnostics, header } = parseModule(text, 'text.dsir');
  const rendered = diagnostics.map((d) => renderDiagnostic(d, { sourceOf: () => text })).join('\n');
  if (module === null) throw new Error(rendered);
  expect(rendered).toBe('');
  return { module, header };
}

test.each(['small.dsir', 'every-op.dsir', 'schedule.dsir'])(
  '%s is printed as it is written, and sound',
  (name) => {
    const text = fixture(name);
    const { module, header } = parsed(text);
    expect(printModule(module, { header })).toBe(text);
    expect(verifyModule(module)).toEqual([]);
  },
);

test('every op of the table stands in every-op.dsir', () => {
  const { module } = parsed(fixture('every-op.dsir'));
  const used = new Set(module.functions.flatMap((f) => f.body.map((op) => op.op)));
  expect(opNames().filter((name) => !used.has(name))).toEqual([]);
});

test('a parsed module holds the values, defaults and places that were written', () => {
  const { module } = parsed(fixture('small.dsir'));
  expect(module.attributes).toEqual({ precision: 'bf16', target: 'h800' });
  expect(module.dims.at(-1)).toEqual({
    name: 'slots',
    bound: 248,
    ragged: { of: 'tokens', per: 2, groups: 8, align: 16 },
  });
  const [attend, step] = module.functions;
  expect(attend.span).toEqual({ file: 'small.ts', line: 3, column: 1, endLine: 9, endColumn: 2 });
  const rows = attend.body[0];
  expect(rows.attributes).toMatchObject({ contract: 1, promote: 0 });
  // SSA by identity: operands are the very values that were declared.
  expect(rows.operands).toEqual([attend.arguments[0].value, attend.declarations[0].value]);
  expect(rows.operands[0]).toBe(attend.arguments[0].value);
  expect(rows.operands[1]).toBe(attend.declarations[0].value);
  expect(rows.span).toEqual({ file: 'small.ts', line: 4, column: 13, endLine: 4, endColumn: 40 });
  expect(attend.finals).toEqual([attend.body[1].results[0]]);
  expect(step.body[0].attributes).toMatchObject({ callee: 'attend', modes: ['carry', 'same', 'indexed'] });
});

test('header comments are kept, others are not, and blanks do not matter', () => {
  const text =
    '//one\n\n  //  two \r\n//\ndsir 1 // version\r\nmodule @m { // here\n\n// gone\n\tdim  n<=4\n}\n// end';
  const { module, header } = parsed(text);
  expect(header).toEqual(['one', ' two ', '']);
  expect(printModule(module, { header })).toBe(
    '// one\n//  two \n//\ndsir 1\nmodule @m {\n  dim n <= 4\n}\n',
  );
});

test('printFunction and printOp give their part of the module text', () => {
  const { module } = parsed(fixture('small.dsir'));
  const text = fixture('small.dsir');
  for (const f of module.functions) {
    const indented = printFunction(f).replace(/^(?=.)/gm, '  ');
    expect(text).toContain(indented);
    for (const op of f.body) expect(text).toContain(`    ${printOp(op)}\n`);
  }
});

test('a parsed schedule holds what was written, at its place in the text', () => {
  const text = fixture('schedule.dsir');
  const { module } = parsed(text);
  const [train, byHand] = module.schedules;
  expect(train).toMatchObject({
    name: 'train',
    kind: 'dualpipe',
    microBatches: 4,
    sms: { compute: 112, comm: 20 },
    bounds: { activations: 3, stages: 2 },
    span: { file: 'model.ts', line: 8, column: 1, endLine: 8, endColumn: 60 },
  });
  expect(byHand.span).toEqual(noSpan);
  expect(train.layers[0].phases.slice(0, 2)).toEqual([
    { name: 'attention', stream: 'compute', weights: true },
    { name: 'dispatch', stream: 'comm', weights: false },
  ]);
  expect(train.stages.map((s) => s.layers)).toEqual([
    [
      { layer: 'dense', count: 3 },
      { layer: 'moe', count: 1 },
    ],
    [{ layer: 'moe', count: 4 }],
  ]);
  expect(train.orders[2].steps.at(-1)).toMatchObject({
    stream: 'comm',
    phase: 'combine',
    part: 'F',
    waits: [
      { phase: 'mlp', part: 'F' },
      { phase: 'attention', part: 'B' },
    ],
  });
  const [{ stages, ops }] = train.programs;
  expect(stages).toEqual([0, 1]);
  expect(ops.map((op) => op.op).join(' ')).toBe(
    'forward send receive commit overlap send commit backward_input commit weights receive backward commit',
  );
  expect(ops[2]).toMatchObject({ payload: 'activations', chunk: { direction: 1, microBatch: 0 }, peer: 1 });
  expect(ops[4]).toMatchObject({
    forward: { direction: 0, microBatch: 1 },
    backward: { direction: 1, microBatch: 0 },
  });
  // Every part's span covers its own text, also of ops that share a line.
  const lines = text.split('\n');
  const written = ({ span }: { span: ScheduleOp['span'] }): string =>
    lines[span.line - 1].slice(span.column - 1, span.endColumn - 1);
  expect(ops.map(written)).toEqual(ops.map(printScheduleOp));
  expect(written(train.layers[1])).toBe('layer dense = attention + weights, mlp + weights');
  expect(written(train.orders[0].steps[1])).toBe('compute mlp(F)');
  expect(written(train.programs[1])).toBe('rank 1 stages [1, 0] {');
});

test('ops of a rank may stand on lines in any grouping, and are printed in one', () => {
  const text = fixture('schedule.dsir');
  const { module } = parsed(text);
  const oneLine = text.replace(
    /^(      (?:forward|send)[^]*?)\n    \}/gm,
    (_, ops: string) => `${ops.replace(/\n */g, ' ; ')}\n}`,
  );
  expect(oneLine.split('\n').length).toBeLessThan(text.split('\n').length - 8);
  const line = parsed(oneLine.replaceAll('; commit', ';commit'));
  const each = parsed(text.replace(/; /g, '\n'));
  for (const again of [line, each]) expect(printModule(again.module, again)).toBe(text);
  for (const s of module.schedules) expect(text).toContain(printSchedule(s).replace(/^(?=.)/gm, '  '));
});

test('names that start with a word of the grammar are names like others', () => {
  const attributes =
    'dimension = 1, stateful = true, ordered = [1, 2], comm_sms = 4, d0x = at2, rank = order';
  const text = `dsir 1\nmodule @m {${attributes}} {\n  dim stage*d1 <= 4\n  dim rank0 <= 4\n}\n`;
  expect(printModule(parsed(text).module)).toBe(text);
});

/** A schedule whose parts have no spans: a parsed one's are its places in the text. */
const withoutPlaces = (s: Schedule): unknown =>
  JSON.parse(
    JSON.stringify({ ...s, author: s.span }, (key, value: unknown) => (key === 'span' ? undefined : value)),
  );

test('random modules verify, round-trip byte for byte, and use most ops', () => {
  const ops = new Set<string>();
  const scheduleOps = new Set<string>();
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const made = randomModule(seed);
      made.ops.forEach((op) => ops.add(op));
      for (const { programs } of made.module.schedules)
        for (const op of programs.flatMap((p) => p.ops)) scheduleOps.add(op.op);
      const header = ['made by a test', '', ' indented'];
      const text = printModule(made.module, { header });
      const once = parsed(text);
      expect(once.header).toEqual(header);
      expect(printModule(once.module, once)).toBe(text);
      expect(once.module.schedules.map(withoutPlaces)).toEqual(made.module.schedules.map(withoutPlaces));
      expect(verifyModule(made.module)).toEqual([]);
      expect(verifyModule(once.module)).toEqual([]);
    }),
    { numRuns: 400 },
  );
  // A generator that makes nothing would prove nothing.
  expect(ops.size).toBeGreaterThan(45);
  expect(scheduleOps.size).toBe(8);
});
