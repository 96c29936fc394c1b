// Memory for activations: a chunk's live from the start of its forward to the end of its full backward, or of its weights.
import { showChunk, type Chunk, type ScheduleOp } from '../../../ir/schedule.ts';
import { atOp, count, spanOf, type Findings } from './report.ts';
import type { Tables } from './tables.ts';

/** Looks at ranks whose programs are sound: a missing backward would keep its chunk for ever. */
export function verifyLiveActivations(t: Tables, sound: readonly boolean[], findings: Findings): void {
  for (let rank = 0; rank < t.flow.ranks; rank++) if (sound[rank]) verifyRank(t, rank, findings);
}

const begun = (op: ScheduleOp): Chunk | null =>
  op.op === 'forward' ? op.chunk : op.op === 'overlap' ? op.forward : null;

const ended = (op: ScheduleOp): Chunk | null =>
  op.op === 'backward' || op.op === 'weights' ? op.chunk : op.op === 'overlap' ? op.backward : null;

function verifyRank(t: Tables, rank: number, findings: Findings): void {
  const { ops } = t.schedule.programs[rank];
  const bound = t.schedule.bounds.activations;
  let live = 0;
  for (let index = 0; index < ops.length; index++) {
    if (begun(ops[index])) live++;
    if (!(live <= bound)) {
      findings.error('live-activations', rank, () => ({
        message: `${atOp(t.schedule, rank, index)} makes ${count(live, 'live chunk')}, and the bound is ${bound}`,
        at: spanOf(t.schedule, rank, index),
        notes: [{ message: `live are ${showChunks(liveAt(ops, index))}` }],
        fix: 'do a backward before it, or raise the bound if the memory is there',
      }));
      return;
    }
    if (ended(ops[index])) live--;
  }
}

/** Chunks live while an operation runs. */
function liveAt(ops: readonly ScheduleOp[], index: number): Chunk[] {
  const live = new Map<string, Chunk>();
  for (const op of ops.slice(0, index)) {
    const [begins, ends] = [begun(op), ended(op)];
    if (begins) live.set(showChunk(begins), begins);
    if (ends) live.delete(showChunk(ends));
  }
  const last = begun(ops[index]);
  return last ? [...live.values(), last] : [...live.values()];
}

/** By direction, runs of micro-batches as `d0 m3..m9`. */
export function showChunks(chunks: readonly Chunk[]): string {
  const sorted = [...chunks].sort((a, b) => a.direction - b.direction || a.microBatch - b.microBatch);
  const runs: { first: Chunk; last: number }[] = [];
  for (const c of sorted) {
    const run = runs.at(-1);
    if (run?.first.direction === c.direction && run.last + 1 === c.microBatch) run.last = c.microBatch;
    else runs.push({ first: c, last: c.microBatch });
  }
  return runs
    .map(({ first, last }) => showChunk(first) + (last > first.microBatch ? `..m${last}` : ''))
    .join(', ');
}
