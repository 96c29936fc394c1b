// One kernel at one size: its PTX on the emulator (or in the interpreter of PTX text), its function in the reference
// interpreter, and what differs between the two.
import { multipliesFp8 } from '../../compiler/cli/compare/index.ts';
import { differences } from '../../compiler/cli/compare/values.ts';
import { interpret } from '../../ir/interpret/index.ts';
import { noWeights } from '../../ir/interpret/testing.ts';
import { routingArrays, stateArrays } from '../../ir/interpret/value-bytes.ts';
import type { RuntimeValue, StateData, TensorData } from '../../ir/interpret/values.ts';
import { defaultEngine, type Engine } from '../support/machines.ts';
import type { Order } from '../support/ptx-run.ts';
import { runKernel } from '../support/run-kernel.ts';
import { inputsFor, manyTokens, oneToken } from './inputs.ts';
import type { KernelCase } from './models.ts';

export interface Size {
  readonly tokens: 'one' | 'many';
  readonly order: Order;
  /** How the core sums products of FP8: plainly, which shows the smallest mistakes, or as the chip does. */
  readonly tensorCore: 'f32' | 'exact';
}

/** Two sizes, both orders of threads, both ways to sum. */
export const sizes: readonly Size[] = [
  { tokens: 'one', order: 'forward', tensorCore: 'f32' },
  { tokens: 'many', order: 'reverse', tensorCore: 'exact' },
];

const copyOf = (v: RuntimeValue): RuntimeValue =>
  v.kind === 'state'
    ? {
        ...v,
        layers: v.layers.map(({ fields }) => ({
          fields: Object.fromEntries(
            Object.entries(fields).map(([name, f]): [string, TensorData] => [
              name,
              { ...f, data: f.data.slice() },
            ]),
          ),
        })),
      }
    : v;

/** Runs a kernel on random inputs; gives what is wrong in words, nothing when it is right. Throws nothing. */
export function check(
  { fn, module, kernel }: KernelCase,
  { tokens, order, tensorCore }: Size,
  engine: Engine = defaultEngine,
  seed = 1,
): string[] {
  try {
    const step = tokens === 'one' ? oneToken : manyTokens(fn, module);
    const { values, sizes, launchSizes } = inputsFor(fn, module, step, seed);
    // A persistent kernel with fewer blocks than tiles must go round.
    const atMost = tokens === 'many' ? { atMost: 3 } : {};
    const run = { sizes: launchSizes, order, seed, engine, tensorCore, ...atMost };
    const isExact = engine === 'core' && tensorCore === 'exact' && multipliesFp8(fn);
    const { results, arrays } = runKernel(kernel, fn, module, values, run);
    const { results: wanted, finals } = interpret(module, fn.name, values.map(copyOf), noWeights, { sizes });
    const inouts = fn.arguments.filter((a) => a.inout);
    return [
      ...wanted.flatMap((want, i) =>
        differences(fn.results[i].name, results[i], want, isExact ? 'fp8' : 'f32'),
      ),
      ...wanted.flatMap((want, i) => {
        const { type, name } = fn.results[i];
        if (want.kind !== 'routing' || type.kind !== 'routing') return [];
        // The tables that only the device reads, and what lies beyond the slots in use.
        const slots = arrays.get(`${name} tokenOf`)!.length / 4;
        const { align } = module.dims.find((d) => d.name === type.slots.name)!.ragged!;
        const expected = routingArrays(want, slots, align);
        return ['tokenOf', 'choiceOf', 'expertOfBlock'].flatMap((c) =>
          sameBytes(`${name} ${c}`, arrays, expected.get(c)!),
        );
      }),
      ...finals.flatMap((final, i) => {
        const { type, name } = inouts[i].value;
        if (type.kind !== 'state') return [];
        return [...stateArrays(module, type.state, final as StateData)].flatMap(([c, bytes]) =>
          sameBytes(`${name} ${c}`, arrays, bytes),
        );
      }),
    ];
  } catch (e) {
    return [e instanceof Error ? e.message : String(e)];
  }
}

function sameBytes(key: string, arrays: ReadonlyMap<string, Uint8Array>, want: Uint8Array): string[] {
  const got = arrays.get(key)!;
  const at = want.findIndex((byte, i) => got[i] !== byte);
  return at < 0 ? [] : [`%${key}: byte ${at} is ${got[at]}, should be ${want[at]}`];
}
