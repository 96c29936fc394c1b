import { describe, expect, test } from 'vitest';
import { FunctionBuilder, inferContext, inferOp } from '../builder.ts';
import { asTensorType } from '../interpret/testing.ts';
import type { Attributes, Function, FunctionKind, Module, Value } from '../module.ts';
import { showType, type StateType, type Type } from '../types.ts';
import { indexedElement } from './structure.ts';
import { type } from './testing.ts';

const cacheType: StateType = { kind: 'state', state: 'cache', count: null };
const module: Module = {
  name: 'test',
  attributes: {},
  dims: [],
  states: [
    {
      name: 'cache',
      policy: 'paged',
      page: 4,
      fields: [{ name: 'k', type: asTensorType('f32[cached, 2]') }],
    },
  ],
  functions: [],
  schedules: [],
};

interface Shape {
  readonly takes: readonly (string | Type)[];
  readonly gives?: readonly (string | Type)[];
  readonly inout?: readonly number[];
  readonly kind?: FunctionKind;
}

const asType = (t: string | Type): Type => (typeof t === 'string' ? type(t) : t);

/** A function with these types; what it computes does not matter to inference. */
function shaped({ takes, gives = [], inout = [], kind = 'block' }: Shape): Function {
  const b = new FunctionBuilder(inferContext(module));
  const args = takes.map((t, i) => b.argument(`a${i}`, asType(t), inout.includes(i)));
  const results = gives.map((t, i): Value => ({ name: `r${i}`, type: asType(t), source: 'result' }));
  return b.finish({ kind, name: 'f', results, finals: inout.map((i) => args[i]) });
}

function inferred(
  op: string,
  callee: Shape,
  operands: readonly (string | Type)[],
  attributes: Attributes = {},
): string[] {
  const context = inferContext({ ...module, functions: [shaped(callee)] });
  const values = operands.map((t, i): Value => ({ name: `v${i}`, type: asType(t), source: 'argument' }));
  return inferOp(op, values, { callee: 'f', ...attributes }, null, context).types.map(showType);
}

describe('call', () => {
  test("binds the callee's run-time dims and maps its results", () => {
    const callee = {
      takes: ['bf16[tokens, 8]', 'positions[tokens, keys, s, o]'],
      gives: ['f32[tokens, keys]', 'f32[o]'],
    };
    expect(inferred('call', callee, ['bf16[rows, 8]', 'positions[rows, cached, batch, 3]'])).toEqual([
      'f32[rows, cached]',
      'f32[3]',
    ]);
  });
  test('two dims of the callee may be one here', () => {
    const callee = { takes: ['positions[tokens, keys, s, o]'], gives: ['f32[tokens, keys]'] };
    expect(inferred('call', callee, ['positions[n, n, s, o]'])).toEqual(['f32[n, n]']);
  });
  test('dims that the callee makes keep their name', () => {
    expect(inferred('call', { takes: ['f32[tokens, 4]'], gives: ['f32[slots, 4]'] }, ['f32[n, 4]'])).toEqual([
      'f32[slots, 4]',
    ]);
  });
  test('results, then finals', () => {
    const callee = { takes: [cacheType, 'f32[tokens, 2]'], gives: ['f32[tokens]'], inout: [0] };
    expect(inferred('call', callee, [cacheType, 'f32[n, 2]'])).toEqual(['f32[n]', 'state cache']);
  });
  test('says what is wrong', () => {
    const callee = { takes: ['bf16[tokens, 8]', 'bf16[tokens, 8]'] };
    const attempt =
      (...operands: string[]) =>
      () =>
        inferred('call', callee, operands);
    expect(attempt('bf16[n, 8]')).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: call @f takes %a0, %a1, but got 1 operand]`,
    );
    expect(attempt('bf16[n, 8]', 'bf16[m, 8]')).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: call @f: argument %a1 is bf16[tokens, 8], but got bf16[m, 8]: axis 0: tokens is n already, and here m]`,
    );
    expect(attempt('bf16[n, 8]', 'bf16[n, 4]')).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: call @f: argument %a1 is bf16[tokens, 8], but got bf16[n, 4]: axis 1: 8 there, 4 here]`,
    );
    expect(attempt('bf16[n, 8]', 'f32[n, 8]')).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: call @f: argument %a1 is bf16[tokens, 8], but got f32[n, 8]: dtype or scales differ]`,
    );
    expect(attempt('positions[a, b, c, d]', 'f32[n, 8]')).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: call @f: argument %a0 is bf16[tokens, 8], but got positions[a, b, c, d]: it takes a tensor, not positions]`,
    );
    expect(() => inferred('call', callee, [], { callee: 'g' })).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: call: there is no function @g]`,
    );
    expect(() => inferred('launch', callee, ['bf16[n, 8]', 'bf16[n, 8]'])).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: launch runs a kernel, but @f is a block]`,
    );
  });
  test("the cache's rows cannot stand for something else", () => {
    const callee = { takes: ['f32[cached, 2]'] };
    expect(inferred('call', callee, ['f32[cached, 2]'])).toEqual([]);
    expect(() => inferred('call', callee, ['f32[n, 2]'])).toThrow('cached is cached already, and here n');
  });
});

test('launch runs kernels', () => {
  const kernel: Shape = {
    takes: ['f32[tokens]', cacheType],
    gives: ['f32[tokens]'],
    inout: [1],
    kind: 'kernel',
  };
  expect(inferred('launch', kernel, ['f32[n]', cacheType])).toEqual(['f32[n]', 'state cache']);
  expect(() => inferred('call', kernel, ['f32[n]', cacheType])).toThrow(
    'call runs a block, but @f is a kernel',
  );
});

describe('repeat', () => {
  const layer: Shape = {
    takes: ['f32[tokens, 2]', 'positions[tokens, keys, s, o]', cacheType, 'f8e4m3<1x2; f32>[tokens, 4]'],
    gives: ['f32[tokens, 2]', 'f8e4m3<1x2; f32>[tokens, 4]'],
    inout: [2],
  };
  const operands = (count: number, cacheCount = count): (string | Type)[] => [
    'f32[n, 2]',
    'positions[n, cached, s, o]',
    { ...cacheType, count: cacheCount },
    `f8e4m3<1x1x2; f32>[${count}, n, 4]`,
  ];
  const range = { start: 3, stop: 8, modes: ['carry', 'same', 'indexed', 'indexed'] };

  test('carries, stacks, and whole states', () => {
    const expected = ['f32[n, 2]', 'f8e4m3<1x1x2; f32>[5, n, 4]'];
    // 8 elements: by layer number. 5: one for each layer that runs.
    expect(inferred('repeat', layer, operands(8), range)).toEqual([...expected, 'state cache[8]']);
    expect(inferred('repeat', layer, operands(5, 8), range)).toEqual([...expected, 'state cache[8]']);
  });
  test('an inout value may be carried', () => {
    const callee = { takes: ['f32[tokens]', cacheType], inout: [1], gives: ['f32[tokens]'] };
    const attributes = { start: 0, stop: 2, modes: ['carry', 'carry'] };
    expect(inferred('repeat', callee, ['f32[n]', cacheType], attributes)).toEqual(['f32[n]', 'state cache']);
  });
  test('says what is wrong', () => {
    const attempt =
      (values: readonly (string | Type)[], attributes: Attributes = {}) =>
      () =>
        inferred('repeat', layer, values, { ...range, ...attributes });
    expect(attempt(operands(7))).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: repeat @f: operand 2 (%a2) has 7 elements, but layers run from 3 to 8]`,
    );
    expect(attempt(operands(8), { modes: ['carry', 'same'] })).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: repeat @f: 2 modes for 4 operands]`,
    );
    expect(
      attempt(operands(8), { modes: ['carry', 'all', 'indexed', 'indexed'] }),
    ).toThrowErrorMatchingInlineSnapshot(`[OpProblem: repeat @f: mode all]`);
    expect(
      attempt(operands(8), { modes: ['carry', 'same', 'same', 'indexed'] }),
    ).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: repeat @f: %a2 is updated by each layer, so it cannot be the same for all]`,
    );
    expect(attempt(operands(8), { start: 9 })).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: repeat @f: layers 9 to 8 are no range]`,
    );
    expect(
      attempt(operands(8), { modes: ['carry', 'indexed', 'indexed', 'indexed'] }),
    ).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: repeat @f: operand 1 (%a1) cannot be indexed by layer: it is positions[n, cached, s, o]]`,
    );
    const changing = { takes: ['f32[tokens]'], gives: ['bf16[tokens]'] };
    expect(() =>
      inferred('repeat', changing, ['f32[n]'], { start: 0, stop: 2, modes: ['carry'] }),
    ).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: repeat @f: carry 0 is f32[n], but a layer turns it into bf16[n]]`,
    );
    const routing = { takes: ['f32[tokens]'], gives: ['routing[tokens, 4, 2, slots]'] };
    expect(() =>
      inferred('repeat', routing, ['f32[n]'], { start: 0, stop: 2, modes: ['same'] }),
    ).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: repeat @f: a result of type routing[n, 4, 2, slots] cannot be stacked over layers]`,
    );
  });
});

test('indexedElement: by layer number, or by layer that runs', () => {
  expect(indexedElement(8, 5, { start: 3, stop: 8 })).toBe(5);
  expect(indexedElement(5, 5, { start: 3, stop: 8 })).toBe(2);
  expect(indexedElement(6, 5, { start: 3, stop: 8 })).toBe(null);
});
