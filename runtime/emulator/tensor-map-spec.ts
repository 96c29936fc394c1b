// A tensor map as a launch file spells it: names instead of the driver's numbers. Its rules stand in tensor-map.ts.
import { showNode, type JsonNode, type Place } from './json-tree.ts';
import { readText, readWhole, readWholes, readWord, required, type Entries } from './json-values.ts';
import type { Problems } from './launch-problem.ts';
import {
  fillModes,
  interleaves,
  swizzles,
  tensorMapDTypes,
  type TensorMapDType,
  type TensorMapShape,
} from './tensor-map.ts';

export interface TensorMapSpec {
  readonly buffer: string;
  readonly bufferPlace: Place;
  /** In bytes, of the first element. */
  readonly offset: number;
  readonly shape: TensorMapShape;
  /** Where each part of the shape stands. */
  readonly places: Readonly<Partial<Record<keyof TensorMapShape | 'offset', Place>>>;
}

export const tensorMapKeys = [
  'buffer',
  'offset',
  'dtype',
  'dims',
  'strides',
  'box',
  'elementStrides',
  'swizzle',
  'interleave',
  'fill',
] as const;

const dtypes = Object.keys(tensorMapDTypes) as readonly TensorMapDType[];

/** Types that safetensors has and a tensor map moves as others of their size. */
const moveAs: Readonly<Record<string, TensorMapDType>> = {
  F8_E4M3: 'U8',
  F8_E5M2: 'U8',
  I8: 'U8',
  BOOL: 'U8',
  I16: 'U16',
};

export function readTensorMap(
  node: JsonNode,
  entries: Entries,
  problems: Problems,
): TensorMapSpec | undefined {
  const need = (key: string, example: string): JsonNode | undefined =>
    required(node, entries, key, example, problems);
  const bufferNode = need('buffer', '"x"');
  const buffer = bufferNode && readText(bufferNode, 'the name of a buffer', problems);
  const offsetNode = entries.get('offset');
  const offset = offsetNode ? readWhole(offsetNode, 0, Number.MAX_SAFE_INTEGER, problems) : 0;
  const dtypeNode = need('dtype', '"BF16"');
  const dtype = dtypeNode && readDType(dtypeNode, problems);
  // Ranges and lengths are the rules of tensor-map.ts: here only numbers are asked for.
  const list = (value: JsonNode | undefined): readonly number[] | undefined =>
    value && readWholes(value, { least: 0, most: Number.MAX_SAFE_INTEGER }, { least: 0, most: 64 }, problems);
  const dims = list(need('dims', '[64, 64]'));
  const strides = dims?.length === 1 && !entries.has('strides') ? [] : list(need('strides', '[128]'));
  const box = list(need('box', '[64, 64]'));
  const elementStrides = entries.has('elementStrides')
    ? list(entries.get('elementStrides'))
    : dims?.map(() => 1);
  const word = <T extends string>(key: string, known: readonly T[], otherwise: T): T | undefined => {
    const value = entries.get(key);
    return value ? readWord(value, known, problems) : otherwise;
  };
  const swizzle = word('swizzle', swizzles, 'none');
  const interleave = word('interleave', interleaves, 'none');
  const fill = word('fill', fillModes, 'zero');
  if (
    buffer === undefined ||
    offset === undefined ||
    dtype === undefined ||
    dims === undefined ||
    strides === undefined ||
    box === undefined ||
    elementStrides === undefined ||
    swizzle === undefined ||
    interleave === undefined ||
    fill === undefined
  )
    return undefined;
  const places: Record<string, Place> = {};
  for (const [key, value] of entries) places[key] = value;
  return {
    buffer,
    bufferPlace: bufferNode!,
    offset,
    shape: { dtype, dims, strides, box, elementStrides, swizzle, interleave, fill },
    places,
  };
}

function readDType(node: JsonNode, problems: Problems): TensorMapDType | undefined {
  const value = node.kind === 'text' ? node.value : '';
  const found = dtypes.find((d) => d === value);
  if (found !== undefined) return found;
  const other = Object.hasOwn(moveAs, value) ? moveAs[value] : undefined;
  return problems.add(
    'dtype',
    node,
    `is ${showNode(node)}, which tensor maps do not know`,
    other === undefined
      ? `write one of ${dtypes.map((d) => `"${d}"`).join(', ')}`
      : `write "${other}": a tensor map moves ${value} as ${other}`,
  );
}
