// Fails on a circle of imports (of types too: a circle of types is a circle of ideas), on an import that points the
// wrong way between rooms (ARCHITECTURE.md, "Rooms"), and on an import of a file that is not there.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const rooms = {
  ir: ['ir'],
  dsl: ['dsl', 'ir'],
  compiler: ['compiler', 'ir'],
  backends: ['backends', 'ir'],
  runtime: ['runtime'],
  // The composition root alone sees every room.
  'compiler/cli': ['compiler', 'ir', 'dsl', 'backends', 'runtime'],
};
const roomOf = (file) => (file.startsWith('compiler/cli/') ? 'compiler/cli' : file.split('/')[0]);

// What tests use may reach anywhere.
const isTest = (file) => /\.test\.ts$|\.testing\.ts$|(^|\/)testing\.ts$|\/testing\//.test(file);
const files = ['ir', 'dsl', 'compiler', 'backends', 'runtime']
  .flatMap((room) => readdirSync(join(root, room), { recursive: true }).map((f) => `${room}/${f}`))
  .filter((f) => f.endsWith('.ts') && !f.endsWith('.d.ts') && !f.includes('/fixtures/') && !isTest(f));

const statement =
  /^(?:import|export)\s[^'";]*?from\s+'(\.[^']+)'|^import\s+'(\.[^']+)'|\bimport\(\s*'(\.[^']+)'\s*\)/gm;
const problems = [];
const graph = new Map();
for (const file of files) {
  const targets = [];
  for (const match of readFileSync(join(root, file), 'utf8').matchAll(statement)) {
    const target = relative(root, join(root, dirname(file), match[1] ?? match[2] ?? match[3]));
    if (!existsSync(join(root, target))) problems.push(`${file} imports ${target}, which is not there`);
    else if (target.endsWith('.ts')) targets.push(target);
  }
  graph.set(file, targets);
}

for (const [file, targets] of graph) {
  const allowed = rooms[roomOf(file)];
  for (const target of targets) {
    if (!allowed.includes(target.split('/')[0])) problems.push(`${file} may not import ${target}`);
    if (roomOf(file) !== 'compiler/cli' && roomOf(target) === 'compiler/cli')
      problems.push(`${file} imports the composition root ${target}`);
    if (isTest(target)) problems.push(`${file} imports ${target}, which is for tests`);
  }
}

const state = new Map();
const visit = (file, path) => {
  if (state.get(file) === 'done') return;
  if (state.get(file) === 'open') {
    problems.push(`import circle: ${[...path.slice(path.indexOf(file)), file].join(' -> ')}`);
    return;
  }
  state.set(file, 'open');
  for (const target of graph.get(file) ?? []) visit(target, [...path, file]);
  state.set(file, 'done');
};
for (const file of graph.keys()) visit(file, []);

if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exit(1);
}
console.error(`imports: ${graph.size} files, no circle, every room keeps to its neighbours`);
