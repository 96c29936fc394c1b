// The child process of the PTX fuzzer: mutates texts of a corpus, decodes, loads and launches them, case after case. The
// case at hand lies on disk, so that the parent knows it when this process dies. Prints one JSON line per finding, one
// for progress, and one with the totals.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodePtx } from '../../../backends/ptx/decode/index.ts';
import { isCoreError, type Core, type KernelInfo, type Triple } from '../../../runtime/emulator/device.ts';
import { loadCore } from '../../../runtime/emulator/load-core.ts';
import { encodeTensorMap } from '../../../runtime/emulator/tensor-map.ts';
import { Choices } from '../random.ts';
import { randomKernel } from './instructions.ts';
import { mutateBytes, mutateText } from './mutate.ts';

export interface Finding {
  readonly case: number;
  readonly what: string;
}
export interface Totals {
  /** By outcome: `ptx/…` what the decoder said first, `refused emu/…`, `ran`, `ran emu/…`. */
  readonly outcomes: Readonly<Record<string, number>>;
  readonly launches: number;
  readonly slowest: { readonly case: number; readonly seconds: number };
}
export type Line = { readonly finding: Finding } | { readonly at: number } | { readonly totals: Totals };

const [corpusFile, folder, firstText, endText] = process.argv.slice(2);
const corpus = JSON.parse(readFileSync(corpusFile, 'utf8')) as readonly string[];
const say = (line: Line): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

const bufferBytes = 1 << 16;
/** Enough for every kernel of the corpus to come to its middle; an endless one ends soon. */
const maxInstructions = 20_000;

const outcomes: Record<string, number> = {};
const count = (what: string): void => void (outcomes[what] = (outcomes[what] ?? 0) + 1);
let launches = 0;
const content = Uint8Array.from({ length: bufferBytes }, (_, i) => (i % 8 < 4 ? (i * 7) & 63 : 0));

/** What is wrong with the decoder's answer, in words; null when it is as it should be. */
function wrongDiagnostics(text: string, found: ReturnType<typeof decodePtx>): string | null {
  if ((found.program === null) !== found.diagnostics.length > 0) return 'no program and no diagnostics';
  const lines = text.split('\n');
  for (const d of found.diagnostics) {
    if (!d.at || d.at.line < 1 || d.at.line > lines.length || d.at.column < 1)
      return `${d.code} has no place in the text: ${JSON.stringify(d.at)}`;
    if (!/^ptx\/[a-z-]+$/.test(d.code) || !d.message)
      return `a diagnostic without code or message: ${d.code}`;
  }
  return null;
}

const blockOf = (k: KernelInfo, c: Choices): Triple => {
  if (k.reqntid[0] > 0) return k.reqntid.map((n) => Math.max(1, n)) as unknown as Triple;
  return [c.pick([32, 33, 64, 128]), 1, 1];
};

function parameterBlock(k: KernelInfo, buffers: readonly bigint[], c: Choices): Uint8Array {
  const block = new Uint8Array(k.parameterBytes);
  const view = new DataView(block.buffer);
  for (const { offset, size } of k.parameters) {
    if (size === 4) view.setUint32(offset, c.pick([1, 2, 7, 64, 100]), true);
    else if (size === 8)
      view.setBigUint64(offset, c.chance(0.97) ? c.pick(buffers) : BigInt(c.below(2 ** 32)), true);
    else if (size === 128) {
      const shape = {
        dtype: 'U8',
        dims: [256, 256],
        strides: [256],
        box: [64, 64],
        elementStrides: [1, 1],
      } as const;
      block.set(
        encodeTensorMap(c.pick(buffers), { ...shape, swizzle: 'none', interleave: 'none', fill: 'zero' }),
        offset,
      );
    } else
      // A struct: addresses wherever they fit.
      for (let at = 0; at + 8 <= size; at += 8) view.setBigUint64(offset + at, c.pick(buffers), true);
  }
  return block;
}

/** Loads and launches every kernel; a refusal is an answer. */
function run(core: Core, program: Uint8Array, c: Choices): void {
  const device = core.createDevice({
    ...{ sms: 4, seed: c.below(1000), maxInstructions, checks: ['all'] },
    ...{ statistics: c.chance(0.5), tensorCore: c.pick(['exact', 'f32'] as const) },
  });
  const buffers = [0, 1, 2].map((i) => {
    const address = core.allocate(device, bufferBytes, `b${i}`);
    core.write(device, address, content);
    return address;
  });
  const handle = core.loadProgram(device, program);
  for (const k of core.describeProgram(handle).kernels.slice(0, 4)) {
    launches++;
    const { reports } = core.launch(device, handle, {
      ...{ kernel: k.name, grid: [c.pick([1, 2]), 1, 1], block: blockOf(k, c) },
      cluster: c.chance(0.9) ? [0, 0, 0] : [c.pick([1, 2]), 1, 1],
      dynamicSharedBytes: c.pick([0, 49152, 200_000]),
      parameterBlock: parameterBlock(k, buffers, c),
    });
    count(reports.length === 0 ? 'ran' : `ran ${reports[0].code}`);
    for (const r of reports) {
      if (!r.code.startsWith('emu/') || !r.message)
        throw new Error(`a report without code or message: ${r.code}`);
      // Ends with a sanitised core, which has checked the copies of all strings by now.
      if (r.message.length > 20_000)
        throw new Error(`${r.code}: a message of ${r.message.length} characters`);
    }
  }
}

function attempt(core: Core, n: number): void {
  const c = new Choices(n);
  const base = c.chance(0.4) ? randomKernel(c, 1 + c.below(24)) : c.pick(corpus);
  // Of random kernels many stay as they are.
  const text = base.includes('table[64] = {1, 2, 3, 4}') && c.chance(0.6) ? base : mutateText(base, c);
  writeFileSync(join(folder, 'case.ptx'), text);
  const decoded = decodePtx(text, 'case.ptx');
  const wrong = wrongDiagnostics(text, decoded);
  if (wrong !== null) throw new Error(wrong);
  const { program, diagnostics } = decoded;
  if (!program) return count(diagnostics[0].code);
  const bytes = c.chance(0.25) ? mutateBytes(program, c) : program;
  if (bytes !== program) writeFileSync(join(folder, 'case.bin'), bytes);
  try {
    run(core, bytes, c);
  } catch (error) {
    if (!isCoreError(error)) throw error;
    count(`refused ${error.code}`);
  }
}

const core = loadCore();
let slowest = { case: -1, seconds: 0 };
for (let n = Number(firstText); n < Number(endText); n++) {
  const start = performance.now();
  writeFileSync(join(folder, 'case'), String(n));
  try {
    attempt(core, n);
  } catch (error) {
    say({
      finding: { case: n, what: error instanceof Error ? (error.stack ?? error.message) : String(error) },
    });
  }
  const seconds = (performance.now() - start) / 1000;
  if (seconds > slowest.seconds) slowest = { case: n, seconds };
  if (process.memoryUsage.rss() > 6 * 2 ** 30)
    say({ finding: { case: n, what: `the process holds ${process.memoryUsage.rss()} bytes` } });
  if (n % 50 === 0) say({ at: n });
}
say({ totals: { outcomes, launches, slowest } });
