// What authors' mistakes look like. The text is part of the product: read the difference before accepting one.
import { describe, expect, test } from 'vitest';
import { around, complaints, diagnosticsOf, type FromText } from './testing.ts';

const inLayer: [name: string, body: string, before?: string][] = [
  ['axes that differ', `  return add(x, linear(x, ff, 'up'));`],
  ['an axis that is not there', `  return mul(x, sumOver(x, heads));`],
  ['a misspelt axis', `  return mul(x, sumOver(x, dim('hiden', 64)));`],
  ['one name with two sizes', `  return softmax(x, { ...hidden, size: 32 });`],
  ['dtypes that differ', `  return mul(x, cast(x, 'f16'));`],
  ['a dtype that does not exist', `  return cast(x, 'b16');`],
  ['an axis twice', `  return sumOver(linear(x, tokens, 'twice'), tokens);`],
  ['no tensor', `  return add(x, mul(x, undefined));`],
  ['an operator on a tensor', `  return mul(x, x * 2);`],
  ['a sum with an operator', `  return rmsNorm(x + x, 'norm');`],
  ['a comparison of a tensor', `  if (x > 0) return neg(x);\n  return x;`],
  ['an operator on a cache', `  return mul(x, cache * 2);`],
  [
    'an operator on a dim',
    `  return add(x, sumOver(linear(x, half, 'up'), half));`,
    `const half = dim('half', hidden / 2);`,
  ],
  ['a constant that is NaN', `  return mul(x, Number('two'));`],
  ['a table with a NaN', `  return mul(x, table([1, NaN], [dim('two', 2)]));`],
  ['no dim', `  return linear(x, 64, 'q');`],
  [
    'rows that attention does not look along',
    `  const q = linear(x, [heads, length], 'q');\n  attention({ q, k: q, v: q, at });\n  return x;`,
  ],
  [
    'heads that do not divide',
    `  const q = linear(x, [heads, length], 'q');\n  const seen = remember(cache, { k: q, v: q }, at);\n  attention({ q: linear(x, [dim('five', 5), length], 'p'), k: seen.k, v: seen.v, at });\n  return x;`,
  ],
  ['an odd rotation', `  rope(linear(x, dim('odd', 7), 'r'), at);\n  return x;`],
  [
    'a field that the cache lacks',
    `  const q = linear(x, [heads, length], 'q');\n  remember(cache, { k: q, w: q }, at);\n  return x;`,
  ],
  [
    'a field that is missing',
    `  const q = linear(x, [heads, length], 'q');\n  remember(cache, { k: q }, at);\n  return x;`,
  ],
  [
    'rows read before a second update of their cache',
    `  const q = linear(x, [heads, length], 'q');
  const first = remember(cache, { k: q, v: q }, at);
  const p = linear(x, [heads, length], 'p');
  const second = remember(cache, { k: p, v: p }, at);
  return add(x, linear(attention({ q, k: first.k, v: second.v, at }), hidden, 'o', { from: [heads, length] }));`,
  ],
  [
    'rows of a cache that a block updates later',
    `  const seen = inner(x, at, cache);
  inner(x, at, cache);
  attention({ q: linear(x, [heads, length], 'p'), k: seen.k, v: seen.v, at });
  return x;`,
    `const inner = block('inner', (x: Tensor<['tokens', 'hidden']>, at: Positions, cache: Cache<typeof rows>) => {
  const q = linear(x, [heads, length], 'q');
  return remember(cache, { k: q, v: q }, at);
});`,
  ],
  [
    'rows returned after an update of their cache',
    `  inner(x, at, cache);
  return x;`,
    `const inner = block('inner', (x: Tensor<['tokens', 'hidden']>, at: Positions, cache: Cache<typeof rows>) => {
  const q = linear(x, [heads, length], 'q');
  const seen = cacheRead(cache, 'k');
  cacheAppend(cache, { k: q, v: q }, at);
  return seen;
});`,
  ],
  ['scores in bf16', `  route(sigmoid(linear(x, experts, 'gate')), { top: 2 });\n  return x;`],
  [
    'more experts than there are',
    `  route(linear(x, experts, 'gate', { dtype: 'f32' }), { top: 9 });\n  return x;`,
  ],
  [
    'groups that do not divide the experts',
    `  route(linear(x, experts, 'gate', { dtype: 'f32' }), { top: 2, groups: 3 });\n  return x;`,
  ],
  [
    'too few open groups',
    `  route(linear(x, experts, 'gate', { dtype: 'f32' }), { top: 4, groups: 8, topGroups: 2 });\n  return x;`,
  ],
  [
    'two routings in one block',
    `  const s = linear(x, experts, 'gate', { dtype: 'f32' });\n  route(s, { top: 2 });\n  route(s, { top: 2 });\n  return x;`,
  ],
  [
    'experts without their place in the name',
    `  const r = route(linear(x, experts, 'gate', { dtype: 'f32' }), { top: 2 });\n  groupedLinear(groupTokens(x, r), r, ff, 'up');\n  return x;`,
  ],
  ['a name that no checkpoint has', `  return linear(x, hidden, 'q proj');`],
  ['one name for two weights', `  return add(linear(x, hidden, 'w'), sumOver(linear(x, ff, 'w'), ff));`],
  ['a run-time axis renamed', `  return rename(x, tokens, keys);`],
  [
    'prefixes that no checkpoint has',
    `  return inner.at('a b')(x);`,
    `const inner = block('inner', (y) => y, { prefix: 'mlp' });\nrange(0, 2, { prefix: 'layer {n}.' });`,
  ],
  ['a sum that is none', `  const [a] = split(x, hidden);\n  return x;`],
  [
    'a cut outside of the axis',
    `  return add(x, sumOver(slice(x, hidden, dim('part', 32), 40), dim('part', 32)));`,
  ],
  ['a window that is none', `  visible(at, { window: -1 });\n  return x;`],
  [
    'a value of another block',
    `  kept = x;\n  return inner(x);`,
    `let kept;\nconst inner = block('inner', (y: Tensor<['tokens', 'hidden']>) => add(y, kept));`,
  ],
  ['a layer that changes its carry', `  return linear(x, ff, 'up');`],
  ['a layer that returns nothing', `  linear(x, ff, 'up');`],
  ['a layer with a cache that returns a number', `  return 3;`],
  ['code that throws', `  const options = undefined;\n  return options.hidden;`],
  ['an expression over several lines', `  return add(\n    x,\n    linear(x, ff, 'up'),\n  );`],
  ['an op that a helper calls', `  return helper(x);`, `const helper = (y) => sumOver(y, heads);`],
  ['a library layer', `  return deepseekMoe(x, { experts, top: 3, groups: 4, topGroups: 1, ff });`],
];

describe('in a layer', () => {
  test.each(inLayer)('%s', async (_, body, before) => {
    const said = await complaints(around(body, before));
    expect(said).not.toBe('');
    expect(said).toMatchSnapshot();
  });
});

const files: [name: string, text: string, options?: FromText][] = [
  ['an empty file', ''],
  ['a default export that is no model', 'export default 3;'],
  [
    'a model that is not the default',
    `import { model } from 'dsvc';\nexport const m = model('a', { forward: (ids) => ids });`,
  ],
  [
    'a misspelt import',
    `import { model, linaer } from 'dsvc';\nexport default model('a', { forward: linaer });`,
  ],
  ['a package that is not there', `import { x } from 'nowhere';\nexport default x;`],
  ['a file that is not there', `import y from './gone.ts';\nexport default y;`],
  ['text that is no TypeScript', `const word = 'ü', b = 3 +;`],
  [
    'a mistake in an imported file',
    `import { h } from './b.ts';\nexport default h;`,
    { files: { 'b.ts': `export const h = 1;\nconst q = ;` } },
  ],
  [
    'mistakes in two files',
    `import { b } from './b.ts';\nimport { c } from './c.ts';\nexport default b + c;`,
    { files: { 'b.ts': `export const b = ;`, 'c.ts': `export const c == 1;` } },
  ],
  ['an await at the top', `await 3;\nexport default 1;`],
  ['a file that throws', `const o = {};\no.f.g();\nexport default o;`],
  ['no forward', `import { model } from 'dsvc';\nexport default model('a b', { bounds: { token: 3 } });`],
  ['no logits', `import { model } from 'dsvc';\nexport default model('a', { forward: (ids) => ids });`],
  [
    'a block that calls itself',
    `import { block, model } from 'dsvc';\nconst b = block('b', (x) => b(x));\nexport default model('m', { forward: (ids) => b(ids) });`,
  ],
  [
    'numbers that make no sense',
    `import { cache, dim, option, product, range, sum } from 'dsvc';
dim('tokens', 3);
dim('a', 0);
dim('9', 3);
option('o', null);
option('p', NaN);
sum('s', dim('z', 2));
product('t', dim('u', 2), 3);
dim('twice', 1);
dim('twice', 2);
range(3, 1);
cache('c', {}, { page: 48 });
export default 0;`,
  ],
  [
    'a deployment that makes no sense',
    `import { dualPipe, optimizer, parallel, precision, zb1p } from 'dsvc';
parallel({ pp: 0, epp: 3, pipeline: 'gpipe' });
dualPipe({ microBatches: 2.5 });
zb1p({ commSms: 132 });
optimizer({ beta1: 2 });
precision({ weights: 'f16', recompute: ['all'] });
export default 0;`,
  ],
  ['settings that nobody declared', around('return x;'), { set: { hiden: '3', speed: '2' } }],
  [
    'settings of the wrong kind',
    around('return x;'),
    { set: { hidden: 'abc', ff: '-3', experts: '1.5', tokens: '0' } },
  ],
];

describe('in a file', () => {
  test.each(files)('%s', async (_, text, options) => {
    const said = await complaints(text, options);
    expect(said).not.toBe('');
    expect(said).not.toMatch(/^\s+at /m);
    expect(said).toMatchSnapshot();
  });
});

test('mistakes of different blocks come together, each once', async () => {
  const text = around(
    `  return add(attend(x), mix(x));`,
    `type X = Tensor<['tokens', 'hidden']>;
const attend = block('attend', (x: X) => softmax(x, heads));
const mix = block('mix', (x: X) => mul(linear(x, ff, 'up'), x));`,
  );
  const found = await diagnosticsOf(text);
  const chain = (d: (typeof found)[number]): readonly (string | undefined)[] =>
    (d.notes ?? []).flatMap((n) => (n.message.startsWith('in ') ? [n.message] : []));
  expect(found.map((d) => [d.code, d.at?.line, chain(d)])).toEqual([
    ['dsl/no-such-axis', 7, ['in attend, called here', 'in layer, called here']],
    ['dsl/axes-differ', 8, ['in mix, called here', 'in layer, called here']],
  ]);
});

test('text of tensors, caches and dims is no mistake', async () => {
  const body =
    '  if (`${x} ${cache} ${hidden}` !== String(x) + " cache rows dim \'hidden\'") throw new Error(`${x} ${cache}`);\n  return x;';
  expect(await complaints(around(body))).toBe('');
});

const twoRepeats = (first: string, second: string, body: string): string =>
  around(body).replace(
    'head(repeat(2, layer, embedding(ids, vocab, hidden), at, caches), at, vocab)',
    `{
    const h = repeat(${first}, layer, embedding(ids, vocab, hidden), at, caches);
    return head(repeat(${second}, layer, h, at, caches), at, vocab);
  }`,
  );
const fill = `  const q = linear(x, [heads, length], 'q');\n  cacheAppend(cache, { k: q, v: q }, at);\n  return x;`;

test('two repeats over the same layers of a cache', async () => {
  expect(await complaints(twoRepeats('range(0, 2)', 'range(1, 2)', fill))).toMatchSnapshot();
});

test('repeats over layers of their own, or that only read, share a cache', async () => {
  expect(await complaints(twoRepeats('range(0, 1)', 'range(1, 2)', fill))).toBe('');
  expect(
    await complaints(twoRepeats('range(0, 2)', 'range(0, 2)', `  cacheRead(cache, 'k');\n  return x;`)),
  ).toBe('');
});

test('mistakes of one block come together, and do not cascade', async () => {
  const body = `  const a = mul(x, sumOver(x, heads));
  const b = exp(broadcast(a, [hidden]));
  const c = rope(linear(x, [heads, dim('odd', 7)], 'q'), at);
  return add(add(a, b), sumOver(sumOver(c, heads), dim('odd', 7)));`;
  const found = await diagnosticsOf(around(body));
  expect(found.map((d) => [d.code, d.at?.line])).toEqual([
    ['dsl/no-such-axis', 8],
    ['dsl/axes-differ', 9],
    ['dsl/rope-needs-pairs', 10],
  ]);
});
