// What every module must satisfy, checked after each pass: so a bad rewrite is blamed on the pass that made it.
// Findings are data, at the author's place, with the op's text. Linear in the module's size.
import type { Diagnostic } from './diagnostics.ts';
import {
  raggedBound,
  type DimDeclaration,
  type Function,
  type Module,
  type StateDeclaration,
} from './module.ts';
import { noSpan } from './span.ts';
import { printDim, printState } from './text/printer.ts';
import { printScheduleHeader } from './text/schedule-printer.ts';
import { didYouMean, isDimName, isIdentifier } from './text/spelling.ts';
import { showType } from './types.ts';
import { verifyFunction } from './verify/function.ts';
import { reporter, type ModuleTable, type Place, type Report } from './verify/report.ts';
import { verifySchedule } from './verify/schedule.ts';
import { verifyType } from './verify/types.ts';

/** Everything wrong with a module; empty when it is sound. Never throws. */
export function verifyModule(module: Module): Diagnostic[] {
  const found: Diagnostic[] = [];
  const report = reporter(found);
  const earlier = new Map<string, Function>();
  const table: ModuleTable = {
    module,
    dims: new Map(module.dims.map((d) => [d.name, d])),
    states: new Map(module.states.map((s) => [s.name, s])),
    earlier,
    all: new Set(module.functions.map((f) => f.name)),
  };
  const place: Place = { span: noSpan, text: () => `module @${module.name}` };
  if (!isIdentifier(module.name))
    report(
      'ir/name',
      `module name ${JSON.stringify(module.name)} cannot be written in IR text`,
      place,
      'use letters, digits, _ and .',
    );
  verifyDims(module, table, report);
  verifyStates(module, table, report);
  for (const f of module.functions) {
    verifyFunction(f, table, report);
    if (earlier.has(f.name))
      report(
        'ir/duplicate-name',
        `there are two functions @${f.name}`,
        { span: f.span, text: () => `${f.kind} @${f.name}` },
        'rename one of them',
      );
    earlier.set(f.name, f);
  }
  verifySchedules(module, report);
  return found;
}

function verifySchedules(module: Module, report: Report): void {
  const names = new Set<string>();
  for (const s of module.schedules) {
    verifySchedule(s, report);
    if (names.has(s.name))
      report(
        'ir/duplicate-name',
        `there are two schedules @${s.name}`,
        { span: s.span, text: () => printScheduleHeader(s) },
        'rename one of them',
      );
    names.add(s.name);
  }
}

function verifyDims(module: Module, table: ModuleTable, report: Report): void {
  const names = new Set<string>();
  for (const d of module.dims) {
    const place: Place = { span: noSpan, text: () => printDim(d) };
    if (!isDimName(d.name))
      report(
        'ir/name',
        `dim name ${JSON.stringify(d.name)} cannot be written in IR text`,
        place,
        'use letters, digits and _ . @ * +',
      );
    if (names.has(d.name))
      report('ir/duplicate-name', `dim ${d.name} is declared twice`, place, 'keep one of them');
    if (!positive(d.bound))
      report(
        'ir/bound',
        `dim ${d.name} is bounded by ${d.bound}`,
        place,
        'buffers are planned for the bound: make it a positive integer',
      );
    else if (d.ragged) verifyRagged(d, d.ragged, names, table, place, report);
    names.add(d.name);
  }
}

const positive = (n: number): boolean => Number.isSafeInteger(n) && n > 0;

function verifyRagged(
  d: DimDeclaration,
  ragged: NonNullable<DimDeclaration['ragged']>,
  earlier: ReadonlySet<string>,
  table: ModuleTable,
  place: Place,
  report: Report,
): void {
  const of = table.dims.get(ragged.of);
  if (!of || !earlier.has(ragged.of)) {
    report(
      'ir/unknown-dim',
      `dim ${d.name}: there is no dim ${ragged.of} before it`,
      place,
      didYouMean(ragged.of, earlier) ?? 'declare it before',
    );
    return;
  }
  if (!positive(ragged.per) || !positive(ragged.groups) || !positive(ragged.align)) {
    report('ir/bound', `dim ${d.name}: per, groups and align must be positive integers`, place);
    return;
  }
  const least = raggedBound(ragged, of.bound);
  if (d.bound < least)
    report(
      'ir/bound',
      `dim ${d.name} can hold ${least} rows, but its bound is ${d.bound}`,
      place,
      `no row is ever dropped: write <= ${least}`,
    );
}

function verifyStates(module: Module, table: ModuleTable, report: Report): void {
  const names = new Set<string>();
  for (const s of module.states) {
    const place: Place = { span: noSpan, text: () => printState(s) };
    if (!isIdentifier(s.name))
      report(
        'ir/name',
        `state name ${JSON.stringify(s.name)} cannot be written in IR text`,
        place,
        'use letters, digits, _ and .',
      );
    if (names.has(s.name))
      report('ir/duplicate-name', `state ${s.name} is declared twice`, place, 'keep one of them');
    names.add(s.name);
    if (s.policy === 'recurrent' ? s.page !== 0 : !positive(s.page))
      report(
        'ir/bound',
        `state ${s.name}: ${s.policy}(${s.page})`,
        place,
        s.policy === 'recurrent'
          ? 'a recurrent state has no rows: its page is 0'
          : 'give it a positive number of rows',
      );
    verifyFields(s, table, place, report);
  }
}

function verifyFields(s: StateDeclaration, table: ModuleTable, place: Place, report: Report): void {
  const names = new Set<string>();
  const rows = s.fields[0]?.type.dims[0];
  for (const { name, type } of s.fields) {
    if (!isIdentifier(name))
      report(
        'ir/name',
        `field name ${JSON.stringify(name)} cannot be written in IR text`,
        place,
        'use letters, digits, _ and .',
      );
    if (names.has(name))
      report('ir/duplicate-name', `state ${s.name} has two fields ${name}`, place, 'rename one of them');
    names.add(name);
    if (!verifyType(type, `field ${name}`, { table, own: new Set() }, place, report)) continue;
    const [first, ...rest] = type.dims;
    if (s.policy !== 'recurrent' && (first === undefined || first.size !== null || first.name !== rows?.name))
      report(
        'ir/state',
        `field ${name} of ${s.name} is ${showType(type)}: axis 0 must be the row axis of the cache`,
        place,
        'all fields have one run-time dim as axis 0, such as cached',
      );
    if ((s.policy === 'recurrent' ? type.dims : rest).some((d) => d.size === null))
      report(
        'ir/state',
        `field ${name} of ${s.name} is ${showType(type)}: only the row axis may have a run-time size`,
        place,
        'give every other dim its size',
      );
  }
  if (s.fields.length === 0)
    report(
      'ir/state',
      `state ${s.name} has no fields`,
      place,
      'declare what it holds: { rows: bf16[cached, 512] }',
    );
}
