// Loop kernels as text, for people and tests: rows and steps as indented loops, expressions written out, what is needed
// more than once under a name.
import type { Expr, Index, Variable } from './data.ts';
import type { LoopKernel, Step, Store } from './form.ts';
import { indicesOf, partsOf, valuesIn } from './walk.ts';

/** The loop form as text. Ends without a newline. */
export const showLoops = (kernel: LoopKernel): string =>
  kernel.nests
    .map((nest) => {
      const names = new Names();
      const rows = nest.rows.length === 0 ? 'once' : `for ${nest.rows.map((v) => names.loop(v)).join(', ')}`;
      return [`${rows} by ${nest.worker}`, ...nest.steps.flatMap((s) => showStep(s, names, '  '))].join('\n');
    })
    .join('\n');

function showStep(step: Step, names: Names, indent: string): string[] {
  if (step.kind === 'each') {
    const over = step.over.map((v) => names.loop(v)).join(', ');
    return [`${indent}each ${over}`, ...step.steps.flatMap((s) => showStep(s, names, `${indent}  `))];
  }
  if (step.kind === 'reduce')
    return step.reduces.flatMap((r) => {
      const over = r.over.map((v) => names.loop(v)).join(', ');
      const [lines, value] = names.lines(r.value, `${indent}  `);
      return [`${indent}${names.define(r)} = ${r.combine} over ${over}`, ...lines, `${indent}  ${value}`];
    });
  const over = step.over.map((v) => names.loop(v)).join(', ');
  return [
    `${indent}store${over === '' ? '' : ` over ${over}`}`,
    ...step.stores.flatMap((s) => showStore(s, names, `${indent}  `)),
  ];
}

function showStore(s: Store, names: Names, indent: string): string[] {
  const [lines, value] = names.lines(s.value, indent);
  return [...lines, `${indent}${s.buffer.value}.${s.buffer.component}[${names.index(s.offset)}] = ${value}`];
}

/** Names of loops and of values that stand on a line of their own. */
class Names {
  private readonly variables = new Map<number, string>();
  private readonly values = new Map<number, string>();

  loop(v: Variable): string {
    const name = this.variables.get(v.id) ?? `i${this.variables.size}`;
    this.variables.set(v.id, name);
    return `${name} < ${this.index(v.extent)}`;
  }

  define(e: Expr): string {
    const name = `v${this.values.size}`;
    this.values.set(e.id, name);
    return name;
  }

  /** Lines that name what an expression needs more than once, and the expression. */
  lines(e: Expr, indent: string): [string[], string] {
    const uses = new Map<number, number>();
    const order: Expr[] = [];
    const count = (x: Expr): void => {
      uses.set(x.id, (uses.get(x.id) ?? 0) + 1);
      if (uses.get(x.id)! > 1 || this.values.has(x.id)) return;
      for (const p of partsOf(x)) count(p);
      for (const i of indicesOf(x)) for (const v of valuesIn(i)) count(v);
      order.push(x);
    };
    count(e);
    const lines = order
      .filter((x) => x !== e && uses.get(x.id)! > 1 && x.kind !== 'constant' && x.kind !== 'reduce')
      .map((x) => {
        const text = this.expression(x);
        return `${indent}${this.define(x)} = ${text}`;
      });
    return [lines, this.expression(e)];
  }

  index(i: Index): string {
    const terms = i.terms.map((t) => {
      const atoms = t.atoms.map((a) => {
        switch (a.kind) {
          case 'variable':
            return this.variables.get(a.variable.id) ?? a.variable.name;
          case 'size':
            return a.used ? `used(${a.dim})` : a.dim;
          case 'pages':
            return `pages(${a.value})`;
          case 'quotient':
            return `(${this.index(a.of)} / ${this.index(a.by)})`;
          case 'remainder':
            return `(${this.index(a.of)} % ${this.index(a.by)})`;
          case 'smaller':
            return `min(${this.index(a.of)}, ${this.index(a.by)})`;
          case 'value':
            return `(${this.expression(a.value)})`;
        }
      });
      return [...(t.factor === 1 ? [] : [`${t.factor}`]), ...atoms].join('·');
    });
    return [...terms, ...(i.constant !== 0 || terms.length === 0 ? [`${i.constant}`] : [])].join(' + ');
  }

  expression(e: Expr): string {
    const known = this.values.get(e.id);
    if (known !== undefined) return known;
    const parts = partsOf(e).map((p) => this.expression(p));
    switch (e.kind) {
      case 'constant':
        return `${e.value}`;
      case 'index':
        return this.index(e.index);
      case 'table':
        return `table[${this.index(e.index)}]`;
      case 'load':
        return `${e.buffer.value}.${e.buffer.component}[${this.index(e.offset)}]`;
      case 'unary':
      case 'binary':
      case 'compare':
        return `${e.op}(${parts.join(', ')})`;
      case 'test':
        return `${e.op}(${this.index(e.a)}, ${this.index(e.b)})`;
      case 'choose':
      case 'guarded':
        return `${e.kind}(${parts.join(', ')})`;
      case 'round':
        return `${e.dtype}(${parts[0]})`;
      case 'convert':
        return `${e.carrier}(${parts[0]})`;
      case 'turn':
        return `${e.turn}(${parts[0]} · frequency[${this.index(e.index)}])`;
      case 'reduce': {
        const over = e.over.map((v) => this.loop(v)).join(', ');
        return `${e.combine}{${over}: ${this.expression(e.value)}}`;
      }
    }
  }
}
