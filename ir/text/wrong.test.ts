// Wrong texts and what is said about them. The snapshot is the message as people read it: part of the product.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { renderDiagnostic } from '../diagnostics.ts';
import { parseModule } from './index.ts';

/** Lines inside a block of a module that has a bit of everything. */
const body = (lines: string): string => `dsir 1
module @m {
  dim tokens <= 64
  dim slots = ragged(tokens * 2, groups = 8, align = 16) <= 248
  dim cached <= 256
  state rows paged(16) { latent: bf16[cached, 8] }

  block @double(%a: bf16[tokens, 8]) -> (bf16[tokens, 8]) {
    %b = add %a, %a : bf16[tokens, 8]
    return %b
  }

  block @f(%x: bf16[tokens, 8], %at: positions[tokens, tokens, tokens, tokens], inout %cache: state rows) -> (bf16[tokens, 8]) {
    param "w.weight": bf16[4, 8] stored [4, 8]
    buffer "bias": f32[4] stored [4]
${lines.replace(/^(?=.)/gm, '    ')}
    return %x; %cache
  }
}
`;
const inModule = (lines: string): string =>
  `dsir 1\nmodule @m {\n  dim tokens <= 64\n${lines.replace(/^(?=.)/gm, '  ')}\n}\n`;

const wrongTexts: Readonly<Record<string, string>> = {
  // The text as a whole.
  'nothing at all': '',
  'only comments': '// a\n\n// b\n',
  'another kind of file': '{"name": "dsvc", "version": "0.1.0"}\n',
  'a later version': 'dsir 2\nmodule @m {\n}\n',
  'no version': 'module @m {\n}\n',
  'no module': 'dsir 1\n',
  'a dim before the module': 'dsir 1\ndim n <= 4\n',
  'no end': 'dsir 1\nmodule @m {\n  block @f() -> () {\n    return\n',
  'too many ends': 'dsir 1\nmodule @m {\n}\n}\n}\n',
  'a function inside a function': inModule('block @f() -> () {\n  return\nblock @g() -> () {\n  return\n}'),
  'a line of a function in the module': inModule('%x = const : f32[]'),
  'a misspelled section': inModule('blok @f() -> () {'),
  'sections out of order': inModule('state s recurrent { a: f32[4] }\ndim n <= 4'),
  'something after an end': inModule('block @f() -> () {\n  return\n} }'),
  // Declarations of the module.
  'a dim without a bound': inModule('dim n'),
  'a dim with a fraction as bound': inModule('dim n <= 1.5'),
  'a dim twice': inModule('dim tokens <= 8'),
  'a ragged dim of nothing': inModule('dim rows = ragged(token * 8, groups = 4, align = 8) <= 99'),
  'a ragged dim without blanks': inModule('dim rows = ragged(tokens*8, groups = 4, align = 8) <= 99'),
  'an unknown state policy': inModule('state s page(4) { a: f32[tokens] }'),
  'a state without rows': inModule('state s paged { a: f32[tokens] }'),
  'a state with a field twice': inModule('state s ring(4) { a: f32[tokens], a: f32[tokens] }'),
  'a function twice': inModule('block @f() -> () {\n  return\n}\nblock @f() -> () {\n  return\n}'),
  'an attribute twice': 'dsir 1\nmodule @m {target = h800, target = cpu} {\n}\n',
  // Function headers.
  'a header without results': inModule('block @f(%x: f32[4]) {\n  %y = neg %x : f32[4]\n  return %y\n}'),
  'an unknown dim in an entry': inModule('entry @f(%x: f32[token]) -> () {\n  return\n}'),
  'an unknown state': inModule('block @f(inout %x: state row) -> () {\n  return; %x\n}'),
  'an argument twice': inModule('block @f(%x: f32[4], %x: f32[4]) -> () {\n  return\n}'),
  'no return': inModule('block @f() -> () {\n}'),
  'an op after the return': inModule('block @f(%x: f32[4]) -> () {\n  return\n  %y = neg %x : f32[4]\n}'),
  'a result of another type': inModule('block @f(%x: f32[4]) -> (f32[5]) {\n  return %x\n}'),
  'too few results': inModule('block @f(%x: f32[4]) -> (f32[4], f32[4]) {\n  return %x\n}'),
  'a final value forgotten': inModule(
    'state s recurrent { a: f32[4] }\nblock @f(inout %x: state s) -> () {\n  return\n}',
  ),
  'a result as final value': inModule('block @f(%x: f32[4]) -> () {\n  return; %x\n}'),
  // Types.
  'an unknown dtype': body('%y = neg %x : bf61[tokens, 8]'),
  'positions with two dims': body('%y = neg %x : positions[tokens, tokens]'),
  'a tile of another rank': body('%y = quantize %x : f8e4m3<128; f32>[tokens, 8]'),
  'an unknown scale format': body('%y = quantize %x : f8e4m3<1x128; f23>[tokens, 8]'),
  'a tile of zeros': body('%y = quantize %x : f8e4m3<1x0; f32>[tokens, 8]'),
  'an unknown dim': body('%y = neg %x : bf16[tokns, 8]'),
  'a type without brackets': body('%y = neg %x : bf16'),
  'a size too large': body('%y = reshape %x : bf16[tokens, 99999999999999999999]'),
  // Ops.
  'an unknown op': body('%y = matmull %x, param "w.weight" : bf16[tokens, 4]'),
  'an op like no other': body('%y = frobnicate %x : bf16[tokens, 4]'),
  'an unknown value': body('%latent = neg %x : bf16[tokens, 8]\n%y = neg %latnet : bf16[tokens, 8]'),
  'an unknown value, used twice': body('%y = add %nowhere, %nowhere : bf16[tokens, 8]'),
  'a value before its definition': body('%y = neg %z : bf16[tokens, 8]\n%z = neg %x : bf16[tokens, 8]'),
  'a value twice': body('%y = neg %x : bf16[tokens, 8]\n%y = abs %x : bf16[tokens, 8]'),
  'an unknown weight': body('%y = matmul %x, param "w.wieght" : bf16[tokens, 4]'),
  'a buffer as a weight': body('%y = matmul %x, param "bias" : bf16[tokens, 4]'),
  'no result types': body('%y = neg %x'),
  'another type than inferred': body('%y = matmul %x, param "w.weight" : bf16[tokens, 8] at model.ts:1:2-3'),
  'more types than results': body('%y = neg %x : bf16[tokens, 8], bf16[tokens, 8]'),
  'fewer names than results': body('%y = split %x {axis = 1, sizes = [4, 4]} : bf16[tokens, 4]'),
  'too many operands': body('%y = neg %x, %x : bf16[tokens, 8]'),
  'operands that do not fit': body('%y = matmul %x, buffer "bias" : bf16[tokens, 4]'),
  'an operand of the wrong kind': body('%y = neg %at : bf16[tokens, 8]'),
  'an unknown attribute': body('%y = softmax %x {axes = 1} : bf16[tokens, 8]'),
  'an attribute of another kind': body('%y = softmax %x {axis = last} : bf16[tokens, 8]'),
  'an attribute with a value out of range': body('%y = softmax %x {axis = 7} : bf16[tokens, 8]'),
  'an attribute with an unknown word': body('%y = position_field %at {field = postion} : i32[tokens]'),
  'a missing attribute': body('%y = softmax %x : bf16[tokens, 8]'),
  'an attribute that is inherited by every object': body('%y = neg %x {toString = 1} : bf16[tokens, 8]'),
  'an op that is inherited by every object': body('%y = constructor %x : bf16[tokens, 8]'),
  'empty braces': body('%y = neg %x {} : bf16[tokens, 8]'),
  // Calls.
  'an unknown function': body('%y = call @duoble %x : bf16[tokens, 8]'),
  'a function that stands later': inModule(
    'block @f(%x: f32[4]) -> (f32[4]) {\n  %y = call @g %x : f32[4]\n  return %y\n}\nblock @g(%x: f32[4]) -> (f32[4]) {\n  return %x\n}',
  ),
  'a function that uses itself': body('%y = call @f %x : bf16[tokens, 8]'),
  'a call of nothing': body('%y = call %x : bf16[tokens, 8]'),
  'a function where none belongs': body('%y = neg @double %x : bf16[tokens, 8]'),
  'an argument that does not fit': body(
    '%w = reshape %x : bf16[tokens, 2, 4]\n%y = call @double %w : bf16[tokens, 8]',
  ),
  'a repeat without modes': body(
    '%y = repeat @double %x {start = 0, stop = 3, modes = []} : bf16[tokens, 8]',
  ),
  'a call of a function whose body is wrong': inModule(
    'block @g(%x: f32[4]) -> (f32[4]) {\n  %y = nge %x : f32[4]\n  return %y\n}\nblock @f(%x: f32[4]) -> (f32[5]) {\n  %y = call @g %x : f32[5]\n  return %y\n}',
  ),
  // Declarations of a function.
  'a declaration after an op': body('%y = neg %x : bf16[tokens, 8]\nparam "late": f32[4] stored [4]'),
  'a weight twice': body('param "w.weight": f32[4] stored [4]'),
  'a derived weight of another type': body(
    'derive "d": bf16[9, 8] = concat(param "w.weight", param "w.weight") {axis = 0}',
  ),
  'a derived weight of an unknown one': body(
    'derive "d": bf16[8, 8] = concat(param "w.weight", param "v.weight") {axis = 0}',
  ),
  'a derived weight whose inner type must be written': body(
    'derive "d": bf16[4, 8] = cast(cast(param "w.weight")) ',
  ),
  'a derived weight of no tensor': body(
    'derive "d": bf16[4, 4] = split(param "w.weight") {axis = 1, sizes = [4, 4]}',
  ),
  // Words and marks.
  'a missing comma': body('%y = add %x %x : bf16[tokens, 8]'),
  'a missing equals sign': body('%y neg %x : bf16[tokens, 8]\n%z = neg %y : bf16[tokens, 8]'),
  'a line that ends early': body('%y = add %x,'),
  'two lines in one': body('%y = neg %x : bf16[tokens, 8] %z = neg %x : bf16[tokens, 8]'),
  'a stray character': body('%y = neg %x : bf16[tokens, 8]; \u0007é'),
  'a string without an end': body('%y = einsum %x, %x {spec = "ab,ab->a} : bf16[tokens]'),
  'a string with a bad escape': body('param "a\\q": f32[4] stored [4]'),
  'a number beyond all': body('%y = const {value = 1e999} : f32[]'),
  'a place without a column': body('%y = neg %x : bf16[tokens, 8] at model.ts:12'),
  'a place without a line': body('%y = neg %x : bf16[tokens, 8] at model.ts'),
  'brackets too deep': body(`%y = const {value = ${'['.repeat(70)}${']'.repeat(70)}} : f32[]`),
  'a long line': body(`%y = concat ${'%x, '.repeat(60)}%z {axis = 1} : bf16[tokens, 488]`),
};

test.each(Object.entries(wrongTexts))('%s', (_, text) => {
  const { module, diagnostics } = parseModule(text, 'wrong.dsir');
  expect(module).toBeNull();
  expect(
    diagnostics.map((d) => renderDiagnostic(d, { sourceOf: () => text })).join('\n\n'),
  ).toMatchSnapshot();
});

test('independent mistakes are all found in one run', () => {
  const text = readFileSync(new URL('../fixtures/many-mistakes.dsir', import.meta.url), 'utf8');
  const { diagnostics } = parseModule(text, 'many-mistakes.dsir');
  const marked = text.split('\n').flatMap((line, i) => {
    const wanted = /\/\/ (ir\/[a-z-]+)$/.exec(line);
    return wanted ? [`${i + 1} ${wanted[1]}`] : [];
  });
  expect(marked.length).toBeGreaterThan(12);
  expect(diagnostics.map((d) => `${d.at!.line} ${d.code}`)).toEqual(marked);
});

test('reading stops after a hundred mistakes', () => {
  const { diagnostics } = parseModule(body('%y = nge %x : bf16[tokens, 8]\n'.repeat(200)), 'wrong.dsir');
  expect(diagnostics.length).toBe(100);
  expect(diagnostics.at(-1)).toMatchObject({ code: 'ir/too-many', severity: 'error' });
});
