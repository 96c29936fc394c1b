// Runs NVIDIA's assembler when there is one. Nothing needs it to compile; with it a build also has cubins and the
// resource report. A machine without ptxas is an ordinary result, not an exception.
import { spawn } from 'node:child_process';
import { access, constants, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

export interface Ptxas {
  readonly path: string;
  /** Release, for example '13.0'. */
  readonly release: string;
}

/** What one kernel needs on the machine, from `ptxas -v`. */
export interface KernelResources {
  readonly registers: number;
  readonly spills: { readonly storeBytes: number; readonly loadBytes: number };
  readonly stackBytes: number;
  /** Static shared memory; dynamic shared memory is the launch's. */
  readonly sharedBytes: number;
  readonly barriers: number;
}

export interface Assembled {
  readonly status: 'assembled';
  readonly kernels: Readonly<Record<string, KernelResources>>;
  /** Performance remarks of ptxas about wgmma and setmaxnreg, `C75xx`: a well-made kernel has none. */
  readonly infos: readonly string[];
  readonly warnings: readonly string[];
  readonly seconds: number;
}
export interface Rejected {
  readonly status: 'rejected';
  /** `line` counts from 1 in the PTX text. */
  readonly errors: readonly { readonly line: number | undefined; readonly message: string }[];
  readonly seconds: number;
}
export interface Missing {
  readonly status: 'missing';
  /** Where it was looked for. */
  readonly searched: readonly string[];
}
export type AssembleResult = Assembled | Rejected | Missing;

export interface AssembleOptions {
  readonly arch?: string;
  /** Further arguments, such as `-lineinfo`. */
  readonly args?: readonly string[];
  /** Where the cubin goes; without it, it is thrown away. */
  readonly output?: string;
  /** Where to look for ptxas, instead of the usual places. */
  readonly candidates?: readonly string[];
}

/** The places where ptxas may be, in order: PATH, CUDA_HOME, CUDA_PATH, the usual folder. */
export function ptxasCandidates(env: NodeJS.ProcessEnv = process.env): string[] {
  const folders = (env.PATH ?? '').split(delimiter).filter((f) => f !== '');
  for (const home of [env.CUDA_HOME, env.CUDA_PATH]) if (home) folders.push(join(home, 'bin'));
  folders.push('/usr/local/cuda/bin');
  return folders.map((f) => join(f, process.platform === 'win32' ? 'ptxas.exe' : 'ptxas'));
}

interface Ran {
  readonly code: number;
  readonly text: string;
}

function run(path: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (s: string) => (text += s));
    child.stderr.setEncoding('utf8').on('data', (s: string) => (text += s));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? 1, text }));
  });
}

async function search(candidates: readonly string[]): Promise<Ptxas | undefined> {
  for (const path of candidates) {
    try {
      await access(path, constants.X_OK);
      const { code, text } = await run(path, ['--version']);
      const release = /release (\d+\.\d+)/.exec(text)?.[1];
      if (code === 0 && release) return { path, release };
    } catch {
      // Not here, or not runnable: try the next place.
    }
  }
  return undefined;
}

let found: Promise<Ptxas | undefined> | undefined;

/** Finds ptxas in the usual places, once per process; undefined when there is none. */
export const findPtxas = (): Promise<Ptxas | undefined> => (found ??= search(ptxasCandidates()));

// ptxas uses one core: more processes than cores only wait for each other.
let free = Math.max(1, availableParallelism());
const waiting: (() => void)[] = [];

async function withSlot<T>(work: () => Promise<T>): Promise<T> {
  if (free > 0) free--;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free++;
  }
}

/** Takes the resource lines of `ptxas -v` apart. */
export function parseResources(text: string): Record<string, KernelResources> {
  const kernels: Record<string, KernelResources> = {};
  const number = (pattern: RegExp, from: string): number => Number(pattern.exec(from)?.[1] ?? 0);
  // One block per function: "Compiling entry function 'name' ..." up to the next such line.
  for (const block of text.split(/(?=ptxas info\s+: Compiling entry function)/)) {
    const name = /Compiling entry function '([^']+)'/.exec(block)?.[1];
    if (name === undefined) continue;
    kernels[name] = {
      registers: number(/Used (\d+) registers/, block),
      spills: {
        storeBytes: number(/(\d+) bytes spill stores/, block),
        loadBytes: number(/(\d+) bytes spill loads/, block),
      },
      stackBytes: number(/(\d+) bytes stack frame/, block),
      sharedBytes: number(/(\d+) bytes smem/, block),
      barriers: number(/used (\d+) barriers/, block),
    };
  }
  return kernels;
}

/**
 * Assembles PTX text for `arch` (default sm_90a). Calls may run side by side; as many as there are cores do.
 * Rejects only when the text cannot be handed over (a full disk, say); syntax errors are the 'rejected' result.
 */
export async function assemble(ptx: string, options: AssembleOptions = {}): Promise<AssembleResult> {
  const { candidates } = options;
  const ptxas = await (candidates ? search(candidates) : findPtxas());
  if (!ptxas) return { status: 'missing', searched: candidates ?? ptxasCandidates() };
  return withSlot(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'dsvc-ptxas-'));
    try {
      const input = join(folder, 'input.ptx');
      await writeFile(input, ptx);
      const output = options.output ?? join(folder, 'output.cubin');
      const args = [`-arch=${options.arch ?? 'sm_90a'}`, '-v', ...(options.args ?? []), '-o', output, input];
      const started = performance.now();
      const { code, text } = await run(ptxas.path, args);
      const seconds = (performance.now() - started) / 1000;
      return code === 0 ? accepted(text, seconds) : rejected(text.replaceAll(input, 'input.ptx'), seconds);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

function accepted(text: string, seconds: number): Assembled {
  const lines = text.split('\n');
  return {
    status: 'assembled',
    kernels: parseResources(text),
    infos: lines.filter((l) => /\bC75\d\d\b/.test(l)),
    warnings: lines.filter((l) => /warning/i.test(l) && !/\bC75\d\d\b/.test(l)),
    seconds,
  };
}

function rejected(text: string, seconds: number): Rejected {
  const errors = text
    .split('\n')
    .filter((l) => /error|fatal/i.test(l) && !/Ptx assembly aborted/.test(l))
    .map((l) => {
      const line = /, line (\d+);/.exec(l)?.[1];
      return {
        line: line === undefined ? undefined : Number(line),
        message: l.replace(/^.*?, line \d+; /, '').trim(),
      };
    });
  return { status: 'rejected', errors, seconds };
}
