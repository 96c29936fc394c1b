// States where a device holds them: a call leaves them there, the next one finds them, and their values are read back
// only when somebody looks.
import { readState, stateArrays } from '../../ir/interpret/value-bytes.ts';
import type { StateData } from '../../ir/interpret/values.ts';
import type { Module } from '../../ir/module.ts';
import type { Dim, StateType } from '../../ir/types.ts';
import type { Core, DeviceHandle } from '../../runtime/emulator/device.ts';
import { alignUp, componentsOf } from '../memory/buffers.ts';

/** A state that the device holds. Its layers are read when first asked for; from then on the host has its own copy. */
class DeviceState implements StateData {
  readonly kind = 'state';
  readonly shapes: StateData['layers'];
  #layers: StateData['layers'] | undefined;
  #read: () => StateData['layers'];

  /** `like`: a state of the same shapes. */
  constructor(like: StateData, read: () => StateData['layers']) {
    this.shapes = shapesOf(like);
    this.#read = read;
  }

  get layers(): StateData['layers'] {
    return (this.#layers ??= this.#read());
  }

  /** A call has used the state up: whoever still looks at this one finds the new one, as with states on the host. */
  becomes(next: DeviceState): void {
    this.#read = () => next.layers;
  }

  /** Nobody has looked, so nobody can have changed it. */
  get isUntouched(): boolean {
    return this.#layers === undefined;
  }
}

/** Shapes only: asking a state on a device for them must not read it. */
function shapesOf(state: StateData): StateData['layers'] {
  if (state instanceof DeviceState) return state.shapes;
  return state.layers.map(({ fields }) => ({
    fields: Object.fromEntries(
      Object.entries(fields).map(([name, f]) => [name, { ...f, data: new Float64Array(0), scales: [] }]),
    ),
  }));
}

interface Held {
  readonly addresses: readonly bigint[];
  readonly sizes: readonly number[];
  /** What the host was given for it, until it changes. */
  state: DeviceState | undefined;
}

export class DeviceStates {
  readonly #core: Core;
  readonly #device: DeviceHandle;
  readonly #module: Module;
  /** One of each state. */
  readonly #held = new Map<string, Held>();

  constructor(core: Core, device: DeviceHandle, module: Module) {
    this.#core = core;
    this.#device = device;
    this.#module = module;
  }

  /** Run-time dims of a state with their sizes. */
  sizesOf(type: StateType, state: StateData): readonly (readonly [Dim, number])[] {
    const [{ fields: shapes }] = shapesOf(state);
    return this.#fieldsOf(type).flatMap((f) =>
      f.type.dims.map((d, i) => [d, shapes[f.name].shape[i]] as const),
    );
  }

  /** Brings a state to the device, unless it is there already; gives the places of its arrays. */
  place(type: StateType, state: StateData, name: string): readonly bigint[] {
    const before = this.#held.get(type.state);
    if (before?.state && before.state === state && before.state.isUntouched) return before.addresses;
    // Whoever holds the state that was there must still find its values.
    void before?.state?.layers;
    const arrays = stateArrays(this.#module, type.state, state);
    const components = componentsOf(type, this.#module);
    const sizes = components.map((c) => arrays.get(c.component)!.length);
    const fits = before && `${before.sizes}` === `${sizes}`;
    if (before && !fits) for (const address of before.addresses) this.#core.free(this.#device, address);
    const addresses = fits
      ? before.addresses
      : components.map((c, i) =>
          this.#core.allocate(this.#device, Math.max(1, alignUp(sizes[i])), `${name}.${c.component}`),
        );
    for (const [i, c] of components.entries())
      this.#core.write(this.#device, addresses[i], arrays.get(c.component)!);
    this.#held.set(type.state, { addresses, sizes, state: undefined });
    return addresses;
  }

  /** The state as a call left it, for the host. `before` is what it was called with: it has been used up. */
  after(type: StateType, before: StateData): StateData {
    const held = this.#held.get(type.state)!;
    const { addresses, sizes } = held;
    const index = new Map(componentsOf(type, this.#module).map((c, i) => [c.component, i]));
    const shapes: StateData = { kind: 'state', layers: shapesOf(before) };
    const next = new DeviceState(before, () => {
      const read = (c: string): Uint8Array => {
        const i = index.get(c)!;
        return this.#core.read(this.#device, addresses[i], sizes[i]);
      };
      return readState(this.#module, type.state, shapes, read).layers;
    });
    if (before instanceof DeviceState) before.becomes(next);
    held.state = next;
    return next;
  }

  #fieldsOf(type: StateType) {
    return this.#module.states.find((s) => s.name === type.state)!.fields;
  }
}
