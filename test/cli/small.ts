// The smallest model that runs, its checkpoint and its inputs, and how to spoil them.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeBytes } from '../../ir/formats/index.ts';
import { writeSafetensors, type TensorToWrite } from '../../runtime/safetensors.ts';

/** Embedding, norm and head: eight tokens, four numbers each. */
export const smallModel = `import { dim, embedding, head, model } from 'dsvc';

const hidden = dim('hidden', 4);
const vocab = dim('vocab', 8);

export default model('small', {
  forward: (ids, at) => head(embedding(ids, vocab, hidden), at, vocab),
});
`;

export const f32 = (name: string, shape: readonly number[]): TensorToWrite => {
  const count = shape.reduce((n, s) => n * s, 1);
  const values = Float64Array.from({ length: count }, (_, i) => ((i * 7) % 5) - 2);
  return { name, dtype: 'F32', shape, data: encodeBytes('f32', values) };
};

export const i64 = (name: string, shape: readonly number[], values: readonly number[]): TensorToWrite => ({
  name,
  dtype: 'I64',
  shape,
  data: encodeBytes('i64', Float64Array.from(values)),
});

export const smallWeights = (): TensorToWrite[] => [
  f32('model.embed_tokens.weight', [8, 4]),
  f32('model.norm.weight', [4]),
  f32('lm_head.weight', [8, 4]),
];

/** Bytes of a safetensors file that is well-formed. */
export function safetensors(tensors: readonly TensorToWrite[]): Uint8Array {
  const dir = mkdtempSync(join(tmpdir(), 'dsvc-st-'));
  try {
    writeSafetensors(join(dir, 'x'), tensors);
    return readFileSync(join(dir, 'x'));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** A safetensors file with any header and data, well-formed or not. `length`: what the first eight bytes claim. */
export function rawSafetensors(
  header: string,
  data: Uint8Array = new Uint8Array(0),
  length?: bigint,
): Uint8Array {
  const json = Buffer.from(header);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(json.length));
  return Buffer.concat([prefix, json, data]);
}
