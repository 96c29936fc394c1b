// The inputs of `dsvc run`: token ids from a safetensors file, checked before anything expensive begins.
import { fail } from '../../ir/diagnostics.ts';
import { decodeBytes } from '../../ir/formats/index.ts';
import type { Function, Module, Value } from '../../ir/module.ts';
import type { TensorType } from '../../ir/types.ts';
import { SafetensorsFile } from '../../runtime/safetensors.ts';
import { requireFile } from './files.ts';

/** Token ids [batch, length], row-major. */
export interface TokenIds {
  readonly batch: number;
  readonly length: number;
  readonly ids: Int32Array;
}

export interface RunInputs {
  readonly tokens: TokenIds;
  /** What to feed instead of the largest logit, [batch, steps]. */
  readonly forced: TokenIds | undefined;
}

/**
 * Reads `input_ids` and, if there is one and `steps` is given, `forced_ids`. `vocabulary`: ids must be below it; null when
 * the model does not tell. Throws DiagnosticError `input/…`, or FormatError for a malformed file.
 */
export function readInputs(path: string, vocabulary: number | null, steps: number | undefined): RunInputs {
  requireFile(path, 'a safetensors file with input_ids');
  const file = SafetensorsFile.open(path);
  try {
    const tokens = readIds(file, 'input_ids', vocabulary);
    if (tokens.batch === 0 || tokens.length === 0)
      fail({
        code: 'input/empty',
        message: `input_ids of ${path} is [${tokens.batch}, ${tokens.length}]`,
        fix: 'give at least one token',
      });
    if (steps === undefined || !file.tensors.has('forced_ids')) return { tokens, forced: undefined };
    const forced = readIds(file, 'forced_ids', vocabulary);
    if (forced.batch !== tokens.batch || forced.length < steps)
      fail({
        code: 'input/shape',
        message: `forced_ids of ${path} is [${forced.batch}, ${forced.length}], but [${tokens.batch}, ${steps}] is needed`,
        fix: 'one row per sequence of input_ids, one id per step',
      });
    return { tokens, forced };
  } finally {
    file.close();
  }
}

function readIds(file: SafetensorsFile, name: string, vocabulary: number | null): TokenIds {
  if (!file.tensors.has(name))
    fail({
      code: 'input/missing',
      message: `${file.path} has no tensor ${name}`,
      label: `it holds ${[...file.tensors.keys()].slice(0, 8).join(', ') || 'none'}`,
      fix: `give ${name} as I64 [batch, tokens]`,
    });
  const { dtype, shape } = file.info(name);
  if (dtype !== 'I64' && dtype !== 'I32')
    fail({
      code: 'input/dtype',
      message: `${name} of ${file.path} is ${dtype}`,
      fix: 'token ids are I64 (or I32)',
    });
  if (shape.length !== 2)
    fail({
      code: 'input/shape',
      message: `${name} of ${file.path} is [${shape.join(', ')}]`,
      fix: `give ${name} as [batch, tokens]`,
    });
  const [batch, length] = shape;
  const ids = decodeBytes(dtype === 'I64' ? 'i64' : 'i32', file.read(name), batch * length);
  const wrong = ids.findIndex((id) => id < 0 || id >= (vocabulary ?? 2 ** 31));
  if (wrong >= 0)
    fail({
      code: 'input/token-id',
      message: `${name}[${Math.floor(wrong / length)}, ${wrong % length}] of ${file.path} is ${ids[wrong]}, but ids go from 0 to ${(vocabulary ?? 2 ** 31) - 1}`,
      fix: 'encode the text with the tokenizer of this model',
    });
  return { batch, length, ids: Int32Array.from(ids) };
}

/** The argument of an entry that takes token ids: its only tensor. Throws DiagnosticError `input/entry`. */
export function idsArgument(entry: Function): Value {
  const tensors = entry.arguments.filter((a) => a.value.type.kind === 'tensor');
  const dtype = tensors.length === 1 ? (tensors[0].value.type as TensorType).dtype : null;
  if (dtype !== 'i32' && dtype !== 'i64')
    fail({
      code: 'input/entry',
      at: entry.span,
      message: `entry @${entry.name} takes ${tensors.map((a) => `%${a.value.name}`).join(', ') || 'no tensor'}; dsvc run drives entries whose only tensor is token ids`,
    });
  return tensors[0].value;
}

/** Rows of the embedding that token ids are looked up in: a gather from a weight by an argument. Null when there is none. */
export function vocabularyOf(traced: Module): number | null {
  for (const f of traced.functions)
    for (const op of f.body)
      if (op.op === 'gather' && op.operands[0].source === 'parameter' && op.operands[1].source === 'argument')
        return (op.operands[0].type as TensorType).dims[0].size;
  return null;
}

/** Throws DiagnosticError `input/too-long` when a run-time dim would exceed the bound that the module declares. */
export function checkBound(module: Module, dim: string | null, size: number, what: string): void {
  const bound = module.dims.find((d) => d.name === dim)?.bound;
  if (bound !== undefined && size > bound)
    fail({
      code: 'input/too-long',
      message: `${what} is ${size}, but the model bounds ${dim} by ${bound}`,
      fix: `give less, or raise the bound: --set ${dim}=${size}`,
    });
}
