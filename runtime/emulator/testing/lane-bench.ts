// Runs single instructions on many values: each lane loads one value per input column, executes the cases' bodies and
// stores their results. One launch serves a whole family.
import { decodePtx } from '../../../backends/ptx/decode/index.ts';
import type { DeviceSettings, Report } from '../device.ts';
import { loadCore } from '../load-core.ts';

export type Width = 8 | 16 | 32 | 64;
export interface Column {
  readonly bits: Width;
  readonly values: readonly bigint[];
}
/** PTX with %a, %b, %c, ... for the inputs (as named in `inputs`) and %d for the result. Free: %t0-7, %u0-7, %h0-7, %p0-7. */
export interface LaneCase {
  readonly body: string;
  readonly result: Width;
}

const bytesOf = (bits: Width): number => bits / 8;

/** Results of each case, by lane. Throws on reports and on text that does not decode. */
export function runLanes(
  inputs: Readonly<Record<string, Column>>,
  cases: readonly LaneCase[],
  settings: DeviceSettings = {},
): bigint[][] {
  const core = loadCore();
  const device = core.createDevice(settings);
  const names = Object.keys(inputs);
  const lanes = inputs[names[0]].values.length;
  const load = (name: string, k: number): string => {
    const { bits } = inputs[name];
    return `ld.param.u64 %base, [in${k}];\nmad.wide.u32 %at, %lane, ${bytesOf(bits)}, %base;\nld.global.${bits === 8 ? 'u8' : `b${bits}`} %${name}, [%at];`;
  };
  const run = ({ body, result }: LaneCase, k: number): string => `{
.reg .b${result === 8 ? 16 : result} %d;
.reg .b32 %t<8>; .reg .b64 %u<8>; .reg .b16 %h<8>; .reg .pred %p<8>;
${body}
ld.param.u64 %base, [out${k}];
mad.wide.u32 %at, %lane, ${bytesOf(result)}, %base;
st.global.b${result} [%at], %d;
}`;
  const text = `.version 8.6
.target sm_90a
.address_size 64
.visible .entry k(${[...names.map((_, k) => `.param .u64 in${k}`), ...cases.map((_, k) => `.param .u64 out${k}`), '.param .u32 lanes'].join(', ')})
{
.reg .b32 %lane, %cta, %n;
.reg .b64 %base, %at;
.reg .pred %over;
${names.map((n) => `.reg .b${inputs[n].bits === 8 ? 16 : inputs[n].bits} %${n};`).join('\n')}
mov.u32 %lane, %tid.x;
mov.u32 %cta, %ctaid.x;
mad.lo.u32 %lane, %cta, 128, %lane;
ld.param.u32 %n, [lanes];
setp.ge.u32 %over, %lane, %n;
@%over exit;
${names.map(load).join('\n')}
${cases.map(run).join('\n')}
ret;
}
`;
  const { program, diagnostics } = decodePtx(text, 'lanes.ptx');
  if (!program)
    throw new Error(
      diagnostics
        .map((d) => `${d.message}: ${text.split('\n')[((d.at as { line?: number })?.line ?? 1) - 1]}`)
        .join('\n'),
    );
  const addresses = names.map((n) => {
    const { bits, values } = inputs[n];
    const data = new Uint8Array(values.length * bytesOf(bits));
    const view = new DataView(data.buffer);
    values.forEach((v, i) => writeBits(view, i, bits, v));
    const address = core.allocate(device, data.length, n);
    core.write(device, address, data);
    return address;
  });
  const outs = cases.map((c) => core.allocate(device, lanes * bytesOf(c.result), 'out'));
  const handle = core.loadProgram(device, program);
  const { parameterBytes, parameters } = core.describeProgram(handle).kernels[0];
  const block = new Uint8Array(parameterBytes);
  const view = new DataView(block.buffer);
  [...addresses, ...outs].forEach((a, k) => view.setBigUint64(parameters[k].offset, a, true));
  view.setUint32(parameters[parameters.length - 1].offset, lanes, true);
  const { reports } = core.launch(device, handle, {
    kernel: 'k',
    grid: [Math.ceil(lanes / 128), 1, 1],
    block: [128, 1, 1],
    cluster: [0, 0, 0],
    dynamicSharedBytes: 0,
    parameterBlock: block,
  });
  if (reports.length) throw new Error(reports.map((r: Report) => `${r.code}: ${r.message}`).join('\n'));
  return cases.map((c, k) => {
    const data = core.read(device, outs[k], lanes * bytesOf(c.result));
    const from = new DataView(data.buffer, data.byteOffset, data.byteLength);
    return Array.from({ length: lanes }, (_, i) => readBits(from, i, c.result));
  });
}

function writeBits(view: DataView, i: number, bits: Width, v: bigint): void {
  if (bits === 8) view.setUint8(i, Number(v & 255n));
  else if (bits === 16) view.setUint16(2 * i, Number(v & 65535n), true);
  else if (bits === 32) view.setUint32(4 * i, Number(v & 0xffffffffn), true);
  else view.setBigUint64(8 * i, BigInt.asUintN(64, v), true);
}
function readBits(view: DataView, i: number, bits: Width): bigint {
  if (bits === 8) return BigInt(view.getUint8(i));
  if (bits === 16) return BigInt(view.getUint16(2 * i, true));
  if (bits === 32) return BigInt(view.getUint32(4 * i, true));
  return view.getBigUint64(8 * i, true);
}

/** A small repeatable source of bits. */
export function randomBits(seed: number): (bits: number) => bigint {
  let state = BigInt(seed) * 0x9e3779b97f4a7c15n + 1n;
  return (bits) => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & ((1n << 64n) - 1n);
    let x = state ^ (state >> 29n);
    x = (x * 0xbf58476d1ce4e5b9n) & ((1n << 64n) - 1n);
    return (x ^ (x >> 32n)) & ((1n << BigInt(bits)) - 1n);
  };
}

/** All pairs (triples) of the specials, then random ones, as columns. */
export function columnsOf(
  names: readonly string[],
  bits: readonly Width[],
  specials: readonly (readonly bigint[])[],
  random: number,
  seed = 1,
  draw: (next: (bits: number) => bigint, k: number) => bigint = (next, k) => next(bits[k]),
): Record<string, Column> {
  const rows: bigint[][] = [];
  const visit = (row: bigint[]): void => {
    if (row.length === names.length) rows.push(row);
    else for (const v of specials[row.length]) visit([...row, v]);
  };
  visit([]);
  const next = randomBits(seed);
  for (let i = 0; i < random; i++) rows.push(names.map((_, k) => draw(next, k)));
  return Object.fromEntries(names.map((n, k) => [n, { bits: bits[k], values: rows.map((r) => r[k]) }]));
}

/** Runs the cases and lists the first differences as text: empty when all agree. */
export function differences(
  inputs: Record<string, Column>,
  cases: readonly (LaneCase & { readonly expect: (...inputs: bigint[]) => bigint })[],
): string[] {
  const results = runLanes(inputs, cases);
  const columns = Object.values(inputs);
  const out: string[] = [];
  cases.forEach((c, k) => {
    let shown = 0;
    results[k].forEach((got, i) => {
      const row = columns.map((q) => q.values[i]);
      const want = BigInt.asUintN(c.result, c.expect(...row));
      if (got !== want && shown++ < 3)
        out.push(
          `${c.body.trim()} of ${row.map((v) => `0x${v.toString(16)}`).join(', ')}: 0x${got.toString(16)}, expected 0x${want.toString(16)}`,
        );
    });
  });
  return out;
}
