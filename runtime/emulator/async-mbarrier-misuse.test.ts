// Every misuse of mbarriers: its code, the PTX line it names, and that a fix is offered.
import { describe, test } from 'vitest';
import { expectMisuse, moduleOf, type Launch } from './async.testing.ts';

const one: Launch = { block: [1, 1, 1] };
const pair: Launch = { grid: [2, 1, 1], block: [1, 1, 1], cluster: [2, 1, 1] };
const init = 'mbarrier.init.shared::cta.b64 [bar], 1;';
const arrive = 'mbarrier.arrive.shared::cta.b64 _, [bar];';
const check = (parity: number): string => `mbarrier.test_wait.parity.shared::cta.b64 %p1, [bar], ${parity};`;
const meet = 'barrier.cluster.arrive;\nbarrier.cluster.wait;';

describe('mbarriers', () => {
  const body = (text: string): string =>
    moduleOf('', `.shared .align 16 .b8 space[64];\n.shared .align 8 .b64 bar;\nmov.u32 %r1, bar;\n${text}`);

  test.each<[string, string, string, RegExp, RegExp?]>([
    ['not aligned', 'mbarrier.init.shared::cta.b64 [bar+4], 1;', 'mbarrier-misaligned', /init/],
    [
      'not in shared memory',
      'mov.u64 %rd1, 4096;\nmbarrier.init.b64 [%rd1], 1;',
      'mbarrier-not-shared',
      /init/,
    ],
    [
      'past shared memory',
      'mov.u32 %r2, 300000;\nmbarrier.init.shared::cta.b64 [%r2], 1;',
      'out-of-bounds',
      /init/,
    ],
    ['count 0', 'mbarrier.init.shared::cta.b64 [bar], 0;', 'mbarrier-count', /init/, /count is 0/],
    ['count too large', 'mbarrier.init.shared::cta.b64 [bar], 1048576;', 'mbarrier-count', /init/, /1048576/],
    ['arrive before init', arrive, 'mbarrier-not-initialised', /arrive/],
    ['wait before init', check(0), 'mbarrier-not-initialised', /test_wait/],
    [
      'use after inval',
      `${init}\nmbarrier.inval.shared::cta.b64 [bar];\n${arrive}`,
      'mbarrier-not-initialised',
      /arrive/,
    ],
    ['inval before init', 'mbarrier.inval.shared::cta.b64 [bar];', 'mbarrier-not-initialised', /inval/],
    [
      'init twice',
      `${init}\nmbarrier.init.shared::cta.b64 [bar], 3;`,
      'mbarrier-live',
      /, 3;/,
      /which line \d+ made/,
    ],
    ['overwritten', `${init}\nst.shared.u32 [bar], %r1;\n${arrive}`, 'mbarrier-overwritten', /arrive/],
    [
      'too many arrivals',
      `mbarrier.init.shared::cta.b64 [bar], 2;\nmbarrier.arrive.shared::cta.b64 _, [bar], 3;`,
      'mbarrier-underflow',
      /, 3;/,
      /3 arrive on .* 2 of 2/,
    ],
    [
      'an arrival while bytes pend',
      `${init}\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 16;\n${arrive}`,
      'mbarrier-underflow',
      /arrive\.shared/,
    ],
    [
      'arrive of 0',
      `${init}\nmov.u32 %r2, 0;\nmbarrier.arrive.shared::cta.b64 _, [bar], %r2;`,
      'mbarrier-count',
      /arrive/,
    ],
    [
      'too many bytes expected',
      `${init}\nmbarrier.expect_tx.shared::cta.b64 [bar], 1048575;\nmbarrier.expect_tx.shared::cta.b64 [bar], 1;`,
      'mbarrier-tx-overflow',
      /, 1;/,
    ],
    [
      'too many bytes completed',
      `${init}\nmbarrier.complete_tx.shared::cta.b64 [bar], 1048575;\nmbarrier.complete_tx.shared::cta.b64 [bar], 1;`,
      'mbarrier-tx-overflow',
      /, 1;/,
    ],
    [
      'noComplete that completes',
      `${init}\nmbarrier.arrive.noComplete.shared::cta.b64 %rd1, [bar], 1;`,
      'mbarrier-no-complete',
      /noComplete/,
    ],
    [
      'a phase that nobody saw',
      `${init}\n${arrive}\nmbarrier.arrive.shared::cta.b64 %rd1, [bar];`,
      'mbarrier-phase-overrun',
      /%rd1/,
    ],
    [
      'an old state',
      `${init}\nmbarrier.arrive.shared::cta.b64 %rd1, [bar];\n${check(0)}\n${arrive}\n${check(1)}\nmbarrier.test_wait.shared::cta.b64 %p1, [bar], %rd1;`,
      'mbarrier-phase-overrun',
      /%rd1;/,
      /phase 0 .* by 2 phases/,
    ],
    [
      'no state',
      `${init}\nmov.u64 %rd1, 0;\nmbarrier.test_wait.shared::cta.b64 %p1, [bar], %rd1;`,
      'mbarrier-bad-state',
      /test_wait/,
    ],
    [
      'a parity of 2',
      `${init}\nmov.u32 %r2, 2;\nmbarrier.test_wait.parity.shared::cta.b64 %p1, [bar], %r2;`,
      'mbarrier-parity',
      /test_wait/,
    ],
    [
      'a state of another object',
      `${init}\nmbarrier.init.shared::cta.b64 [space], 2;\nmbarrier.arrive.shared::cta.b64 %rd1, [space];\nmbarrier.test_wait.shared::cta.b64 %p1, [bar], %rd1;`,
      'mbarrier-bad-state',
      /test_wait/,
    ],
  ])('%s', (_name, text, code, line, message) => {
    expectMisuse(body(text), () => [], one, `emu/${code}`, line, message);
  });

  test('a wait that comes two phases late', () => {
    // One warp polls phase 0, finds it incomplete, and comes back when two phases have passed.
    const ptx = body(`mov.u32 %r9, %tid.x;
setp.ne.u32 %p5, %r9, 0;
@%p5 bra OTHER;
${init}
${check(0)}
bar.sync 0, 64;
bar.sync 0, 64;
${check(0)}
bra DONE;
OTHER:
setp.ne.u32 %p6, %r9, 32;
bar.sync 0, 64;
@%p6 bra OVER;
${arrive}
${check(0)}
${arrive}
${check(1)}
OVER:
bar.sync 0, 64;
DONE:`)
      .replace(
        'setp.ne.u32 %p5, %r9, 0;',
        'shr.u32 %r8, %r9, 5;\nsetp.ne.u32 %p5, %r8, 0;\nsetp.ne.u32 %p7, %r9, 0;',
      )
      .replace(init, `@!%p7 ${init}\n@%p7 bra LATE;`)
      .replace(
        `${check(0)}\nbar.sync 0, 64;\nbar.sync 0, 64;\n${check(0)}\nbra DONE;`,
        `${check(0)}\nLATE:\nbar.warp.sync -1;\nbar.sync 0, 64;\nbar.sync 0, 64;\n@!%p7 mbarrier.test_wait.parity.shared::cta.b64 %p2, [bar], 0;\nbra DONE;`,
      );
    expectMisuse(
      ptx,
      () => [],
      { block: [64, 1, 1] },
      'emu/mbarrier-phase-overrun',
      /%p2, \[bar\], 0/,
      /waits for phase 0 .* by 2 phases/,
    );
  });

  test.each<[string, string, string, RegExp]>([
    [
      'a wait on another block',
      'mapa.u64 %rd2, %rd1, %r3;\nmbarrier.test_wait.parity.b64 %p1, [%rd2], 0;',
      'mbarrier-remote',
      /test_wait/,
    ],
    [
      'a state from another block',
      'mapa.u64 %rd2, %rd1, %r3;\nmbarrier.arrive.b64 %rd3, [%rd2];',
      'mbarrier-remote',
      /arrive/,
    ],
    [
      'init in another block',
      'mapa.u64 %rd2, %rd1, %r3;\nmbarrier.inval.b64 [%rd2];',
      'mbarrier-remote',
      /inval/,
    ],
    [
      'a block that does not exist',
      'mov.u32 %r4, 50331648;\nmbarrier.arrive.shared::cluster.b64 _, [%r4];',
      'out-of-bounds',
      /arrive/,
    ],
    [
      'a block that has ended',
      'setp.eq.u32 %p2, %r2, 1;\n@%p2 exit;\nnanosleep.u32 1000000;\nmapa.shared::cluster.u32 %r4, %r1, %r3;\nmbarrier.arrive.shared::cluster.b64 _, [%r4];',
      'remote-shared-after-exit',
      /arrive/,
    ],
  ])('%s', (_name, text, code, line) => {
    const ptx = body(`${init}
cvt.u64.u32 %rd1, %r1;
and.b64 %rd1, %rd1, 16777215;
cvta.shared.u64 %rd1, %rd1;
mov.u32 %r2, %cluster_ctarank;
xor.b32 %r3, %r2, 1;
${meet}
${text}
${meet}`);
    expectMisuse(ptx, () => [], pair, `emu/${code}`, line);
  });
});
