// Wrong inputs of every kind, as users have them. For each: the code, the place, the fix and the exit code, no stack
// trace, nothing on standard output, nothing left behind; and the whole text, to be read when it changes.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { dsvc, filesIn, folderWith, root, type Outcome } from '../process.ts';
import type { BadInput } from './case.ts';
import { checkpointCases } from './checkpoint.cases.ts';
import { configCases } from './config.cases.ts';
import { emuCases } from './emu.cases.ts';
import { flagCases } from './flags.cases.ts';
import { irCases } from './ir.cases.ts';
import { modelCases } from './model.cases.ts';
import { outputCases } from './output.cases.ts';
import { scheduleCases } from './schedule.cases.ts';

interface Tried extends Outcome {
  readonly before: readonly string[];
  readonly after: readonly string[];
}

async function attempt({ files = {}, args, stdin }: BadInput): Promise<Tried> {
  const { dir, remove } = folderWith(files);
  try {
    const before = filesIn(dir);
    const outcome = await dsvc(args, { cwd: dir, ...(stdin === undefined ? {} : { stdin }) });
    const stderr = outcome.stderr.replaceAll(dir, 'DIR').replace(/ in \d+\.\d\d s$/m, ' in T s');
    return { ...outcome, stderr, before, after: filesIn(dir) };
  } finally {
    remove();
  }
}

const areas: Readonly<Record<string, readonly BadInput[]>> = {
  flags: flagCases,
  models: modelCases,
  configs: configCases,
  emulator: emuCases,
  IR: irCases,
  checkpoints: checkpointCases,
  outputs: outputCases,
  schedules: scheduleCases,
};

// Without the C++ core `dsvc emu` says only that it is missing.
const core = existsSync(join(root, 'build/native/dsvc_core.node'));
const tested = Object.entries(areas).filter(([area]) => core || area !== 'emulator');

describe.each(tested)('%s', (_, cases) => {
  const tried = new Map<string, Tried>();
  // All at once: processes wait for cores, not tests for each other.
  beforeAll(async () => {
    await Promise.all(cases.map(async (c) => tried.set(c.name, await attempt(c))));
  }, 120_000);

  test.each(cases)('$name', (c) => {
    const { code, stdout, stderr, before, after } = tried.get(c.name)!;
    for (const wanted of c.codes) expect(stderr).toContain(`[${wanted}]`);
    for (const place of c.at ?? []) expect(stderr).toContain(place);
    if (!c.noFix) expect(stderr).toMatch(/^fix: /m);
    expect(stderr).not.toMatch(/^\s+at .*[(:]\d+:\d+\)?$/m);
    expect(stderr).not.toContain('    at ');
    expect(stderr).not.toContain('internal/');
    expect([code, stdout, after]).toEqual([c.exit, '', before]);
    expect(stderr).toMatchSnapshot();
  });

  test('every case has a name of its own', () => {
    expect(tried.size).toBe(cases.length);
  });
});

test('--diagnostics=json gives the same, one object a line', async () => {
  const { dir, remove } = folderWith({
    'm.ts': modelCases.find((c) => c.name === 'several mistakes at once')!.files!['m.ts'],
  });
  try {
    const { code, stderr } = await dsvc(['check', 'm.ts', '--diagnostics=json'], { cwd: dir });
    const objects = stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(code).toBe(1);
    const axes = objects.find((o) => o.code === 'dsl/axes-differ')!;
    expect(axes).toMatchObject({ severity: 'error', file: 'm.ts', line: 9, column: 15 });
    expect(axes.endColumn).toBeGreaterThan(15);
    expect(axes.message).toBeTypeOf('string');
    expect(axes.fix).toBeTypeOf('string');
  } finally {
    remove();
  }
});
