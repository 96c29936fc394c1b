// Every misuse of tensor copies and tensor maps: its code, the PTX line it names, and that a fix is offered.
import { describe, expect, test } from 'vitest';
import {
  Bench,
  expectMisuse,
  mapOf,
  moduleOf,
  onlyReport,
  pattern,
  type Argument,
  type Launch,
} from './async.testing.ts';
import type { TensorMapShape } from './tensor-map.ts';

const one: Launch = { block: [1, 1, 1] };
const init = 'mbarrier.init.shared::cta.b64 [bar], 1;';

describe('tensor copies', () => {
  const kernel = (text: string, space = '.param .align 64 .b8 map[128], .param .u64 other'): string =>
    moduleOf(
      space,
      `.shared .align 1024 .b8 tile[2048];
.shared .align 8 .b64 bar;
mov.b64 %rd2, map;
cvta.param.u64 %rd2, %rd2;
ld.param.u64 %rd1, [other];
mov.u32 %r1, tile;
mov.u32 %r2, 0;
${init}
${text}`,
    );
  const load = (rank: number, coordinates: string, to = '%r1', map = '%rd2'): string =>
    `cp.async.bulk.tensor.${rank}d.shared::cluster.global.mbarrier::complete_tx::bytes [${to}], [${map}, {${coordinates}}], [bar];`;
  const two = '%r2, %r2';
  const plain = { dtype: 'U8', dims: [64, 64], box: [64, 16] } as const;

  test.each<[string, string, Partial<TensorMapShape>, string, RegExp?]>([
    ['a destination of 64', load(2, two, '%r1+64'), {}, 'tma-misaligned', /multiple of 128/],
    ['a misaligned map', load(2, two, '%r1', '%rd2+32'), {}, 'tensor-map-misaligned'],
    [
      'a wrong rank',
      load(3, '%r2, %r2, %r2'),
      {},
      'tensor-map-rank',
      /3-d copy with the map of a 2-d u8 tensor 64x64/,
    ],
    ['a box larger than shared memory', load(2, two), { box: [64, 256] }, 'box-too-large', /16384 bytes/],
    ['a box past the end of shared memory', load(2, two, '%r1+1280'), {}, 'out-of-bounds'],
    ['a tensor larger than its buffer', load(2, two), { dims: [64, 200], box: [64, 16] }, 'none'],
    [
      'interleaving',
      load(3, '%r2, %r2, %r2'),
      { dims: [16, 8, 8], strides: [64, 512], box: [16, 2, 2], elementStrides: [1, 1, 1], interleave: '16B' },
      'unsupported-tensor-map',
    ],
    [
      'a reduction that the type lacks',
      `cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%rd2, {${two}}], [%r1];`,
      {},
      'tensor-map-type',
      /u8/,
    ],
  ])('%s', (_name, text, shape, code, message) => {
    const args = (bench: Bench): readonly Argument[] => [
      mapOf(bench.buffer(pattern(4096), 'tensor'), { ...plain, ...shape }),
      0n,
    ];
    if (code === 'none') {
      // Only what the box touches must exist.
      const bench = new Bench();
      expect(
        bench.run(
          kernel(
            `mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 1024;\n${text}\nW:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;\n@!%p1 bra W;`,
          ),
          args(bench),
          one,
        ),
      ).toEqual([]);
      return;
    }
    expectMisuse(kernel(text), args, one, `emu/${code}`, /bulk\.tensor/, message);
  });

  test('a box outside the buffer, inside the tensor', () => {
    expectMisuse(
      kernel(load(2, '%r2, 100').replace('100', '%r5').replace(/^/, 'mov.u32 %r5, 100;\n')),
      (bench) => [mapOf(bench.buffer(4096, 'tensor'), { ...plain, dims: [64, 200] }), 0n],
      one,
      'emu/out-of-bounds',
      /bulk\.tensor/,
      /tensor, 4096 bytes/,
    );
  });

  test('bytes that are no map', () => {
    expectMisuse(
      kernel(load(2, two)),
      () => [new Uint8Array(128), 0n],
      one,
      'emu/not-a-tensor-map',
      /bulk\.tensor/,
    );
  });

  test('a map in shared memory', () => {
    const text = `cvt.u64.u32 %rd3, %r1;\ncvta.shared.u64 %rd3, %rd3;\n${load(2, two, '%r1', '%rd3')}`;
    expectMisuse(
      kernel(text),
      (b) => [mapOf(b.buffer(4096), plain), 0n],
      one,
      'emu/not-a-tensor-map',
      /bulk\.tensor/,
      /not in \.param/,
    );
  });

  test('a swizzled tile off its pattern is a warning', () => {
    const ptx = kernel(
      `mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;\n${load(2, two, '%r1+256')}\nW:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;\n@!%p1 bra W;`,
    );
    const bench = new Bench();
    const map = mapOf(bench.buffer(4096), { ...plain, box: [64, 8], swizzle: '64B' });
    const report = onlyReport(ptx, bench.run(ptx, [map, 0n], one));
    expect([report.severity, report.code]).toEqual(['warning', 'emu/tma-swizzle-base']);
  });

  test.each<[string, string, string]>([
    [
      'a value out of range',
      'tensormap.replace.tile.box_dim.global.b1024.b32 [%rd1], 0, %r5;',
      'tensor-map-invalid',
    ],
    [
      'an address that is not a multiple of 16',
      'tensormap.replace.tile.global_address.global.b1024.b64 [%rd1], %rd5;',
      'tensor-map-invalid',
    ],
    ['no map', 'tensormap.replace.tile.rank.global.b1024.b32 [%rd1+128], %r2;', 'not-a-tensor-map'],
    ['a misaligned map', 'tensormap.replace.tile.rank.global.b1024.b32 [%rd1+16], %r2;', 'misaligned'],
  ])('tensormap.replace: %s', (_name, text, code) => {
    const args = (bench: Bench): readonly Argument[] => {
      const map = mapOf(bench.buffer(4096), plain);
      const both = new Uint8Array(256);
      both.set(map);
      return [map, bench.buffer(both)];
    };
    expectMisuse(
      kernel(`mov.u32 %r5, 257;\nmov.u64 %rd5, 4104;\n${text}`),
      args,
      one,
      `emu/${code}`,
      /replace/,
    );
  });

  test('a map that the device made invalid', () => {
    // Rows of 64 bytes under a 32-byte swizzle.
    const text = `tensormap.replace.tile.swizzle_mode.global.b1024.b32 [%rd1], 1;\n${load(2, two, '%r1', '%rd1')}`;
    expectMisuse(
      kernel(text),
      (bench) => {
        const map = mapOf(bench.buffer(4096), plain);
        return [map, bench.buffer(map)];
      },
      one,
      'emu/tensor-map-invalid',
      /bulk\.tensor/,
      /rows of 64 bytes under a 32-byte swizzle/,
    );
  });
});
