// A checkpoint as the interpreter's source of weights, and what is wrong between a checkpoint and a model, all at once.
import type { Diagnostic } from '../../ir/diagnostics.ts';
import { decodeBytes, type DType } from '../../ir/formats/index.ts';
import type { WeightSource } from '../../ir/interpret/weights.ts';
import type { TensorData } from '../../ir/interpret/values.ts';
import type { Module, ParameterDeclaration } from '../../ir/module.ts';
import type { Span } from '../../ir/span.ts';
import {
  FormatError,
  type Checkpoint,
  type CheckpointTensor,
  type SafetensorsDType,
} from '../../runtime/safetensors.ts';
import { entriesOf, weightUses } from '../weights.ts';
import { formatDiagnostic } from './format-errors.ts';
import { suggestion } from './names.ts';

/** Stored dtypes that a weight can have. Integers, booleans and F64 are no weights of these models. */
const weightDTypes: Partial<Readonly<Record<SafetensorsDType, DType>>> = {
  F32: 'f32',
  BF16: 'bf16',
  F16: 'f16',
  F8_E4M3: 'f8e4m3',
  F8_E5M2: 'f8e5m2',
};

const isFp8 = (dtype: SafetensorsDType): boolean => dtype === 'F8_E4M3' || dtype === 'F8_E5M2';

/** Official FP8 checkpoints: `X.weight` has its dequantisation factors, one per 128x128 block, in this tensor. */
const scaleSuffix = '_scale_inv';
const scaleBlock = 128;

/** The checkpoint holds FP8 weights in the official layout. */
export const isFp8Checkpoint = (checkpoint: Checkpoint): boolean =>
  checkpoint.names().some((name) => name.endsWith(`.weight${scaleSuffix}`));

/** One checkpoint tensor that a model reads. */
interface Wanted {
  readonly name: string;
  readonly stored: readonly number[];
  readonly span: Span;
}

/** Full names of every checkpoint tensor that the entries of a traced module read, layers and experts written out. */
export function wantedTensors(traced: Module): readonly Wanted[] {
  const out = new Map<string, Wanted>();
  for (const { name, layers, declaration } of weightUses(traced, entriesOf(traced))) {
    if (declaration.kind === 'derived') continue;
    const [start, stop] = layers ?? [0, 1];
    for (let layer = start; layer < stop; layer++) {
      const inLayer = layers ? name.replaceAll('{i}', String(layer)) : name;
      for (const full of expertNames(inLayer, declaration))
        if (!out.has(full)) out.set(full, { name: full, stored: declaration.stored, span: declaration.span });
    }
  }
  return [...out.values()];
}

function expertNames(name: string, { value }: ParameterDeclaration): readonly string[] {
  if (!name.includes('{experts}')) return [name];
  return Array.from({ length: value.type.dims[0]?.size ?? 0 }, (_, e) =>
    name.replaceAll('{experts}', String(e)),
  );
}

/** Warnings name this many unexpected tensors. */
const shownNames = 8;

/**
 * Compares a checkpoint with what a traced module declares: missing, misshapen and ill-typed tensors are errors, others
 * that nothing reads are one warning. Reads headers only, and reports a malformed shard once.
 */
export function compareCheckpoint(checkpoint: Checkpoint, traced: Module): readonly Diagnostic[] {
  const wanted = wantedTensors(traced);
  const names = checkpoint.names();
  const known = new Set(wanted.map((w) => w.name));
  const unused = names.filter((name) => !known.has(name) && !isScaleOf(name, known));
  const found: Diagnostic[] = [];
  const brokenFiles = new Set<string>();
  for (const w of wanted) {
    if (!checkpoint.has(w.name)) {
      found.push({
        code: 'weights/missing',
        severity: 'error',
        at: w.span,
        message: `the checkpoint has no tensor ${w.name}`,
        label: `declared here, stored as ${show(w.stored)}`,
        fix:
          unused.length > 0
            ? suggestionOf(w.name, unused)
            : 'check that this is the checkpoint of this model',
      });
      continue;
    }
    try {
      found.push(...compareTensor(checkpoint, w));
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      if (!brokenFiles.has(error.message)) found.push(formatDiagnostic(error));
      brokenFiles.add(error.message);
    }
  }
  if (unused.length > 0)
    found.push({
      code: 'weights/unexpected',
      severity: 'warning',
      message: `the model does not read ${unused.length} of the checkpoint's ${names.length} tensors: ${unused.slice(0, shownNames).join(', ')}${unused.length > shownNames ? ', …' : ''}`,
      fix: 'nothing, if the model leaves these parts out on purpose',
    });
  return found;
}

const suggestionOf = (name: string, unused: readonly string[]): string =>
  suggestion(name, unused.slice(0, 2000), 'tensors that the model does not read').slice(0, 400);

const isScaleOf = (name: string, known: ReadonlySet<string>): boolean =>
  name.endsWith(scaleSuffix) && known.has(name.slice(0, -scaleSuffix.length));

const show = (shape: readonly number[]): string => `[${shape.join(', ')}]`;

function compareTensor(checkpoint: Checkpoint, { name, stored, span }: Wanted): readonly Diagnostic[] {
  const info = checkpoint.info(name);
  const wrong = (what: string, message: string, fix: string): Diagnostic => ({
    code: `weights/${what}`,
    severity: 'error',
    at: span,
    message: `${name} ${message}`,
    notes: [{ message: `it stands at byte ${info.begin} of ${info.file}` }],
    fix,
  });
  const out: Diagnostic[] = [];
  if (weightDTypes[info.dtype] === undefined)
    out.push(
      wrong(
        'dtype',
        `is ${info.dtype} in the checkpoint, which is no dtype of weights`,
        `store it as one of ${Object.keys(weightDTypes).join(', ')}`,
      ),
    );
  if (info.shape.length !== stored.length || info.shape.some((n, i) => n !== stored[i]))
    out.push(
      wrong(
        'shape',
        `is ${show(info.shape)} in the checkpoint, but the model declares ${show(stored)}`,
        "check the model's sizes, or that this is its checkpoint",
      ),
    );
  if (isFp8(info.dtype)) out.push(...compareScale(checkpoint, name, info, wrong));
  return out;
}

function compareScale(
  checkpoint: Checkpoint,
  name: string,
  info: CheckpointTensor,
  wrong: (what: string, message: string, fix: string) => Diagnostic,
): readonly Diagnostic[] {
  const scale = name + scaleSuffix;
  if (!checkpoint.has(scale))
    return [
      wrong(
        'scale',
        `is ${info.dtype}, but the checkpoint has no ${scale}`,
        'FP8 weights need their scales: convert the checkpoint again',
      ),
    ];
  const has = checkpoint.info(scale);
  const shape = scaleShape(info.shape);
  if (has.dtype === 'F32' && has.shape.length === shape.length && has.shape.every((n, i) => n === shape[i]))
    return [];
  return [
    wrong(
      'scale',
      `has scales ${has.dtype} ${show(has.shape)}, but ${show(info.shape)} in blocks of 128x128 needs F32 ${show(shape)}`,
      'convert the checkpoint again',
    ),
  ];
}

const scaleShape = (shape: readonly number[]): number[] => shape.map((n) => Math.ceil(n / scaleBlock));

/** Reads a checkpoint tensor by tensor, in the stored dtype; FP8 weights come with their scales. */
export class CheckpointWeights implements WeightSource {
  readonly #checkpoint: Checkpoint;

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint;
  }

  /** As WeightSource. The values are f64, exact; nothing is kept. Throws FormatError when the file cannot be read. */
  get(name: string): TensorData | undefined {
    if (!this.#checkpoint.has(name)) return undefined;
    const { dtype } = this.#checkpoint.info(name);
    const of = weightDTypes[dtype];
    if (of === undefined) return undefined;
    const scale = name + scaleSuffix;
    const scales = isFp8(dtype) && this.#checkpoint.has(scale) ? [this.#values(scale, 'f32')] : [];
    return { kind: 'tensor', dtype: of, ...this.#values(name, of), scales };
  }

  #values(name: string, dtype: DType): { readonly shape: readonly number[]; readonly data: Float64Array } {
    const { shape } = this.#checkpoint.info(name);
    const count = shape.reduce((n, s) => n * s, 1);
    return { shape, data: decodeBytes(dtype, this.#checkpoint.read(name), count) };
  }
}
