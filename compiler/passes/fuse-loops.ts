// Fuses pointwise ops, row reductions and the views between them into one kernel each, so that values between them
// never travel through memory. Views are pulled into every kernel that reads through them (they cost nothing there);
// a group never needs a value that depends on the group's own outputs (it stays convex).
import type { Function, Op, Value } from '../../ir/module.ts';
import { opDefinition } from '../../ir/ops/index.ts';
import { dimsOf, sameDim, type Dim, type TensorType } from '../../ir/types.ts';
import { isAlias, Outliner } from '../outline.ts';
import type { Pass } from '../pass.ts';
import { definitions, dropDead } from '../rewrite.ts';

export const fuseLoops: Pass = {
  name: 'fuse-loops',
  doc: 'fuses pointwise ops, row reductions, quantisation and views into one kernel each',
  run: (module) => {
    const outliner = new Outliner(module);
    const blocks = module.functions
      .filter((f) => f.kind !== 'kernel')
      // What nobody reads would become a kernel without results.
      .map((f) => new Fusion(dropDead(f)).run(outliner));
    return outliner.finish(blocks);
  },
};

/** A set of ops that becomes one kernel. With `row` set, its ops reduce rows: trailing axes of one shape. */
interface Cluster {
  readonly ops: Set<Op>;
  /** The full shape of the index space, and how many leading axes tell rows apart (null: no reduction inside). */
  readonly dims: readonly Dim[];
  readonly rowRank: number | null;
}

const isView = (op: Op): boolean =>
  (opDefinition(op.op).class === 'view' && op.op !== 'gather') ||
  op.op === 'position_field' ||
  op.op === 'routing_field';

/** Ops that a loops kernel computes element by element or row by row. */
function isFusible(op: Op): boolean {
  const c = opDefinition(op.op).class;
  if (c === 'pointwise' || op.op === 'dequantize') return true;
  return rowRankOf(op) !== null || op.op === 'silu_mul' || op.op === 'rope';
}

/** How many leading axes an op's rows have, when it reduces over trailing axes; null when it does not reduce. */
function rowRankOf(op: Op): number | null {
  const type = op.operands[0]?.type;
  if (type?.kind !== 'tensor') return null;
  const rank = type.dims.length;
  switch (op.op) {
    case 'rms_norm':
    case 'rms_norm_quantize':
    case 'silu_mul_quantize':
      return rank - 1;
    case 'quantize': {
      const { scales } = op.results[0].type as TensorType;
      return scales.length === 1 && scales[0].tile.slice(0, -1).every((t) => t === 1) ? rank - 1 : null;
    }
    case 'softmax':
      return Number(op.attributes.axis) === rank - 1 && rank > 1 ? rank - 1 : null;
    case 'sum':
    case 'max_over':
    case 'min_over': {
      const axes = op.attributes.axes as readonly number[];
      const first = rank - axes.length;
      return first > 0 && axes.every((a, i) => a === first + i) ? first : null;
    }
    default:
      return null;
  }
}

/** A node of the graph that fusion keeps acyclic: a cluster, or an op that stands alone. */
type Node = Cluster | Op;

class Fusion {
  private readonly f: Function;
  private readonly defs: ReadonlyMap<Value, Op>;
  private readonly readers = new Map<Value, Op[]>();
  private readonly clusterOf = new Map<Op, Cluster>();
  private readonly order = new Map<Op, number>();

  constructor(f: Function) {
    this.f = f;
    this.defs = definitions(f);
    f.body.forEach((op, i) => {
      this.order.set(op, i);
      for (const v of new Set(op.operands)) this.readers.set(v, [...(this.readers.get(v) ?? []), op]);
    });
  }

  run(outliner: Outliner): Function {
    for (const op of this.f.body) if (isFusible(op)) this.start(op);
    for (const op of this.f.body) if (this.clusterOf.has(op)) this.mergeWithProducers(op);
    return dropDead({ ...this.f, body: inOrder(this.f, this.groupedOps(outliner)) });
  }

  // --- growing clusters ---

  private start(op: Op): void {
    const rowRank = rowRankOf(op);
    const shaped = rowRank === null ? op.results[0] : op.operands[0];
    this.clusterOf.set(op, { ops: new Set([op]), dims: dimsOf(shaped.type), rowRank });
  }

  private mergeWithProducers(op: Op): void {
    for (const v of op.operands) {
      const producer = this.producerOf(v);
      const from = producer && this.clusterOf.get(producer);
      const into = this.clusterOf.get(op);
      if (!from || !into || from === into) continue;
      const merged = this.union(from, into);
      if (!merged || this.dependsThroughOthers(from, into)) continue;
      for (const member of merged.ops) this.clusterOf.set(member, merged);
    }
  }

  /** The op that computes a value, looking through a broadcast of row values: the one view allowed inside. */
  private producerOf(v: Value): Op | undefined {
    const op = this.defs.get(v);
    if (op?.op !== 'broadcast') return op;
    const axes = op.attributes.axes as readonly number[];
    return axes.every((a, i) => a === i) ? this.defs.get(op.operands[0]) : op;
  }

  /** The cluster of both, when one kernel can compute it; `from` comes first. */
  private union(from: Cluster, into: Cluster): Cluster | null {
    const ops = new Set([...from.ops, ...into.ops]);
    if (from.rowRank !== null && into.rowRank !== null && from.rowRank !== into.rowRank) return null;
    const rowRank = from.rowRank ?? into.rowRank;
    const dims = from.dims.length >= into.dims.length ? from.dims : into.dims;
    const fits = (shape: readonly Dim[]): boolean =>
      equalDims(shape, dims) || (rowRank !== null && equalDims(shape, dims.slice(0, rowRank)));
    for (const op of into.ops)
      for (const v of op.operands) {
        const sources = this.sourcesOf(v).filter((s) => from.ops.has(s));
        const producer = this.producerOf(v);
        // Read through any other view, an element would need other elements of the group.
        if (sources.length > 0 && !(producer && sources.length === 1 && sources[0] === producer)) return null;
        if (sources.length > 0 && !fits(dimsOf(v.type))) return null;
      }
    for (const op of ops) for (const v of op.results) if (!fits(dimsOf(v.type))) return null;
    return { ops, dims, rowRank };
  }

  /** Ops that compute (no views) and that a value is made from through views alone. */
  private sourcesOf(v: Value): readonly Op[] {
    const op = this.defs.get(v);
    if (!op) return [];
    return isView(op) ? op.operands.flatMap((x) => this.sourcesOf(x)) : [op];
  }

  /** Would merging make a circle: is there a path from one cluster to the other through a third node? */
  private dependsThroughOthers(from: Cluster, into: Cluster): boolean {
    const seen = new Set<Node>();
    const stack = this.successors(from).filter((n) => n !== into);
    for (let node = stack.pop(); node; node = stack.pop()) {
      if (node === into) return true;
      if (seen.has(node)) continue;
      seen.add(node);
      stack.push(...this.successors(node));
    }
    return false;
  }

  /** Nodes that read a node's values, views looked through. */
  private successors(node: Node): Node[] {
    const out = new Set<Node>();
    const follow = (v: Value): void => {
      for (const reader of this.readers.get(v) ?? [])
        if (isView(reader)) reader.results.forEach(follow);
        else out.add(this.clusterOf.get(reader) ?? reader);
    };
    for (const op of 'ops' in node ? node.ops : [node]) op.results.forEach(follow);
    out.delete(node);
    return [...out];
  }

  // --- making kernels of them ---

  private groupedOps(outliner: Outliner): readonly Op[] {
    const out: Op[] = [];
    for (const cluster of new Set(this.clusterOf.values())) {
      const members = [...cluster.ops];
      const results = members.flatMap((op) => op.results).filter((v) => this.leaves(v, cluster));
      out.push(outliner.launch({ ops: this.withViews(members), results }));
    }
    // Attention reads its operands through views; everything else wants them in memory.
    const alone = this.f.body.filter((op) => !this.clusterOf.has(op) && !isView(op));
    for (const op of alone)
      out.push(
        op.op === 'attention' ? outliner.launch({ ops: this.withViews([op]), results: op.results }) : op,
      );
    const inMemory = alone.filter((op) => op.op !== 'attention').flatMap((op) => op.operands);
    out.push(...this.materialised([...inMemory, ...this.f.results, ...this.f.finals], outliner));
    return out;
  }

  /** What makes views real where memory is read: renames stay ops, the others become copies of the wanted results. */
  private materialised(wanted: readonly Value[], outliner: Outliner): readonly Op[] {
    const out: Op[] = [];
    const real = new Map<Op, Set<Value>>();
    const want = (v: Value): void => {
      const op = this.defs.get(v);
      if (!op || !isView(op)) return;
      if (!real.has(op) && isAlias(op)) {
        out.push(op);
        op.operands.forEach(want);
      }
      real.set(op, (real.get(op) ?? new Set()).add(v));
    };
    wanted.forEach(want);
    for (const [op, values] of real)
      if (!isAlias(op))
        out.push(
          outliner.launch({ ops: this.withViews([op]), results: op.results.filter((r) => values.has(r)) }),
        );
    return out;
  }

  /** The ops and the views that they read through, in program order. */
  private withViews(ops: readonly Op[]): readonly Op[] {
    const all = new Set<Op>();
    const pull = (op: Op): void => {
      if (all.has(op)) return;
      all.add(op);
      for (const v of op.operands) {
        const producer = this.defs.get(v);
        if (producer && isView(producer)) pull(producer);
      }
    };
    ops.forEach(pull);
    return [...all].sort((a, b) => (this.order.get(a) ?? 0) - (this.order.get(b) ?? 0));
  }

  /** Is a cluster's value read outside of it, directly or through views? */
  private leaves(v: Value, cluster: Cluster): boolean {
    if (this.f.results.includes(v) || this.f.finals.includes(v)) return true;
    return (this.readers.get(v) ?? []).some((reader) =>
      isView(reader) ? reader.results.some((r) => this.leaves(r, cluster)) : !cluster.ops.has(reader),
    );
  }
}

/** Ops in an order in which every value is defined before it is read; ties go to the one that stood first. */
function inOrder(f: Function, ops: readonly Op[]): readonly Op[] {
  const producer = new Map<Value, Op>();
  for (const op of ops) for (const r of op.results) producer.set(r, op);
  const out: Op[] = [];
  const done = new Set<Op>();
  const visit = (op: Op): void => {
    if (done.has(op)) return;
    done.add(op);
    for (const v of op.operands) {
      const before = producer.get(v);
      if (before) visit(before);
    }
    out.push(op);
  };
  const place = new Map<Value, number>();
  f.body.forEach((op, i) => op.results.forEach((r) => place.set(r, i)));
  const first = (op: Op): number => Math.min(...op.results.map((r) => place.get(r) ?? 0));
  [...ops].sort((a, b) => first(a) - first(b)).forEach(visit);
  return out;
}

const equalDims = (a: readonly Dim[], b: readonly Dim[]): boolean =>
  a.length === b.length && a.every((d, i) => sameDim(d, b[i]));
