// Builds the C++ core (runtime/core) into build/native/dsvc_core.node with plain compiler calls: no gyp, no Python. On
// Linux also build/native/libcuda.so.1, the driver API over the same objects.
// Without a compiler it says what to install and leaves the rest of dsvc as it is. Objects are kept by the hash of
// what went into them (the source, our headers that it includes, flags, compiler), so a second build only compiles
// what changed.
//
// Files in a folder `handlers` are compiled once per instruction-set level (DSVC_ARCH names the level's namespace); the
// core chooses one at run time. The plain level is linked first: where the levels share an inline function the linker
// keeps the first copy, which runs on every machine.
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const core = join(root, 'runtime/core');
const out = join(root, 'build/native');
const target = join(out, 'dsvc_core.node');
const exports = 'runtime/core/libcuda/exports.map';
const driver = process.platform === 'linux' ? join(out, 'libcuda.so.1') : null;
const strict = process.argv.includes('--strict');

/** Ends without an addon: an error only when the caller insists on one. */
function giveUp(message) {
  console.error(message);
  process.exit(strict ? 1 : 0);
}

const walk = (folder) =>
  readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((e) => (e.isDirectory() ? walk(join(folder, e.name)) : [join(folder, e.name)]));

function findCompiler() {
  for (const name of process.env.CXX ? [process.env.CXX] : ['g++', 'clang++', 'c++']) {
    try {
      return { name, version: execFileSync(name, ['--version'], { encoding: 'utf8' }).split('\n')[0] };
    } catch {
      // Try the next one.
    }
  }
  return null;
}

/** The folders of node-addon-api and node_api.h. */
function findHeaders() {
  const folders = ['node-addon-api', 'node-api-headers/include'].map((p) => join(root, 'node_modules', p));
  const installed = [
    folders[1],
    join(dirname(dirname(process.execPath)), 'include/node'),
    '/usr/include/node',
  ];
  const api = installed.find((f) => existsSync(join(f, 'node_api.h')));
  return existsSync(join(folders[0], 'napi.h')) && api ? [folders[0], api] : null;
}

const compiler = findCompiler();
if (!compiler)
  giveUp(
    'dsvc: no C++ compiler: the emulator is left out (install g++ or clang++, then `npm run build:native`)',
  );
const headers = findHeaders();
if (!headers)
  giveUp(
    'dsvc: node-addon-api is not installed: the emulator is left out (`npm install`, then `npm run build:native`)',
  );

const levels = [{ name: 'base', flags: [] }];
if (process.arch === 'x64')
  levels.push({ name: 'avx2', flags: ['-mavx2', '-mfma', '-mf16c', '-mbmi', '-mbmi2'] });

const common = [
  '-std=c++20',
  '-fPIC',
  '-fvisibility=hidden',
  '-pthread',
  '-ffp-contract=off',
  '-fno-math-errno',
];
common.push('-Wall', '-Wextra', '-Wno-unknown-pragmas', '-fno-trapping-math', '-fno-strict-aliasing');
const defines = [
  '-DNAPI_CPP_EXCEPTIONS',
  '-DNAPI_VERSION=8',
  // Relative, as all paths below: the compiler runs in the root, and a copy of the folder finds its objects again.
  '-Iruntime/core',
  ...headers.flatMap((f) => ['-isystem', relative(root, f).startsWith('..') ? f : relative(root, f)]),
];

const isDriver = (source) => source.startsWith(join(core, 'libcuda'));
const sources = walk(core).filter((f) => f.endsWith('.cpp') && (driver || !isDriver(f)));
const prefixHeader = join(core, 'prefix.h');

/** Our own files that a file includes, itself first, through any number of steps; in a fixed order. */
const contents = new Map();
function inclusions(file, found = new Set()) {
  if (found.has(file)) return found;
  found.add(file);
  if (!contents.has(file)) {
    const text = readFileSync(file, 'utf8');
    const names = [...text.matchAll(/^[ \t]*#[ \t]*include[ \t]*"([^"]+)"/gm)].map((m) => m[1]);
    const paths = names.map((n) => [join(dirname(file), n), join(core, n)].find((p) => existsSync(p)));
    contents.set(file, { text, includes: paths.filter((p) => p !== undefined) });
  }
  for (const next of contents.get(file).includes) inclusions(next, found);
  return found;
}
const keyOf = (file, flags) => {
  const hash = createHash('sha256').update(compiler.version).update(process.arch).update(flags.join(' '));
  for (const f of [...inclusions(file), prefixHeader]) hash.update(relative(root, f)).update(readFileSync(f));
  return hash.digest('hex').slice(0, 16);
};

const jobs = [];
for (const level of levels) {
  for (const source of sources) {
    const leveled = source.includes('/handlers/');
    if (!leveled && level.name !== 'base') continue;
    // Where a better level exists, the plain one only has to be right: it is compiled faster.
    const optimise = leveled && level.name === 'base' && levels.length > 1 ? '-O1' : '-O3';
    const flags = [
      ...common,
      optimise,
      ...(leveled ? [...level.flags, `-DDSVC_ARCH=${level.name}`] : []),
      ...defines,
    ];
    const stem = relative(core, source)
      .replace(/\.cpp$/, '')
      .replaceAll('/', '-');
    jobs.push({ source, flags, object: join(out, `${stem}.${level.name}.${keyOf(source, flags)}.o`) });
  }
}
const stamp = createHash('sha256')
  .update(jobs.map((j) => j.object).join('\n'))
  .digest('hex');
const stampFile = join(out, 'stamp');
const made = [target, ...(driver ? [driver] : [])].every((f) => existsSync(f));
if (made && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) process.exit(0);

mkdirSync(out, { recursive: true });
const started = Date.now();
/** Runs the compiler; what it writes gets its name only when it is whole. */
const produce = (args, target, what) =>
  new Promise((resolve, reject) => {
    const temporary = `${target}.${process.pid}.tmp`;
    execFile(
      compiler.name,
      [...args, '-o', temporary],
      { cwd: root, maxBuffer: 1 << 26 },
      (error, _stdout, stderr) => {
        if (stderr) process.stderr.write(stderr);
        if (error) return reject(new Error(`${what} does not compile`));
        renameSync(temporary, target);
        resolve();
      },
    );
  });

// Parsing the standard library costs more than compiling a small file. g++ takes a header compiled with the very same
// flags; with other compilers, or for a few files, it is not worth it.
const usesPrefix = /g\+\+|GCC/i.test(compiler.version) && !/clang/i.test(compiler.version);
async function prefixFor(flags) {
  const folder = join(out, `prefix-${keyOf(prefixHeader, flags)}`);
  mkdirSync(folder, { recursive: true });
  const copy = join(folder, 'prefix.h');
  writeFileSync(copy, readFileSync(prefixHeader));
  if (!existsSync(`${copy}.gch`))
    await produce([...flags, '-x', 'c++-header', copy], `${copy}.gch`, 'the prefix header');
  return { folder, args: ['-include', copy] };
}

const missing = jobs
  .filter((j) => !existsSync(j.object))
  .sort((a, b) => statSync(b.source).size - statSync(a.source).size);
const compiled = missing.length;
const groups = new Map();
for (const job of missing) {
  const key = job.flags.join(' ');
  groups.set(key, [...(groups.get(key) ?? []), job]);
}
const pool = async (tasks) => {
  const worker = async () => {
    for (let task = tasks.shift(); task; task = tasks.shift()) await task();
  };
  await Promise.all(Array.from({ length: Math.max(1, availableParallelism()) }, worker));
};
const prefixes = new Map();
try {
  const large = [...groups].filter(([, group]) => usesPrefix && group.length >= 3);
  await pool(
    large.map(
      ([key, group]) =>
        async () =>
          prefixes.set(key, await prefixFor(group[0].flags)),
    ),
  );
  await pool(
    missing.map((job) => () => {
      const prefix = prefixes.get(job.flags.join(' '))?.args ?? [];
      return produce(
        [...job.flags, ...prefix, '-c', relative(root, job.source)],
        job.object,
        relative(root, job.source),
      );
    }),
  );
  const link = (product, chosen, flags) => {
    const temporary = `${product}.${process.pid}.tmp`;
    const args = ['-shared', '-pthread', ...flags, ...chosen.map((j) => j.object), '-o', temporary];
    execFileSync(compiler.name, args, { stdio: 'inherit', cwd: root });
    renameSync(temporary, product);
  };
  // What talks to Node, and the plans that it runs.
  const isAddon = (j) => dirname(j.source) === core || j.source.startsWith(join(core, 'plan/'));
  const undefinedOk = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : [];
  link(
    target,
    jobs.filter((j) => !isDriver(j.source)),
    undefinedOk,
  );
  if (driver) {
    link(
      driver,
      jobs.filter((j) => !isAddon(j)),
      ['-Wl,-soname,libcuda.so.1', '-Wl,-z,defs', `-Wl,--version-script=${exports}`, '-ldl'],
    );
    rmSync(join(out, 'libcuda.so'), { force: true });
    symlinkSync('libcuda.so.1', join(out, 'libcuda.so'));
  }
  writeFileSync(stampFile, stamp);
  // Objects of earlier sources. Prefix headers stay: they hold the standard library alone and hardly change.
  const kept = new Set(jobs.map((j) => j.object));
  for (const f of readdirSync(out).map((n) => join(out, n)))
    if (f.endsWith('.o') && !kept.has(f)) rmSync(f, { force: true });
} catch (error) {
  // Everything but the emulator works without: an install must not fail for it.
  giveUp(`dsvc: the C++ core was not built, the emulator is left out: ${error.message}`);
}
console.error(
  `dsvc: built the C++ core (${compiled} files, ${((Date.now() - started) / 1000).toFixed(1)} s)`,
);
