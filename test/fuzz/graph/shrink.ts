// Makes a failing module small: fewer results, fewer ops, smaller axes, fewer tokens, as long as it fails at the same
// stage. Every step is a module that verifies, so what is left is a `.dsir` that shows the mistake and nothing else.
import { FunctionBuilder, inferContext } from '../../../ir/builder.ts';
import {
  calleeOf,
  functionNamed,
  withFunctions,
  type Attribute,
  type Function,
  type Module,
  type Op,
  type Value,
} from '../../../ir/module.ts';
import { OpProblem } from '../../../ir/ops/define.ts';
import { dimsOf, mapDims, sameType, type Dim, type TensorType, type Type } from '../../../ir/types.ts';

/** Whether a module still shows the mistake. */
export type Fails = (m: Module) => boolean;

const entry = 'main';
const replaceFunction = (m: Module, f: Function): Module =>
  withFunctions(
    m,
    m.functions.map((g) => (g.name === f.name ? f : g)),
  );

/** Drops ops, declarations and arguments that nothing needs, and functions that nobody calls. */
function pruned(m: Module): Module {
  const functions = m.functions.map((f): Function => {
    const needed = new Set<Value>([...f.results, ...f.finals]);
    const body: Op[] = [];
    for (const op of [...f.body].reverse())
      if (op.results.some((r) => needed.has(r))) {
        body.unshift(op);
        op.operands.forEach((v) => needed.add(v));
      }
    // A block's callers pass its arguments by place. A state that nothing reads or writes is left as it came.
    const read = new Set(body.flatMap((op) => op.operands));
    const isIdle = (v: Value): boolean => !read.has(v) && (v.type.kind !== 'state' || f.finals.includes(v));
    const args = f.arguments.filter(
      (a) => f.kind !== 'entry' || f.results.includes(a.value) || !isIdle(a.value),
    );
    const finals = f.finals.filter((v) => f.kind !== 'entry' || !isIdle(v) || v.source !== 'argument');
    return {
      ...f,
      body,
      arguments: args,
      finals,
      declarations: f.declarations.filter((d) => needed.has(d.value)),
    };
  });
  const called = new Set(functions.flatMap((f) => f.body.map(calleeOf)));
  return withFunctions(
    m,
    functions.filter((f) => f.name === entry || called.has(f.name)),
  );
}

/** Every use of a value becomes another's. */
function substituted(f: Function, from: Value, to: Value): Function {
  const now = (v: Value): Value => (v === from ? to : v);
  return {
    ...f,
    body: f.body.map((op) => (op.operands.includes(from) ? { ...op, operands: op.operands.map(now) } : op)),
    ...{ results: f.results.map(now), finals: f.finals.map(now) },
  };
}

/** Final values of states that are left as they came. */
const untouched = (f: Function): readonly Value[] => f.arguments.filter((a) => a.inout).map((a) => a.value);

function* fewerResults(m: Module): Iterable<Module> {
  const f = functionNamed(m, entry);
  const finals = untouched(f);
  const values = [...f.body.flatMap((op) => op.results), ...f.results].filter(
    (r) => r.type.kind === 'tensor',
  );
  for (const r of new Set(values))
    for (const to of f.finals.length > 0 ? [finals, f.finals] : [finals])
      yield replaceFunction(m, { ...f, results: [r], finals: to });
  if (f.finals.length > 0) yield replaceFunction(m, { ...f, results: [] });
}

/** An op's result becomes one of its operands, or an argument of its own. */
function* fewerOps(m: Module): Iterable<Module> {
  for (const f of m.functions)
    for (const op of [...f.body].reverse())
      for (const r of op.results) {
        for (const v of op.operands)
          if (sameType(v.type, r.type)) yield replaceFunction(m, substituted(f, r, v));
        const isOpen =
          r.type.kind === 'tensor' && r.type.dims.every((d) => d.size !== null || d.name !== 'slots');
        if (f.kind !== 'entry' || !isOpen) continue;
        const value: Value = { name: `${r.name}.in`, type: r.type, source: 'argument' };
        const freed = substituted(f, r, value);
        const cut = { ...freed, arguments: [...freed.arguments, { value, inout: false }] };
        // The state that the value came from may be what holds the op.
        if (f.finals.length > 0) yield replaceFunction(m, { ...cut, finals: untouched(f) });
        yield replaceFunction(m, cut);
      }
}

/** An attribute that counts elements of an axis, for an axis that became shorter. */
function fitting(op: Op, from: number, to: number): Readonly<Record<string, Attribute>> {
  const a = { ...op.attributes };
  const clip = (name: string, most: number): void => void (a[name] = Math.min(Number(a[name]), most));
  if (op.op === 'slice' && Number(a.stop) <= from) {
    clip('stop', to);
    clip('start', Number(a.stop) - 1);
  }
  if (op.op === 'top_k') clip('k', to);
  if (op.op === 'rope' && (op.operands[0].type as TensorType).dims.at(-1)!.size === from)
    a.frequencies = (a.frequencies as readonly number[]).slice(0, to / 2);
  if (op.op === 'const') a.values = [];
  return a;
}

/** Builds the module again with every static axis of length `from` being `to`; null where an op does not allow it. */
function resized(m: Module, from: number, to: number): Module | null {
  const now = (d: Dim): Dim => (d.size === from ? { ...d, size: to } : d);
  const functions: Function[] = [];
  const context = inferContext({ ...m, functions });
  try {
    for (const f of m.functions) {
      const b = new FunctionBuilder(context);
      const values = new Map<Value, Value>();
      for (const a of f.arguments)
        values.set(a.value, b.argument(a.value.name, mapDims(a.value.type, now), a.inout));
      for (const d of f.declarations) {
        if (d.kind === 'derived') return null;
        const type = mapDims(d.value.type, now) as TensorType;
        values.set(
          d.value,
          b.parameter(
            d.kind,
            d.value.name,
            type,
            type.dims.map((x) => x.size!),
          ),
        );
      }
      for (const op of f.body) {
        const operands = op.operands.map((v) => values.get(v)!);
        const attributes = fitting(op, from, to);
        const declared = op.results.map((r) => mapDims(r.type, now));
        const apply = (types: readonly Type[] | null): readonly Value[] =>
          b.op(
            op.op,
            operands,
            attributes,
            types,
            op.results.map((r) => r.name),
          );
        let made: readonly Value[];
        try {
          made = apply(declared);
        } catch (e) {
          if (!(e instanceof OpProblem)) throw e;
          made = apply(null);
        }
        op.results.forEach((r, i) => values.set(r, made[i]));
      }
      const kept = (v: Value): Value => values.get(v)!;
      functions.push(
        b.finish({ kind: f.kind, name: f.name, results: f.results.map(kept), finals: f.finals.map(kept) }),
      );
    }
  } catch (e) {
    if (e instanceof OpProblem) return null;
    throw e;
  }
  return { ...m, functions };
}

function* smaller(m: Module): Iterable<Module> {
  const { tokens, rows } = m.attributes;
  for (const [name, n] of Object.entries({ tokens, rows }))
    for (const to of [1, 2, Math.floor(Number(n) / 2)])
      if (to >= 1 && to < Number(n)) yield { ...m, attributes: { ...m.attributes, [name]: to } };
  const sizes = new Set(
    m.functions.flatMap((f) =>
      [
        ...f.arguments.map((a) => a.value),
        ...f.declarations.map((d) => d.value),
        ...f.body.flatMap((op) => op.results),
      ].flatMap((v) => dimsOf(v.type).flatMap((d) => (d.size !== null && d.size > 1 ? [d.size] : []))),
    ),
  );
  for (const from of [...sizes].sort((a, b) => b - a))
    for (const to of [1, 2, 8, 16, Math.floor(from / 2)])
      if (to >= 1 && to < from) {
        const made = resized(m, from, to);
        if (made) yield made;
      }
}

/** Run-time dims, states and attributes that nothing mentions. */
function tidied(m: Module): Module {
  const values = m.functions.flatMap((f) => [
    ...f.arguments.map((a) => a.value),
    ...f.body.flatMap((op) => op.results),
  ]);
  const states = m.states.filter((s) =>
    values.some((v) => v.type.kind === 'state' && v.type.state === s.name),
  );
  const types = [...values.map((v) => v.type), ...states.flatMap((s) => s.fields.map((f) => f.type))];
  const named = new Set(types.flatMap(dimsOf).flatMap((d) => (d.size === null ? [d.name] : [])));
  const dims = m.dims.filter(
    (d) => named.has(d.name) || m.dims.some((r) => r.ragged?.of === d.name && named.has(r.name)),
  );
  return { ...m, dims, states };
}

/** What a module takes to read: ops above all, then what comes in and goes out, then sizes. */
function weight(m: Module): number {
  return m.functions.reduce(
    (n, f) => {
      const values = [
        ...f.arguments.map((a) => a.value),
        ...f.declarations.map((d) => d.value),
        ...f.body.flatMap((op) => op.results),
      ];
      const sizes = values
        .flatMap((v) => dimsOf(v.type))
        .reduce((k, d) => k + Math.log2(1 + (d.size ?? 1)), 0);
      return (
        n + 1000 * f.body.length + 30 * (f.results.length + f.finals.length + f.arguments.length) + sizes
      );
    },
    Math.log2(Number(m.attributes.tokens ?? 1)) + Math.log2(Number(m.attributes.rows ?? 1)),
  );
}

/** The smallest module found that still fails, within so many tries. */
export function shrink(module: Module, fails: Fails, tries = 200): Module {
  let best = module;
  let left = tries;
  const steps = [fewerResults, fewerOps, smaller];
  for (let again = true; again && left > 0;) {
    again = false;
    for (const step of steps) {
      // From the start after every success: what was refused may be possible now.
      for (let found = true; found && left > 0;) {
        found = false;
        for (const candidate of step(best)) {
          const m = pruned(candidate);
          if (weight(m) >= weight(best)) continue;
          if (left-- <= 0) break;
          if (!fails(m)) continue;
          best = m;
          found = again = true;
          break;
        }
      }
    }
  }
  const tidy = tidied(best);
  return fails(tidy) ? tidy : best;
}
