// wgmma as an asynchronous operation: what it reads when, what waits guarantee, and every misuse that the core reports.
import { describe, expect, test } from 'vitest';
import { DeviceMemory, runPtx } from '../../test/support/ptx-run.ts';
import type { DeviceSettings } from './device.ts';
import {
  fragmentModule,
  Random,
  registers,
  runFragments,
  type FragmentKernel,
} from './testing/tensor-bench.ts';
import { fusedSum, wgmmaSum } from './testing/tensor-model.ts';
import { drawCode } from './testing/tensor-values.ts';

// A tile of 64 rows and one of 8 columns, 128 bytes of e4m3 each, swizzled by 128 bytes: four steps of K.
const sharedBytes = 0x4000;
const k = 128;
const swizzled = (row: number, column: number): number => row * 128 + (column ^ ((row & 7) << 4));
const descriptor = (address: number, step = 0): bigint =>
  BigInt((address + 32 * step) >> 4) | (1n << 16n) | (64n << 32n) | (1n << 62n);
const [aAt, bAt] = [0x400, 0x400 + 0x2000];

interface Tile {
  readonly a: readonly (readonly number[])[];
  readonly b: readonly (readonly number[])[];
}
const draw = (seed: number): Tile => {
  const r = new Random(seed);
  const rows = (n: number): number[][] =>
    Array.from({ length: n }, () => Array.from({ length: k }, () => drawCode(r, 'e4m3', 'alike')));
  return { a: rows(64), b: rows(8) };
};
const fillOf = ({ a, b }: Tile): Uint8Array => {
  const shared = new Uint8Array(sharedBytes);
  for (const [row, codes] of a.entries()) for (const [c, x] of codes.entries()) shared[swizzled(row, c)] = x;
  for (const [row, codes] of b.entries())
    for (const [c, x] of codes.entries()) shared[0x2000 + swizzled(row, c)] = x;
  return shared;
};
/** D of steps `from` up to `to`, chained from zero, in the accumulators' order [register][thread]. */
const chained = ({ a, b }: Tile, steps: number): number[] =>
  Array.from({ length: 4 * 128 }, (_, at) => {
    const [i, t] = [at >> 7, at & 127];
    const row = 16 * (t >> 5) + ((t & 31) >> 2) + 8 * (i >> 1);
    const column = 2 * (t & 3) + (i & 1);
    let sum = 0;
    for (let s = 0; s < steps; s++)
      sum = fusedSum(
        wgmmaSum('e4m3', 'e4m3', 'f32'),
        a[row].slice(32 * s, 32 * s + 32),
        b[column].slice(32 * s, 32 * s + 32),
        sum,
      );
    return sum;
  });

const tile = draw(1);
const setup = `mov.b64 %rd0, ${descriptor(aAt)}; mov.b64 %rd1, ${descriptor(bAt)};
${[0, 1, 2, 3].map((i) => `mov.b32 %o${i}, 0;`).join(' ')}
wgmma.fence.sync.aligned;`;
const product = (a = '%rd0', b = '%rd1', keep = '1', d = '{%o0, %o1, %o2, %o3}'): string =>
  `wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 ${d}, ${a}, ${b}, ${keep}, 1, 1;`;
const step = (s: number): string =>
  `mov.b64 %rd${2 + 2 * s}, ${descriptor(aAt, s)}; mov.b64 %rd${3 + 2 * s}, ${descriptor(bAt, s)};\n${product(`%rd${2 + 2 * s}`, `%rd${3 + 2 * s}`)}`;
const commit = 'wgmma.commit_group.sync.aligned;';
const wait = (n: number): string => `wgmma.wait_group.sync.aligned ${n};`;

const kernel = (body: string, change: Partial<FragmentKernel> = {}): FragmentKernel => ({
  threads: 128,
  inputs: 0,
  outputs: 4,
  sharedBytes,
  body,
  ...change,
});
const run = (
  body: string,
  settings: DeviceSettings = {},
  change: Partial<FragmentKernel> = {},
): ReturnType<typeof runFragments> =>
  runFragments(kernel(body, change), 1, new Uint32Array(0), fillOf(tile), settings);

describe('products in flight', () => {
  const seeds = [0, 1, 2, 3, 4, 5, 6, 7];

  test.each(seeds)('chained steps of K need no wait between them (seed %i)', (seed) => {
    const { outputs, reports } = run(
      `${setup}\n${[0, 1, 2, 3].map(step).join('\n')}\n${commit}\n${wait(0)}`,
      { seed },
    );
    expect(reports).toEqual([]);
    expect([...outputs]).toEqual(chained(tile, 4));
  });

  test.each(seeds)(
    'wait_group 1 leaves the newest group pending and completes the older one (seed %i)',
    (seed) => {
      // The second product goes to other registers.
      const { outputs, reports } = run(
        `${setup}\n${step(0)}\n${commit}\n${product('%rd0', '%rd1', '0', '{%f0, %f1, %f2, %f3}')}\n${commit}\n${wait(1)}
${[0, 1, 2, 3].map((i) => `mov.b32 %r${i}, %o${i};`).join('\n')}
${wait(0)}
${[0, 1, 2, 3].map((i) => `mov.b32 %o${i}, %r${i};`).join('\n')}`,
        { seed },
      );
      expect(reports).toEqual([]);
      expect([...outputs]).toEqual(chained(tile, 1));
    },
  );

  test('an empty group is complete at once; a product that is not committed is not waited for', () => {
    const { reports } = run(`${setup}\n${commit}\n${wait(0)}\n${step(0)}\n${wait(0)}\n${commit}\n${wait(0)}`);
    expect(reports).toEqual([]);
  });

  test('shared memory is read when the product runs: overwriting it before the wait changes the result', () => {
    // One word of B's first column, zeroed between commit and wait by one thread.
    const body = (before: string, after: string): string => `${setup}\n${step(0)}\n${commit}
setp.eq.u32 %p1, %tid, 0; mov.b32 %r10, 0;
${before}
${wait(0)}
${after}`;
    const zero = '@%p1 st.shared.b32 [%smem+8192], %r10;';
    const zeroed: Tile = {
      a: tile.a,
      b: tile.b.map((row, n) => (n === 0 ? [0, 0, 0, 0, ...row.slice(4)] : row)),
    };
    const results = new Set<string>();
    for (const seed of seeds) {
      expect([...run(body('', zero), { seed }).outputs]).toEqual(chained(tile, 1));
      results.add(run(body(zero, ''), { seed }).outputs.join());
    }
    expect(results).toContain(chained(zeroed, 1).join());
  });

  test('registers read before the wait hold what they held before', () => {
    const { outputs } =
      run(`${setup}\n${step(0)}\n${commit}\n${[0, 1, 2, 3].map((i) => `mov.b32 %r${i}, %o${i};`).join('\n')}
${wait(0)}\n${[0, 1, 2, 3].map((i) => `mov.b32 %o${i}, %r${i};`).join('\n')}`);
    expect([...outputs].every((x) => x === 0)).toBe(true);
  });

  test('the same seed gives the same launch', () => {
    const body = `${setup}\n${[0, 1, 2, 3].map(step).join('\n')}\n${commit}\n${wait(0)}`;
    const [one, two] = [run(body, { seed: 9, statistics: true }), run(body, { seed: 9, statistics: true })];
    expect([...one.outputs]).toEqual([...two.outputs]);
  });

  test('two warpgroups do not wait for each other', () => {
    const { outputs, reports } = run(
      `${setup}\n${step(0)}\n${commit}\n${wait(0)}`,
      { seed: 5 },
      { threads: 256 },
    );
    expect(reports).toEqual([]);
    const want = chained(tile, 1);
    const got = [...outputs].map(Number);
    for (const group of [0, 1]) expect(got.filter((_, at) => (at % 256) >> 7 === group)).toEqual(want);
  });
});

test('the older functional interpreter computes the same where sums are exact', () => {
  const r = new Random(12);
  const codes = [0x00, 0x38, 0x40, 0xb8, 0xc0, 0x44]; // 0, 1, 2, -1, -2, 3
  const rows = (n: number): number[][] =>
    Array.from({ length: n }, () => Array.from({ length: k }, () => codes[r.below(6)]));
  const small: Tile = { a: rows(64), b: rows(8) };
  // It reads one statement a line, and a predicate register for scale-d.
  const body =
    `setp.eq.u32 %p0, %tid, %tid;\n${setup}\n${[0, 1, 2, 3].map(step).join('\n')}\n${commit}\n${wait(0)}`
      .replaceAll('; ', ';\n')
      .replaceAll(', 1, 1, 1;', ', %p0, 1, 1;');
  const { outputs } = runFragments(kernel(body), 1, new Uint32Array(0), fillOf(small));
  const memory = new DeviceMemory();
  const to = memory.allocate(new Uint8Array(4 * outputs.length), 'to');
  runPtx(fragmentModule(kernel(body)).text, {
    memory,
    grid: [1, 1, 1],
    parameters: [memory.allocate(new Uint8Array(16), 'from'), to, memory.allocate(fillOf(small), 'fill')],
    dynamicSharedBytes: sharedBytes,
  });
  expect([...outputs]).toEqual([...new Uint32Array(memory.bytesAt(to).slice().buffer)]);
  expect(new Set([...outputs].map(Number)).size).toBeGreaterThan(20);
});

describe('misuse is reported at its line', () => {
  /** `code line`, the line counted in the body from 1. */
  const codes = (
    body: string,
    settings: DeviceSettings = {},
    change: Partial<FragmentKernel> = {},
  ): string[] => {
    const { bodyLine } = fragmentModule(kernel(body, change));
    return run(body, settings, change).reports.map((r) => {
      expect(r.message.length).toBeGreaterThan(20);
      expect(r.fix).not.toBe('');
      return `${r.code} ${r.ptxLine - bodyLine + 1}`;
    });
  };
  const tail = `${commit}\n${wait(0)}`;

  test('a warpgroup of two warps', () => {
    expect(codes(`wgmma.fence.sync.aligned;\n${tail}`, {}, { threads: 64 })).toEqual([
      'emu/wgmma-partial-warpgroup 1',
    ]);
  });
  test('a warp that has exited', () => {
    const body = `setp.ge.u32 %p1, %tid, 96;\n@%p1 exit;\n${setup}\n${product()}\n${tail}`;
    expect(codes(body)).toEqual(['emu/wgmma-partial-warpgroup 6']);
  });
  test('a warp that exits without its part, found by those that wait', () => {
    const body = `setp.ge.u32 %p1, %tid, 96;\n${setup}\n@%p1 bra END;\n${product()}\n${tail}\nbra DONE;\nEND:\nbar.sync 1, 32;\nexit;\nDONE:`;
    for (const seed of [0, 1, 2]) expect(codes(body, { seed })[0]).toMatch(/^emu\/wgmma-partial-warpgroup/);
  });
  test('half of a warp', () => {
    expect(codes(`setp.lt.u32 %p1, %tid, 16;\n${setup}\n@%p1 ${product()}\n${tail}`)).toEqual([
      'emu/divergent-barrier 5',
    ]);
  });
  test('warps at different instructions', () => {
    const body = `setp.lt.u32 %p1, %tid, 64;\n${setup}\n@%p1 bra OTHER;\n${product()}\nbra JOIN;\nOTHER:\n${product()}\nJOIN:\n${tail}`;
    // Which of the two comes second depends on the order of warps.
    expect(['emu/wgmma-divergent 6', 'emu/wgmma-divergent 9']).toContain(codes(body).join());
    const [{ warp, others }] = run(body).reports;
    expect([warp >> 1, others[0].warp >> 1].sort()).toEqual([0, 1]);
  });
  test('descriptors that differ between lanes, and between warps', () => {
    const lane = `${setup}\nmul.wide.u32 %rd4, %tid, 1; add.u64 %rd4, %rd0, %rd4;\n${product('%rd4')}\n${tail}`;
    expect(codes(lane)).toEqual(['emu/wgmma-descriptor-differs 5']);
    const warp = `${setup}\nshr.u32 %r0, %tid, 5; mul.wide.u32 %rd4, %r0, 2; add.u64 %rd4, %rd1, %rd4;\n${product('%rd0', '%rd4')}\n${tail}`;
    expect(codes(warp)).toEqual(['emu/wgmma-descriptor-differs 5']);
  });
  test('scale-d that differs', () => {
    const body = `setp.lt.u32 %p1, %tid, 40;\n${setup}\n${product('%rd0', '%rd1', '%p1')}\n${tail}`;
    expect(codes(body)).toEqual(['emu/wgmma-descriptor-differs 5']);
  });
  test.each([
    ['a base offset', descriptor(aAt) | (1n << 49n), 'emu/wgmma-descriptor'],
    ['a reserved bit', descriptor(aAt) | (1n << 52n), 'emu/wgmma-descriptor'],
    ['a start inside a swizzle pattern', descriptor(aAt + 128), 'emu/wgmma-descriptor'],
    ['a stride that breaks the pattern', descriptor(aAt) ^ (96n << 32n), 'emu/wgmma-descriptor'],
    ['a start behind shared memory', descriptor(0x400 + sharedBytes), 'emu/out-of-bounds'],
    ['an end behind shared memory', descriptor(sharedBytes), 'emu/out-of-bounds'],
    ['the reserved first KiB', descriptor(0), 'emu/out-of-bounds'],
  ])('%s', (_, bits, code) => {
    const body = `${setup}\nmov.b64 %rd4, ${bits};\n${product('%rd4')}\n${tail}`;
    expect(codes(body)).toEqual([`${code} 5`]);
  });
  test('after an error a launch that goes on ends all the same', () => {
    const body = `${setup}\nmov.b64 %rd4, ${descriptor(0)};\n${product('%rd4')}\n${tail}\n${product()}\n${tail}`;
    expect(codes(body, { stopAtError: false })).toEqual(['emu/out-of-bounds 5']);
  });
  test('a warp that never comes is a deadlock that names the waiting ones', () => {
    const body = `setp.ge.u32 %p1, %tid, 96;\n${setup}\n@%p1 bra SKIP;\n${product()}\n${tail}\nSKIP:\nbar.sync 1, 128;`;
    const { reports } = run(body);
    expect(reports.map((r) => r.code)).toEqual(['emu/deadlock']);
  });
});

describe('registers and fences, with checks on', () => {
  const codes = (body: string): string[] => run(body, { checks: ['all'] }).reports.map((r) => r.code);
  const tail = `${commit}\n${wait(0)}`;
  test('the first product without a fence', () => {
    const body = `${setup.replace('wgmma.fence.sync.aligned;', '')}\n${product()}\n${tail}`;
    expect(codes(body)).toContain('emu/wgmma-missing-fence');
    expect(run(body).reports).toEqual([]);
  });
  test('A taken from accumulators that are still being written', () => {
    const registersOf = registers('o', 0, 4);
    const body = `${setup}\n${product()}\n${product(`{${registersOf}}`, '%rd1', '0', '{%f0, %f1, %f2, %f3}')}\n${tail}`;
    expect(codes(body)).toContain('emu/wgmma-register-in-flight');
  });
  test('nothing to say about fenced, chained products', () => {
    expect(
      codes(`${setup}\n${step(0)}\n${step(1)}\n${tail}`).filter((c) => c.startsWith('emu/wgmma')),
    ).toEqual([]);
  });
});
