// DualPipe and DualPipeV (DeepSeek-V3 report, section 3.2.1, and its released schedule; facts in the golden README). Both
// are one script. Seen from the outer end of a V, a rank is `depth` deep; micro-batches of its near direction enter at the
// outer end, those of the far one come back from the inner end. In DualPipe two mirrored Vs share the ranks' middle, and
// each half of the ranks calls its own direction near; in DualPipeV there is one V, whose inner end turns round.
import type { ScheduleOp } from '../../ir/schedule.ts';
import { flowOfRanks, RankScript } from './rank-script.ts';
import type { Scheduler } from './scheduler.ts';

interface Seat {
  /** Ranks of a V. */
  readonly length: number;
  /** Ranks between this one and the outer end. */
  readonly depth: number;
  /** Micro-batches in each direction. */
  readonly microBatches: number;
  readonly near: number;
}

function run(script: RankScript, { length, depth, microBatches, near }: Seat): readonly ScheduleOp[] {
  const far = 1 - near;
  const toInner = length - 1 - depth;
  const isInner = toInner === 0;
  const times = (n: number, body: (i: number) => void): void => {
    for (let i = 0; i < n; i++) body(i);
  };

  // Fill: micro-batches on their way to the inner end …
  times(2 * toInner, () => script.forward(near));
  // … and, from when the other direction's arrive, one of each in turn. What goes inwards is sent after both, except
  // from the innermost rank, whose neighbour waits for it.
  script.receive('activations', near);
  times(depth + 1, (i) => {
    script.forward(near, { receive: false, send: isInner });
    script.receive('activations', near);
    script.forward(far, { send: !isInner || i < depth });
    if (!isInner) script.send('activations', near);
  });
  // The far direction's first gradients come back: nothing to overlap with yet, so their weight part fills the wait.
  times(toInner, () => {
    script.backwardInput(far);
    script.receive('activations', far);
    script.weights();
    script.forward(far, { receive: false });
  });
  // Steady: each direction's forward over the other's backward.
  times(microBatches - 2 * length + depth + 1, (i) => {
    if (i > 0) script.overlap(near, far);
    else if (!isInner) script.overlap(near, far, { receive: false });
    else {
      // The innermost rank would overlap a forward with the backward that its neighbour makes from it.
      script.forward(near, { receive: false, send: false });
      script.send('activations', far);
      script.backward(far, { send: false });
      script.send('activations', near);
      script.send('gradients', far);
    }
    script.overlap(far, near);
  });
  // Drain: near has no forwards left …
  times(toInner, () => {
    script.backward(far);
    script.overlap(far, near);
  });
  // … then far has none either. From the half on, weight parts are put off to fill the waits of the end.
  let deferring = false;
  const half = Math.floor((depth + 1) / 2);
  const drain = (direction: number): void =>
    deferring ? script.backwardInput(direction) : script.backward(direction);
  times(depth + 1, (i) => {
    if (i === half && depth % 2 === 1) deferring = true;
    drain(far);
    if (i === half && depth % 2 === 0) deferring = true;
    drain(near);
  });
  times(toInner, () => {
    script.weights();
    script.backwardInput(near);
  });
  return script.finish();
}

const bubble = (length: number, c: Parameters<Scheduler['bubble']>[1]): number =>
  (length - 1) * (c.overlap + c.backward - 3 * c.weights);

export const dualpipe: Scheduler = {
  name: 'dualpipe',
  doc: 'micro-batches from both ends, forward and backward overlapped; every rank holds two stages',
  refuse(ranks, microBatches) {
    if (ranks < 2 || ranks % 2 !== 0)
      return {
        rule: `DualPipe mirrors the stages over the ranks, so it takes an even number of them, not ${ranks}`,
        fix: `use ${Math.max(2, ranks + 1)} ranks`,
      };
    if (microBatches % 2 !== 0)
      return {
        rule: `DualPipe sends half of the micro-batches each way, and ${microBatches} is odd`,
        fix: `use ${Math.max(2 * ranks, microBatches + 1)} micro-batches`,
      };
    if (microBatches < 2 * ranks)
      return {
        rule: `DualPipe takes at least 2 micro-batches for each rank: ${2 * ranks} for ${ranks} ranks, not ${microBatches}`,
        fix: `use ${2 * ranks} micro-batches or more`,
      };
    return null;
  },
  stagesOf: (rank, ranks) => [rank, ranks - 1 - rank],
  opsOf(rank, ranks, microBatches) {
    const depth = Math.min(rank, ranks - 1 - rank);
    const script = new RankScript(rank, flowOfRanks(ranks, microBatches, this.stagesOf));
    const seat = { length: ranks / 2, depth, microBatches: microBatches / 2, near: rank < ranks / 2 ? 0 : 1 };
    return run(script, seat);
  },
  liveActivations: (ranks) => ranks + 1,
  bubble: (ranks, costs) => bubble(ranks / 2, costs),
};

export const dualpipev: Scheduler = {
  name: 'dualpipev',
  doc: 'DualPipe cut in half: micro-batches run down the ranks and back up, two stages a rank, each stage held once',
  refuse(ranks, microBatches) {
    if (ranks < 1)
      return { rule: `DualPipeV takes at least 1 rank, not ${ranks}`, fix: 'use 1 rank or more' };
    if (microBatches < 2 * ranks)
      return {
        rule: `DualPipeV takes at least 2 micro-batches for each rank: ${2 * ranks} for ${ranks} ranks, not ${microBatches}`,
        fix: `use ${2 * ranks} micro-batches or more`,
      };
    return null;
  },
  stagesOf: (rank, ranks) => [rank, 2 * ranks - 1 - rank],
  opsOf(rank, ranks, microBatches) {
    const script = new RankScript(rank, flowOfRanks(ranks, microBatches, this.stagesOf));
    return run(script, { length: ranks, depth: rank, microBatches, near: 0 });
  },
  liveActivations: (ranks) => 2 * ranks + 1,
  bubble,
};
