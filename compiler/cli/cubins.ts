// From PTX to cubins: assembles kernels side by side, and keeps the results by what they were made from, so that an
// unchanged kernel is never assembled twice. The cache is a convenience: when it cannot be used, nothing fails.
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { assemble, findPtxas, type KernelResources, type Ptxas } from '../../backends/ptx/ptxas.ts';
import { DiagnosticError } from '../../ir/diagnostics.ts';
import type { EmittedKernel } from '../../ir/plan.ts';
import { onInterrupt } from './interrupt.ts';
import { badUsage, MissingToolError } from './names.ts';
import type { CompileOptions } from './options.ts';
import { estimate } from './progress.ts';
import type { Terminal } from './terminal.ts';

/** A kernel that ptxas accepted. */
export interface Cubin {
  readonly name: string;
  readonly cubin: Uint8Array;
  readonly resources: KernelResources;
  /** Performance remarks of ptxas (C75xx) and warnings. */
  readonly remarks: readonly string[];
  readonly cached: boolean;
}

/** ptxas refused a kernel that we wrote: our bug, unless the user's own flags were the reason. */
export class AssemblyError extends Error {
  readonly kernel: EmittedKernel;
  constructor(kernel: EmittedKernel, message: string) {
    super(message);
    this.name = 'AssemblyError';
    this.kernel = kernel;
  }
}

const arch = 'sm_90a';
/** Part of every cache key: raise it when what is stored changes. */
const cacheFormat = 'dsvc-cubin-1';

/** Where cubins are kept when the user does not say: the XDG base directory specification. */
export function defaultCacheDir(env: NodeJS.ProcessEnv = process.env): string {
  const base = env.XDG_CACHE_HOME;
  // The specification: relative paths are invalid and to be ignored.
  return join(base !== undefined && base.startsWith('/') ? base : join(homedir(), '.cache'), 'dsvc');
}

/** Flags for ptxas from `-Xptxas=-a,-b`. Throws UsageError for other tools. */
export function ptxasFlags(given: readonly string[]): readonly string[] {
  return given.flatMap((text) => {
    const at = text.indexOf('=');
    const tool = at < 0 ? text : text.slice(0, at);
    if (tool !== 'ptxas' || at < 0)
      badUsage(
        'invalid-value',
        `-X${text.slice(0, 60)} names no tool that is run`,
        'write, for example, -Xptxas=-O1',
      );
    const flags = text
      .slice(at + 1)
      .split(',')
      .filter((f) => f !== '');
    for (const flag of flags)
      if (!flag.startsWith('-'))
        badUsage(
          'invalid-value',
          `-Xptxas=${flag.slice(0, 60)} is not a flag`,
          'flags start with -, and commas separate them',
        );
    return flags;
  });
}

/** The command line that makes one kernel's cubin, for --dry-run. */
export const ptxasCommand = (ptxas: Ptxas, kernel: string, flags: readonly string[]): string =>
  [
    ptxas.path,
    `-arch=${arch}`,
    '-v',
    ...flags,
    '-o',
    `kernels/${kernel}.cubin`,
    `kernels/${kernel}.ptx`,
  ].join(' ');

/** ptxas, or null after one warning. Throws MissingToolError under `--require=cubin`. */
export async function ptxasOrWarning(required: boolean, terminal: Terminal): Promise<Ptxas | null> {
  const found = await findPtxas();
  if (found) return found;
  const missing = {
    code: 'tool/ptxas-missing',
    message: 'ptxas was not found: the bundle holds PTX but no cubins',
    fix: 'install the CUDA toolkit, or set CUDA_HOME; the driver can also assemble the PTX at load',
  };
  if (required)
    throw new MissingToolError([
      { ...missing, severity: 'error', message: 'ptxas was not found, and --require=cubin needs it' },
    ]);
  terminal.report({ ...missing, severity: 'warning' });
  return null;
}

/**
 * Assembles every kernel, or takes it from the cache. Throws AssemblyError when ptxas refuses one, or DiagnosticError
 * when that may be due to the user's flags.
 */
export async function makeCubins(
  kernels: readonly EmittedKernel[],
  ptxas: Ptxas,
  options: Pick<CompileOptions, 'X' | 'cache' | 'cacheDir' | 'explainCache'>,
  terminal: Terminal,
): Promise<readonly Cubin[]> {
  const flags = ptxasFlags(options.X);
  const cache = new Cache(options.cache ? (options.cacheDir ?? defaultCacheDir()) : undefined, terminal);
  const folder = mkdtempSync(join(tmpdir(), 'dsvc-cubin-'));
  // Assemblers that still run may write while their folder goes: then once more.
  const forget = onInterrupt(() =>
    rmSync(folder, { recursive: true, force: true, maxRetries: 8, retryDelay: 50 }),
  );
  // ptxas's own temporary files go there too: then an interruption leaves none behind.
  const outer = process.env.TMPDIR;
  process.env.TMPDIR = folder;
  const left = estimate();
  let done = 0;
  const one = async (kernel: EmittedKernel): Promise<Cubin> => {
    const key = createHash('sha256')
      .update([cacheFormat, ptxas.release, arch, ...flags, kernel.ptx].join('\0'))
      .digest('hex');
    const known = cache.read(key);
    if (options.explainCache)
      terminal.show(
        `cache: ${known ? 'found' : 'assembling'} ${kernel.name} ${cache.why(key, known !== undefined)}`,
      );
    const made = known ?? (await assembleOne(kernel, flags, join(folder, `${key}.cubin`)));
    if (!known) cache.write(key, made);
    done++;
    terminal.progress(
      `assembling kernel ${done}/${kernels.length} ${kernel.name}, ${left(done, kernels.length)} left`,
    );
    return { name: kernel.name, ...made, cached: known !== undefined };
  };
  try {
    // ptxas.ts runs as many at a time as there are cores. All end before the folder goes, also when one fails.
    const results = await Promise.allSettled(kernels.map(one));
    return results.map((r) => {
      if (r.status === 'rejected') throw r.reason;
      return r.value;
    });
  } finally {
    if (outer === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = outer;
    terminal.endProgress();
    rmSync(folder, { recursive: true, force: true });
    forget();
  }
}

type Made = Pick<Cubin, 'cubin' | 'resources' | 'remarks'>;

async function assembleOne(kernel: EmittedKernel, flags: readonly string[], output: string): Promise<Made> {
  const result = await assemble(kernel.ptx, { arch, args: flags, output });
  if (result.status === 'missing') throw new Error('ptxas was found a moment ago and is gone now');
  if (result.status === 'rejected') {
    const first = result.errors
      .map((e) => (e.line === undefined ? e.message : `line ${e.line}: ${e.message}`))
      .slice(0, 5);
    const said = first.join('; ') || 'it gave no reason';
    if (flags.length > 0)
      throw new DiagnosticError([
        {
          code: 'tool/ptxas-failed',
          severity: 'error',
          message: `ptxas ${flags.join(' ')} refused kernel ${kernel.name}: ${said}`,
          fix: 'try without -Xptxas',
        },
      ]);
    throw new AssemblyError(kernel, `ptxas refused kernel ${kernel.name}: ${said}`);
  }
  const resources = result.kernels[kernel.name] ?? Object.values(result.kernels)[0];
  if (!resources) throw new AssemblyError(kernel, `ptxas gave no resource report for kernel ${kernel.name}`);
  return { cubin: readFileSync(output), resources, remarks: [...result.infos, ...result.warnings] };
}

class Cache {
  readonly #folder: string | undefined;
  readonly #terminal: Terminal;
  #warned = false;

  constructor(folder: string | undefined, terminal: Terminal) {
    this.#folder = folder;
    this.#terminal = terminal;
  }

  why(key: string, found: boolean): string {
    if (this.#folder === undefined) return '(the cache is off)';
    const place = `key ${key.slice(0, 16)} in ${this.#folder}`;
    return found ? `(${place})` : `(nothing for ${place}: its PTX, ptxas's release or the flags are new)`;
  }

  read(key: string): Made | undefined {
    if (this.#folder === undefined) return undefined;
    try {
      const { cubinSha256, ...kept } = JSON.parse(readFileSync(this.#path(key, 'json'), 'utf8')) as Omit<
        Made,
        'cubin'
      > & {
        cubinSha256: string;
      };
      const cubin = readFileSync(this.#path(key, 'cubin'));
      // A half-written or damaged entry is as good as none.
      return sha256(cubin) === cubinSha256 ? { ...kept, cubin } : undefined;
    } catch {
      return undefined;
    }
  }

  write(key: string, { cubin, resources, remarks }: Made): void {
    if (this.#folder === undefined) return;
    try {
      mkdirSync(dirname(this.#path(key, 'json')), { recursive: true });
      this.#put(this.#path(key, 'cubin'), cubin);
      this.#put(this.#path(key, 'json'), JSON.stringify({ resources, remarks, cubinSha256: sha256(cubin) }));
    } catch (error) {
      if (!this.#warned)
        this.#terminal.report({
          code: 'cache/not-written',
          severity: 'warning',
          message: `the cache ${this.#folder} cannot be written: ${error instanceof Error ? error.message : String(error)}`,
          fix: 'give another --cache-dir, or --no-cache',
        });
      this.#warned = true;
    }
  }

  /** Several compilers may write at once: each entry appears whole. */
  #put(path: string, content: string | Uint8Array): void {
    const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`;
    try {
      writeFileSync(temporary, content);
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  }

  #path(key: string, extension: string): string {
    return join(this.#folder!, 'cubin', key.slice(0, 2), `${key}.${extension}`);
  }
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
