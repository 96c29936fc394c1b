// From a model to a module: one block @forward over all run-time dims, and the entries that a host calls, which bind
// them. In @prefill the keys are the call's own tokens; in @decode they are the cache's rows.
import { FunctionBuilder } from '../ir/builder.ts';
import { DiagnosticError, type Diagnostic } from '../ir/diagnostics.ts';
import type { DType } from '../ir/formats/dtypes.ts';
import type { Attributes, Function, Module, StateDeclaration, Value } from '../ir/module.ts';
import {
  dim,
  tensor,
  type Dim as IrDim,
  type PositionsType,
  type TensorType,
  type Type,
} from '../ir/types.ts';
import { reportThrown } from './traced.ts';
import { cached, keys, outputs, sequences, tokens } from './dims.ts';
import { factsOf, type Facts } from './facts.ts';
import type { Model } from './model.ts';
import { dtypeArg } from './ops/pointwise.ts';
import { fieldDims } from './ops/state.ts';
import { collecting, report } from './context.ts';
import { isPoison, PositionsHandle, StateHandle, TensorHandle, toIr, typeOf } from './tensor.ts';
import { FunctionTrace, ModuleTrace, tracing } from './trace.ts';
import { describe } from './words.ts';

export type PrecisionName = 'f32' | 'bf16' | 'fp8';

export interface TraceOptions {
  /** Activations are f32 with 'f32', else bf16; 'fp8' only marks the module for the pass insert-fp8. */
  readonly precision?: PrecisionName;
  /** Bounds of run-time dims by name; settings of dims and options took effect when the file was loaded. */
  readonly settings?: Readonly<Record<string, string>>;
  /** `inference` (default): @prefill and @decode. `training`: @loss, over packed sequences with a target per output. */
  readonly entries?: 'inference' | 'training';
}

export interface TracedModel {
  readonly module: Module;
  /** Warnings and notes; errors are thrown. */
  readonly diagnostics: readonly Diagnostic[];
  readonly facts: Facts;
}

/**
 * Traces a model. Throws one DiagnosticError with every mistake that was found: blocks are traced one by one, and
 * what a failed op would have given is assumed where its type is known.
 */
export function traceModel(
  model: Model,
  { precision = 'bf16', settings = {}, entries = 'inference' }: TraceOptions = {},
): TracedModel {
  const { value, diagnostics } = collecting({}, () => {
    const trace = new ModuleTrace({
      name: model.name,
      activation: precision === 'f32' ? 'f32' : 'bf16',
      attributes: { precision, ...deploymentAttributes(model) },
      bounds: boundsOf(model, settings),
    });
    declareDims(trace);
    declareStates(trace, model);
    const forward = traceForward(trace, model);
    if (!forward) return null;
    trace.functions.push(forward);
    if (entries === 'training') {
      trace.functions.push(lossEntry(trace, forward, model));
      return trace.module;
    }
    trace.functions.push(
      entry(trace, forward, 'prefill', { tokens: toIr(tokens), keys: toIr(tokens) }, model),
    );
    if (forward.finals.length > 0)
      trace.functions.push(
        entry(trace, forward, 'decode', { tokens: dim('batch'), keys: toIr(cached) }, model),
      );
    return trace.module;
  });
  if (!value || diagnostics.some((d) => d.severity === 'error')) throw new DiagnosticError(diagnostics);
  return { module: value, diagnostics, facts: factsOf(value) };
}

function boundsOf(model: Model, settings: Readonly<Record<string, string>>): Record<string, number> {
  const bounds: Record<string, number> = { ...model.bounds };
  for (const name of Object.keys(bounds)) {
    const n = Number(settings[name] ?? bounds[name]);
    if (Number.isSafeInteger(n) && n >= 1) bounds[name] = n;
    else
      report({
        code: 'dsl/bad-setting',
        message: `--set ${name}=${settings[name]}: the bound of '${name}' is a whole number from 1 up`,
        at: model.at,
        fix: `write --set ${name}=${bounds[name]}`,
      });
  }
  return bounds;
}

/** What passes read of the model's deployment. */
function deploymentAttributes({ deployment: { parallel } }: Model): Attributes {
  if (!parallel) return {};
  const { pp, ep, dp, zero, pipeline } = parallel;
  return {
    'parallel.pp': pp,
    'parallel.ep': ep,
    'parallel.dp': dp,
    'parallel.zero': zero,
    ...(pipeline && {
      'pipeline.schedule': pipeline.schedule,
      'pipeline.micro_batches': pipeline.microBatches,
      'pipeline.comm_sms': pipeline.commSms,
    }),
  };
}

function declareDims(trace: ModuleTrace): void {
  for (const [name, bound] of Object.entries(trace.bounds)) trace.dims.push({ name, bound });
}

function declareStates(trace: ModuleTrace, model: Model): void {
  for (const { cache } of Object.values(model.states)) {
    const declaration: StateDeclaration = {
      name: cache.name,
      policy: 'paged',
      page: cache.page,
      fields: Object.entries(fieldDims(cache)).map(([name, dims]) => ({
        name,
        type: typeOf(dtypeOf(trace, cache.dtype), [cached, ...dims]),
      })),
    };
    const known = trace.states.find((s) => s.name === cache.name);
    if (!known) trace.states.push(declaration);
    else if (JSON.stringify(known) !== JSON.stringify(declaration))
      report({
        code: 'dsl/declared-twice',
        message: `two caches are called '${cache.name}' and differ`,
        at: cache.at,
        fix: 'give each its own name',
      });
  }
}

const dtypeOf = (trace: ModuleTrace, name: Parameters<typeof dtypeArg>[2]): DType =>
  dtypeArg('cache', new FunctionTrace(trace), name);

const positionsType = (at: Record<'tokens' | 'keys' | 'sequences' | 'outputs', IrDim>): PositionsType => ({
  kind: 'positions',
  ...at,
});

function traceForward(trace: ModuleTrace, model: Model): Function | null {
  const f = new FunctionTrace(trace);
  const at = model.at;
  const ids = new TensorHandle(f.argument('ids', typeOf('i32', [tokens])), f, at, [tokens]);
  const dims = { tokens, keys, sequences, outputs };
  const type = positionsType({
    tokens: toIr(tokens),
    keys: toIr(keys),
    sequences: toIr(sequences),
    outputs: toIr(outputs),
  });
  const positions = new PositionsHandle(f.argument('at', type), f, at, dims);
  const states = Object.fromEntries(
    Object.entries(model.states).map(([name, { cache, count }]) => {
      const latest = f.argument(name, { kind: 'state', state: cache.name, count }, true);
      const handle = new StateHandle({
        state: cache.name,
        count,
        fields: fieldDims(cache),
        owner: f,
        latest,
      });
      f.states.push(handle);
      return [name, handle];
    }),
  );
  let logits: unknown;
  try {
    logits = tracing(f, () => model.forward(ids as never, positions as never, states as never));
  } catch (e) {
    if (e instanceof DiagnosticError) throw e;
    reportThrown('forward', e);
    return null;
  }
  if (isPoison(logits) || !checkLogits(model, logits, f)) return null;
  return f.finish({
    kind: 'block',
    name: trace.freshFunction('forward'),
    results: [(logits as TensorHandle).value],
    finals: f.states.map((s) => s.latest),
    span: at,
  });
}

function checkLogits(model: Model, logits: unknown, f: FunctionTrace): boolean {
  const good = logits instanceof TensorHandle && logits.owner === f;
  const right =
    good &&
    logits.dtype === 'f32' &&
    logits.dims.length === 2 &&
    logits.axes[0] === 'outputs' &&
    logits.dims[1].size !== null;
  if (right) return true;
  report({
    code: 'dsl/bad-logits',
    message: `forward of '${model.name}' must return logits, f32[outputs, vocab]`,
    at: good ? logits.madeAt : model.at,
    label: `it returns ${good ? String(logits) : describe(logits)}`,
    fix: 'return head(h, at, vocab)',
  });
  return false;
}

/** A call of @forward with its run-time dims bound, in a function of its own. */
function callForward(
  trace: ModuleTrace,
  forward: Function,
  binding: Record<'tokens' | 'keys', IrDim>,
  model: Model,
): { b: FunctionBuilder; results: readonly Value[] } {
  const b = new FunctionBuilder(trace.context);
  b.span = model.at;
  const [sequenceDim, outputDim] = [toIr(sequences), toIr(outputs)];
  const typeAt = (i: number, type: Type): Type => {
    if (i === 0) return tensor((type as TensorType).dtype, [binding.tokens]);
    if (i === 1) return positionsType({ ...binding, sequences: sequenceDim, outputs: outputDim });
    return type;
  };
  const operands = forward.arguments.map((a, i) =>
    b.argument(a.value.name, typeAt(i, a.value.type), a.inout),
  );
  const results = b.op('call', operands, { callee: forward.name, prefix: '' }, null, [
    forward.results[0].name,
    ...forward.arguments.filter((a) => a.inout).map((a) => a.value.name),
  ]);
  return { b, results };
}

/** An entry: the block @forward with its run-time dims bound. */
function entry(
  trace: ModuleTrace,
  forward: Function,
  name: string,
  binding: Record<'tokens' | 'keys', IrDim>,
  model: Model,
): Function {
  const { b, results } = callForward(trace, forward, binding, model);
  const n = forward.results.length;
  return b.finish({
    kind: 'entry',
    name,
    results: results.slice(0, n),
    finals: results.slice(n),
    span: model.at,
  });
}

/**
 * @loss: the mean cross entropy of the outputs that have a target, f32[1]. Targets are vocabulary indices, −1 for an
 * output that counts for nothing (the last token of a sequence).
 */
function lossEntry(trace: ModuleTrace, forward: Function, model: Model): Function {
  const { b, results } = callForward(trace, forward, { tokens: toIr(tokens), keys: toIr(tokens) }, model);
  const outputDim = toIr(outputs);
  const targets = b.argument('targets', tensor('i32', [outputDim]));
  const f32 = (...dims: IrDim[]): TensorType => tensor('f32', dims);
  const each = b.one('cross_entropy', [results[0], targets]);
  const none = b.one('const', [], { value: 0 }, tensor('i32', [outputDim]));
  const counts = b.one('cast', [b.one('ge', [targets, none])], {}, f32(outputDim));
  const [total, count] = [each, counts].map((v) => b.one('sum', [v], { axes: [0] }));
  const mean = b.one('div', [total, count]);
  const loss = b.one('reshape', [mean], {}, f32(dim(null, 1)), 'loss');
  return b.finish({
    kind: 'entry',
    name: 'loss',
    results: [loss],
    finals: results.slice(forward.results.length),
    span: model.at,
  });
}
