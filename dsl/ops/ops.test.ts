// Every op of the IR can be reached from a model file, and says what the author wrote.
import { expect, test } from 'vitest';
import { opNames } from '../../ir/ops/index.ts';
import { verifyModule } from '../../ir/verify.ts';
import { around, fromText, layerOf } from '../testing.ts';

/** Statements of a block over x: f32[tokens, hidden=64], and the IR lines that they become. */
const cases: readonly (readonly [name: string, body: string, lines: readonly string[]])[] = [
  [
    'unary ops keep type and take the variable name',
    'const y = tanh(neg(x));\n return y;',
    ['%neg = neg %x : f32[tokens, hidden=64]', '%y = tanh %neg : f32[tokens, hidden=64]'],
  ],
  [
    'the other unary ops',
    'return floor(cos(sin(silu(sigmoid(reciprocal(rsqrt(sqrt(log2(log(exp2(exp(abs(x)))))))))))));',
    'abs exp exp2 log log2 sqrt rsqrt reciprocal sigmoid silu sin cos floor'
      .split(' ')
      .map((op) => `%${op} = ${op} %`),
  ],
  [
    'numbers become constants of the other operand',
    'return pow(div(sub(x, 1), 2), 2);',
    [
      '%const = const {value = 1} : f32[tokens, hidden=64]',
      '%sub = sub %x, %const',
      '%div = div %sub, %const.1',
      '%pow = pow %div, %const.2',
    ],
  ],
  [
    'missing axes are repeated, on either side',
    `const w = parameter('w', [hidden]); return mul(w, mul(x, w));`,
    [
      '%broadcast = broadcast param "w" {axes = [1]} : f32[tokens, hidden=64]',
      '%mul = mul %x, %broadcast',
      '%mul.1 = mul %broadcast.1, %mul',
    ],
  ],
  [
    "axes in another order are brought into the left operand's",
    'return add(x, transpose(x, [hidden, tokens]));',
    [
      '%transpose = transpose %x {order = [1, 0]} : f32[hidden=64, tokens]',
      '%transpose.1 = transpose %transpose {order = [1, 0]}',
      '%add = add %x, %transpose.1',
    ],
  ],
  [
    'comparisons, logic and choice',
    'const c = and(or(lt(x, 1), ge(x, 2)), not(eq(x, 3))); const d = and(ne(x, 1), and(le(x, 2), gt(x, 0)));\n return select(or(c, d), x, 0);',
    [
      'lt %x',
      'ge %x',
      'eq %x',
      'ne %x',
      'le %x',
      'gt %x',
      'not %eq : bool[tokens, hidden=64]',
      '%c = and',
      '%select = select %or.1, %x, %const.6',
    ],
  ],
  [
    'the smaller and the larger',
    'return min(max(x, 0), 6);',
    ['%max = max %x, %const', '%min = min %max, %const.1'],
  ],
  [
    'casts, and none where there is nothing to do',
    `return cast(cast(cast(x, 'f32'), 'bf16'), 'activation');`,
    ['%cast = cast %x : bf16[tokens, hidden=64]', '%cast.1 = cast %cast : f32[tokens, hidden=64]'],
  ],
  [
    'constants, tables and counters',
    `const t = table([1, 2, 3, 4], [heads], 'f32'); const i = cast(iota(heads), 'f32'); const c = constant(2, [heads]);\n return mul(x, sumOver(mul(mul(t, i), c), heads));`,
    [
      '%t = const {values = [1, 2, 3, 4]} : f32[heads=4]',
      '%iota = iota {axis = 0} : i32[heads=4]',
      '%c = const {value = 2} : f32[heads=4]',
      '%sum = sum %mul.1 {axes = [0]} : f32[]',
      '%broadcast = broadcast %sum {axes = []}',
    ],
  ],
  [
    'reductions',
    'return add(x, add(add(sumOver(x, hidden), meanOver(x, hidden)), add(maxOver(x, hidden), minOver(x, hidden))));',
    [
      'sum %x {axes = [1]} : f32[tokens]',
      'const {value = 0.015625} : f32[tokens]',
      'max_over %x {axes = [1]}',
      'min_over %x {axes = [1]}',
    ],
  ],
  [
    'along an axis',
    'return softmax(cumsum(x, hidden), hidden);',
    ['%cumsum = cumsum %x {axis = 1}', '%softmax = softmax %cumsum {axis = 1}'],
  ],
  [
    'the largest and their places',
    `const k = dim('k', 2);\n const { values: best, indices: where } = topK(transpose(x, [hidden, tokens]), hidden, k);\n return mul(x, mul(sumOver(best, k), mul(cast(sumOver(where, k), 'f32'), cast(argmax(x, hidden), 'f32'))));`,
    [
      '%best, %where = top_k %transpose.1 {k = 2} : f32[tokens, k=2], i32[tokens, k=2]',
      'argmax %x {axis = 1} : i32[tokens]',
    ],
  ],
  [
    'cutting and joining',
    `const a = dim('a', 24), b = dim('b', 40), ab = sum('ab', a, b);\n const [p, q] = split(rename(x, hidden, ab), ab);\n return rename(concat([p, q], ab), ab, hidden);`,
    [
      '%p, %q = split %x {axis = 1, sizes = [24, 40]} : f32[tokens, a=24], f32[tokens, b=40]',
      '%concat = concat %p, %q {axis = 1} : f32[tokens, ab=64]',
    ],
  ],
  [
    'parts and padding',
    `const a = dim('a', 24);\n return pad(slice(x, hidden, a, 8), a, hidden, { before: 8, value: 1 });`,
    [
      'slice %x {axis = 1, start = 8, stop = 32} : f32[tokens, a=24]',
      'pad %slice {axis = 1, before = 8, after = 32, value = 1} : f32[tokens, hidden=64]',
    ],
  ],
  [
    'merging and taking apart',
    `const hl = product('heads*length', heads, length);\n const y = unmerge(rename(x, hidden, hl), hl);\n return rename(merge(y, hl), hl, hidden);`,
    ['%y = reshape %x : f32[tokens, heads=4, length=16]', 'reshape %y : f32[tokens, heads*length=64]'],
  ],
  [
    'rows by index',
    `return gather(parameter('rows', [vocab, hidden]), positionOf(at));`,
    [
      '%position = position_field %at {field = position} : i32[tokens]',
      'gather param "rows", %position : f32[tokens, hidden=64]',
    ],
  ],
  [
    'where tokens stand',
    `const s = cast(sequenceOf(at), 'f32'); const o = cast(outputsOf(at), 'f32');\n return add(x, add(s, sumOver(o, outputs)));`,
    [
      'position_field %at {field = sequence} : i32[tokens]',
      'position_field %at {field = outputs} : i32[outputs]',
    ],
  ],
  [
    'einsum by names, written-out attention',
    `const q = linear(x, [heads, length], 'q');
 const seen = remember(cache, { k: q, v: q }, at);
 const scores = einsum(q, seen.k, [heads, tokens, keys], { dtype: 'f32' });
 const p = softmax(select(visible(at, { window: 8 }), scores, -Infinity), keys);
 return linear(einsum(p, seen.v, [tokens, heads, length]), hidden, 'o', { over: [heads, length] });`,
    [
      '%cache.1, %k_seen, %v_seen = remember %cache, %at, %q, %q : state rows, f32[keys, heads=4, length=16]',
      '%scores = einsum %q, %k_seen {spec = "thl,khl->htk"} : f32[heads=4, tokens, keys]',
      '%visible = visible %at {window = 8} : bool[tokens, keys]',
      '%broadcast = broadcast %visible {axes = [1, 2]} : bool[heads=4, tokens, keys]',
      '%p = softmax %select {axis = 2}',
      'einsum %p, %v_seen {spec = "htk,khl->thl"} : f32[tokens, heads=4, length=16]',
      'matmul %einsum, param "o.weight" {contract = 2} : f32[tokens, hidden=64]',
    ],
  ],
  [
    'attention as one op, with one key head for all',
    `const q = linear(x, [heads, length], 'q'); const kv = linear(x, length, 'kv');
 const seen = remember(cache, { k: q, v: q }, at); const one = dim('one', 1);
 const shared = meanOver(seen.k, heads);
 const o = attention({ q: rope(q, at, { theta: 100 }), k: shared, v: shared, at, window: 4, causal: false });
 return linear(o, hidden, 'o', { over: [heads, length] });`,
    [
      '%q.1 = rope %q, %at {frequencies = [1, ',
      'reshape %shared : f32[keys, one=1, length=16]',
      '%o = attention %q.1, %reshape, %reshape.1, %at {scale = 0.25, causal = false, window = 4} : f32[tokens, heads=4, length=16]',
    ],
  ],
  [
    'linear with a bias and a wider result',
    `return cast(linear(rmsNorm(x, 'norm', { epsilon: 0.001 }), hidden, 'proj', { bias: true }), 'activation');`,
    [
      'param "proj.bias": f32[hidden=64] stored [64]',
      '%norm = rms_norm %x, param "norm.weight" {epsilon = 0.001}',
      '%add = add %proj, %broadcast',
    ],
  ],
  [
    'experts',
    `const r = route(sigmoid(linear(x, experts, 'gate', { dtype: 'f32' })), { top: 2, groups: 4, topGroups: 2, groupScore: 'max', normalize: false, bias: buffer('bias', [experts]) });
 const rows = groupTokens(x, r);
 const up = groupedLinear(rows, r, ff, 'experts.{experts}.up');
 const y = combineTokens(groupedLinear(siluMul(up, up, slotWeights(r)), r, hidden, 'experts.{experts}.down'), r);
 return add(y, mul(sumOver(routingWeights(r), dim('top', 2)), cast(sumOver(routingIndices(r), dim('top', 2)), 'f32')));`,
    [
      'buffer "bias": f32[experts=8] stored [8]',
      'param "experts.{experts}.up.weight": f32[experts=8, ff=128, hidden=64] stored [128, 64]',
      '%r = route %sigmoid, buffer "bias" {top = 2, groups = 4, top_groups = 2, group_score = max, normalize = false} : routing[tokens, experts=8, top=2, slots@experts]',
      '%rows = group_tokens %x, %r : f32[slots@experts, hidden=64]',
      '%up = grouped_matmul %rows, param "experts.{experts}.up.weight", %r : f32[slots@experts, ff=128]',
      '%slot_weights = routing_field %r {field = slot_weights} : f32[slots@experts]',
      'silu_mul %up, %up, %slot_weights',
      '%y = combine_tokens %down, %r : f32[tokens, hidden=64]',
      'routing_field %r {field = weights} : f32[tokens, top=2]',
      'routing_field %r {field = indices} : i32[tokens, top=2]',
    ],
  ],
  [
    'caches by hand',
    `const q = linear(x, [heads, length], 'q');\n cacheAppend(cache, { k: q, v: q }, at);\n const k = cacheRead(cache, 'k');\n return add(x, sumOver(sumOver(sumOver(k, cached), heads), length));`,
    [
      '%cache.1 = cache_append %cache, %at, %q, %q : state rows',
      '%k = cache_read %cache.1 {field = k} : f32[cached, heads=4, length=16]',
    ],
  ],
  [
    "a recipe of one's own",
    `return dequantize(quantize(x, { tile: [1, 32], scale: 'pow2', floor: 0 }));`,
    [
      '%quantize = quantize %x {floor = 0} : f8e4m3<1x32; pow2>[tokens, hidden=64]',
      '%dequantize = dequantize %quantize : f32[tokens, hidden=64]',
    ],
  ],
];

const reached = new Set<string>(['call', 'repeat']);

test.each(cases)('%s', async (_, body, lines) => {
  const { module } = await fromText(around(body), { precision: 'f32' });
  expect(verifyModule(module)).toEqual([]);
  for (const f of module.functions) for (const op of f.body) reached.add(op.op);
  const text = await layerOf(body);
  for (const line of lines) expect(text).toContain(line);
});

test('every op of the IR is reached', () => {
  // What only passes make: kernels, ops fused with quantisation, and ops of backward passes.
  const made = [
    ...['launch', 'rms_norm_quantize', 'silu_mul_quantize', 'scatter_add', 'grouped_wgrad'],
    ...['gather_choices', 'scatter_choices', 'group_choices', 'ungroup_choices', 'attention_gradient'],
    ...['cross_entropy', 'cross_entropy_gradient'],
  ];
  expect(opNames().filter((op) => !reached.has(op) && !made.includes(op))).toEqual([]);
});
