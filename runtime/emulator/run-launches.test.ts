// Against a core that is written here: what is asked of it, and what becomes of its answers.
import { describe, expect, test } from 'vitest';
import type { Core, CoreError, KernelInfo, LaunchRequest, Report } from './device.ts';
import { parseLaunchFile } from './launch-file.ts';
import { LaunchError } from './launch-problem.ts';
import { runLaunches } from './run-launches.ts';

const kernel = (name: string, change: Partial<KernelInfo> = {}): KernelInfo => ({
  name,
  parameters: [
    { name: `${name}_param_0`, size: 8, align: 8, offset: 0 },
    { name: `${name}_param_1`, size: 4, align: 4, offset: 8 },
  ],
  parameterBytes: 12,
  staticShared: 1024,
  registers: 32,
  reqntid: [0, 0, 0],
  maxntid: [0, 0, 0],
  minnctapersm: 0,
  maxnreg: 0,
  reqnctapercluster: [0, 0, 0],
  ...change,
});

const report = (code: string, severity: Report['severity'] = 'error'): Report => ({
  code,
  severity,
  message: 'something',
  fix: 'do something',
  count: 1,
  others: [],
  kernel: 'add',
  block: [0, 0, 0],
  warp: 0,
  lane: 0,
  ptxLine: 1,
  ptxColumn: 1,
  locFile: '',
  locLine: 0,
  locColumn: 0,
  what: '',
});

/** A core whose kernels add their second parameter to the first four bytes of their first. */
class Simple {
  readonly memory = new Map<bigint, Uint8Array>();
  readonly requests: LaunchRequest[] = [];
  readonly kernels: readonly KernelInfo[];
  readonly reports: readonly (readonly Report[])[];
  refusal: CoreError | undefined;
  readonly lacking = new Map<bigint, readonly Report[]>();
  #next = 0x1000n;

  constructor(kernels: readonly KernelInfo[], reports: readonly (readonly Report[])[] = []) {
    this.kernels = kernels;
    this.reports = reports;
  }
  createDevice(): unknown {
    return this;
  }
  loadProgram(): unknown {
    return this;
  }
  describeProgram(): { kernels: readonly KernelInfo[] } {
    return { kernels: this.kernels };
  }
  allocate(_: unknown, bytes: number): bigint {
    const at = this.#next;
    this.memory.set(at, new Uint8Array(bytes));
    this.#next += 0x1000n;
    return at;
  }
  write(_: unknown, at: bigint, bytes: Uint8Array): void {
    this.memory.get(at)!.set(bytes);
  }
  read(_: unknown, at: bigint, bytes: number): Uint8Array {
    return this.memory.get(at)!.slice(0, bytes);
  }
  markOutput(): void {}
  outputReports(_: unknown, at: bigint): readonly Report[] {
    return this.lacking.get(at) ?? [];
  }
  launch(_: unknown, __: unknown, request: LaunchRequest): unknown {
    if (this.refusal) throw this.refusal;
    const view = new DataView(request.parameterBlock.buffer);
    const target = new DataView(this.memory.get(view.getBigUint64(0, true))!.buffer);
    target.setInt32(0, target.getInt32(0, true) + view.getInt32(8, true), true);
    const reports = this.reports[this.requests.length] ?? [];
    this.requests.push(request);
    return { reports, statistics: { warpInstructions: 1, seconds: 0 } };
  }
}

const base = {
  buffers: { x: { dtype: 'I32', shape: [2], fill: 5 }, y: { dtype: 'U8', shape: [4], hex: '01020304' } },
  outputs: ['x', 'y'],
};
const launch = (name: string, by: number, change: object = {}): object => ({
  kernel: name,
  grid: [1, 1, 1],
  block: [32, 1, 1],
  parameters: [{ buffer: 'x' }, { s32: by }],
  ...change,
});
const run = (core: Simple, file: object): ReturnType<typeof runLaunches> =>
  runLaunches(core as unknown as Core, parseLaunchFile(JSON.stringify(file)), new Uint8Array(0), '.', {});
const told = (core: Simple, file: object): string[] => {
  try {
    run(core, file);
  } catch (error) {
    if (error instanceof LaunchError) return error.problems.map((p) => `${p.code}: ${p.message}; ${p.fix}`);
    throw error;
  }
  return [];
};

test('launches run in order over the same buffers', () => {
  const core = new Simple([kernel('add'), kernel('more')]);
  const { launches, outputs } = run(core, { ...base, launches: [launch('add', 10), launch('more', -3)] });
  expect(launches.map((l) => l.kernel)).toEqual(['add', 'more']);
  const [x, y] = outputs!.map((o) => ({ ...o, data: (o.data as () => Uint8Array)() }));
  expect(x).toMatchObject({ name: 'x', dtype: 'I32', shape: [2] });
  expect(new Int32Array(x.data.buffer)).toEqual(Int32Array.of(12, 5));
  expect(y.data).toEqual(Uint8Array.of(1, 2, 3, 4));
  expect(core.requests[0]).toMatchObject({ grid: [1, 1, 1], block: [32, 1, 1], cluster: [0, 0, 0] });
});

test('a cluster that the file gives is asked for', () => {
  const core = new Simple([kernel('add')]);
  run(core, { ...base, ...launch('add', 1, { grid: [4, 1, 1], cluster: [2, 1, 1] }) });
  run(core, { ...base, ...launch('add', 1, { grid: [4, 1, 1], cluster: [1, 1, 1] }) });
  expect(core.requests.map((r) => r.cluster)).toEqual([
    [2, 1, 1],
    [0, 0, 0],
  ]);
});

describe('outputs', () => {
  const both = { ...base, launches: [launch('add', 1), launch('add', 2)] };
  test('stay after hazards that leave a result', () => {
    // No such code exists: what is listed as no fatal check is in checks.ts. A warning of any code is none either.
    const core = new Simple([kernel('add')], [[report('emu/out-of-bounds', 'warning')]]);
    const { launches, outputs } = run(core, both);
    expect([launches.length, outputs?.length]).toEqual([2, 2]);
  });
  test.each(['emu/out-of-bounds', 'emu/deadlock', 'emu/too-long', 'emu/of-a-newer-core'])(
    'are none after %s, and no further launch runs',
    (code) => {
      const core = new Simple([kernel('add')], [[report(code)]]);
      const { launches, outputs } = run(core, both);
      expect([launches.length, outputs, core.requests.length]).toEqual([1, null, 1]);
      expect(launches[0].reports).toHaveLength(1);
    },
  );
});

test('what outputs lack is told after the last launch', () => {
  const core = new Simple([kernel('add')], [[report('emu/wgmma-missing-fence')]]);
  for (const at of [0x1000n, 0x2000n]) core.lacking.set(at, [report(`emu/of-${at}`)]);
  const { launches } = run(core, { ...base, outputs: ['x'], launches: [launch('add', 1), launch('add', 2)] });
  expect(launches.map((l) => l.reports.map((r) => r.code))).toEqual([
    ['emu/wgmma-missing-fence'],
    ['emu/of-4096'],
  ]);
});

describe('what does not fit the kernel', () => {
  const cases: [string, KernelInfo, object][] = [
    ['another name', kernel('sub'), launch('add', 1)],
    ['too few parameters', kernel('add'), launch('add', 1, { parameters: [{ buffer: 'x' }] })],
    ['.reqntid', kernel('add', { reqntid: [128, 1, 1] }), launch('add', 1)],
    ['.reqntid of one dimension', kernel('add', { reqntid: [128, 0, 0] }), launch('add', 1)],
    ['.maxntid', kernel('add', { maxntid: [16, 1, 1] }), launch('add', 1)],
    [
      '.reqnctapercluster',
      kernel('add', { reqnctapercluster: [4, 1, 1] }),
      launch('add', 1, { grid: [4, 1, 1], cluster: [2, 1, 1] }),
    ],
    ['static shared memory', kernel('add', { staticShared: 49_153 }), launch('add', 1)],
    [
      'shared memory',
      kernel('add', { staticShared: 40_000 }),
      launch('add', 1, { dynamicSharedBytes: 200_000 }),
    ],
  ];
  test.each(cases)('%s', (_, info, file) => {
    const core = new Simple([info]);
    const found = told(core, { ...base, ...file });
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchSnapshot();
    expect(core.requests).toEqual([]);
  });

  test('what fits is not refused', () => {
    const info = kernel('add', { reqntid: [32, 1, 1], maxntid: [4, 8, 1], reqnctapercluster: [2, 1, 1] });
    expect(
      told(new Simple([info]), { ...base, ...launch('add', 1, { grid: [2, 1, 1], cluster: [2, 1, 1] }) }),
    ).toEqual([]);
    expect(told(new Simple([info]), { ...base, ...launch('add', 1, { grid: [2, 1, 1] }) })).toEqual([]);
  });

  test('what the core refuses is told at the launch; a mistake of the PTX is passed on', () => {
    const core = new Simple([kernel('add')]);
    core.refusal = Object.assign(new Error('too large'), { code: 'emu/launch-contract' });
    expect(told(core, { ...base, ...launch('add', 1) })).toEqual([
      'emu/launch-contract: too large; change the launch or the kernel so that one fits the other',
    ]);
    core.refusal = Object.assign(new Error('what is this'), { code: 'emu/unsupported-instruction', line: 4 });
    expect(() => told(core, { ...base, ...launch('add', 1) })).toThrow(core.refusal);
  });
});
