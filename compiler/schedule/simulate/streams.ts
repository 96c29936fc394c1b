// What runs on a rank at a time: its computation, its communication, both or neither.
//
// A phase lasts `duration`, and its kernels run for `busy` of it: the rest are gaps between them. Where in the phase the gaps
// lie is not known; they are taken to be spread evenly, and those of the two streams to be independent. So in any stretch t
// in which a compute phase with the share c = busy / duration meets one of communication with the share m, kernels of both
// run for t c m, and communication is exposed for t m (1 - c). Alone it is exposed for t m.
import type { Stream } from '../../../ir/schedule.ts';

/** A phase's time on its stream. */
export interface Slice {
  readonly start: number;
  readonly end: number;
  /** Of that, the time in which kernels run. */
  readonly busy: number;
}

export interface StreamTimes {
  /** Time in which kernels run. */
  readonly busy: number;
  /** Time of phases in which none does. */
  readonly gaps: number;
}

export interface RankStreams {
  readonly streams: Readonly<Record<Stream, StreamTimes>>;
  /** Time in which kernels of communication run and none of computation does. */
  readonly exposed: number;
  /** Time up to the makespan in which no kernel runs at all: streams.compute.busy + exposed + noKernel = makespan. */
  readonly noKernel: number;
  /** Time in which at least one stream is in a phase, gaps included. */
  readonly occupied: number;
}

/** Slices of each stream in the order of time; those of one stream do not overlap. */
export function streamTimes(
  slices: Readonly<Record<Stream, readonly Slice[]>>,
  makespan: number,
): RankStreams {
  const { compute, comm } = slices;
  let both = 0;
  let bothBusy = 0;
  for (let i = 0, j = 0; i < compute.length && j < comm.length;) {
    const [a, b] = [compute[i], comm[j]];
    const shared = Math.min(a.end, b.end) - Math.max(a.start, b.start);
    if (shared > 0) {
      both += shared;
      bothBusy += shared * (a.busy / (a.end - a.start)) * (b.busy / (b.end - b.start));
    }
    if (a.end <= b.end) i++;
    else j++;
  }
  const computing = sum(compute);
  const communicating = sum(comm);
  const exposed = communicating.busy - bothBusy;
  return {
    streams: { compute: computing, comm: communicating },
    exposed,
    noKernel: makespan - computing.busy - exposed,
    occupied: computing.busy + computing.gaps + communicating.busy + communicating.gaps - both,
  };
}

function sum(slices: readonly Slice[]): StreamTimes {
  let busy = 0;
  let gaps = 0;
  for (const s of slices) {
    busy += s.busy;
    gaps += s.end - s.start - s.busy;
  }
  return { busy, gaps };
}
