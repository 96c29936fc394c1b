// Special registers, tests of address spaces, and what controls a thread or a warp: sleep, traps of every kind, setmaxnreg.
import { describe, expect, test } from 'vitest';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import { Bench, moduleOf as wholeModule, onlyReport, summary, type Launch } from './async.testing.ts';

/** A kernel with declarations in front of its body. */
const moduleOf = (body: string, declarations = '', head = ''): string =>
  wholeModule('.param .u64 o', `${declarations}\n${body}`, head);

/** %r0: number of the thread in the grid; %rd1: where its `words` words of output are. */
const place = (words: number): string => `
mov.u32 %r0, %ctaid.z; mov.u32 %r1, %nctaid.y; mov.u32 %r2, %ctaid.y; mad.lo.u32 %r0, %r0, %r1, %r2;
mov.u32 %r1, %nctaid.x; mov.u32 %r2, %ctaid.x; mad.lo.u32 %r0, %r0, %r1, %r2;
mov.u32 %r1, %ntid.z; mov.u32 %r2, %tid.z; mad.lo.u32 %r0, %r0, %r1, %r2;
mov.u32 %r1, %ntid.y; mov.u32 %r2, %tid.y; mad.lo.u32 %r0, %r0, %r1, %r2;
mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x; mad.lo.u32 %r0, %r0, %r1, %r2;
ld.param.u64 %rd0, [o]; cvta.to.global.u64 %rd0, %rd0;
mul.wide.u32 %rd1, %r0, ${4 * words}; add.u64 %rd1, %rd0, %rd1;`;

/** What each thread stores: [thread][word]. */
function threads(
  body: string,
  words: number,
  count: number,
  launch: Launch,
  declarations = '',
  head = '',
  seed = 0,
): number[][] {
  const bench = new Bench({ seed });
  const out = bench.buffer(4 * words * count);
  expect(bench.run(moduleOf(`${place(words)}\n${body}`, declarations, head), [out], launch)).toEqual([]);
  const all = bench.words(out, words * count);
  return Array.from({ length: count }, (_, t) => all.slice(words * t, words * (t + 1)));
}
const storeAll = (registers: readonly string[]): string =>
  registers.map((r, i) => `mov.u32 %r3, %${r};\nst.global.u32 [%rd1+${4 * i}], %r3;`).join('\n');

describe('special registers', () => {
  test('of threads, warps, blocks and the grid', () => {
    const names = ['tid.x', 'tid.y', 'tid.z', 'laneid', 'warpid', 'nwarpid', 'ctaid.x', 'ctaid.y', 'ctaid.z'];
    const more = ['nctaid.x', 'nctaid.y', 'nctaid.z', 'lanemask_eq', 'lanemask_lt', 'lanemask_le'];
    const last = ['lanemask_gt', 'lanemask_ge', 'nsmid', 'dynamic_smem_size'];
    const all = [...names, ...more, ...last];
    const [block, grid] = [
      [5, 4, 3],
      [2, 3, 2],
    ] as const;
    const got = threads(storeAll(all), all.length, 60 * 12, {
      block,
      grid,
      dynamicSharedBytes: 1280,
    });
    got.forEach((words, t) => {
      const [b, n] = [Math.floor(t / 60), t % 60];
      const lane = BigInt(n % 32);
      const mask = (v: bigint): number => Number(BigInt.asUintN(32, v));
      expect(Object.fromEntries(all.map((name, i) => [name, words[i]]))).toEqual({
        'tid.x': n % 5,
        'tid.y': Math.floor(n / 5) % 4,
        'tid.z': Math.floor(n / 20),
        laneid: n % 32,
        warpid: Math.floor(n / 32),
        // Warp slots of a multiprocessor.
        nwarpid: 64,
        'ctaid.x': b % 2,
        'ctaid.y': Math.floor(b / 2) % 3,
        'ctaid.z': Math.floor(b / 6),
        'nctaid.x': 2,
        'nctaid.y': 3,
        'nctaid.z': 2,
        lanemask_eq: mask(1n << lane),
        lanemask_lt: mask((1n << lane) - 1n),
        lanemask_le: mask((2n << lane) - 1n),
        lanemask_gt: mask(-(2n << lane)),
        lanemask_ge: mask(-(1n << lane)),
        nsmid: 132,
        dynamic_smem_size: 1280,
      });
    });
  });

  test('of clusters', () => {
    const of = (name: string): string[] => ['x', 'y', 'z'].map((d) => `${name}.${d}`);
    const all = [...of('cluster_ctaid'), ...of('cluster_nctaid'), ...of('clusterid'), ...of('nclusterid')];
    const names = [...all, 'cluster_ctarank', 'cluster_nctarank'];
    const flag = `mov.pred %p0, %is_explicit_cluster;\nselp.u32 %r3, 1, 0, %p0;\nst.global.u32 [%rd1+${4 * names.length}], %r3;`;
    const got = threads(`${storeAll(names)}\n${flag}`, names.length + 1, 4 * 6 * 2, {
      block: [1, 1, 1],
      grid: [4, 6, 2],
      cluster: [2, 3, 1],
    });
    got.forEach((words, b) => {
      const [x, y, z] = [b % 4, Math.floor(b / 4) % 6, Math.floor(b / 24)];
      expect(words).toEqual([
        ...[x % 2, y % 3, 0],
        ...[2, 3, 1],
        ...[Math.floor(x / 2), Math.floor(y / 3), z],
        ...[2, 2, 2],
        ...[(y % 3) * 2 + (x % 2), 6, 1],
      ]);
    });
  });

  test('clocks go on, and the multiprocessor exists', () => {
    const got = threads(
      `mov.u64 %rd2, %clock64; mov.u64 %rd3, %globaltimer; mov.u32 %r4, %clock; nanosleep.u32 2000;
mov.u64 %rd4, %clock64; mov.u64 %rd5, %globaltimer; mov.u32 %r5, %clock;
setp.lt.u64 %p0, %rd2, %rd4; setp.lt.u64 %p1, %rd3, %rd5; setp.lt.u32 %p2, %r4, %r5; mov.u32 %r6, %smid;
setp.lt.u32 %p3, %r6, 132;
${[0, 1, 2, 3].map((i) => `selp.u32 %r7, 1, 0, %p${i}; st.global.u32 [%rd1+${4 * i}], %r7;`).join('\n')}`,
      4,
      64,
      { block: [32, 1, 1], grid: [2, 1, 1] },
    );
    for (const words of got) expect(words).toEqual([1, 1, 1, 1]);
  });
});

test('isspacep and cvta tell the spaces of generic addresses', () => {
  const spaces = ['global', 'const', 'shared::cta', 'shared::cluster', 'local', 'param::entry'];
  const sources = [
    'mov.u64 %rd2, %rd0; cvta.global.u64 %rd2, %rd2;',
    'mov.u64 %rd2, c; cvta.const.u64 %rd2, %rd2;',
    'mov.u64 %rd2, s; cvta.shared.u64 %rd2, %rd2;',
    // Of the other block of the cluster.
    'mov.u64 %rd2, s; cvta.shared.u64 %rd2, %rd2; mov.u32 %r4, %cluster_ctarank; xor.b32 %r4, %r4, 1; mapa.u64 %rd2, %rd2, %r4;',
    'mov.u64 %rd2, l; cvta.local.u64 %rd2, %rd2;',
    'mov.b64 %rd2, o; cvta.param.u64 %rd2, %rd2;',
  ];
  const body = sources
    .flatMap((source, i) => [
      source,
      ...spaces.map(
        (space, j) =>
          `isspacep.${space} %p0, %rd2; selp.u32 %r3, 1, 0, %p0; st.global.u32 [%rd1+${4 * (6 * i + j)}], %r3;`,
      ),
    ])
    .join('\n');
  const declarations = '.shared .align 4 .b8 s[16]; .local .align 4 .b8 l[16];';
  const text = moduleOf(`${place(36)}\n${body}`, declarations).replace(
    '.visible .entry',
    '.const .align 4 .b8 c[16];\n.visible .entry',
  );
  const bench = new Bench();
  const out = bench.buffer(4 * 36 * 2);
  expect(bench.run(text, [out], { block: [1, 1, 1], grid: [2, 1, 1], cluster: [2, 1, 1] })).toEqual([]);
  const yes = ['100000', '010000', '001100', '000100', '000010', '000001'];
  expect(bench.words(out, 72).join('')).toBe(yes.join('') + yes.join(''));
});

describe('control', () => {
  const first = (text: string, threadsOfBlock = 32): ReturnType<typeof onlyReport> => {
    const bench = new Bench();
    return onlyReport(text, bench.run(text, [bench.buffer(64)], { block: [threadsOfBlock, 1, 1] }));
  };

  test('an assertion that fails says what, where and in which function', () => {
    const string = (name: string, value: string): string =>
      `.global .align 1 .b8 ${name}[${value.length + 1}] = {${[...value].map((c) => c.charCodeAt(0)).join(', ')}, 0};`;
    const text = moduleOf(`mov.u32 %r0, %tid.x; setp.ne.u32 %p0, %r0, 7; @%p0 bra FINE;
mov.u64 %rd0, text; cvta.global.u64 %rd0, %rd0; mov.u64 %rd1, file; cvta.global.u64 %rd1, %rd1;
mov.u64 %rd2, name; cvta.global.u64 %rd2, %rd2;
{ .param .b64 a; .param .b64 b; .param .b32 c; .param .b64 d; .param .b64 e;
st.param.b64 [a], %rd0; st.param.b64 [b], %rd1; st.param.b32 [c], 42; st.param.b64 [d], %rd2; st.param.b64 [e], 1;
call.uni __assertfail, (a, b, c, d, e);
}
FINE:`).replace(
      '.visible .entry',
      `.extern .func __assertfail (.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
${string('text', 'n > 0')}\n${string('file', 'sum.cu')}\n${string('name', 'void sum(int)')}
.visible .entry`,
    );
    const report = first(text);
    expect(report).toMatchObject({ code: 'emu/assert-failed', severity: 'error', lane: 7 });
    expect(report.message).toBe('sum.cu:42: void sum(int): assertion failed: n > 0');
    expect(report.line).toContain('__assertfail');
  });

  test('what only profilers, debuggers and dependent grids see changes nothing', () => {
    const got = threads(
      `pmevent 3; griddepcontrol.wait; griddepcontrol.launch_dependents; nanosleep.u32 100;
mov.u32 %r4, %tid.x; nanosleep.u32 %r4;
st.global.u32 [%rd1], %r0;`,
      1,
      64,
      { block: [64, 1, 1] },
    );
    expect(got.flat()).toEqual(Array.from({ length: 64 }, (_, t) => t));
  });

  test('a sleeping warp lets others run', () => {
    // Warp 1 sets the flag that warp 0 looks for between its naps.
    const body = `setp.ge.u32 %p0, %r0, 32; @%p0 bra SET;
L: nanosleep.u32 50; ld.volatile.shared.u32 %r4, [s]; setp.eq.u32 %p1, %r4, 0; @%p1 bra L;
bra D;
SET: mov.u32 %r4, 9; st.volatile.shared.u32 [s], %r4;
D: st.global.u32 [%rd1], %r4;`;
    const zero = 'st.shared.u32 [s], 0; bar.sync 0;';
    for (const seed of [0, 1, 2, 3]) {
      const got = threads(`${zero}\n${body}`, 1, 64, { block: [64, 1, 1] }, '.shared .u32 s;', '', seed);
      expect(got.flat()).toEqual(new Array(64).fill(9));
    }
  });
});

describe('setmaxnreg', () => {
  const text = (body: string, registers: number, warpgroups: number): string =>
    moduleOf(`${place(1)}\n${body}\nst.global.u32 [%rd1], %r0;`).replace(
      ')\n',
      `)\n.reqntid ${128 * warpgroups}, 1, 1\n.maxnreg ${registers}\n`,
    );
  const run = (body: string, registers: number, warpgroups: number, seed = 0): readonly string[] => {
    const bench = new Bench({ seed });
    const launch = { block: [128 * warpgroups, 1, 1] } as const;
    const out = bench.buffer(4 * 128 * warpgroups);
    const found = summary(bench.run(text(body, registers, warpgroups), [out], launch));
    if (found.length === 0)
      expect(bench.words(out, 128 * warpgroups)).toEqual(
        Array.from({ length: 128 * warpgroups }, (_, t) => t),
      );
    return found;
  };
  // 384 threads of 168 registers are 64512 of 65536: an increase waits for the decrease of the first warpgroup.
  const roles = (less: number, more: number): string => `setp.lt.u32 %p0, %r0, 128; @!%p0 bra MORE;
nanosleep.u32 3000; setmaxnreg.dec.sync.aligned.u32 ${less}; bra DONE;
MORE: setmaxnreg.inc.sync.aligned.u32 ${more};
DONE:`;

  test.each([0, 1, 2, 3])('an increase waits until others gave registers back, seed %i', (seed) => {
    expect(run(roles(40, 232), 168, 3, seed)).toEqual([]);
  });
  test('an increase beyond what the block ever has is a deadlock', () => {
    expect(run(roles(128, 240), 168, 3)).toEqual(['error emu/deadlock']);
  });
  test('the wrong direction', () => {
    const back = 'setmaxnreg.inc.sync.aligned.u32 168; setmaxnreg.inc.sync.aligned.u32 96;';
    expect(run(back, 168, 1)).toEqual(['error emu/setmaxnreg']);
    expect(run('setmaxnreg.dec.sync.aligned.u32 240;', 168, 1)).toEqual(['error emu/setmaxnreg']);
  });
  // What ptxas -v says of such kernels: a quarter of the registers for a quarter of the warps, in steps of 8; and no more
  // than the largest increase asks for.
  test.each([
    [384, 1, 232, 168],
    [384, 2, 232, 80],
    [288, 1, 232, 168],
    [288, 2, 232, 96],
    [640, 1, 232, 96],
    [256, 1, 240, 240],
    [128, 1, 200, 200],
    [256, 1, 256, 255],
  ])('%i threads, %i blocks, increase to %i: %i registers at entry', (threads, blocks, inc, registers) => {
    const bench = new Bench();
    const body = `mov.u32 %r0, %tid.x; setp.ge.u32 %p0, %r0, 1024; @!%p0 bra D; setmaxnreg.inc.sync.aligned.u32 ${inc}; D:`;
    const ptx = moduleOf(body).replace(')\n', `)\n.maxntid ${threads}, 1, 1\n.minnctapersm ${blocks}\n`);
    const { program } = decodePtx(ptx, 'registers.ptx');
    const handle = bench.core.loadProgram(bench.device, program!);
    expect(bench.core.describeProgram(handle).kernels[0].registers).toBe(registers);
  });
  test('without a known count it is ignored, with a warning', () => {
    const bench = new Bench();
    const plain = moduleOf('setmaxnreg.dec.sync.aligned.u32 24;');
    const reports = bench.run(plain, [bench.buffer(4)], { block: [128, 1, 1] });
    expect(summary(reports)).toEqual(['warning emu/setmaxnreg-ignored']);
  });
});
