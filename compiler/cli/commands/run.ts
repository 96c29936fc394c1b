// `dsvc run`: a model or a bundle on a checkpoint and inputs.
import { DiagnosticError, type Diagnostic } from '../../../ir/diagnostics.ts';
import { encodeBytes } from '../../../ir/formats/index.ts';
import type { TensorData } from '../../../ir/interpret/values.ts';
import { WeightCache, type WeightSource } from '../../../ir/interpret/weights.ts';
import type { Module } from '../../../ir/module.ts';
import {
  elementBytes,
  openCheckpoint,
  writeSafetensors,
  type Checkpoint,
  type TensorToWrite,
} from '../../../runtime/safetensors.ts';
import { compileModule } from '../../compile.ts';
import { runPipeline, type Pass } from '../../pass.ts';
import { gradientPasses, inferencePasses } from '../../pipeline.ts';
import { Capture } from '../capture.ts';
import { CheckpointWeights, compareCheckpoint, isFp8Checkpoint } from '../checkpoint-weights.ts';
import { PassObserver } from '../dumps.ts';
import { asDiagnostics } from '../failures.ts';
import { keepEntries } from '../entries.ts';
import { isBundle, readBundle, readPlan } from '../bundle-file.ts';
import { onEmulator } from '../emulator-device.ts';
import { onInterrupt } from '../interrupt.ts';
import { loadAndTrace } from '../model.ts';
import { UsageError } from '../names.ts';
import type { RunOptions } from '../options.ts';
import type { Session } from '../session.ts';
import { showTimings } from '../report.ts';
import type { Executable } from '../plan-runner.ts';
import { argmax, Driver, interpreted, type Execute } from '../run-entries.ts';
import { readInputs, vocabularyOf, type RunInputs, type TokenIds } from '../run-inputs.ts';
import { gradientsEntry, runGradients, withGradients } from '../run-gradients.ts';
import { checkRequest } from '../run-request.ts';
import { loadTarget } from '../targets.ts';
import { Timings } from '../timings.ts';

/** Decoded weights up to this size are kept between decode steps; larger models read each layer again. */
const keepBytes = 2 ** 31;

export async function run(session: Session, path: string, options: RunOptions): Promise<void> {
  const { terminal, crash } = session;
  if (options.reproducer !== undefined) crash.reproducer = options.reproducer;
  checkRequest(path, options);
  const timings = new Timings();
  const observer = new PassObserver(options, passesFor(options), terminal, timings);
  // Opened first: its kind decides the precision. What is wrong with it, the model and the inputs is told together.
  let checkpoint: Checkpoint | undefined;
  try {
    const problems: Diagnostic[] = [];
    const attempt = async <T>(step: () => T | Promise<T>): Promise<T | undefined> => {
      try {
        return await step();
      } catch (error) {
        const known = error instanceof UsageError ? undefined : asDiagnostics(error);
        if (!known) throw error;
        problems.push(...known);
        return undefined;
      }
    };
    checkpoint = await attempt(() => openCheckpoint(options.weights));
    const both = await attempt(() => modules(session, path, options, checkpoint, observer, timings));
    const inputs = await attempt(() =>
      readInputs(
        options.input,
        both ? vocabularyOf(both.traced) : null,
        options.entry === 'decode' ? options.steps : undefined,
      ),
    );
    const found = checkpoint && both ? compareCheckpoint(checkpoint, both.traced) : [];
    if (!checkpoint || !both || !inputs || found.some((d) => d.severity === 'error'))
      throw new DiagnosticError([...problems, ...found]);
    for (const d of found) terminal.report(d);
    const weights = checkpoint;
    const cache = weightsFor(weights, options);
    const emulated = both.executable && onEmulator(both.executable, asCache(cache), terminal, options);
    const results = await timings.phase(options.device === 'ref' ? 'interpret' : 'run', () =>
      runEntry(session, both, emulated?.execute, cache, inputs, options),
    );
    await emulated?.finish();
    write(options.output, results);
    terminal.info(
      `${options.output}: ${[...results.keys()].slice(0, 4).join(', ')}${results.size > 4 ? `, … (${results.size} tensors)` : ''}`,
    );
    showTimings(timings, options, terminal);
  } finally {
    checkpoint?.close();
  }
}

const passesFor = ({ entry }: RunOptions): readonly Pass[] =>
  entry === gradientsEntry ? gradientPasses() : inferencePasses();

interface Modules {
  /** As the author wrote it; of a bundle as it is after all passes. */
  readonly traced: Module;
  readonly final: Module;
  /** For devices. */
  readonly executable?: Executable;
}

async function modules(
  session: Session,
  path: string,
  options: RunOptions,
  checkpoint: Checkpoint | undefined,
  observer: PassObserver,
  timings: Timings,
): Promise<Modules> {
  const { terminal, crash } = session;
  const device = options.device !== 'ref';
  const gradients = options.entry === gradientsEntry;
  const needed = gradients ? ['loss'] : options.entry === 'decode' ? ['prefill', 'decode'] : ['prefill'];
  if (isBundle(path)) {
    const whole = await readBundle(path, terminal);
    const final = keepEntries(whole, needed);
    return { traced: final, final, ...(device && { executable: { module: whole, ...readPlan(path) } }) };
  }
  const precision = options.precision ?? (checkpoint && isFp8Checkpoint(checkpoint) ? 'fp8' : 'f32');
  const whole = await timings.phase('load and trace', () =>
    loadAndTrace(
      path,
      { precision, target: 'h800', set: options.set, entries: gradients ? 'training' : 'inference' },
      terminal,
    ),
  );
  const traced = keepEntries(whole, needed);
  crash.module = traced;
  const target = await loadTarget('h800');
  observer.begin(traced, 'traced', 'dsvc opt 000-traced.dsir -o -');
  const result = await timings.phase('passes', () =>
    runPipeline(traced, passesFor(options), {
      target,
      disabled: new Set(options.disablePass),
      verifyEach: options.verifyEach,
      onPass: observer.onPass,
    }),
  );
  // Why a fusion was declined is for those who compile; here only what is wrong matters.
  for (const d of result.diagnostics) if (d.severity !== 'note') terminal.report(d);
  if (gradients) return { traced, final: withGradients(result.module) };
  if (!device) return { traced, final: result.module };
  const executable = await timings.phase('emit', () =>
    // The passes ran: only kernels and plan are still to be made.
    compileModule(result.module, { target, passes: [], disabled: new Set(), verifyEach: false }),
  );
  return { traced, final: result.module, executable };
}

/** Weights that one call after the other needs are kept, where there is room. */
function weightsFor(checkpoint: Checkpoint, { entry }: RunOptions): WeightSource | WeightCache {
  const source = new CheckpointWeights(checkpoint);
  return entry === 'decode' && decodedBytes(checkpoint) <= keepBytes ? new WeightCache(source) : source;
}

const asCache = (weights: WeightSource | WeightCache): WeightCache =>
  weights instanceof WeightCache ? weights : new WeightCache(weights);

function runEntry(
  { terminal }: Session,
  { traced, final }: Modules,
  emulated: Execute | undefined,
  weights: WeightSource | WeightCache,
  inputs: RunInputs,
  options: RunOptions,
): ReadonlyMap<string, TensorData> {
  const capture =
    options.capture.length > 0 ? new Capture(options.capture, traced, final, 'prefill') : undefined;
  const settings = {
    ...(options.numerics ? { numerics: options.numerics } : {}),
    ...(capture ? { onOp: capture.onOp } : {}),
  };
  if (options.entry === gradientsEntry) return runGradients(final, inputs.tokens, weights, settings);
  const { batch, length } = inputs.tokens;
  const steps = options.steps ?? 0;
  const execute = emulated ?? interpreted(final, weights, settings);
  const driver = new Driver(final, execute, batch, length + steps);
  const logits = driver.step('prefill', inputs.tokens);
  const vocabulary = logits.shape[1];
  const out = new Map<string, TensorData>();
  const prefill = { ...logits, dtype: 'f32', shape: [batch, length, vocabulary] } as const;
  if (options.entry === 'prefill') {
    out.set('logits', prefill);
    const captured = [...(capture?.tensors ?? [])].sort(([a], [b]) =>
      a.localeCompare(b, 'en', { numeric: true }),
    );
    for (const [name, value] of captured) out.set(name, shaped(name, value, batch, length));
    return out;
  }
  out.set('prefill_logits', prefill);
  const { ids, rows } = decode(driver, prefill, inputs, steps, (n) =>
    terminal.progress(`step ${n}/${steps}`),
  );
  terminal.endProgress();
  out.set('generated_ids', { kind: 'tensor', dtype: 'i64', shape: [batch, steps], data: ids, scales: [] });
  out.set('step_logits', {
    kind: 'tensor',
    dtype: 'f32',
    shape: [batch, steps + 1, vocabulary],
    data: rows,
    scales: [],
  });
  for (const [name, value] of driver.caches()) out.set(name, value);
  return out;
}

/** Feeds one token of each sequence at a time: the forced one, or the largest logit of the step before. */
function decode(
  driver: Driver,
  prefill: TensorData,
  { forced }: RunInputs,
  steps: number,
  onStep: (n: number) => void,
): { readonly ids: Float64Array; readonly rows: Float64Array } {
  const [batch, length, vocabulary] = prefill.shape;
  const ids = new Float64Array(batch * steps);
  const rows = new Float64Array(batch * (steps + 1) * vocabulary);
  const keep = (sequence: number, step: number, from: Float64Array, offset: number): void =>
    rows.set(from.subarray(offset, offset + vocabulary), (sequence * (steps + 1) + step) * vocabulary);
  for (let s = 0; s < batch; s++) keep(s, 0, prefill.data, (s * length + length - 1) * vocabulary);
  for (let step = 1; step <= steps; step++) {
    const next: TokenIds = { batch, length: 1, ids: new Int32Array(batch) };
    for (let s = 0; s < batch; s++) {
      const best = argmax(rows, (s * (steps + 1) + step - 1) * vocabulary, vocabulary);
      next.ids[s] = forced ? forced.ids[s * forced.length + step - 1] : best;
      ids[s * steps + step - 1] = next.ids[s];
    }
    const logits = driver.step('decode', next);
    for (let s = 0; s < batch; s++) keep(s, step, logits.data, s * vocabulary);
    onStep(step);
  }
  return { ids, rows };
}

/** The residual stream as [B, T, hidden]; routers keep their flat tokens. */
function shaped(name: string, value: TensorData, batch: number, length: number): TensorData {
  if (!name.startsWith('hidden.')) return value;
  return { ...value, dtype: 'f32', shape: [batch, length, ...value.shape.slice(1)] };
}

const decodedBytes = (checkpoint: Checkpoint): number =>
  checkpoint.names().reduce((n, name) => {
    const { begin, end, dtype } = checkpoint.info(name);
    return n + ((end - begin) / elementBytes[dtype]) * 8;
  }, 0);

/** Token ids are I64 and I32 as computed; everything else is written as F32. */
function write(path: string, results: ReadonlyMap<string, TensorData>): void {
  const tensors = [...results].map(([name, value]): TensorToWrite => {
    const dtype = value.dtype === 'i64' ? 'I64' : value.dtype === 'i32' ? 'I32' : 'F32';
    const stored = dtype === 'I64' ? 'i64' : dtype === 'I32' ? 'i32' : 'f32';
    return { name, dtype, shape: value.shape, data: () => encodeBytes(stored, value.data) };
  });
  // Interrupted while writing: writeSafetensors removes its temporary file itself once it gets to it.
  const forget = onInterrupt(() => {});
  try {
    writeSafetensors(path, tensors);
  } finally {
    forget();
  }
}
