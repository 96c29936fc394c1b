// A plan file from its bytes, for tests. The C++ loader is the one that has to be wary of broken bytes; here they end in
// an Error.
import {
  bases,
  mapSwizzles,
  modes,
  none,
  parameterKinds,
  planFileMagic,
  planFileVersion,
  stepKinds,
  type FileExtent,
  type FileFunction,
  type FileKernel,
  type FileOperand,
  type FileParameter,
  type FileStep,
  type FileType,
  type FileValue,
  type PlanFile,
} from './form.ts';

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  strings: string[] = [];

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #skip(count: number): number {
    const at = this.#at;
    if (at + count > this.#bytes.length) throw new Error('plan file: it ends too early');
    this.#at = at + count;
    return at;
  }
  u8(): number {
    return this.#bytes[this.#skip(1)];
  }
  u32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }
  u64(): number {
    return Number(this.#view.getBigUint64(this.#skip(8), true));
  }
  flag(): boolean {
    return this.u8() !== 0;
  }
  text(count: number): string {
    const at = this.#skip(count);
    return new TextDecoder().decode(this.#bytes.subarray(at, at + count));
  }
  each<T>(read: () => T): T[] {
    return Array.from({ length: this.u32() }, read);
  }
  of<T>(list: readonly T[]): T {
    const index = this.u8();
    if (index >= list.length) throw new Error(`plan file: there is no choice ${index}`);
    return list[index];
  }
  string(): string {
    const index = this.u32();
    if (index >= this.strings.length) throw new Error(`plan file: there is no string ${index}`);
    return this.strings[index];
  }
  end(): void {
    if (this.#at !== this.#bytes.length) throw new Error('plan file: bytes follow its end');
  }
}

const extent = (r: Reader): FileExtent => ({
  constant: r.u64(),
  terms: r.each(() => ({ dim: r.u32(), factor: r.u64() })),
});

const type = (r: Reader): FileType => ({
  text: r.string(),
  components: r.each(() => ({
    name: r.string(),
    dtype: r.string(),
    bits: r.u32(),
    shape: r.each(() => extent(r)),
  })),
});

const value = (r: Reader): FileValue => ({
  type: r.u32(),
  places: r.each(() => ({ base: r.of(bases), index: r.u32(), offset: r.u64() })),
});

function parameter(r: Reader): FileParameter {
  const kind = r.of(parameterKinds);
  const at = r.u32();
  if (kind === 'u32') return { kind, at, dim: r.u32() };
  const array = { at, value: r.u32(), component: r.u32(), offset: r.u64() };
  if (kind === 'pointer') return { kind, ...array };
  return {
    ...{ kind, ...array, element: r.u8(), swizzle: r.of(mapSwizzles) },
    dims: r.each(() => extent(r)),
    strides: r.each(() => extent(r)),
    box: r.each(() => r.u32()),
  };
}

const kernel = (r: Reader): FileKernel => ({
  name: r.string(),
  threads: r.u32(),
  cluster: [r.u32(), r.u32(), r.u32()],
  dynamicSharedBytes: r.u32(),
  parameterBytes: r.u32(),
  scratchBytes: r.u64(),
  grid: r.each(() => ({ extent: extent(r), per: r.u64() })),
  atMost: r.u64(),
  parameters: r.each(() => parameter(r)),
});

function operand(r: Reader): FileOperand {
  const mode = r.of(modes);
  const first = value(r);
  return mode === 'carry' ? { mode, value: first, result: value(r) } : { mode, value: first };
}

function step(r: Reader): FileStep {
  const kind = r.of(stepKinds);
  const at = r.string();
  if (kind === 'launch')
    return { kind, at, kernel: r.u32(), operands: r.u32(), values: r.each(() => value(r)) };
  return {
    ...{ kind, at, function: r.u32(), start: r.u32(), stop: r.u32(), arena: r.u64() },
    operands: r.each(() => operand(r)),
  };
}

const fn = (r: Reader): FileFunction => ({
  name: r.string(),
  isEntry: r.flag(),
  arguments: r.each(() => ({ name: r.string(), type: r.u32(), inout: r.flag() })),
  arenaBytes: r.u64(),
  steps: r.each(() => step(r)),
  results: r.each(() => value(r)),
});

/** Throws an Error for bytes that are no plan file. */
export function readPlanFile(bytes: Uint8Array): PlanFile {
  const r = new Reader(bytes);
  if (r.text(4) !== planFileMagic) throw new Error('plan file: it does not start with its mark');
  const version = r.u32();
  if (version !== planFileVersion) throw new Error(`plan file: format ${version}`);
  r.strings = r.each(() => r.text(r.u32()));
  const dims = r.each(() => {
    const [name, bound, of] = [r.string(), r.u64(), r.u32()];
    if (of === none) return { name, bound };
    return { name, bound, ragged: { of, per: r.u64(), groups: r.u64(), align: r.u64() } };
  });
  const types = r.each(() => type(r));
  const states = r.each(() => ({ name: r.string(), policy: r.string(), page: r.u32() }));
  const weights = r.each(() => {
    const [name, weightType, isLayered, first, count] = [r.string(), r.u32(), r.flag(), r.u32(), r.u32()];
    const layers = isLayered ? ([first, first + count] as const) : null;
    return { name, type: weightType, layers, offset: r.u64(), stride: r.u64() };
  });
  const file: PlanFile = {
    ...{ dims, types, states, weights, weightBytes: r.u64() },
    kernels: r.each(() => kernel(r)),
    functions: r.each(() => fn(r)),
  };
  r.end();
  return file;
}
