// Kernel arguments as a launch file spells them. What they mean for a kernel: parameters.ts.
import type { JsonNode, Place } from './json-tree.ts';
import { showNode } from './json-tree.ts';
import {
  floatOf,
  readHex,
  readList,
  readObject,
  readText,
  readWhole,
  required,
  wholeNumberOf,
  type Entries,
} from './json-values.ts';
import type { Problems } from './launch-problem.ts';
import { readTensorMap, tensorMapKeys, type TensorMapSpec } from './tensor-map-spec.ts';

export type ParameterSpec =
  | {
      readonly kind: 'buffer';
      readonly place: Place;
      readonly buffer: string;
      readonly bufferPlace: Place;
      readonly offset: number;
    }
  | {
      readonly kind: 'bytes';
      readonly place: Place;
      /** "u32", "hex": what the bytes were written as. */
      readonly spelling: string;
      readonly bytes: Uint8Array;
    }
  | ({ readonly kind: 'tensorMap'; readonly place: Place } & TensorMapSpec)
  | {
      readonly kind: 'fields';
      readonly place: Place;
      readonly fields: readonly { readonly at: number; readonly value: ParameterSpec }[];
    };

const scalars = ['u32', 's32', 'u64', 's64', 'f32', 'f64'] as const;
type Scalar = (typeof scalars)[number];

const kinds = ['buffer', ...scalars, 'hex', 'tensorMap', 'fields'] as const;

/** The largest parameter block of sm_90 since CUDA 12.1. */
const maxParameterBytes = 32764;

/** Reads `{"buffer": …}`, `{"u32": …}`, … `inField`: the object also has a key `at`. */
export function readParameter(
  node: JsonNode,
  problems: Problems,
  inField = false,
): ParameterSpec | undefined {
  const known = [...kinds, 'offset', ...(inField ? ['at'] : [])];
  const entries = readObject(node, inField ? 'a field' : 'a parameter', known, problems);
  if (!entries) return undefined;
  const given = kinds.filter((kind) => entries.has(kind));
  if (given.length !== 1)
    return problems.add(
      'parameter-kind',
      node,
      given.length === 0 ? 'says no value' : `says ${given.join(' and ')}`,
      `write exactly one of ${kinds.join(', ')}`,
    );
  const [kind] = given;
  const value = entries.get(kind)!;
  const offset = entries.get('offset');
  if (offset && kind !== 'buffer')
    return problems.add('conflict', offset, `does not go together with ${kind}`, 'offsets belong to buffers');
  switch (kind) {
    case 'buffer':
      return readPointer(node, entries, problems);
    case 'hex': {
      const bytes = readHex(value, problems);
      return bytes && { kind: 'bytes', place: node, spelling: 'hex', bytes };
    }
    case 'tensorMap': {
      const inner = readObject(value, 'a tensor map', tensorMapKeys, problems);
      const map = inner && readTensorMap(value, inner, problems);
      return map && { kind: 'tensorMap', place: value, ...map };
    }
    case 'fields':
      return readFields(value, problems);
    default: {
      const bytes = readScalar(value, kind, problems);
      return bytes && { kind: 'bytes', place: value, spelling: kind, bytes };
    }
  }
}

function readPointer(node: JsonNode, entries: Entries, problems: Problems): ParameterSpec | undefined {
  const bufferPlace = entries.get('buffer')!;
  const buffer = readText(bufferPlace, 'the name of a buffer', problems);
  const offsetNode = entries.get('offset');
  const offset = offsetNode ? readWhole(offsetNode, 0, Number.MAX_SAFE_INTEGER, problems) : 0;
  if (buffer === undefined || offset === undefined) return undefined;
  return { kind: 'buffer', place: node, buffer, bufferPlace, offset };
}

function readFields(node: JsonNode, problems: Problems): ParameterSpec | undefined {
  const items = readList(node, '{"at": 0, "u32": 1}', problems);
  if (!items) return undefined;
  const fields: { at: number; value: ParameterSpec }[] = [];
  let complete = true;
  for (const item of items) {
    const value = readParameter(item, problems, true);
    const atNode = item.kind === 'object' ? required(item, item.entries, 'at', '0', problems) : undefined;
    const at = atNode && readWhole(atNode, 0, maxParameterBytes, problems);
    if (value === undefined || at === undefined) complete = false;
    else fields.push({ at, value });
  }
  return complete ? { kind: 'fields', place: node, fields } : undefined;
}

function readScalar(node: JsonNode, kind: Scalar, problems: Problems): Uint8Array | undefined {
  const wide = kind.endsWith('64');
  const bytes = new Uint8Array(wide ? 8 : 4);
  const view = new DataView(bytes.buffer);
  if (kind === 'f32' || kind === 'f64') {
    const value = floatOf(node);
    if (value === undefined || (Number.isFinite(value) && !wide && !Number.isFinite(Math.fround(value))))
      return problems.add(
        'value',
        node,
        `is ${showNode(node)}, which is no ${kind}`,
        'write a number, "nan", "inf" or "-inf"; bits go into {"hex"}',
      );
    if (wide) view.setFloat64(0, value, true);
    else view.setFloat32(0, value, true);
    return bytes;
  }
  const bits = wide ? 64n : 32n;
  const least = kind.startsWith('s') ? -(1n << (bits - 1n)) : 0n;
  const most = least + (1n << bits) - 1n;
  const value = wholeNumberOf(node);
  if (value === undefined || value < least || value > most)
    return problems.add(
      'value',
      node,
      `is ${showNode(node)}, which is no ${kind}`,
      `write a whole number from ${least} to ${most}`,
    );
  if (wide) view.setBigUint64(0, BigInt.asUintN(64, value), true);
  else view.setUint32(0, Number(BigInt.asUintN(32, value)), true);
  return bytes;
}
