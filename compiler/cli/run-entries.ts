// Drives a module's entries on any device: prefill over packed sequences, then decode step by step over the paged cache.
import { interpret, type InterpretOptions, type InterpretResult } from '../../ir/interpret/interpreter.ts';
import { newState, packedPositions, pageTable, stepPositions } from '../../ir/interpret/positions.ts';
import type { PositionsData, RuntimeValue, StateData, TensorData } from '../../ir/interpret/values.ts';
import type { WeightCache, WeightSource } from '../../ir/interpret/weights.ts';
import { functionNamed, type Function, type Module } from '../../ir/module.ts';
import { sameDim, type PositionsType } from '../../ir/types.ts';
import { checkBound, idsArgument, type TokenIds } from './run-inputs.ts';

/** Rows per page when the entry has no paged state to say. */
const defaultPage = 64;

/** Runs one entry: the interpreter, or a device that executes the plan. */
export type Execute = (entry: string, inputs: readonly RuntimeValue[]) => InterpretResult;

/** Entries as the reference interpreter runs them. */
export const interpreted =
  (module: Module, weights: WeightSource | WeightCache, options: InterpretOptions = {}): Execute =>
  (entry, inputs) =>
    interpret(module, entry, inputs, weights, options);

export class Driver {
  readonly #module: Module;
  readonly #execute: Execute;
  readonly #page: number;
  /** Where each sequence's rows lie, with room for everything that will be generated. */
  readonly #pages: readonly Int32Array[];
  /** By state name: prefill and decode work on the same caches. */
  readonly #states = new Map<string, StateData>();
  readonly #cached: number[];

  /** `capacity`: tokens that each sequence will hold at the end. */
  constructor(module: Module, execute: Execute, batch: number, capacity: number) {
    this.#module = module;
    this.#execute = execute;
    this.#page = module.states.find((s) => s.policy === 'paged')?.page ?? defaultPage;
    this.#pages = pageTable(Array<number>(batch).fill(capacity), this.#page);
    this.#cached = Array<number>(batch).fill(0);
  }

  /**
   * Runs an entry on the next tokens of every sequence, and gives the logits of all of them: [batch · length, V] in the
   * order of the ids. Throws DiagnosticError when a bound is exceeded or the entry is of another kind.
   */
  step(entryName: string, { batch, length, ids }: TokenIds): TensorData {
    const entry = functionNamed(this.#module, entryName);
    const at = this.#positions(entry, Array<number>(batch).fill(length));
    const idsValue = idsArgument(entry);
    const inputs = entry.arguments.map(({ value }): RuntimeValue => {
      const { type } = value;
      if (value === idsValue && type.kind === 'tensor') {
        checkBound(
          this.#module,
          type.dims[0].name,
          ids.length,
          `the number of tokens in one call of ${entryName}`,
        );
        return {
          kind: 'tensor',
          dtype: type.dtype,
          shape: [ids.length],
          data: Float64Array.from(ids),
          scales: [],
        };
      }
      if (type.kind === 'positions') return at;
      if (type.kind === 'state') return this.#state(type.state, type.count);
      throw new Error(`entry @${entryName}: nobody gives %${value.name}`);
    });
    const { results, finals } = this.#execute(entryName, inputs);
    entry.arguments
      .filter((a) => a.inout)
      .forEach(({ value }, i) => {
        const final = finals[i];
        if (value.type.kind === 'state' && final.kind === 'state') this.#states.set(value.type.state, final);
      });
    for (let s = 0; s < batch; s++) this.#cached[s] += length;
    const logits = results[0];
    if (logits?.kind !== 'tensor' || logits.shape.length !== 2 || logits.shape[0] !== ids.length)
      throw new Error(`entry @${entryName}: the first result is not logits of every token`);
    return logits;
  }

  /**
   * The caches as safetensors-like tensors: `cache.L.<field>` [batch, tokens, …], rows of each sequence in the order of its
   * positions. Layers count through the states of the module in order.
   */
  caches(): ReadonlyMap<string, TensorData> {
    const out = new Map<string, TensorData>();
    let layer = 0;
    for (const [name, state] of this.#states) {
      const paged = this.#module.states.find((s) => s.name === name)?.policy === 'paged';
      for (const { fields } of state.layers) {
        for (const [field, value] of Object.entries(fields))
          out.set(`cache.${layer}.${officialField(name, field)}`, paged ? this.#rows(value) : value);
        layer++;
      }
    }
    return out;
  }

  #positions(entry: Function, lengths: readonly number[]): PositionsData {
    const type = entry.arguments
      .map((a) => a.value.type)
      .find((t): t is PositionsType => t.kind === 'positions');
    // An entry without positions has nothing to do with the caches; any will do.
    if (!type || sameDim(type.keys, type.tokens))
      return packedPositions(lengths, 'all', this.#page, this.#pages);
    return stepPositions(this.#cached, lengths, 'all', this.#page, this.#pages);
  }

  #state(name: string, count: number | null): StateData {
    let state = this.#states.get(name);
    if (!state) {
      const declared = this.#module.states.find((s) => s.name === name);
      if (!declared) throw new Error(`state ${name} is not declared`);
      const rows = this.#pages.reduce((n, list) => n + list.length, 0) * this.#page;
      const axis = declared.fields[0]?.type.dims[0];
      if (declared.policy === 'paged')
        checkBound(this.#module, axis?.name ?? null, rows, `the number of cache rows`);
      state = newState(declared, count, rows);
      this.#states.set(name, state);
    }
    return state;
  }

  #rows({ dtype, shape, data }: TensorData): TensorData {
    const width = shape.slice(1).reduce((n, s) => n * s, 1);
    const length = this.#cached[0];
    const out = new Float64Array(this.#cached.length * length * width);
    let at = 0;
    for (const pages of this.#pages)
      for (let p = 0; p < length; p++, at += width) {
        const row = pages[Math.floor(p / this.#page)] * this.#page + (p % this.#page);
        out.set(data.subarray(row * width, (row + 1) * width), at);
      }
    return {
      kind: 'tensor',
      dtype,
      shape: [this.#cached.length, length, ...shape.slice(1)],
      data: out,
      scales: [],
    };
  }
}

/** Latent caches have the names of the official code: c_kv after its norm, k_pe rotated with pairs interleaved. */
const officialField = (state: string, field: string): string =>
  state.includes('latent') ? ({ latent: 'c_kv', rope: 'k_pe_interleaved' }[field] ?? field) : field;

/** Index of the largest of `count` values from `offset`; the lowest wins a tie. NaN is never the largest. */
export function argmax(data: Float64Array, offset: number, count: number): number {
  let best = 0;
  for (let i = 1; i < count; i++)
    if (data[offset + i] > data[offset + best] || Number.isNaN(data[offset + best])) best = i;
  return best;
}
