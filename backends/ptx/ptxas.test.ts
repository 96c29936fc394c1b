import { readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ptxModule } from './module.ts';
import { at, special } from './operands.ts';
import { assemble, findPtxas, parseResources, ptxasCandidates } from './ptxas.ts';

const noPtxas = 'no ptxas on this machine';

function withPlaces(): string {
  const m = ptxModule();
  m.kernel('copy', { threads: 32 }, (k) => {
    const x = k.pointer('x');
    const t = k.reg('f32');
    const shared = k.sharedVariable('tile', 256, 16);
    const s = k.reg('u32');
    k.mov.u32(s, special.tidX);
    k.mov.u32(s, shared);
    k.at({ file: 'blocks/mla.ts', line: 12, column: 7 });
    k.ld.global.f32(t, x);
    k.st.shared.f32(at(s, 4), t);
    k.at({ file: 'blocks/mla.ts', line: 13, column: 3 });
    k.bar.sync(0);
    k.ld.shared.f32(t, at(s));
    k.st.global.f32(at(x, 8), t);
    k.ret();
  });
  return m.toString();
}

test('looks in PATH, CUDA_HOME, CUDA_PATH and the usual folder, in this order', () => {
  expect(ptxasCandidates({ PATH: '/a:/b', CUDA_HOME: '/c' })).toEqual([
    '/a/ptxas',
    '/b/ptxas',
    '/c/bin/ptxas',
    '/usr/local/cuda/bin/ptxas',
  ]);
});

test('a missing ptxas is a result', async () => {
  expect(await assemble('', { candidates: ['/nowhere/ptxas'] })).toEqual({
    status: 'missing',
    searched: ['/nowhere/ptxas'],
  });
});

test('reads the resource report', () => {
  const text = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'one' for 'sm_90a'
ptxas info    : Function properties for one
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 40 registers, used 3 barriers, 1024 bytes smem
ptxas info    : Compiling entry function 'two' for 'sm_90a'
ptxas info    : Function properties for two
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 0 barriers
`;
  expect(parseResources(text)).toEqual({
    one: {
      registers: 40,
      spills: { storeBytes: 12, loadBytes: 16 },
      stackBytes: 8,
      sharedBytes: 1024,
      barriers: 3,
    },
    two: {
      registers: 10,
      spills: { storeBytes: 0, loadBytes: 0 },
      stackBytes: 0,
      sharedBytes: 0,
      barriers: 0,
    },
  });
});

test.for([{ args: [] }, { args: ['-lineinfo'] }])(
  'assembles source places with $args',
  async ({ args }, context) => {
    const cubins: Buffer[] = [];
    for (const n of [0, 1]) {
      const output = join(tmpdir(), `dsvc-test-${process.pid}-${args.length}-${n}.cubin`);
      const result = await assemble(withPlaces(), { args, output });
      if (result.status === 'missing') return context.skip(noPtxas);
      expect(result).toMatchObject({ status: 'assembled', infos: [], warnings: [] });
      if (result.status !== 'assembled') return;
      expect(result.kernels.copy).toMatchObject({
        spills: { storeBytes: 0, loadBytes: 0 },
        sharedBytes: 256,
      });
      cubins.push(await readFile(output));
      await rm(output);
    }
    expect(cubins[0]!.subarray(1, 4).toString()).toBe('ELF');
    expect(cubins[0]!.includes('mla.ts')).toBe(true);
    // Same text, same bytes: neither the temporary folder nor the time gets in.
    expect(cubins[0]!.equals(cubins[1]!)).toBe(true);
  },
);

test('errors carry the line of the PTX text and no path', async (context) => {
  if (!(await findPtxas())) return context.skip(noPtxas);
  const lines = withPlaces().split('\n');
  const wrong = lines.findIndex((l) => l.includes('bar.sync'));
  lines[wrong] = '  bar.sink 0;';
  const result = await assemble(lines.join('\n'));
  expect(result.status).toBe('rejected');
  if (result.status !== 'rejected') return;
  expect(result.errors[0]).toMatchObject({ line: wrong + 1 });
  expect(JSON.stringify(result)).not.toContain(tmpdir() + '/');
});

test('reports the remarks of ptxas about wgmma', async (context) => {
  // An accumulator is read before its wait: ptxas inserts one and says so.
  const m = ptxModule();
  m.kernel('early', { threads: 128 }, (k) => {
    const x = k.pointer('x');
    const acc = k.regs('f32', 4);
    const [a, b] = [k.reg('b64'), k.reg('b64')];
    const p = k.reg('pred');
    k.mov.b64(a, 0);
    k.mov.b64(b, 0);
    k.setp.eq.u32(p, 0, 1);
    k.wgmma.fence.sync.aligned();
    k.wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3(acc, a, b, p, 1, 1);
    k.wgmma.commit_group.sync.aligned();
    k.st.global.f32(x, acc[0]!);
    k.wgmma.wait_group.sync.aligned(0);
    k.ret();
  });
  const result = await assemble(m.toString());
  if (result.status === 'missing') return context.skip(noPtxas);
  expect(result.status).toBe('assembled');
  if (result.status === 'assembled') expect(result.infos.join('\n')).toMatch(/C75\d\d/);
});
