// `node scripts/confirm-cutlass.mjs --cutlass DIR [--deepgemm DIR] [--work DIR] [--jobs N] [--seeds N] [NAME...]`: confirms
// what the emulator takes the ISA to say on code that others wrote. Compiles test/confirm/*.cu with nvcc against checkouts
// of CUTLASS and DeepGEMM, runs the PTX with `dsvc emu`, and compares every byte of every output with what plain loops on
// the host give. Not a test of `npm test`: CUTLASS is not here, and nvcc takes up to a minute for each program.
import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const run = promisify(execFile);
/** What is compiled: the file, and which part of it. */
const programs = {
  fragments: ['fragments.cu', 0],
  tma: ['tma.cu', 0],
  'wgmma-1': ['wgmma.cu', 1],
  'wgmma-2': ['wgmma.cu', 2],
  'wgmma-3': ['wgmma.cu', 3],
  'pingpong-bf16': ['collective.cu', 1],
  'cooperative-e4m3': ['collective.cu', 2],
  'cooperative-e4m3-blockwise': ['collective.cu', 3],
  'fast-e5m2': ['collective.cu', 4],
  'cooperative-s8': ['collective.cu', 5],
  'pingpong-f16-transposed': ['collective.cu', 6],
  deepgemm: ['deepgemm.cu', 0],
};

/** Its kernels end without waiting for their last stores: true, and no mistake of the emulator's. */
const knownWarnings = { deepgemm: ['emu/exit-before-store'] };

function fail(message) {
  console.error(`confirm-cutlass: ${message}`);
  process.exit(2);
}
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    cutlass: { type: 'string' },
    deepgemm: { type: 'string' },
    work: { type: 'string' },
    jobs: { type: 'string', default: '2' },
    seeds: { type: 'string', default: '3' },
  },
});
if (!values.cutlass || !existsSync(join(values.cutlass, 'include/cute/tensor.hpp')))
  fail(
    'give --cutlass DIR, a checkout of https://github.com/NVIDIA/cutlass (its include and tools/util/include)',
  );
if (!existsSync(join(root, 'dist/dsvc.js'))) fail('dist/dsvc.js is not built: npm run build');
const isThere = (name) => name !== 'deepgemm' || values.deepgemm !== undefined;
for (const name of positionals)
  if (!(name in programs)) fail(`no program ${name}; there are ${Object.keys(programs).join(', ')}`);
  else if (!isThere(name))
    fail(`${name} needs --deepgemm DIR, a checkout of https://github.com/deepseek-ai/DeepGEMM`);
const work = values.work ?? mkdtempSync(join(tmpdir(), 'dsvc-confirm-'));

/** Folder with the program's PTX, launch.json and expected.json. With --work, what is there already is kept. */
async function build(name) {
  const folder = join(work, name);
  const [source, part] = programs[name];
  if (existsSync(join(folder, 'built'))) return folder;
  mkdirSync(folder, { recursive: true });
  const flags = [
    '-std=c++20',
    '-gencode',
    'arch=compute_90a,code=compute_90a',
    '--expt-relaxed-constexpr',
    '-w',
  ];
  const includes = ['include', 'tools/util/include'].flatMap((d) => ['-I', join(values.cutlass, d)]);
  if (values.deepgemm) includes.push('-I', join(values.deepgemm, 'deep_gemm/include'));
  await run('nvcc', [
    ...flags,
    ...includes,
    // The recorder stands for the driver, so its functions are called by name.
    '-DCUTLASS_ENABLE_DIRECT_CUDA_DRIVER_CALL',
    `-DPART=${part}`,
    ...['--keep', '--keep-dir', folder, '-o', join(folder, 'host')],
    join(root, 'test/confirm', source),
  ]);
  for (const file of readdirSync(folder))
    if (!/^host$|\.ptx$/.test(file)) rmSync(join(folder, file), { recursive: true });
  await run(join(folder, 'host'), [folder]);
  // "*part": the kernel whose mangled name has this part.
  const [ptx] = readdirSync(folder).filter((f) => f.endsWith('.ptx'));
  const text = readFileSync(join(folder, ptx), 'utf8');
  const entries = [...text.matchAll(/\.entry (\w+)/g)].map((m) => m[1]);
  const launches = readFileSync(join(folder, 'launch.json'), 'utf8');
  const named = launches.replace(/"\*(\w+)"/g, (_, part) => {
    const found = entries.filter((e) => e.includes(part));
    if (found.length !== 1) throw new Error(`${found.length} kernels of ${ptx} have ${part} in their names`);
    return JSON.stringify(found[0]);
  });
  writeFileSync(join(folder, 'launch.json'), named);
  writeFileSync(join(folder, 'built'), '');
  return folder;
}

/** Tensors of a safetensors file, as hexadecimal digits. */
function tensorsOf(file) {
  const bytes = readFileSync(file);
  const header = Number(bytes.readBigUInt64LE(0));
  const table = JSON.parse(bytes.toString('utf8', 8, 8 + header));
  return new Map(
    Object.entries(table).map(([name, { data_offsets: at }]) => [
      name,
      at && bytes.toString('hex', 8 + header + at[0], 8 + header + at[1]),
    ]),
  );
}

/** Number of outputs that are right, and a line for each that is not. */
async function confirm(name) {
  const folder = await build(name);
  const expected = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'));
  const [ptx] = readdirSync(folder).filter((f) => f.endsWith('.ptx'));
  const wrong = [];
  for (let seed = 0; seed < Number(values.seeds); seed++) {
    const out = join(folder, 'out.safetensors');
    rmSync(out, { force: true });
    const files = ['emu', join(folder, ptx), '--launch', join(folder, 'launch.json'), '--output', out];
    try {
      const { stderr } = await run(process.execPath, [
        join(root, 'dist/dsvc.js'),
        ...files,
        '--seed',
        `${seed}`,
      ]);
      const codes = [...stderr.matchAll(/^warning\[(.*?)\]/gm)].map((m) => m[1]);
      if (codes.some((code) => !knownWarnings[name]?.includes(code)))
        wrong.push(`${name}, seed ${seed}: ${stderr.slice(0, 2000)}`);
    } catch (error) {
      wrong.push(`${name}, seed ${seed}: ${String(error.stderr ?? error).slice(0, 2000)}`);
    }
    const tensors = existsSync(out) ? tensorsOf(out) : new Map();
    for (const [tensor, want] of Object.entries(expected)) {
      const got = tensors.get(tensor);
      if (got === want) continue;
      const at = got === undefined ? 0 : [...want].findIndex((c, i) => got[i] !== c) >> 1;
      wrong.push(
        `${name}, seed ${seed}: ${tensor} ${got === undefined ? 'is missing' : `differs from byte ${at} on`}`,
      );
    }
  }
  return { count: Object.keys(expected).length, wrong };
}

const queue = positionals.length > 0 ? [...positionals] : Object.keys(programs).filter(isThere);
let total = 0;
let failures = 0;
async function worker() {
  for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
    const { count, wrong } = await confirm(name).catch((error) => ({
      count: 0,
      wrong: [`${name}: ${String(error.stderr || error.message).slice(0, 4000)}`],
    }));
    total += count;
    failures += wrong.length;
    for (const line of wrong) console.error(line);
    console.log(`${wrong.length === 0 ? 'ok   ' : 'WRONG'} ${name}: ${count} outputs, ${values.seeds} seeds`);
  }
}
await Promise.all(Array.from({ length: Number(values.jobs) }, worker));
console.log(`${total} outputs, ${failures} mistakes`);
if (!values.work) rmSync(work, { recursive: true });
process.exitCode = failures > 0 ? 1 : 0;
