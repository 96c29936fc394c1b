// What a schedule must be so that every rank gets what it needs, in time, and within its memory. Findings are data: each
// names rank and operation, stands at its place in the text, and says what to do. Linear in the number of operations.
//
// Checks run from causes to consequences. One that relies on what an earlier check refused is left out, whole or for the
// chunk in question, so that one mistake is one finding.
import type { Diagnostic } from '../../ir/diagnostics.ts';
import type { Schedule } from '../../ir/schedule.ts';
import { verifyProgress } from './verify/deadlock.ts';
import { verifyLiveActivations } from './verify/live.ts';
import { verifyMessageOrder } from './verify/messages.ts';
import { verifyOrders } from './verify/orders.ts';
import { verifyLength, verifyPrograms } from './verify/program.ts';
import { Findings } from './verify/report.ts';
import { verifyShape } from './verify/shape.ts';
import { Tables } from './verify/tables.ts';
import { verifyTransfers } from './verify/transfers.ts';

/** Everything wrong with a schedule, errors before warnings; empty when it is sound. Never throws. */
export function verifySchedule(schedule: Schedule): Diagnostic[] {
  const findings = new Findings();
  const flow = verifyShape(schedule, findings);
  if (flow && verifyLength(schedule, flow.ranks * flow.directions * flow.microBatches, findings)) {
    const tables = new Tables(schedule, flow);
    const before = findings.errors;
    verifyPrograms(tables, findings);
    const sound = schedule.programs.map((_, rank) => !findings.hasErrors(rank));
    verifyTransfers(tables, findings);
    verifyMessageOrder(tables, findings);
    if (findings.errors === before) verifyProgress(tables, findings);
    verifyLiveActivations(tables, sound, findings);
  }
  if (flow) verifyOrders(schedule, findings);
  return findings.diagnostics();
}
