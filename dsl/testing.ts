// For tests: a model file from text, and what is said about it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DiagnosticError, renderDiagnostic, type Diagnostic } from '../ir/diagnostics.ts';
import { printModule } from '../ir/text/index.ts';
import * as dsl from './index.ts';
import { loadModel, type LoadedModel } from './load.ts';
import { traceModel, type TracedModel, type TraceOptions } from './trace-model.ts';

/** Runs `body` with a folder that is gone afterwards. */
export async function inFolder<T>(
  files: Readonly<Record<string, string>>,
  body: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'dsvc-dsl-'));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export interface FromText extends TraceOptions {
  readonly set?: Readonly<Record<string, string>>;
  /** Further files beside the model. */
  readonly files?: Readonly<Record<string, string>>;
}

/** Loads and traces the text of a model file, `model.ts`. */
export const fromText = (
  text: string,
  { set = {}, files = {}, ...options }: FromText = {},
): Promise<TracedModel & LoadedModel> =>
  inFolder({ ...files, 'model.ts': text }, async (folder) => {
    const loaded = await loadModel(join(folder, 'model.ts'), { settings: set, dslNamespace: dsl });
    return { ...loaded, ...traceModel(loaded.model, options) };
  });

/** Names that a text imports from 'dsvc' when it says nothing about it: all of them. */
const everything = `import { ${Object.keys(dsl).join(', ')} } from 'dsvc';`;

/** A model file around the body of its one block, `(x, at, cache) => { body }`, on one line each. */
export const around = (body: string, before = ''): string => `${everything}
import type { Cache, Positions, Tensor } from 'dsvc';
const hidden = dim('hidden', 64), vocab = dim('vocab', 32), heads = dim('heads', 4), length = dim('length', 16);
const experts = dim('experts', 8), ff = dim('ff', 128);
const rows = cache('rows', { k: [heads, length], v: [heads, length] });
${before}
const layer = block('layer', (x: Tensor<['tokens', 'hidden']>, at: Positions, cache: Cache<typeof rows>) => {
${body}
});
export default model('test', {
  state: { caches: perLayer(rows, 2) },
  forward: (ids, at, { caches }) => head(repeat(2, layer, embedding(ids, vocab, hidden), at, caches), at, vocab),
});
`;

/** IR text of the block @layer of a model made by `around`, without spans. */
export async function layerOf(body: string, before?: string): Promise<string> {
  const { module } = await fromText(around(body, before), { precision: 'f32' });
  const text = printModule(module).replace(/ at [\w.-]+:\d+:\d+-[\d:]+/g, '');
  const start = text.indexOf('  block @layer');
  return text.slice(start, text.indexOf('\n  }\n', start) + 4);
}

/** What is said about a model file, as people read it; '' when nothing is wrong. */
export async function complaints(text: string, options: FromText = {}): Promise<string> {
  return (await diagnosticsOf(text, options))
    .map((d) => renderDiagnostic(d, { sourceOf: (f) => (f === 'model.ts' ? text : options.files?.[f]) }))
    .join('\n\n');
}

export async function diagnosticsOf(text: string, options: FromText = {}): Promise<readonly Diagnostic[]> {
  try {
    await fromText(text, options);
    return [];
  } catch (e) {
    if (e instanceof DiagnosticError) return e.diagnostics;
    throw e;
  }
}
