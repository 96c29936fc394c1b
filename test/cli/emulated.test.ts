// Whole models on the emulator, all checks on: prefill, then decode steps. The rest of the matrix: `npm run test:long`.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { hasNative } from '../../runtime/native.ts';
import { emulated, expectLogits, goldenModel } from './emulated.ts';

if (!hasNative()) console.warn('the C++ core is not built: whole models on the emulator are skipped');

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'dsvc-emulated-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe.skipIf(!hasNative())('prefill and decode', () => {
  test.each([
    ['tiny_base', 'f32'],
    ['tiny_noqlora', 'f32'],
    ['tiny_yarn', 'f32'],
    ['tiny_nonpow2', 'f32'],
    ['tiny_base', 'bf16'],
    ['tiny_yarn', 'bf16'],
    ['tiny_fp8', 'fp8'],
  ] as const)('%s in %s', async (name, precision) => {
    const model = await goldenModel(dir, name);
    expectLogits(await emulated(dir, model, precision), model.logits, precision);
  });
});
