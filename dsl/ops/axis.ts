// Finding, aligning and checking axes by name: what every op does before it becomes IR.
import type { Dim } from '../axes.ts';
import { showDims, type TensorHandle, toIr, typeOf } from '../tensor.ts';
import { mistake, type FunctionTrace } from '../trace.ts';
import { describe, listed, nearest } from '../words.ts';
import { sameDim } from '../../ir/types.ts';

/** The argument as a dim. Throws Mistake. */
export function dimArg(op: string, role: string, value: unknown): Dim {
  const d = value as Dim | null | undefined;
  if (typeof d === 'object' && d !== null && typeof d.name === 'string' && 'size' in d && 'kind' in d)
    return d;
  mistake({
    code: 'dsl/wrong-argument',
    message: `${op} needs a dim as ${role}`,
    label: `${role} is ${describe(value)}`,
    fix: `declare one: const hidden = dim('hidden', 7168)`,
  });
}

/** One dim or a list of them, as a list. */
export const dimsArg = (op: string, role: string, value: unknown): readonly Dim[] =>
  Array.isArray(value) ? value.map((d) => dimArg(op, role, d)) : [dimArg(op, role, value)];

/** Refuses one name with two sizes. */
export function sameSize(op: string, ours: Dim, theirs: Dim): void {
  if (sameDim(toIr(ours), toIr(theirs))) return;
  mistake({
    code: 'dsl/dim-two-sizes',
    message: `${op}: '${ours.name}' has two sizes`,
    label: `${ours.size ?? 'run-time'} in one operand, ${theirs.size ?? 'run-time'} in the other`,
    fix: 'declare the dim once and use it everywhere, or give the two different names',
  });
}

/** Index of a tensor's axis. Throws Mistake when it has none of that name, or of another size. */
export function axisOf(op: string, x: TensorHandle, value: unknown): number {
  const d = dimArg(op, 'the axis', value);
  const axis = x.axes.indexOf(d.name);
  if (axis < 0) {
    const meant = nearest(d.name, x.axes);
    mistake({
      code: 'dsl/no-such-axis',
      message: `${op}: there is no axis '${d.name}'`,
      label: `the tensor is ${String(x)}`,
      fix:
        meant === null
          ? `use one of ${x.axes.join(', ') || 'none: it is a scalar'}`
          : `did you mean '${meant}'?`,
      from: [{ what: 'the tensor comes from here', at: x.madeAt }],
    });
  }
  sameSize(op, x.dims[axis], d);
  return axis;
}

/** Refuses axes that occur twice. */
export function distinct(op: string, dims: readonly Dim[]): void {
  const names = dims.map((d) => d.name);
  const twice = names.find((n, i) => names.indexOf(n) !== i);
  if (twice !== undefined)
    mistake({
      code: 'dsl/axis-twice',
      message: `${op} would give a tensor with two axes '${twice}'`,
      label: showDims(dims),
      fix: `rename one of them: rename(x, ${twice}, dim('other', …))`,
    });
}

/**
 * x over exactly `dims`: its axes put in their order, the missing ones repeated. x's axes are all among `dims`.
 */
export function alignTo(op: string, t: FunctionTrace, x: TensorHandle, dims: readonly Dim[]): TensorHandle {
  for (const d of x.dims) sameSize(op, dims.find((w) => w.name === d.name) ?? d, d);
  const wanted = dims.filter((d) => x.axes.includes(d.name));
  const order = wanted.map((d) => x.axes.indexOf(d.name));
  const ordered = order.every((axis, i) => axis === i)
    ? x
    : t.tensor('transpose', [x], { order }, x.dtype, wanted);
  if (wanted.length === dims.length) return ordered;
  const axes = wanted.map((d) => dims.findIndex((w) => w.name === d.name));
  return t.tensor('broadcast', [ordered], { axes }, x.dtype, dims);
}

/** The dims of a broadcast of tensors: those of the one that has all. Throws Mistake when none has. */
export function castDims(op: string, xs: readonly TensorHandle[], roles: readonly string[]): readonly Dim[] {
  const most = xs.reduce((a, b) => (b.dims.length > a.dims.length ? b : a));
  for (const [i, x] of xs.entries())
    for (const d of x.dims) {
      const at = most.axes.indexOf(d.name);
      if (at >= 0) {
        sameSize(op, most.dims[at], d);
        continue;
      }
      const other = roles[xs.indexOf(most)];
      const lacking = most.axes.filter((n) => !x.axes.includes(n)).map((n) => `'${n}'`);
      mistake({
        code: 'dsl/axes-differ',
        message: `${op}: ${roles[i]} has the axis '${d.name}', ${other} has ${listed(lacking)} instead`,
        label: `${roles[i]} is ${String(x)}, ${other} is ${String(most)}`,
        fix: `make one hold all axes of the other: rename or sum over '${d.name}', or broadcast`,
        from: [x, most].map((h) => ({ what: `${h === x ? roles[i] : other} comes from here`, at: h.madeAt })),
      });
    }
  return most.dims;
}

/** A number in every element over `dims`. */
export const filled = (t: FunctionTrace, value: number, x: TensorHandle): TensorHandle =>
  t.handle(t.op('const', [], { value }, [typeOf(x.dtype, x.dims)])[0], x.dims);
