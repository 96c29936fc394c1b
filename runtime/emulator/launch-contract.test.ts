// What a launch must keep to: each limit just met, and just broken. And memory that is freed between launches.
import { describe, expect, test } from 'vitest';
import { Bench, mapOf, moduleOf, type Argument, type Launch } from './async.testing.ts';

/** A kernel with directives, or the refusal of its launch. */
function attempt(
  launch: Launch,
  directives = '',
  body = '',
  parameters = '.param .u32 n',
  version = '8.6',
): string {
  const ptx = moduleOf(parameters, body, directives).replace('.version 8.6', `.version ${version}`);
  const bench = new Bench();
  try {
    return bench
      .run(ptx, [], { block: [32, 1, 1], ...launch })
      .map((r) => r.code)
      .join();
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    return `${code} ${message}`;
  }
}

describe('the launch contract', () => {
  test.each<[name: string, good: Launch, bad: Launch, directives: string, body: string, message: RegExp]>([
    ['threads of a block', { block: [1024, 1, 1] }, { block: [1024, 2, 1] }, '', '', /at most 1024 in all/],
    ['a block in z', { block: [1, 1, 64] }, { block: [1, 1, 65] }, '', '', /1024 x 1024 x 64 per dimension/],
    ['a grid in y', { grid: [1, 3, 1] }, { grid: [1, 65536, 1] }, '', '', /2147483647 x 65535 x 65535/],
    ['a grid in z', { grid: [1, 1, 3] }, { grid: [1, 1, 65536] }, '', '', /2147483647 x 65535 x 65535/],
    [
      'a grid in x',
      { grid: [70000, 1, 1], block: [1, 1, 1] },
      { grid: [2 ** 31, 1, 1] },
      '',
      '',
      /2147483647/,
    ],
    ['an empty grid', {}, { grid: [0, 1, 1] }, '', '', /every dimension is at least 1/],
    ['.reqntid', { block: [64, 1, 1] }, { block: [32, 2, 1] }, '.reqntid 64, 1, 1', '', /\.reqntid asks for/],
    [
      '.maxntid',
      { block: [32, 2, 1] },
      { block: [65, 1, 1] },
      '.maxntid 64, 1, 1',
      '',
      /\.maxntid allows 64/,
    ],
    [
      'cluster and grid',
      { grid: [4, 1, 1], cluster: [2, 1, 1] },
      { grid: [3, 1, 1], cluster: [2, 1, 1] },
      '',
      '',
      /does not divide/,
    ],
    [
      'the size of a cluster',
      { grid: [16, 1, 1], cluster: [16, 1, 1] },
      { grid: [32, 1, 1], cluster: [32, 1, 1] },
      '',
      '',
      /at most 16/,
    ],
    [
      '.reqnctapercluster',
      { grid: [4, 1, 1] },
      { grid: [4, 1, 1], cluster: [4, 1, 1] },
      '.reqnctapercluster 2, 1, 1',
      '',
      /another shape/,
    ],
    [
      '.maxclusterrank',
      { grid: [4, 1, 1], cluster: [4, 1, 1] },
      { grid: [8, 1, 1], cluster: [8, 1, 1] },
      '.maxclusterrank 4',
      '',
      /allows 4 blocks/,
    ],
    [
      'dynamic shared memory',
      { dynamicSharedBytes: 227 * 1024 },
      { dynamicSharedBytes: 227 * 1024 + 16 },
      '',
      '',
      /at most 232448/,
    ],
    [
      'registers of a block',
      { block: [512, 1, 1] },
      { block: [1024, 1, 1] },
      '.maxnreg 128',
      '',
      /needs 131072 registers; an SM has 65536/,
    ],
  ])('%s', (_name, good, bad, directives, body, message) => {
    expect(attempt(good, directives, body)).toBe('');
    const refused = attempt(bad, directives, body);
    expect(refused).toMatch(/^emu\/launch-contract k: /);
    expect(refused).toMatch(message);
  });

  test('static shared memory ends at 48 KiB', () => {
    const body = (bytes: number): string => `.shared .align 16 .b8 tile[${bytes}];\nst.shared.u32 [tile], 1;`;
    expect(attempt({}, '', body(48 * 1024))).toBe('');
    expect(attempt({}, '', body(48 * 1024 + 16))).toMatch(
      /^emu\/launch-contract k: 49168 bytes of static shared memory/,
    );
  });

  test('parameters end at 4 KiB, from PTX 8.1 on at 32764 bytes', () => {
    const bytes = (n: number, version: string): string => {
      const bench = new Bench();
      const ptx = moduleOf(`.param .align 4 .b8 big[${n}]`, '').replace(
        '.version 8.6',
        `.version ${version}`,
      );
      try {
        bench.run(ptx, [new Uint8Array(n)], {});
        return 'runs';
      } catch (error) {
        return (error as Error).message;
      }
    };
    expect(bytes(4096, '8.0')).toBe('runs');
    expect(bytes(4100, '8.0')).toBe('k: 4100 bytes of parameters; PTX 8.0 allows 4096');
    expect(bytes(32764, '8.1')).toBe('runs');
    expect(bytes(32768, '8.1')).toBe('k: 32768 bytes of parameters; PTX 8.1 allows 32764');
  });
});

describe('memory that was freed before the launch', () => {
  const freed = (
    body: string,
    args: (b: Bench, at: bigint) => readonly Argument[],
    parameters = '.param .u64 p',
  ): string[] => {
    const bench = new Bench();
    const at = bench.buffer(1024, 'old');
    const all = args(bench, at);
    const run = (): string[] =>
      bench.run(moduleOf(parameters, body), all, { block: [1, 1, 1] }).map((r) => `${r.code} ${r.message}`);
    expect(run()).toEqual([]);
    bench.core.free(bench.device, at);
    bench.buffer(1024, 'new');
    return run();
  };
  const pointer = 'ld.param.u64 %rd1, [p];\n';
  test.each([
    ['a load', 'ld.global.u32 %r1, [%rd1+8];'],
    ['a generic store', 'st.u32 [%rd1+8], 1;'],
    ['an atomic', 'red.global.add.u32 [%rd1+8], 1;'],
    [
      'cp.async',
      '.shared .align 16 .b8 t[16];\ncp.async.cg.shared.global [t], [%rd1], 16;\ncp.async.wait_all;',
    ],
  ])('%s', (_name, body) => {
    expect(freed(pointer + body, (_b, at) => [at])).toEqual([
      expect.stringMatching(/^emu\/use-after-free .*old \(1024 bytes\) was freed/),
    ]);
  });
  test('a box of a stale tensor map', () => {
    const body = `.shared .align 128 .b8 tile[128];
.shared .align 8 .b64 bar;
mov.u64 %rd1, map;
cvta.param.u64 %rd1, %rd1;
mov.u32 %r1, 0;
mbarrier.init.shared::cta.b64 [bar], 1;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 128;
cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%rd1, {%r1}], [bar];
W:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;
@!%p1 bra W;`;
    const map = (_: Bench, at: bigint): readonly Argument[] => [
      mapOf(at, { dtype: 'F32', dims: [256], box: [32] }),
    ];
    expect(freed(body, map, '.param .align 64 .b8 map[128]')[0]).toMatch(/^emu\/use-after-free/);
  });
});
