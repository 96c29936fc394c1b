// The one-line notation of schedules (test/golden/README.md, "DualPipe tokens"): F forward, B backward, I its input part,
// W its weight part, `F0:3&B1:1` an overlapped pair, each with direction:micro-batch; SF RF SB RB queue a send or a receive
// of a forward or a backward with @peer; C commits.
import { noSpan } from '../../ir/span.ts';
import type { Chunk, Payload, ScheduleOp } from '../../ir/schedule.ts';

const letters = { forward: 'F', backward: 'B', backward_input: 'I', weights: 'W' } as const;
const show = (c: Chunk): string => `${c.direction}:${c.microBatch}`;

/** One op as a token. */
export function toToken(op: ScheduleOp): string {
  switch (op.op) {
    case 'commit':
      return 'C';
    case 'overlap':
      return `F${show(op.forward)}&B${show(op.backward)}`;
    case 'send':
    case 'receive':
      return `${op.op === 'send' ? 'S' : 'R'}${op.payload === 'activations' ? 'F' : 'B'}${show(op.chunk)}@${op.peer}`;
    default:
      return `${letters[op.op]}${show(op.chunk)}`;
  }
}

/** The ops of a rank, separated by spaces. */
export const toTokens = (ops: readonly ScheduleOp[]): string => ops.map(toToken).join(' ');

const opOf = { F: 'forward', B: 'backward', I: 'backward_input', W: 'weights' } as const;

function fromToken(token: string): ScheduleOp {
  const span = noSpan;
  if (token === 'C') return { op: 'commit', span };
  const pair = /^F(\d+):(\d+)&B(\d+):(\d+)$/.exec(token);
  if (pair) {
    const [fd, fm, bd, bm] = pair.slice(1).map(Number);
    return {
      op: 'overlap',
      forward: { direction: fd, microBatch: fm },
      backward: { direction: bd, microBatch: bm },
      span,
    };
  }
  const transfer = /^([SR])([FB])(\d+):(\d+)@(\d+)$/.exec(token);
  if (transfer) {
    const [, way, what, d, m, peer] = transfer;
    const payload: Payload = what === 'F' ? 'activations' : 'gradients';
    const chunk = { direction: Number(d), microBatch: Number(m) };
    return { op: way === 'S' ? 'send' : 'receive', payload, chunk, peer: Number(peer), span };
  }
  const compute = /^([FBIW])(\d+):(\d+)$/.exec(token);
  if (!compute) throw new Error(`no such token: ${token}`);
  const [, letter, d, m] = compute;
  const op = opOf[letter as keyof typeof opOf];
  return { op, chunk: { direction: Number(d), microBatch: Number(m) }, span };
}

/** Reads what toTokens wrote. Throws a sentence that names a token which is none. */
export const fromTokens = (text: string): ScheduleOp[] =>
  text
    .split(' ')
    .filter((t) => t !== '')
    .map(fromToken);
