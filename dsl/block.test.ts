import { describe, expect, test } from 'vitest';
import { printModule } from '../ir/text/index.ts';
import { verifyModule } from '../ir/verify.ts';
import { around, diagnosticsOf, fromText } from './testing.ts';

const header = (f: { name: string; kind: string }): string => `${f.kind} ${f.name}`;

describe('blocks', () => {
  test('are traced once, whatever the number of calls', async () => {
    const before = `let traced = 0;
const inner = block('inner', (y: Tensor<['tokens', 'hidden']>) => { traced++; return linear(y, hidden, 'w'); });
export const count = () => traced;`;
    const { module } = await fromText(around(`  return inner(inner(inner.at('other')(x)));`, before));
    expect(module.functions.map(header)).toEqual([
      'block inner',
      'block layer',
      'block forward',
      'entry prefill',
      'entry decode',
    ]);
    const layer = module.functions[1];
    expect(layer.body.map((op) => op.attributes.prefix)).toEqual(['other.', 'inner.', 'inner.']);
    expect(verifyModule(module)).toEqual([]);
  });

  test('are traced again for other types of arguments, and for other plain values', async () => {
    const before = `const inner = block('inner', (y, n) => mul(y, n));`;
    const body = `  const wide = inner(linear(x, ff, 'up'), 2);\n  return add(inner(inner(x, 2), 3), linear(inner(wide, 2), hidden, 'down'));`;
    const { module } = await fromText(around(body, before));
    expect(module.functions.map((f) => f.name)).toEqual([
      'inner',
      'inner.1',
      'inner.2',
      'layer',
      'forward',
      'prefill',
      'decode',
    ]);
    const calls = module.functions[3].body.filter((op) => op.op === 'call').map((op) => op.attributes.callee);
    expect(calls).toEqual(['inner', 'inner.1', 'inner.2', 'inner']);
  });

  test('take and give lists and objects', async () => {
    const before = `const inner = block('inner', ({ a, b }, [c]) => ({ sum: add(a, add(b, c)), both: [a, mul(b, 2)], n: 3 }));`;
    const body = `  const r = inner({ a: x, b: mul(x, 2) }, [x]);\n  const [p, q] = r.both;\n  return add(mul(r.sum, r.n), add(p, q));`;
    const { module } = await fromText(around(body, before));
    expect(verifyModule(module)).toEqual([]);
    expect(module.functions[0].arguments.map((a) => a.value.name)).toEqual(['a', 'b', 'x1_0']);
    expect(module.functions[0].results).toHaveLength(3);
  });

  test('pass routings and positions on', async () => {
    const before = `const choose = block('choose', (y) => route(linear(y, experts, 'gate', { dtype: 'f32' }), { top: 2 }), { prefix: '' });
const use = block('use', (y, r) => combineTokens(groupTokens(y, r), r));
const turned = block('turned', (y, at) => rope(y, at));`;
    const { module } = await fromText(around(`  return turned(use(x, choose(x)), at);`, before));
    expect(verifyModule(module)).toEqual([]);
    expect(module.functions[0].results[0].type).toMatchObject({ kind: 'routing' });
    expect(module.functions.find((f) => f.name === 'layer')!.body[0].attributes.prefix).toBe('');
  });

  test('update the caches that they get', async () => {
    const before = `const attend = block('attend', (y, at, c) => {
  const q = linear(y, [heads, length], 'q');
  cacheAppend(c, { k: q, v: q }, at);
  return y;
});`;
    const { module } = await fromText(
      around(`  const y = attend(x, at, cache);\n  return attend.at('again')(y, at, cache);`, before),
    );
    expect(verifyModule(module)).toEqual([]);
    const [first, second] = module.functions.find((f) => f.name === 'layer')!.body;
    expect(second.operands[2]).toBe(first.results[1]);
  });
});

/** A model whose layer returns `result`, repeated as `forward` says. */
const repeated = (
  result: string,
  forward: string,
): string => `import { add, block, dim, each, embedding, head, model, mul, range, repeat, sumOver } from 'dsvc';
const hidden = dim('hidden', 8), vocab = dim('vocab', 16);
const layer = block('layer', (x, more) => ${result});
export default model('m', { forward(ids, at) {
  const e = embedding(ids, vocab, hidden);
  ${forward}
} });`;

describe('repeat', () => {
  test('stacks what layers return besides the carry, and hands it out again', async () => {
    const text = repeated(
      'more ? mul(x, more) : [mul(x, 2), x]',
      `const [h, all] = repeat(range(2, 5), layer, e);
  const again = repeat(range(0, 3, { prefix: 'again.{i}.' }), layer, h, each(all));
  return head(add(again, sumOver(all, dim('layers', 3))), at, vocab);`,
    );
    const { module } = await fromText(text, { precision: 'f32' });
    expect(verifyModule(module)).toEqual([]);
    const printed = printModule(module).replace(/ at [\w.-]+:\d+:\d+-[\d:]+/g, '');
    expect(printed).toContain(
      '%h, %all = repeat @layer %e {start = 2, stop = 5, prefix = "model.layers.{i}.", modes = [carry]} : f32[tokens, hidden=8], f32[layers=3, tokens, hidden=8]',
    );
    expect(printed).toContain(
      '%again = repeat @layer.1 %h, %all {start = 0, stop = 3, prefix = "again.{i}.", modes = [carry, indexed]} : f32[tokens, hidden=8]',
    );
  });

  test('carries several values', async () => {
    const text = repeated(
      '({ h: add(x.h, x.g), g: mul(x.g, 2) })',
      `const r = repeat(4, layer, { h: e, g: mul(e, 3) });\n  return head(add(r.h, r.g), at, vocab);`,
    );
    const { module } = await fromText(text);
    expect(verifyModule(module)).toEqual([]);
    expect(
      module.functions.find((f) => f.name === 'forward')!.body.find((op) => op.op === 'repeat')!.attributes
        .modes,
    ).toEqual(['carry', 'carry']);
  });

  test('of no layers is the carry', async () => {
    const { module } = await fromText(repeated('mul(x, 2)', 'return head(repeat(0, layer, e), at, vocab);'));
    expect(module.functions.find((f) => f.name === 'forward')!.body.some((op) => op.op === 'repeat')).toBe(
      false,
    );
  });

  test('refuses more layers than there are caches', async () => {
    const found = await diagnosticsOf(around('  return x;').replace('repeat(2,', 'repeat(3,'));
    expect(found.map((d) => [d.code, d.message])).toEqual([
      ['dsl/too-few-layers', 'repeat runs layers 0 to 2, but the cache rows has 2'],
    ]);
  });

  test('refuses what is no block', async () => {
    const found = await diagnosticsOf(repeated('x', 'return head(repeat(2, (y) => y, e), at, vocab);'));
    expect(found.map((d) => d.code)).toEqual(['dsl/wrong-argument']);
  });
});
