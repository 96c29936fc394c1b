// Each rank's own work: every micro-batch forward once and backward once, in an order that data allows, weight gradients
// from the FIFO. Fills the tables by chunk. A chunk that is wrong here is left alone by the checks that come after.
import { showChunk, type Chunk, type ComputeOp, type Schedule } from '../../../ir/schedule.ts';
import { atOp, count, noteOp, spanOf, where, type Findings } from './report.ts';
import { none, type Tables } from './tables.ts';

export function verifyPrograms(t: Tables, findings: Findings): void {
  for (let rank = 0; rank < t.flow.ranks; rank++) {
    if (isTooShort(t, rank, findings)) continue;
    findOps(t, rank, findings);
    verifyEachChunk(t, rank, findings);
    verifyFifo(t, rank, findings);
  }
}

/** Whether the tables can be made at all: a text may name more micro-batches than memory holds. */
export function verifyLength(schedule: Schedule, chunks: number, findings: Findings): boolean {
  const ops = schedule.programs.reduce((sum, p) => sum + p.ops.length, 0);
  // An operation is a part of two chunks at most, and a chunk has at least two.
  if (chunks <= 4 * ops + 4096) return true;
  findings.error('missing-op', null, () => ({
    message: `${schedule.microBatches} micro-batches on ${count(schedule.programs.length, 'rank')} are ${chunks} chunks, and all programs together have ${count(ops, 'operation')}`,
    at: schedule.span,
    fix: 'name as many micro-batches as the programs work on',
  }));
  return false;
}

function isTooShort(t: Tables, rank: number, findings: Findings): boolean {
  const { ops, span } = t.schedule.programs[rank];
  if (ops.length > 0) return false;
  findings.error('missing-op', rank, () => ({
    message: `rank ${rank} has no operations`,
    at: span,
    fix: 'write the forwards and backwards of its stages, or take it out of the placement',
  }));
  return true;
}

/** First pass: where each chunk's operations stand. */
function findOps(t: Tables, rank: number, findings: Findings): void {
  const { ops } = t.schedule.programs[rank];
  const found = (table: Int32Array, chunk: Chunk, index: number, part: string): void => {
    if (!t.exists(chunk)) return noSuchChunk(t, rank, index, chunk, findings);
    const c = t.chunk(t.place(rank, chunk.direction), chunk.microBatch);
    if (table[c] === none) table[c] = index;
    else twice(t, rank, table[c], index, `${part} of ${showChunk(chunk)}`, findings);
  };
  for (const [index, op] of ops.entries())
    switch (op.op) {
      case 'forward':
        found(t.forwardAt, op.chunk, index, 'the forward');
        break;
      case 'backward':
      case 'backward_input':
        found(t.backwardAt, op.chunk, index, 'the backward');
        break;
      case 'weights':
        found(t.weightsAt, op.chunk, index, 'the weight gradients');
        break;
      case 'overlap':
        found(t.forwardAt, op.forward, index, 'the forward');
        found(t.backwardAt, op.backward, index, 'the backward');
        break;
    }
}

export function noSuchChunk(t: Tables, rank: number, index: number, chunk: Chunk, findings: Findings): void {
  const { directions, microBatches } = t.flow;
  findings.error('no-such-chunk', rank, () => ({
    message: `${atOp(t.schedule, rank, index)}: there is no ${showChunk(chunk)}`,
    at: spanOf(t.schedule, rank, index),
    fix: `directions are 0 to ${directions - 1}, micro-batches in each 0 to ${microBatches - 1}`,
  }));
}

function twice(
  t: Tables,
  rank: number,
  first: number,
  index: number,
  what: string,
  findings: Findings,
): void {
  findings.error('duplicate-op', rank, () => ({
    message: `${atOp(t.schedule, rank, index)}: ${what} is done already at ${where(t.schedule, rank, first)}`,
    at: spanOf(t.schedule, rank, index),
    notes: [noteOp(t.schedule, rank, first)],
    fix: 'remove one of them',
  }));
}

const opAt = (t: Tables, rank: number, index: number): ComputeOp['op'] =>
  t.schedule.programs[rank].ops[index].op as ComputeOp['op'];

/** Second pass: what is missing, and what comes before what it needs on the same rank. */
function verifyEachChunk(t: Tables, rank: number, findings: Findings): void {
  const { directions, microBatches } = t.flow;
  for (let direction = 0; direction < directions; direction++) {
    const place = t.place(rank, direction);
    const next = t.next[place];
    const staysForNext = next !== none && t.rankOf(next) === rank;
    for (let microBatch = 0; microBatch < microBatches; microBatch++) {
      const name = showChunk({ direction, microBatch });
      const c = t.chunk(place, microBatch);
      verifyParts(t, rank, c, name, findings);
      if (!staysForNext) continue;
      const n = t.chunk(next, microBatch);
      after(t, rank, t.forwardAt[c], t.forwardAt[n], 'makes its activations on the same rank', findings);
      after(t, rank, t.backwardAt[n], t.backwardAt[c], 'makes its gradients on the same rank', findings);
    }
  }
}

function verifyParts(t: Tables, rank: number, c: number, name: string, findings: Findings): void {
  const forward = t.forwardAt[c];
  const backward = t.backwardAt[c];
  const weights = t.weightsAt[c];
  if (forward === none)
    missing(
      t,
      rank,
      backward === none ? `forward and backward ${name}` : `forward ${name}`,
      backward,
      findings,
    );
  else if (backward === none)
    missing(t, rank, `${weights === none ? 'backward' : 'backward_input'} ${name}`, forward, findings);
  else if (forward === backward) overlapsItself(t, rank, forward, findings);
  else after(t, rank, forward, backward, 'is its forward', findings);
  if (backward === none) return;
  const isSplit = opAt(t, rank, backward) === 'backward_input';
  if (isSplit && weights === none) missing(t, rank, `weights ${name}`, backward, findings);
  else if (isSplit) after(t, rank, backward, weights, 'is what leaves them to be done', findings);
  else if (weights !== none)
    twice(t, rank, backward, weights, `making the weight gradients of ${name}`, findings);
}

function missing(t: Tables, rank: number, what: string, other: number, findings: Findings): void {
  findings.error('missing-op', rank, () => ({
    message: `rank ${rank}: ${what} is missing`,
    at: other === none ? t.schedule.programs[rank].span : spanOf(t.schedule, rank, other),
    fix: 'every micro-batch has one forward and one backward, or one backward_input and one weights: add it',
  }));
}

function overlapsItself(t: Tables, rank: number, index: number, findings: Findings): void {
  findings.error('overlap-itself', rank, () => ({
    message: `${atOp(t.schedule, rank, index)}: a chunk's backward needs all of its forward`,
    at: spanOf(t.schedule, rank, index),
    fix: 'overlap chunks of two micro-batches',
  }));
}

/** `later` needs what `earlier` does on the same rank. */
function after(
  t: Tables,
  rank: number,
  earlier: number,
  later: number,
  why: string,
  findings: Findings,
): void {
  if (earlier === none || later === none || earlier < later) return;
  findings.error('order', rank, () => ({
    message: `${atOp(t.schedule, rank, later)} comes before what it needs, at ${where(t.schedule, rank, earlier)}`,
    at: spanOf(t.schedule, rank, later),
    notes: [noteOp(t.schedule, rank, earlier, `, which ${why}`)],
    fix: 'put it after',
  }));
}

/** Weights are taken from the oldest deferred backward. One that is never done is missing, and holds nobody up. */
function verifyFifo(t: Tables, rank: number, findings: Findings): void {
  const { ops } = t.schedule.programs[rank];
  const deferred: number[] = [];
  let head = 0;
  for (const [index, op] of ops.entries()) {
    if ((op.op !== 'backward_input' && op.op !== 'weights') || !t.exists(op.chunk)) continue;
    const c = t.chunk(t.place(rank, op.chunk.direction), op.chunk.microBatch);
    if (op.op === 'backward_input') {
      if (t.backwardAt[c] === index && t.weightsAt[c] > index) deferred.push(c);
      continue;
    }
    const backward = t.backwardAt[c];
    const isOwed = t.weightsAt[c] === index && backward !== none && backward < index;
    if (!isOwed || opAt(t, rank, backward) !== 'backward_input') continue;
    while (t.weightsAt[deferred[head]] < index) head++;
    if (deferred[head] === c) continue;
    const oldest = t.backwardAt[deferred[head]];
    findings.error('fifo', rank, () => ({
      message: `${atOp(t.schedule, rank, index)} is not the oldest: ${showChunkAt(t, deferred[head])} has waited longer`,
      at: spanOf(t.schedule, rank, index),
      notes: [noteOp(t.schedule, rank, oldest), noteOp(t.schedule, rank, t.weightsAt[deferred[head]])],
      fix: `deferred weight gradients are a FIFO: do weights ${showChunkAt(t, deferred[head])} first`,
    }));
  }
}

const showChunkAt = (t: Tables, c: number): string =>
  showChunk({
    direction: Math.floor(c / t.flow.microBatches) % t.flow.directions,
    microBatch: c % t.flow.microBatches,
  });
