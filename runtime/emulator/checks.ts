// Every code that the emulator reports: what it means, and whether a kernel that did it has a result at all.

export interface CheckInfo {
  /** Stable, `emu/what-is-wrong`. */
  readonly code: string;
  /** `refused`: found before anything ran. */
  readonly severity: 'error' | 'warning' | 'note' | 'refused';
  /** Always on: memory safety and progress. The others are what `--check` chooses. */
  readonly always: boolean;
  /** The chip would have ended the kernel here, or the kernel did not end: what memory holds then is no result. */
  readonly fatal: boolean;
  readonly doc: string;
}

type Kind = Omit<CheckInfo, 'code' | 'doc'>;

/** The instruction could not be done; the chip would trap, or what it does then is not defined. */
const stops: Kind = { severity: 'error', always: true, fatal: true };
/** Wrong, but what was meant is clear enough to go on with. */
const goesOn: Kind = { severity: 'error', always: true, fatal: false };
const warns: Kind = { severity: 'warning', always: true, fatal: false };
const chosen: Kind = { severity: 'error', always: false, fatal: false };
/** Told with --stats. */
const notes: Kind = { severity: 'note', always: false, fatal: false };
const maybe: Kind = { severity: 'warning', always: false, fatal: false };
const refused: Kind = { severity: 'refused', always: true, fatal: true };

const table: readonly (readonly [code: string, kind: Kind, doc: string])[] = [
  // Memory
  [
    'out-of-bounds',
    stops,
    'an access outside every allocation, or outside the shared or local memory of its thread',
  ],
  ['misaligned', stops, 'an address that is no multiple of what the access needs'],
  ['use-after-free', stops, 'an access to memory that was freed'],
  ['write-to-constant', stops, 'a write to .const memory or to a kernel parameter'],
  [
    'remote-shared-after-exit',
    stops,
    'an access to the shared memory of a block of the cluster that has ended',
  ],
  // Control
  ['deadlock', stops, 'nothing can run any more: who waits for what'],
  ['too-long', stops, 'more instructions than --max-instructions'],
  ['trap', stops, 'the kernel executed trap'],
  ['assert-failed', stops, "an assertion of the kernel's source failed"],
  ['branch-index', stops, 'brx.idx with an index past its table'],
  ['bad-call', stops, 'a call of something that is no function, or has no body'],
  ['stack-overflow', stops, 'calls nested too deep'],
  // Warps and barriers
  ['divergent-barrier', stops, 'lanes that a .sync or .aligned instruction waits for, but that cannot come'],
  ['partial-warp', stops, 'an instruction of the whole warp after some of its lanes exited'],
  ['member-mask', goesOn, 'a lane executes a .sync instruction whose member mask lacks it'],
  ['not-uniform', stops, 'lanes give different operands to an instruction that needs equal ones'],
  [
    'barrier-operands',
    stops,
    'a barrier with a wrong number, or with thread counts or forms that do not agree',
  ],
  ['cluster-barrier', stops, 'barrier.cluster.arrive and .wait out of turn'],
  ['cluster-rank', stops, 'mapa to a block that the cluster does not have'],
  ['setmaxnreg', stops, 'setmaxnreg in the wrong direction'],
  ['setmaxnreg-ignored', warns, 'setmaxnreg in a kernel whose register count is not known'],
  // mbarriers
  ['mbarrier-not-shared', stops, 'an mbarrier outside shared memory'],
  ['mbarrier-misaligned', stops, 'an mbarrier whose address is no multiple of 8'],
  ['mbarrier-not-initialised', stops, 'use of an mbarrier before mbarrier.init'],
  ['mbarrier-live', stops, 'mbarrier.init on an mbarrier that is in use'],
  ['mbarrier-in-use', stops, 'mbarrier.inval while operations under way will signal it'],
  ['mbarrier-overwritten', stops, 'a live mbarrier was written by something else'],
  ['mbarrier-remote', stops, 'an operation on the mbarrier of another block that only its own may do'],
  ['mbarrier-other-block', stops, 'st.async to one block of the cluster whose mbarrier is in another'],
  ['mbarrier-count', stops, 'a count out of range'],
  ['mbarrier-underflow', stops, 'more arrivals than the phase expects'],
  ['mbarrier-tx-overflow', stops, 'a transaction count out of range'],
  ['mbarrier-no-complete', stops, '.noComplete on an arrival that completes the phase'],
  ['mbarrier-bad-state', stops, 'a wait with a state that the mbarrier never returned'],
  ['mbarrier-parity', goesOn, 'a parity that is neither 0 nor 1'],
  ['mbarrier-phase-overrun', goesOn, 'a phase completed before anyone saw that the one before it did'],
  // Asynchronous copies
  ['exit-before-copy', stops, 'a block exited while a copy into its shared memory was under way'],
  ['exit-before-store', warns, 'a block exited while a copy was reading its shared memory'],
  [
    'copy-signals-other-block',
    warns,
    'a copy to one block of the cluster that signals an mbarrier of another',
  ],
  ['no-cluster', goesOn, 'st.async or red.async in a launch without clusters'],
  ['copy-size', stops, 'cp.async with more source bytes than it copies'],
  ['bulk-size', stops, 'a bulk copy whose size is no multiple of 16'],
  ['bulk-to-self', stops, 'a bulk copy between blocks of a cluster that names its own'],
  ['multicast-mask', stops, 'a multicast to blocks that the cluster does not have, or to none'],
  ['not-a-tensor-map', stops, '128 bytes that are no tensor map, or where none may lie'],
  ['tensor-map-misaligned', stops, 'a tensor map whose address is no multiple of 64'],
  ['tensor-map-invalid', stops, 'a tensor map that breaks a rule of cuTensorMapEncodeTiled'],
  ['tensor-map-rank', stops, 'a copy with more or fewer coordinates than its map has dimensions'],
  ['tensor-map-type', stops, "a tensor reduction that the map's type does not have"],
  ['unsupported-tensor-map', stops, 'a tensor map that the emulator does not move: interleaved ones'],
  ['box-too-large', stops, 'a box larger than the shared memory'],
  ['tma-misaligned', stops, 'a box at a shared address that is no multiple of 128'],
  ['tma-swizzle-base', warns, 'a swizzled box that does not begin where its pattern does'],
  ['tma-swizzle-row', warns, 'a swizzled box with rows shorter than the swizzle'],
  // wgmma
  ['wgmma-partial-warpgroup', stops, 'wgmma without four whole warps'],
  ['wgmma-divergent', stops, 'warps of a warpgroup that issue different wgmma'],
  ['wgmma-descriptor', stops, 'a matrix descriptor with wrong fields, or a matrix outside shared memory'],
  ['wgmma-descriptor-differs', stops, 'descriptors or scales that differ within a warpgroup'],
  ['wgmma-missing-fence', chosen, 'registers were touched without wgmma.fence before the wgmma'],
  ['wgmma-register-in-flight', chosen, 'registers of a wgmma were used before its wait'],
  // Uninitialised data
  ['uninitialised-address', chosen, 'an address computed from data that was never written'],
  [
    'uninitialised-predicate',
    chosen,
    'a branch, or an instruction with an effect, that data decides which was never written',
  ],
  [
    'uninitialised-operand',
    chosen,
    'a size, count, coordinate, state or descriptor computed from data that was never written',
  ],
  ['uninitialised-output', chosen, 'data that was never written, or computed from such, in an output'],
  ['output-not-written', maybe, 'bytes of an output that no launch wrote'],
  // Performance, with --stats
  ['bank-conflicts', notes, 'lanes that access different words of one bank of shared memory at once'],
  [
    'uncoalesced',
    notes,
    'accesses to global memory that touch at least twice the sectors that their bytes fill',
  ],
  ['idle-lanes', notes, 'fewer than half of the lanes are active on average'],
  ['short-pipeline', notes, 'most waits for copied data come before the data'],
  // Races
  ['race-shared', chosen, 'two threads access the same shared memory, one writes, and nothing orders them'],
  ['race-global', chosen, 'the same in global memory, between threads, blocks, grids or devices'],
  [
    'race-async-shared',
    chosen,
    'an asynchronous copy and another access to the same shared memory that nothing orders',
  ],
  ['race-async-global', chosen, 'the same in global memory'],
  ['race-tensor-core', chosen, 'an access to shared memory that a wgmma in flight reads, or may read early'],
  ['race-scope', chosen, 'accesses that synchronise, but at a scope that does not span their threads'],
  ['race-same-value', maybe, 'a race of two writes of the same value'],
  [
    'missing-proxy-fence',
    chosen,
    'plain writes that TMA, a bulk copy or wgmma meets without fence.proxy.async',
  ],
  [
    'read-before-async-write',
    maybe,
    'plain reads that a copy overwrites, ordered but without fence.proxy.async: opinions differ',
  ],
  ['non-coherent-read', chosen, 'ld.global.nc of data that the launch changes'],
  ['missing-mbarrier-init-fence', chosen, 'an mbarrier used by others without anything that orders its init'],
  ['mbarrier-plain-access', chosen, 'a plain or copying access to the bytes of a live mbarrier'],
  // Before anything runs
  ['no-such-kernel', refused, 'the program has no kernel of that name'],
  ['no-such-variable', refused, 'the program has no .global or .const variable of that name'],
  ['launch-contract', refused, 'sizes that the machine or the kernel does not allow'],
  ['unsupported-instruction', refused, 'an instruction that the emulator does not execute'],
  ['program-format', refused, 'a decoded program that is broken or of another version'],
  ['out-of-memory', refused, 'the host has no memory left for a buffer or for the state of the threads'],
  ['bad-option', refused, 'a setting of the emulator that is out of range'],
  ['bad-argument', refused, 'a call of the emulator that makes no sense: a mistake of the calling program'],
  ['bad-free', refused, 'memory was freed that was never allocated, or twice'],
  ['module', refused, 'an image that libcuda cannot load as a module'],
];

export const checks: readonly CheckInfo[] = table.map(([code, kind, doc]) => ({
  code: `emu/${code}`,
  ...kind,
  doc,
}));

const byCode = new Map(checks.map((c) => [c.code, c]));

/** A report of this code means that memory holds no result. Codes that are not listed count as such. */
export const isFatal = (code: string): boolean => byCode.get(code)?.fatal ?? true;

/**
 * What the core is asked to check for `--check`: "all", "none", or codes with or without `emu/`. Unknown ones come back
 * in `unknown`.
 */
export function chooseChecks(given: readonly string[]): {
  readonly checks: readonly string[];
  readonly unknown: readonly string[];
} {
  if (given.includes('all')) return { checks: ['all'], unknown: [] };
  const names = given.filter((g) => g !== 'none').map((g) => g.replace(/^emu\//, ''));
  return { checks: names, unknown: names.filter((n) => !byCode.has(`emu/${n}`)) };
}
