// Every kernel that the compiler makes of a small model, as it makes it: emitted by the target, run in the functional
// PTX interpreter on a few tokens and compared with the IR interpreter. GEMM tile kernels have tests of their own.
import { describe, expect, test } from 'vitest';
import { compileModule } from '../../../compiler/compile.ts';
import { loadModel } from '../../../dsl/load.ts';
import { traceModel } from '../../../dsl/trace-model.ts';
import { newState, packedPositions, pageTable, stepPositions } from '../../../ir/interpret/index.ts';
import { apply } from '../../../ir/interpret/testing.ts';
import type { RoutingData, RuntimeValue, StateData, TensorData } from '../../../ir/interpret/values.ts';
import { raggedBound, type Function, type Module, type Value } from '../../../ir/module.ts';
import { sameDim, showType, tensor, type Dim, type RoutingType } from '../../../ir/types.ts';
import { expectClose, random, reference } from '../../../test/support/kernel-subject.ts';
import { runKernel } from '../../../test/support/run-kernel.ts';
import { h800Target } from '../target.ts';

const tokens = 5;
const page = 64;
const pages = pageTable([page, 2 * page], page);
const sizes: Readonly<Record<string, number>> = {
  tokens,
  batch: tokens,
  sequences: 2,
  outputs: 2,
  cached: 3 * page,
};

async function compiled(name: string, precision: 'f32' | 'bf16' | 'fp8'): Promise<Module> {
  const dslNamespace = (await import('../../../dsl/index.ts')) as unknown as Readonly<
    Record<string, unknown>
  >;
  const { model } = await loadModel(`examples/${name}.ts`, { settings: {}, dslNamespace });
  const { module } = traceModel(model, { precision, settings: {} });
  return compileModule(module, { target: h800Target, disabled: new Set(), verifyEach: false }).module;
}

/** Values for a kernel's arguments: random, but of the right kind where a kind is needed. */
class Inputs {
  private readonly module: Module;
  private readonly fn: Function;
  private readonly routings = new Map<string, RoutingData>();
  private seed = 1;

  constructor(fn: Function, module: Module) {
    this.fn = fn;
    this.module = module;
    for (const a of fn.arguments)
      if (a.value.type.kind === 'routing')
        this.routings.set(a.value.type.slots.name!, this.routing(a.value.type));
  }

  all(): RuntimeValue[] {
    return this.fn.arguments.map((a) => this.value(a.value));
  }

  /** Sizes of dims: of a ragged one the rows that its routing uses, or some. */
  sizeOf(d: Dim): number {
    if (d.size !== null) return d.size;
    return this.routings.get(d.name!)?.tokenOf.length ?? sizes[d.name!] ?? this.raggedSize(d);
  }

  private raggedSize(d: Dim): number {
    const { ragged } = this.module.dims.find((x) => x.name === d.name)!;
    return Math.floor(raggedBound(ragged!, tokens) / ragged!.align) * ragged!.align;
  }

  private routing(type: RoutingType): RoutingData {
    const scores = random(`f32[${tokens}, ${type.experts.size}]`, this.seed++);
    return apply(
      'route',
      {
        operands: [tensor('f32', [type.tokens, type.experts])],
        attributes: { top: type.top.size! },
        declared: [type],
        dims: this.module.dims,
      },
      [scores],
    )[0] as RoutingData;
  }

  private value(v: Value): RuntimeValue {
    const { type } = v;
    switch (type.kind) {
      case 'routing':
        return this.routings.get(type.slots.name!)!;
      case 'positions':
        return sameDim(type.tokens, type.keys)
          ? packedPositions([2, 3], 'last', page, pages)
          : stepPositions([7, 66], [2, 3], 'last', page, pages);
      case 'state': {
        const state = newState(
          this.module.states.find((s) => s.name === type.state)!,
          null,
          sizes.cached,
        ) as StateData;
        for (const field of Object.values(state.layers[0].fields) as TensorData[])
          field.data.set(random(`${field.dtype}[${field.shape.join(', ')}]`, this.seed++).data);
        return state;
      }
      case 'tensor': {
        const shape = type.dims.map((d) => this.sizeOf(d));
        const plain = random(
          `${type.scales.length > 0 ? 'f32' : type.dtype}[${shape.join(', ')}]`,
          this.seed++,
          {},
          1,
        );
        // Integers are rows to gather: few enough for any table here.
        if (type.dtype === 'i32') return { ...plain, data: plain.data.map((x) => Math.abs(x) % 4) };
        if (type.scales.length === 0) return plain;
        const bare = showType({ ...type, dims: shape.map((size) => ({ name: null, size })) });
        return apply('quantize', { operands: [`f32[${shape.join(', ')}]`], declared: [bare] }, [plain])[0];
      }
    }
  }
}

/** Texts that have been run: entries differ in the names of dims only, and so do most of their kernels. */
const seen = new Set<string>();
let products = 0;

function check(fn: Function, module: Module): void {
  const kernel = h800Target.emit(fn, module);
  if (kernel.parameters.some((p) => p.kind === 'tensorMap')) return;
  const text = kernel.ptx.replaceAll(kernel.name, 'kernel').replaceAll('batch', 'tokens');
  if (seen.has(text)) return;
  seen.add(text);
  // Plain products have tests of their own, and are most of the work here: two will do.
  if (fn.body.length === 1 && fn.body[0].op === 'matmul' && products++ >= 2) return;
  const inputs = new Inputs(fn, module);
  const values = inputs.all();
  // Ragged dims without a routing are as long as their arrays.
  const ragged = Object.fromEntries(
    module.dims.filter((d) => d.ragged).map((d) => [d.name, inputs.sizeOf({ name: d.name, size: null })]),
  );
  const { results } = runKernel(kernel, fn, module, values, { sizes: { ...sizes, ...ragged } });
  const wanted = reference({ fn, module }, values, { ...sizes, ...ragged });
  for (const [i, want] of wanted.entries()) {
    const got = results[i];
    if (want.kind === 'routing' && got.kind === 'routing') {
      expect(Array.from(got.slotOf)).toEqual(Array.from(want.slotOf));
      continue;
    }
    expectClose(got, want, { absolute: 2e-4, share: 0.03 });
  }
}

describe('kernels of the small model', () => {
  for (const precision of ['bf16', 'fp8'] as const)
    test(
      precision,
      async () => {
        const module = await compiled('tiny', precision);
        const kernels = module.functions.filter((f) => f.kind === 'kernel');
        expect(kernels.length).toBeGreaterThan(40);
        for (const fn of kernels)
          try {
            check(fn, module);
          } catch (e) {
            throw new Error(`@${fn.name}: ${(e as Error).message}`, { cause: e });
          }
      },
      300_000,
    );
});
