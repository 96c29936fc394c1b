// Joins matmuls that read one input into one wider matmul over a derived, concatenated weight, and splits the result.
// Used for the MLA down-projections and for SwiGLU's gate and up.
import { deriveOp } from '../ir/builder.ts';
import type { Diagnostic } from '../ir/diagnostics.ts';
import type { Declaration, DeriveExpression, Function, Module, Op, Value } from '../ir/module.ts';
import { dim, staticCount, tensor, type Dim, type TensorType } from '../ir/types.ts';
import { rewriteFunction } from './rewrite.ts';

/** Rows of one FP8 scale block; weights whose blocks would mix may not be joined (docs/IR.md, derived parameters). */
export const scaleBlock = 128;

const joinable = new Set(['matmul', 'grouped_matmul']);

/** What must agree for two matmuls to become one: op, attributes, input, routing, result dtype. */
function joinKey(op: Op, ids: Map<Value, number>): string | null {
  if (!joinable.has(op.op) || op.operands[1].source !== 'parameter') return null;
  const id = (v: Value): number => ids.get(v) ?? (ids.set(v, ids.size), ids.size - 1);
  const type = op.results[0].type as TensorType;
  const others = op.operands.filter((_, i) => i !== 1).map(id);
  return `${op.op} ${others.join()} ${type.dtype} ${JSON.stringify(op.attributes)}`;
}

/** Groups of at least two matmuls over one input, each in program order. */
export function joinableGroups(f: Function): readonly (readonly Op[])[] {
  const ids = new Map<Value, number>();
  const groups = new Map<string, Op[]>();
  for (const op of f.body) {
    const key = joinKey(op, ids);
    if (key !== null) groups.set(key, [...(groups.get(key) ?? []), op]);
  }
  return [...groups.values()].filter((g) => g.length > 1);
}

/** Axes of a weight: stacked experts, output, contracted. */
function weightAxes(op: Op): { stacked: readonly Dim[]; output: readonly Dim[]; contracted: readonly Dim[] } {
  const { dims } = op.operands[1].type as TensorType;
  const stacked = op.op === 'grouped_matmul' ? 1 : 0;
  const contract = op.op === 'grouped_matmul' ? 1 : Number(op.attributes.contract);
  return {
    stacked: dims.slice(0, stacked),
    output: dims.slice(stacked, dims.length - contract),
    contracted: dims.slice(dims.length - contract),
  };
}

/** Why a group must stay apart, or null. Only FP8 weights have blocks that could mix. */
export function declineToJoin(group: readonly Op[], module: Module, pass: string): Diagnostic | null {
  if (module.attributes.precision !== 'fp8') return null;
  for (const op of group.slice(0, -1)) {
    const rows = staticCount(weightAxes(op).output);
    if (rows % scaleBlock !== 0)
      return {
        code: `${pass}/scale-blocks`,
        severity: 'note',
        message: `${pass} keeps ${group.map((o) => o.operands[1].name).join(' and ')} apart`,
        at: op.span,
        label: `${op.operands[1].name} has ${rows} rows: its last 128x128 scale block would mix with the next weight's`,
        fix: `give it a multiple of ${scaleBlock} rows`,
      };
  }
  return null;
}

/** Rewrites `f` so that each group becomes one matmul at the place of its first member. */
export function joinMatmuls(module: Module, f: Function, groups: readonly (readonly Op[])[]): Function {
  const groupOf = new Map<Op, readonly Op[]>(groups.flatMap((g) => g.map((op) => [op, g] as const)));
  return rewriteFunction(module, f, (op, r) => {
    const group = groupOf.get(op);
    if (!group) return false;
    if (group[0] !== op) return true; // its result was replaced with the group's
    const axes = group.map(weightAxes);
    const sizes = axes.map((a) => staticCount(a.output));
    const { stacked, contracted } = axes[0];
    const declared = group.map((o) => parameterOf(f, o.operands[1]));
    const type = op.operands[1].type as TensorType;
    const rows = sizes.reduce((a, b) => a + b, 0);
    const joinedType = tensor(type.dtype, [...stacked, dim(null, rows), ...contracted]);
    const joined = deriveOp(
      'concat',
      declared.map((d, i) => flatten(d, [...stacked, dim(null, sizes[i]), ...contracted])),
      { axis: stacked.length },
      joinedType,
    );
    const weight = r.b.derived(joinedName(declared.map((d) => d.value.name)), joinedType, joined);
    const result = op.results[0].type as TensorType;
    const lead = result.dims.slice(0, result.dims.length - axes[0].output.length);
    const [x, , ...rest] = op.operands.map((v) => r.now(v));
    const wide = r.b.one(
      op.op,
      [x, weight, ...rest],
      op.attributes,
      tensor(result.dtype, [...lead, dim(null, rows)]),
      'joined',
    );
    const parts = r.b.op(
      'split',
      [wide],
      { axis: lead.length, sizes },
      null,
      group.map((o) => o.results[0].name),
    );
    group.forEach((o, i) => {
      r.b.span = o.span;
      const wanted = o.results[0];
      const single = axes[i].output.length === 1;
      r.replace(wanted, single ? parts[i] : r.b.one('reshape', [parts[i]], {}, wanted.type, wanted.name));
    });
    return true;
  });
}

function parameterOf(f: Function, v: Value): Declaration {
  const found = f.declarations.find((d) => d.value === v);
  if (!found) throw new Error(`joinMatmuls: ${v.name} is not declared in @${f.name}`);
  return found;
}

function flatten(d: Declaration, dims: readonly Dim[]): DeriveExpression {
  const leaf: DeriveExpression = { parameter: d.value.name };
  if (d.value.type.dims.length === dims.length) return leaf;
  return deriveOp('reshape', [leaf], {}, tensor(d.value.type.dtype, dims));
}

/** `self_attn.q_a_proj.weight`, `self_attn.kv_a_proj.weight` → `self_attn.q_a_proj+kv_a_proj.weight`. */
export function joinedName(names: readonly string[]): string {
  const parts = names.map((n) => n.split('.'));
  let front = 0;
  while (parts.every((p) => p.length > front + 1 && p[front] === parts[0][front])) front++;
  let back = 0;
  while (parts.every((p) => p.length - front > back + 1 && p.at(-1 - back) === parts[0].at(-1 - back)))
    back++;
  const middle = parts.map((p) => p.slice(front, p.length - back).join('.')).join('+');
  return [...parts[0].slice(0, front), middle, ...parts[0].slice(parts[0].length - back)].join('.');
}
