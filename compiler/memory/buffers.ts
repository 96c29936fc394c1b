// Which arrays a value is made of and how many bytes they take (docs/BUNDLE.md, "Buffers of a value").
import { bytesFor, type DType } from '../../ir/formats/dtypes.ts';
import { boundOf, type Module } from '../../ir/module.ts';
import type { BufferComponent, Extent } from '../../ir/plan.ts';
import { scaleDims, type Dim, type ScaleFormat, type Type } from '../../ir/types.ts';

/** Every array starts at a multiple of this many bytes: TMA wants 128, and 256 is what allocators give. */
export const alignment = 256;

export const alignUp = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;

const extent = (d: Dim): Extent =>
  d.size === null
    ? { constant: 0, terms: [{ dim: d.name ?? '', factor: 1 }] }
    : { constant: d.size, terms: [] };

const constant = (n: number): Extent => ({ constant: n, terms: [] });

const scaleDtype = (format: ScaleFormat): DType => (format === 'ue8m0' ? 'f8ue8m0' : 'f32');

/** The arrays of a value, in the order in which they are laid out one after another. */
export function componentsOf(type: Type, module: Module): readonly BufferComponent[] {
  const of = (component: string, dtype: DType, dims: readonly Dim[]): BufferComponent => ({
    component,
    dtype,
    shape: dims.map(extent),
  });
  switch (type.kind) {
    case 'tensor':
      return [
        of('data', type.dtype, type.dims),
        ...type.scales.map((level, i) => of(`scale${i}`, scaleDtype(level.format), scaleDims(type, level))),
      ];
    case 'positions':
      return [
        of('position', 'i32', [type.tokens]),
        of('sequence', 'i32', [type.tokens]),
        of('first', 'i32', [type.tokens]),
        of('outputs', 'i32', [type.outputs]),
        {
          component: 'pages',
          dtype: 'i32',
          shape: [extent(type.sequences), { constant: 0, terms: [{ dim: 'pages', factor: 1 }] }],
        },
      ];
    case 'routing': {
      const align = module.dims.find((d) => d.name === type.slots.name)?.ragged?.align ?? 1;
      const blocks = Math.ceil(boundOf(module, type.slots) / align);
      return [
        of('indices', 'i32', [type.tokens, type.top]),
        of('weights', 'f32', [type.tokens, type.top]),
        { component: 'offsets', dtype: 'i32', shape: [constant((type.experts.size ?? 0) + 1)] },
        of('tokenOf', 'i32', [type.slots]),
        of('choiceOf', 'i32', [type.slots]),
        of('slotOf', 'i32', [type.tokens, type.top]),
        { component: 'expertOfBlock', dtype: 'i32', shape: [constant(blocks)] },
      ];
    }
    case 'state': {
      const declared = module.states.find((s) => s.name === type.state);
      if (!declared) throw new Error(`componentsOf: state ${type.state} is not declared`);
      const front = type.count === null ? [] : [constant(type.count)];
      const inFront = (c: BufferComponent): BufferComponent => ({ ...c, shape: [...front, ...c.shape] });
      return declared.fields.flatMap(({ name, type: t }) => [
        inFront(of(name, t.dtype, t.dims)),
        ...t.scales.map((level, i) =>
          inFront(of(`${name}.scale${i}`, scaleDtype(level.format), scaleDims(t, level))),
        ),
      ]);
    }
  }
}

/** Largest value of an extent: every dim at its declared bound. `pages` is not a dim of the module: one page a token at least. */
export function boundOfExtent(e: Extent, module: Module): number {
  return e.terms.reduce((n, t) => {
    const declared = module.dims.find((d) => d.name === t.dim);
    const bound = declared?.bound ?? boundOf(module, { name: 'cached', size: null });
    return n + t.factor * bound;
  }, e.constant);
}

export const componentBytes = (c: BufferComponent, module: Module): number =>
  bytesFor(
    c.dtype,
    c.shape.reduce((n, e) => n * boundOfExtent(e, module), 1),
  );

/** Bytes of a whole value at the module's bounds, each array aligned. */
export const valueBytes = (type: Type, module: Module): number =>
  componentsOf(type, module).reduce((n, c) => n + alignUp(componentBytes(c, module)), 0);
