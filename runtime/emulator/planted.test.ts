// Bugs planted by hand for codes that no other test names, and the proof that every code has one somewhere: each is found
// at its line, with a fix.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Bench, expectMisuse, moduleOf, onlyReport, type Argument, type Launch } from './async.testing.ts';
import { checks } from './checks.ts';

const one: Launch = { block: [1, 1, 1] };
const warp: Launch = { block: [32, 1, 1] };
const pair: Launch = { grid: [2, 1, 1], block: [1, 1, 1], cluster: [2, 1, 1] };
const none = (): readonly Argument[] => [];

describe('planted', () => {
  test.each<[string, string, string, RegExp, Launch, string?]>([
    [
      'write-to-constant',
      'a store to .const memory',
      `mov.u64 %rd1, table;
cvta.const.u64 %rd1, %rd1;
mov.u32 %r1, 7;
st.u32 [%rd1], %r1;`,
      /st\.u32/,
      one,
      '.const .align 4 .u32 table = 3;',
    ],
    [
      'branch-index',
      'brx.idx past its table',
      `mov.u32 %r1, 2;
T: .branchtargets A, B;
brx.idx %r1, T;
A:
B:`,
      /brx/,
      one,
    ],
    [
      'bad-call',
      'a call through a number',
      `mov.u64 %rd1, 4097;
P: .callprototype _ ();
call %rd1, P;`,
      /call %rd1/,
      one,
    ],
    [
      'partial-warp',
      'ldmatrix after half of the warp exited',
      `mov.u32 %r1, %laneid;
setp.ge.u32 %p1, %r1, 16;
@%p1 exit;
mov.u32 %r2, tile;
ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2];`,
      /ldmatrix/,
      warp,
      '.shared .align 16 .b8 tile[512];',
    ],
    ['cluster-barrier', 'a wait without an arrival', 'barrier.cluster.wait;', /cluster\.wait/, pair],
    [
      'cluster-barrier',
      'two arrivals',
      'barrier.cluster.arrive;\nbarrier.cluster.arrive.release;',
      /release/,
      pair,
    ],
    [
      'cluster-rank',
      'mapa to a block that there is not',
      `mov.u32 %r1, tile;
mov.u32 %r2, 5;
mapa.shared::cluster.u32 %r3, %r1, %r2;`,
      /mapa/,
      pair,
      '.shared .align 16 .b8 tile[64];',
    ],
    [
      'not-uniform',
      'tensor maps that differ between lanes',
      `mov.u32 %r1, %laneid;
mul.wide.u32 %rd2, %r1, 128;
mov.u32 %r2, tile;
cvt.u64.u32 %rd3, %r2;
ld.param.u64 %rd1, [map];
add.u64 %rd1, %rd1, %rd2;
tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd1], [%r2], 128;`,
      /cp_fenceproxy/,
      warp,
      '.shared .align 128 .b8 tile[128];',
    ],
  ])('%s: %s', (code, _name, body, line, launch, head) => {
    const parameters = body.includes('[map]') ? '.param .u64 map' : '';
    const args = (bench: Bench): readonly Argument[] =>
      parameters ? [bench.buffer(32 * 128, 'maps')] : none();
    // Shared memory is the kernel's own, constants are the module's.
    const shared = head?.startsWith('.shared') ? `${head}\n` : '';
    const module = head?.startsWith('.const') ? `.address_size 64\n${head}` : '.address_size 64';
    const ptx = moduleOf(parameters, shared + body).replace('.address_size 64', module);
    expectMisuse(ptx, args, launch, `emu/${code}`, line);
  });

  test('copy-signals-other-block: a warning', () => {
    const ptx = moduleOf(
      '.param .u64 from',
      `.shared .align 128 .b8 tile[64];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [from];
mov.u32 %r1, tile;
mov.u32 %r2, bar;
mov.u32 %r5, %cluster_ctarank;
mbarrier.init.shared::cta.b64 [bar], 1;
barrier.cluster.arrive;
barrier.cluster.wait;
setp.ne.u32 %p1, %r5, 0;
@%p1 bra OTHER;
mov.u32 %r3, 1;
mapa.shared::cluster.u32 %r4, %r2, %r3;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], 64, [%r4];
bra DONE;
OTHER:
mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 64;
W:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [bar], 0;
@!%p2 bra W;
DONE:
barrier.cluster.arrive;
barrier.cluster.wait;`,
    );
    const bench = new Bench();
    const report = onlyReport(ptx, bench.run(ptx, [bench.buffer(64, 'from')], pair));
    expect([report.severity, report.code]).toEqual(['warning', 'emu/copy-signals-other-block']);
    expect(report.line).toMatch(/cp\.async\.bulk/);
  });
});

describe('refused', () => {
  const codeOf = (call: () => unknown): unknown => {
    try {
      return call();
    } catch (error) {
      return (error as { code?: unknown }).code;
    }
  };
  test('out-of-memory: a buffer larger than a device', () => {
    const bench = new Bench();
    expect(codeOf(() => bench.core.allocate(bench.device, 2 ** 40, 'all'))).toBe('emu/out-of-memory');
  });
  test('program-format: bytes that are no program', () => {
    const bench = new Bench();
    expect(codeOf(() => bench.core.loadProgram(bench.device, new Uint8Array(10)))).toBe('emu/program-format');
  });
  test('bad-free: twice, and never allocated', () => {
    const bench = new Bench();
    const at = bench.buffer(64);
    bench.core.free(bench.device, at);
    expect(codeOf(() => bench.core.free(bench.device, at))).toBe('emu/bad-free');
    expect(codeOf(() => bench.core.free(bench.device, 123n))).toBe('emu/bad-free');
  });
});

test('every code has a test that names it', () => {
  const here = dirname(import.meta.filename);
  const root = join(here, '../..');
  const folders = [
    here,
    join(root, 'test/cli'),
    join(root, 'test/cli/bad-input'),
    join(root, 'test/libcuda'),
  ];
  const text = folders
    .flatMap((folder) => [folder, join(folder, '__snapshots__')])
    .flatMap((folder) => {
      try {
        return readdirSync(folder)
          .filter((name) => /\.(test|cases)\.ts$|\.snap$|\.cpp$/.test(name))
          .map((name) => readFileSync(join(folder, name), 'utf8'));
      } catch {
        return [];
      }
    })
    .join('\n');
  // What the library's caller gets wrong, and what depends on the seed's timing, is left to those who meet it.
  const without = ['emu/no-such-variable', 'emu/short-pipeline'];
  const unnamed = checks
    .map((c) => c.code)
    .filter((code) => !new RegExp(`(?<![a-z-])${code.slice(4)}(?![a-z-])`).test(text));
  expect(unnamed.filter((code) => !without.includes(code))).toEqual([]);
});
