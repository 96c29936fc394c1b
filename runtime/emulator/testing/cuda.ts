// Programs in CUDA C++ (runtime/emulator/fixtures) for the emulator's tests: their committed PTX everywhere, and where nvcc is
// installed its debug code too: every variable in memory, every call a call.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { decodePtx } from '../../../backends/ptx/decode/index.ts';
import type { Bench, Launch } from '../async.testing.ts';

export type Level = 'committed' | 'debug';

export const hasNvcc = ((): boolean => {
  try {
    execFileSync('nvcc', ['--version'], { stdio: 'pipe' });
    return true;
  } catch {
    console.warn('nvcc is not installed: of CUDA kernels only the committed PTX is tested');
    return false;
  }
})();
export const levels: readonly Level[] = hasNvcc ? ['committed', 'debug'] : ['committed'];

const fixture = (file: string): string => fileURLToPath(new URL(`../fixtures/${file}`, import.meta.url));

const committed = (name: string): string => readFileSync(fixture(`${name}.ptx`), 'utf8');

function compiled(name: string, flags: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'dsvc-nvcc-'));
  try {
    const to = join(folder, 'k.ptx');
    const all = ['-std=c++17', '-ptx', '-arch=sm_90a', ...flags, fixture(`${name}.cu`), '-o', to];
    execFileSync('nvcc', all, { stdio: 'pipe' });
    return readFileSync(to, 'utf8');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The committed PTX is what nvcc makes of the source. Another nvcc's may differ, but must decode. */
export function expectUpToDate(name: string): void {
  const text = compiled(name, []);
  const build = (ptx: string): string | undefined => /^\/\/ Compiler Build ID: .*$/m.exec(ptx)?.[0];
  if (build(text) === build(committed(name))) expect(committed(name)).toBe(text);
  else expect(decodePtx(text, `${name}.ptx`).diagnostics).toEqual([]);
}

/** A 32-bit number, a 64-bit one or an address, or bytes as they are. */
export type CudaArgument = number | bigint | Uint8Array;

export const bytesOf = (a: ArrayBufferView): Uint8Array =>
  new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** Compiled and decoded when first used. */
export class CudaProgram {
  readonly #name: string;
  readonly #level: Level;
  #program: Uint8Array | undefined;

  constructor(name: string, level: Level) {
    this.#name = name;
    this.#level = level;
  }

  #decoded(): Uint8Array {
    const { program, diagnostics } = decodePtx(
      this.#level === 'committed' ? committed(this.#name) : compiled(this.#name, ['-G']),
      `${this.#name}.ptx`,
    );
    if (!program) throw new Error(diagnostics.map((d) => d.message).join('\n'));
    return program;
  }

  /** Launches a kernel (by default one block of 32 threads) and expects no report. */
  readonly run = (bench: Bench, kernel: string, args: readonly CudaArgument[], launch: Launch): void => {
    const handle = bench.core.loadProgram(bench.device, (this.#program ??= this.#decoded()));
    const info = bench.core.describeProgram(handle).kernels.find((k) => k.name === kernel);
    if (!info) throw new Error(`no kernel ${kernel}`);
    const parameterBlock = new Uint8Array(info.parameterBytes);
    const view = new DataView(parameterBlock.buffer);
    args.forEach((v, i) => {
      const { offset } = info.parameters[i];
      if (typeof v === 'bigint') view.setBigUint64(offset, v, true);
      else if (typeof v === 'number') view.setUint32(offset, v, true);
      else parameterBlock.set(v, offset);
    });
    const request = {
      kernel,
      grid: [1, 1, 1],
      cluster: [0, 0, 0],
      block: [32, 1, 1],
      dynamicSharedBytes: 0,
      ...launch,
    } as const;
    expect(bench.core.launch(bench.device, handle, { ...request, parameterBlock }).reports).toEqual([]);
  };
}
