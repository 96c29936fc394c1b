// `dsvc run --entry gradients`, as a user gets it: the loss and every gradient of the published code, under its names.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dsvc, golden } from './process.ts';
import { distance, names, read } from './tensors.ts';

let dir: string;
const model = join(golden, 'tiny_noqlora');
const flags = ['--weights', model, '--input', join(model, 'activations.safetensors'), '--output', 'g.st'];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'dsvc-gradients-'));
  const { code, stderr } = await dsvc(['import', join(model, 'config.json'), '-o', 'm.ts'], { cwd: dir });
  expect([code, stderr]).toEqual([0, expect.any(String)]);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test('loss and gradients of every parameter, buffers left out', async () => {
  const { code, stderr } = await dsvc(['run', 'm.ts', '--entry', 'gradients', ...flags], { cwd: dir });
  expect([code, stderr]).toEqual([0, expect.stringContaining('g.st')]);
  const wanted = join(model, 'grads.safetensors');
  const found = join(dir, 'g.st');
  expect(names(found).sort()).toEqual(['loss', ...names(wanted)].sort());
  for (const name of names(wanted))
    expect(distance(read(found, name), read(wanted, name)), name).toBeLessThan(1e-4);
  const loss = read(join(model, 'activations.safetensors'), 'loss').data[0];
  expect(Math.abs(read(found, 'loss').data[0] - loss)).toBeLessThan(1e-5);
});

test.each([
  [['--device', 'emulator'], 'reference interpreter'],
  [['--steps', '2'], '--entry decode'],
])('%j is refused', async (more, told) => {
  const { code, stderr } = await dsvc(['run', 'm.ts', '--entry', 'gradients', ...flags, ...more], {
    cwd: dir,
  });
  expect([code, stderr]).toEqual([2, expect.stringContaining(told)]);
});
