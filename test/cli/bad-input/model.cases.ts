// Wrong model files: every mistake at its place in the author's text, all independent ones at once.
import type { BadInput } from './case.ts';
import { smallModel } from '../small.ts';

const check = (
  name: string,
  text: string | Uint8Array,
  codes: readonly string[],
  at: readonly string[],
  ...flags: string[]
): BadInput => ({
  name,
  files: { 'm.ts': text },
  args: ['check', 'm.ts', ...flags],
  codes,
  exit: 1,
  at,
});

const imports = `import { add, attention, block, cache, cast, concat, deepseekMoe, dim, embedding, gqa, head, linear, mla, model, option, perLayer, range, repeat, rmsNorm, rope, split, sum, type Cache, type Positions, type Tensor } from 'dsvc';
const hidden = dim('hidden', 64), vocab = dim('vocab', 32), ff = dim('ff', 48);
type Hidden = Tensor<['tokens', 'hidden']>;
`;

/** A model whose forward has these lines between embedding `x` and head of `y`. */
const forward = (lines: string): string => `${imports}
export default model('wrong', {
  forward: (ids, at) => {
    const x = embedding(ids, vocab, hidden);
${lines}
    return head(y, at, vocab);
  },
});
`;

export const modelCases: readonly BadInput[] = [
  { name: 'missing model file', args: ['check', 'none.ts'], codes: ['file/not-found'], exit: 1 },
  { name: 'folder as model', files: { 'm/': '' }, args: ['check', 'm'], codes: ['file/not-a-file'], exit: 1 },
  check(
    'binary model',
    Uint8Array.from({ length: 400 }, (_, i) => (i * 37) % 256),
    ['load/syntax'],
    ['m.ts:1:'],
    '--no-types',
  ),
  check(
    'syntax error',
    'import { dim } from "dsvc";\nconst hidden = dim("hidden", ;\n',
    ['load/syntax'],
    ['m.ts:2:30'],
  ),
  check('empty model', '', ['load/no-model'], ['m.ts:1:1']),
  check('default export is no model', 'export default { name: "mine" };\n', ['load/no-model'], ['m.ts:1:1']),
  check(
    'model under another name',
    smallModel.replace('export default', 'export const small ='),
    ['load/no-model'],
    ['m.ts:1:1'],
  ),
  check(
    'model that throws',
    'const weights = undefined as never as number[];\nexport default weights[3].toFixed();\n',
    ['dsl/model-threw'],
    ['m.ts:2:'],
  ),
  check(
    'model that throws its own error',
    'throw new Error("no license file");\nexport default 1;\n',
    ['dsl/model-threw'],
    ['m.ts:1:'],
  ),
  check(
    'forward that throws',
    forward('    const y = (null as never as { of: typeof x }).of;'),
    ['dsl/model-threw'],
    ['m.ts:8:'],
  ),
  check(
    'top-level await',
    'await Promise.resolve();\nexport default 1;\n',
    ['load/syntax'],
    ['m.ts:1:1'],
    '--no-types',
  ),
  check(
    'misspelt import',
    smallModel.replaceAll('embedding', 'embeding'),
    ['load/no-such-export'],
    ['m.ts:1:'],
  ),
  check(
    'missing file imported',
    `import './layers.ts';\n${smallModel}`,
    ['load/unresolved-import'],
    ['m.ts:1:8'],
  ),
  check(
    'missing package imported',
    `import _ from 'lodash';\n${smallModel}console.log(_);\n`,
    ['load/unresolved-import'],
    ['m.ts:1:15'],
  ),
  check(
    'wrong axis',
    forward("    const y = add(x, linear(x, ff, 'up'));"),
    ['dsl/axes-differ'],
    ['m.ts:8:15'],
  ),
  check(
    'wrong size',
    `${imports}
const wide = dim('hidden', 128);
export default model('wrong', { forward: (ids, at) => head(add(embedding(ids, vocab, hidden), embedding(ids, vocab, wide, 'other')), at, vocab) });
`,
    ['dsl/declared-twice'],
    ['m.ts:5:14'],
  ),
  check(
    'wrong dtype',
    forward("    const y = add(x, cast(x, 'f32'));"),
    ['dsl/dtypes-differ'],
    ['m.ts:8:15'],
    '--precision',
    'bf16',
  ),
  check(
    'unknown dtype',
    forward("    const y = cast(x, 'float' as never);"),
    ['dsl/unknown-dtype'],
    ['m.ts:8:15'],
    '--no-types',
  ),
  check(
    'odd rotary dim',
    forward(
      "    const odd = dim('odd', 3);\n    const y = linear(rope(linear(x, odd, 'p'), at), hidden, 'q');",
    ),
    ['dsl/rope-needs-pairs'],
    ['m.ts:9:'],
  ),
  check(
    'key heads that do not divide',
    `${imports}
const heads = dim('heads', 4), kvHeads = dim('kv_heads', 3), length = dim('length', 8);
const kv = cache('kv', { k: [kvHeads, length], v: [kvHeads, length] });
const layer = block('layer', (x: Hidden, at: Positions, c: Cache<typeof kv>) => gqa(x, at, c, { heads, kvHeads, length }));
export default model('wrong', {
  state: { kv: perLayer(kv, 2) },
  forward: (ids, at, { kv }) => head(repeat(range(0, 2), layer, embedding(ids, vocab, hidden), at, kv), at, vocab),
});
`,
    ['dsl/heads-do-not-divide'],
    ['m.ts:7:'],
    '--no-types',
  ),
  check(
    'more choices than experts',
    forward("    const y = deepseekMoe(x, { experts: dim('experts', 4), top: 5, ff });"),
    ['dsl/bad-top'],
    ['m.ts:8:15'],
  ),
  check(
    'weight declared twice',
    forward("    const y = add(linear(x, hidden, 'w'), linear(linear(x, ff, 'up'), hidden, 'w'));"),
    ['dsl/parameter-twice'],
    ['m.ts:8:'],
  ),
  check(
    'block that calls itself',
    `${imports}
const loop: (x: Hidden) => Hidden = block('loop', (x: Hidden): Hidden => loop(x));
export default model('wrong', { forward: (ids, at) => head(loop(embedding(ids, vocab, hidden)), at, vocab) });
`,
    ['dsl/recursive-block'],
    ['m.ts:5:'],
  ),
  check(
    'too few caches',
    `${imports}
const rank = dim('rank', 8);
const c = cache('c', { k: [rank], v: [rank] });
const layer = block('layer', (x: Hidden, at: Positions, _c: Cache<typeof c>) => add(x, x));
export default model('wrong', {
  state: { c: perLayer(c, 2) },
  forward: (ids, at, { c }) => head(repeat(range(0, 3), layer, embedding(ids, vocab, hidden), at, c), at, vocab),
});
`,
    ['dsl/too-few-layers'],
    ['m.ts:10:'],
  ),
  check(
    'no logits',
    `${imports}\nexport default model('wrong', { forward: ((ids: never) => embedding(ids, vocab, hidden)) as never });\n`,
    ['dsl/bad-logits'],
    ['m.ts:5:'],
  ),
  check(
    'several mistakes at once',
    forward(`    const up = linear(x, ff, 'up');
    const a = add(x, up);
    const b = cast(x, 'float' as never);
    const [c] = split(x, sum('parts', ff, vocab));
    const y = add(x, linear(up, hidden, 'bad name'));`),
    ['dsl/axes-differ', 'dsl/unknown-dtype', 'dsl/no-such-axis', 'dsl/bad-name'],
    ['m.ts:9:', 'm.ts:10:', 'm.ts:11:', 'm.ts:12:'],
  ),
  check(
    'types only',
    smallModel.replace("dim('hidden', 4)", "dim('hidden', 4);\nconst count: number = 'four'"),
    ['types/ts2322'],
    ['m.ts:4:7'],
  ),
  check('unknown setting', smallModel, ['load/unknown-setting'], [], '--set', 'hiden=8'),
  check('setting that is no number', smallModel, ['dsl/bad-setting'], [], '--set', 'hidden=wide'),
  check('zero size', smallModel, ['dsl/bad-size'], ['m.ts:3:'], '--set', 'hidden=0'),
  check('negative size', smallModel.replace("'vocab', 8", "'vocab', -8"), ['dsl/bad-size'], ['m.ts:4:']),
  check('zero bound', smallModel, ['dsl/bad-size'], [], '--set', 'tokens=0'),
  {
    name: 'wrong model to compile',
    files: { 'm.ts': forward("    const y = add(x, linear(x, ff, 'up'));") },
    args: ['compile', 'm.ts', '-o', 'out', '--dump-dir', 'ir'],
    codes: ['dsl/axes-differ'],
    exit: 1,
    at: ['m.ts:8:15'],
  },
];
