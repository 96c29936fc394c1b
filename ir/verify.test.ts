// Each rule of the verifier with a module that breaks it, and beside it the sound module that it was made from.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { renderDiagnostic, type Diagnostic } from './diagnostics.ts';
import type { Function, Module, Op, Value } from './module.ts';
import { parseModule, printModule } from './text/index.ts';
import { dim, tensor } from './types.ts';
import { verifyModule } from './verify.ts';

const read = (text: string): Module => {
  const { module, diagnostics } = parseModule(text, 'test.dsir');
  expect(diagnostics).toEqual([]);
  return module!;
};

const render = (found: readonly Diagnostic[]): string =>
  found.map((d) => renderDiagnostic(d, { sourceOf: () => undefined })).join('\n');

/** Lines of a block with a state, a routing and weights; `dims` and `states` go before it. */
const module = (lines: string, more = ''): string => `dsir 1
module @m {
  dim tokens <= 64
  dim cached <= 256
  dim slots = ragged(tokens * 2, groups = 8, align = 16) <= 248
${more
  .split('\n')
  .filter((l) => l.trim().startsWith('dim'))
  .join('\n')}
  state rows paged(16) { latent: bf16[cached, 8] }
${more
  .split('\n')
  .filter((l) => l.trim().startsWith('state'))
  .join('\n')}
  block @update(inout %c: state rows, %at: positions[tokens, tokens, tokens, tokens], %x: bf16[tokens, 8]) -> (bf16[tokens, 8]) {
    param "w": bf16[8] stored [8]
    %c.1 = cache_append %c, %at, %x : state rows at m.ts:1:1-9
    return %x; %c.1
  }
  kernel @twice(%x: bf16[rows, 8]) -> (bf16[rows, 8]) {
    %y = add %x, %x : bf16[rows, 8]
    return %y
  }
  block @f(%x: bf16[tokens, 8], %s: f32[tokens, experts=8], %at: positions[tokens, tokens, tokens, tokens], inout %c: state rows, %d: state rows) -> () at m.ts:9:1-20:2 {
${lines}
  }
}
`;

const unsound: Readonly<Record<string, readonly [wrong: string, right: string]>> = {
  'an old state is updated again': [
    module(
      '%c.1 = cache_append %c, %at, %x : state rows at m.ts:3:1-9\n%c.2 = cache_append %c, %at, %x : state rows at m.ts:4:1-9\nreturn; %c.2',
    ),
    module(
      '%c.1 = cache_append %c, %at, %x : state rows at m.ts:3:1-9\n%c.2 = cache_append %c.1, %at, %x : state rows at m.ts:4:1-9\nreturn; %c.2',
    ),
  ],
  'an old state is read': [
    module(
      '%c.1 = cache_append %c, %at, %x : state rows at m.ts:3:1-9\n%k = cache_read %c {field = latent} : bf16[cached, 8] at m.ts:4:1-9\nreturn; %c.1',
    ),
    module(
      '%c.1 = cache_append %c, %at, %x : state rows at m.ts:3:1-9\n%k = cache_read %c.1 {field = latent} : bf16[cached, 8] at m.ts:4:1-9\nreturn; %c.1',
    ),
  ],
  'what was read from an old state is used': [
    module(
      '%k = cache_read %c {field = latent} : bf16[cached, 8]\n%c.1 = cache_append %c, %at, %x : state rows at m.ts:3:1-9\n%l = neg %k : bf16[cached, 8] at m.ts:4:1-9\nreturn; %c.1',
    ),
    module(
      '%k = cache_read %c {field = latent} : bf16[cached, 8]\n%l = neg %k : bf16[cached, 8] at m.ts:4:1-9\n%c.1 = cache_append %c, %at, %x : state rows at m.ts:3:1-9\nreturn; %c.1',
    ),
  ],
  'an old state is returned': [
    module('%c.1 = cache_append %c, %at, %x : state rows at m.ts:3:1-9\nreturn; %c'),
    module('%c.1 = cache_append %c, %at, %x : state rows at m.ts:3:1-9\nreturn; %c.1'),
  ],
  'a called block updates an old state': [
    module(
      '%y, %c.1 = call @update %c, %at, %x : bf16[tokens, 8], state rows at m.ts:3:1-9\n%z, %c.2 = call @update %c, %at, %y : bf16[tokens, 8], state rows at m.ts:4:1-9\nreturn; %c.2',
    ),
    module(
      '%y, %c.1 = call @update %c, %at, %x : bf16[tokens, 8], state rows at m.ts:3:1-9\n%z, %c.2 = call @update %c.1, %at, %y : bf16[tokens, 8], state rows at m.ts:4:1-9\nreturn; %c.2',
    ),
  ],
  'a repeated block updates an old state': [
    module(
      '%y, %c.1 = repeat @update %c, %at, %x {start = 0, stop = 2, modes = [carry, same, carry]} : bf16[tokens, 8], state rows\n%k = cache_read %c {field = latent} : bf16[cached, 8]\nreturn; %c.1',
    ),
    module(
      '%y, %c.1 = repeat @update %c, %at, %x {start = 0, stop = 2, modes = [carry, same, carry]} : bf16[tokens, 8], state rows\n%k = cache_read %c.1 {field = latent} : bf16[cached, 8]\nreturn; %c.1',
    ),
  ],
  'a state that is not inout is updated': [
    module('%d.1 = cache_append %d, %at, %x : state rows at m.ts:3:1-9\nreturn; %c'),
    module('%k = cache_read %d {field = latent} : bf16[cached, 8] at m.ts:3:1-9\nreturn; %c'),
  ],
  "another argument's state is returned": [module('return; %d'), module('return; %c')],
  'two routings over one ragged dim': [
    module(
      '%r = route %s {top = 2} : routing[tokens, experts=8, 2, slots]\n%q = route %s {top = 2} : routing[tokens, experts=8, 2, slots]\nreturn; %c',
    ),
    module(
      '%r = route %s {top = 2} : routing[tokens, experts=8, 2, slots]\n%q = route %s {top = 2} : routing[tokens, experts=8, 2, others]\nreturn; %c',
      'dim others = ragged(tokens * 2, groups = 8, align = 16) <= 248',
    ),
  ],
  'a ragged dim before its routing': [
    module(
      '%z = const : bf16[slots, 8]\n%r = route %s {top = 2} : routing[tokens, experts=8, 2, slots]\nreturn; %c',
    ),
    module(
      '%r = route %s {top = 2} : routing[tokens, experts=8, 2, slots]\n%z = const : bf16[slots, 8]\nreturn; %c',
    ),
  ],
  'a layer number in the prefix of a call': [
    module(
      '%y, %c.1 = call @update %c, %at, %x {prefix = "layers.{i}."} : bf16[tokens, 8], state rows\nreturn; %c.1',
    ),
    module(
      '%y, %c.1 = call @update %c, %at, %x {prefix = "layers.0."} : bf16[tokens, 8], state rows\nreturn; %c.1',
    ),
  ],
  'an unknown placeholder in a prefix': [
    module(
      '%y, %c.1 = repeat @update %c, %at, %x {start = 0, stop = 2, prefix = "layers.{layer}.", modes = [carry, same, carry]} : bf16[tokens, 8], state rows\nreturn; %c.1',
    ),
    module(
      '%y, %c.1 = repeat @update %c, %at, %x {start = 0, stop = 2, prefix = "layers.{i}.", modes = [carry, same, carry]} : bf16[tokens, 8], state rows\nreturn; %c.1',
    ),
  ],
  'a prefix with a blank': [
    module(
      '%y, %c.1 = call @update %c, %at, %x {prefix = "layers 0."} : bf16[tokens, 8], state rows\nreturn; %c.1',
    ),
    module(
      '%y, %c.1 = call @update %c, %at, %x {prefix = "layers_0."} : bf16[tokens, 8], state rows\nreturn; %c.1',
    ),
  ],
  'a prefix with an empty part': [
    module(
      '%y, %c.1 = call @update %c, %at, %x {prefix = "layers..0."} : bf16[tokens, 8], state rows\nreturn; %c.1',
    ),
    module(
      '%y, %c.1 = call @update %c, %at, %x {prefix = "layers.0."} : bf16[tokens, 8], state rows\nreturn; %c.1',
    ),
  ],
  'a ragged bound that drops rows': [
    module('return; %c', 'dim others = ragged(tokens * 2, groups = 8, align = 16) <= 247'),
    module('return; %c', 'dim others = ragged(tokens * 2, groups = 8, align = 16) <= 248'),
  ],
  'a bound of nothing': [module('return; %c', 'dim n <= 0'), module('return; %c', 'dim n <= 1')],
  'a state without fields': [
    module('return; %c', 'state s recurrent { }'),
    module('return; %c', 'state s recurrent { a: f32[4] }'),
  ],
  'a cache with a static row axis': [
    module('return; %c', 'state s paged(16) { a: f32[256, 4] }'),
    module('return; %c', 'state s paged(16) { a: f32[cached, 4] }'),
  ],
  'a cache with two row axes': [
    module('return; %c', 'state s paged(16) { a: f32[cached, 4], b: f32[tokens, 4] }'),
    module('return; %c', 'state s paged(16) { a: f32[cached, 4], b: f32[cached, 4] }'),
  ],
  'pages of no rows': [
    module('return; %c', 'state s paged(0) { a: f32[cached, 4] }'),
    module('return; %c', 'state s paged(1) { a: f32[cached, 4] }'),
  ],
  'stored elements of another number': [
    module('param "w": bf16[2, 4] stored [9]\nreturn; %c'),
    module('param "w": bf16[2, 4] stored [8]\nreturn; %c'),
  ],
  'a stacked weight stored as a whole': [
    module('param "experts.{experts}.w": bf16[experts=8, 4] stored [8, 4]\nreturn; %c'),
    module('param "experts.{experts}.w": bf16[experts=8, 4] stored [4]\nreturn; %c'),
  ],
  'a weight of run-time size': [
    module('param "w": bf16[tokens] stored [8]\nreturn; %c'),
    module('param "w": bf16[8] stored [8]\nreturn; %c'),
  ],
};

describe('sound texts', () => {
  test.each(Object.entries(unsound))('the counterpart of: %s', (_, [, right]) => {
    expect(render(verifyModule(read(right)))).toBe('');
  });
});

describe('unsound texts', () => {
  test.each(Object.entries(unsound))('%s', (_, [wrong]) => {
    expect(render(verifyModule(read(wrong)))).toMatchSnapshot();
  });
});

// What no text can say is made by hand: values are compared by identity, and passes may build anything.
const sound = read(readFileSync(new URL('./fixtures/every-op.dsir', import.meta.url), 'utf8'));

/** `sound` with function `name` changed. */
const changed = (name: string, change: (f: Function) => Function): Module => ({
  ...sound,
  functions: sound.functions.map((f) => (f.name === name ? change(f) : f)),
});
const changedOp = (name: string, op: string, change: (op: Op) => Op): Module =>
  changed(name, (f) => ({ ...f, body: f.body.map((o) => (o.op === op ? change(o) : o)) }));
const result = (name: string, type: Value['type']): Value => ({ name, type, source: 'result' });

const broken: Readonly<Record<string, () => Module>> = {
  'an op that is not in the table': () => changedOp('sums', 'cumsum', (o) => ({ ...o, op: 'cumsun' })),
  'an op with a name that every object inherits': () =>
    changedOp('sums', 'cumsum', (o) => ({ ...o, op: 'toString' })),
  'a value that was rebuilt': () =>
    changedOp('sums', 'cumsum', (o) => ({ ...o, operands: o.operands.map((v) => ({ ...v })) })),
  'a value of another function': () =>
    changedOp('sums', 'cumsum', (o) => ({ ...o, operands: [sound.functions[0].body[0].results[0]] })),
  'a use before the definition': () => changed('sums', (f) => ({ ...f, body: f.body.toReversed() })),
  'a name twice': () =>
    changed('nothing', (f) => {
      const [a, b] = [result('a', tensor('f32', [])), result('a', tensor('f32', []))];
      const make = (v: Value): Op => ({
        op: 'const',
        operands: [],
        attributes: { value: 1, values: [] },
        results: [v],
        span: f.span,
      });
      return { ...f, body: [make(a), make(b)] };
    }),
  'an argument and a result of one name': () =>
    changedOp('sums', 'sum', (o) => ({ ...o, results: [{ ...o.results[0], name: 'x' }] })),
  'a name that text cannot spell': () =>
    changedOp('sums', 'sum', (o) => ({ ...o, results: [{ ...o.results[0], name: 'a b' }] })),
  'an attribute that was dropped': () => changedOp('sums', 'cumsum', (o) => ({ ...o, attributes: {} })),
  'an attribute that does not exist': () =>
    changedOp('sums', 'cumsum', (o) => ({ ...o, attributes: { ...o.attributes, axes: [1] } })),
  'an attribute out of range': () => changedOp('sums', 'cumsum', (o) => ({ ...o, attributes: { axis: 2 } })),
  'a result of another type': () =>
    changedOp('sums', 'cumsum', (o) => ({
      ...o,
      results: [{ ...o.results[0], type: tensor('bf16', [dim('tokens'), dim(null, 8)]) }],
    })),
  'too few results': () => changedOp('sums', 'top_k', (o) => ({ ...o, results: o.results.slice(0, 1) })),
  'too many operands': () =>
    changedOp('sums', 'cumsum', (o) => ({ ...o, operands: [...o.operands, ...o.operands] })),
  'a dim that nobody declares': () => ({ ...sound, dims: sound.dims.filter((d) => d.name !== 'outputs') }),
  'a state that nobody declares': () => ({ ...sound, states: [] }),
  'a tile of another rank': () =>
    changed('sums', (f) => {
      const type = tensor('f8e4m3', [dim('tokens'), dim(null, 8)], [{ tile: [128], format: 'f32' }]);
      return {
        ...f,
        arguments: [...f.arguments, { value: { name: 'scaled', type, source: 'argument' }, inout: false }],
      };
    }),
  'a size that is no number': () =>
    changed('sums', (f) => {
      const type = tensor('f32', [dim('n', -1), dim(null, 1.5)]);
      return {
        ...f,
        arguments: [...f.arguments, { value: { name: 'odd', type, source: 'argument' }, inout: false }],
      };
    }),
  'a callee after its caller': () => ({ ...sound, functions: sound.functions.toReversed() }),
  'a callee that does not exist': () => ({
    ...sound,
    functions: sound.functions.filter((f) => f.name !== 'experts'),
  }),
  'a block that is launched': () =>
    changedOp('step', 'call', (o) => ({ ...o, op: 'launch', attributes: { callee: 'experts' } })),
  'two functions of one name': () => ({ ...sound, functions: [...sound.functions, sound.functions.at(-1)!] }),
  'a kernel with a weight': () =>
    changed('scale', (f) => ({
      ...f,
      declarations: sound.functions.find((g) => g.name === 'attend')!.declarations.slice(0, 1),
    })),
  'a kernel that calls': () => changed('step', (f) => ({ ...f, kind: 'kernel' })),
  'a final value too few': () => changed('attend', (f) => ({ ...f, finals: [] })),
  'a final value of another type': () => changed('attend', (f) => ({ ...f, finals: [f.body[0].results[0]] })),
  'a result that nothing defines': () =>
    changed('sums', (f) => ({ ...f, results: [result('ghost', tensor('f32', []))] })),
  'layers that run backwards': () =>
    changedOp('step', 'repeat', (o) => ({ ...o, attributes: { ...o.attributes, start: 3, stop: 1 } })),
  'modes for other operands': () =>
    changedOp('step', 'repeat', (o) => ({ ...o, attributes: { ...o.attributes, modes: ['carry', 'same'] } })),
  'a derived weight of an undeclared one': () =>
    changed('attend', (f) => ({
      ...f,
      declarations: f.declarations.filter((d) => d.value.name !== 'down.weight'),
    })),
  'a derived weight of a state op': () =>
    changed('attend', (f) => ({
      ...f,
      declarations: f.declarations.map((d) =>
        d.kind === 'derived' && d.value.name === 'same.weight'
          ? {
              ...d,
              expression: {
                op: 'cache_read',
                operands: [d.expression],
                attributes: { field: 'latent' },
                type: d.value.type,
              },
            }
          : d,
      ),
    })),
  'a derived weight of another type': () =>
    changed('attend', (f) => ({
      ...f,
      declarations: f.declarations.map((d) =>
        d.kind === 'derived' && d.value.name === 'same.weight'
          ? { ...d, expression: { parameter: 'norm.weight' } }
          : d,
      ),
    })),
  'a weight twice': () =>
    changed('attend', (f) => ({ ...f, declarations: [f.declarations[0], ...f.declarations] })),
};

test('the module that the broken ones are made from is sound', () => {
  expect(render(verifyModule(sound))).toBe('');
});

describe('modules that no text can say', () => {
  test.each(Object.entries(broken))('%s', (_, make) => {
    const wrong = make();
    const found = verifyModule(wrong);
    expect(found.length).toBeGreaterThan(0);
    for (const d of found) {
      expect(d.severity).toBe('error');
      expect(d.label).not.toBe('');
    }
    expect(render(found)).toMatchSnapshot();
    // Whatever is wrong with it, it can be printed: that is how a failing pass is looked into.
    expect(printModule(wrong)).toContain('module @every_op');
  });
});
