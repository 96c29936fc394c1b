// Plans written by hand for tests of the executor, and the kernels that they launch.
import { encodeBytes, decodeBytes } from '../ir/formats/index.ts';
import { decodePtx } from '../backends/ptx/decode/index.ts';
import { encodePlanFile } from '../compiler/plan-file/encode.ts';
import type {
  FileExtent,
  FileFunction,
  FileKernel,
  FileOperand,
  FileParameter,
  FilePlace,
  FileStep,
  FileValue,
  PlanFile,
} from '../compiler/plan-file/form.ts';
import type { Core, DeviceHandle, DeviceSettings } from './emulator/device.ts';
import { loadCore } from './emulator/load-core.ts';
import { loadExecutor, type EntryRequest, type ExecutorHandle } from './executor.ts';

export const constant = (n: number): FileExtent => ({ constant: n, terms: [] });
export const ofDim = (dim: number, factor = 1): FileExtent => ({ constant: 0, terms: [{ dim, factor }] });

const at = (base: FilePlace['base'], index: number, offset: number, type: number): FileValue => ({
  type,
  places: [{ base, index, offset }],
});
/** Values of one array: the type's number comes last. */
export const arena = (offset: number, type = 0): FileValue => at('arena', 0, offset, type);
export const argument = (index: number, type = 0): FileValue => at('argument', index, 0, type);
export const weight = (index: number, type = 1): FileValue => at('weight', index, 0, type);

/** A header, `.param`s and a body with plenty of registers. */
const entry = (name: string, parameters: string, body: string): string => `.version 8.0
.target sm_90a
.address_size 64
.visible .entry ${name}(${parameters}) {
.reg .pred %p<4>; .reg .b32 %r<12>; .reg .f32 %f<8>; .reg .b64 %rd<12>;
mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x; mad.lo.u32 %r3, %r0, %r1, %r2; mul.wide.u32 %rd0, %r3, 4;
${body}
ret;
}
`;
const many = '.param .u32 n, .param .u64 x, .param .u64 y, .param .u64 z';
const bounded = `ld.param.u32 %r4, [n]; setp.ge.u32 %p0, %r3, %r4; @%p0 ret;
ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y]; ld.param.u64 %rd3, [z];
add.u64 %rd4, %rd1, %rd0; add.u64 %rd5, %rd2, %rd0; add.u64 %rd6, %rd3, %rd0;`;

/** PTX by kernel. */
export const ptx: Readonly<Record<string, string>> = {
  // z[i] = x[i] * y[0]
  scale: entry(
    'scale',
    many,
    `${bounded} ld.global.f32 %f0, [%rd4]; ld.global.f32 %f1, [%rd2]; mul.f32 %f2, %f0, %f1; st.global.f32 [%rd6], %f2;`,
  ),
  // y[i] += x[i]; z[i] = y[i]
  gather: entry(
    'gather',
    many,
    `${bounded} ld.global.f32 %f0, [%rd4]; ld.global.f32 %f1, [%rd5]; add.f32 %f2, %f0, %f1; st.global.f32 [%rd5], %f2; st.global.f32 [%rd6], %f2;`,
  ),
  // z = what the launch is like: three sizes of the grid, n, and the first word of x, which is left 0
  look: entry(
    'look',
    '.param .u32 n, .param .u64 x, .param .u64 z',
    `ld.param.u32 %r4, [n]; ld.param.u64 %rd1, [x]; ld.param.u64 %rd3, [z];
setp.ne.u32 %p0, %r3, 0; @%p0 ret;
mov.u32 %r5, %nctaid.x; mov.u32 %r6, %nctaid.y; mov.u32 %r7, %nctaid.z; atom.global.add.u32 %r8, [%rd1], 7;
st.global.u32 [%rd3], %r5; st.global.u32 [%rd3+4], %r6; st.global.u32 [%rd3+8], %r7; st.global.u32 [%rd3+12], %r4;
st.global.u32 [%rd3+16], %r8; st.global.u32 [%rd1], 0;`,
  ),
};

const pointer = (byte: number, value: number): FileParameter => ({
  ...{ kind: 'pointer', at: byte, value, component: 0, offset: 0 },
});

/** A kernel of `n` threads over three arrays. */
export const elementwise = (name: string, dim = 0): FileKernel => ({
  ...{ name, threads: 32, cluster: [1, 1, 1], dynamicSharedBytes: 0, scratchBytes: 0, atMost: 0 },
  parameterBytes: 32,
  grid: [{ extent: ofDim(dim), per: 32 }],
  parameters: [{ kind: 'u32', at: 0, dim }, pointer(8, 0), pointer(16, 1), pointer(24, 2)],
});

export const launch = (kernel: number, operands: number, values: readonly FileValue[]): FileStep => ({
  ...{ kind: 'launch', at: `model.ts:${kernel + 1}:1`, kernel, operands, values },
});
export const repeat = (
  callee: number,
  [start, stop]: readonly [number, number],
  arenaAt: number,
  operands: readonly FileOperand[],
): FileStep => ({ kind: 'repeat', at: '', function: callee, start, stop, arena: arenaAt, operands });

export const fn = (
  name: string,
  given: Pick<FileFunction, 'arguments' | 'arenaBytes' | 'steps' | 'results'> & { isEntry?: boolean },
): FileFunction => ({ isEntry: false, ...given, name });

/** One run-time dim `n` of at most 1000; type 0 is f32[n], type 1 f32[1], both in 4096 bytes of an arena. */
export const planFile = (parts: Partial<PlanFile>): PlanFile => ({
  dims: [
    { name: 'n', bound: 1000 },
    { name: 'pages', bound: 0 },
  ],
  types: [
    { text: 'f32[n]', components: [{ name: 'data', dtype: 'f32', bits: 32, shape: [ofDim(0)] }] },
    { text: 'f32[1]', components: [{ name: 'data', dtype: 'f32', bits: 32, shape: [constant(1)] }] },
  ],
  ...{ states: [], weights: [], weightBytes: 0, kernels: [], functions: [] },
  ...parts,
});

/** An executor of a plan on a device of its own. */
export class ExecutorBench {
  readonly core: Core = loadCore();
  readonly executor = loadExecutor();
  readonly device: DeviceHandle;
  readonly handle: ExecutorHandle;
  /** Kernels whose code was asked for. */
  readonly asked: string[] = [];

  constructor(file: PlanFile | Uint8Array, settings: DeviceSettings = { checks: ['all'] }) {
    this.device = this.core.createDevice(settings);
    const bytes = file instanceof Uint8Array ? file : encodePlanFile(file);
    this.handle = this.executor.createExecutor(this.device, bytes);
  }

  readonly codeOf = (name: string): Uint8Array => {
    this.asked.push(name);
    return decodePtx(ptx[name], `${name}.ptx`).program!;
  };

  floats(values: readonly number[]): bigint {
    const address = this.core.allocate(this.device, Math.max(4, 4 * values.length), 'an argument');
    this.core.write(this.device, address, encodeBytes('f32', values));
    return address;
  }

  read(address: bigint, count: number): number[] {
    return [...decodeBytes('f32', this.core.read(this.device, address, 4 * count), count)];
  }

  weight(index: number, layer: number, value: number): void {
    this.executor.writeWeight(this.handle, index, layer, 0, 0, encodeBytes('f32', [value]));
  }

  /** Runs an entry; its results as numbers. */
  run(request: Omit<EntryRequest, 'codeOf'> & Partial<Pick<EntryRequest, 'codeOf'>>): number[][] {
    return this.executor
      .runEntry(this.handle, { codeOf: this.codeOf, ...request })
      .map(([bytes]) => [...decodeBytes('f32', bytes, bytes.length / 4)]);
  }
}

export const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

/**
 * y = x · out; then layers 2, 3 and 4: h = h · w{i}, s[i] += h, and h becomes what s[i] is now. s is a stack of five
 * layers' f32[n].
 */
export const layered: PlanFile = planFile({
  types: [
    ...planFile({}).types,
    {
      text: 'f32[5, n]',
      components: [{ name: 'data', dtype: 'f32', bits: 32, shape: [constant(5), ofDim(0)] }],
    },
  ],
  weights: [
    { name: 'out', type: 1, layers: null, offset: 0, stride: 256 },
    { name: 'layers.{i}.w', type: 1, layers: [2, 5], offset: 256, stride: 256 },
  ],
  weightBytes: 1024,
  kernels: [elementwise('scale'), elementwise('gather')],
  functions: [
    fn('layer', {
      arguments: [
        { name: 'h', type: 0, inout: false },
        { name: 's', type: 0, inout: true },
      ],
      arenaBytes: 8192,
      steps: [
        launch(0, 2, [argument(0), weight(1), arena(0)]),
        launch(1, 2, [arena(0), argument(1), arena(4096)]),
      ],
      results: [arena(4096)],
    }),
    fn('f', {
      isEntry: true,
      arguments: [
        { name: 'x', type: 0, inout: false },
        { name: 's', type: 2, inout: true },
      ],
      arenaBytes: 16384,
      steps: [
        launch(0, 2, [argument(0), weight(0), arena(8192)]),
        repeat(0, [2, 5], 0, [
          { mode: 'carry', value: arena(8192), result: arena(12288) },
          { mode: 'indexed', value: argument(1, 2) },
        ]),
      ],
      results: [arena(12288)],
    }),
  ],
});

export function layeredBench(): ExecutorBench {
  const bench = new ExecutorBench(layered);
  bench.weight(0, 0, 2);
  for (const layer of [2, 3, 4]) bench.weight(1, layer, layer);
  return bench;
}
