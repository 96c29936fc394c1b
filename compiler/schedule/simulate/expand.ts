// A chunk op as the phases that it launches, layer by layer, in the orders that the schedule gives. Ops of one kind on the
// same stages expand alike and share one expansion.
import { fail } from '../../../ir/diagnostics.ts';
import {
  showPhase,
  type ComputeOp,
  type LayerKind,
  type Part,
  type PhaseOrder,
  type PhaseRef,
  type PhaseStep,
  type Schedule,
  type Stream,
} from '../../../ir/schedule.ts';
import { phaseTime, type PhaseCosts } from '../phase-costs.ts';
import { layersOf, stagesOfOp, turnsOf, type Turn } from '../phases.ts';

/** One phase of one layer. Waits are for steps of the same op, by their place in it, unless said otherwise. */
export interface Step {
  readonly phase: string;
  readonly part: Part;
  readonly stream: Stream;
  /** The layer's place in its stage. */
  readonly layer: number;
  readonly duration: number;
  /** Of the duration, the time in which kernels run. */
  readonly busy: number;
  readonly waits: readonly number[];
  /** What it awaits from outside the op. */
  readonly takes: readonly ('activations' | 'gradients')[];
  /** Steps of the chunk's backward_input that a `weights` awaits. */
  readonly deferred: readonly number[];
}

export interface Expansion {
  readonly steps: readonly Step[];
  /** The step that gives what the op makes of activations and of gradients; -1 where it makes none. */
  readonly activations: number;
  readonly gradients: number;
}

type Parts = Pick<Schedule, 'layers' | 'orders' | 'stages' | 'span'>;
const orderKey = (o: Pick<PhaseOrder, 'op' | 'layers'>): string => [o.op, ...o.layers].join(' ');

/** Expands the ops of one schedule at given costs. Throws a DiagnosticError where an order, a layer or a cost is missing. */
export class Expander {
  private readonly orders: ReadonlyMap<string, PhaseOrder>;
  private readonly layers: ReadonlyMap<string, LayerKind>;
  private readonly stages: readonly (readonly string[])[];
  private readonly known = new Map<string, Expansion>();

  private readonly schedule: Parts;
  private readonly costs: PhaseCosts;

  constructor(schedule: Parts, costs: PhaseCosts) {
    this.schedule = schedule;
    this.costs = costs;
    this.orders = new Map(schedule.orders.map((o) => [orderKey(o), o]));
    this.layers = new Map(schedule.layers.map((l) => [l.name, l]));
    this.stages = schedule.stages.map(layersOf);
  }

  /** Of an op on a rank that holds these stages. */
  expand(op: ComputeOp, held: readonly number[]): Expansion {
    const { forward, backward } = stagesOfOp(op, held);
    return this.expandStages(op.op, forward, backward);
  }

  /** Of a kind of op on the stages of its forward and its backward chunk. */
  expandStages(op: ComputeOp['op'], forward: number | null, backward: number | null): Expansion {
    const key = `${op} ${forward} ${backward}`;
    let found = this.known.get(key);
    if (!found) this.known.set(key, (found = this.build(op, forward, backward)));
    return found;
  }

  private build(op: ComputeOp['op'], forward: number | null, backward: number | null): Expansion {
    const steps: Step[] = [];
    let activations = -1;
    let gradients = -1;
    const turns = turnsOf(op, this.stage(forward), this.stage(backward));
    for (const [i, turn] of turns.entries()) {
      const order = this.orderOf(turn);
      const base = steps.length;
      const find = (r: PhaseRef): number => {
        const at = order.steps.findIndex((s) => s.phase === r.phase && s.part === r.part);
        return at < 0 ? -1 : base + at;
      };
      for (const step of order.steps) {
        const waits: number[] = [];
        const takes: Step['takes'][number][] = [];
        const deferred: number[] = [];
        for (const wait of step.waits) {
          const input = wait.phase === 'input';
          const at = !input ? find(wait) : wait.part === 'F' ? activations : gradients;
          if (at >= 0) waits.push(at);
          else if (input) takes.push(wait.part === 'F' ? 'activations' : 'gradients');
          else if (op === 'weights') deferred.push(this.deferred(backward, turn, step, wait));
          else this.unknownWait(turn, step, wait);
        }
        steps.push(this.step(turn, i, step, { waits, takes, deferred }));
      }
      if (turn.forward !== null) activations = this.outputOf(turn, 'F', find);
      if (turn.backward !== null && op !== 'weights') gradients = this.outputOf(turn, 'B', find);
    }
    return { steps, activations, gradients };
  }

  private stage(stage: number | null): readonly string[] {
    if (stage === null) return [];
    const layers = this.stages[stage] ?? [];
    if (layers.length > 0) return layers;
    return fail({
      code: 'schedule/no-layers',
      at: this.schedule.span,
      message: `stage ${stage} has no layers, so it has no phases to simulate`,
      fix: 'say which layers the stage has, or simulate by operations',
    });
  }

  private orderOf(turn: Turn): PhaseOrder {
    return (
      this.orders.get(orderKey(turn)) ??
      fail({
        code: 'schedule/no-order',
        at: this.schedule.span,
        message: `there is no order of phases for ${turn.op} of ${turn.layers.map((l) => `'${l}'`).join(' and ')}`,
        notes: [{ message: `there are orders for ${[...this.orders.keys()].join(', ') || 'nothing'}` }],
        fix: 'add the order, or simulate by operations',
      })
    );
  }

  private unknownWait(turn: Turn, step: PhaseStep, wait: PhaseRef): never {
    return fail({
      code: 'schedule/unknown-wait',
      at: step.span,
      message: `${showPhase(step)} waits for ${showPhase(wait)}, which the order for ${orderKey(turn)} does not launch`,
      fix: 'wait for a phase of the same order, or for input(F) or input(B)',
    });
  }

  /** The step of the backward_input of the same layer that a weights' step waits for. */
  private deferred(stage: number | null, turn: Turn, step: PhaseStep, wait: PhaseRef): number {
    const { steps } = this.expandStages('backward_input', null, stage);
    const at = steps.findIndex(
      (s) => s.layer === turn.backward && s.phase === wait.phase && s.part === wait.part,
    );
    return at >= 0 ? at : this.unknownWait(turn, step, wait);
  }

  /** `index`: the how-manieth layer of its chunk the turn runs. */
  private step(
    turn: Turn,
    index: number,
    step: PhaseStep,
    waits: Pick<Step, 'waits' | 'takes' | 'deferred'>,
  ): Step {
    const ahead = step.part === 'F';
    const layer = ahead ? turn.forward : turn.backward;
    if (layer === null)
      return fail({
        code: 'schedule/bad-order',
        at: step.span,
        message: `${showPhase(step)} stands in the order for ${orderKey(turn)}`,
        fix: 'a forward launches parts F, a backward parts B and W',
      });
    const { phase, part, stream } = step;
    const kind = ahead ? turn.layers[0] : turn.layers[turn.layers.length - 1];
    return { phase, part, stream, layer, ...phaseTime(this.costs, kind, step, index), ...waits };
  }

  /** What a layer gives on: its last phase forward, its first phase backward. */
  private outputOf(turn: Turn, part: 'F' | 'B', find: (r: PhaseRef) => number): number {
    const name = part === 'F' ? turn.layers[0] : turn.layers[turn.layers.length - 1];
    const phase = this.layers.get(name)?.phases.at(part === 'F' ? -1 : 0);
    const at = phase ? find({ phase: phase.name, part }) : -1;
    if (at >= 0) return at;
    return fail({
      code: 'schedule/no-output',
      at: this.schedule.span,
      message: `the order for ${orderKey(turn)} does not launch what layer '${name}' gives on${phase ? `: ${phase.name}(${part})` : ''}`,
      fix: 'launch the last phase forward and the first one backward',
    });
  }
}
