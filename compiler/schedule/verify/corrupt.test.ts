// Every way to spoil a schedule is refused for its own reason: the code, the rank and operation in the message, the
// operation's line, and in the notes the line of the other one. No follow-ups.
import { describe, expect, test } from 'vitest';
import { renderDiagnostic } from '../../../ir/diagnostics.ts';
import type { Span } from '../../../ir/span.ts';
import { makeSchedule } from '../make.ts';
import { verifySchedule } from '../verify.ts';
import { declarations } from './corrupt-declarations.testing.ts';
import { progress } from './corrupt-progress.testing.ts';
import { transfers } from './corrupt-transfers.testing.ts';
import { work } from './corrupt-work.testing.ts';
import { withLines, withOps, type Corruption } from './corrupt.testing.ts';

const sound = [
  ['dualpipe', 2, 4],
  ['dualpipe', 4, 8],
  ['dualpipe', 8, 20],
  ['dualpipev', 2, 5],
  ['dualpipev', 4, 10],
  ['zb1p', 4, 8],
  ['zb1p', 2, 3],
  ['1f1b', 2, 2],
  ['1f1b', 5, 9],
] as const;
const schedules = sound.map(([kind, ranks, microBatches]) =>
  withLines(makeSchedule(kind, { ranks, microBatches })),
);

const corruptions = { ...work, ...transfers, ...progress, ...declarations };

const place = (s: Span | undefined): string => (s ? `line ${s.line}` : 'nowhere');

describe.each(Object.entries(corruptions))('%s', (_, corrupt: Corruption) => {
  test('is refused', () => {
    let spoilt = 0;
    for (const schedule of schedules)
      for (const pick of [0, 0.5, 1]) {
        const c = corrupt(schedule, pick);
        if (!c) continue;
        spoilt++;
        const found = verifySchedule(c.schedule);
        const errors = found.filter((d) => d.severity === 'error');
        const [first] = errors;
        const shown = `${schedule.kind} on ${schedule.programs.length} ranks: ${errors.map((d) => `${d.code} ${d.message}`).join('; ')}`;
        const codes = errors.map((d) => d.code.replace('schedule/', ''));
        expect(codes.slice(0, c.codes.length), shown).toEqual(c.codes);
        for (const code of codes.slice(c.codes.length)) expect(c.more ?? [], shown).toContain(code);
        expect(first.message.slice(0, c.says.length), shown).toBe(c.says);
        expect(place(first.at), shown).toBe(place(c.at));
        if (c.other)
          expect(
            (first.notes ?? []).map((n) => place(n.at)),
            shown,
          ).toContain(place(c.other));
        expect(first.fix, shown).toBeTruthy();
      }
    expect(spoilt).toBeGreaterThan(0);
  });
});

test('there are many ways', () => {
  expect(Object.keys(corruptions).length).toBeGreaterThanOrEqual(30);
});

test('a commit of nothing does no harm, and is mentioned', () => {
  const [schedule] = schedules;
  const commit = schedule.programs[1].ops.findIndex((o) => o.op === 'commit');
  const edited = withOps(schedule, 1, (ops) => ops.toSpliced(commit, 0, ops[commit]));
  expect(verifySchedule(edited).map((d) => `${d.severity} ${d.code}`)).toEqual([
    'warning schedule/empty-commit',
  ]);
});

test('what is wrong everywhere is shown a few times and counted', () => {
  const schedule = schedules[2];
  const edited = {
    ...schedule,
    programs: schedule.programs.map((p) => ({ ...p, ops: p.ops.filter((o) => o.op !== 'send') })),
  };
  const found = verifySchedule(edited).filter((d) => d.severity === 'error');
  const sends = schedule.programs.flatMap((p) => p.ops.filter((o) => o.op === 'send')).length;
  expect(found.length).toBeLessThanOrEqual(8);
  expect(found.at(-1)?.notes?.at(-1)?.message).toBe(`${sends - found.length} more like this are not shown`);
});

test('unexpected numbers are findings, never exceptions', () => {
  const [schedule] = schedules;
  for (const n of [-1, 0.5, NaN, Infinity, 1e15])
    for (const [rank, { ops }] of schedule.programs.entries())
      for (const [index, op] of ops.entries()) {
        const edits =
          op.op === 'commit'
            ? []
            : op.op === 'overlap'
              ? [{ ...op, forward: { ...op.forward, microBatch: n } }]
              : [
                  { ...op, chunk: { ...op.chunk, microBatch: n } },
                  { ...op, chunk: { ...op.chunk, direction: n } },
                  ...('peer' in op ? [{ ...op, peer: n }] : []),
                ];
        for (const edited of edits)
          expect(verifySchedule(withOps(schedule, rank, (o) => o.with(index, edited)))).not.toEqual([]);
      }
  for (const microBatches of [-1, 0.5, NaN, Infinity, 1e15])
    expect(verifySchedule({ ...schedule, microBatches })).not.toEqual([]);
  for (const bound of [-1, 0, NaN]) {
    expect(verifySchedule({ ...schedule, bounds: { activations: bound, stages: 2 } })).not.toEqual([]);
    expect(verifySchedule({ ...schedule, bounds: { activations: 9, stages: bound } })).not.toEqual([]);
  }
});

test('messages as they are read', () => {
  const texts = [
    'weightsOutOfOrder',
    'crossedSends',
    'eachStartsWithTheOthers',
    'bothSendFirst',
    'tooFewActivations',
  ]
    .map(
      (name) =>
        verifySchedule((corruptions as Record<string, Corruption>)[name](schedules[1], 0)!.schedule)[0],
    )
    .map((d) => renderDiagnostic(d, { sourceOf: () => undefined }));
  expect(texts.join('\n\n')).toMatchSnapshot();
});
