import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import * as dsl from '../../dsl/index.ts';
import { loadModel } from '../../dsl/load.ts';
import { traceModel } from '../../dsl/trace-model.ts';
import { DiagnosticError } from '../../ir/diagnostics.ts';
import type { Module } from '../../ir/module.ts';
import type { Schedule } from '../../ir/schedule.ts';
import { runPipeline } from '../pass.ts';
import { specialize } from '../passes/specialize.ts';
import { scheduleDualpipe } from '../passes/schedule-dualpipe.ts';
import { scheduleOfModel } from './from-model.ts';
import { verifySchedule } from './verify.ts';

const traced = async (example: string, settings: Record<string, string> = {}): Promise<Module> => {
  const path = join(import.meta.dirname, '../../examples', `${example}.ts`);
  const { model } = await loadModel(path, { settings, dslNamespace: dsl });
  return traceModel(model, { precision: 'fp8', settings }).module;
};

const shape = ({ layers, stages }: Schedule): string =>
  [
    '',
    ...layers.map(
      (l) =>
        `${l.name}: ${l.phases.map((p) => `${p.name}${p.stream === 'comm' ? ' (comm)' : ''}${p.weights ? ' +W' : ''}`).join(', ')}`,
    ),
    ...stages.map(
      (s, i) =>
        `${i}: ${s.layers.map((l) => (l.count > 1 ? `${l.layer} x ${l.count}` : l.layer)).join(', ')}`,
    ),
    '',
  ].join('\n');

test('DeepSeek-V3: layers cut at dispatch and combine, 61 of them over 16 stages', async () => {
  const schedule = scheduleOfModel(await traced('deepseek-v3'));
  expect(shape(schedule)).toMatchInlineSnapshot(`
    "
    embedding: layer +W
    dense_layer: layer +W
    moe_layer: attention +W, dispatch (comm), mlp +W, combine (comm)
    head: layer +W
    0: embedding, dense_layer x 3
    1: moe_layer x 4
    2: moe_layer x 4
    3: moe_layer x 4
    4: moe_layer x 4
    5: moe_layer x 4
    6: moe_layer x 4
    7: moe_layer x 4
    8: moe_layer x 4
    9: moe_layer x 4
    10: moe_layer x 4
    11: moe_layer x 4
    12: moe_layer x 4
    13: moe_layer x 4
    14: moe_layer x 3
    15: moe_layer x 3, head
    "
  `);
  expect([schedule.kind, schedule.programs.length, schedule.microBatches, schedule.sms]).toEqual([
    'dualpipe',
    16,
    120,
    { compute: 112, comm: 20 },
  ]);
  expect(verifySchedule(schedule)).toEqual([]);
});

test('a specialized module has the same stages', async () => {
  const module = await traced('tiny');
  const { module: specialized } = runPipeline(module, [specialize], {
    target: null,
    disabled: new Set(),
    verifyEach: true,
  });
  const [before, after] = [scheduleOfModel(module), scheduleOfModel(specialized)];
  expect(after.stages.map((s) => s.layers.map((l) => l.count))).toEqual(
    before.stages.map((s) => s.layers.map((l) => l.count)),
  );
  expect(after.layers.map((l) => l.phases)).toEqual(before.layers.map((l) => l.phases));
});

test('every example can be scheduled in every way', async () => {
  for (const example of ['tiny', 'dense-gqa', 'differential', 'deepseek-v2-lite'])
    for (const kind of ['dualpipe', 'dualpipev', 'zb1p', '1f1b']) {
      // DualPipeV has two stages a rank.
      const ranks = kind === 'dualpipev' ? 2 : 4;
      const schedule = scheduleOfModel(await traced(example), { kind, ranks, microBatches: 8 });
      expect(verifySchedule(schedule), `${example} ${kind}`).toEqual([]);
    }
});

describe('the pass', () => {
  const run = (module: Module): Module =>
    runPipeline(module, [scheduleDualpipe], { target: null, disabled: new Set(), verifyEach: true }).module;

  test('fires where a pipeline is declared, once', async () => {
    const module = run(await traced('tiny'));
    expect(module.schedules.map((s) => `${s.name} ${s.kind}`)).toEqual(['train dualpipe']);
    expect(run(module).schedules).toHaveLength(1);
  });

  test('holds back where none is', async () => {
    const module = await traced('dense-gqa');
    expect(run(module)).toBe(module);
  });

  test('takes what --set says', async () => {
    const { programs, microBatches } = run(await traced('tiny', { pp: '2', micro_batches: '6' }))
      .schedules[0];
    expect([programs.length, microBatches]).toEqual([2, 6]);
  });
});

describe('what cannot be scheduled', () => {
  const refusal = (body: () => unknown): string => {
    try {
      body();
    } catch (e) {
      if (e instanceof DiagnosticError)
        return e.diagnostics.map((d) => `${d.code}: ${d.message}; ${d.fix}`).join('\n');
      throw e;
    }
    return 'accepted';
  };
  test('more stages than layers, odd ranks, nothing declared, nothing repeated', async () => {
    const tiny = await traced('tiny');
    const dense = await traced('dense-gqa');
    const flat: Module = { ...dense, functions: dense.functions.filter((f) => f.name === 'nothing') };
    expect(
      [
        refusal(() => scheduleOfModel(tiny, { ranks: 16, microBatches: 32 })),
        refusal(() => scheduleOfModel(tiny, { ranks: 3 })),
        refusal(() => scheduleOfModel(tiny, { microBatches: 4 })),
        refusal(() => scheduleOfModel(dense)),
        refusal(() => scheduleOfModel(dense, { kind: 'zb1p', ranks: 2 })),
        refusal(() => scheduleOfModel(flat, { kind: 'zb1p', ranks: 2, microBatches: 4 })),
      ].join('\n'),
    ).toMatchInlineSnapshot(`
      "schedule/few-layers: 8 layers cannot fill 16 stages; use at most 8 stages
      schedule/bad-size: DualPipe mirrors the stages over the ranks, so it takes an even number of them, not 3; use 4 ranks
      schedule/bad-size: DualPipe takes at least 2 micro-batches for each rank: 8 for 4 ranks, not 4; use 8 micro-batches or more
      schedule/no-pipeline: model dense_gqa declares no pipeline, and --kind and --ranks and --micro-batches are not given; declare deployment: [parallel({ pp: 16, pipeline: dualPipe({ microBatches: 120 }) })], or say --kind, --ranks and --micro-batches
      schedule/no-pipeline: model dense_gqa declares no pipeline, and --micro-batches is not given; declare deployment: [parallel({ pp: 16, pipeline: dualPipe({ microBatches: 120 }) })], or say --kind, --ranks and --micro-batches
      schedule/no-layers: module dense_gqa has no entry whose layers could be scheduled; give the IR of a model, traced or specialized"
    `);
  });
});
