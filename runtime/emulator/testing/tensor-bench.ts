// Runs one matrix instruction on many blocks at once: every thread loads its registers, the instruction runs, and every
// thread stores its results. What a register holds is the test's business.
import { decodePtx } from '../../../backends/ptx/decode/index.ts';
import type { DeviceSettings, Report } from '../device.ts';
import { loadCore } from '../load-core.ts';

export interface FragmentKernel {
  readonly threads: number;
  /** Registers that each thread loads (%i0 ...) and stores (%o0 ...), of 32 bits, or of 64 with `wide`. */
  readonly inputs: number;
  readonly outputs: number;
  readonly wide?: boolean;
  /** Bytes of shared memory from 0x400 on, filled before the body: a multiple of 16 per thread. %smem is its address. */
  readonly sharedBytes?: number;
  /** PTX. Free for use: %r0-63, %rd0-31, %p0-15, %f0-15; %tid and %cta are set. */
  readonly body: string;
}

/** Reads of input and output are `[block][register][thread]`. */
export interface FragmentRun {
  readonly outputs: Uint32Array | BigUint64Array;
  readonly reports: readonly Report[];
}

const list = (count: number, f: (k: number) => string): string =>
  Array.from({ length: count }, (_, k) => f(k)).join('\n');

/** The module's text. The body starts at line `bodyLine`. */
export function fragmentModule(k: FragmentKernel): { readonly text: string; readonly bodyLine: number } {
  const size = k.wide ? 8 : 4;
  const bits = `b${8 * size}`;
  const step = size * k.threads;
  const shared = k.sharedBytes ?? 0;
  const chunks = shared / (16 * k.threads);
  if (!Number.isInteger(chunks))
    throw new Error('shared memory is not 16 bytes times threads times a number');
  const head = `.version 8.7
.target sm_90a
.address_size 64
.extern .shared .align 1024 .b8 smem[];
.visible .entry k(.param .u64 from, .param .u64 to, .param .u64 fill)
.reqntid ${k.threads}, 1, 1
{
.reg .${bits} %i<${k.inputs + 1}>;
.reg .${bits} %o<${k.outputs + 1}>;
.reg .b32 %r<64>;
.reg .b32 %tid;
.reg .b32 %cta;
.reg .b32 %smem;
.reg .b32 %at;
.reg .b32 %q<4>;
.reg .b64 %rd<32>;
.reg .b64 %from;
.reg .b64 %to;
.reg .b64 %fill;
.reg .b64 %off;
.reg .pred %p<16>;
.reg .f32 %f<16>;
mov.u32 %tid, %tid.x;
mov.u32 %cta, %ctaid.x;
mov.u32 %smem, smem;
ld.param.u64 %from, [from];
ld.param.u64 %to, [to];
ld.param.u64 %fill, [fill];
mad.lo.u32 %at, %cta, ${k.inputs * k.threads}, %tid;
mul.wide.u32 %off, %at, ${size};
add.u64 %from, %from, %off;
mad.lo.u32 %at, %cta, ${k.outputs * k.threads}, %tid;
mul.wide.u32 %off, %at, ${size};
add.u64 %to, %to, %off;
mul.lo.u32 %at, %tid, 16;
mul.wide.u32 %off, %cta, ${shared};
add.u64 %fill, %fill, %off;
mul.wide.u32 %off, %tid, 16;
add.u64 %fill, %fill, %off;
add.u32 %at, %at, %smem;
${list(chunks, (c) => `ld.global.v4.b32 {%q0, %q1, %q2, %q3}, [%fill+${16 * k.threads * c}];\nst.shared.v4.b32 [%at+${16 * k.threads * c}], {%q0, %q1, %q2, %q3};`)}
fence.proxy.async;
bar.sync 0;
${list(k.inputs, (r) => `ld.global.${bits} %i${r}, [%from+${r * step}];`)}
`;
  const text = `${head}${k.body}
${list(k.outputs, (r) => `st.global.${bits} [%to+${r * step}], %o${r};`)}
ret;
}
`;
  return { text, bodyLine: head.split('\n').length };
}

/** Runs `blocks` blocks. Throws when the text does not decode; reports are handed back. */
export function runFragments(
  k: FragmentKernel,
  blocks: number,
  input: Uint32Array | BigUint64Array,
  fill?: Uint8Array,
  settings: DeviceSettings = {},
): FragmentRun {
  const { program, diagnostics } = decodePtx(fragmentModule(k).text, 'fragments.ptx');
  if (!program)
    throw new Error(diagnostics.map((d) => `${d.code}: ${d.message} ${JSON.stringify(d.at)}`).join('\n'));
  const core = loadCore();
  const device = core.createDevice(settings);
  const handle = core.loadProgram(device, program);
  const buffer = (bytes: number, content?: Uint8Array): bigint => {
    const address = core.allocate(device, Math.max(bytes, 16), 'buffer');
    if (content && content.length > 0) core.write(device, address, content);
    return address;
  };
  const outputBytes = blocks * k.outputs * k.threads * (k.wide ? 8 : 4);
  const from = buffer(input.byteLength, new Uint8Array(input.buffer, input.byteOffset, input.byteLength));
  const to = buffer(outputBytes);
  const parameters = new BigUint64Array([from, to, buffer(fill?.length ?? 0, fill)]);
  const { reports } = core.launch(device, handle, {
    kernel: 'k',
    grid: [blocks, 1, 1],
    block: [k.threads, 1, 1],
    cluster: [0, 0, 0],
    dynamicSharedBytes: k.sharedBytes ?? 0,
    parameterBlock: new Uint8Array(parameters.buffer),
  });
  const { buffer: bytes } = core.read(device, to, outputBytes).slice();
  return { outputs: k.wide ? new BigUint64Array(bytes) : new Uint32Array(bytes), reports };
}

/** "%i0, %i1, ..." */
export const registers = (prefix: string, from: number, count: number): string =>
  Array.from({ length: count }, (_, k) => `%${prefix}${from + k}`).join(', ');

/** A small generator of its own, so that a failure repeats: splitmix32. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 0;
  }
  /** 32 bits. */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }
  below(n: number): number {
    return this.next() % n;
  }
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }
}
