// Runs the built command line as a user does: as a process, in a folder of its own.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
export const golden = join(root, 'test/golden');

export const cli = resolve(process.env.DSVC_CLI ?? join(root, 'dist/dsvc.js'));
if (!existsSync(cli)) throw new Error(`${cli} is missing: npm run build makes it`);

export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd: string;
  readonly stdin?: string | Uint8Array;
  readonly env?: NodeJS.ProcessEnv;
}

// A process per core: more would only make each slower than its test allows.
let free = Math.min(2, availableParallelism());
const waiting: (() => void)[] = [];

/** Runs `dsvc args…`; waits for its turn when enough processes run already. */
export async function dsvc(args: readonly string[], { cwd, stdin, env = {} }: RunOptions): Promise<Outcome> {
  if (free > 0) free--;
  else await new Promise<void>((done) => waiting.push(done));
  try {
    return await new Promise((done, failed) => {
      const child = spawn(process.execPath, [cli, ...args], {
        cwd,
        env: { ...process.env, NO_COLOR: '1', XDG_CACHE_HOME: join(cwd, '.cache'), ...env },
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      let stdout = '';
      let stderr = '';
      child.stdout.setEncoding('utf8').on('data', (s: string) => (stdout += s));
      child.stderr.setEncoding('utf8').on('data', (s: string) => (stderr += s));
      child.on('error', failed);
      child.on('close', (code, signal) => done({ code, signal, stdout, stderr }));
      // A command that does not read its input closes the pipe: no failure of the test.
      child.stdin.on('error', () => {});
      child.stdin.end(stdin ?? '');
    });
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free++;
  }
}

export type Files = Readonly<Record<string, string | Uint8Array>>;

/** A new folder with these files, and how to remove it. */
export function folderWith(files: Files): { readonly dir: string; readonly remove: () => void } {
  const dir = mkdtempSync(join(tmpdir(), 'dsvc-cli-'));
  for (const [name, content] of Object.entries(files)) {
    const path = join(dir, name);
    mkdirSync(dirname(path), { recursive: true });
    if (name.endsWith('/')) mkdirSync(path, { recursive: true });
    else writeFileSync(path, content);
  }
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Every file below a folder, sorted, without the cache of cubins. */
export const filesIn = (dir: string): string[] =>
  readdirSync(dir, { recursive: true })
    .map((f) => String(f).replaceAll('\\', '/'))
    .filter((f) => !f.startsWith('.cache'))
    .sort();
