// The files of a bundle (DESIGN.md 8), as a map from relative path to content. Nothing in them depends on the machine,
// the clock or the order of anything: equal inputs give equal bytes.
import { createHash } from 'node:crypto';
import { printModule } from '../ir/text/printer.ts';
import type { Compiled } from './compile.ts';
import { encodePlanFile } from './plan-file/encode.ts';
import { lowerPlan } from './plan-file/lower.ts';

/** What a bundle can hold; `bundle` is the plan with its manifest. */
export type Artefact = 'ir' | 'ptx' | 'cubin' | 'host' | 'bundle';

export interface BundleOptions {
  readonly model: string;
  readonly version: string;
  readonly emit: ReadonlySet<Artefact>;
  /** By kernel name. */
  readonly cubins?: ReadonlyMap<string, Uint8Array>;
}

export const bundleFormat = 1;

/** Every file but `bundle.json` first; that one lists the others with their hashes. */
export function bundleFiles(
  compiled: Compiled,
  options: BundleOptions,
): ReadonlyMap<string, string | Uint8Array> {
  const files = new Map<string, string | Uint8Array>();
  const { emit } = options;
  if (emit.has('ir')) files.set('ir/final.dsir', printModule(compiled.module));
  if (emit.has('ptx')) for (const k of compiled.kernels) files.set(`kernels/${k.name}.ptx`, k.ptx);
  if (emit.has('cubin'))
    for (const [name, bytes] of options.cubins ?? []) files.set(`kernels/${name}.cubin`, bytes);
  if (emit.has('bundle')) {
    const { module, plan, kernels } = compiled;
    files.set('plan/rank0.json', json(plan));
    files.set('plan/rank0.bin', encodePlanFile(lowerPlan(module, plan, kernels)));
    files.set('plan/kernels.json', json(kernels.map(({ ptx: _, why: __, ...launch }) => launch)));
  }
  files.set('report.json', json(compiled.report));
  const hashes = Object.fromEntries(
    [...files.keys()].sort().map((path) => [path, sha256(files.get(path) ?? '')]),
  );
  files.set(
    'bundle.json',
    json({
      format: bundleFormat,
      dsvc: options.version,
      model: options.model,
      target: compiled.report.target,
      precision: compiled.report.precision,
      entries: compiled.plan.functions.filter((f) => f.kind === 'entry').map((f) => f.name),
      files: hashes,
    }),
  );
  return files;
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 1)}\n`;

const sha256 = (content: string | Uint8Array): string => createHash('sha256').update(content).digest('hex');
