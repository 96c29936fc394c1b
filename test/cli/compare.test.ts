// `dsvc run --device emulator --compare ref`, and the flags that run shares with emu: a bundle that is right, and bundles
// with one mistake in them.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Plan } from '../../compiler/plan.ts';
import type { ComparedLaunch } from '../../compiler/cli/compare/index.ts';
import { hasNative } from '../../runtime/native.ts';
import { writeSafetensors } from '../../runtime/safetensors.ts';
import { dsvc, golden, type Outcome } from './process.ts';
import { i64 } from './small.ts';
import { read } from './tensors.ts';

if (!hasNative()) console.warn('the C++ core is not built: tests of dsvc run --compare are skipped');

/** Layer 0 is dense, 1 and 2 have experts. */
const weights = join(golden, 'tiny_base');
let dir: string;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'dsvc-compare-'));
  const ids = read(join(weights, 'activations.safetensors'), 'input_ids');
  writeSafetensors(join(dir, 'in'), [i64('input_ids', [1, 6], [...ids.data.slice(0, 6)])]);
  await ok('import', join(weights, 'config.json'), '-o', 'm.ts');
  await ok('compile', 'm.ts', '--precision', 'bf16', '--emit', 'ir,ptx,bundle', '-o', 'right');
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function ok(...args: string[]): Promise<void> {
  const { code, stderr } = await dsvc(args, { cwd: dir });
  if (code !== 0) throw new Error(`dsvc ${args.join(' ')} gave ${code}:\n${stderr}`);
}

const run = (bundle: string, ...flags: string[]): Promise<Outcome> =>
  dsvc(['run', bundle, '--weights', weights, '--input', 'in', '--output', `${bundle}.out`, ...flags], {
    cwd: dir,
  });
const onEmulator = (bundle: string, ...flags: string[]): Promise<Outcome> =>
  run(bundle, '--device', 'emulator', ...flags);

/** A copy of the bundle with one of its files changed; fails when the change changes nothing. */
function spoiled(name: string, file: string, change: (text: string) => string, from = 'right'): string {
  cpSync(join(dir, from), join(dir, name), { recursive: true });
  const path = join(dir, name, file);
  const before = readFileSync(path, 'utf8');
  const after = change(before);
  expect(after).not.toBe(before);
  writeFileSync(path, after);
  return name;
}

const planOf = (text: string): Plan => JSON.parse(text) as Plan;

/** The launch of a kernel whose name begins so, in the function of the layers with experts: its number in a call. */
function kernelOf(prefix: string): { readonly name: string; readonly launch: number } {
  const { functions } = planOf(readFileSync(join(dir, 'right/plan/rank0.json'), 'utf8'));
  const entry = functions.find((f) => f.name === 'prefill')!;
  const stepsOf = (name: string) => functions.find((f) => f.name === name)!.steps;
  const launches = entry.steps.flatMap((s) => {
    if (s.launch !== undefined) return [s.launch];
    const { function: name, start, stop } = s.repeat!;
    return Array.from({ length: stop - start }, () => stepsOf(name).map((x) => x.launch!)).flat();
  });
  const repeated = entry.steps.filter((s) => s.repeat).at(-1)!.repeat!;
  const step = stepsOf(repeated.function).findLast((s) => s.launch!.startsWith(prefix))!;
  return { name: step.launch!, launch: launches.indexOf(step.launch!) + 1 };
}

/** Lines of the table: number, layer, ok, and the kernel. */
const rowsOf = (stderr: string): readonly (readonly [string, string, string, string])[] =>
  [...stderr.matchAll(/^ +(\d+) +(-|\d+) +(ok|WRONG|STRAYS) .* (\w+_[0-9a-f]{8})\b/gm)].map(
    (m) => [m[1], m[2], m[3], m[4]] as const,
  );

describe.skipIf(!hasNative())('--compare ref', () => {
  test('a bundle that is right: a line for every launch, all ok', async () => {
    const { code, stderr, stdout } = await onEmulator('right', '--compare', 'ref');
    expect([code, stdout]).toEqual([0, '']);
    const rows = rowsOf(stderr);
    expect(rows.length).toBeGreaterThan(60);
    expect(rows.map(([n]) => Number(n))).toEqual(rows.map((_, i) => i + 1));
    expect(rows.every(([, , verdict]) => verdict === 'ok')).toBe(true);
    expect(stderr).toContain('call 1: @prefill');
    expect(stderr).toMatch(/ rms_norm_[0-9a-f]{8} {2}m\.ts:\d+:\d+-\d+$/m);
  });

  test('decode: every call of both entries, on caches of its own', async () => {
    const { code, stderr } = await onEmulator(
      'right',
      '--compare',
      'ref',
      '--entry',
      'decode',
      '--steps',
      '2',
    );
    expect(code).toBe(0);
    expect([...stderr.matchAll(/^call (\d): @(\w+)$/gm)].map((m) => `${m[1]} ${m[2]}`)).toEqual([
      '1 prefill',
      '2 decode',
      '3 decode',
    ]);
    expect(rowsOf(stderr).every(([, , verdict]) => verdict === 'ok')).toBe(true);
  });

  test('an add that subtracts, in the middle layer: the launch is named, and what follows is not blamed', async () => {
    const { name, launch } = kernelOf('add_');
    const wrong = spoiled('subtracts', `kernels/${name}.ptx`, (ptx) => {
      // Addresses are added as integers.
      expect(ptx).toMatch(/add\.(rn\.)?f32/);
      return ptx.replaceAll(/add\.(rn\.)?f32/g, 'sub.$1f32');
    });
    const { code, stderr } = await onEmulator(wrong, '--compare', 'ref');
    expect(code).toBe(1);
    expect(stderr).toMatch(
      new RegExp(
        `^error\\[compare/kernel-differs\\]: kernel ${name} does not compute what the reference does: ` +
          `launch ${launch} of call 1 \\(@prefill, layer 1\\) is the first to leave its tolerance`,
        'm',
      ),
    );
    // At the author's line, with the numbers.
    expect(stderr).toMatch(/^ {2}--> m\.ts:\d+:\d+$/m);
    expect(stderr).toMatch(/^note: %\w+\[0, \d+\] is \S+, should be \S+$/m);
    const rows = rowsOf(stderr);
    expect(rows.filter(([, , v]) => v !== 'ok')).toEqual([
      [`${launch}`, '1', 'WRONG', name],
      [expect.any(String), '2', 'WRONG', name],
    ]);
  });

  test('a launch that reads another place: right on its inputs, but not the run', async () => {
    const { name, launch } = kernelOf('add_');
    const wrong = spoiled('elsewhere', 'plan/rank0.json', (text) => {
      const plan = planOf(text);
      const steps = plan.functions.flatMap((f) => f.steps).filter((s) => s.launch === name);
      for (const s of steps) (s.operands as unknown[])[0] = s.operands[1];
      return JSON.stringify(plan);
    });
    const { code, stderr } = await onEmulator(wrong, '--compare', 'ref');
    expect(code).toBe(1);
    expect(stderr).toMatch(
      new RegExp(
        `^error\\[compare/run-differs\\]: launch ${launch} of call 1 \\(@prefill, layer 1\\), kernel ${name}`,
        'm',
      ),
    );
    expect(rowsOf(stderr).filter(([, , v]) => v !== 'ok')).toEqual([[`${launch}`, '1', 'STRAYS', name]]);
  });

  test('another choice of experts is a difference', async () => {
    const { name } = kernelOf('route_');
    const wrong = spoiled('misroutes', `kernels/${name}.ptx`, (ptx) =>
      // Scores with the other sign: the least likely experts.
      ptx.replace(/(add\.(?:rn\.)?f32 )(%\w+), (%\w+), (%\w+);/, '$1$2, $3, $4;\n  neg.f32 $2, $2;'),
    );
    const { code, stderr } = await onEmulator(wrong, '--compare', 'ref');
    expect(code).toBe(1);
    expect(stderr).toContain(`error[compare/kernel-differs]: kernel ${name} `);
    expect(stderr).toMatch(/^note: %\w+\.indices is /m);
  });

  test('a launch that ends the run: what was wrong before it is told too', async () => {
    const { name } = kernelOf('add_');
    const plan = planOf(readFileSync(join(dir, 'right/plan/rank0.json'), 'utf8'));
    const last = plan.functions.find((f) => f.name === 'prefill')!.steps.at(-1)!.launch!;
    const first = spoiled('subtracts-first', `kernels/${name}.ptx`, (ptx) =>
      ptx.replaceAll(/add\.(rn\.)?f32/g, 'sub.$1f32'),
    );
    const wrong = spoiled(
      'then-leaves',
      `kernels/${last}.ptx`,
      (ptx) => ptx.replaceAll(/(st\.global\S* \[%\w+)(\+\d+)?\]/g, '$1+1073741824]'),
      first,
    );
    const { code, stderr } = await onEmulator(wrong, '--compare', 'ref');
    expect(code).toBe(1);
    const errors = [...stderr.matchAll(/^error\[(\S+)\]: .*$/gm)].map((m) => m[1]);
    expect(errors.slice(0, 2)).toEqual(['compare/kernel-differs', 'emu/out-of-bounds']);
    expect(stderr).toContain(`kernel ${name} does not compute`);
    expect(stderr).toContain(`--> ${last}.ptx:`);
  });

  test('--diagnostics=json: an object for every launch, then the error', async () => {
    const { name } = kernelOf('add_');
    const wrong = spoiled('subtracts-json', `kernels/${name}.ptx`, (ptx) =>
      ptx.replaceAll(/add\.(rn\.)?f32/g, 'sub.$1f32'),
    );
    const { code, stderr } = await onEmulator(wrong, '--compare', 'ref', '--diagnostics=json');
    expect(code).toBe(1);
    const lines = stderr
      .trim()
      .split('\n')
      .map((l) => JSON.parse(l) as { code: string });
    expect(lines.at(-1)!.code).toBe('compare/kernel-differs');
    const rows = lines.slice(0, -1) as unknown as ComparedLaunch[];
    expect(new Set(lines.slice(0, -1).map((l) => l.code))).toEqual(new Set(['compare/launch']));
    const first = rows.find((r) => r.verdict !== 'ok')!;
    expect(first).toMatchObject({ entry: 'prefill', call: 1, kernel: name, layer: 1, verdict: 'local' });
    expect(first.local!.relativeL2).toBeGreaterThan(0.1);
    expect(first.ops).toContain('add');
    expect(first.at.file).toBe('m.ts');
    const before = rows[rows.indexOf(first) - 1];
    expect(before.local!.relativeL2).toBeLessThan(0.01);
  });
});

describe.skipIf(!hasNative())('flags of the emulator', () => {
  test('--stats counts every launch, the same for the same seed; another seed gives the same results', async () => {
    const stats = (name: string) => JSON.parse(readFileSync(join(dir, name), 'utf8')) as Stats;
    interface Stats {
      readonly seed: number;
      readonly tensorCore: string;
      readonly launches: readonly {
        entry: string;
        kernel: string;
        layer: number | null;
        warpInstructions: number;
      }[];
    }
    const logits: string[] = [];
    for (const [name, seed] of [
      ['a', '3'],
      ['b', '3'],
      ['c', '4'],
    ]) {
      expect((await onEmulator('right', '--seed', seed, '--stats', name)).code).toBe(0);
      logits.push(readFileSync(join(dir, 'right.out'), 'hex'));
    }
    expect(stats('b')).toEqual(stats('a'));
    expect(stats('c').seed).toBe(4);
    expect(stats('a')).toMatchObject({ seed: 3, tensorCore: 'exact' });
    expect(stats('a').launches.length).toBeGreaterThan(60);
    expect(stats('a').launches.every((l) => l.entry === 'prefill' && l.warpInstructions > 0)).toBe(true);
    expect(logits[1]).toBe(logits[0]);
    expect(logits[2]).toBe(logits[0]);
  });

  test('--max-instructions ends the first launch that needs more', async () => {
    const { code, stderr } = await onEmulator('right', '--max-instructions', '10');
    expect([code, stderr]).toEqual([1, expect.stringContaining('error[emu/too-long]')]);
    expect(stderr).toMatch(/^note: launched for m\.ts:\d+/m);
  });

  test('what the core refuses is told at the kernel', async () => {
    const { name } = kernelOf('add_');
    const wrong = spoiled('refused', 'plan/kernels.json', (text) => {
      const kernels = JSON.parse(text) as { name: string; dynamicSharedBytes: number }[];
      kernels.find((k) => k.name === name)!.dynamicSharedBytes = 300_000;
      return JSON.stringify(kernels);
    });
    const { code, stderr } = await onEmulator(wrong);
    expect([code, stderr]).toEqual([1, expect.stringContaining('error[emu/launch-contract]')]);
    expect(stderr).toContain(name);
  });
});

test.each([
  [['--compare', 'ref'], 'usage/conflict', '--compare is for the emulator'],
  [['--seed', '1'], 'usage/conflict', '--seed is for the emulator'],
  [['--check', 'none'], 'usage/conflict', '--check is for the emulator'],
  [['--stats', 's'], 'usage/conflict', '--stats is for the emulator'],
  [['--device', 'emulator', '--compare', 'gpu'], 'usage/invalid-value', '--compare'],
  [['--device', 'emulator', '--check', 'deadlok'], 'usage/unknown-check', 'deadlock'],
  [['--device', 'emulator', '--stats', 'right.out'], 'usage/', 'right.out'],
])('%s is refused', async (flags, code, words) => {
  const outcome = await run('right', ...flags);
  expect([outcome.code, outcome.stderr]).toEqual([2, expect.stringContaining(`error[${code}`)]);
  expect(outcome.stderr).toContain(words);
});
