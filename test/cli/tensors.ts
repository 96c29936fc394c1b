// Reads tensors for comparisons: every dtype of the golden data as numbers.
import { expect } from 'vitest';
import { SafetensorsFile } from '../../runtime/safetensors.ts';

export interface Tensor {
  readonly shape: readonly number[];
  readonly data: readonly number[] | Float32Array | Float64Array | Int32Array;
}

export function read(path: string, name: string): Tensor {
  const file = SafetensorsFile.open(path);
  try {
    const { dtype, shape } = file.info(name);
    const bytes = file.read(name).slice();
    switch (dtype) {
      case 'F32':
        return { shape, data: new Float32Array(bytes.buffer) };
      case 'F64':
        return { shape, data: new Float64Array(bytes.buffer) };
      case 'I32':
        return { shape, data: new Int32Array(bytes.buffer) };
      case 'I64':
        return { shape, data: Array.from(new BigInt64Array(bytes.buffer), Number) };
      default:
        throw new Error(`${name} is ${dtype}`);
    }
  } finally {
    file.close();
  }
}

export function names(path: string): string[] {
  const file = SafetensorsFile.open(path);
  file.close();
  return [...file.tensors.keys()];
}

/** Expects equal shapes and returns the largest difference; NaN counts as infinitely far. */
export function distance(got: Tensor, wanted: Tensor): number {
  expect(got.shape).toEqual(wanted.shape);
  let most = 0;
  for (let i = 0; i < wanted.data.length; i++) {
    const d = Math.abs(got.data[i] - wanted.data[i]);
    most = Math.max(most, Number.isNaN(d) ? Infinity : d);
  }
  return most;
}

/** Cosine of the angle between two tensors as vectors. */
export function cosine(a: Tensor, b: Tensor): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.data.length; i++) {
    ab += a.data[i] * b.data[i];
    aa += a.data[i] ** 2;
    bb += b.data[i] ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}
