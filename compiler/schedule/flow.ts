// How a micro-batch runs through the stages. In DualPipe a stage is held twice, once for each direction, and a
// micro-batch stays in its direction; in DualPipeV and in one-way schedules a stage is held once, and a micro-batch
// goes wherever the next stage is.
import type { Schedule } from '../../ir/schedule.ts';

/** Which stage, by its rank and the direction in which the rank holds it. */
export interface Place {
  readonly rank: number;
  readonly direction: number;
}

export interface Flow {
  readonly ranks: number;
  readonly stages: number;
  /** Micro-batches, numbered from 0, that run in each direction. */
  readonly microBatches: number;
  /** Directions of a rank. */
  readonly directions: number;
  stageOf(place: Place): number;
  /** Where the stage before is; null for the first. */
  previous(place: Place): Place | null;
  /** Where the stage after is; null for the last. */
  next(place: Place): Place | null;
}

/**
 * The flow that a schedule's placement of stages implies, or a sentence that says why there is none: every stage must be
 * held in one direction, or every stage in each of them.
 */
export function flowOf(schedule: Pick<Schedule, 'programs' | 'microBatches'>): Flow | string {
  return flowOfPlacement(
    schedule.programs.map((p) => p.stages),
    schedule.microBatches,
  );
}

/** Like flowOf; `placement`: by rank the stage of each direction. */
export function flowOfPlacement(
  placement: readonly (readonly number[])[],
  microBatches: number,
): Flow | string {
  const directions = placement[0]?.length ?? 0;
  if (directions === 0) return 'there is no rank that holds a stage';
  const holders = new Map<number, Place[]>();
  for (const [rank, held] of placement.entries()) {
    if (held.length !== directions)
      return `rank ${rank} holds ${held.length} stages and rank 0 holds ${directions}`;
    for (const [direction, stage] of held.entries()) {
      const known = holders.get(stage);
      if (known) known.push({ rank, direction });
      else holders.set(stage, [{ rank, direction }]);
    }
  }
  const stages = holders.size;
  const copies = holders.get(0)?.length ?? 0;
  for (let stage = 0; stage < stages; stage++) {
    const at = holders.get(stage);
    if (!at) return `no rank holds stage ${stage}, but there are ${stages}`;
    if (at.length !== copies)
      return `stage ${stage} is held ${at.length} times, and stage 0 is held ${copies} times`;
    if (copies > 1 && (copies !== directions || new Set(at.map((p) => p.direction)).size !== directions))
      return `stage ${stage} is held twice in one direction`;
  }
  if (microBatches % copies !== 0)
    return `${microBatches} micro-batches cannot be shared by ${copies} directions`;
  const placeOf = (stage: number, direction: number): Place | null => {
    const at = holders.get(stage);
    return at ? (at.find((p) => copies === 1 || p.direction === direction) ?? null) : null;
  };
  return {
    ranks: placement.length,
    stages,
    directions,
    microBatches: microBatches / copies,
    stageOf: ({ rank, direction }) => placement[rank][direction],
    previous: ({ rank, direction }) => placeOf(placement[rank][direction] - 1, direction),
    next: ({ rank, direction }) => placeOf(placement[rank][direction] + 1, direction),
  };
}
