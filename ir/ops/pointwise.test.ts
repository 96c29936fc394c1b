import { describe, expect, test } from 'vitest';
import { OpProblem } from './define.ts';
import { opDefinition } from './index.ts';
import { pointwiseOps } from './pointwise.ts';
import { elementsOf, infer, problemOf, tensorType, value } from './testing.ts';

type PointwiseName = keyof typeof pointwiseOps;

/** What each op makes of some operands (f32 and i32 exactly representable), worked out by hand or from tables. */
const meanings: Record<
  PointwiseName,
  readonly { of: string; operands: readonly (readonly number[])[]; gives: readonly number[]; as?: string }[]
> = {
  neg: [{ of: 'f32', operands: [[1, -2, 0]], gives: [-1, 2, -0] }],
  abs: [{ of: 'i32', operands: [[3, -4, 0]], gives: [3, 4, 0] }],
  exp: [{ of: 'f32', operands: [[0, 1, -1]], gives: [1, 2.718281828459045, 0.36787944117144233] }],
  exp2: [{ of: 'f32', operands: [[3, -2, 0.5]], gives: [8, 0.25, 1.4142135623730951] }],
  log: [{ of: 'f32', operands: [[1, 0, 10]], gives: [0, -Infinity, 2.302585092994046] }],
  log2: [{ of: 'f32', operands: [[8, 0.25, 3]], gives: [3, -2, 1.584962500721156] }],
  sqrt: [{ of: 'f32', operands: [[9, 2, -1]], gives: [3, 1.4142135623730951, NaN] }],
  rsqrt: [{ of: 'f32', operands: [[4, 0.25, 0]], gives: [0.5, 2, Infinity] }],
  reciprocal: [{ of: 'f32', operands: [[4, -0.5, Infinity]], gives: [0.25, -2, 0] }],
  sigmoid: [{ of: 'f32', operands: [[0, 1, -1000]], gives: [0.5, 0.7310585786300049, 0] }],
  silu: [{ of: 'f32', operands: [[0, 1, -2]], gives: [0, 0.7310585786300049, -0.2384058440442351] }],
  tanh: [{ of: 'f32', operands: [[0, 1, -50]], gives: [0, 0.7615941559557649, -1] }],
  sin: [{ of: 'f32', operands: [[0, 1, 100]], gives: [0, 0.8414709848078965, -0.5063656411097588] }],
  cos: [{ of: 'f32', operands: [[0, 1, 100]], gives: [1, 0.5403023058681398, 0.8623188722876839] }],
  floor: [{ of: 'f32', operands: [[1.5, -1.5, 2]], gives: [1, -2, 2] }],
  not: [{ of: 'bool', operands: [[0, 1]], gives: [1, 0] }],
  add: [
    {
      of: 'f32',
      operands: [
        [1, 2],
        [3, -5],
      ],
      gives: [4, -3],
    },
  ],
  sub: [
    {
      of: 'f32',
      operands: [
        [1, 2],
        [3, -5],
      ],
      gives: [-2, 7],
    },
  ],
  mul: [
    {
      of: 'i32',
      operands: [
        [3, -2],
        [3, 5],
      ],
      gives: [9, -10],
    },
  ],
  div: [
    {
      of: 'f32',
      operands: [
        [1, -3],
        [4, 2],
      ],
      gives: [0.25, -1.5],
    },
    {
      of: 'i32',
      operands: [
        [7, -7, 0],
        [2, 2, 5],
      ],
      gives: [3, -3, 0],
    },
  ],
  min: [
    {
      of: 'f32',
      operands: [
        [1, 2, NaN],
        [3, -5, 0],
      ],
      gives: [1, -5, NaN],
    },
  ],
  max: [
    {
      of: 'f32',
      operands: [
        [1, 2, 0],
        [3, -5, NaN],
      ],
      gives: [3, 2, NaN],
    },
  ],
  pow: [
    {
      of: 'f32',
      operands: [
        [2, 9, -2],
        [10, 0.5, 3],
      ],
      gives: [1024, 3, -8],
    },
  ],
  eq: [
    {
      of: 'i32',
      operands: [
        [1, 2],
        [1, 3],
      ],
      gives: [1, 0],
      as: 'bool',
    },
    {
      of: 'bool',
      operands: [
        [1, 0],
        [0, 0],
      ],
      gives: [0, 1],
      as: 'bool',
    },
  ],
  ne: [
    {
      of: 'f32',
      operands: [
        [1, 2, NaN],
        [1, 3, NaN],
      ],
      gives: [0, 1, 1],
      as: 'bool',
    },
  ],
  lt: [
    {
      of: 'f32',
      operands: [
        [1, 2, 3],
        [2, 2, 2],
      ],
      gives: [1, 0, 0],
      as: 'bool',
    },
  ],
  le: [
    {
      of: 'f32',
      operands: [
        [1, 2, 3],
        [2, 2, 2],
      ],
      gives: [1, 1, 0],
      as: 'bool',
    },
  ],
  gt: [
    {
      of: 'f32',
      operands: [
        [1, 2, 3],
        [2, 2, 2],
      ],
      gives: [0, 0, 1],
      as: 'bool',
    },
  ],
  ge: [
    {
      of: 'f32',
      operands: [
        [1, 2, 3],
        [2, 2, 2],
      ],
      gives: [0, 1, 1],
      as: 'bool',
    },
  ],
  and: [
    {
      of: 'bool',
      operands: [
        [0, 0, 1, 1],
        [0, 1, 0, 1],
      ],
      gives: [0, 0, 0, 1],
    },
  ],
  or: [
    {
      of: 'bool',
      operands: [
        [0, 0, 1, 1],
        [0, 1, 0, 1],
      ],
      gives: [0, 1, 1, 1],
    },
  ],
  cast: [
    {
      of: 'f32',
      operands: [[1.9, -1.9, 3e9, -3e9, NaN]],
      gives: [1, -1, 2147483647, -2147483648, 0],
      as: 'i32',
    },
    { of: 'f32', operands: [[0, 0.25, -3, NaN]], gives: [0, 1, 1, 1], as: 'bool' },
    { of: 'bool', operands: [[0, 1]], gives: [0, 1], as: 'f32' },
    { of: 'i32', operands: [[257, -1]], gives: [256, -1], as: 'bf16' },
    { of: 'i64', operands: [[7, 2 ** 40]], gives: [7, 2 ** 31 - 1], as: 'i32' },
  ],
  select: [
    {
      of: 'f32',
      operands: [
        [1, 0, 1],
        [10, 20, 30],
        [-1, -2, -3],
      ],
      gives: [10, -2, 30],
    },
  ],
};

describe('meaning', () => {
  for (const [name, cases] of Object.entries(meanings))
    for (const { of, operands, gives, as } of cases)
      test(`${name} of ${of}`, () => {
        const n = gives.length;
        const types = operands.map((_, i) => `${name === 'select' && i === 0 ? 'bool' : of}[${n}]`);
        const got = elementsOf(name, {
          operands: types,
          inputs: operands.map((data, i) => value(types[i], data)),
          ...(as && name === 'cast' ? { declared: [`${as}[${n}]`] } : {}),
          rounding: of !== 'f32' || as !== undefined,
        });
        expect(got.length).toBe(n);
        // A few units in the last place: libraries differ there, meanings do not.
        for (const [i, x] of got.entries())
          if (Number.isFinite(gives[i]))
            expect(Math.abs(x - gives[i])).toBeLessThanOrEqual(1e-15 * Math.max(1, Math.abs(gives[i])));
          else expect(x).toBe(gives[i]);
        expect(infer(name, types, {}, as ? [`${as}[${n}]`] : undefined)).toEqual([`${as ?? of}[${n}]`]);
      });

  test('a cast to an integer truncates with rounding off as well', () => {
    const application = {
      operands: ['f32[2]'],
      inputs: [value('f32[2]', [2.7, -2.7])],
      declared: ['i32[2]'],
    };
    expect(elementsOf('cast', { ...application, rounding: false })).toEqual([2, -2]);
  });

  test('an integer division by zero is an error, not a number', () => {
    const inputs = [value('i32[1]', [1]), value('i32[1]', [0])];
    expect(() => elementsOf('div', { operands: ['i32[1]', 'i32[1]'], inputs })).toThrow('division by zero');
  });

  test('operands keep their values', () => {
    const x = value('f32[2]', [1, 2]);
    for (const [name, declared] of [
      ['neg', undefined],
      ['cast', ['f32[2]']],
    ] as const)
      elementsOf(name, { operands: ['f32[2]'], inputs: [x], declared });
    expect([...x.data]).toEqual([1, 2]);
  });
});

describe('types', () => {
  test('run-time axes pass, static names come from the declared type', () => {
    expect(infer('exp', ['bf16[tokens, 8]'])).toEqual(['bf16[tokens, 8]']);
    expect(infer('add', ['f32[n, 8]', 'f32[n, width=8]'], {}, ['f32[n, hidden=8]'])).toEqual([
      'f32[n, hidden=8]',
    ]);
    expect(infer('lt', ['i32[]', 'i32[]'])).toEqual(['bool[]']);
  });

  test.each<[PointwiseName, string[], string[] | undefined, string]>([
    ['exp', ['i32[4]'], undefined, 'x: exp works on floats, but x is i32[4] (cast x to f32)'],
    ['neg', ['bool[4]'], undefined, 'x: neg works on numbers, but x is bool[4] (cast x to f32)'],
    [
      'not',
      ['f32[4]'],
      undefined,
      'x: not works on bools, but x is f32[4] (cast x to bool, or compare it with ne)',
    ],
    [
      'silu',
      ['f8e4m3<1x128; f32>[n, 256]'],
      undefined,
      'x: silu needs plain values, but x is scaled: f8e4m3<1x128; f32>[n, 256] (dequantize x first, or quantize after silu)',
    ],
    [
      'add',
      ['bf16[8, 4]', 'bf16[8, 5]'],
      undefined,
      'b: add needs a and b of one type: a is bf16[8, 4], b is bf16[8, 5]',
    ],
    [
      'add',
      ['bf16[8]', 'f32[8]'],
      undefined,
      'b: add needs a and b of one type: a is bf16[8], b is f32[8] (cast b to bf16)',
    ],
    [
      'mul',
      ['f32[n, 8]', 'f32[8]'],
      undefined,
      'b: mul needs a and b of one type: a is f32[n, 8], b is f32[8] (broadcast the smaller one: mul does not stretch axes by itself)',
    ],
    ['mul', ['f32[n]', 'f32[m]'], undefined, 'b: mul needs a and b of one type: a is f32[n], b is f32[m]'],
    ['pow', ['i32[2]', 'i32[2]'], undefined, 'a: pow works on floats, but a is i32[2] (cast a to f32)'],
    ['lt', ['bool[2]', 'bool[2]'], undefined, 'a: lt works on numbers, but a is bool[2] (cast a to f32)'],
    [
      'and',
      ['bool[2]', 'i32[2]'],
      undefined,
      'b: and needs a and b of one type: a is bool[2], b is i32[2] (cast b to bool)',
    ],
    ['cast', ['f32[8]'], undefined, '-: cast cannot know its result type (write the result type)'],
    [
      'cast',
      ['f32[8]'],
      ['bf16[9]'],
      'x: cast changes the dtype only: x is f32[8], the result is bf16[9] (reshape or broadcast in a step of its own)',
    ],
    [
      'cast',
      ['f32[8]'],
      ['f8e4m3<8; f32>[8]'],
      '-: cast gives plain values, but f8e4m3<8; f32>[8] is declared (quantize the result of cast)',
    ],
    [
      'cast',
      ['f32[8]'],
      ['f8ue8m0[8]'],
      'x: cast: f8ue8m0[8] holds scales, not values (cast between floats, integers and bool)',
    ],
    [
      'select',
      ['f32[2]', 'f32[2]', 'f32[2]'],
      undefined,
      'c: select works on bools, but c is f32[2] (cast c to bool, or compare it with ne)',
    ],
    [
      'select',
      ['bool[2]', 'f32[3]', 'f32[3]'],
      undefined,
      'c: select needs one condition per element: c is bool[2], a is f32[3] (broadcast c to the shape of a)',
    ],
    [
      'select',
      ['bool[2]', 'f32[2]', 'f32[3]'],
      undefined,
      'b: select needs a and b of one type: a is f32[2], b is f32[3]',
    ],
    [
      'add',
      ['positions[t, t, s, o]', 'f32[2]'],
      undefined,
      'a: add needs a tensor as a, but got positions[t, t, s, o]',
    ],
  ])('%s %j', (name, operands, declared, expected) => {
    expect(problemOf(name, operands, {}, declared)).toBe(expected);
  });

  test('every op refuses scaled operands', () => {
    const scaled = 'f8e4m3<1x128; f32>[n, 256]';
    for (const [name, { operands }] of Object.entries(pointwiseOps)) {
      expect(
        problemOf(
          name,
          operands.map(() => scaled),
          {},
          ['f32[n, 256]'],
        ),
      ).toContain(scaled);
      expect(() =>
        infer(
          name,
          operands.map(() => scaled),
        ),
      ).toThrow(OpProblem);
    }
  });
});

test('costs count elements at run time', () => {
  const cost = (name: string, t: string) =>
    opDefinition(name).cost!([tensorType(t)], [tensorType(t)], {}, () => 10);
  expect(cost('neg', 'bf16[n, 8]')).toEqual({ flops: 80, bytes: 320 });
  expect(cost('sigmoid', 'f32[n, 8]')).toEqual({ flops: 320, bytes: 640 });
});
