// Which weights an entry needs, by template: a block's weights stand once with the range of layers that they exist
// for. Everything here is O(unique blocks).
import { functionNamed, type Declaration, type Function, type Module } from '../ir/module.ts';

/** A declaration as seen from the host: full name with `{i}` for the layer, and the layers that have it. */
export interface WeightUse {
  /** Full checkpoint name; `{i}` is the layer, `{experts}` the stacked axis. */
  readonly name: string;
  readonly prefix: string;
  /** [start, stop), or null outside of repeats. */
  readonly layers: readonly [number, number] | null;
  readonly declaration: Declaration;
  readonly function: Function;
}

/** Weights of the given entries, each once, in order of first use. Nested repeats are not supported by plans. */
export function weightUses(module: Module, entries: readonly Function[]): readonly WeightUse[] {
  const out = new Map<string, WeightUse>();
  const visit = (f: Function, prefix: string, layers: readonly [number, number] | null): void => {
    for (const declaration of f.declarations) {
      const name = prefix + declaration.value.name;
      const key = `${name}|${layers?.join() ?? ''}`;
      if (!out.has(key)) out.set(key, { name, prefix, layers, declaration, function: f });
    }
    for (const op of f.body) {
      if (op.op === 'call')
        visit(
          functionNamed(module, String(op.attributes.callee)),
          prefix + String(op.attributes.prefix),
          layers,
        );
      if (op.op === 'repeat')
        visit(functionNamed(module, String(op.attributes.callee)), prefix + String(op.attributes.prefix), [
          Number(op.attributes.start),
          Number(op.attributes.stop),
        ]);
    }
  };
  for (const f of entries) visit(f, '', null);
  return [...out.values()];
}

export const layerCount = (use: WeightUse): number => (use.layers ? use.layers[1] - use.layers[0] : 1);

export const entriesOf = (module: Module): readonly Function[] =>
  module.functions.filter((f) => f.kind === 'entry');
