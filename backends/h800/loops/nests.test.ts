// Every op that loops can express, alone: PTX executed by the functional interpreter against the IR interpreter's
// reference, and assembled where ptxas is there.
import { describe, expect, test } from 'vitest';
import type { Attributes, DimDeclaration, StateDeclaration } from '../../../ir/module.ts';
import type { RuntimeValue } from '../../../ir/interpret/values.ts';
import { type as typeOf } from '../../../ir/ops/testing.ts';
import {
  assembled,
  expectClose,
  kernelOf,
  random,
  reference,
  run,
  tensorValue,
  type Close,
} from '../../../test/support/kernel-subject.ts';
import { emitNestedLoops } from './index.ts';

interface Case {
  readonly title?: string;
  readonly op: string;
  readonly args: readonly string[];
  readonly attributes?: Attributes;
  readonly declared?: readonly string[];
  readonly dims?: readonly DimDeclaration[];
  readonly states?: readonly StateDeclaration[];
  /** Sizes of run-time dims. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Values of the arguments where random ones will not do. */
  readonly inputs?: Readonly<Record<number, RuntimeValue>>;
  readonly spread?: number;
  readonly close?: Close;
}

const tokens: readonly DimDeclaration[] = [{ name: 'tokens', bound: 64 }];
const positive = (type: string, seed: number): RuntimeValue => {
  const t = random(type, seed);
  return { ...t, data: t.data.map((x) => Math.abs(x) + 0.25) };
};

const unary = ['neg', 'abs', 'exp', 'exp2', 'sigmoid', 'silu', 'tanh', 'sin', 'cos', 'floor'];
const positiveOnly = ['log', 'log2', 'sqrt', 'rsqrt', 'reciprocal'];
const binary = ['add', 'sub', 'mul', 'div', 'min', 'max'];
const compared = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'];

const cases: readonly Case[] = [
  ...unary.map((op): Case => ({
    op,
    args: ['f32[3, 40]'],
    spread: 6,
    close: { relative: 4e-6, absolute: 2e-6 },
  })),
  ...unary.map((op): Case => ({ title: `${op} bf16`, op, args: ['bf16[77]'] })),
  ...positiveOnly.map((op): Case => ({
    op,
    args: ['f32[64]'],
    inputs: { 0: positive('f32[64]', 5) },
    close: { absolute: 1e-6 },
  })),
  ...binary.map((op): Case => ({ op, args: ['f32[5, 24]', 'f32[5, 24]'] })),
  ...binary.map((op): Case => ({
    title: `${op} bf16`,
    op,
    args: ['bf16[tokens, 8]', 'bf16[tokens, 8]'],
    dims: tokens,
    sizes: { tokens: 5 },
  })),
  ...['add', 'sub', 'mul', 'min', 'max'].map((op): Case => ({
    title: `${op} i32`,
    op,
    args: ['i32[30]', 'i32[30]'],
  })),
  {
    op: 'div',
    title: 'div i32',
    args: ['i32[6]', 'i32[6]'],
    inputs: {
      0: tensorValue('i32', [6], [7, -7, 9, 100, -1, 0]),
      1: tensorValue('i32', [6], [2, 2, -4, 7, 5, 3]),
    },
  },
  {
    op: 'pow',
    args: ['f32[32]', 'f32[32]'],
    inputs: { 0: positive('f32[32]', 3) },
    close: { relative: 1e-5 },
  },
  {
    op: 'pow',
    title: 'pow of negative numbers',
    args: ['f32[6]', 'f32[6]'],
    inputs: {
      0: tensorValue('f32', [6], [-2, -2, -0.5, 0, 0, 3]),
      1: tensorValue('f32', [6], [3, 2, -1, 2, 0, 0.5]),
    },
  },
  ...compared.map((op): Case => ({ op, args: ['i32[90]', 'i32[90]'] })),
  ...compared.map((op): Case => ({
    title: `${op} f32 with NaN`,
    op,
    args: ['f32[4]', 'f32[4]'],
    inputs: { 0: tensorValue('f32', [4], [1, NaN, 2, 3]), 1: tensorValue('f32', [4], [1, 1, NaN, 2]) },
  })),
  { op: 'and', args: ['bool[33]', 'bool[33]'] },
  { op: 'or', args: ['bool[33]', 'bool[33]'] },
  { op: 'not', args: ['bool[33]'] },
  { op: 'eq', title: 'eq bool', args: ['bool[40]', 'bool[40]'] },
  { op: 'select', args: ['bool[3, 24]', 'bf16[3, 24]', 'bf16[3, 24]'] },
  { op: 'select', title: 'select bool', args: ['bool[33]', 'bool[33]', 'bool[33]'] },
  ...(['bf16', 'f16', 'f8e4m3', 'f8e5m2', 'f12e5m6', 'i32', 'i64', 'bool'] as const).flatMap((to): Case[] => [
    { title: `cast f32 to ${to}`, op: 'cast', args: ['f32[5, 16]'], declared: [`${to}[5, 16]`], spread: 600 },
    { title: `cast f32 to ${to}, odd`, op: 'cast', args: ['f32[7]'], declared: [`${to}[7]`], spread: 600 },
  ]),
  ...(['bf16', 'f16', 'f8e4m3', 'f8e5m2', 'f12e5m6', 'i32', 'i64', 'bool'] as const).map((from): Case => ({
    title: `cast ${from} to f32`,
    op: 'cast',
    args: [`${from}[3, 16]`],
    declared: ['f32[3, 16]'],
  })),
  ...(['bf16', 'f16', 'f8e4m3', 'f8e5m2', 'f12e5m6', 'i32'] as const).map((to): Case => ({
    title: `cast special values to ${to}`,
    op: 'cast',
    args: ['f32[20]'],
    declared: [`${to}[20]`],
    inputs: {
      0: tensorValue(
        'f32',
        [20],
        [
          0,
          -0,
          1e-8,
          -1e-8,
          2 ** -9,
          3 * 2 ** -10,
          448,
          464,
          465,
          -1e5,
          65504,
          65520,
          65535,
          1e30,
          -1e38,
          2 ** -20,
          2 ** -21,
          3 * 2 ** -22,
          61440,
          NaN,
        ].map(Math.fround),
      ),
    },
  })),
  { op: 'cast', title: 'cast i32 to i64', args: ['i32[9]'], declared: ['i64[9]'] },
  { op: 'cast', title: 'cast i64 to i32', args: ['i64[9]'], declared: ['i32[9]'] },
  { op: 'const', title: 'const splat', args: [], declared: ['bf16[3, 8]'], attributes: { value: 0.3 } },
  {
    op: 'const',
    title: 'const table',
    args: [],
    declared: ['f32[2, 3]'],
    attributes: { values: [1, 2, 3, 4, 5, 6.5] },
  },
  { op: 'iota', args: [], declared: ['i32[3, 8]'], attributes: { axis: 1 } },
  { op: 'iota', title: 'iota in f32', args: [], declared: ['f32[3, 5]'], attributes: { axis: 0 } },
  { op: 'broadcast', args: ['f32[5]'], declared: ['f32[3, 5, 2]'], attributes: { axes: [1] } },
  {
    op: 'broadcast',
    title: 'broadcast of a row',
    args: ['bf16[16]'],
    declared: ['bf16[tokens, 16]'],
    attributes: { axes: [1] },
    dims: tokens,
    sizes: { tokens: 3 },
  },
  {
    op: 'reshape',
    args: ['bf16[tokens, 4, 6]'],
    declared: ['bf16[tokens, 24]'],
    dims: tokens,
    sizes: { tokens: 3 },
  },
  { op: 'transpose', args: ['f32[3, 4, 8]'], attributes: { order: [2, 0, 1] } },
  {
    op: 'transpose',
    title: 'transpose of a run-time axis',
    args: ['f32[tokens, 4]'],
    attributes: { order: [1, 0] },
    dims: tokens,
    sizes: { tokens: 5 },
  },
  { op: 'slice', args: ['bf16[4, 24]'], attributes: { axis: 1, start: 8, stop: 16 } },
  { op: 'split', args: ['bf16[4, 24]'], attributes: { axis: 1, sizes: [8, 10, 6] } },
  { op: 'concat', args: ['f32[4, 8]', 'f32[4, 3]', 'f32[4, 5]'], attributes: { axis: 1 } },
  {
    op: 'concat',
    title: 'concat of aligned parts',
    args: ['bf16[4, 8]', 'bf16[4, 16]'],
    attributes: { axis: 1 },
  },
  { op: 'pad', args: ['f32[2, 5]'], attributes: { axis: 1, before: 2, after: 1, value: -3 } },
  {
    op: 'gather',
    args: ['bf16[10, 16]', 'i32[tokens]'],
    dims: tokens,
    inputs: { 1: tensorValue('i32', [4], [3, 0, 9, 3]) },
    sizes: { tokens: 4 },
  },
  {
    op: 'gather',
    title: 'gather by i64 in two axes',
    args: ['f32[10]', 'i64[2, 3]'],
    inputs: { 1: tensorValue('i64', [2, 3], [3, 0, 9, 3, 1, 1]) },
  },
  {
    op: 'sum',
    title: 'sum of short rows',
    args: ['f32[6, 40]'],
    attributes: { axes: [1] },
    close: { absolute: 1e-5 },
  },
  {
    op: 'sum',
    title: 'sum of long rows',
    args: ['bf16[3, 4096]'],
    attributes: { axes: [1] },
    close: { absolute: 1e-2 },
  },
  {
    op: 'sum',
    title: 'sum of columns',
    args: ['f32[tokens, 48]'],
    attributes: { axes: [0] },
    dims: tokens,
    sizes: { tokens: 37 },
    close: { absolute: 1e-5 },
  },
  {
    op: 'sum',
    title: 'sum of many columns',
    args: ['f32[tokens, 9000]'],
    attributes: { axes: [0] },
    dims: tokens,
    sizes: { tokens: 5 },
    close: { absolute: 1e-5 },
  },
  {
    op: 'sum',
    title: 'sum of everything',
    args: ['f32[tokens, 48]'],
    attributes: { axes: [0, 1] },
    dims: tokens,
    sizes: { tokens: 37 },
    close: { absolute: 1e-4 },
  },
  { op: 'sum', title: 'sum of i32', args: ['i32[4, 100]'], attributes: { axes: [1] } },
  { op: 'sum', title: 'sum of i64', args: ['i64[4, 3000]'], attributes: { axes: [1] } },
  {
    op: 'sum',
    title: 'sum in the middle',
    args: ['f32[3, 20, 5]'],
    attributes: { axes: [1] },
    close: { absolute: 1e-5 },
  },
  { op: 'max_over', args: ['bf16[5, 300]'], attributes: { axes: [1] } },
  {
    op: 'max_over',
    title: 'max_over with NaN',
    args: ['f32[2, 20]'],
    attributes: { axes: [1] },
    inputs: {
      0: tensorValue(
        'f32',
        [2, 20],
        Array.from({ length: 40 }, (_, i) => (i === 7 ? NaN : i)),
      ),
    },
  },
  { op: 'min_over', args: ['i32[5, 30]'], attributes: { axes: [1] } },
  { op: 'argmax', args: ['f32[6, 100]'], attributes: { axis: 1 } },
  { op: 'argmax', title: 'argmax of long rows with ties', args: ['i32[3, 5000]'], attributes: { axis: 1 } },
  { op: 'argmax', title: 'argmax of columns', args: ['f32[30, 6]'], attributes: { axis: 0 } },
  {
    op: 'cumsum',
    title: 'cumsum as loops',
    args: ['f32[3, 20]'],
    attributes: { axis: 1 },
    close: { absolute: 1e-5 },
  },
  { op: 'top_k', title: 'top_k as loops', args: ['i32[3, 24]'], attributes: { k: 5 } },
  {
    op: 'rms_norm',
    args: ['bf16[tokens, 256]', 'bf16[256]'],
    attributes: { epsilon: 1e-6 },
    dims: tokens,
    sizes: { tokens: 3 },
  },
  {
    op: 'rms_norm',
    title: 'rms_norm of long rows',
    args: ['bf16[tokens, 7168]', 'bf16[7168]'],
    attributes: { epsilon: 1e-6 },
    dims: tokens,
    sizes: { tokens: 2 },
  },
  {
    op: 'rms_norm',
    title: 'rms_norm per head',
    args: ['f32[tokens, 3, 40]', 'f32[40]'],
    attributes: { epsilon: 1e-6 },
    dims: tokens,
    sizes: { tokens: 2 },
  },
  { op: 'softmax', args: ['f32[4, 50]'], attributes: { axis: 1 } },
  { op: 'softmax', title: 'softmax of long rows', args: ['bf16[2, 3000]'], attributes: { axis: 1 } },
  { op: 'softmax', title: 'softmax of columns', args: ['f32[20, 6]'], attributes: { axis: 0 } },
  { op: 'softmax', title: 'softmax of short rows', args: ['f32[9, 8]'], attributes: { axis: 1 } },
  { op: 'silu_mul', args: ['bf16[tokens, 32]', 'bf16[tokens, 32]'], dims: tokens, sizes: { tokens: 3 } },
  {
    op: 'silu_mul',
    title: 'silu_mul with weights',
    args: ['bf16[tokens, 32]', 'bf16[tokens, 32]', 'f32[tokens]'],
    dims: tokens,
    sizes: { tokens: 3 },
  },
];

describe('ops as loops', () => {
  for (const [seed, c] of cases.entries())
    test(c.title ?? c.op, async () => {
      const subject = kernelOf({ args: c.args, dims: c.dims, states: c.states, name: c.op }, (b, args) =>
        b.op(c.op, args, c.attributes ?? {}, c.declared?.map(typeOf) ?? null),
      );
      const kernel = emitNestedLoops(subject.fn, subject.module);
      const inputs = c.args.map((t, i) => c.inputs?.[i] ?? random(t, 17 * seed + i, c.sizes, c.spread));
      const want = reference(subject, inputs, c.sizes);
      const { results } = run(kernel, subject, inputs, { sizes: c.sizes });
      expect(results).toHaveLength(want.length);
      for (const [i, w] of want.entries()) expectClose(results[i], w, c.close);
      await assembled(kernel);
    });
});
