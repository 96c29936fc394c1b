// One op on its own: it is in the table, its attributes are complete, and inference agrees with its result types.
import { inferOp } from '../builder.ts';
import { calleeOf, type DeriveExpression, type Op, type Value } from '../module.ts';
import { commonAttributes, OpProblem, type InferContext, type OpDefinition } from '../ops/define.ts';
import { opNames, opTable } from '../ops/index.ts';
import { didYouMean } from '../text/spelling.ts';
import { sameType, showType, type TensorType, type Type } from '../types.ts';
import type { ModuleTable, Place, Report } from './report.ts';

/** Inference looks callees up among the functions that stand before. */
export const tableContext = (table: ModuleTable): InferContext => ({
  module: table.module,
  callee: (name) => {
    const found = table.earlier.get(name);
    if (!found)
      throw new OpProblem(
        `there is no function @${name} before this one`,
        'callee',
        'callees stand before callers',
      );
    return found;
  },
});

/** Reports an op that disagrees with its definition; false when there is anything wrong. */
export function verifyOp(
  op: Op,
  context: InferContext,
  table: ModuleTable,
  place: Place,
  report: Report,
): boolean {
  const definition = definitionOf(op.op, place, report);
  if (definition === null) return false;
  const callee = calleeOf(op);
  if (callee !== null && !table.earlier.has(callee)) {
    const later = table.all.has(callee);
    report(
      'ir/unknown-function',
      later ? `@${callee} stands after its caller` : `there is no function @${callee}`,
      place,
      later
        ? 'callees stand before callers'
        : (didYouMean(callee, table.earlier.keys(), (s) => `@${s}`) ?? 'callees stand before callers'),
    );
    return false;
  }
  if (!verifyPrefix(op, place, report)) return false;
  const types = inferred(
    definition,
    op.operands,
    op.attributes,
    op.results.map((r) => r.type),
    context,
    place,
    report,
  );
  if (types === null) return false;
  if (types.length !== op.results.length) {
    report(
      'ir/type',
      `${op.op} gives ${types.length} results, but the op has ${op.results.length}`,
      place,
      `its results are ${types.map(showType).join(', ')}`,
    );
    return false;
  }
  let fine = true;
  for (const [i, type] of types.entries()) {
    if (sameType(type, op.results[i].type)) continue;
    fine = false;
    report(
      'ir/type',
      `%${op.results[i].name} is ${showType(op.results[i].type)}, but ${op.op} gives ${showType(type)}`,
      place,
      `make it ${showType(type)}`,
    );
  }
  return fine;
}

function definitionOf(name: string, place: Place, report: Report): OpDefinition | null {
  if (Object.hasOwn(opTable, name)) return opTable[name];
  report(
    'ir/unknown-op',
    `there is no op ${name}`,
    place,
    didYouMean(name, opNames()) ?? 'docs/IR.md lists every op',
  );
  return null;
}

/** Result types, or null when the definition refuses the application. */
function inferred(
  definition: OpDefinition,
  operands: readonly Value[],
  attributes: Op['attributes'],
  declared: readonly Type[],
  context: InferContext,
  place: Place,
  report: Report,
): readonly Type[] | null {
  for (const name of Object.keys(definition.attributes))
    if (!Object.hasOwn(attributes, name)) {
      report(
        'ir/attribute',
        `${definition.name} lacks the attribute ${name}`,
        place,
        'ops carry all their attributes: build them with FunctionBuilder',
      );
      return null;
    }
  for (const name of Object.keys(attributes))
    // `in` would find `toString` and its like in any record.
    if (!Object.hasOwn(definition.attributes, name) && !Object.hasOwn(commonAttributes, name)) {
      report(
        'ir/attribute',
        `${definition.name} has no attribute ${name}`,
        place,
        didYouMean(name, Object.keys(definition.attributes)) ?? 'leave it out',
      );
      return null;
    }
  try {
    return inferOp(definition.name, operands, attributes, declared, context).types;
  } catch (error) {
    if (error instanceof OpProblem) {
      const isAttribute =
        error.at !== null && Object.hasOwn(definition.attributes, error.at) && error.at !== 'callee';
      report(isAttribute ? 'ir/attribute' : 'ir/type', error.message, place, error.fix);
    } else {
      // The rule itself failed: our bug, but the op that shows it is worth more than a stack.
      report(
        'ir/internal',
        `inference of ${definition.name} failed: ${error instanceof Error ? error.message : String(error)}`,
        place,
      );
    }
    return null;
  }
}

/** A prefix is a piece of a checkpoint name; only repeat knows a number to put into it. */
function verifyPrefix(op: Op, place: Place, report: Report): boolean {
  const { prefix } = op.attributes;
  if (typeof prefix !== 'string' || prefix === '' || (op.op !== 'call' && op.op !== 'repeat')) return true;
  const rest = op.op === 'repeat' ? prefix.replaceAll('{i}', '0') : prefix;
  const reason =
    op.op === 'call' && prefix.includes('{i}')
      ? 'call has no layer number for {i}: only repeat does'
      : /[{}]/.test(rest)
        ? `only {i} may stand in braces`
        : /[\s"\\\u0000-\u001f\u007f]/.test(rest)
          ? 'blanks, quotes, backslashes and control characters do not occur in checkpoint names'
          : rest.startsWith('.') || rest.includes('..')
            ? 'no part of a checkpoint name is empty'
            : null;
  if (reason === null) return true;
  report(
    'ir/prefix',
    `${op.op} @${calleeOf(op)}: prefix ${JSON.stringify(prefix)} is odd: ${reason}`,
    place,
    'write a prefix such as "model.layers.{i}."',
  );
  return false;
}

/** Type of a derived weight's expression, or null when something in it is wrong (and reported). */
export function expressionType(
  e: DeriveExpression,
  parameters: ReadonlyMap<string, TensorType>,
  context: InferContext,
  place: Place,
  report: Report,
): TensorType | null {
  if ('parameter' in e) {
    const type = parameters.get(e.parameter);
    if (!type)
      report(
        'ir/unknown-value',
        `no parameter ${JSON.stringify(e.parameter)} is declared before this`,
        place,
        didYouMean(e.parameter, parameters.keys(), (s) => JSON.stringify(s)) ??
          'declare it in the same function',
      );
    return type ?? null;
  }
  const operands = e.operands.map((o) => expressionType(o, parameters, context, place, report));
  const definition = definitionOf(e.op, place, report);
  if (definition === null || operands.some((t) => t === null)) return null;
  if (definition.class === 'structure' || definition.class === 'state' || definition.class === 'routing') {
    report(
      'ir/derive',
      `${e.op} cannot stand in a derived weight`,
      place,
      'derive weights with ops on tensors only',
    );
    return null;
  }
  const values = operands.map((type, i): Value => ({ name: `operand${i}`, type: type!, source: 'result' }));
  const types = inferred(definition, values, e.attributes, [e.type], context, place, report);
  if (types === null) return null;
  if (types.length !== 1 || !sameType(types[0], e.type)) {
    report(
      'ir/type',
      `${e.op} gives ${types.map(showType).join(', ')}, but ${showType(e.type)} is written`,
      place,
      `make it ${types.map(showType).join(', ')}`,
    );
    return null;
  }
  return e.type;
}
