// Asks the target how each kernel function will be emitted and writes the answer into its attributes, where people
// and the emitter read it.
import type { Attribute, Function } from '../../ir/module.ts';
import type { Pass } from '../pass.ts';

export const selectKernels: Pass = {
  name: 'select-kernels',
  doc: 'chooses family and tile shape of every kernel for the target',
  run: (module, { target }) => {
    if (!target) return module;
    const functions = module.functions.map((f): Function => {
      if (f.kind !== 'kernel') return f;
      const choice = target.choose(f, module);
      const settings = Object.fromEntries(
        Object.entries(choice.settings).map(([k, v]): [string, Attribute] => [k, v]),
      );
      return { ...f, attributes: { ...f.attributes, family: choice.family, ...settings, why: choice.why } };
    });
    return { ...module, functions };
  },
};
