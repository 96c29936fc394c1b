// The scalar types of PTX and the register classes that may stand where one is asked for. Data only: the builder's
// TypeScript types, the run-time checks and any parser of PTX read the same records.

/** Classes that a `.reg` declaration can have here. 16-bit floats live in `b16`, packed pairs in `b32`. */
// prettier-ignore
export const registerClasses = [
  'pred', 'b16', 'u16', 's16', 'b32', 'u32', 's32', 'f32', 'b64', 'u64', 's64', 'f64',
] as const;
export type RegClass = (typeof registerClasses)[number];

/** Register classes that an operand of a type accepts (PTX ISA, "Operand type checking": bit classes match any kind). */
export const acceptedClasses = {
  pred: ['pred'],
  b8: [],
  u8: [],
  s8: [],
  e4m3: [],
  e5m2: [],
  u16: ['u16', 's16', 'b16'],
  s16: ['u16', 's16', 'b16'],
  b16: ['u16', 's16', 'b16'],
  f16: ['b16'],
  bf16: ['b16'],
  e4m3x2: ['b16'],
  e5m2x2: ['b16'],
  u32: ['u32', 's32', 'b32'],
  s32: ['u32', 's32', 'b32'],
  b32: ['u32', 's32', 'b32', 'f32'],
  f32: ['f32', 'b32'],
  tf32: ['b32', 'f32'],
  f16x2: ['b32'],
  bf16x2: ['b32'],
  u64: ['u64', 's64', 'b64'],
  s64: ['u64', 's64', 'b64'],
  b64: ['u64', 's64', 'b64', 'f64'],
  f64: ['f64', 'b64'],
} as const satisfies Record<string, readonly RegClass[]>;
export type ScalarType = keyof typeof acceptedClasses;

/** Bits of a type. */
export const bitsOf: Record<ScalarType, number> = {
  pred: 1,
  b8: 8,
  u8: 8,
  s8: 8,
  e4m3: 8,
  e5m2: 8,
  u16: 16,
  s16: 16,
  b16: 16,
  f16: 16,
  bf16: 16,
  e4m3x2: 16,
  e5m2x2: 16,
  u32: 32,
  s32: 32,
  b32: 32,
  f32: 32,
  tf32: 32,
  f16x2: 32,
  bf16x2: 32,
  u64: 64,
  s64: 64,
  b64: 64,
  f64: 64,
};

/**
 * Classes that ld, st and cvt accept for a type: the register may be wider than the value (PTX ISA, "Operand size
 * exceeding instruction-type size"); float types stay strict.
 */
export const looseClasses = {
  b8: ['u16', 's16', 'b16', 'u32', 's32', 'b32', 'u64', 's64', 'b64'],
  u8: ['u16', 's16', 'b16', 'u32', 's32', 'b32', 'u64', 's64', 'b64'],
  s8: ['u16', 's16', 'b16', 'u32', 's32', 'b32', 'u64', 's64', 'b64'],
  u16: ['u16', 's16', 'b16', 'u32', 's32', 'b32', 'u64', 's64', 'b64'],
  s16: ['u16', 's16', 'b16', 'u32', 's32', 'b32', 'u64', 's64', 'b64'],
  b16: ['u16', 's16', 'b16', 'u32', 's32', 'b32', 'u64', 's64', 'b64'],
  u32: ['u32', 's32', 'b32', 'u64', 's64', 'b64'],
  s32: ['u32', 's32', 'b32', 'u64', 's64', 'b64'],
  b32: ['u32', 's32', 'b32', 'f32', 'u64', 's64', 'b64'],
  f32: ['f32', 'b32'],
  u64: ['u64', 's64', 'b64'],
  s64: ['u64', 's64', 'b64'],
  b64: ['u64', 's64', 'b64', 'f64'],
  f64: ['f64', 'b64'],
} as const satisfies Partial<Record<ScalarType, readonly RegClass[]>>;
export type LooseType = keyof typeof looseClasses;

/** The type of a `mul.wide` or `mad.wide` result. */
export const wideTypes = { u16: 'u32', s16: 's32', u32: 'u64', s32: 's64' } as const;
export type WidenableType = keyof typeof wideTypes;

/** Class, name prefix: how automatic register names look in the text, `%f12` is an f32. */
export const registerPrefixes: Record<RegClass, string> = {
  pred: 'p',
  b16: 'h',
  u16: 'hu',
  s16: 'hs',
  b32: 'b',
  u32: 'r',
  s32: 's',
  f32: 'f',
  b64: 'bd',
  u64: 'rd',
  s64: 'sd',
  f64: 'fd',
};

/** Instruction sets that ptxas can be asked for; the `a` ones hold what only that chip has. */
export type Target = 'sm_50' | 'sm_70' | 'sm_80' | 'sm_89' | 'sm_90' | 'sm_90a';
