// `dsvc run --entry gradients`: the loss of a batch and the gradient of every parameter, under the checkpoint's names.
import { fail } from '../../ir/diagnostics.ts';
import { interpret, type InterpretOptions } from '../../ir/interpret/interpreter.ts';
import { packedPositions } from '../../ir/interpret/positions.ts';
import type { RuntimeValue, TensorData } from '../../ir/interpret/values.ts';
import type { WeightCache, WeightSource } from '../../ir/interpret/weights.ts';
import { functionNamed, type Module } from '../../ir/module.ts';
import { differentiate } from '../autodiff/differentiate.ts';
import { namedGradients } from '../autodiff/named.ts';
import { withoutStates } from '../autodiff/states.ts';
import { checkBound, type TokenIds } from './run-inputs.ts';

/** The name of the entry that autodiff adds. */
export const gradientsEntry = 'gradients';

/** A specialised module with @loss, and @gradients of it. Throws a DiagnosticError where an op has no gradient. */
export const withGradients = (specialised: Module): Module =>
  differentiate(withoutStates(specialised), 'loss', gradientsEntry);

/** Each token's target is the next one of its sequence; the last of each has none (−1). */
const targetsOf = ({ length, ids }: TokenIds): Float64Array =>
  Float64Array.from(ids, (_, i) => ((i + 1) % length === 0 ? -1 : ids[i + 1]));

const vector = (data: Float64Array): TensorData => ({
  kind: 'tensor',
  dtype: 'i32',
  shape: [data.length],
  data,
  scales: [],
});

/**
 * `loss` [1], the mean cross entropy of every token's successor, and one f32 tensor per parameter. Experts that no token
 * took give zeros; buffers give nothing. Throws DiagnosticError.
 */
export function runGradients(
  module: Module,
  tokens: TokenIds,
  weights: WeightSource | WeightCache,
  options: InterpretOptions,
): ReadonlyMap<string, TensorData> {
  if (tokens.length < 2)
    fail({
      code: 'run/input',
      message: 'sequences of one token have no next token to predict',
      fix: 'give sequences of two tokens or more',
    });
  const entry = functionNamed(module, gradientsEntry);
  const inputs = entry.arguments.map(({ value }): RuntimeValue => {
    const { type } = value;
    if (type.kind === 'positions')
      return packedPositions(Array<number>(tokens.batch).fill(tokens.length), 'all');
    if (type.kind !== 'tensor') throw new Error(`@${gradientsEntry}: nobody gives %${value.name}`);
    checkBound(module, type.dims[0].name, tokens.ids.length, 'the number of tokens in one step');
    return vector(value.name === 'targets' ? targetsOf(tokens) : Float64Array.from(tokens.ids));
  });
  const results = interpret(module, gradientsEntry, inputs, weights, options)
    .results as readonly TensorData[];
  const out = new Map<string, TensorData>([['loss', results[0]]]);
  for (const { name, shape, data } of namedGradients(entry, results))
    out.set(name, { kind: 'tensor', dtype: 'f32', shape, data, scales: [] });
  return out;
}
