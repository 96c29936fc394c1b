// Whole pipelines: a producer warp that fills a ring by tensor copies, consumer warps that empty it, over many seeds.
import { describe, expect, test } from 'vitest';
import { Bench, mapOf, moduleOf, pattern, summary } from './async.testing.ts';

const seeds = Array.from({ length: 12 }, (_, i) => i);
const consumers = 3;
const rows = 8;
const columns = 64; // bytes
const tileBytes = rows * columns;

interface Ring {
  readonly stages: number;
  readonly tiles: number;
  readonly blocks: number;
}

/**
 * Warp 0 loads tile after tile of a [tiles * rows, columns] byte tensor into a ring; warps 1 to 3 sum each tile's words
 * with a weight of its number. With several blocks each loads its share of every tile and multicasts it to all.
 */
const ring = ({ stages, tiles, blocks }: Ring): string => {
  const share = rows / blocks;
  const load =
    blocks === 1
      ? `cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r20], [%rd2, {%r21, %r22}], [%r12];`
      : `cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%r20], [%rd2, {%r21, %r22}], [%r12], %h0;`;
  const release =
    blocks === 1
      ? '@%p4 mbarrier.arrive.shared::cta.b64 _, [%r13];'
      : Array.from(
          { length: blocks },
          (_, rank) =>
            `mapa.shared::cluster.u32 %r30, %r13, ${rank};\n@%p4 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r30];`,
        ).join('\n');
  return moduleOf(
    '.param .align 64 .b8 map[128], .param .u64 out',
    `.shared .align 1024 .b8 ring[${stages * tileBytes}];
.shared .align 8 .b64 full[${stages}];
.shared .align 8 .b64 empty[${stages}];
ld.param.u64 %rd1, [out];
mov.b64 %rd2, map;
cvta.param.u64 %rd2, %rd2;
mov.u32 %r0, %tid.x;
mov.u32 %r1, %cluster_ctarank;
mov.u32 %r2, full;
mov.u32 %r3, empty;
mov.u32 %r4, ring;
setp.ne.u32 %p0, %r0, 0;
@%p0 bra READY;
mov.u32 %r5, 0;
INIT:
shl.b32 %r6, %r5, 3;
add.u32 %r7, %r2, %r6;
mbarrier.init.shared::cta.b64 [%r7], 1;
add.u32 %r7, %r3, %r6;
mbarrier.init.shared::cta.b64 [%r7], ${consumers * blocks};
add.u32 %r5, %r5, 1;
setp.lt.u32 %p1, %r5, ${stages};
@%p1 bra INIT;
fence.mbarrier_init.release.cluster;
READY:
bar.warp.sync -1;
bar.sync 0;
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;
shr.u32 %r8, %r0, 5;
and.b32 %r9, %r0, 31;
mov.u32 %r5, 0;
mov.u32 %r10, 0;
mov.u32 %r11, 0;
setp.ne.u32 %p2, %r8, 0;
@%p2 bra CONSUME;
setp.ne.u32 %p3, %r9, 0;
@%p3 bra DONE;
mov.u16 %h0, ${(1 << blocks) - 1};
PRODUCE:
shl.b32 %r6, %r10, 3;
add.u32 %r12, %r2, %r6;
add.u32 %r13, %r3, %r6;
xor.b32 %r14, %r11, 1;
EMPTY:
mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p5, [%r13], %r14;
@!%p5 bra EMPTY;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r12], ${tileBytes};
mad.lo.u32 %r20, %r10, ${tileBytes}, %r4;
mad.lo.u32 %r20, %r1, ${share * columns}, %r20;
mov.u32 %r21, 0;
mul.lo.u32 %r22, %r5, ${rows};
mad.lo.u32 %r22, %r1, ${share}, %r22;
${load}
add.u32 %r10, %r10, 1;
setp.eq.u32 %p6, %r10, ${stages};
@%p6 mov.u32 %r10, 0;
@%p6 xor.b32 %r11, %r11, 1;
add.u32 %r5, %r5, 1;
setp.lt.u32 %p7, %r5, ${tiles};
@%p7 bra PRODUCE;
bra DONE;
CONSUME:
mov.u32 %r15, 0;
setp.eq.u32 %p4, %r9, 0;
TAKE:
shl.b32 %r6, %r10, 3;
add.u32 %r12, %r2, %r6;
add.u32 %r13, %r3, %r6;
FULL:
mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p5, [%r12], %r11;
@!%p5 bra FULL;
mad.lo.u32 %r20, %r10, ${tileBytes}, %r4;
sub.u32 %r16, %r8, 1;
mad.lo.u32 %r16, %r16, 32, %r9;
SUM:
setp.ge.u32 %p8, %r16, ${tileBytes / 4};
@%p8 bra SUMMED;
shl.b32 %r17, %r16, 2;
add.u32 %r17, %r17, %r20;
ld.shared.u32 %r18, [%r17];
mad.lo.u32 %r18, %r18, 2654435761, %r16;
add.u32 %r19, %r5, 1;
mad.lo.u32 %r15, %r18, %r19, %r15;
add.u32 %r16, %r16, ${32 * consumers};
bra SUM;
SUMMED:
bar.warp.sync -1;
${release}
add.u32 %r10, %r10, 1;
setp.eq.u32 %p6, %r10, ${stages};
@%p6 mov.u32 %r10, 0;
@%p6 xor.b32 %r11, %r11, 1;
add.u32 %r5, %r5, 1;
setp.lt.u32 %p7, %r5, ${tiles};
@%p7 bra TAKE;
mad.lo.u32 %r21, %r1, 4, 0;
cvt.u64.u32 %rd3, %r21;
add.u64 %rd3, %rd1, %rd3;
red.global.add.u32 [%rd3], %r15;
DONE:
bar.warp.sync -1;
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;`,
  ).replaceAll('2654435761', '-1640531535');
};

function expectedSum(tiles: number, content: Uint8Array): number {
  const words = new Uint32Array(content.slice().buffer);
  let sum = 0;
  for (let t = 0; t < tiles; t++)
    for (let i = 0; i < tileBytes / 4; i++)
      sum = (sum + Math.imul((Math.imul(words[(t * tileBytes) / 4 + i], -1640531535) + i) | 0, t + 1)) | 0;
  return sum >>> 0;
}

describe('ring of tiles', () => {
  test.each<Ring>([
    { stages: 1, tiles: 5, blocks: 1 },
    { stages: 2, tiles: 9, blocks: 1 },
    { stages: 4, tiles: 13, blocks: 1 },
    { stages: 4, tiles: 2, blocks: 1 },
    { stages: 2, tiles: 7, blocks: 2 },
    { stages: 3, tiles: 11, blocks: 4 },
  ])('$stages stages, $tiles tiles, cluster of $blocks', (form) => {
    const ptx = ring(form);
    const content = pattern(form.tiles * tileBytes, 11);
    for (const seed of seeds) {
      const bench = new Bench({ seed });
      const tensor = bench.buffer(content);
      const out = bench.buffer(4 * form.blocks);
      const map = mapOf(tensor, {
        dtype: 'U8',
        dims: [columns, form.tiles * rows],
        box: [columns, rows / form.blocks],
      });
      const reports = bench.run(ptx, [map, out], {
        grid: [form.blocks, 1, 1],
        block: [32 * (consumers + 1), 1, 1],
        cluster: [form.blocks, 1, 1],
      });
      expect(summary(reports)).toEqual([]);
      expect(bench.words(out, form.blocks)).toEqual(
        Array.from({ length: form.blocks }, () => expectedSum(form.tiles, content)),
      );
    }
  });

  test('checks on change nothing', () => {
    for (const seed of [0, 5]) {
      const bench = new Bench({ seed, checks: ['all'] });
      const content = pattern(9 * tileBytes, 11);
      const out = bench.buffer(4);
      const map = mapOf(bench.buffer(content), {
        dtype: 'U8',
        dims: [columns, 9 * rows],
        box: [columns, rows],
      });
      const reports = bench.run(ring({ stages: 2, tiles: 9, blocks: 1 }), [map, out], { block: [128, 1, 1] });
      expect(summary(reports)).toEqual([]);
      expect(bench.words(out, 1)).toEqual([expectedSum(9, content)]);
    }
  });

  test('a seed replays exactly', () => {
    const run = (): unknown => {
      const bench = new Bench({ seed: 77 });
      const tensor = bench.buffer(pattern(6 * tileBytes));
      const out = bench.buffer(4);
      const map = mapOf(tensor, { dtype: 'U8', dims: [columns, 6 * rows], box: [columns, rows] });
      const reports = bench.run(ring({ stages: 2, tiles: 6, blocks: 1 }), [map, out], { block: [128, 1, 1] });
      return [reports, bench.words(out, 1)];
    };
    expect(run()).toEqual(run());
  });

  // Each mutant: what stands in the ring's text, what stands there instead, and the codes of which one must be found by
  // some seed.
  test.each<[string, string, string, RegExp]>([
    [
      'the producer expects too few bytes',
      `[%r12], ${tileBytes};`,
      `[%r12], ${tileBytes - 16};`,
      /deadlock|tx-overflow|overrun/,
    ],
    [
      'the producer expects too many bytes',
      `[%r12], ${tileBytes};`,
      `[%r12], ${tileBytes + 16};`,
      /deadlock/,
    ],
    ['consumers never release', '@%p4 mbarrier.arrive.shared::cta.b64 _, [%r13];', '', /deadlock/],
    [
      'every lane releases',
      '@%p4 mbarrier.arrive.shared::cta.b64 _, [%r13];',
      'mbarrier.arrive.shared::cta.b64 _, [%r13];',
      /underflow|overrun/,
    ],
    ['the producer never waits', '@!%p5 bra EMPTY;', '', /underflow|overrun/],
    ['the producer begins with parity 0', 'xor.b32 %r14, %r11, 1;', 'mov.b32 %r14, %r11;', /deadlock/],
    ['no init', 'mbarrier.init.shared::cta.b64 [%r7], 1;', '', /not-initialised/],
  ])('found: %s', (_name, from, to, codes) => {
    const ptx = ring({ stages: 2, tiles: 9, blocks: 1 });
    expect(ptx).toContain(from);
    const mutant = ptx.replace(from, to);
    const found = new Set<string>();
    for (const seed of seeds) {
      const bench = new Bench({ seed });
      const tensor = bench.buffer(pattern(9 * tileBytes));
      const map = mapOf(tensor, { dtype: 'U8', dims: [columns, 9 * rows], box: [columns, rows] });
      for (const r of bench.run(mutant, [map, bench.buffer(4)], { block: [128, 1, 1] })) found.add(r.code);
    }
    expect([...found].join(' ')).toMatch(codes);
  });
});
