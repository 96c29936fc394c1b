// From a model file to a traced, verified module: the CLI's side of the DSL.
import { Console } from 'node:console';
import { dirname, resolve } from 'node:path';
import { DiagnosticError } from '../../ir/diagnostics.ts';
import type { Module } from '../../ir/module.ts';
import { verifyModule } from '../../ir/verify.ts';
import { loadModel } from '../../dsl/load.ts';
import { traceModel } from '../../dsl/trace-model.ts';
import { requireFile } from './files.ts';
import type { Terminal } from './terminal.ts';

export interface TraceRequest {
  readonly precision: 'f32' | 'bf16' | 'fp8';
  readonly target: string;
  readonly set: Readonly<Record<string, string>>;
  /** Which entries the module gets; default inference. */
  readonly entries?: 'inference' | 'training';
}

/**
 * Loads a model file, traces it and verifies the result; warnings are reported. The module's attribute `target` names
 * the target, so that dumps reproduce passes that ask it. Throws DiagnosticError with every mistake found.
 */
export async function loadAndTrace(path: string, request: TraceRequest, terminal: Terminal): Promise<Module> {
  requireFile(path, 'a model file');
  terminal.addRoot(dirname(resolve(path)));
  // What a model file prints is no product.
  globalThis.console = new Console(process.stderr, process.stderr);
  const dslNamespace = (await import('../../dsl/index.ts')) as unknown as Readonly<Record<string, unknown>>;
  const loaded = await loadModel(path, { settings: request.set, dslNamespace });
  for (const d of loaded.diagnostics) terminal.report(d);
  const { module, diagnostics } = traceModel(loaded.model, {
    precision: request.precision,
    settings: request.set,
    entries: request.entries,
  });
  for (const d of diagnostics) terminal.report(d);
  const targeted: Module = { ...module, attributes: { ...module.attributes, target: request.target } };
  const wrong = verifyModule(targeted);
  if (wrong.length > 0) throw new DiagnosticError(wrong);
  return targeted;
}
