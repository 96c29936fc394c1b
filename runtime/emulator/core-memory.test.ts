// Memory: loads and stores in every space and width, atomics, and what is reported of bad accesses and launches.
import { describe, expect, test } from 'vitest';
import { Bench, moduleOf as wholeModule, onlyReport, pattern, summary } from './async.testing.ts';

/** A kernel with declarations in front of its body. */
const moduleOf = (parameters: string, body: string, declarations = ''): string =>
  wholeModule(parameters, `${declarations}\n${body}`);

const address = `
ld.param.u64 %rd0, [o]; cvta.to.global.u64 %rd0, %rd0;
mov.u32 %r0, %tid.x;`;

test('vectors and narrow types, dense and scattered, through every space', () => {
  const bytes = 32 * 16;
  const content = pattern(bytes, 3);
  for (const [type, vector, size] of [
    ['u8', '', 1],
    ['s8', '', 1],
    ['u16', '', 2],
    ['s16', '.v2', 4],
    ['b32', '', 4],
    ['b32', '.v2', 8],
    ['b32', '.v4', 16],
    ['b64', '', 8],
    ['b64', '.v2', 16],
    ['u8', '.v4', 4],
  ] as const)
    for (const space of ['global', 'shared', 'generic'])
      for (const reverse of [false, true]) {
        const n = vector ? Number(vector[2]) : 1;
        const prefix = size / n === 8 ? '%rd1' : size / n === 4 ? '%r1' : '%h';
        const list = Array.from({ length: n }, (_, k) => `${prefix}${k}`).join(', ');
        const operand = vector ? `{${list}}` : list;
        const where = space === 'shared' ? '.shared' : space === 'global' ? '.global' : '';
        const lane = reverse ? 'sub.u32 %r1, 31, %r0;' : 'mov.u32 %r1, %r0;';
        const ptx = moduleOf(
          '.param .u64 o, .param .u64 i',
          `${address} ld.param.u64 %rd1, [i]; cvta.to.global.u64 %rd1, %rd1;
${lane}
mul.wide.u32 %rd2, %r1, ${size}; add.u64 %rd3, %rd1, %rd2; mul.wide.u32 %rd4, %r0, ${size}; add.u64 %rd5, %rd0, %rd4;
mov.u32 %r2, s; mad.lo.u32 %r3, %r1, ${size}, %r2; mad.lo.u32 %r4, %r0, ${size}, %r2;
${
  space === 'shared'
    ? `ld.global${vector}.${type} ${operand}, [%rd5+0]; ld.global${vector}.${type} ${operand}, [%rd3]; st.shared${vector}.${type} [%r4], ${operand}; bar.sync 0; ld.shared${vector}.${type} ${operand}, [%r4]; st.global${vector}.${type} [%rd5], ${operand};`
    : `ld${where}${vector}.${type} ${operand}, [%rd3]; st${where}${vector}.${type} [%rd5], ${operand};`
}`,
          '.shared .align 16 .b8 s[512];',
        );
        const bench = new Bench();
        const out = bench.buffer(bytes);
        const input = bench.buffer(content);
        expect(bench.run(ptx, [out, input])).toEqual([]);
        const want = new Uint8Array(bytes);
        for (let l = 0; l < 32; l++) {
          const from = (reverse ? 31 - l : l) * size;
          want.set(content.slice(from, from + size), l * size);
        }
        expect(bench.read(out, bytes), `${space}${vector}.${type} ${reverse}`).toEqual(want);
      }
});

test('narrow loads extend into wider registers by their sign', () => {
  const bench = new Bench();
  const out = bench.buffer(32 * 8);
  const input = bench.buffer(Uint8Array.from({ length: 64 }, (_, i) => (i * 9) & 255));
  const ptx = moduleOf(
    '.param .u64 o, .param .u64 i',
    `${address} ld.param.u64 %rd1, [i]; cvt.u64.u32 %rd2, %r0; add.u64 %rd1, %rd1, %rd2; ld.global.s8 %rd3, [%rd1];
ld.global.u8 %r5, [%rd1]; cvt.s64.s32 %rd4, %r5; sub.s64 %rd3, %rd4, %rd3;
mul.wide.u32 %rd5, %r0, 8; add.u64 %rd5, %rd0, %rd5; st.global.u64 [%rd5], %rd3;`,
  );
  expect(bench.run(ptx, [out, input])).toEqual([]);
  const got = [...new BigInt64Array(bench.read(out, 256).buffer)];
  expect(got).toEqual(Array.from({ length: 32 }, (_, i) => (((i * 9) & 255) > 127 ? 256n : 0n)));
});

test('module variables: initialisers, pointers among them, constants', () => {
  const ptx = `
.version 8.6
.target sm_90a
.address_size 64
.global .align 4 .u32 numbers[4] = {10, 20, 30, 40};
.const .align 8 .u64 pointer = generic(numbers) + 8;
.visible .entry k(.param .u64 o)
{ .reg .b64 %rd<8>; .reg .b32 %r<8>;
ld.param.u64 %rd0, [o]; ld.const.u64 %rd1, [pointer]; ld.u32 %r0, [%rd1]; ld.global.u32 %r1, [numbers+4];
add.u32 %r0, %r0, %r1; st.global.u32 [%rd0], %r0; ret; }`;
  const bench = new Bench();
  const out = bench.buffer(4);
  expect(bench.run(ptx, [out], { block: [1, 1, 1] })).toEqual([]);
  expect(bench.words(out, 1)).toEqual([50]);
});

describe('atomics', () => {
  test('integer operations from many blocks give the same whatever the order', () => {
    const ops = ['add.u32', 'min.s32', 'max.u32', 'and.b32', 'or.b32', 'xor.b32', 'inc.u32', 'dec.u32'];
    const ptx = moduleOf(
      '.param .u64 o',
      `${address} mov.u32 %r1, %ctaid.x; mad.lo.u32 %r2, %r1, 64, %r0; sub.u32 %r3, %r2, 100; or.b32 %r4, %r2, 0xffff0000; mov.u32 %r5, 700;
${ops
  .map((op, k) => {
    const v = /and/.test(op) ? '%r4' : /inc|dec/.test(op) ? '%r5' : /min/.test(op) ? '%r3' : '%r2';
    return k % 2
      ? `red.global.${op} [%rd0+${4 * k}], ${v};`
      : `atom.global.${op} %r6, [%rd0+${4 * k}], ${v};`;
  })
  .join('\n')}`,
    );
    const start = [5, 5, 5, 0xffffffff, 0, 0, 3, 3];
    const want = [...start];
    const n = 64 * 40;
    want[6] = 3;
    for (let i = 0; i < n; i++) {
      want[0] = (want[0] + i) >>> 0;
      want[1] = Math.min(want[1] | 0, i - 100) >>> 0;
      want[2] = Math.max(want[2], i);
      want[3] = (want[3] & (i | 0xffff0000)) >>> 0;
      want[4] = (want[4] | i) >>> 0;
      want[5] = (want[5] ^ i) >>> 0;
      want[6] = want[6] >= 700 ? 0 : want[6] + 1;
      want[7] = want[7] === 0 || want[7] > 700 ? 700 : want[7] - 1;
    }
    for (const seed of [0, 3, 8]) {
      const bench = new Bench({ seed });
      const out = bench.buffer(new Uint8Array(new Uint32Array(start).buffer));
      expect(bench.run(ptx, [out], { grid: [40, 1, 1], block: [64, 1, 1] })).toEqual([]);
      expect(bench.words(out, 8)).toEqual(want);
    }
  });

  test('a lock of cas and exch protects a plain counter', () => {
    const ptx = moduleOf(
      '.param .u64 o',
      `${address}
L: atom.global.acquire.gpu.cas.b32 %r1, [%rd0], 0, 1;
setp.ne.u32 %p0, %r1, 0;
@%p0 bra L;
ld.global.u32 %r2, [%rd0+4]; add.u32 %r2, %r2, 1; st.global.u32 [%rd0+4], %r2;
atom.global.release.gpu.exch.b32 %r3, [%rd0], 0;`,
    );
    const bench = new Bench({ seed: 4 });
    const out = bench.buffer(8);
    expect(bench.run(ptx, [out], { grid: [6, 1, 1], block: [64, 1, 1] })).toEqual([]);
    expect(bench.words(out, 2)).toEqual([0, 6 * 64]);
  });

  test('floats, halves, vectors, 64 and 128 bits', () => {
    const bench = new Bench();
    const out = bench.buffer(64);
    const ptx = moduleOf(
      '.param .u64 o',
      `${address} mov.f32 %f0, 0f3F000000; mov.b32 %r1, 0x3C003C00; mov.b32 %r2, 0x3F803F80; mov.b64 %rd1, 0d3FD0000000000000;
red.global.add.f32 [%rd0], %f0; red.global.add.noftz.f16x2 [%rd0+4], %r1; red.global.add.noftz.bf16x2 [%rd0+8], %r2;
red.global.add.f64 [%rd0+16], %rd1; red.global.add.v2.f32 [%rd0+24], {%f0, %f0};
mov.b64 %rd2, -1; atom.global.max.u64 %rd3, [%rd0+32], %rd2;`,
    );
    expect(bench.run(ptx, [out])).toEqual([]);
    const view = new DataView(bench.read(out, 64).buffer);
    expect(view.getFloat32(0, true)).toBe(16);
    expect(view.getUint32(4, true)).toBe(0x50005000);
    expect(view.getUint32(8, true)).toBe(0x42004200);
    expect(view.getFloat64(16, true)).toBe(8);
    expect([view.getFloat32(24, true), view.getFloat32(28, true)]).toEqual([16, 16]);
    expect(view.getBigUint64(32, true)).toBe(2n ** 64n - 1n);
  });
});

describe('reports', () => {
  const run = (body: string, extra = '', bytes = 128) => {
    const bench = new Bench();
    const out = bench.buffer(bytes, 'out');
    const ptx = moduleOf('.param .u64 o', `${address}\n${body}`, extra);
    return onlyReport(ptx, bench.run(ptx, [out]));
  };
  test('out of bounds names allocation, offset, lane and line', () => {
    const r = run('mul.wide.u32 %rd1, %r0, 8; add.u64 %rd1, %rd0, %rd1;\nst.global.u32 [%rd1], %r0;');
    expect(r).toMatchObject({
      code: 'emu/out-of-bounds',
      severity: 'error',
      lane: 16,
      warp: 0,
      block: [0, 0, 0],
    });
    expect(r.line).toBe('st.global.u32 [%rd1], %r0;');
    expect(r.message).toContain('write of 4 bytes');
    expect(r.message).toContain('the nearest allocation is out, 128 bytes');
    expect(r.message).toContain('byte 128');
  });
  test('misaligned', () => {
    const r = run('ld.global.v2.b32 {%r1, %r2}, [%rd0+4];');
    expect(r).toMatchObject({ code: 'emu/misaligned', lane: 0 });
    expect(r.message).toContain('not a multiple of 8');
  });
  test('null pointers', () =>
    expect(run('mov.u64 %rd1, 0; ld.global.u32 %r1, [%rd1];').code).toBe('emu/out-of-bounds'));
  test('shared memory: beyond the end, below the start', () => {
    expect(run('st.shared.u32 [s+64], %r0;', '.shared .align 4 .b8 s[64];').code).toBe('emu/out-of-bounds');
    const r = run('mov.u32 %r1, 0; st.shared.u32 [%r1], %r0;', '.shared .align 4 .b8 s[64];');
    expect(r.message).toContain('first KiB');
  });
  test('local memory', () =>
    expect(
      run('mov.u64 %rd1, l; add.u64 %rd1, %rd1, 16; st.local.u32 [%rd1], %r0;', '.local .align 4 .b8 l[16];')
        .code,
    ).toBe('emu/out-of-bounds'));
  test('trap', () => expect(run('trap;').code).toBe('emu/trap'));
  test('use after free', () => {
    const bench = new Bench();
    const out = bench.buffer(64, 'gone');
    bench.core.free(bench.device, out);
    const ptx = moduleOf('.param .u64 o', `${address} st.global.u32 [%rd0], %r0;`);
    const [r] = bench.run(ptx, [out]);
    expect(r.code).toBe('emu/use-after-free');
    expect(r.message).toContain('gone');
  });
  test('a kernel without end is stopped', () => {
    const bench = new Bench({ maxInstructions: 100_000 });
    expect(summary(bench.run(moduleOf('.param .u64 o', 'L: bra L;'), [0n]))).toEqual(['error emu/too-long']);
  });
  test('with stopAtError off the launch goes on and counts', () => {
    const bench = new Bench({ stopAtError: false });
    const out = bench.buffer(128);
    const ptx = moduleOf(
      '.param .u64 o',
      `${address} mul.wide.u32 %rd1, %r0, 8; add.u64 %rd1, %rd0, %rd1; st.global.u32 [%rd1], %r0;`,
    );
    const [r, ...more] = bench.run(ptx, [out]);
    expect(more).toEqual([]);
    expect(r.count).toBe(16);
    expect(bench.words(out, 4)).toEqual([0, 0, 1, 0]);
  });
});

describe('launch contract', () => {
  const attempt = (launch: Parameters<Bench['run']>[2], extra = '', body = ''): string => {
    const bench = new Bench();
    try {
      bench.run(moduleOf('.param .u64 o', body, extra), [0n], launch);
      return 'ran';
    } catch (error) {
      return `${(error as { code: string }).code} ${(error as Error).message}`;
    }
  };
  test('too many threads, bad grids, clusters, shared memory', () => {
    expect(attempt({})).toBe('ran');
    expect(attempt({ block: [1025, 1, 1] })).toMatch(
      /^emu\/launch-contract k: a block of 1025 x 1 x 1 threads/,
    );
    expect(attempt({ block: [32, 1, 65] })).toMatch(/^emu\/launch-contract/);
    expect(attempt({ grid: [1, 65536, 1] })).toMatch(/^emu\/launch-contract/);
    expect(attempt({ grid: [0, 1, 1] })).toMatch(/at least 1/);
    expect(attempt({ grid: [3, 1, 1], cluster: [2, 1, 1] })).toMatch(/does not divide/);
    expect(attempt({ dynamicSharedBytes: 232449 })).toMatch(/at most 232448/);
  });
  test('unsupported instructions and broken programs are refused with their place', () => {
    expect(attempt({}, '', 'stacksave.u64 %rd0;')).toMatch(/^emu\/unsupported-instruction stacksave/);
    expect(attempt({}, '', 'fma.rn.oob.f16 %h0, %h1, %h1, %h1;')).toMatch(
      /^emu\/unsupported-instruction fma.*oob/,
    );
    const bench = new Bench();
    for (let n = 0; n < 60; n += 7)
      expect(() => bench.core.loadProgram(bench.device, new Uint8Array(n).fill(n))).toThrow(
        /decoded program is broken/,
      );
  });
  test('blocks that wait for each other deadlock when they do not fit', () => {
    const ptx = moduleOf(
      '.param .u64 o',
      `${address} setp.ne.u32 %p0, %r0, 0; @%p0 exit; red.release.gpu.global.add.u32 [%rd0], 1;
mov.u32 %r4, %nctaid.x;
L: ld.acquire.gpu.global.u32 %r1, [%rd0]; setp.lt.u32 %p1, %r1, %r4; @%p1 bra L;`,
      '.shared .align 4 .b8 s[40000];\nmov.u32 %r9, s;',
    );
    const bench = new Bench({ sms: 2, maxInstructions: 300_000 });
    const out = bench.buffer(4);
    // Five blocks of 40,000 bytes fit an SM.
    expect(bench.run(ptx, [out], { grid: [10, 1, 1] })).toEqual([]);
    bench.core.write(bench.device, out, new Uint8Array(4));
    expect(summary(bench.run(ptx, [out], { grid: [11, 1, 1] }))).toEqual(['error emu/too-long']);
  });
});

test('a seed replays exactly, and another order of blocks shows in a race', () => {
  const ptx = moduleOf(
    '.param .u64 o',
    `${address} mov.u32 %r1, %ctaid.x; setp.eq.u32 %p0, %r0, 0; @%p0 st.global.u32 [%rd0], %r1;`,
  );
  const last = (seed: number): number => {
    const bench = new Bench({ seed });
    const out = bench.buffer(4);
    expect(bench.run(ptx, [out], { grid: [50, 1, 1] })).toEqual([]);
    return bench.words(out, 1)[0];
  };
  const seeds = Array.from({ length: 12 }, (_, i) => i);
  expect(seeds.map(last)).toEqual(seeds.map(last));
  expect(new Set(seeds.map(last)).size).toBeGreaterThan(3);
});
