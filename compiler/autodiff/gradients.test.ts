// Every gradient rule against finite differences in f64: one function of IR text for each way that an op is used.
import { expect, describe, test } from 'vitest';
import { FunctionBuilder, inferContext } from '../../ir/builder.ts';
import { gradientOf, hasGradient } from '../../ir/gradients/index.ts';
import { interpret, packedPositions } from '../../ir/interpret/index.ts';
import { noWeights, randomNumbers } from '../../ir/interpret/testing.ts';
import type { RuntimeValue, TensorData } from '../../ir/interpret/values.ts';
import { functionNamed, type Module, type Value } from '../../ir/module.ts';
import { opNames } from '../../ir/ops/index.ts';
import { parseModule } from '../../ir/text/index.ts';
import { verifyModule } from '../../ir/verify.ts';
import { Cotangents, dependents, ownDType, reverse } from './reverse.ts';

/** Sizes of run-time dims in the cases. */
const tokens = 5;

interface Case {
  /** Arguments and the body of an entry. */
  readonly text: string;
  /** Range of the random inputs; default −1 to 1. */
  readonly from?: number;
  readonly to?: number;
}

const unary = (op: string, type = 'f32[3, 4]'): string =>
  `(%x: ${type}) -> (${type}) {\n%y = ${op} %x : ${type}\nreturn %y\n}`;
const binary = (op: string, type = 'f32[3, 4]'): string =>
  `(%x: ${type}, %y: ${type}) -> (${type}) {\n%z = ${op} %x, %y : ${type}\nreturn %z\n}`;
const fn = (args: string, results: string, ...body: string[]): string =>
  `(${args}) -> (${results}) {\n${body.join('\n')}\n}`;

const at = '%at: positions[tokens, tokens, sequences, outputs]';
const routing = 'routing[tokens, experts=6, top=2, slots]';
const route = (attributes: string): string =>
  `%r = route %s {top = 2, groups = 3, top_groups = 2${attributes}} : ${routing}`;

const cases: Readonly<Record<string, readonly Case[]>> = {
  neg: [{ text: unary('neg') }],
  abs: [{ text: unary('abs') }],
  exp: [{ text: unary('exp') }],
  exp2: [{ text: unary('exp2') }],
  log: [{ text: unary('log'), from: 0.3, to: 3 }],
  log2: [{ text: unary('log2'), from: 0.3, to: 3 }],
  sqrt: [{ text: unary('sqrt'), from: 0.3, to: 3 }],
  rsqrt: [{ text: unary('rsqrt'), from: 0.3, to: 3 }],
  reciprocal: [{ text: unary('reciprocal'), from: 0.3, to: 3 }],
  sigmoid: [{ text: unary('sigmoid'), from: -4, to: 4 }],
  silu: [{ text: unary('silu'), from: -4, to: 4 }],
  tanh: [{ text: unary('tanh'), from: -2, to: 2 }],
  sin: [{ text: unary('sin'), from: -4, to: 4 }],
  cos: [{ text: unary('cos'), from: -4, to: 4 }],
  add: [{ text: binary('add') }],
  sub: [{ text: binary('sub') }],
  mul: [
    { text: binary('mul') },
    { text: fn('%x: f32[3]', 'f32[3]', '%y = mul %x, %x : f32[3]', 'return %y') },
  ],
  div: [{ text: binary('div'), from: 0.4, to: 2 }],
  min: [{ text: binary('min') }],
  max: [{ text: binary('max') }],
  pow: [{ text: binary('pow'), from: 0.4, to: 2 }],
  cast: [
    {
      text: fn(
        '%x: f32[3]',
        'f32[3]',
        '%y = cast %x : bf16[3]',
        '%z = mul %y, %y : bf16[3]',
        '%w = cast %z : f32[3]',
        'return %w',
      ),
    },
  ],
  select: [
    {
      text: fn(
        '%x: f32[3, 4], %y: f32[3, 4]',
        'f32[3, 4]',
        '%c = gt %x, %y : bool[3, 4]',
        '%z = select %c, %x, %y : f32[3, 4]',
        '%w = mul %z, %x : f32[3, 4]',
        'return %w',
      ),
    },
  ],
  broadcast: [
    { text: fn('%x: f32[3]', 'f32[2, 3, 4]', '%y = broadcast %x {axes = [1]} : f32[2, 3, 4]', 'return %y') },
    { text: fn('%x: f32[]', 'f32[2, 3]', '%y = broadcast %x {axes = []} : f32[2, 3]', 'return %y') },
    {
      text: fn(
        '%x: f32[tokens, 3]',
        'f32[2, tokens, 3]',
        '%y = broadcast %x {axes = [1, 2]} : f32[2, tokens, 3]',
        'return %y',
      ),
    },
  ],
  reshape: [
    {
      text: fn('%x: f32[tokens, 6]', 'f32[tokens, 2, 3]', '%y = reshape %x : f32[tokens, 2, 3]', 'return %y'),
    },
  ],
  transpose: [
    {
      text: fn(
        '%x: f32[2, 3, 4]',
        'f32[4, 2, 3]',
        '%y = transpose %x {order = [2, 0, 1]} : f32[4, 2, 3]',
        'return %y',
      ),
    },
  ],
  slice: [
    {
      text: fn(
        '%x: f32[3, 6]',
        'f32[3, 3]',
        '%y = slice %x {axis = 1, start = 2, stop = 5} : f32[3, 3]',
        'return %y',
      ),
    },
  ],
  split: [
    {
      text: fn(
        '%x: f32[3, 6]',
        'f32[3, 1], f32[3, 3]',
        '%a, %b, %c = split %x {axis = 1, sizes = [1, 2, 3]} : f32[3, 1], f32[3, 2], f32[3, 3]',
        'return %a, %c',
      ),
    },
  ],
  concat: [
    {
      text: fn(
        '%x: f32[3, 2], %y: f32[3, 4]',
        'f32[3, 8]',
        '%z = concat %x, %y, %x {axis = 1} : f32[3, 8]',
        'return %z',
      ),
    },
  ],
  pad: [
    {
      text: fn(
        '%x: f32[3, 2]',
        'f32[3, 7]',
        '%y = pad %x {axis = 1, before = 1, after = 4, value = 3} : f32[3, 7]',
        'return %y',
      ),
    },
  ],
  gather: [
    {
      text: fn(
        '%x: f32[4, 3]',
        'f32[5, 3]',
        '%i = const {values = [1, 3, 1, 0, 1]} : i32[5]',
        '%y = gather %x, %i : f32[5, 3]',
        'return %y',
      ),
    },
  ],
  scatter_add: [
    {
      text: fn(
        '%x: f32[5, 3]',
        'f32[4, 3]',
        '%i = const {values = [1, 3, 1, 0, 1]} : i32[5]',
        '%y = scatter_add %x, %i : f32[4, 3]',
        'return %y',
      ),
    },
  ],
  sum: [{ text: fn('%x: f32[2, 3, 4]', 'f32[3]', '%y = sum %x {axes = [0, 2]} : f32[3]', 'return %y') }],
  max_over: [{ text: fn('%x: f32[3, 4]', 'f32[3]', '%y = max_over %x {axes = [1]} : f32[3]', 'return %y') }],
  min_over: [{ text: fn('%x: f32[3, 4]', 'f32[4]', '%y = min_over %x {axes = [0]} : f32[4]', 'return %y') }],
  cumsum: [{ text: fn('%x: f32[3, 4]', 'f32[3, 4]', '%y = cumsum %x {axis = 0} : f32[3, 4]', 'return %y') }],
  top_k: [
    {
      text: fn('%x: f32[3, 6]', 'f32[3, 2]', '%y, %i = top_k %x {k = 2} : f32[3, 2], i32[3, 2]', 'return %y'),
    },
  ],
  matmul: [
    {
      text: fn(
        '%x: f32[tokens, 4], %w: f32[3, 4]',
        'f32[tokens, 3]',
        '%y = matmul %x, %w : f32[tokens, 3]',
        'return %y',
      ),
    },
    {
      text: fn(
        '%x: f32[tokens, 2, 3, 4], %w: f32[2, 5, 3, 4]',
        'f32[tokens, 2, 2, 5]',
        '%y = matmul %x, %w {contract = 2} : f32[tokens, 2, 2, 5]',
        'return %y',
      ),
    },
    { text: fn('%x: f32[4], %w: f32[3, 4]', 'f32[3]', '%y = matmul %x, %w : f32[3]', 'return %y') },
    {
      text: fn(
        '%x: f32[tokens, 4], %w: f32[4]',
        'f32[tokens]',
        '%y = matmul %x, %w : f32[tokens]',
        'return %y',
      ),
    },
  ],
  einsum: [
    {
      text: fn(
        '%x: f32[tokens, 3, 4], %y: f32[3, 4, 2]',
        'f32[tokens, 3, 2]',
        '%z = einsum %x, %y {spec = "thn,hnr->thr"} : f32[tokens, 3, 2]',
        'return %z',
      ),
    },
    // A letter that only one operand has, and one that both keep.
    {
      text: fn(
        '%x: f32[3, 4, 2], %y: f32[3, 5]',
        'f32[3, 5]',
        '%z = einsum %x, %y {spec = "abc,ad->ad"} : f32[3, 5]',
        'return %z',
      ),
    },
    {
      text: fn(
        '%x: f32[3], %y: f32[4]',
        'f32[4, 3]',
        '%z = einsum %x, %y {spec = "a,b->ba"} : f32[4, 3]',
        'return %z',
      ),
    },
  ],
  rms_norm: [
    {
      text: fn(
        '%x: f32[tokens, 6], %w: f32[6]',
        'f32[tokens, 6]',
        '%y = rms_norm %x, %w {epsilon = 0.01} : f32[tokens, 6]',
        'return %y',
      ),
    },
    {
      text: fn(
        '%x: f32[6], %w: f32[6]',
        'f32[6]',
        '%y = rms_norm %x, %w {epsilon = 0.01} : f32[6]',
        'return %y',
      ),
    },
  ],
  softmax: [
    { text: fn('%x: f32[3, 4]', 'f32[3, 4]', '%y = softmax %x {axis = 1} : f32[3, 4]', 'return %y') },
    { text: fn('%x: f32[3, 4]', 'f32[3, 4]', '%y = softmax %x {axis = 0} : f32[3, 4]', 'return %y') },
  ],
  silu_mul: [
    { text: binary('silu_mul') },
    {
      text: fn(
        '%x: f32[3, 4], %y: f32[3, 4], %w: f32[3]',
        'f32[3, 4]',
        '%z = silu_mul %x, %y, %w : f32[3, 4]',
        'return %z',
      ),
    },
  ],
  rope: [
    {
      text: fn(
        `%x: f32[tokens, 2, 4], ${at}`,
        'f32[tokens, 2, 4]',
        '%y = rope %x, %at {frequencies = [1, 0.3], scale = 1.2} : f32[tokens, 2, 4]',
        'return %y',
      ),
    },
  ],
  attention: [1, 2, 4].map((groups) => ({
    text: fn(
      `%q: f32[tokens, 4, 3], %k: f32[tokens, ${groups}, 3], %v: f32[tokens, ${groups}, 2], ${at}`,
      'f32[tokens, 4, 2]',
      `%y = attention %q, %k, %v, %at {scale = 0.7${groups === 2 ? ', window = 2' : ''}} : f32[tokens, 4, 2]`,
      'return %y',
    ),
  })),
  route: ['', ', scale = 2.5', ', normalize = false, scale = 1.5'].map((attributes) => ({
    text: fn(
      '%s: f32[tokens, experts=6]',
      'f32[tokens, 2]',
      route(attributes),
      '%y = routing_field %r {field = weights} : f32[tokens, 2]',
      'return %y',
    ),
    from: 0.1,
    to: 1,
  })),
  cross_entropy: [
    {
      text: fn(
        '%x: f32[4, 6]',
        'f32[4]',
        '%t = const {values = [5, 0, -1, 2]} : i32[4]',
        '%y = cross_entropy %x, %t : f32[4]',
        'return %y',
      ),
    },
  ],
  routing_field: [
    {
      text: fn(
        '%s: f32[tokens, experts=6]',
        'f32[slots]',
        route(''),
        '%y = routing_field %r {field = slot_weights} : f32[slots]',
        'return %y',
      ),
      from: 0.1,
      to: 1,
    },
  ],
  group_tokens: [
    {
      text: fn(
        '%s: f32[tokens, experts=6], %x: f32[tokens, 3]',
        'f32[slots, 3]',
        route(''),
        '%y = group_tokens %x, %r : f32[slots, 3]',
        'return %y',
      ),
    },
  ],
  combine_tokens: [
    {
      text: fn(
        '%s: f32[tokens, experts=6], %x: f32[tokens, 3]',
        'f32[tokens, 3]',
        route(''),
        '%g = group_tokens %x, %r : f32[slots, 3]',
        '%h = mul %g, %g : f32[slots, 3]',
        '%y = combine_tokens %h, %r : f32[tokens, 3]',
        'return %y',
      ),
    },
  ],
  gather_choices: [
    {
      text: fn(
        '%s: f32[tokens, experts=6], %x: f32[tokens, experts=6]',
        'f32[tokens, 2]',
        route(''),
        '%y = gather_choices %x, %r : f32[tokens, 2]',
        'return %y',
      ),
    },
  ],
  scatter_choices: [
    {
      text: fn(
        '%s: f32[tokens, experts=6], %x: f32[tokens, 2]',
        'f32[tokens, experts=6]',
        route(''),
        '%y = scatter_choices %x, %r : f32[tokens, experts=6]',
        'return %y',
      ),
    },
  ],
  group_choices: [
    {
      text: fn(
        '%s: f32[tokens, experts=6], %x: f32[tokens, 2]',
        'f32[slots]',
        route(''),
        '%y = group_choices %x, %r : f32[slots]',
        'return %y',
      ),
    },
  ],
  ungroup_choices: [
    {
      text: fn(
        '%s: f32[tokens, experts=6], %x: f32[tokens, 2]',
        'f32[tokens, 2]',
        route(''),
        '%g = group_choices %x, %r : f32[slots]',
        '%y = ungroup_choices %g, %r : f32[tokens, 2]',
        'return %y',
      ),
    },
  ],
  grouped_matmul: [
    {
      text: fn(
        '%s: f32[tokens, experts=6], %x: f32[tokens, 3], %w: f32[experts=6, 4, 3]',
        'f32[tokens, 4]',
        route(''),
        '%g = group_tokens %x, %r : f32[slots, 3]',
        '%h = grouped_matmul %g, %w, %r : f32[slots, 4]',
        '%y = combine_tokens %h, %r : f32[tokens, 4]',
        'return %y',
      ),
    },
  ],
  grouped_wgrad: [
    {
      text: fn(
        '%s: f32[tokens, experts=6], %x: f32[tokens, 3], %d: f32[tokens, 4]',
        'f32[experts=6, 4, 3]',
        route(''),
        '%g = group_tokens %x, %r : f32[slots, 3]',
        '%h = group_tokens %d, %r : f32[slots, 4]',
        '%y = grouped_wgrad %h, %g, %r : f32[experts=6, 4, 3]',
        'return %y',
      ),
    },
  ],
  remember: [
    {
      text: fn(
        `inout %c: state cache, ${at}, %x: f32[tokens, 3]`,
        'f32[tokens, 3]',
        '%c.1, %y = remember %c, %at, %x : state cache, f32[tokens, 3]',
        '%z = mul %y, %y : f32[tokens, 3]',
        'return %z; %c.1',
      ),
    },
  ],
};

function moduleOf(text: string): Module {
  const lines = text
    .split('\n')
    .map((l, i, all) => (i === 0 || i === all.length - 1 ? `  ${l}` : `    ${l}`));
  const head = [
    'dsir 1',
    'module @test {',
    '  dim tokens <= 64',
    '  dim sequences <= 8',
    '  dim outputs <= 64',
    '  dim cached <= 256',
    '  dim slots = ragged(tokens * 2, groups = 6, align = 4) <= 146',
    '  state cache paged(64) { field: f32[cached, 3] }',
    '',
  ];
  const { module, diagnostics } = parseModule(
    [...head, `  entry @f${lines[0].trim()}`, ...lines.slice(1), '}', ''].join('\n'),
    'case.dsir',
  );
  if (!module) throw new Error(diagnostics.map((d) => d.message).join('\n'));
  return module;
}

/** The module with `@gradients`: f's arguments and its results' gradients in, its float arguments' gradients out. */
function withGradients(module: Module): Module {
  const f = functionNamed(module, 'f');
  const b = FunctionBuilder.rewriting(inferContext(module), f);
  for (const op of f.body) b.append(op);
  const cotangents = new Cotangents(b, ownDType);
  for (const r of f.results) cotangents.add(r, b.argument(`d_${r.name}`, r.type));
  const wanted = f.arguments.map((a) => a.value).filter(hasGradient);
  reverse(b, f.body, cotangents, dependents(f.body, wanted));
  const results = wanted.map((v): Value => {
    const d = cotangents.get(v);
    if (d) return d;
    return b.one('const', [], { value: 0 }, v.type);
  });
  const g = b.finish({ kind: 'entry', name: 'gradients', results, finals: f.finals });
  return { ...module, functions: [f, g] };
}

const emptyCache = (): RuntimeValue => ({
  kind: 'state',
  layers: [
    {
      fields: {
        field: { kind: 'tensor', dtype: 'f32', shape: [128, 3], data: new Float64Array(384), scales: [] },
      },
    },
  ],
});

/** The largest error of a gradient by finite differences, relative to the largest gradient (or 1). */
function errorOf({ text, from = -1, to = 1 }: Case): number {
  const module = withGradients(moduleOf(text));
  expect(verifyModule(module)).toEqual([]);
  const f = functionNamed(module, 'f');
  const next = randomNumbers(7);
  const random = (shape: readonly number[]): TensorData => ({
    kind: 'tensor',
    dtype: 'f32',
    shape,
    data: Float64Array.from(
      { length: shape.reduce((n, s) => n * s, 1) },
      () => from + ((next() + 1) / 2) * (to - from),
    ),
    scales: [],
  });
  const shapeOf = (v: Value): number[] =>
    (v.type.kind === 'tensor' ? v.type.dims : []).map((d) => d.size ?? tokens);
  const inputs = f.arguments.map(({ value }): RuntimeValue => {
    if (value.type.kind === 'positions') return packedPositions([3, 2]);
    if (value.type.kind === 'state') return emptyCache();
    return random(shapeOf(value));
  });
  const fresh = (): RuntimeValue[] => inputs.map((v) => (v.kind === 'state' ? emptyCache() : v));
  const run = (name: string, values: readonly RuntimeValue[]): readonly TensorData[] =>
    interpret(module, name, values, noWeights, { numerics: 'f64' }).results as readonly TensorData[];
  const weights = run('f', fresh()).map((r) => random(r.shape));
  const gradients = run('gradients', [...fresh(), ...weights]);
  const loss = (values: readonly RuntimeValue[]): number =>
    run('f', values).reduce(
      (sum, r, k) => sum + r.data.reduce((s, x, i) => s + x * weights[k].data[i], 0),
      0,
    );
  const scale = Math.max(1, ...gradients.flatMap((g) => [...g.data].map(Math.abs)));
  let worst = 0;
  let g = 0;
  for (const [n, { value }] of f.arguments.entries()) {
    if (!hasGradient(value)) continue;
    const { data } = inputs[n] as TensorData;
    for (let i = 0; i < data.length; i++) {
      const step = 1e-5;
      const moved = (by: number): number => {
        const copy = data.slice();
        copy[i] += by;
        const values = fresh();
        values[n] = { ...(inputs[n] as TensorData), data: copy };
        return loss(values);
      };
      const slope = (moved(step) - moved(-step)) / (2 * step);
      worst = Math.max(worst, Math.abs(slope - gradients[g].data[i]) / scale);
    }
    g++;
  }
  return worst;
}

test('every op with a rule has a case', () => {
  const ruled = opNames().filter((name) => gradientOf(name).kind === 'rule');
  expect(Object.keys(cases).sort()).toEqual([...ruled].sort());
});

describe('against finite differences', () => {
  const all = Object.entries(cases).flatMap(([op, list]) =>
    list.map((c, i): [string, Case] => [`${op} ${i}`, c]),
  );
  test.each(all)('%s', (_name, c) => {
    expect(errorOf(c)).toBeLessThan(1e-7);
  });
});
