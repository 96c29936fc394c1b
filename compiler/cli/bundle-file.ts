// Reads a bundle back: its manifest, and the IR that it was made from.
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from '../../ir/diagnostics.ts';
import type { Module } from '../../ir/module.ts';
import type { EmittedKernel } from '../../ir/plan.ts';
import { bundleFormat } from '../bundle.ts';
import type { Plan } from '../plan.ts';
import { readText } from './files.ts';
import { readIr } from './ir-file.ts';
import type { Terminal } from './terminal.ts';

const manifest = 'bundle.json';

/** A folder: model files are files. */
export const isBundle = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** The final IR of a bundle. Throws DiagnosticError `bundle/…`, or what is wrong with the IR. */
export async function readBundle(folder: string, terminal: Terminal): Promise<Module> {
  const path = join(folder, manifest);
  if (!existsSync(path))
    fail({
      code: 'bundle/no-manifest',
      message: `${folder} is a folder without ${manifest}`,
      fix: 'give a model file, or the folder that `dsvc compile -o` wrote',
    });
  let format: unknown;
  try {
    ({ format } = JSON.parse(readText(path, 'a bundle')) as { format?: unknown });
  } catch (error) {
    fail({
      code: 'bundle/manifest',
      message: `${path} is not JSON: ${error instanceof Error ? error.message : String(error)}`,
      fix: 'compile the model again',
    });
  }
  if (format !== bundleFormat)
    fail({
      code: 'bundle/format',
      message: `${path} has format ${JSON.stringify(format)}; this dsvc reads format ${bundleFormat}`,
      fix: 'compile the model again with this version',
    });
  const ir = join(folder, 'ir/final.dsir');
  if (!existsSync(ir))
    fail({
      code: 'bundle/no-ir',
      message: `${folder} holds no IR, which the ref device interprets`,
      fix: 'compile with --emit=ir,bundle, or give the model file',
    });
  return (await readIr(ir, terminal)).module;
}

/** Plan and kernels of a bundle, as people read them; other hosts read plan/rank0.bin. Throws DiagnosticError `bundle/incomplete`. */
export function readPlan(folder: string): {
  readonly plan: Plan;
  readonly kernels: readonly EmittedKernel[];
} {
  const read = (path: string): string => {
    const whole = join(folder, path);
    if (!existsSync(whole))
      fail({
        code: 'bundle/incomplete',
        message: `${folder} has no ${path}, which devices run`,
        fix: 'compile with --emit=ir,ptx,bundle, or give the model file',
      });
    return readText(whole, 'a part of a bundle');
  };
  const plan = JSON.parse(read('plan/rank0.json')) as Plan;
  const kernels = JSON.parse(read('plan/kernels.json')) as readonly Omit<EmittedKernel, 'ptx'>[];
  return { plan, kernels: kernels.map((k) => ({ ...k, ptx: read(`kernels/${k.name}.ptx`) })) };
}
