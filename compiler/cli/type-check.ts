// The TypeScript checker on a model file, with 'dsvc' resolved to the DSL's own sources: what an editor would show.
// TypeScript 7's programming interface is unstable and may be absent: then there is nothing to report, and a debug line
// says why.
import { readFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import type { Diagnostic } from '../../ir/diagnostics.ts';
import type { Span } from '../../ir/span.ts';
import { packageRoot } from './package-root.ts';

interface CheckedFile {
  /** As spans name it: relative to the model's folder. */
  readonly name: string;
  readonly text: string;
  readonly lineStarts: readonly number[];
}

/** Diagnostics of the model file and of files that it imports; null and a reason when there is no checker. */
export async function typeCheck(
  model: string,
): Promise<{ readonly diagnostics: readonly Diagnostic[] } | { readonly unavailable: string }> {
  let API: typeof import('typescript/unstable/sync').API;
  try {
    ({ API } = await import('typescript/unstable/sync'));
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
  const path = resolve(model);
  const config = join(dirname(path), '.dsvc-check.tsconfig.json');
  const text = JSON.stringify(configuration(path));
  try {
    // The configuration exists for the checker only: nothing is written beside the model.
    const api = new API({
      cwd: dirname(path),
      fs: {
        readFile: (name) => (samePath(name, config) ? text : undefined),
        fileExists: (name) => (samePath(name, config) ? true : undefined),
      },
    });
    try {
      const snapshot = api.updateSnapshot({ openProjects: [config] });
      const project = snapshot.getProjects()[0];
      if (!project) return { unavailable: 'the checker opened no project' };
      const { program } = project;
      const found = program
        .getSourceFileNames()
        .filter((name) => isAuthors(name, path))
        .flatMap((name) => [
          ...program.getSyntacticDiagnostics(name),
          ...program.getSemanticDiagnostics(name),
        ]);
      const files = new Map<string, CheckedFile>();
      return {
        diagnostics: found
          .filter((d) => d.category === 1 || d.category === 0)
          .map((d) => convert(d, dirname(path), files)),
      };
    } finally {
      end(api);
    }
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * Ends the checker's process without its last words: asked politely, it writes "context canceled" to our standard error.
 * Reaches into TypeScript's client, which offers no other way; where its shape differs, it is asked politely.
 */
function end(api: { close(): void }): void {
  type Insides = { client?: { channel?: { child?: { kill?: (signal: NodeJS.Signals) => boolean } } } };
  const killed = (api as Insides).client?.channel?.child?.kill?.('SIGKILL');
  if (killed !== true) api.close();
}

const samePath = (a: string, b: string): boolean => resolve(a) === b;

function configuration(model: string): object {
  const root = packageRoot();
  return {
    compilerOptions: {
      target: 'es2023',
      lib: ['es2023'],
      module: 'esnext',
      moduleResolution: 'bundler',
      strict: true,
      noEmit: true,
      allowImportingTsExtensions: true,
      skipLibCheck: true,
      types: ['node'],
      typeRoots: [join(root, 'node_modules/@types')],
      paths: { dsvc: [join(root, 'dsl/index.ts')] },
    },
    files: [model],
  };
}

/** The model and what it imports of the author's, neither libraries nor the DSL. */
function isAuthors(name: string, model: string): boolean {
  const file = resolve(name);
  if (file === model) return true;
  const folder = dirname(model) + sep;
  return file.startsWith(folder) && !file.includes(`${sep}node_modules${sep}`) && !isOurs(file);
}

const isOurs = (file: string): boolean =>
  ['dsl', 'ir'].some((room) => file.startsWith(join(packageRoot(), room) + sep));

interface Found {
  readonly fileName?: string | undefined;
  readonly pos: number;
  readonly end: number;
  readonly code: number;
  readonly category: number;
  readonly text: string;
  readonly messageChain?: readonly Found[] | undefined;
  readonly relatedInformation?: readonly Found[] | undefined;
}

function convert(d: Found, folder: string, files: Map<string, CheckedFile>): Diagnostic {
  const chain: { message: string; at?: Span }[] = [];
  const walk = (parts: readonly Found[] | undefined): void => {
    for (const part of parts ?? []) {
      chain.push({ message: part.text });
      walk(part.messageChain);
    }
  };
  walk(d.messageChain);
  for (const r of d.relatedInformation ?? []) {
    const at = spanOf(r, folder, files);
    chain.push({ message: r.text, ...(at ? { at } : {}) });
  }
  const at = spanOf(d, folder, files);
  // The library says what is wrong in a type of its own, which the checker quotes: `✗ add: right [ff] has …`.
  const sentence = [d.text, ...chain.map((n) => n.message)]
    .map((text) => /"✗ ([^"]*)"/.exec(text)?.[1])
    .find((m) => m);
  return {
    code: `types/ts${d.code}`,
    severity: d.category === 1 ? 'error' : 'warning',
    message: d.text,
    ...(at ? { at } : {}),
    ...(sentence === undefined ? {} : { label: sentence }),
    ...(chain.length > 0 ? { notes: chain } : {}),
    fix: 'make the types agree as the message says; --no-types leaves the type checker out',
  };
}

function spanOf(d: Found, folder: string, files: Map<string, CheckedFile>): Span | undefined {
  if (d.fileName === undefined) return undefined;
  let file = files.get(d.fileName);
  if (!file) {
    let text = '';
    try {
      text = readFileSync(d.fileName, 'utf8');
    } catch {
      // A library file inside the checker: its name and line 1 must do.
    }
    const lineStarts = [0];
    for (let i = 0; i < text.length; i++) if (text[i] === '\n') lineStarts.push(i + 1);
    file = { name: relative(folder, d.fileName), text, lineStarts };
    files.set(d.fileName, file);
  }
  const place = (offset: number): { line: number; column: number } => {
    let low = 0;
    let high = file.lineStarts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (file.lineStarts[middle] <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - file.lineStarts[low] + 1 };
  };
  const start = place(d.pos);
  const end = place(Math.max(d.end, d.pos + 1));
  return {
    file: file.name,
    line: start.line,
    column: start.column,
    endLine: end.line,
    endColumn: end.column,
  };
}
