// Buffers as a launch file spells them. Where their bytes come from: buffers.ts.
import { isSafetensorsDType, tensorBytes } from '../safetensors-header.ts';
import { elementBytes, type SafetensorsDType } from '../safetensors.ts';
import { showNode, type JsonNode } from './json-tree.ts';
import {
  floatOf,
  readHex,
  readObject,
  readText,
  readWhole,
  readWholes,
  required,
  wholeNumberOf,
} from './json-values.ts';
import type { Problems } from './launch-problem.ts';
import { integerRange, isFloatDType, overflows, type IntegerDType } from './number-formats.ts';

export type BufferContent =
  | { readonly kind: 'file'; readonly file: string; readonly tensor: string }
  | {
      readonly kind: 'fill';
      readonly dtype: SafetensorsDType;
      readonly shape: readonly number[];
      readonly value: number | bigint;
    }
  | {
      readonly kind: 'random';
      readonly dtype: SafetensorsDType;
      readonly shape: readonly number[];
      readonly seed: number;
    }
  | {
      readonly kind: 'hex';
      readonly dtype: SafetensorsDType;
      readonly shape: readonly number[];
      readonly bytes: Uint8Array;
    }
  | { readonly kind: 'uninitialised'; readonly dtype: SafetensorsDType; readonly shape: readonly number[] };

/** More than the card of the target holds. */
export const maxBufferBytes = 80 * 2 ** 30;

const bufferKeys = ['safetensors', 'tensor', 'dtype', 'shape', 'fill', 'hex'] as const;

/** Reads one buffer of `buffers`. */
export function readBuffer(node: JsonNode, problems: Problems): BufferContent | undefined {
  const entries = readObject(node, 'a buffer', bufferKeys, problems);
  if (!entries) return undefined;
  const conflict = (a: string, b: readonly string[]): boolean => {
    const both = entries.has(a) ? b.filter((key) => entries.has(key)) : [];
    for (const key of both)
      problems.add('conflict', entries.get(key)!, `does not go together with ${a}`, `give ${a} or ${key}`);
    return both.length > 0;
  };
  if (entries.has('safetensors') || entries.has('tensor')) {
    if (conflict('safetensors', ['dtype', 'shape', 'fill', 'hex'])) return undefined;
    const fileNode = required(node, entries, 'safetensors', '"inputs.safetensors"', problems);
    const tensorNode = required(node, entries, 'tensor', '"x"', problems);
    const file = fileNode && readText(fileNode, 'the path of a safetensors file', problems);
    const tensor = tensorNode && readText(tensorNode, 'the name of a tensor', problems);
    return file !== undefined && tensor !== undefined ? { kind: 'file', file, tensor } : undefined;
  }
  if (conflict('hex', ['fill'])) return undefined;
  const dtypeNode = required(node, entries, 'dtype', '"F32"', problems);
  const shapeNode = required(node, entries, 'shape', '[1024]', problems);
  const dtype = dtypeNode && readDType(dtypeNode, problems);
  const shape =
    shapeNode &&
    readWholes(shapeNode, { least: 0, most: Number.MAX_SAFE_INTEGER }, { least: 0, most: 64 }, problems);
  if (dtype === undefined || shape === undefined) return undefined;
  const bytes = tensorBytes(dtype, shape);
  if (bytes === undefined || bytes > maxBufferBytes)
    return problems.add(
      'buffer-size',
      shapeNode!,
      `asks for ${bytes ?? 'too many'} bytes`,
      `at most ${maxBufferBytes} bytes (80 GiB), what the card has`,
    );
  const hex = entries.get('hex');
  if (hex) {
    const data = readHex(hex, problems);
    if (data && data.length !== bytes)
      return problems.add(
        'hex',
        hex,
        `holds ${data.length} bytes, but ${dtype} [${shape.join(', ')}] has ${bytes}`,
        'give two hex digits for each byte',
      );
    return data && { kind: 'hex', dtype, shape, bytes: data };
  }
  const fill = entries.get('fill');
  if (fill === undefined) return { kind: 'uninitialised', dtype, shape };
  return readFill(fill, dtype, shape, problems);
}

function readDType(node: JsonNode, problems: Problems): SafetensorsDType | undefined {
  if (node.kind === 'text' && isSafetensorsDType(node.value)) return node.value;
  return problems.add(
    'dtype',
    node,
    `is ${showNode(node)}`,
    `write one of ${Object.keys(elementBytes)
      .map((d) => `"${d}"`)
      .join(', ')}`,
  );
}

function readFill(
  node: JsonNode,
  dtype: SafetensorsDType,
  shape: readonly number[],
  problems: Problems,
): BufferContent | undefined {
  if (node.kind === 'object') {
    const entries = readObject(node, 'a fill', ['random'], problems);
    const seedNode = entries && required(node, entries, 'random', '1', problems);
    const seed = seedNode && readWhole(seedNode, 0, Number.MAX_SAFE_INTEGER, problems);
    return seed === undefined ? undefined : { kind: 'random', dtype, shape, seed };
  }
  if (isFloatDType(dtype)) {
    const value = floatOf(node);
    if (value === undefined)
      return problems.add(
        'fill',
        node,
        `is ${showNode(node)}`,
        'write a number, "nan", "inf", "-inf" or {"random": seed}',
      );
    if (overflows(dtype, value))
      return problems.add(
        'fill',
        node,
        `is ${value}, which overflows ${dtype}`,
        'write a smaller number, or "inf"',
      );
    return { kind: 'fill', dtype, shape, value };
  }
  const value = wholeNumberOf(node);
  const [least, most] = integerRange(dtype as IntegerDType);
  if (value === undefined || value < least || value > most)
    return problems.add(
      'fill',
      node,
      `is ${showNode(node)}, but the buffer is ${dtype}`,
      `write a whole number from ${least} to ${most}, or {"random": seed}`,
    );
  return { kind: 'fill', dtype, shape, value };
}
