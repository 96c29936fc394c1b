// The numbers that stand for mnemonics, modifiers and special registers in a decoded program. An instruction's mnemonic
// is its first dotted part (`ld`), its modifiers are the other parts (`global`, `L2::128B`, `m64n128k32`).
// A name's number is its place in the array, so within a format version these arrays are only appended to.
// scripts/emulator-names.mjs writes runtime/core/emulator/names.inc from this file.
//
// They hold everything of PTX ISA 9.0 that some target of sm_50 to sm_90a takes. Left out: tcgen05,
// clusterlaunchcontrol, st.bulk, block-scaled mma and the 4-, 6- and 8-bit formats that only sm_100 and later convert.

const words = (text: string): string[] => text.trim().split(/\s+/);

/** First dotted parts of instructions. */
export const mnemonics: readonly string[] = words(`
  abs activemask add addc alloca and applypriority atom bar barrier bfe bfi bfind bmsk bra brev brkpt brx call clz cnot
  copysign cos cp createpolicy cvt cvta discard div dp2a dp4a elect ex2 exit fence fma fns getctarank griddepcontrol
  isspacep istypep ld ldmatrix ldu lg2 lop3 mad mad24 madc mapa match max mbarrier membar min mma mov movmatrix mul mul24
  multimem nanosleep neg not or pmevent popc prefetch prefetchu prmt rcp red redux rem ret rsqrt sad selp set setmaxnreg
  setp shf shfl shl shr sin slct sqrt st stackrestore stacksave stmatrix sub subc suld suq sured sust szext tanh
  tensormap testp tex tld4 trap txq vabsdiff vabsdiff2 vabsdiff4 vadd vadd2 vadd4 vavrg2 vavrg4 vmad vmax vmax2 vmax4
  vmin vmin2 vmin4 vote vset vset2 vset4 vshl vshr vsub vsub2 vsub4 wgmma wmma xor
`);

/** `m64n8k16` … : N in steps of 8 for float kinds; the integer and single-bit kinds use a subset of them. */
const wgmmaShapes = ['k8', 'k16', 'k32', 'k64', 'k256'].flatMap((k) =>
  Array.from({ length: 32 }, (_, i) => `m64n${8 * (i + 1)}${k}`),
);

/**
 * Every other dotted part, without its dot. Types come first: their numbers fit one byte, as the parameters of a
 * decoded program need.
 */
export const modifiers: readonly string[] = [
  ...words(`
    pred b1 b8 b16 b32 b64 b128 u4 u8 u16 u32 u64 s4 s8 s16 s32 s64 f16 f16x2 bf16 bf16x2 tf32 f32 f64
    e4m3 e5m2 e4m3x2 e5m2x2 e4m3x4 e5m2x4 u16x2 s16x2 b1024 texref samplerref surfref
  `),
  // Spaces, memory order, scopes, caches.
  ...words(`
    global shared shared::cta shared::cluster local const param param::entry param::func generic
    weak volatile relaxed acquire release acq_rel sc mmio cta cluster gpu sys gl
    ca cg cs lu cv wb wt nc L1 L2 L1::evict_normal L1::evict_unchanged L1::evict_first L1::evict_last L1::no_allocate
    L2::evict_normal L2::evict_unchanged L2::evict_first L2::evict_last L2::cache_hint L2::64B L2::128B L2::256B
    unified v2 v4 v8 to
  `),
  // Arithmetic, rounding, comparison, logic.
  ...words(`
    rn rz rm rp rna rni rzi rmi rpi ftz sat satfinite relu noftz approx full lo hi wide cc NaN xorsign abs
    eq ne lt le gt ge ls hs equ neu ltu leu gtu geu num nan and or xor finite infinite number notanumber normal subnormal
    l r clamp wrap shiftamt f4e b4e rc8 ecl ecr rc16 pack
  `),
  // Atomics, warp-wide operations, barriers, control flow.
  ...words(`
    add min max inc dec cas exch popc sync aligned uni idx up down bfly all any none not_all ballot red arrive wait warp
    launch_dependents mask async proxy alias mbarrier_init sync_restrict::shared::cta sync_restrict::shared::cluster
    tensormap::generic async::generic sub cvt
  `),
  // mbarrier, asynchronous copies, tensor maps.
  ...words(`
    init inval expect_tx complete_tx arrive_drop test_wait try_wait parity noComplete noinc pending_count mbarrier
    bulk tensor prefetch reduce commit_group wait_group wait_all read bulk_group mbarrier::complete_tx::bytes
    multicast::cluster 1d 2d 3d 4d 5d tile im2col im2col::w im2col::w::128 im2col_no_offs
    replace cp_fenceproxy global_address rank box_dim global_dim global_stride element_stride elemtype
    interleave_layout swizzle_mode swizzle_atomicity fill_mode tensormap
    fractional range ld_reduce st acc::f16 acc::f32
  `),
  // Matrices.
  ...words(`
    x1 x2 x4 trans m8n8 row col load store mma a b c d mma_async fence sp sp::ordered_metadata
    m8n8k4 m8n8k16 m8n8k32 m8n8k128 m16n8k4 m16n8k8 m16n8k16 m16n8k32 m16n8k64 m16n8k128 m16n8k256
    m16n16k8 m16n16k16 m8n32k16 m32n8k16
  `),
  ...wgmmaShapes,
  // Video instructions (the lanes that they select are part of their operands), textures and surfaces.
  ...words(`
    po shr7 shr15 p trap zero a1d a2d 2dms a2dms cube acube base level grad
    width height depth channel_data_type channel_order normalized_coords force_unnormalized_coords array_size
    num_mipmap_levels num_samples filter_mode addr_mode_0 addr_mode_1 addr_mode_2 memory_layout g
    oob u2 s2
  `),
];

const axes = (names: string): string[] =>
  words(names).flatMap((name) => ['x', 'y', 'z'].map((a) => `${name}.${a}`));
const numbered = (prefix: string, count: number, suffix = ''): string[] =>
  Array.from({ length: count }, (_, i) => `${prefix}${i}${suffix}`);

/** Predefined registers without their `%`. */
export const specials: readonly string[] = [
  ...axes('tid ntid ctaid nctaid clusterid nclusterid cluster_ctaid cluster_nctaid'),
  ...words(`
    laneid warpid nwarpid smid nsmid gridid cluster_ctarank cluster_nctarank is_explicit_cluster
    lanemask_eq lanemask_le lanemask_lt lanemask_ge lanemask_gt clock clock_hi clock64
    globaltimer globaltimer_lo globaltimer_hi total_smem_size aggr_smem_size dynamic_smem_size current_graph_exec
    reserved_smem_offset_begin reserved_smem_offset_end reserved_smem_offset_cap
    reserved_smem_offset_0 reserved_smem_offset_1
  `),
  ...numbered('pm', 8),
  ...numbered('pm', 8, '_64'),
  ...numbered('envreg', 32),
];

const numbers = (names: readonly string[]): ReadonlyMap<string, number> =>
  new Map(names.map((name, i) => [name, i]));

export const mnemonicNumber = numbers(mnemonics);
export const modifierNumber = numbers(modifiers);
export const specialNumber = numbers(specials);

/** What names.inc calls a name in C++: every character that no identifier has becomes `_`, a leading digit gets `n`. */
export const identifierOf = (name: string): string =>
  name.replace(/[^A-Za-z0-9]/g, '_').replace(/^(?=[0-9])/, 'n');

/** The text of runtime/core/emulator/names.inc. */
export function namesInclude(): string {
  const section = (macro: string, names: readonly string[]): string[] => [
    `#ifdef ${macro}`,
    ...names.map((name) => `${macro}(${identifierOf(name)}, ${JSON.stringify(name)})`),
    `#undef ${macro}`,
    '#endif',
    '',
  ];
  return [
    '// Written by scripts/emulator-names.mjs from backends/ptx/decode/names.ts: do not edit.',
    '// Define DSVC_MNEMONIC(identifier, text), DSVC_MODIFIER or DSVC_SPECIAL, then include this file: every name in the',
    '// order of its number, from 0. Some identifiers are C++ keywords (and, const, volatile): paste a prefix to them.',
    `// There are ${modifiers.length} modifiers: a program holds each in 16 bits. Numbers of types are below 256.`,
    '',
    ...section('DSVC_MNEMONIC', mnemonics),
    ...section('DSVC_MODIFIER', modifiers),
    ...section('DSVC_SPECIAL', specials),
  ]
    .join('\n')
    .trimEnd()
    .concat('\n');
}
