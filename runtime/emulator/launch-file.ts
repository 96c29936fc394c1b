// A launch file: which kernels of a PTX file to run, over which buffers, with which arguments. docs/EMULATOR.md explains
// the format. Here the text is read and everything checked that needs neither the kernel nor the files it names.
import { readBuffer, type BufferContent } from './buffer-spec.ts';
import { JsonError, keyPath, parseJsonTree, showNode, type JsonNode, type Place } from './json-tree.ts';
import {
  readList,
  readObject,
  readText,
  readWhole,
  readWholes,
  required,
  type Entries,
} from './json-values.ts';
import { checkShape, shapeKeys, type ShapeKey } from './launch-limits.ts';
import { Problems } from './launch-problem.ts';
import { readParameter, type ParameterSpec } from './parameter-spec.ts';

export type Extent = readonly [x: number, y: number, z: number];

export interface BufferSpec {
  readonly name: string;
  readonly place: Place;
  readonly content: BufferContent;
}

export interface LaunchSpec {
  readonly place: Place;
  readonly kernel: string;
  readonly kernelPlace: Place;
  readonly grid: Extent;
  readonly block: Extent;
  readonly cluster: Extent;
  /** False for [1, 1, 1], given or not: then the kernel's own `.reqnctapercluster` counts, as for a plain CUDA launch. */
  readonly clusterGiven: boolean;
  readonly dynamicSharedBytes: number;
  readonly parameters: readonly ParameterSpec[];
  readonly parametersPlace: Place;
  /** Where each size stands, or would stand. */
  readonly places: Readonly<Record<ShapeKey, Place>>;
}

export interface LaunchFile {
  readonly buffers: readonly BufferSpec[];
  /** In order; at least one. */
  readonly launches: readonly LaunchSpec[];
  /** Names of buffers to write. */
  readonly outputs: readonly { readonly name: string; readonly place: Place }[];
}

const launchKeys = ['kernel', 'grid', 'block', 'cluster', 'dynamicSharedBytes', 'parameters'] as const;
const fileKeys = [...launchKeys, 'buffers', 'outputs', 'launches'];

/** Reads a launch file. Throws LaunchError with every problem that was found. */
export function parseLaunchFile(text: string): LaunchFile {
  const problems = new Problems();
  const root = parse(text, problems);
  const entries = root && readObject(root, 'a launch file', fileKeys, problems);
  problems.throwIfAny();
  const buffers = readBuffers(entries!, problems);
  const launches = readLaunches(root!, entries!, problems);
  const outputs = readOutputs(root!, entries!, problems);
  // Names are compared even when one buffer is wrong: it is there.
  const known = bufferNames(entries!);
  const checkName = (name: string, place: Place): void => {
    if (!known.includes(name))
      problems.add(
        'no-such-buffer',
        place,
        `names the buffer ${JSON.stringify(name)}, which is not there`,
        known.length === 0 ? 'add it to "buffers"' : `buffers are: ${known.slice(0, 20).join(', ')}`,
      );
  };
  for (const { name, place } of outputs) checkName(name, place);
  for (const launch of launches)
    for (const parameter of launch.parameters)
      for (const use of buffersOf(parameter)) checkName(use.name, use.place);
  problems.throwIfAny();
  return { buffers, launches, outputs };
}

function parse(text: string, problems: Problems): JsonNode | undefined {
  try {
    return parseJsonTree(text);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    const { place } = error;
    return problems.add('json', { ...place, path: '' }, `is no JSON: ${error.message}`, 'correct the JSON');
  }
}

const bufferNames = (entries: Entries): readonly string[] => {
  const node = entries.get('buffers');
  return node?.kind === 'object' ? [...node.entries.keys()] : [];
};

/** Every buffer that a parameter names, also inside fields and tensor maps. */
function buffersOf(parameter: ParameterSpec): readonly { readonly name: string; readonly place: Place }[] {
  switch (parameter.kind) {
    case 'buffer':
    case 'tensorMap':
      return [{ name: parameter.buffer, place: parameter.bufferPlace }];
    case 'fields':
      return parameter.fields.flatMap(({ value }) => buffersOf(value));
    case 'bytes':
      return [];
  }
}

function readBuffers(entries: Entries, problems: Problems): BufferSpec[] {
  const node = entries.get('buffers');
  if (node === undefined) return [];
  if (node.kind !== 'object') {
    problems.add(
      'type',
      node,
      `is ${showNode(node)}, not buffers by name`,
      'write {"x": {"dtype": "F32", ...}}',
    );
    return [];
  }
  const out: BufferSpec[] = [];
  for (const [name, value] of node.entries) {
    const content = readBuffer(value, problems);
    if (content) out.push({ name, place: value, content });
  }
  return out;
}

function readLaunches(root: JsonNode, entries: Entries, problems: Problems): LaunchSpec[] {
  const out: (LaunchSpec | undefined)[] = [];
  const several = entries.get('launches');
  // A launch at the top is the first; those of the list follow.
  if (several === undefined || launchKeys.some((key) => entries.has(key)))
    out.push(readLaunch(root, entries, problems));
  if (several) {
    const items = readList(several, '{"kernel": ...}, ...', problems);
    if (items?.length === 0)
      problems.add('length', several, 'has no launch', 'add one, or leave "launches" out');
    for (const item of items ?? []) {
      const own = readObject(item, 'a launch', launchKeys, problems);
      if (own) out.push(readLaunch(item, own, problems));
    }
  }
  return out.filter((l) => l !== undefined);
}

function readLaunch(node: JsonNode, entries: Entries, problems: Problems): LaunchSpec | undefined {
  const place = (key: string): Place => ({ path: keyPath(node.path, key), start: node.start, end: node.end });
  const kernelNode = required(node, entries, 'kernel', '"name"', problems);
  const kernel = kernelNode && readText(kernelNode, 'the name of a kernel', problems);
  const extent = (key: string, otherwise?: Extent): Extent | undefined => {
    const value = otherwise ? entries.get(key) : required(node, entries, key, '[1, 1, 1]', problems);
    if (value === undefined) return otherwise;
    const sizes = readWholes(value, { least: 1, most: 2 ** 31 - 1 }, { least: 3, most: 3 }, problems);
    return sizes as Extent | undefined;
  };
  const grid = extent('grid');
  const block = extent('block');
  const cluster = extent('cluster', [1, 1, 1]);
  const shared = entries.get('dynamicSharedBytes');
  const dynamicSharedBytes = shared ? readWhole(shared, 0, 2 ** 32 - 1, problems) : 0;
  const parametersNode = entries.get('parameters');
  const items = parametersNode ? readList(parametersNode, '{"buffer": "x"}, ...', problems) : [];
  const parameters = items?.map((item) => readParameter(item, problems));
  if (
    kernel === undefined ||
    grid === undefined ||
    block === undefined ||
    cluster === undefined ||
    dynamicSharedBytes === undefined ||
    !parameters?.every((p) => p !== undefined)
  )
    return undefined;
  const places = Object.fromEntries(shapeKeys.map((key) => [key, entries.get(key) ?? place(key)])) as Record<
    ShapeKey,
    Place
  >;
  checkShape({ grid, block, cluster, dynamicSharedBytes }, places, problems);
  return {
    place: node,
    kernel,
    kernelPlace: kernelNode!,
    grid,
    block,
    cluster,
    clusterGiven: cluster.some((n) => n > 1),
    dynamicSharedBytes,
    parameters,
    parametersPlace: parametersNode ?? place('parameters'),
    places,
  };
}

function readOutputs(
  root: JsonNode,
  entries: Entries,
  problems: Problems,
): { readonly name: string; readonly place: Place }[] {
  const node = required(root, entries, 'outputs', '["y"]', problems);
  const out: { name: string; place: Place }[] = [];
  for (const item of (node && readList(node, '"y", ...', problems)) ?? []) {
    const name = readText(item, 'the name of a buffer', problems);
    if (name === undefined) continue;
    if (out.some((o) => o.name === name))
      problems.add(
        'duplicate-output',
        item,
        `names ${JSON.stringify(name)} a second time`,
        'name every output once',
      );
    else out.push({ name, place: item });
  }
  return out;
}
