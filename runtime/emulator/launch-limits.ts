// What sm_90 allows a launch: its sizes by themselves, and against what a kernel declares. Limits: CUDA programming guide,
// "Compute Capabilities", 9.0.
import type { Place } from './json-tree.ts';
import type { Problems } from './launch-problem.ts';

export interface LaunchShape {
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  readonly cluster: readonly [number, number, number];
  readonly dynamicSharedBytes: number;
}

export const shapeKeys = ['grid', 'block', 'cluster', 'dynamicSharedBytes'] as const;
export type ShapeKey = (typeof shapeKeys)[number];
type Places = Readonly<Record<ShapeKey, Place>>;

const axes = ['x', 'y', 'z'];
const maxGrid = [2 ** 31 - 1, 65535, 65535];
const maxBlock = [1024, 1024, 64];
const maxThreads = 1024;
/** Beyond 8 CTAs a cluster needs an opt-in (cudaFuncAttributeNonPortableClusterSizeAllowed), which a launch file implies. */
const maxCluster = 16;
/** Shared memory of a CTA, static and dynamic together. */
export const maxSharedBytes = 227 * 1024;
/** Of that, what a kernel may declare itself; the rest is dynamic. */
const maxStaticShared = 48 * 1024;

const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);

/** Checks sizes against the machine. */
export function checkShape(shape: LaunchShape, places: Places, problems: Problems): void {
  const { grid, block, cluster, dynamicSharedBytes } = shape;
  for (const [key, sizes, most] of [
    ['grid', grid, maxGrid],
    ['block', block, maxBlock],
  ] as const)
    for (const [i, size] of sizes.entries())
      if (size > most[i])
        problems.add(
          'limit',
          places[key],
          `is ${size} in ${axes[i]}; the machine takes ${most[i]}`,
          `make it at most [${most.join(', ')}]`,
        );
  if (product(block) > maxThreads)
    problems.add(
      'limit',
      places.block,
      `has ${product(block)} threads; a block has at most ${maxThreads}`,
      'use smaller blocks and more of them',
    );
  if (product(cluster) > maxCluster)
    problems.add(
      'limit',
      places.cluster,
      `has ${product(cluster)} blocks; a cluster has at most ${maxCluster}`,
      'use smaller clusters',
    );
  for (const [i, size] of cluster.entries())
    if (grid[i] % size !== 0)
      problems.add(
        'cluster',
        places.cluster,
        `is ${size} in ${axes[i]}, which does not divide the grid's ${grid[i]}`,
        'make the grid a multiple of the cluster',
      );
  if (dynamicSharedBytes > maxSharedBytes)
    problems.add(
      'limit',
      places.dynamicSharedBytes,
      `is ${dynamicSharedBytes}; a block has at most ${maxSharedBytes} bytes (227 KiB) of shared memory`,
      'use less shared memory',
    );
}

/** What of a kernel a launch must fit. Zeros mean: not declared. */
export interface KernelLimits {
  readonly name: string;
  readonly staticShared: number;
  readonly reqntid: readonly [number, number, number];
  readonly maxntid: readonly [number, number, number];
  readonly reqnctapercluster: readonly [number, number, number];
}

/** Checks sizes against what the kernel declares. `clusterGiven`: the file has its own, else the kernel's counts. */
export function checkKernelLimits(
  shape: LaunchShape,
  clusterGiven: boolean,
  kernel: KernelLimits,
  places: Places,
  problems: Problems,
): void {
  const { block, cluster, dynamicSharedBytes } = shape;
  const show = (sizes: readonly number[]): string => `[${sizes.join(', ')}]`;
  const { name, staticShared, reqntid, maxntid, reqnctapercluster } = kernel;
  const declared = (sizes: readonly number[]): readonly number[] => sizes.map((n) => Math.max(1, n));
  if (reqntid[0] > 0 && !declared(reqntid).every((n, i) => n === block[i]))
    problems.add(
      'kernel-limit',
      places.block,
      `is ${show(block)}, but ${name} declares .reqntid ${show(declared(reqntid))}`,
      `write ${show(declared(reqntid))}`,
    );
  // .maxntid bounds the number of threads; how they lie is free.
  if (maxntid[0] > 0 && product(block) > product(declared(maxntid)))
    problems.add(
      'kernel-limit',
      places.block,
      `has ${product(block)} threads, but ${name} declares .maxntid ${show(declared(maxntid))}`,
      `use at most ${product(declared(maxntid))} threads`,
    );
  if (
    reqnctapercluster[0] > 0 &&
    clusterGiven &&
    !declared(reqnctapercluster).every((n, i) => n === cluster[i])
  )
    problems.add(
      'kernel-limit',
      places.cluster,
      `is ${show(cluster)}, but ${name} declares .reqnctapercluster ${show(declared(reqnctapercluster))}`,
      `write ${show(declared(reqnctapercluster))}, or leave "cluster" out`,
    );
  if (staticShared > maxStaticShared)
    problems.add(
      'kernel-limit',
      places.dynamicSharedBytes,
      `cannot help: ${name} declares ${staticShared} bytes of static shared memory; ${maxStaticShared} (48 KiB) are allowed`,
      'declare it .extern .shared and give its size as "dynamicSharedBytes", or use less',
    );
  else if (staticShared + dynamicSharedBytes > maxSharedBytes)
    problems.add(
      'kernel-limit',
      places.dynamicSharedBytes,
      `is ${dynamicSharedBytes}, and ${name} has ${staticShared} bytes of its own: together more than the ${maxSharedBytes} of a block`,
      `at most ${maxSharedBytes - staticShared} are left`,
    );
}
