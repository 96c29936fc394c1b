// The parameter block of a launch: what a launch file says, against what the kernel declares.
import type { Place } from './json-tree.ts';
import { count } from './json-values.ts';
import type { Problems } from './launch-problem.ts';
import type { ParameterSpec } from './parameter-spec.ts';
import { checkTensorMap, encodeTensorMap, tensorMapAlignment, tensorMapBytes } from './tensor-map.ts';

/** One `.param` of a kernel. */
export interface KernelParameter {
  readonly name: string;
  /** In bytes, of the whole parameter. */
  readonly size: number;
  readonly align: number;
  /** From the start of the parameter block. */
  readonly offset: number;
}

/** Where a buffer lies on the device. */
export interface DeviceRange {
  readonly address: bigint;
  readonly bytes: number;
}

/** How many a kernel has, in words: `3 parameters (x: 8 bytes, ...)`. */
function describe(parameters: readonly KernelParameter[]): string {
  const shown = parameters.slice(0, 12).map((p) => `${p.name}: ${p.size} bytes`);
  const list = `${shown.join(', ')}${parameters.length > 12 ? ', ...' : ''}`;
  return `${parameters.length || 'no'} parameter${parameters.length === 1 ? '' : 's'}${list && ` (${list})`}`;
}

/**
 * Bytes of the parameter block. Problems: another count than the kernel's, a value of another size, fields that overlap
 * or reach beyond, tensor maps that break a rule. What fields leave out is zero.
 */
export function buildParameters(
  specs: readonly ParameterSpec[],
  kernel: { readonly name: string; readonly parameters: readonly KernelParameter[] },
  rangeOf: (buffer: string) => DeviceRange,
  place: Place,
  problems: Problems,
): Uint8Array {
  const { name, parameters } = kernel;
  const block = new Uint8Array(Math.max(0, ...parameters.map((p) => p.offset + p.size)));
  if (specs.length !== parameters.length) {
    problems.add(
      'parameter-count',
      place,
      `has ${count(specs.length)}, but ${name} has ${describe(parameters)}`,
      'give one value for each, in their order',
    );
    return block;
  }
  for (const [i, { name: parameter, size, align, offset }] of parameters.entries()) {
    // Alignment counts from the block, which itself is aligned to more than any parameter.
    const bytes = encode(specs[i], { parameter, size, align, offset }, rangeOf, problems);
    if (bytes) block.set(bytes, offset);
  }
  return block;
}

interface Slot {
  /** The kernel's name for it. */
  readonly parameter: string;
  /** Bytes to fill. */
  readonly size: number;
  readonly align: number;
  /** From the start of the parameter block. */
  readonly offset: number;
}

function encode(
  spec: ParameterSpec,
  slot: Slot,
  rangeOf: (buffer: string) => DeviceRange,
  problems: Problems,
): Uint8Array | undefined {
  const { parameter, size } = slot;
  const fits = (bytes: number, what: string): boolean => {
    if (bytes === size) return true;
    problems.add(
      'parameter-size',
      spec.place,
      `is ${what} of ${bytes} bytes, but ${parameter} has ${size}`,
      size === 4 || size === 8
        ? `give a value of ${size} bytes, such as u${size * 8}`
        : 'give "hex" or "fields" of that size',
    );
    return false;
  };
  switch (spec.kind) {
    case 'bytes':
      return fits(spec.bytes.length, spec.spelling) ? spec.bytes : undefined;
    case 'buffer': {
      if (!fits(8, 'an address')) return undefined;
      const address = addressOf(spec, rangeOf, problems);
      if (address === undefined) return undefined;
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, address, true);
      return bytes;
    }
    case 'tensorMap':
      return fits(tensorMapBytes, 'a tensor map') ? encodeMap(spec, slot, rangeOf, problems) : undefined;
    case 'fields':
      return encodeFields(spec, slot, rangeOf, problems);
  }
}

/** Address of a buffer plus an offset; one past its end is allowed, as in C. */
function addressOf(
  spec: { readonly buffer: string; readonly offset: number; readonly place: Place },
  rangeOf: (buffer: string) => DeviceRange,
  problems: Problems,
): bigint | undefined {
  const { address, bytes } = rangeOf(spec.buffer);
  if (spec.offset <= bytes) return address + BigInt(spec.offset);
  return problems.add(
    'offset',
    spec.place,
    `begins at byte ${spec.offset} of ${spec.buffer}, which has ${bytes}`,
    `give an offset up to ${bytes}`,
  );
}

function encodeMap(
  spec: ParameterSpec & { readonly kind: 'tensorMap' },
  { parameter, align, offset }: Slot,
  rangeOf: (buffer: string) => DeviceRange,
  problems: Problems,
): Uint8Array | undefined {
  if (align % tensorMapAlignment !== 0 || offset % tensorMapAlignment !== 0)
    problems.add(
      'tensor-map-alignment',
      spec.place,
      `is a tensor map, but ${parameter} is aligned to ${Math.min(align, offset & -offset || align)} bytes`,
      `declare the parameter .align ${tensorMapAlignment}, and let the map begin at a multiple of that`,
    );
  const address = addressOf(spec, rangeOf, problems);
  if (address === undefined) return undefined;
  const found = checkTensorMap(address, spec.shape);
  for (const { part, message, fix } of found) {
    if (part === 'address')
      problems.add('tensor-map', spec.places.offset ?? spec.place, `makes an address that ${message}`, fix);
    else
      problems.add(
        'tensor-map',
        spec.places[part] ?? spec.place,
        spec.places[part] ? message : `${part} ${message}`,
        fix,
      );
  }
  return found.length === 0 ? encodeTensorMap(address, spec.shape) : undefined;
}

function encodeFields(
  spec: ParameterSpec & { readonly kind: 'fields' },
  slot: Slot,
  rangeOf: (buffer: string) => DeviceRange,
  problems: Problems,
): Uint8Array | undefined {
  const { parameter, size, align, offset } = slot;
  const out = new Uint8Array(size);
  const taken: { from: number; to: number; place: Place }[] = [];
  for (const { at, value } of spec.fields) {
    const length = sizeOf(value);
    if (at + length > size) {
      problems.add(
        'field',
        value.place,
        `ends at byte ${at + length}, but ${parameter} has ${size}`,
        'check "at" and the size of the field',
      );
      continue;
    }
    const other = taken.find((t) => at < t.to && t.from < at + length);
    if (other)
      problems.add(
        'field',
        value.place,
        `takes bytes ${at} to ${at + length - 1}, which ${other.place.path} takes too`,
        'let fields lie side by side',
      );
    taken.push({ from: at, to: at + length, place: value.place });
    const bytes = encode(value, { parameter, size: length, align, offset: offset + at }, rangeOf, problems);
    if (bytes) out.set(bytes, at);
  }
  return out;
}

/** Bytes that a field takes; of nested fields, up to the end of the last. */
function sizeOf(spec: ParameterSpec): number {
  switch (spec.kind) {
    case 'buffer':
      return 8;
    case 'bytes':
      return spec.bytes.length;
    case 'tensorMap':
      return tensorMapBytes;
    case 'fields':
      return Math.max(0, ...spec.fields.map(({ at, value }) => at + sizeOf(value)));
  }
}
