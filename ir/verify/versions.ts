// State linearity: what is updated in place has one newest version, and nobody looks at an older one. That is what
// lets plan-memory give all versions one buffer.
import { calleeOf, type Argument, type Function, type Op, type Value } from '../module.ts';
import { printOp } from '../text/printer.ts';
import { noteAt, type Place, type Report } from './report.ts';

interface Version {
  /** The argument that this is a version of; null for a state that no argument brought in. */
  readonly root: Argument | null;
  /** The op that made a newer version. */
  replaced: Op | null;
}

/** Which operand an op updates in place, and the result that is its new value. */
export function updatesOf(op: Op, callee: Function | null): readonly { operand: number; result: number }[] {
  if (calleeOf(op) !== null) {
    if (callee === null) return [];
    const inout = callee.arguments.flatMap((a, i) => (a.inout ? [i] : []));
    // The finals of the inout arguments are an op's last results, for a repeat as for a call.
    const first = op.results.length - inout.length;
    return inout.map((operand, i) => ({ operand, result: first + i }));
  }
  const operands = op.operands.flatMap((v, i) => (v.type.kind === 'state' ? [i] : []));
  const results = op.results.flatMap((v, i) => (v.type.kind === 'state' ? [i] : []));
  return results.slice(0, operands.length).map((result, i) => ({ operand: operands[i], result }));
}

/** Follows the versions of a function's states and inout arguments, op by op. */
export class Versions {
  private readonly versions = new Map<Value, Version>();
  /** What cache_read gave: a view of a version, good as long as the version is. */
  private readonly views = new Map<Value, Value>();
  private readonly report: Report;

  constructor(args: readonly Argument[], report: Report) {
    this.report = report;
    for (const a of args)
      if (a.inout || a.value.type.kind === 'state') this.versions.set(a.value, { root: a, replaced: null });
  }

  op(op: Op, callee: Function | null, place: Place): void {
    if (this.versions.size === 0) return;
    for (const v of op.operands) this.use(v, place);
    for (const { operand, result } of updatesOf(op, callee))
      this.update(op, op.operands[operand], op.results[result], place);
    if (op.op === 'cache_read') for (const r of op.results) this.views.set(r, op.operands[0]);
  }

  /** The argument whose newest version a value is. */
  rootOf(value: Value): Argument | null {
    return this.versions.get(value)?.root ?? null;
  }

  /** Reports the use of a value that has been updated since. */
  use(value: Value, place: Place): void {
    const viewed = this.views.get(value);
    const by = this.versions.get(viewed ?? value)?.replaced;
    if (!by) return;
    const what = viewed ? `%${value.name}, which looks into %${viewed.name},` : `%${value.name}`;
    this.report(
      'ir/state',
      `${what} is used after its memory was updated`,
      place,
      viewed
        ? 'read it again from the new state, or use it before the update'
        : `use the newest value: ${newest(by, value)}`,
      [noteAt(`updated by ${printOp(by)}`, by.span)],
    );
  }

  private update(op: Op, before: Value | undefined, after: Value | undefined, place: Place): void {
    if (before === undefined || after === undefined) return;
    const version = this.versions.get(before) ?? { root: null, replaced: null };
    if (op.operands.filter((v) => v === before).length > 1)
      this.report('ir/state', `%${before.name} is updated and used by the same op`, place, 'pass it once');
    const root = version.root;
    if (root && !root.inout && version.replaced === null)
      this.report(
        'ir/state',
        `argument %${root.value.name} is updated, but it is not inout`,
        place,
        `write inout %${root.value.name} in the header and return its final value`,
      );
    version.replaced = op;
    this.versions.set(before, version);
    this.versions.set(after, { root, replaced: null });
  }
}

function newest(op: Op, old: Value): string {
  const at = op.operands.indexOf(old);
  const states = op.results.filter((r) => r.type.kind === old.type.kind);
  return states.length === 1 ? `%${states[0].name}` : at >= 0 ? `a result of ${op.op}` : op.op;
}
