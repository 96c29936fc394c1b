// Which arrays a value is made of in memory (docs/BUNDLE.md, "Buffers of a value"), by name.
import type { DType } from '../formats/index.ts';
import type { Attribute, Value } from '../module.ts';
import type { ScaleLevel, TensorType } from '../types.ts';

export const tensorOf = (v: Value): TensorType => {
  if (v.type.kind !== 'tensor') throw new Error(`%${v.name} is no tensor`);
  return v.type;
};

/** Number of a `scale…` component, −1 for `data`. */
export const levelOf = (component: string): number =>
  component.startsWith('scale') ? Number(component.slice(5)) : -1;

/** dtype of a scale level's array. */
export const scaleDType = (level: ScaleLevel): DType => (level.format === 'ue8m0' ? 'f8ue8m0' : 'f32');

/** `data`, and one `scale…` per level. */
export const componentsOf = (type: TensorType): readonly string[] => [
  'data',
  ...type.scales.map((_, level) => `scale${level}`),
];

/** Name of a state field's array: the field, and for a scaled field's scales `field.scale0` … */
export const fieldComponent = (field: string, component: string): string =>
  levelOf(component) < 0 ? field : `${field}.${component}`;

/** An attribute that is a list of numbers. */
export const numbers = (a: Attribute): readonly number[] => a as readonly number[];
