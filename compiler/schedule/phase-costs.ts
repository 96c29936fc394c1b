// Costs of phases: what kernels take on the two streams of a rank, as a JSON file (examples/costs).
import { fail } from '../../ir/diagnostics.ts';
import { showPhase, type PhaseRef } from '../../ir/schedule.ts';

export interface PhaseCost {
  /**
   * Time in which its kernels run. A list has one for each layer of a chunk in the order in which the chunk runs them
   * (a backward starts at its stage's last), and begins anew for chunks with more layers.
   */
  readonly busy: number | readonly number[];
  /** Kernels of the phase: a launch gap comes with each. */
  readonly kernels: number | readonly number[];
}

type PhaseTable = Readonly<Record<string, PhaseCost>>;

/** All times are in microseconds. */
export interface PhaseCosts {
  readonly unit: 'us';
  /** Where the figures come from. */
  readonly source: string;
  /** Idle time of a stream that each kernel of a phase brings with it. */
  readonly launchGap: number;
  /** Of one batch of pipeline transfers. */
  readonly transfer: number;
  /** By phase and part: `attention(F)`. */
  readonly phases: PhaseTable;
  /** Costs of single kinds of layers, which go before the common ones. */
  readonly layers?: Readonly<Record<string, { readonly phases: PhaseTable }>>;
}

/** What one phase of one layer takes: all of its time, and its kernels' share of that. */
export interface PhaseTime {
  readonly duration: number;
  readonly busy: number;
}

const at = (v: number | readonly number[], turn: number): number =>
  typeof v === 'number' ? v : v[turn % v.length];

/** Time of a phase of the `turn`-th layer that a chunk runs. Throws a DiagnosticError where there is no cost for it. */
export function phaseTime(costs: PhaseCosts, layer: string, phase: PhaseRef, turn: number): PhaseTime {
  const name = showPhase(phase);
  const cost =
    costs.layers?.[layer]?.phases?.[name] ??
    costs.phases[name] ??
    fail({
      code: 'schedule/no-cost',
      message: `there is no cost for ${name} of layer '${layer}'`,
      notes: [{ message: `the costs name ${Object.keys(costs.phases).join(', ')}` }],
      fix: `add "${name}" to "phases" of the costs, or to "layers" for this kind of layer`,
    });
  const busy = at(cost.busy, turn);
  return { busy, duration: busy + at(cost.kernels, turn) * costs.launchGap };
}

/** The same costs with every list replaced by its mean. */
export function meanCosts(costs: PhaseCosts): PhaseCosts {
  const mean = (v: number | readonly number[]): number =>
    typeof v === 'number' ? v : v.reduce((a, b) => a + b, 0) / v.length;
  const table = (phases: PhaseTable): PhaseTable =>
    Object.fromEntries(
      Object.entries(phases).map(([name, c]) => [name, { busy: mean(c.busy), kernels: mean(c.kernels) }]),
    );
  const layers = Object.entries(costs.layers ?? {}).map(([l, c]) => [l, { phases: table(c.phases) }]);
  return {
    ...costs,
    phases: table(costs.phases),
    ...(costs.layers && { layers: Object.fromEntries(layers) }),
  };
}

/** Reads the text of a cost file. Throws a DiagnosticError `schedule/bad-costs` with all that is wrong in it. */
export function parsePhaseCosts(text: string, file = 'costs.json'): PhaseCosts {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    fail({
      code: 'schedule/bad-costs',
      message: `${file} is not JSON: ${(error as Error).message}`,
      fix: 'see examples/costs for files of costs',
    });
  }
  const problems = new Checker().costs(data);
  if (problems.length > 0)
    fail({
      code: 'schedule/bad-costs',
      message: `${file} is not a file of costs: ${problems[0]}`,
      notes: problems.slice(1).map((message) => ({ message })),
      fix: 'see examples/costs for files of costs',
    });
  return data as PhaseCosts;
}

const isObject = (v: unknown): v is Record<string, unknown> =>
  typeof v === 'object' && v !== null && !Array.isArray(v);
const isAmount = (v: unknown): boolean => typeof v === 'number' && Number.isFinite(v) && v >= 0;

/** Collects what is wrong, each with its path in the JSON. */
class Checker {
  private readonly problems: string[] = [];

  costs(data: unknown): readonly string[] {
    const known = ['unit', 'source', 'launchGap', 'transfer', 'phases', 'layers'];
    if (!this.object(data, '$', known)) return this.problems;
    if (data.unit !== 'us') this.wrong('$.unit', `is ${JSON.stringify(data.unit)}, and only "us" is known`);
    if (typeof data.source !== 'string') this.wrong('$.source', 'must say where the figures come from');
    this.amount(data.launchGap, '$.launchGap');
    this.amount(data.transfer, '$.transfer');
    this.table(data.phases, '$.phases');
    if (data.layers !== undefined && this.object(data.layers, '$.layers'))
      for (const [layer, own] of Object.entries(data.layers))
        if (this.object(own, `$.layers.${layer}`, ['phases']))
          this.table(own.phases, `$.layers.${layer}.phases`);
    return this.problems;
  }

  private wrong(path: string, what: string): void {
    this.problems.push(`${path} ${what}`);
  }

  private object(v: unknown, path: string, known?: readonly string[]): v is Record<string, unknown> {
    if (!isObject(v)) {
      this.wrong(path, 'must be an object');
      return false;
    }
    for (const key of Object.keys(v))
      if (known && !known.includes(key))
        this.wrong(`${path}.${key}`, `is unknown; known are ${known.join(', ')}`);
    return true;
  }

  private amount(v: unknown, path: string): void {
    if (!isAmount(v)) this.wrong(path, `is ${JSON.stringify(v)}, and must be a number from 0 up`);
  }

  private amounts(v: unknown, path: string): void {
    if (!Array.isArray(v)) return this.amount(v, path);
    if (v.length === 0) this.wrong(path, 'must have a number for each layer of a chunk');
    for (const [i, one] of v.entries()) this.amount(one, `${path}[${i}]`);
  }

  private table(v: unknown, path: string): void {
    if (!this.object(v, path)) return;
    for (const [name, cost] of Object.entries(v)) {
      if (!/^[^()]+\([FBW]\)$/.test(name))
        this.wrong(`${path}["${name}"]`, 'must be a phase and its part, such as "attention(F)"');
      if (!this.object(cost, `${path}["${name}"]`, ['busy', 'kernels'])) continue;
      this.amounts(cost.busy, `${path}["${name}"].busy`);
      this.amounts(cost.kernels, `${path}["${name}"].kernels`);
    }
  }
}
