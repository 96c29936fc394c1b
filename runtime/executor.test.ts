// The executor of plans on small plans written by hand: order, places, layers, sizes, and what is refused.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FileDim, PlanFile } from '../compiler/plan-file/form.ts';
import {
  arena,
  constant,
  elementwise,
  ExecutorBench,
  fn,
  launch,
  layeredBench,
  numbers,
  ofDim,
  planFile,
} from './executor.testing.ts';
import type { LaunchPlaces, LaunchSite } from './executor.ts';
import { hasNative } from './native.ts';

/** What `layered` computes. */
function expected(x: readonly number[], s: readonly number[]): { y: number[]; s: number[] } {
  let y = x.map((v) => v * 2);
  const state = [...s];
  for (const layer of [2, 3, 4]) y = y.map((v, i) => (state[layer * x.length + i] += v * layer));
  return { y, s: state };
}

describe.skipIf(!hasNative())('a run', () => {
  test('goes through the layers: weights by layer, carried values, stacked states, resident between runs', () => {
    const bench = layeredBench();
    for (const n of [40, 1, 1000]) {
      const x = numbers(n);
      let s = Array.from({ length: 5 * n }, (_, i) => i % 3);
      const at = bench.floats(s);
      for (let round = 0; round < 2; round++) {
        const [y] = bench.run({ entry: 'f', sizes: { n }, arguments: [bench.floats(x), at] });
        const want = expected(x, s);
        s = want.s;
        expect(y).toEqual(want.y);
        expect(bench.read(at, 5 * n)).toEqual(s);
      }
    }
    // Each kernel's code was asked for once.
    expect(bench.asked).toEqual(['scale', 'gather']);
  });

  test('tells of every launch before and after it, with the places of operands and results', () => {
    const bench = layeredBench();
    const n = 3;
    const [x, s] = [bench.floats([1, 2, 3]), bench.floats(Array<number>(15).fill(1))];
    const told: string[] = [];
    const firsts = (p: LaunchPlaces): number[] =>
      [...p.operands, ...p.results].map(({ arrays: [a] }) => bench.read(a.address, 1)[0]);
    const tell =
      (when: string) =>
      (p: LaunchPlaces): void => {
        const types = p.operands.map((o) => o.type).join(' ');
        told.push(
          `${when} ${p.launch} ${p.function}.${p.step} ${p.kernel} ${p.layer} ${p.at} (${types}) ${firsts(p)}`,
        );
        expect(p.sizes).toEqual({ n });
        expect(p.results.map((r) => r.arrays.map((a) => a.bytes))).toEqual([[12]]);
      };
    bench.run({
      ...{ entry: 'f', sizes: { n }, arguments: [x, s] },
      onBefore: tell('before'),
      onAfter: tell('after'),
      onLaunched: ({ reports, statistics }, site: LaunchSite) => {
        expect(reports).toEqual([]);
        expect(statistics.warpInstructions).toBeGreaterThan(0);
        told.push(`ran ${site.launch} ${site.kernel}`);
      },
    });
    expect(told.filter((t) => t.startsWith('after'))).toEqual([
      'after 0 f.0 scale null model.ts:1:1 (f32[n] f32[1]) 1,2,2',
      'after 1 layer.0 scale 2 model.ts:1:1 (f32[n] f32[1]) 2,2,4',
      'after 2 layer.1 gather 2 model.ts:2:1 (f32[n] f32[n]) 4,5,5',
      'after 3 layer.0 scale 3 model.ts:1:1 (f32[n] f32[1]) 5,3,15',
      'after 4 layer.1 gather 3 model.ts:2:1 (f32[n] f32[n]) 15,16,16',
      'after 5 layer.0 scale 4 model.ts:1:1 (f32[n] f32[1]) 16,4,64',
      'after 6 layer.1 gather 4 model.ts:2:1 (f32[n] f32[n]) 64,65,65',
    ]);
    expect(told.map((t) => t.split(' ')[0])).toEqual(
      Array<string[]>(7).fill(['before', 'ran', 'after']).flat(),
    );
    expect(told).toContain('before 2 layer.1 gather 2 model.ts:2:1 (f32[n] f32[n]) 4,1,0');
  });

  test('with nothing to do launches nothing, and still tells of it', () => {
    const bench = layeredBench();
    let [seen, ran] = [0, 0];
    const results = bench.run({
      ...{ entry: 'f', sizes: { n: 0 }, arguments: [bench.floats([]), bench.floats([])] },
      onAfter: () => seen++,
      onLaunched: () => ran++,
    });
    expect([results, seen, ran]).toEqual([[[]], 7, 0]);
  });

  test('ends with what a callback throws, and the executor can go on', () => {
    const bench = layeredBench();
    const [x, s] = [bench.floats([1]), bench.floats(Array<number>(5).fill(0))];
    const request = { entry: 'f', sizes: { n: 1 }, arguments: [x, s] };
    for (const name of ['onBefore', 'onAfter', 'onLaunched']) {
      const error = new RangeError(name);
      let calls = 0;
      const stop = (): void => {
        if (++calls === 3) throw error;
      };
      let thrown: unknown;
      try {
        bench.run({ ...request, [name]: stop });
      } catch (e) {
        thrown = e;
      }
      expect(thrown).toBe(error);
      expect(calls).toBe(3);
    }
    const inside = (): void => void bench.run(request);
    expect(() => bench.run({ ...request, onBefore: inside })).toThrow('runs an entry already');
    bench.core.write(bench.device, s, new Uint8Array(20));
    expect(bench.run(request)).toEqual([expected([1], [0, 0, 0, 0, 0]).y]);
  });
});

describe.skipIf(!hasNative())('sizes', () => {
  /** One launch of `look`: x is the kernel's scratch memory. */
  const looking = (
    dims: readonly FileDim[],
    grid: PlanFile['kernels'][number]['grid'],
    atMost: number,
  ): PlanFile =>
    planFile({
      dims,
      types: [
        { text: 'u32[5]', components: [{ name: 'data', dtype: 'i32', bits: 32, shape: [constant(5)] }] },
      ],
      kernels: [
        {
          ...{ ...elementwise('look'), grid, atMost, parameterBytes: 24, scratchBytes: 4 },
          parameters: [
            { kind: 'u32', at: 0, dim: 1 },
            { kind: 'pointer', at: 8, value: 0xffffffff, component: 0, offset: 0 },
            { kind: 'pointer', at: 16, value: 0, component: 0, offset: 0 },
          ],
        },
      ],
      functions: [
        fn('f', {
          isEntry: true,
          arguments: [],
          arenaBytes: 256,
          steps: [launch(0, 0, [arena(0)])],
          results: [arena(0)],
        }),
      ],
    });
  const look = (file: PlanFile, sizes: Record<string, number>): number[] => {
    const bench = new ExecutorBench(file, { maxInstructions: 1e6 });
    const [[bytes], [again]] = [0, 1].map(
      () =>
        bench.executor.runEntry(bench.handle, { entry: 'f', sizes, arguments: [], codeOf: bench.codeOf })[0],
    );
    // Scratch memory is zero before every launch: the kernel leaves it so.
    expect(again).toEqual(bytes);
    return [...new Uint32Array(bytes.slice().buffer)];
  };

  test('of grids and of ragged dims follow their rules', () => {
    const small = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(
        fc.record({
          rows: small,
          per: small,
          groups: small,
          align: small,
          blocks: small,
          factor: small,
          cap: fc.integer({ min: 0, max: 9 }),
        }),
        ({ rows, per, groups, align, blocks, factor, cap }) => {
          const dims = [
            { name: 'rows', bound: 9 },
            { name: 'slots', bound: 1000, ragged: { of: 0, per, groups, align } },
          ];
          const grid = [
            { extent: { constant: 1, terms: [{ dim: 0, factor }] }, per: blocks },
            { extent: ofDim(0), per: 4 },
          ];
          const [gx, gy] = [Math.ceil((1 + rows * factor) / blocks), Math.ceil(rows / 4)];
          const most = rows * per + Math.min(groups, rows * per) * (align - 1);
          expect(look(looking(dims, grid, cap), { rows })).toEqual([
            ...(cap > 0 ? [Math.min(cap, gx * gy), 1, 1] : [gx, gy, 1]),
            ...[Math.floor(most / align) * align, 0],
          ]);
        },
      ),
      { numRuns: 25 },
    );
  });

  test('beyond a bound, unknown ones and derived ones are refused', () => {
    const bench = layeredBench();
    const run = (sizes: Record<string, number>): unknown => {
      try {
        return bench.run({ entry: 'f', sizes, arguments: [0n, 0n] });
      } catch (error) {
        const { code, message, where } = error as { code: string; message: string; where: string };
        return [code, message, where];
      }
    };
    expect(run({ n: 1001 })).toEqual(['plan/dim-bound', 'n is 1001, but the plan bounds it by 1000', '']);
    expect(run({ m: 1 })).toEqual(['plan/unknown-dim', 'the plan has no dim m', '']);
    expect(run({})).toEqual(['plan/unknown-dim', 'nobody gave the size of n', 'scale (model.ts:1:1)']);
    const ragged = looking(
      [
        { name: 'rows', bound: 9 },
        { name: 'slots', bound: 9, ragged: { of: 0, per: 1, groups: 1, align: 1 } },
      ],
      [{ extent: constant(1), per: 1 }],
      0,
    );
    expect(() => look(ragged, { slots: 1 })).toThrow('the size of slots follows from rows');
    const wide = looking(
      [
        { name: 'rows', bound: 0 },
        { name: 'slots', bound: 0 },
      ],
      [{ extent: ofDim(0, 2 ** 40), per: 1 }],
      0,
    );
    expect(() => look(wide, { rows: 2 ** 40, slots: 1 })).toThrow('larger than 2^63');
    expect(() => look(wide, { rows: 1, slots: 1 })).toThrow('a grid of 1099511627776 blocks');
    expect(() => look(wide, { rows: 0, slots: 2 ** 33 })).not.toThrow();
  });
});
