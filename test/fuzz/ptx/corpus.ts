// The PTX that is mutated: checked-in kernels, what the compiler emits for a small model of every family, and, where nvcc
// is installed, what it makes of CUDA C++.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromNvcc, nvcc } from '../../../backends/ptx/decode/fixtures.testing.ts';
import { tileKernel } from '../../cli/emu-ptx.ts';
import { compiled, subjects } from '../../kernels/models.ts';

const root = join(import.meta.dirname, '../../..');
const files = [
  'test/fuzz/ptx/calls.ptx',
  'test/fuzz/ptx/calls.ptx',
  'backends/h800/gemm/fixtures/fp8-64x16.ptx',
  'backends/h800/loops/fixtures/quantize.ptx',
  'backends/h800/loops/fixtures/residual.ptx',
  'backends/ptx/parse/fixtures/syntax.ptx',
  'examples/emulator/vector-add.ptx',
];

/** One text of each family and size class: short ones, so that a mutation often hits what matters. */
export async function corpus(): Promise<readonly string[]> {
  const texts = [...files.map((f) => readFileSync(join(root, f), 'utf8')), tileKernel];
  const model = subjects.find((s) => s.name === 'deepseek-v3')!;
  const { kernels } = await compiled(model, 'fp8');
  const kinds = new Map<string, string>();
  for (const k of [...kernels].sort((a, b) => a.ptx.length - b.ptx.length)) {
    const stem = k.name.replace(/_[0-9a-f]{8}$/, '');
    if (!kinds.has(stem) && k.ptx.length < 60_000) kinds.set(stem, k.ptx);
  }
  texts.push(...kinds.values());
  if (nvcc) texts.push(await fromNvcc('-arch=sm_90a'));
  return texts;
}
