// Turns entries that call polymorphic blocks into entries whose run-time dims are known: calls are inlined, a repeat's
// block is copied once per binding of its dims, `remember` becomes what it means there. After it every function
// belongs to one entry, and fusions see across the author's block boundaries.
import { FunctionBuilder } from '../../ir/builder.ts';
import { fail } from '../../ir/diagnostics.ts';
import {
  functionNamed,
  raggedBound,
  type DimDeclaration,
  type Function,
  type Module,
  type Op,
  type Value,
} from '../../ir/module.ts';
import { dim, dimsOf, mapDims, sameDim, type Dim, type PositionsType } from '../../ir/types.ts';
import type { Pass } from '../pass.ts';
import { dropDead, inline } from '../rewrite.ts';

export const specialize: Pass = {
  name: 'specialize',
  doc: 'one copy of each block per entry: inlines calls, binds run-time dims, resolves remember',
  required: true,
  run: (module) => (module.functions.some(needsWork) ? new Specializer(module).run() : module),
};

const needsWork = (f: Function): boolean =>
  f.kind !== 'kernel' && f.body.some((op) => op.op === 'call' || op.op === 'remember');

type Binding = ReadonlyMap<string, Dim>;

class Specializer {
  private readonly module: Module;
  private readonly dims: DimDeclaration[];
  private readonly functions: Function[] = [];
  private readonly copies = new Map<string, string>();

  constructor(module: Module) {
    this.module = module;
    this.dims = [...module.dims];
  }

  run(): Module {
    for (const f of this.module.functions) {
      if (f.kind === 'kernel') this.functions.push(f);
      else if (f.kind === 'entry') this.functions.push(this.copy(f, f.name, f.name, new Map()));
    }
    return { ...this.module, dims: this.dims, functions: this.functions };
  }

  /** A copy of `f` under a new name with its dims bound, everything it calls inlined. */
  private copy(f: Function, name: string, entry: string, binding: Binding): Function {
    const b = new FunctionBuilder({
      // The very list that grows: ragged dims made on the way count as declared.
      module: { ...this.module, dims: this.dims },
      callee: (n) => this.functions.find((x) => x.name === n) ?? functionNamed(this.module, n),
    });
    const onDim = this.dimMap(binding);
    const operands = f.arguments.map((a) => b.argument(a.value.name, mapDims(a.value.type, onDim), a.inout));
    const { results, finals } = this.inlineInto(b, f, operands, '', entry, binding);
    return dropDead(
      b.finish({ kind: f.kind, name, results, finals, attributes: f.attributes, span: f.span }),
    );
  }

  private inlineInto(
    b: FunctionBuilder,
    f: Function,
    operands: readonly Value[],
    prefix: string,
    entry: string,
    binding: Binding,
  ) {
    return inline(b, f, operands, prefix, this.dimMap(binding), (op, mapped, at) =>
      this.expand(b, op, mapped, at, entry),
    );
  }

  private expand(
    b: FunctionBuilder,
    op: Op,
    operands: readonly Value[],
    prefix: string,
    entry: string,
  ): readonly Value[] | null {
    switch (op.op) {
      case 'call': {
        const callee = functionNamed(this.module, String(op.attributes.callee));
        const { results, finals } = this.inlineInto(
          b,
          callee,
          operands,
          prefix + String(op.attributes.prefix),
          entry,
          bindDims(callee, operands),
        );
        return [...results, ...finals];
      }
      case 'repeat': {
        const callee = functionNamed(this.module, String(op.attributes.callee));
        const name = this.copyFor(callee, operands, entry, op.attributes.modes as readonly unknown[]);
        const attributes = { ...op.attributes, callee: name, prefix: prefix + String(op.attributes.prefix) };
        return b.op(
          'repeat',
          operands,
          attributes,
          null,
          op.results.map((r) => r.name),
        );
      }
      case 'remember': {
        const [state, at, ...values] = operands;
        const grown = b.one('cache_append', [state, at, ...values], {}, undefined, op.results[0].name);
        const positions = at.type as PositionsType;
        if (sameDim(positions.keys, positions.tokens)) return [grown, ...values];
        const type = state.type;
        const declared =
          type.kind === 'state' ? this.module.states.find((s) => s.name === type.state) : undefined;
        if (!declared) throw new Error('specialize: remember of something that is no state');
        return [
          grown,
          ...declared.fields.map((field, i) =>
            b.one(
              'cache_read',
              [grown],
              { field: field.name },
              undefined,
              op.results[i + 1]?.name ?? field.name,
            ),
          ),
        ];
      }
      default:
        return null;
    }
  }

  /** The name of the callee's copy for these operands' dims, made on first use. */
  private copyFor(
    callee: Function,
    operands: readonly Value[],
    entry: string,
    modes: readonly unknown[],
  ): string {
    const binding = bindDims(callee, operands, modes);
    const key = `${callee.name}|${entry}|${[...binding].map(([k, v]) => `${k}=${v.name ?? v.size}`).join()}`;
    const known = this.copies.get(key);
    if (known) return known;
    const base = `${callee.name}.${entry}`;
    const taken = new Set(this.copies.values());
    let name = base;
    for (let n = 2; taken.has(name); n++) name = `${base}.${n}`;
    this.copies.set(key, name);
    this.functions.push(this.copy(callee, name, entry, binding));
    return name;
  }

  /** Bound dims, and ragged dims over a bound dim under a name of their own. */
  private dimMap(binding: Binding): (d: Dim) => Dim {
    return (d) => {
      if (d.size !== null || d.name === null) return d;
      const bound = binding.get(d.name);
      if (bound) return bound;
      const ragged = this.dims.find((x) => x.name === d.name)?.ragged;
      const parent = ragged && binding.get(ragged.of);
      if (!ragged || !parent || parent.name === ragged.of) return d;
      const name = `${d.name}.${parent.name ?? parent.size}`;
      if (!this.dims.some((x) => x.name === name)) {
        const of = this.dims.find((x) => x.name === parent.name);
        if (!of)
          fail({
            code: 'ir/unknown-dim',
            message: `ragged dim ${d.name} counts rows of ${parent.name}, which is not declared`,
          });
        this.dims.push({ name, bound: raggedBound(ragged, of.bound), ragged: { ...ragged, of: of.name } });
      }
      return dim(name);
    };
  }
}

/** What a callee's run-time dims are at a call, from its argument types. */
function bindDims(callee: Function, operands: readonly Value[], modes: readonly unknown[] = []): Binding {
  const out = new Map<string, Dim>();
  callee.arguments.forEach((a, i) => {
    const theirs = dimsOf(a.value.type);
    // An indexed tensor has the layer axis in front of what the callee sees.
    const ours = dimsOf(operands[i].type).slice(
      modes[i] === 'indexed' && operands[i].type.kind === 'tensor' ? 1 : 0,
    );
    theirs.forEach((d, axis) => {
      if (d.size === null && d.name !== null && ours[axis]) out.set(d.name, ours[axis]);
    });
  });
  return out;
}
