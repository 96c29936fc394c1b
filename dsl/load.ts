// Loads a model file: esbuild bundles it with what it imports, calls are tagged with their places, and the result is
// evaluated in this process, so that the model's tensors are this library's. Whatever is wrong with the file comes
// out as diagnostics with places; a stack trace means a bug of ours.
import { build, type BuildFailure, type Message, type Plugin } from 'esbuild';
import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { compileFunction } from 'node:vm';
import { DiagnosticError, fail, type Diagnostic } from '../ir/diagnostics.ts';
import type { Span } from '../ir/span.ts';
import { reportThrown } from './traced.ts';
import { isModel, type Model } from './model.ts';
import { addMapper, collecting, enterSite, leaveSite, report, type Setting } from './context.ts';
import { tagCalls } from './tag.ts';
import { nameResult } from './trace.ts';
import { describe, listed, nearest } from './words.ts';

export interface LoadOptions {
  /** `--set name=value`, as text. */
  readonly settings?: Readonly<Record<string, string>>;
  /** What the file gets as 'dsvc': the running instance, `import * as dsl from './index.ts'`. */
  readonly dslNamespace: Readonly<Record<string, unknown>>;
}

export interface SourceFile {
  /** As spans show it: relative to the model file's folder. */
  readonly name: string;
  readonly path: string;
  readonly text: string;
}

export interface LoadedModel {
  readonly model: Model;
  /** What was given with `--set` and took effect. */
  readonly settingsUsed: Readonly<Record<string, string>>;
  /** Everything that can be set, in the order of the file. */
  readonly settings: readonly Setting[];
  readonly sourceFiles: readonly SourceFile[];
  /** Warnings. */
  readonly diagnostics: readonly Diagnostic[];
}

const dslKey = Symbol.for('dsvc.dsl');
const [enterName, leaveName] = ['$dsvcEnter', '$dsvcLeave'];

/**
 * Loads the model that `file` exports as default. Throws DiagnosticError: `load/missing-file`, `load/syntax`,
 * `load/unresolved-import`, `load/no-such-export`, `load/no-model`, `load/unknown-setting`, `dsl/model-threw`, and
 * what the declarations of the file report.
 */
export async function loadModel(
  file: string,
  { settings = {}, dslNamespace }: LoadOptions,
): Promise<LoadedModel> {
  const path = resolve(file);
  if (!existsSync(path) || !statSync(path).isFile())
    fail({
      code: 'load/missing-file',
      message: existsSync(path) ? `${file} is no file` : `there is no file ${file}`,
      fix: 'give the path of a model file, like examples/deepseek-v3.ts',
    });
  const folder = dirname(path);
  const bundle = await bundled(path, dslNamespace);
  const sourceFiles = sourcesOf(bundle.map, folder);
  const texts = new Map(sourceFiles.map((s) => [s.name, s.text]));
  const tagged = tagCalls({
    code: bundle.code,
    map: bundle.map,
    sourceOf: (name) => texts.get(name),
    shownAs: (name) => name,
    enter: enterName,
    leave: leaveName,
  });
  // Not a path of a file that exists: places in it are places in the tagged bundle.
  const runsAs = `${path}?bundle`;
  addMapper(runsAs, tagged.spanAt);

  const declared = new Map<string, Setting>();
  const { value, diagnostics } = collecting({ settings: new Map(Object.entries(settings)), declared }, () => {
    const module = { exports: {} as Record<string, unknown> };
    (globalThis as Record<symbol, unknown>)[dslKey] = dslNamespace;
    let threw = false;
    try {
      const run = compileFunction(tagged.code, ['module', 'exports', 'require', enterName, leaveName], {
        filename: runsAs,
      });
      const enter = (id: number): readonly never[] => enterSite(tagged.sites[id]);
      const leave = (id: number, result: unknown): unknown => {
        const site = tagged.sites[id];
        leaveSite(site);
        nameResult(result, site.names);
        return result;
      };
      run(module, module.exports, createRequire(path), enter, leave);
    } catch (e) {
      threw = true;
      reportThrown('the model file', e);
    }
    if (!threw) checkExports(module.exports, basename(path));
    checkSettings(settings, declared, threw);
    return module.exports.default;
  });
  if (diagnostics.some((d) => d.severity === 'error') || !isModel(value))
    throw new DiagnosticError(diagnostics);
  return {
    model: value,
    settingsUsed: settings,
    settings: [...declared.values()],
    sourceFiles,
    diagnostics: [...bundle.warnings, ...diagnostics],
  };
}

const topOf = (file: string): Span => ({ file, line: 1, column: 1, endLine: 1, endColumn: 2 });

function checkExports(exports: Readonly<Record<string, unknown>>, file: string): void {
  if (isModel(exports.default)) return;
  const named = Object.keys(exports).find((k) => isModel(exports[k]));
  const none = exports.default === undefined;
  report({
    code: 'load/no-model',
    message: none ? 'the file has no default export' : 'the default export is no model',
    at: topOf(file),
    ...(none ? {} : { label: `it is ${describe(exports.default)}` }),
    fix: named
      ? `add: export default ${named};`
      : `add: export default model('name', { forward(ids, at) { … } });`,
  });
}

function checkSettings(
  settings: Readonly<Record<string, string>>,
  declared: ReadonlyMap<string, Setting>,
  incomplete: boolean,
): void {
  // After a failure half of the names may be missing: then nothing can be said.
  if (incomplete) return;
  const known = [...declared.keys()];
  for (const name of Object.keys(settings)) {
    if (declared.has(name)) continue;
    const meant = nearest(name, known);
    report({
      code: 'load/unknown-setting',
      message: `--set ${name}=${settings[name]}: the model declares no '${name}'`,
      at: { file: '', line: 0, column: 0, endLine: 0, endColumn: 0 },
      label: `it declares ${listed(known)}`,
      fix: meant ? `did you mean '${meant}'?` : 'declare it with dim or option, or set one of these',
    });
  }
}

interface Bundle {
  readonly code: string;
  readonly map: string;
  readonly warnings: readonly Diagnostic[];
}

/** 'dsvc' as a module of the running instance's names, so that a misspelt import is found while bundling. */
const runningInstance = (names: readonly string[]): Plugin => ({
  name: 'dsvc',
  setup: (b) => {
    b.onResolve({ filter: /^dsvc$/ }, () => ({ path: 'dsvc', namespace: 'running' }));
    b.onLoad({ filter: /.*/, namespace: 'running' }, () => ({
      loader: 'js',
      contents: `export const { ${names.join(', ')} } = globalThis[Symbol.for('dsvc.dsl')];`,
    }));
  },
});

async function bundled(path: string, dslNamespace: Readonly<Record<string, unknown>>): Promise<Bundle> {
  const names = Object.keys(dslNamespace);
  try {
    const result = await build({
      absWorkingDir: dirname(path),
      entryPoints: [path],
      outfile: join(dirname(path), '$dsvc-bundle.js'),
      bundle: true,
      write: false,
      sourcemap: 'external',
      format: 'cjs',
      platform: 'node',
      target: 'node20',
      charset: 'utf8',
      logLevel: 'silent',
      // The author's own tsconfig is for their editor; what a model means must not depend on it.
      tsconfigRaw: '{}',
      plugins: [runningInstance(names)],
    });
    const [code, map] = ['.js', '.map'].map(
      (end) => result.outputFiles.find((f) => f.path.endsWith(end))?.text ?? '',
    );
    return { code, map, warnings: result.warnings.map((m) => diagnosticOf(m, 'warning', names)) };
  } catch (e) {
    const { errors } = e as Partial<BuildFailure>;
    if (!errors) throw e;
    throw new DiagnosticError(errors.map((m) => diagnosticOf(m, 'error', names)));
  }
}

/** esbuild counts columns in bytes from 0. */
function spanOf({ location }: Message): Span | undefined {
  if (!location) return undefined;
  const bytes = Buffer.from(location.lineText);
  const width = (from: number, to: number): number => bytes.subarray(from, to).toString().length;
  const column = width(0, location.column) + 1;
  const length = Math.max(1, width(location.column, location.column + location.length));
  const file = location.namespace === 'running' ? 'dsvc' : location.file;
  return { file, line: location.line, column, endLine: location.line, endColumn: column + length };
}

function diagnosticOf(message: Message, severity: 'error' | 'warning', names: readonly string[]): Diagnostic {
  const at = spanOf(message);
  const place = at ? { at } : {};
  const exportMissing = /^No matching export in "(.*)" for import "(.*)"$/.exec(message.text);
  if (exportMissing) {
    const ours = exportMissing[1].startsWith('running:');
    const meant = ours ? nearest(exportMissing[2], names) : null;
    return {
      code: 'load/no-such-export',
      severity,
      message: `${ours ? "'dsvc'" : exportMissing[1]} exports no '${exportMissing[2]}'`,
      ...place,
      fix: meant
        ? `did you mean '${meant}'?`
        : ours
          ? 'check the spelling: an editor lists the names inside import { }'
          : 'export it there',
    };
  }
  const unresolved = /^Could not resolve "(.*)"$/.exec(message.text);
  if (unresolved) {
    const name = unresolved[1];
    return {
      code: 'load/unresolved-import',
      severity,
      message: `cannot find '${name}'`,
      ...place,
      fix: name.startsWith('.')
        ? 'check the path; it is relative to the file that imports'
        : name.startsWith('dsvc')
          ? "import from 'dsvc' itself"
          : `install it beside the model (npm install ${name}), or import a file of your own`,
    };
  }
  const awaits = message.text.startsWith('Top-level await');
  return {
    code: 'load/syntax',
    severity,
    message: awaits ? 'a model file cannot wait at its top level' : message.text,
    ...place,
    ...(message.location?.suggestion ? { label: `${message.location.suggestion} is meant here` } : {}),
    notes: message.notes.flatMap((n) => (n.text ? [{ message: n.text }] : [])),
    fix: awaits
      ? 'read files with readFileSync, or declare settings with option'
      : 'correct the text at the caret',
  };
}

/** The author's files: not the running instance, not packages. */
function sourcesOf(map: string, folder: string): readonly SourceFile[] {
  const { sources, sourcesContent } = JSON.parse(map) as {
    sources: readonly string[];
    sourcesContent: readonly string[];
  };
  return sources.flatMap((name, i) => {
    if (name.startsWith('running:') || /(^|\/)node_modules\//.test(name)) return [];
    const path = resolve(folder, name);
    return [{ name: relative(folder, path), path, text: sourcesContent[i] }];
  });
}
