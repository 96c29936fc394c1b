// Shared memory that wgmma reads: what must come before the product, and what may overwrite its operands when.
import { expect, test } from 'vitest';
import type { Report } from './device.ts';
import { fragmentModule, runFragments } from './testing/tensor-bench.ts';

const sharedBytes = 0x4000;
const descriptor = (address: number): bigint =>
  BigInt((address & 0x3ffff) >> 4) | (1n << 16n) | (64n << 32n) | (1n << 62n);
const setup = `mov.b64 %rd0, ${descriptor(0x400)}; mov.b64 %rd1, ${descriptor(0x2400)};
${[0, 1, 2, 3].map((i) => `mov.b32 %o${i}, 0;`).join(' ')}
mov.b32 %r10, 0;
setp.eq.u32 %p1, %tid, 0;`;
const multiply = `wgmma.fence.sync.aligned;
wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%o0, %o1, %o2, %o3}, %rd0, %rd1, 1, 1, 1;
wgmma.commit_group.sync.aligned;`;
const wait = 'wgmma.wait_group.sync.aligned 0;';
const store = '@%p1 st.shared.b32 [%smem+8192], %r10;';

const seeds = [0, 1, 2, 3, 4, 5];
const run = (
  body: string,
  seed: number,
): { readonly lines: readonly string[]; readonly reports: readonly Report[] } => {
  const kernel = { threads: 128, inputs: 0, outputs: 4, sharedBytes, body: `${setup}\n${body}` };
  return {
    lines: fragmentModule(kernel).text.split('\n'),
    reports: runFragments(kernel, 1, new Uint32Array(0), new Uint8Array(sharedBytes), {
      seed,
      checks: ['all'],
      stopAtError: false,
    }).reports,
  };
};
const line = (lines: readonly string[], n: number): string => lines[n - 1].trim();

interface Case {
  readonly name: string;
  readonly code: string;
  readonly wrong: string;
  readonly right: string;
  readonly at: RegExp;
  readonly other: RegExp;
  readonly fix: RegExp;
}
const cases: readonly Case[] = [
  {
    name: 'an operand is overwritten before the wait',
    code: 'emu/race-tensor-core',
    wrong: `${multiply}\n${store}\n${wait}`,
    right: `${multiply}\n${wait}\nbar.sync 0;\n${store}`,
    at: /st\.shared/,
    other: /wgmma\.mma_async/,
    fix: /wgmma\.wait_group/,
  },
  {
    name: 'an operand is overwritten after a wait that leaves the product under way',
    code: 'emu/race-tensor-core',
    wrong: `${multiply}\n${wait.replace('0;', '1;')}\nbar.sync 0;\n${store}\n${wait}`,
    right: `${multiply}\n${wait}\nbar.sync 0;\n${store}`,
    at: /st\.shared/,
    other: /wgmma\.mma_async/,
    fix: /wgmma\.wait_group/,
  },
  {
    name: 'an operand is written without a barrier before the product',
    code: 'emu/race-tensor-core',
    wrong: `${store}\nfence.proxy.async;\n${multiply}\n${wait}`,
    right: `${store}\nfence.proxy.async;\nbar.sync 0;\n${multiply}\n${wait}`,
    at: /wgmma\.mma_async|st\.shared/,
    other: /st\.shared|wgmma\.mma_async/,
    fix: /barrier|wgmma\.wait_group/,
  },
  {
    name: 'an operand is written without a proxy fence',
    code: 'emu/missing-proxy-fence',
    wrong: `${store}\nbar.sync 0;\n${multiply}\n${wait}`,
    right: `${store}\nfence.proxy.async.shared::cta;\nbar.sync 0;\n${multiply}\n${wait}`,
    at: /wgmma\.mma_async/,
    other: /st\.shared/,
    fix: /fence\.proxy\.async/,
  },
  {
    name: 'wgmma.fence is no proxy fence',
    code: 'emu/missing-proxy-fence',
    wrong: `${store}\nwgmma.fence.sync.aligned;\nbar.sync 0;\n${multiply}\n${wait}`,
    right: `${store}\nwgmma.fence.sync.aligned;\nfence.proxy.async;\nbar.sync 0;\n${multiply}\n${wait}`,
    at: /wgmma\.mma_async/,
    other: /st\.shared/,
    fix: /fence\.proxy\.async/,
  },
];

test.each(cases)('$name', (c) => {
  for (const seed of seeds) {
    const { lines, reports } = run(c.wrong, seed);
    const found = reports.find((r) => r.code === c.code && c.at.test(line(lines, r.ptxLine)));
    expect(reports.map((r) => `${r.code} ${line(lines, r.ptxLine)}`).join('\n')).toContain(c.code);
    expect(line(lines, found!.others[0].ptxLine)).toMatch(c.other);
    expect(found!.fix).toMatch(c.fix);
  }
});
test.each(cases)('$name: repaired', (c) => {
  for (const seed of seeds) expect(run(c.right, seed).reports.map((r) => r.message)).toEqual([]);
});
