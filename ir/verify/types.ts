// Types on their own: known dtypes, sizes, tiles of the tensor's rank, dims and states that exist.
import { dtypeInfo } from '../formats/dtypes.ts';
import { didYouMean, isDimName } from '../text/spelling.ts';
import { dimsOf, showType, type Type } from '../types.ts';
import type { ModuleTable, Place, Report } from './report.ts';

/** Run-time dims that a function may mention: the module's, and for blocks and kernels those of its arguments. */
export interface DimScope {
  readonly table: ModuleTable;
  readonly own: ReadonlySet<string>;
}

/** Reports what is wrong with a type; true when nothing is. `what` names the value in messages: `%x`. */
export function verifyType(type: Type, what: string, scope: DimScope, place: Place, report: Report): boolean {
  const { table, own } = scope;
  let fine = true;
  const wrong = (code: string, message: string, fix: string | null): void => {
    fine = false;
    report(code, message, place, fix);
  };
  for (const d of dimsOf(type)) {
    if (d.name !== null && !isDimName(d.name))
      wrong(
        'ir/name',
        `${what}: dim ${JSON.stringify(d.name)} cannot be written in IR text`,
        'dims are named with letters, digits and _ . @ * +',
      );
    else if (d.size !== null && (!Number.isSafeInteger(d.size) || d.size < 0))
      wrong('ir/type', `${what}: dim ${d.name ?? ''}=${d.size} is no size`, 'sizes are natural numbers');
    else if (d.size === null && d.name === null)
      wrong('ir/type', `${what} has a dim with neither name nor size`, null);
    else if (d.size === null && !table.dims.has(d.name!) && !own.has(d.name!))
      wrong(
        'ir/unknown-dim',
        `${what} is ${showType(type)}, but there is no run-time dim ${d.name}`,
        didYouMean(d.name!, [...table.dims.keys(), ...own]) ?? `declare dim ${d.name} in the module`,
      );
  }
  if (type.kind === 'state') {
    if (!table.states.has(type.state))
      wrong(
        'ir/unknown-state',
        `${what}: there is no state ${type.state}`,
        didYouMean(type.state, table.states.keys()) ?? 'declare it in the module',
      );
    if (type.count !== null && (!Number.isSafeInteger(type.count) || type.count < 1))
      wrong('ir/type', `${what}: ${showType(type)} needs a positive count`, null);
  }
  if (type.kind === 'tensor') {
    if (!Object.hasOwn(dtypeInfo, type.dtype))
      wrong('ir/type', `${what}: there is no dtype ${String(type.dtype)}`, null);
    for (const { tile, format } of type.scales) {
      if (tile.length !== type.dims.length)
        wrong(
          'ir/type',
          `${what}: a tile of rank ${tile.length} on a tensor of rank ${type.dims.length}: ${showType(type)}`,
          'give one tile length per axis, 0 for the whole axis',
        );
      else if (!tile.every((t) => Number.isSafeInteger(t) && t >= 0))
        wrong('ir/type', `${what}: tile [${tile.join(', ')}] is not of natural numbers`, null);
      if (format !== 'f32' && format !== 'pow2' && format !== 'ue8m0')
        wrong(
          'ir/type',
          `${what}: there is no scale format ${String(format)}`,
          'use one of f32, pow2, ue8m0',
        );
    }
  }
  return fine;
}
