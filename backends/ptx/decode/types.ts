// Sizes of PTX's types in memory, and the classes of registers that hold them.

/** Bytes of a value in memory. Types that no variable can have are absent. */
const sizes: Readonly<Record<string, number>> = {
  ...{ b8: 1, u8: 1, s8: 1, b16: 2, u16: 2, s16: 2, f16: 2, bf16: 2, b32: 4, u32: 4, s32: 4, f32: 4 },
  ...{ f16x2: 4, bf16x2: 4, tf32: 4, b64: 8, u64: 8, s64: 8, f64: 8, b128: 16 },
  // Handles.
  ...{ texref: 8, samplerref: 8, surfref: 8 },
};

/** Undefined when no variable can have the type. */
export const sizeOf = (type: string): number | undefined =>
  Object.hasOwn(sizes, type) ? sizes[type] : undefined;

export const isFloatType = (type: string): boolean => type === 'f32' || type === 'f64';

/** 0 predicates, 1 up to 32 bits, 2 64 bits, 3 128 bits; undefined when no register can have the type. */
export function registerClassOf(type: string): number | undefined {
  if (type === 'pred') return 0;
  const size = sizeOf(type);
  if (size === undefined || type.endsWith('ref')) return undefined;
  return size <= 4 ? 1 : size === 8 ? 2 : 3;
}

/** How the instruction table calls a register of a type: 16-bit floats are `b16` there, packed pairs `b32`. */
export function tableClassOf(type: string): string {
  switch (type) {
    case 'f16':
    case 'bf16':
      return 'b16';
    case 'f16x2':
    case 'bf16x2':
    case 'tf32':
      return 'b32';
    default:
      return type;
  }
}
