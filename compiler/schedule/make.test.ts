import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DiagnosticError } from '../../ir/diagnostics.ts';
import { isCompute, type ScheduleOp } from '../../ir/schedule.ts';
import { makeSchedule, schedulers } from './make.ts';
import { fromTokens, toTokens } from './tokens.ts';

interface Recorded {
  readonly schedule: string;
  readonly ranks: number;
  readonly num_chunks: number;
  readonly ops: readonly string[];
  readonly compute_only: readonly string[];
}

const recorded = Object.entries(
  JSON.parse(
    readFileSync(join(import.meta.dirname, '../../test/golden/dualpipe_schedules.json'), 'utf8'),
  ) as Record<string, Recorded>,
);

describe('what DeepSeek recorded', () => {
  test.each(recorded)('%s', (_, { schedule, ranks, num_chunks: microBatches, ops }) => {
    const { programs } = makeSchedule(schedule.toLowerCase(), { ranks, microBatches });
    expect(programs.map((p) => toTokens(p.ops))).toEqual(ops);
  });

  test.each(recorded)('%s comes back from its tokens', (_, { ops }) => {
    expect(ops.map((o) => toTokens(fromTokens(o)))).toEqual(ops);
  });
});

const tokens = (kind: string, ranks: number, microBatches: number): string =>
  makeSchedule(kind, { ranks, microBatches })
    .programs.map((p) => toTokens(p.ops))
    .join('\n');

test('1F1B', () => {
  expect(`\n${tokens('1f1b', 2, 3)}\n`).toMatchInlineSnapshot(`
    "
    F0:0 SF0:0@1 C F0:1 SF0:1@1 RB0:0@1 C B0:0 F0:2 SF0:2@1 RB0:1@1 C B0:1 RB0:2@1 C B0:2
    RF0:0@0 C F0:0 B0:0 SB0:0@0 RF0:1@0 C F0:1 B0:1 SB0:1@0 RF0:2@0 C F0:2 B0:2 SB0:2@0 C
    "
  `);
});

test('ZB1P', () => {
  expect(`\n${tokens('zb1p', 3, 4)}\n`).toMatchInlineSnapshot(`
    "
    F0:0 SF0:0@1 C F0:1 SF0:1@1 C F0:2 SF0:2@1 RB0:0@1 C I0:0 W0:0 F0:3 SF0:3@1 RB0:1@1 C I0:1 W0:1 RB0:2@1 C I0:2 W0:2 RB0:3@1 C I0:3 W0:3
    RF0:0@0 C F0:0 SF0:0@2 RF0:1@0 C F0:1 SF0:1@2 RB0:0@2 C I0:0 SB0:0@0 RF0:2@0 C F0:2 SF0:2@2 RB0:1@2 C I0:1 SB0:1@0 RF0:3@0 C W0:0 F0:3 SF0:3@2 RB0:2@2 C I0:2 SB0:2@0 C W0:1 RB0:3@2 C I0:3 SB0:3@0 C W0:2 W0:3
    RF0:0@1 C F0:0 I0:0 SB0:0@1 RF0:1@1 C F0:1 I0:1 SB0:1@1 RF0:2@1 C F0:2 I0:2 SB0:2@1 RF0:3@1 C W0:0 F0:3 I0:3 SB0:3@1 C W0:1 W0:2 W0:3
    "
  `);
});

const computed = (ops: readonly ScheduleOp[], what: string): string[] =>
  ops.filter(isCompute).flatMap((op) => {
    const parts =
      op.op === 'overlap' ? [`F${show(op.forward)}`, `B${show(op.backward)}`] : [`${op.op}${show(op.chunk)}`];
    return parts.filter((p) => new RegExp(what).test(p)).map((p) => p.replace(/^\D+/, ''));
  });
const show = (c: { direction: number; microBatch: number }): string => `${c.direction}:${c.microBatch}`;

describe('every micro-batch passes every rank once each way', () => {
  for (const { name } of schedulers)
    test.each([
      [2, 4],
      [4, 8],
      [4, 14],
      [6, 12],
    ])(`${name} %i ranks, %i micro-batches`, (ranks, microBatches) => {
      const perDirection = name === 'dualpipe' ? microBatches / 2 : microBatches;
      for (const { stages, ops } of makeSchedule(name, { ranks, microBatches }).programs) {
        const all = stages
          .flatMap((_, d) => Array.from({ length: perDirection }, (_, m) => `${d}:${m}`))
          .sort();
        expect(computed(ops, '^F|forward').sort()).toEqual(all);
        expect(computed(ops, '^B|backward').sort()).toEqual(all);
        expect(computed(ops, 'weights')).toEqual(computed(ops, 'backward_input'));
      }
    });
});

describe('sizes that no schedule has', () => {
  const refusal = (kind: string, ranks: number, microBatches: number): string => {
    try {
      makeSchedule(kind, { ranks, microBatches });
    } catch (e) {
      if (e instanceof DiagnosticError)
        return e.diagnostics.map((d) => `${d.code}: ${d.message}; ${d.fix}`).join('\n');
    }
    return 'accepted';
  };
  test.each([
    ['dualpipe', 5, 20],
    ['dualpipe', 0, 20],
    ['dualpipe', 4, 9],
    ['dualpipe', 4, 6],
    ['dualpipev', 4, 7],
    ['dualpipev', 0, 7],
    ['zb1p', 0, 4],
    ['1f1b', 2, 0],
    ['gpipe', 2, 2],
  ] as const)('%s %i %i', (kind, ranks, microBatches) => {
    expect(refusal(kind, ranks, microBatches)).toMatchSnapshot();
  });
});

describe('phases', () => {
  const { orders } = makeSchedule('dualpipe', { ranks: 8, microBatches: 20 });
  const order = (op: string): string =>
    orders
      .find((o) => o.op === op)!
      .steps.map(
        (s) => `${s.stream} ${s.phase}(${s.part})${s.waits.map((w) => ` < ${w.phase}(${w.part})`).join('')}`,
      )
      .join('\n');

  test('the overlapped pair is launched as recorded on H800', () => {
    const recordedOrder =
      'combine(B), attention(F), mlp(B), dispatch(F), dispatch(B), mlp(W), mlp(F), attention(B), attention(W), combine(F)';
    const steps = orders.find((o) => o.op === 'overlap')!.steps;
    expect(steps.map((s) => `${s.phase}(${s.part})`).join(', ')).toBe(recordedOrder);
    expect(`\n${order('overlap')}\n`).toMatchInlineSnapshot(`
      "
      comm combine(B) < input(B)
      compute attention(F) < input(F)
      compute mlp(B) < combine(B)
      comm dispatch(F) < attention(F)
      comm dispatch(B) < mlp(B)
      compute mlp(W)
      compute mlp(F) < dispatch(F)
      compute attention(B) < dispatch(B)
      compute attention(W)
      comm combine(F) < mlp(F)
      "
    `);
  });

  test('a backward alone hides its weight gradients behind communication', () => {
    expect(`\n${order('backward')}\n`).toMatchInlineSnapshot(`
      "
      comm combine(B) < input(B)
      compute mlp(B) < combine(B)
      comm dispatch(B) < mlp(B)
      compute mlp(W)
      compute attention(B) < dispatch(B)
      compute attention(W)
      "
    `);
  });
});
