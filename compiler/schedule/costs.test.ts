import { expect, test } from 'vitest';
import { DiagnosticError } from '../../ir/diagnostics.ts';
import { parseOpCosts } from './costs.ts';

test('all costs, in any order and with blanks', () =>
  expect(parseOpCosts(' FB=2.5, W = .75,F=1,I=1.25,B=2e0 ')).toEqual({
    forward: 1,
    backward: 2,
    backwardInput: 1.25,
    weights: 0.75,
    overlap: 2.5,
  }));

test.each([
  ['F=2', { forward: 2, backward: 4, backwardInput: 2, weights: 2, overlap: 6 }],
  ['B=3', { forward: 1, backward: 3, backwardInput: 1.5, weights: 1.5, overlap: 4 }],
  ['I=1.5,FB=0', { forward: 1, backward: 2, backwardInput: 1.5, weights: 0.5, overlap: 0 }],
  ['W=0.75', { forward: 1, backward: 2, backwardInput: 1.25, weights: 0.75, overlap: 3 }],
])('%s: the others follow', (text, costs) => expect(parseOpCosts(text)).toEqual(costs));

test.each([
  ['F=1,X=2', "there is no cost 'X'"],
  ['f=1', "there is no cost 'f'"],
  ['F=-1', "the cost F is '-1'"],
  ['F=', "the cost F is ''"],
  ['F=0x10', "the cost F is '0x10'"],
  ['F=1e999', "the cost F is '1e999'"],
  ['FB=NaN', "the cost FB is 'NaN'"],
  ['F=1,F=2', 'the cost F is given twice'],
  ['F', "'F' is not name=number"],
  ['F=1,,B=2', "'' is not name=number"],
])('%s is refused', (text, message) => {
  const error = (() => {
    try {
      return parseOpCosts(text);
    } catch (e) {
      return e;
    }
  })();
  expect(error).toBeInstanceOf(DiagnosticError);
  const [d] = (error as DiagnosticError).diagnostics;
  expect(d.code).toBe('schedule/bad-cost');
  expect(d.message).toBe(message);
  expect(d.fix).toMatch(/F \(forward\), B \(backward\), I \(backward_input\), W \(weights\), FB \(overlap\)/);
});
