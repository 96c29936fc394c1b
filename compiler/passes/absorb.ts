// The absorbed form of latent attention. From
//   kv = latent · Wᵀ;  k_nope, v = split(kv);  k = [k_nope | k_rope];  o = attention([q_nope | q_rope], k, v)
// to
//   a = q_nope · W_uk (per head);  z = attention([a | q_rope], [latent | k_rope], latent);  o = z · W_uv (per head)
// which is the same by associativity: (W_uk c)·q = c·(W_ukᵀ q), and Σ p (W_uv c) = W_uv Σ p c.
// Merging W_uk into the query projection instead would store and read three to four times as much.
import { deriveOp } from '../../ir/builder.ts';
import type { Diagnostic } from '../../ir/diagnostics.ts';
import { boundOf, type Function, type Module, type Op, type Value } from '../../ir/module.ts';
import { dim, sameDim, tensor, type Dim, type PositionsType, type TensorType } from '../../ir/types.ts';
import type { PassContext } from '../pass.ts';
import { definitions, rewriteFunction, useCounts, type Rewriter } from '../rewrite.ts';

/** What an absorbable attention is made of. */
interface LatentAttention {
  readonly latent: Value;
  /** [heads, nope + value, rank] by its declaration, or a view of it. */
  readonly weight: Value;
  readonly nopeQuery: Value;
  readonly ropeQuery: Value;
  /** [keys, rope] */
  readonly ropeKey: Value;
  readonly heads: number;
  readonly nope: number;
  readonly value: number;
  readonly rank: number;
  readonly rope: number;
}

export function absorb(module: Module, f: Function, context: PassContext): Function {
  const defs = definitions(f);
  const uses = useCounts(f);
  return rewriteFunction(module, f, (op, r) => {
    if (op.op !== 'attention') return false;
    const found = matchLatentAttention(op, defs, uses);
    if (!found) return false;
    const decision = compareForms(module, op, found);
    if (!decision.absorb) {
      context.report(decision.note);
      return false;
    }
    rewriteAbsorbed(op, found, r);
    return true;
  });
}

function matchLatentAttention(
  op: Op,
  defs: ReadonlyMap<Value, Op>,
  uses: ReadonlyMap<Value, number>,
): LatentAttention | null {
  const [q, k, v] = op.operands;
  const keyParts = concatOfTwo(defs.get(k));
  const queryParts = concatOfTwo(defs.get(q));
  const parts = defs.get(v);
  if (
    !keyParts ||
    !queryParts ||
    parts?.op !== 'split' ||
    parts.attributes.axis !== 2 ||
    parts.results.length !== 2
  )
    return null;
  const [nopeKey, ropeKeys] = keyParts;
  if (parts.results[0] !== nopeKey || parts.results[1] !== v) return null;
  // Another reader of the keys or values needs them expanded anyway.
  if (uses.get(nopeKey) !== 1 || uses.get(v) !== 1 || uses.get(k) !== 1) return null;
  const expand = defs.get(parts.operands[0]);
  if (
    expand?.op !== 'matmul' ||
    expand.operands[1].source !== 'parameter' ||
    expand.attributes.contract !== 1
  )
    return null;
  const [latent, weight] = expand.operands;
  const weightType = weight.type as TensorType;
  const ropeKey = sharedOverHeads(ropeKeys, defs);
  if (!ropeKey || weightType.dims.length !== 3 || (latent.type as TensorType).dims.length !== 2) return null;
  const size = (d: Dim): number => d.size ?? 0;
  const [nope, value] = parts.attributes.sizes as readonly number[];
  return {
    latent,
    weight,
    nopeQuery: queryParts[0],
    ropeQuery: queryParts[1],
    ropeKey,
    heads: size(weightType.dims[0]),
    nope,
    value,
    rank: size(weightType.dims[2]),
    rope: size((ropeKey.type as TensorType).dims[1]),
  };
}

function concatOfTwo(op: Op | undefined): readonly [Value, Value] | null {
  return op?.op === 'concat' && op.attributes.axis === 2 && op.operands.length === 2
    ? [op.operands[0], op.operands[1]]
    : null;
}

/** The [keys, rope] value that a [keys, heads, rope] one repeats over the heads. */
function sharedOverHeads(v: Value, defs: ReadonlyMap<Value, Op>): Value | null {
  const op = defs.get(v);
  if (op?.op !== 'broadcast') return null;
  const axes = op.attributes.axes as readonly number[];
  const source = op.operands[0];
  const { dims } = source.type as TensorType;
  if (dims.length === 2 && axes.join() === '0,2') return source;
  // [keys, 1, rope] → the same with its middle axis dropped.
  const inner = defs.get(source);
  if (dims.length === 3 && dims[1].size === 1 && axes.join() === '0,1,2' && inner?.op === 'reshape') {
    const from = inner.operands[0];
    if ((from.type as TensorType).dims.length === 2) return from;
  }
  return null;
}

/** Keys that one query looks at, when nothing better is known: a 4K context, half of it under the causal mask. */
const typicalContext = 4096;

/** FLOPs of both forms at the module's bounds; absorbing pays when the keys far outnumber the queries. */
function compareForms(module: Module, op: Op, a: LatentAttention): { absorb: boolean; note: Diagnostic } {
  const at = op.operands[3].type as PositionsType;
  const packed = sameDim(at.tokens, at.keys);
  const queries = boundOf(module, at.tokens);
  const seen = packed ? Math.min(queries, typicalContext) / 2 : typicalContext;
  // In packed form each token's latent is expanded once; from a cache every cached row would be, at every step.
  const expanded = packed ? queries : queries * typicalContext;
  const perPair = (width: number): number => 2 * queries * seen * a.heads * width;
  const plain = 2 * expanded * a.heads * (a.nope + a.value) * a.rank + perPair(a.nope + a.rope + a.value);
  const absorbed = 2 * queries * a.heads * (a.nope + a.value) * a.rank + perPair(2 * a.rank + a.rope);
  const figures = `${gflop(plain)} GFLOP expanded, ${gflop(absorbed)} absorbed, for ${queries} queries of ${seen} keys`;
  return {
    absorb: absorbed < plain,
    note: {
      code: 'fuse-mla-projections/not-absorbed',
      severity: 'note',
      message: `attention over ${a.latent.name} keeps its expanded keys and values`,
      at: op.span,
      label: figures,
    },
  };
}

const gflop = (flops: number): string => (flops / 1e9).toPrecision(3);

function rewriteAbsorbed(op: Op, a: LatentAttention, r: Rewriter): void {
  const { b } = r;
  const [q, , , at] = op.operands;
  const tokens = (q.type as TensorType).dims[0];
  const keys = (a.latent.type as TensorType).dims[0];
  const { dtype } = q.type as TensorType;
  const heads = (a.weight.type as TensorType).dims[0];
  const rank = (a.weight.type as TensorType).dims[2];
  const slice = (what: string, start: number, stop: number): Value => {
    const type = tensor((a.weight.type as TensorType).dtype, [heads, dim(null, stop - start), rank]);
    const expression = deriveOp('slice', [{ parameter: a.weight.name }], { axis: 1, start, stop }, type);
    return b.derived(a.weight.name.replace(/(\.weight)?$/, `.${what}$1`), type, expression);
  };
  const up = slice('w_uk', 0, a.nope);
  const out = slice('w_uv', a.nope, a.nope + a.value);
  const nopeQuery = r.now(a.nopeQuery);
  const latent = r.now(a.latent);
  const absorbed = b.one(
    'einsum',
    [nopeQuery, up],
    { spec: 'thn,hnr->thr' },
    tensor(dtype, [tokens, heads, rank]),
    'q_absorbed',
  );
  const query = b.one('concat', [absorbed, r.now(a.ropeQuery)], { axis: 2 }, undefined, 'q_latent');
  const both = b.one('concat', [latent, r.now(a.ropeKey)], { axis: 1 }, undefined, 'k_latent');
  const asHead = (v: Value, width: Dim, hint: string): Value =>
    b.one('reshape', [v], {}, tensor(dtype, [keys, dim(null, 1), width]), hint);
  const key = asHead(both, dim(null, a.rank + a.rope), 'k_latent');
  const value = asHead(latent, rank, 'v_latent');
  const z = b.one('attention', [query, key, value, r.now(at)], op.attributes, undefined, 'z');
  const result = op.results[0];
  const o = b.one('einsum', [z, out], { spec: 'thr,hvr->thv' }, result.type, result.name);
  r.replace(result, o);
}
