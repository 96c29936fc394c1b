// `npm run bench:compile`: what compiling DeepSeek-V3 costs. Prints figures with the machine; decides nothing.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cli = join(root, 'dist/dsvc.js');
const model = join(root, 'examples/deepseek-v3.ts');
const scratch = mkdtempSync(join(tmpdir(), 'dsvc-bench-'));

/** Runs one compilation as a fresh process; peak memory is the kernel's high-water mark, read while it runs. */
async function compile(name, flags) {
  const out = join(scratch, name);
  rmSync(out, { recursive: true, force: true });
  const start = performance.now();
  const child = spawn(
    process.execPath,
    [cli, 'compile', model, '--target', 'h800', '-o', out, '--no-cache', ...flags],
    {
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  );
  let peak = 0;
  const watch = setInterval(() => {
    try {
      const line = readFileSync(`/proc/${child.pid}/status`, 'utf8').match(/VmHWM:\s+(\d+) kB/);
      if (line) peak = Math.max(peak, Number(line[1]) * 1024);
    } catch {
      // Not Linux, or the process has just ended.
    }
  }, 10);
  const code = await new Promise((done) => child.on('close', done));
  clearInterval(watch);
  if (code !== 0) throw new Error(`compile ${flags.join(' ')} failed with ${code}`);
  return { out, seconds: (performance.now() - start) / 1000, peak };
}

/** Milliseconds of a phase and its parts, from timing.json. */
function phase(out, name) {
  const find = (p) => (p.name === name ? p.ms : (p.parts ?? []).map(find).find((x) => x !== undefined));
  return find(JSON.parse(readFileSync(join(out, 'timing.json'), 'utf8')));
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
async function repeat(n, name, flags) {
  const runs = [];
  for (let i = 0; i < n; i++) runs.push({ ...(await compile(name, flags)) });
  return runs;
}

console.log(
  `machine: ${cpus()[0].model.trim()}, ${cpus().length} cores, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, node ${process.version}`,
);
const ptxOnly = ['--emit=ir,ptx,bundle', '--timing=json', '--log-level', 'error'];
const cold = await repeat(5, 'cold', ptxOnly);
console.log(
  `deepseek-v3 for h800 without ptxas: median ${median(cold.map((r) => r.seconds)).toFixed(2)} s, peak ${(Math.max(...cold.map((r) => r.peak)) / 2 ** 20).toFixed(0)} MiB`,
);

const work = {};
for (const layers of [4, 61, 610]) {
  const times = [];
  for (let i = 0; i < 5; i++)
    times.push(
      phase((await compile(`l${layers}`, [...ptxOnly, '--set', `layers=${layers}`])).out, 'compile'),
    );
  work[layers] = median(times);
}
console.log(
  `passes and emit: ${Object.entries(work)
    .map(([l, ms]) => `${l} layers ${ms.toFixed(0)} ms`)
    .join(', ')}; 610 over 4: ${(work[610] / work[4]).toFixed(2)}`,
);
const names = (layers) =>
  readdirSync(join(scratch, `l${layers}/kernels`))
    .sort()
    .join();
console.log(`kernel hashes of 4 and 610 layers equal: ${names(4) === names(610) ? 'yes' : 'no'}`);

const dumps = join(scratch, 'ir');
await compile('dumped', [...ptxOnly, `--dump-dir=${dumps}`]);
const sizes = readdirSync(dumps).map((f) => statSync(join(dumps, f)).size);
console.log(
  `IR text: ${sizes.length} dumps, ${(sizes.reduce((a, b) => a + b, 0) / 1024).toFixed(0)} KiB in all, largest ${(Math.max(...sizes) / 1024).toFixed(0)} KiB`,
);

if (spawnSync('ptxas', ['--version']).status === 0) {
  const [full] = await repeat(1, 'full', ['--timing=json', '--log-level', 'error']);
  console.log(`with ptxas, no cache: ${full.seconds.toFixed(1)} s`);
}
rmSync(scratch, { recursive: true, force: true });
