// Typed values out of a JSON tree. Each function reports what is wrong and returns undefined then.
import { showNode, type JsonNode } from './json-tree.ts';
import type { Problems } from './launch-problem.ts';

export type Entries = ReadonlyMap<string, JsonNode>;

/** An object whose keys are all known. `what` names it in messages: "a buffer". */
export function readObject(
  node: JsonNode,
  what: string,
  known: readonly string[],
  problems: Problems,
): Entries | undefined {
  if (node.kind !== 'object')
    return problems.add('type', node, `is ${showNode(node)}, not ${what}`, `write {"${known[0]}": ...}`);
  for (const [key, value] of node.entries)
    if (!known.includes(key))
      problems.add('unknown-key', value, `is not a key of ${what}`, `known are: ${known.join(', ')}`);
  return node.entries;
}

/** The value of a key that must be there. */
export function required(
  object: JsonNode,
  entries: Entries,
  key: string,
  example: string,
  problems: Problems,
): JsonNode | undefined {
  const found = entries.get(key);
  if (found !== undefined) return found;
  return problems.add('missing-key', object, `has no ${key}`, `add "${key}": ${example}`);
}

export function readText(node: JsonNode, what: string, problems: Problems): string | undefined {
  if (node.kind === 'text' && node.value !== '') return node.value;
  return problems.add('type', node, `is ${showNode(node)}, not ${what}`, 'write a text in quotes');
}

/** One of a few words. */
export function readWord<T extends string>(
  node: JsonNode,
  known: readonly T[],
  problems: Problems,
): T | undefined {
  const found = node.kind === 'text' ? known.find((k) => k === node.value) : undefined;
  if (found !== undefined) return found;
  return problems.add(
    'value',
    node,
    `is ${showNode(node)}`,
    `write one of ${known.map((k) => `"${k}"`).join(', ')}`,
  );
}

export function readList(
  node: JsonNode,
  example: string,
  problems: Problems,
): readonly JsonNode[] | undefined {
  if (node.kind === 'list') return node.items;
  return problems.add('type', node, `is ${showNode(node)}, not a list`, `write [${example}]`);
}

/** The whole number that a number or a text like "0xff" spells, exactly; undefined when it spells none. */
export function wholeNumberOf(node: JsonNode): bigint | undefined {
  if (node.kind === 'text')
    return /^(-?\d{1,20}|0x[0-9a-fA-F]{1,16})$/.test(node.value) ? BigInt(node.value) : undefined;
  if (node.kind !== 'number') return undefined;
  if (/^-?\d{1,20}$/.test(node.spelling)) return BigInt(node.spelling);
  // 1e3 and 2.0 are whole numbers as well; beyond 2^53 only plain digits are exact.
  const value = Number(node.spelling);
  return Number.isSafeInteger(value) ? BigInt(value) : undefined;
}

/** A whole number in a range that fits a JavaScript number. */
export function readWhole(
  node: JsonNode,
  least: number,
  most: number,
  problems: Problems,
): number | undefined {
  const value = wholeNumberOf(node);
  if (node.kind === 'number' && value !== undefined && value >= least && value <= most) return Number(value);
  return problems.add(
    node.kind === 'number' ? 'range' : 'type',
    node,
    `is ${showNode(node)}`,
    `write a whole number from ${least} to ${most}`,
  );
}

/** A list of whole numbers; `length` bounds how many. */
export function readWholes(
  node: JsonNode,
  range: { readonly least: number; readonly most: number },
  length: { readonly least: number; readonly most: number },
  problems: Problems,
): readonly number[] | undefined {
  const items = readList(node, Array(Math.max(1, length.least)).fill('1').join(', '), problems);
  if (!items) return undefined;
  if (items.length < length.least || items.length > length.most) {
    const wanted = length.least === length.most ? `${length.least}` : `${length.least} to ${length.most}`;
    return problems.add('length', node, `has ${count(items.length)}`, `give ${wanted}`);
  }
  const values = items.map((item) => readWhole(item, range.least, range.most, problems));
  return values.every((v) => v !== undefined) ? values : undefined;
}

/** `1 entry`, `3 entries`. */
export const count = (n: number): string => `${n} ${n === 1 ? 'entry' : 'entries'}`;

/** A number; also the texts "nan", "inf" and "-inf", which JSON has no numbers for. */
export function floatOf(node: JsonNode): number | undefined {
  if (node.kind === 'number') {
    const value = Number(node.spelling);
    return Number.isFinite(value) ? value : undefined;
  }
  if (node.kind !== 'text') return undefined;
  return { nan: NaN, inf: Infinity, '-inf': -Infinity }[node.value.toLowerCase()];
}

/** Bytes from pairs of hex digits; blanks between them are skipped. */
export function readHex(node: JsonNode, problems: Problems): Uint8Array | undefined {
  if (node.kind !== 'text')
    return problems.add('type', node, `is ${showNode(node)}, not hex digits`, 'write "00ff..."');
  const digits = node.value.replace(/\s+/g, '');
  const wrong = /[^0-9a-fA-F]/.exec(digits);
  if (wrong)
    return problems.add(
      'hex',
      node,
      `holds ${JSON.stringify(wrong[0])}, which is no hex digit`,
      'write two digits a byte, lowest address first, without 0x',
    );
  if (digits.length % 2 !== 0)
    return problems.add(
      'hex',
      node,
      `has ${digits.length} hex digits, an odd number`,
      'write two digits a byte',
    );
  return new Uint8Array(Buffer.from(digits, 'hex'));
}
