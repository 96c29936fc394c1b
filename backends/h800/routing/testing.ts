// For this folder's tests: routings of any shape, and a kernel compared with the interpreter byte by byte or closely.
import { expect } from 'vitest';
import type { FunctionBuilder } from '../../../ir/builder.ts';
import { apply } from '../../../ir/interpret/testing.ts';
import type { RoutingData, RuntimeValue, TensorData } from '../../../ir/interpret/values.ts';
import { raggedBound, type DimDeclaration, type Value } from '../../../ir/module.ts';
import {
  assembled,
  expectClose,
  kernelOf,
  reference,
  run,
  tensorValue,
  type Close,
  type Given,
} from '../../../test/support/kernel-subject.ts';
import { emitRouting, isRouting } from './index.ts';

export interface RoutingShape {
  readonly tokens: number;
  readonly experts: number;
  readonly top: number;
  readonly align: number;
}

/** Dims `tokens` and `slots` for a routing. */
export function routedDims({ tokens, experts, top, align }: RoutingShape): readonly DimDeclaration[] {
  const ragged = { of: 'tokens', per: top, groups: experts, align };
  const bound = Math.ceil(raggedBound(ragged, Math.max(64, tokens)) / align) * align;
  return [
    { name: 'tokens', bound: Math.max(64, tokens) },
    { name: 'slots', bound, ragged },
  ];
}

export const routingType = ({ experts, top }: RoutingShape): string =>
  `routing[tokens, experts=${experts}, top=${top}, slots]`;

/** The routing that given scores lead to, by the interpreter. */
export function routingFor(
  shape: RoutingShape,
  score: (token: number, expert: number) => number,
): RoutingData {
  const { tokens, experts, top } = shape;
  const scores = Float64Array.from({ length: tokens * experts }, (_, i) =>
    Math.fround(score(Math.floor(i / experts), i % experts)),
  );
  const application = {
    operands: [`f32[tokens, experts=${experts}]`],
    attributes: { top },
    declared: [routingType(shape)],
    dims: routedDims(shape),
  };
  return apply('route', application, [tensorValue('f32', [tokens, experts], scores)])[0] as RoutingData;
}

/** Rows of a result over a ragged axis that are in use. */
export function used(got: RuntimeValue, rows: number): TensorData {
  const t = got as TensorData;
  const cut = (shape: readonly number[], data: Float64Array) => ({
    shape: [rows, ...shape.slice(1)],
    data: data.slice(0, rows * shape.slice(1).reduce((n, s) => n * s, 1)),
  });
  return { ...t, ...cut(t.shape, t.data), scales: t.scales.map((s) => cut(s.shape, s.data)) };
}

/** Emits the kernel of one op, runs it in both orders of threads, and compares every result with the interpreter's. */
export async function check(
  given: Given,
  inputs: readonly RuntimeValue[],
  body: (b: FunctionBuilder, args: readonly Value[]) => readonly Value[],
  close: Close = { relative: 0, absolute: 0, share: 0 },
  sizes: Readonly<Record<string, number>> = {},
): Promise<string> {
  const subject = kernelOf(given, body);
  expect(isRouting(subject.fn)).toBe(true);
  const kernel = emitRouting(subject.fn, subject.module);
  const { results } = run(kernel, subject, inputs, { sizes });
  const want = reference(subject, inputs, sizes);
  expect(results).toHaveLength(want.length);
  for (const [i, w] of want.entries()) {
    const rows = (w as TensorData).shape[0];
    expectClose(rows === undefined ? results[i] : used(results[i], rows), w, close);
  }
  await assembled(kernel);
  return kernel.ptx;
}
