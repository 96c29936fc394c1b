// Texts that several tests of the PTX front read: our own kernels, odd syntax, and what nvcc makes of CUDA C++.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { findPtxas } from '../ptxas.ts';

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');

/** Every way of writing things that PTX has and compilers seldom use. */
export const syntax = read('../parse/fixtures/syntax.ptx');
/** A kernel of ours: TMA, wgmma, mbarriers. */
export const gemm = read('../../h800/gemm/fixtures/fp8-64x16.ptx');

const ptxas = await findPtxas();
const candidate = ptxas ? join(dirname(ptxas.path), 'nvcc') : '';
/** Path of nvcc beside ptxas, of CUDA 12 or later, or null. */
export const nvcc = ptxas && parseInt(ptxas.release) >= 12 && existsSync(candidate) ? candidate : null;

/** PTX that nvcc makes of the kernels in fixtures/kernels.cu. Throws an Error with what nvcc says when it fails. */
export async function fromNvcc(...options: readonly string[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'dsvc-nvcc-'));
  const source = new URL('fixtures/kernels.cu', import.meta.url).pathname;
  const output = join(folder, 'kernels.ptx');
  try {
    const said = await new Promise<string>((resolve, reject) => {
      const child = spawn(nvcc!, ['-ptx', '-std=c++17', '-w', ...options, '-o', output, source]);
      let text = '';
      child.stdout.on('data', (chunk) => (text += chunk));
      child.stderr.on('data', (chunk) => (text += chunk));
      child.on('error', reject);
      child.on('close', () => resolve(text));
    });
    if (!existsSync(output)) throw new Error(`nvcc: ${said}`);
    return await readFile(output, 'utf8');
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** PTX without comments, and without the blanks that mean nothing. */
export const normalised = (text: string): string =>
  text
    .replace(/\/\*[^]*?\*\/|\/\/[^\n]*/g, ' ')
    .replace(/\s+/g, ' ')
    .replace(/ ?([^\w$%.@" ]) ?/g, '$1')
    .trim();
