// Reading and writing caches. A cache has one row axis for all sequences; positions say through pages which row holds
// which position of which sequence. Writing updates the state's data in place and gives the same state back: a state
// value has one user after it is written, which the verifier and plan-memory see to.
import type { PositionsData, StateData, TensorData } from '../interpret/values.ts';
import type { StateDeclaration } from '../module.ts';
import { sameDim, sameDims, showType, type PositionsType, type TensorType, type Type } from '../types.ts';
import { defineOp, problem, type Cost, type DimSizes, type InferContext } from './define.ts';
import {
  asPositions,
  asState,
  asTensor,
  bytesOf,
  expectPositions,
  expectState,
  expectTensor,
  named,
  product,
  tensorData,
  textOf,
} from './support.ts';

/** The declaration behind a state operand that is one cache with rows. Throws OpProblem. */
function expectCache(type: Type, op: string, { module }: InferContext): StateDeclaration {
  const s = expectState(type, 'state', op);
  const declared = module.states.find((d) => d.name === s.state);
  if (!declared) problem(`${op}: no state ${s.state} is declared`, 'state', 'declare it in the module');
  if (s.count !== null)
    problem(
      `${op} works on one state, but ${showType(s)} is ${s.count} of them`,
      'state',
      'pass it to a repeat with mode indexed',
    );
  if (declared.policy === 'recurrent')
    problem(`${op} needs rows, but ${s.state} is a recurrent state of a fixed size`, 'state');
  return declared;
}

/** Values match the state's fields: one each, in order, rows over the step's tokens. */
function expectFields(
  values: readonly Type[],
  cache: StateDeclaration,
  at: PositionsType,
  op: string,
): readonly TensorType[] {
  if (values.length !== cache.fields.length)
    problem(
      `${op}: ${cache.name} has the fields ${cache.fields.map((f) => f.name).join(', ')}, but got ${values.length} values`,
      'values',
    );
  return cache.fields.map((field, i) => {
    const v = expectTensor(values[i], field.name, op);
    const row = { ...field.type, dims: [at.tokens, ...field.type.dims.slice(1)] };
    if (
      v.dims.length === 0 ||
      !sameDims(v.dims, row.dims) ||
      v.dtype !== row.dtype ||
      showScales(v) !== showScales(row)
    )
      problem(
        `${op}: field ${field.name} takes rows of ${showType(row)}, but got ${showType(v)}`,
        'values',
        v.dtype !== row.dtype ? `cast the value to ${row.dtype}` : null,
      );
    for (const { tile } of row.scales)
      if (tile[0] !== 1)
        problem(
          `${op} writes single rows, but tiles of field ${field.name} hold several: ${showType(field.type)}`,
          'state',
        );
    return v;
  });
}

const showScales = (t: TensorType): string => showType({ ...t, dtype: 'f32', dims: [] });

/** Cache row of a token. Throws when the page table has no place for it. */
function rowOf(at: PositionsData, token: number, rows: number): number {
  const [s, p] = [at.sequence[token], at.position[token]];
  const page = at.pages[s]?.[Math.floor(p / at.page)];
  if (page === undefined)
    throw new Error(
      `position ${p} of sequence ${s} has no page: ${at.pages[s]?.length ?? 0} pages of ${at.page} rows are given`,
    );
  const row = page * at.page + (p % at.page);
  if (!(row >= 0 && row < rows))
    throw new Error(`position ${p} of sequence ${s} lies in row ${row}, but the cache has ${rows} rows`);
  return row;
}

/** Writes each token's row of each field. */
function append(state: StateData, at: PositionsData, values: readonly Rows[]): void {
  const fields = Object.values(state.layers[0].fields);
  for (const [i, field] of fields.entries()) {
    const rows = Int32Array.from(at.position, (_, token) => rowOf(at, token, field.shape[0]));
    writeRows(field, values[i], rows);
    for (const [level, scales] of field.scales.entries()) writeRows(scales, values[i].scales![level], rows);
  }
}

interface Rows {
  readonly shape: readonly number[];
  readonly data: Float64Array;
  readonly scales?: readonly Rows[];
}

function writeRows(to: Rows, from: Rows, rows: Int32Array): void {
  const length = product(to.shape.slice(1));
  for (const [token, row] of rows.entries())
    to.data.set(from.data.subarray(token * length, (token + 1) * length), row * length);
}

/** A copy, because a later append changes the cache while the value that was read may still be looked at. */
const snapshot = (f: TensorData): TensorData =>
  tensorData(
    f.dtype,
    f.shape,
    f.data.slice(),
    f.scales.map((s) => ({ shape: s.shape, data: s.data.slice() })),
  );

/** Bytes of the rows read from the values and written to the cache. */
const writeBytes = (values: readonly Type[], sizes: DimSizes): number =>
  values.reduce((n, v) => n + 2 * bytesOf(v, sizes), 0);

const cache_append = defineOp({
  name: 'cache_append',
  class: 'state',
  doc: "writes each token's row of every field to where its position lies in the cache",
  operands: ['state', 'at', 'values...'],
  attributes: {},
  infer: ([state, at, ...values], _, declared, context) => {
    const p = expectPositions(at, 'at', 'cache_append');
    expectFields(values, expectCache(state, 'cache_append', context), p, 'cache_append');
    return named([state], declared);
  },
  reference: ([state, at, ...values]) => {
    append(asState(state), asPositions(at), values.map(asTensor));
    return [state];
  },
  cost: ([, at, ...values], _, __, sizes): Cost => ({
    flops: 0,
    bytes: bytesOf(at, sizes) + writeBytes(values, sizes),
  }),
});

const cache_read = defineOp({
  name: 'cache_read',
  class: 'state',
  doc: 'a field of the cache, all rows',
  operands: ['state'],
  attributes: { field: { kind: 'string', doc: "name of the state's field" } },
  infer: ([state], attributes, declared, context) => {
    const cache = expectCache(state, 'cache_read', context);
    const name = textOf(attributes, 'field');
    const field = cache.fields.find((f) => f.name === name);
    if (!field)
      problem(
        `cache_read: ${cache.name} has no field ${name}`,
        'field',
        `use one of ${cache.fields.map((f) => f.name).join(', ')}`,
      );
    return named([field.type], declared);
  },
  reference: ([state], attributes) => [
    snapshot(asState(state).layers[0].fields[textOf(attributes, 'field')]),
  ],
  // A view of the cache: whoever reads the rows pays for them.
  cost: () => ({ flops: 0, bytes: 0 }),
});

const remember = defineOp({
  name: 'remember',
  class: 'state',
  doc: 'cache_append, and what attention looks along: the values when the keys are the tokens, else the cache',
  operands: ['state', 'at', 'values...'],
  attributes: {},
  infer: ([state, at, ...values], _, declared, context) => {
    const p = expectPositions(at, 'at', 'remember');
    const cache = expectCache(state, 'remember', context);
    const fields = expectFields(values, cache, p, 'remember');
    const rows = cache.fields[0]?.type.dims[0];
    // In a block `keys` is still open; in an entry it is one of the two.
    if (p.keys.size !== null && !sameDim(p.keys, p.tokens) && !(rows && sameDim(p.keys, rows)))
      problem(`remember: keys must be the tokens or the cache's rows, but at is ${showType(p)}`, 'at');
    const seen = fields.map((v) => ({ ...v, dims: [p.keys, ...v.dims.slice(1)] }));
    return named([state, ...seen], declared);
  },
  reference: ([state, at, ...values]) => {
    const [s, p] = [asState(state), asPositions(at)];
    append(s, p, values.map(asTensor));
    if (p.packed) return [state, ...values];
    return [state, ...Object.values(s.layers[0].fields).map(snapshot)];
  },
  cost: ([, at, ...values], _, __, sizes): Cost => ({
    flops: 0,
    bytes: bytesOf(at, sizes) + writeBytes(values, sizes),
  }),
});

export const stateOps = { cache_append, cache_read, remember };
