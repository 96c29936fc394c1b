// Arguments and results of a launched kernel as the device holds them, as values that the interpreter takes.
import { newState } from '../../../ir/interpret/positions.ts';
import {
  readPositions,
  readRouting,
  readState,
  readTensor,
  stateArrays,
  tensorComponentBytes,
} from '../../../ir/interpret/value-bytes.ts';
import type { RuntimeValue } from '../../../ir/interpret/values.ts';
import type { Module, Value } from '../../../ir/module.ts';
import { sameDim, type Dim, type RoutingType } from '../../../ir/types.ts';
import type { LaunchEvent } from '../plan-runner.ts';

export class DeviceValues {
  readonly #module: Module;
  /** Rows in use of ragged dims: what the last routing over each said. */
  readonly #used = new Map<string, number>();

  constructor(module: Module) {
    this.#module = module;
  }

  /** Sizes of the event's run-time dims, ragged ones as far as they are in use. */
  sizes({ dims }: LaunchEvent): Readonly<Record<string, number>> {
    return Object.fromEntries([...dims].map(([name, n]) => [name, Math.min(this.#used.get(name) ?? n, n)]));
  }

  read(event: LaunchEvent, { name, type }: Value): RuntimeValue {
    const { dims, pages } = event;
    const inUse = this.sizes(event);
    const sizeOf = (d: Dim): number => d.size ?? inUse[d.name!] ?? unknown(d.name);
    const bytes =
      (length: (component: string) => number) =>
      (component: string): Uint8Array =>
        event.read(name, component, length(component));
    switch (type.kind) {
      case 'tensor': {
        const shape = type.dims.map(sizeOf);
        return readTensor(
          type,
          shape,
          bytes((c) => tensorComponentBytes(type, c, shape)),
        );
      }
      case 'positions': {
        const [tokens, sequences, outputs] = [type.tokens, type.sequences, type.outputs].map(sizeOf);
        const packed = sameDim(type.keys, type.tokens);
        const page = this.#module.states.find((s) => s.policy === 'paged')?.page ?? 0;
        const counts: Record<string, number> = { outputs, pages: sequences * pages };
        return readPositions(
          { tokens, sequences, outputs, columns: pages, page, packed },
          bytes((c) => 4 * (counts[c] ?? tokens)),
        );
      }
      case 'routing':
        return this.#routing(event, name, type);
      case 'state': {
        const declared = this.#module.states.find((s) => s.name === type.state)!;
        const rows = declared.fields.flatMap((f) => f.type.dims).find((d) => d.size === null);
        const like = newState(declared, type.count, rows ? (dims.get(rows.name!) ?? unknown(rows.name)) : 0);
        const lengths = stateArrays(this.#module, type.state, like);
        return readState(
          this.#module,
          type.state,
          like,
          bytes((c) => lengths.get(c)!.length),
        );
      }
    }
  }

  #routing(event: LaunchEvent, name: string, type: RoutingType): RuntimeValue {
    const sizeOf = (d: Dim): number => d.size ?? event.dims.get(d.name!) ?? unknown(d.name);
    const [tokens, experts, top, slots] = [type.tokens, type.experts, type.top, type.slots].map(sizeOf);
    const counts: Record<string, number> = { offsets: experts + 1, tokenOf: slots, choiceOf: slots };
    const value = readRouting({ tokens, experts, top, slots }, (c) =>
      event.read(name, c, 4 * (counts[c] ?? tokens * top)),
    );
    this.#used.set(type.slots.name!, value.tokenOf.length);
    return value;
  }
}

const unknown = (name: string | null): never => {
  throw new Error(`compare: the size of ${name} is not known`);
};
