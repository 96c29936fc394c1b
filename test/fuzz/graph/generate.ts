// Random well-typed modules: an entry with a random graph over random shapes, sometimes a block that it calls or repeats.
// The module's attributes hold all that a run needs: its text replays it.
import { inferencePasses } from '../../../compiler/pipeline.ts';
import { FunctionBuilder, inferContext } from '../../../ir/builder.ts';
import type { Function, Module, Value } from '../../../ir/module.ts';
import { OpProblem } from '../../../ir/ops/define.ts';
import type { OpName } from '../../../ir/ops/index.ts';
import { dim, dimsOf, tensor } from '../../../ir/types.ts';
import { Choices } from '../random.ts';
import { bounds, Drawing, positionsType, type TensorValue } from './drawing.ts';
import type { Maker } from './maker.ts';
import { isResult, madeOps, makers } from './makers.ts';

/** Rows of a group of experts begin at multiples of this; the GEMM kernels want 128. */
const alignments = [128, 16] as const;

const optional = inferencePasses().flatMap((p) => (p.required ? [] : [p.name]));

/** The module of a seed. Its precision decides which passes have something to do. */
export function randomModule(seed: number): Module {
  const c = new Choices(seed);
  const precision = c.pick(['f32', 'bf16', 'fp8'] as const);
  const dtype = precision === 'f32' ? 'f32' : 'bf16';
  const align = c.pick(alignments);
  const ragged = { of: 'tokens', per: 2, groups: 8, align };
  const bound = bounds.tokens * 2 + 8 * (align - 1);
  const functions: Function[] = [];
  const module: Module = {
    name: 'fuzz',
    attributes: {
      ...{
        precision,
        target: 'h800',
        seed,
        tokens: c.pick([1, 2, 5, 13, 33, 48]),
        rows: 1 + c.below(bounds.rows),
      },
      // A pass that is off makes other kernels.
      ...(c.chance(0.2) ? { without: c.pick(optional) } : {}),
    },
    dims: [
      ...(['tokens', 'rows', 'sequences', 'outputs', 'cached'] as const).map((name) => ({
        name,
        bound: bounds[name],
      })),
      { name: 'slots', bound, ragged },
    ],
    states: [
      {
        ...{ name: 'cache', policy: 'paged', page: 16 },
        fields: [
          { name: 'a', type: tensor(dtype, [dim('cached'), dim(null, 4)]) },
          { name: 'b', type: tensor('f32', [dim('cached'), dim(null, 6)]) },
        ],
      },
    ],
    functions,
    schedules: [],
  };
  const block = c.chance(0.3) ? blockOf(module, c, dtype) : null;
  if (block) functions.push(block);
  functions.push(entryOf(module, c, dtype, block));
  return module;
}

/** Ops that kernels are made around: drawn oftener than their share of the table. */
const heavy: readonly OpName[] = [
  ...([
    'matmul',
    'matmul',
    'matmul',
    'einsum',
    'grouped_matmul',
    'grouped_matmul',
    'combine_tokens',
  ] as const),
  ...([
    'sum',
    'rms_norm',
    'softmax',
    'quantize',
    'dequantize',
    'attention',
    'rope',
    'gather',
    'concat',
  ] as const),
  ...([
    'transpose',
    'reshape',
    'broadcast',
    'silu_mul',
    'cast',
    'select',
    'cumsum',
    'top_k',
    'remember',
  ] as const),
];

/** Ops by turns: some are drawn often in one module, so that they meet each other. */
function grow(d: Drawing, count: number): void {
  const favourites = Array.from({ length: 4 }, () => d.c.pick(madeOps));
  for (let n = 0; n < count; n++) {
    const name = d.c.pick(d.c.pick([favourites, heavy, madeOps, madeOps]));
    try {
      (makers[name as keyof typeof makers] as Maker)(d);
    } catch (error) {
      // A combination that the op refuses: what was made for it stays.
      if (!(error instanceof OpProblem)) throw error;
    }
  }
}

/** A block from one tensor to another of its type, with weights of its own. */
function blockOf(module: Module, c: Choices, dtype: 'f32' | 'bf16'): Function {
  const b = new FunctionBuilder(inferContext(module));
  const d = new Drawing(c, b, 'block', dtype);
  // The only one: what else a block needs is a weight or a constant.
  const x = d.argument(tensor(dtype, [dim('tokens'), dim(null, c.pick([8, 16, 128, 33]))]));
  grow(d, 1 + c.below(5));
  const last =
    d.find(
      (t) => t.dims.length === 2 && t.dims[0].name === 'tokens' && t.dims[1].size === x.type.dims[1].size,
    ) ?? x;
  const result = d.one('tanh', [
    d.like(x.type) === x ? d.cast(x, dtype) : d.cast(last.type.scales.length > 0 ? x : last, dtype),
  ]);
  return b.finish({ kind: 'block', name: 'layer', results: [result] });
}

/** Every run-time dim that only constants have gets an argument: a host must know its size. */
function tellSizes(d: Drawing): void {
  const told = new Set(
    d.b
      .finish({ kind: 'entry', name: '', results: [] })
      .arguments.flatMap((a) => dimsOf(a.value.type))
      .map((x) => x.name),
  );
  for (const name of ['tokens', 'rows'])
    if (!told.has(name) && d.pool.some((v) => v.type.dims.some((x) => x.name === name && x.size === null)))
      d.argument(tensor('i32', [dim(name)]));
}

/** Values that depend on an argument or a weight. */
function dependent(b: FunctionBuilder): ReadonlySet<Value> {
  const found = new Set<Value>();
  for (const op of b.finish({ kind: 'entry', name: '', results: [] }).body)
    if (op.operands.some((v) => v.source !== 'result' || found.has(v)))
      op.results.forEach((r) => found.add(r));
  return found;
}

function entryOf(module: Module, c: Choices, dtype: 'f32' | 'bf16', block: Function | null): Function {
  const b = new FunctionBuilder(inferContext(module));
  const d = new Drawing(c, b, 'entry', dtype);
  const paged = c.chance(0.3);
  if (paged || c.chance(0.4)) d.at = b.argument('at', positionsType(paged));
  // A paged cache tells how many rows there are for the positions to look at.
  const cache =
    paged || (d.at && c.chance(0.6))
      ? b.argument('cache', { kind: 'state', state: 'cache', count: null }, true)
      : null;
  d.cache = cache;
  const before = 1 + c.below(c.chance(0.3) ? 20 : 9);
  grow(d, before);
  if (block) {
    const x = d.like(block.arguments[0].value.type as TensorValue['type']);
    if (c.chance(0.5)) d.one('call', [x], { callee: block.name, prefix: 'once.' }, null, 1);
    else {
      const start = c.below(2);
      const layers = { start, stop: start + 1 + c.below(3), prefix: 'layers.{i}.', modes: ['carry'] };
      d.one('repeat', [x], { callee: block.name, ...layers }, null, 1);
    }
    grow(d, c.below(4));
  }
  if (d.pool.every((v) => !isResult(v))) d.one('neg', [d.float()]);
  tellSizes(d);
  const given = dependent(b);
  // Rows by expert that hang on no routing have no size: nobody makes constants of them.
  const made = d.pool
    .filter(isResult)
    .filter((v) => given.has(v) || v.type.dims.every((x) => x.name !== 'slots' || x.size !== null));
  const results = made.filter((v) => c.chance(v === made.at(-1) ? 1 : 0.35)).slice(-5);
  const finals: Value[] = cache ? [d.cache!] : [];
  return b.finish({ kind: 'entry', name: 'main', results, finals });
}
