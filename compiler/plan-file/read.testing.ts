// A plan file from its bytes, for tests. The C++ loader is the one that has to be wary of broken bytes; here they end in
// an Error.
import { ByteReader } from '../../ir/byte-stream.ts';
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

/** Sizes of plans are numbers. */
class Reader extends ByteReader {
  size(): number {
    return Number(this.u64());
  }
}

const extent = (r: Reader): FileExtent => ({
  constant: r.size(),
  terms: r.each(() => ({ dim: r.u32(), factor: r.size() })),
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
  places: r.each(() => ({ base: r.of(bases), index: r.u32(), offset: r.size() })),
});

function parameter(r: Reader): FileParameter {
  const kind = r.of(parameterKinds);
  const at = r.u32();
  if (kind === 'u32') return { kind, at, dim: r.u32() };
  const array = { at, value: r.u32(), component: r.u32(), offset: r.size() };
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
  scratchBytes: r.size(),
  grid: r.each(() => ({ extent: extent(r), per: r.size() })),
  atMost: r.size(),
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
    ...{ kind, at, function: r.u32(), start: r.u32(), stop: r.u32(), arena: r.size() },
    operands: r.each(() => operand(r)),
  };
}

const fn = (r: Reader): FileFunction => ({
  name: r.string(),
  isEntry: r.flag(),
  arguments: r.each(() => ({ name: r.string(), type: r.u32(), inout: r.flag() })),
  arenaBytes: r.size(),
  steps: r.each(() => step(r)),
  results: r.each(() => value(r)),
});

/** Throws an Error for bytes that are no plan file. */
export function readPlanFile(bytes: Uint8Array): PlanFile {
  const r = new Reader(bytes, 'plan file');
  if (r.text(4) !== planFileMagic) throw new Error('plan file: it does not start with its mark');
  const version = r.u32();
  if (version !== planFileVersion) throw new Error(`plan file: format ${version}`);
  r.strings = r.each(() => r.text(r.u32()));
  const dims = r.each(() => {
    const [name, bound, of] = [r.string(), r.size(), r.u32()];
    if (of === none) return { name, bound };
    return { name, bound, ragged: { of, per: r.size(), groups: r.size(), align: r.size() } };
  });
  const types = r.each(() => type(r));
  const states = r.each(() => ({ name: r.string(), policy: r.string(), page: r.u32() }));
  const weights = r.each(() => {
    const [name, weightType, isLayered, first, count] = [r.string(), r.u32(), r.flag(), r.u32(), r.u32()];
    const layers = isLayered ? ([first, first + count] as const) : null;
    return { name, type: weightType, layers, offset: r.size(), stride: r.size() };
  });
  const file: PlanFile = {
    ...{ dims, types, states, weights, weightBytes: r.size() },
    kernels: r.each(() => kernel(r)),
    functions: r.each(() => fn(r)),
  };
  r.end();
  return file;
}
