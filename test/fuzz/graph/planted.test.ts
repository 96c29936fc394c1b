// The fuzzer can fail: mistakes planted in passes and in kernels are found, and shrunk to a module of an op or two.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { countOps, type Pass } from '../../../compiler/pass.ts';
import { inferencePasses } from '../../../compiler/pipeline.ts';
import type { Op } from '../../../ir/module.ts';
import { parseModule, printModule } from '../../../ir/text/index.ts';
import { campaign, showFailure, type Failure } from './campaign.ts';
import { check, type CheckOptions } from './check.ts';

const core = existsSync(join(import.meta.dirname, '../../../build/native/dsvc_core.node'));

/** The pipeline with a pass that changes ops, before kernels are made. */
const withPass = (change: (op: Op) => Op): readonly Pass[] => {
  const wrong: Pass = {
    name: 'wrong',
    doc: 'a mistake',
    run: (m) => ({ ...m, functions: m.functions.map((f) => ({ ...f, body: f.body.map(change) })) }),
  };
  return inferencePasses().flatMap((p) => (p.name === 'canonicalize' ? [p, wrong] : [p]));
};

/** The first failure among the first seeds. */
function found(options: CheckOptions): Failure {
  for (let seed = 0; seed < 200; seed++) {
    const [failure] = campaign(seed, 1, options).failures;
    if (failure) return failure;
  }
  throw new Error('200 random modules do not show it');
}

const planted: readonly (readonly [string, CheckOptions, Failure['finding']['stage'], RegExp, number])[] = [
  [
    'a pass that swaps the operands of sub',
    {
      passes: withPass((op) =>
        op.op === 'sub' ? { ...op, operands: [op.operands[1], op.operands[0]] } : op,
      ),
    },
    ...(['passes', / = sub /, 2] as const),
  ],
  [
    'a lowering that takes the smaller for the larger',
    { rewrite: (ptx) => ptx.replace(/\bmax\.NaN\.f32/g, 'min.NaN.f32') },
    ...(['values', / = (max|max_over|softmax|exp|quantize|\w*_quantize) /, 4] as const),
  ],
  [
    'a lowering whose products are rounded toward zero',
    { rewrite: (ptx) => ptx.replace(/\bmul\.rn\.f32/g, 'mul.rz.f32') },
    ...(['values', / = \w+ /, 4] as const),
  ],
];

describe.skipIf(!core)('planted mistakes', () => {
  test.each(planted)('%s', (_, options, stage, op, ops) => {
    const failure = found(options);
    expect(failure.finding.stage).toBe(stage);
    const text = printModule(failure.module);
    expect(text).toMatch(op);
    expect(countOps(failure.module), text).toBeLessThanOrEqual(ops);
    // What is printed replays it, and without the mistake nothing is wrong.
    const again = parseModule(text, 'small.dsir').module!;
    expect(check(again, options).finding?.stage).toBe(stage);
    expect(check(again).finding).toBeNull();
    expect(showFailure(failure)).toContain(`DSVC_FUZZ_SEED=${failure.seed}`);
  });
});
