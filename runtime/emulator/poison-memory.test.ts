// Uninitialised data through memory: shared, local and global, calls, atomics, asynchronous copies, outputs.
import { describe, expect, test } from 'vitest';
import { Bench, mapOf, moduleOf } from './async.testing.ts';
import { expectPoison, poisonKernel, runPoisoned } from './testing/poison-bench.ts';

const load = 'ld.global.u32 %r1, [%rd12];\nld.global.u32 %r2, [%rd11];\n';
const shared =
  '.shared .align 128 .b8 tile[1024];\nmov.u32 %r20, tile;\nmul.lo.u32 %r21, %r0, 4;\nadd.u32 %r21, %r21, %r20;\n';
const out3 = 'st.global.u32 [%rd13], %r3;';
const told = [`uninitialised-output: ${out3}`];

describe('shared memory', () => {
  test('that nobody wrote', () => {
    expectPoison(
      `${shared}ld.shared.u32 %r3, [%r21];\n${out3}`,
      told,
      /byte 0x400 of shared memory, which was never written/,
    );
    expectPoison(`${shared}st.shared.u32 [%r21], 7;\nld.shared.u32 %r3, [%r21];\n${out3}`, []);
  });
  test('that only some lanes wrote', () => {
    const body = (limit: number): string =>
      `${shared}setp.lt.u32 %p0, %r0, ${limit};\n@%p0 st.shared.u32 [%r21], %r0;\nbar.sync 0;\nxor.b32 %r22, %r21, 124;\nld.shared.u32 %r3, [%r22];\n${out3}`;
    expectPoison(body(31), told, /out\[0\], an output \(4 bytes of it in all\).*byte 0x47c/);
    expectPoison(body(32), []);
  });
  test('hands on what was stored, with its origin', () => {
    const body = (from: string): string =>
      `${load}${shared}st.shared.u32 [%r21], ${from};\nld.shared.u32 %r3, [%r21];\n${out3}`;
    expectPoison(body('%r1'), told, /raw\[0\], which was never written/);
    expectPoison(body('%r2'), []);
  });
  test('byte by byte', () => {
    const body = (last: string): string =>
      `${load}${shared}st.shared.u8 [%r21], %r2;\nst.shared.u8 [%r21+1], %r2;\nst.shared.u16 [%r21+2], ${last};\nld.shared.u32 %r3, [%r21];\n${out3}`;
    expectPoison(body('%r1'), told);
    expectPoison(body('%r2'), []);
    expectPoison(body('%r1').replace('ld.shared.u32 %r3, [%r21]', 'ld.shared.u16 %r3, [%r21]'), []);
  });
  test('vectors', () => {
    const body = (n: number): string => `${load}${shared}mul.lo.u32 %r22, %r0, 16;
add.u32 %r22, %r22, %r20;
st.shared.v4.u32 [%r22], {%r2, %r1, %r2, 1};
ld.shared.v2.b64 {%rd20, %rd21}, [%r22];
mov.b64 {%r4, %r5}, %rd20;
mov.b64 {%r6, %r7}, %rd21;
mov.u32 %r3, %r${n};
${out3}`;
    for (const n of [4, 6, 7]) expectPoison(body(n), []);
    expectPoison(body(5), told);
  });
  test('a new block does not see what the last one left', () => {
    const body = `${shared}mov.u32 %r4, %ctaid.x;\nsetp.eq.u32 %p0, %r4, 0;\n@%p0 st.shared.u32 [%r21], 7;\nld.shared.u32 %r3, [%r21];\n${out3}`;
    expectPoison(body, [`uninitialised-output: ${out3}`], undefined, { grid: [2, 1, 1] });
    expectPoison(body.replace('@%p0 ', ''), [], undefined, { grid: [2, 1, 1] });
  });
});

describe('local memory and calls', () => {
  test('local memory', () => {
    const body = (write: string): string =>
      `.local .align 8 .b8 mine[16];\nmov.u64 %rd20, mine;\n${write}\nld.local.u32 %r3, [%rd20+8];\n${out3}`;
    expectPoison(body('st.local.u32 [%rd20+4], %r0;'), told, /byte 8 of local memory/);
    expectPoison(body('st.local.u64 [%rd20+8], %rd1;'), []);
    expectPoison(body('cvta.local.u64 %rd21, %rd20;\nst.u32 [%rd21+8], %r0;'), []);
  });
  const double = `.func (.param .b32 result) double(.param .b32 given)
{
.reg .b32 %x<4>;
ld.param.b32 %x1, [given];
add.u32 %x2, %x1, %x1;
st.param.b32 [result], %x2;
ret;
}
`;
  const call = (value: string): string => `${load}{
.param .b32 a;
.param .b32 b;
st.param.b32 [a], ${value};
call (b), double, (a);
ld.param.b32 %r3, [b];
}
${out3}`;
  test('through a call and back', () => {
    const run = (value: string): readonly string[] => runPoisoned(call(value), { head: double }).told;
    expect(run('%r1')).toEqual(told);
    expect(run('%r2')).toEqual([]);
  });
  test('a result that the function does not store', () => {
    const head = double.replace('st.param.b32 [result], %x2;\n', '');
    expect(runPoisoned(call('%r2'), { head }).told).toEqual(told);
  });
  test('local memory of a call begins anew', () => {
    const head = `.func (.param .b32 result) last(.param .b32 given)
{
.local .align 4 .b8 mine[4];
.reg .b32 %x<4>;
.reg .pred %q;
ld.param.b32 %x1, [given];
setp.eq.u32 %q, %x1, 1;
@%q st.local.b32 [mine], %x1;
ld.local.b32 %x2, [mine];
st.param.b32 [result], %x2;
ret;
}
`;
    const twice = (second: number): string =>
      `${call('1').replaceAll('double', 'last')}\n${call(String(second)).replaceAll('double', 'last').replaceAll('\n', '\n ')}`;
    expect(runPoisoned(twice(1), { head }).told).toEqual([]);
    expect(runPoisoned(twice(2), { head }).told.length).toBe(1);
  });
});

describe('atomics', () => {
  test('add to memory that nobody wrote', () => {
    expectPoison('red.global.add.u32 [%rd13], 1;', ['uninitialised-output: red.global.add.u32 [%rd13], 1;']);
    expectPoison('st.global.u32 [%rd13], 0;\nred.global.add.u32 [%rd13], 1;', []);
  });
  test('the old value, and an exchange that mends', () => {
    expectPoison(`atom.global.add.u32 %r3, [%rd12], 1;\n${out3}`, told, /raw\[0\]/);
    expectPoison(`atom.global.exch.b32 %r4, [%rd12], 1;\natom.global.add.u32 %r3, [%rd12], 1;\n${out3}`, []);
  });
  test('an unknown operand', () => {
    const body = (v: string): string => `${load}st.global.u32 [%rd13], 0;\nred.global.max.u32 [%rd13], ${v};`;
    expectPoison(body('%r1'), ['uninitialised-output: red.global.max.u32 [%rd13], %r1;']);
    expectPoison(body('%r2'), []);
  });
});

describe('asynchronous copies', () => {
  const copied = (from: string, how = ', 4'): string =>
    `${shared}cp.async.ca.shared.global [%r21], [${from}]${how};\ncp.async.wait_all;\nld.shared.u32 %r3, [%r21];\n${out3}`;
  test('cp.async brings what its source knows, and zeros', () => {
    expectPoison(copied('%rd12'), told);
    expectPoison(copied('%rd11'), []);
    expectPoison(`mov.u32 %r30, 0;\n${copied('%rd12', ', 4, %r30')}`, []);
    expectPoison(`mov.u32 %r30, 2;\n${copied('%rd12', ', 4, %r30')}`, told);
  });
  test('an unknown size is an operand', () => {
    const line = 'cp.async.ca.shared.global [%r21], [%rd11], 4, %r30;';
    const body = (from: string): string => `ld.global.u32 %r30, [${from}];\n${copied('%rd11', ', 4, %r30')}`;
    expectPoison(body('%rd2'), [`uninitialised-operand: ${line}`], /the operand in %r30.*raw\[0\]/);
    expectPoison(body('%rd1'), []);
  });
  const bulk = (count: string, bytes: string): string => `${shared}.shared .align 8 .b64 bar;
setp.eq.u32 %p0, %r0, 0;
@%p0 mbarrier.init.shared::cta.b64 [bar], ${count};
@%p0 fence.proxy.async.shared::cta;
bar.sync 0;
@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], ${bytes};
@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [FROM], 128, [bar];
W:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;
@!%p1 bra W;
ld.shared.u32 %r3, [%r21];
${out3}`;
  test('bulk copies', () => {
    expectPoison(bulk('1', '128').replace('FROM', '%rd2'), told);
    expectPoison(bulk('1', '128').replace('FROM', '%rd1'), []);
  });
  test('an mbarrier count that nobody wrote', () => {
    const body = (from: string): string =>
      `ld.global.u32 %r40, [${from}];\nadd.u32 %r40, %r40, 1;\n${bulk('%r40', '128').replace('FROM', '%rd1')}`;
    expectPoison(body('%rd2'), ['uninitialised-operand: @%p0 mbarrier.init.shared::cta.b64 [bar], %r40;']);
    expectPoison(body('%rd1'), []);
  });
  test('a bulk store brings poison to an output', () => {
    const line = '@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd3], [%r20], 128;';
    const body = (who: string): string => `${shared}${who} st.shared.u32 [%r21], 1;
fence.proxy.async.shared::cta;
bar.sync 0;
setp.eq.u32 %p0, %r0, 0;
${line}
@%p0 cp.async.bulk.commit_group;
@%p0 cp.async.bulk.wait_group 0;`;
    expectPoison(
      `setp.lt.u32 %p1, %r0, 30;\n${body('@%p1')}`,
      [`uninitialised-output: ${line}`],
      /out\[30\], an output \(8 bytes/,
    );
    expectPoison(body(''), []);
  });
  test('boxes: what lies out of bounds is filled, not unknown', () => {
    const ptx = moduleOf(
      '.param .align 64 .b8 map[128], .param .u64 p_out',
      `.shared .align 128 .b8 tile[256];
.shared .align 8 .b64 bar;
ld.param.u64 %rd3, [p_out];
mov.u64 %rd1, map;
cvta.param.u64 %rd1, %rd1;
mov.u32 %r20, tile;
mov.u32 %r0, %tid.x;
setp.eq.u32 %p0, %r0, 0;
@%p0 mbarrier.init.shared::cta.b64 [bar], 1;
@%p0 fence.proxy.async.shared::cta;
bar.sync 0;
@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 256;
mov.u32 %r1, 0;
@%p0 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd1, {%r1, %r1}], [bar];
W:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;
@!%p1 bra W;
mul.lo.u32 %r2, %r0, 8;
add.u32 %r3, %r20, %r2;
ld.shared.b64 %rd4, [%r3];
mul.wide.u32 %rd5, %r0, 8;
add.u64 %rd5, %rd5, %rd3;
st.global.b64 [%rd5], %rd4;`,
    );
    const run = (rows: number): readonly string[] => {
      const bench = new Bench({ checks: ['all'] });
      const { core, device } = bench;
      const from = core.allocate(device, 16 * 8, 'from', 4);
      core.write(device, from, new Uint8Array(16 * rows));
      const out = core.allocate(device, 256, 'out', 4);
      core.markOutput(device, out);
      // 8 rows of 16 bytes in a box of 16 rows.
      const map = mapOf(from, { dtype: 'F32', dims: [4, 8], box: [4, 16] });
      const found = bench.run(ptx, [map, out]);
      return [...found, ...core.outputReports(device, out)].map((r) => r.code);
    };
    expect(run(8)).toEqual([]);
    expect(run(7)).toEqual(['emu/uninitialised-output']);
  });
});

test('st.async brings poison to another block', () => {
  const body = (from: string): string => `.shared .align 128 .b8 tile[64];
.shared .align 8 .b64 bar;
mov.u32 %r20, tile;
mov.u32 %r21, bar;
mov.u32 %r22, %cluster_ctarank;
setp.eq.u32 %p0, %r22, 1;
@%p0 mbarrier.init.shared::cta.b64 [bar], 1;
@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 8;
barrier.cluster.arrive;
barrier.cluster.wait;
mov.u32 %r23, 1;
mapa.shared::cluster.u32 %r24, %r20, %r23;
mapa.shared::cluster.u32 %r25, %r21, %r23;
ld.global.u32 %r1, [${from}];
ld.global.u32 %r2, [%rd1];
@!%p0 st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.u32 [%r24], {%r2, %r1}, [%r25];
@!%p0 bra E;
W:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;
@!%p1 bra W;
ld.shared.v2.u32 {%r2, %r3}, [%r20];
st.global.u32 [%rd13+4], %r2;
${out3}
E:
barrier.cluster.arrive;
barrier.cluster.wait;`;
  const pair = { grid: [2, 1, 1], block: [1, 1, 1], cluster: [2, 1, 1] } as const;
  expectPoison(body('%rd2'), told, /out\[0\], an output \(4 bytes/, pair);
  expectPoison(body('%rd1'), [], undefined, pair);
});

describe('what the host sees', () => {
  test('copies on the device take along what is known', () => {
    const { core, device } = new Bench({ checks: ['all'] });
    const [from, to] = [core.allocate(device, 256, 'from'), core.allocate(device, 256, 'to')];
    core.write(device, from, new Uint8Array(100).fill(7));
    core.write(device, to, new Uint8Array(256));
    expect(core.firstUninitialised(device, from, 100)).toBe(-1);
    expect(core.firstUninitialised(device, from + 90n, 100)).toBe(10);
    core.copy(device, to + 32n, from, 128);
    expect(core.firstUninitialised(device, to, 256)).toBe(132);
    expect(core.firstUninitialised(device, to + 160n, 96)).toBe(-1);
    expect([...core.read(device, to + 30n, 4)]).toEqual([0, 0, 7, 7]);
    expect(() => core.copy(device, to, from, 512)).toThrow(/out.*of.*bounds|outside/);
  });
  test('a launch without the check leaves nothing unknown behind', () => {
    const bench = new Bench({ checks: ['all'] });
    const { core, device } = bench;
    const [known, raw, out] = ['known', 'raw', 'out'].map((n) => core.allocate(device, 4096, n, 4));
    core.write(device, known, new Uint8Array(4096));
    bench.run(poisonKernel('st.global.u32 [%rd12], %r0;'), [known, raw, out], { settings: { checks: [] } });
    core.markOutput(device, out);
    bench.run(poisonKernel(`ld.global.u32 %r3, [%rd12];\n${out3}`), [known, raw, out]);
    expect(core.outputReports(device, out)).toEqual([]);
  });
});

describe('outputs', () => {
  const outputs = (body: string): readonly [code: string, message: string][] => {
    const bench = new Bench({ checks: ['all'] });
    const { core, device } = bench;
    const out = core.allocate(device, 1024, 'out', 4);
    core.markOutput(device, out);
    bench.run(poisonKernel(body), [
      core.allocate(device, 1024, 'known', 4),
      core.allocate(device, 1024, 'raw', 4),
      out,
    ]);
    return core.outputReports(device, out).map((r) => [r.code, r.message]);
  };
  test('bytes that nobody wrote are a warning', () => {
    expect(outputs('st.global.u32 [%rd13], 1;')).toEqual([
      [
        'emu/output-not-written',
        '224 of the 256 elements of out, an output, were never written: the first is out[32]',
      ],
    ]);
  });
  test('a later store mends', () => {
    const told = outputs('st.global.u32 [%rd13], %r40;\nst.global.u32 [%rd13], 1;');
    expect(told.map(([code]) => code)).toEqual(['emu/output-not-written']);
  });
  test('a buffer that is filled first is written', () => {
    const bench = new Bench({ checks: ['all'] });
    const { core, device } = bench;
    const out = core.allocate(device, 256, 'out');
    core.markOutput(device, out);
    core.write(device, out, new Uint8Array(256));
    expect(core.outputReports(device, out)).toEqual([]);
  });
});
