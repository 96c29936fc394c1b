// Launches of which only some blocks run: LaunchRequest.blocks.
import { expect, test } from 'vitest';
import { Bench, moduleOf, summary } from './async.testing.ts';

/** Every block writes 1 + %nctaid.x to its word; `body` may do something first. */
const kernel = (body = ''): string =>
  moduleOf(
    '.param .u64 o',
    `
ld.param.u64 %rd0, [o];
mov.u32 %r0, %ctaid.x;
mov.u32 %r1, %ctaid.y;
mov.u32 %r2, %nctaid.x;
mad.lo.u32 %r3, %r1, %r2, %r0;
mad.wide.u32 %rd1, %r3, 4, %rd0;
${body}
mov.u32 %r4, %tid.x;
setp.ne.u32 %p0, %r4, 0;
@%p0 exit;
add.u32 %r2, %r2, 1;
st.global.u32 [%rd1], %r2;`,
  );

test('only the named blocks run, and they see the whole grid', () => {
  for (const seed of [0, 1, 2]) {
    const bench = new Bench({ seed });
    const out = bench.buffer(4 * 12);
    const launch = { grid: [4, 3, 1] as const, blocks: [11, 0, 6] };
    expect(bench.run(kernel(), [out], launch)).toEqual([]);
    expect(bench.words(out, 12)).toEqual([5, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 5]);
  }
});

test('whole clusters run together', () => {
  const bench = new Bench();
  const out = bench.buffer(4 * 8);
  const meet = 'barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;';
  const launch = { grid: [4, 2, 1] as const, cluster: [2, 2, 1] as const };
  // The cluster of columns 2 and 3, both rows.
  expect(bench.run(kernel(meet), [out], { ...launch, blocks: [2, 3, 6, 7] })).toEqual([]);
  expect(bench.words(out, 8)).toEqual([0, 0, 5, 5, 0, 0, 5, 5]);
  const part = { ...launch, blocks: [2, 3, 6] };
  expect(() => bench.run(kernel(meet), [out], part)).toThrow('only 3 of 4 blocks');
});

test('a block that waits for one that does not run never ends', () => {
  const bench = new Bench();
  const out = bench.buffer(8);
  const wait = 'W: ld.acquire.gpu.global.u32 %r5, [%rd0+4];\nsetp.eq.u32 %p1, %r5, 0;\n@%p1 bra W;';
  const launch = { grid: [2, 1, 1] as const, blocks: [0], settings: { maxInstructions: 10_000 } };
  expect(summary(bench.run(kernel(wait), [out], launch))).toEqual(['error emu/too-long']);
});

test.each<[string, readonly number[], string]>([
  ['beyond the grid', [0, 12], 'block 12 is to run, but the grid has 12 blocks'],
  ['twice', [3, 5, 3], 'block 3 is named twice'],
  ['not a number of a block', [-1], 'a block is not an unsigned integer'],
  ['none', [], 'blocks is not an array of at least one block'],
])('refused: %s', (_, blocks, message) => {
  const bench = new Bench();
  const out = bench.buffer(48);
  expect(() => bench.run(kernel(), [out], { grid: [4, 3, 1], blocks })).toThrow(message);
});
