// Asynchronous copies (cp.async, bulk, TMA) and the tensor cores (wgmma, mma.sync).
import type { InstructionTable } from '../form.ts';

const v70 = { ptx: '7.0', target: 'sm_80' } as const;
const v80 = { ptx: '8.0', target: 'sm_90' } as const;
const v86 = { ptx: '8.6', target: 'sm_90' } as const;
const sm90a = { ptx: '8.0', target: 'sm_90a' } as const;
const tensormap = { ptx: '8.3', target: 'sm_90a' } as const;
const ranks = 'D=1d|2d|3d|4d|5d';
const toShared = 'mbarrier::complete_tx::bytes';

const floatN =
  'm64n8|m64n16|m64n24|m64n32|m64n40|m64n48|m64n56|m64n64|m64n72|m64n80|m64n88|m64n96|m64n104|m64n112|m64n120|m64n128|m64n136|m64n144|m64n152|m64n160|m64n168|m64n176|m64n184|m64n192|m64n200|m64n208|m64n216|m64n224|m64n232|m64n240|m64n248|m64n256';
type Suffixed<S extends string, K extends string> = S extends `${infer H}|${infer R}`
  ? `${H}${K}|${Suffixed<R, K>}`
  : `${S}${K}`;
const suffixed = <S extends string, K extends string>(all: S, suffix: K): Suffixed<S, K> =>
  all
    .split('|')
    .map((shape) => shape + suffix)
    .join('|') as Suffixed<S, K>;
const k16 = suffixed(floatN, 'k16');
const k32 = suffixed(floatN, 'k32');
const k8 = suffixed(floatN, 'k8');

export const async = {
  // prettier-ignore
  cp: [
    // Per-thread copies. The optional last operand is the number of source bytes; the rest is filled with zero.
    ['async ca shared|shared::cta global L2::64B|L2::128B|L2::256B?', 'd:addr(shared) a:addr(global) n:int(4,16,4) s:u32?', { ptx: '7.4', target: 'sm_80' }],
    ['async cg shared|shared::cta global L2::64B|L2::128B|L2::256B?', 'd:addr(shared) a:addr(global) n:int(16,16) s:u32?', { ptx: '7.4', target: 'sm_80' }],
    ['async commit_group', '', v70],
    ['async wait_group', 'n:int(0,1023)', v70],
    ['async wait_all', '', v70],
    ['async mbarrier arrive noinc? shared|shared::cta b64', 'a:addr(shared)', v70],

    // Linear bulk copies: addresses and size are multiples of 16.
    [`async bulk shared::cluster global ${toShared}`, 'd:addr(shared) a:addr(global) n:u32 b:addr(shared)', v80],
    [`async bulk shared::cta global ${toShared}`, 'd:addr(shared) a:addr(global) n:u32 b:addr(shared)', v86],
    [`async bulk shared::cluster global ${toShared} L2::cache_hint`, 'd:addr(shared) a:addr(global) n:u32 b:addr(shared) h:b64', v80],
    [`async bulk shared::cluster global ${toShared} multicast::cluster`, 'd:addr(shared) a:addr(global) n:u32 b:addr(shared) m:b16', v80],
    [`async bulk shared::cluster shared::cta ${toShared}`, 'd:addr(shared) a:addr(shared) n:u32 b:addr(shared)', v80],
    ['async bulk global shared::cta bulk_group', 'd:addr(global) a:addr(shared) n:u32', v80],
    ['async bulk global shared::cta bulk_group L2::cache_hint', 'd:addr(global) a:addr(shared) n:u32 h:b64', v80],
    ['async bulk prefetch L2 global', 'a:addr(global) n:u32', v80],
    ['async bulk commit_group', '', v80],
    ['async bulk wait_group read?', 'n:int(0,1023)', v80],

    // Tensor copies; coordinates innermost first, the map's address is generic.
    [`async bulk tensor ${ranks} shared::cluster global tile? ${toShared}`, 'd:addr(shared) a:tensor(D) b:addr(shared)', v80],
    [`async bulk tensor ${ranks} shared::cta global tile? ${toShared}`, 'd:addr(shared) a:tensor(D) b:addr(shared)', v86],
    [`async bulk tensor ${ranks} shared::cluster global tile? ${toShared} L2::cache_hint`, 'd:addr(shared) a:tensor(D) b:addr(shared) h:b64', v80],
    [`async bulk tensor ${ranks} shared::cluster global tile? ${toShared} multicast::cluster`, 'd:addr(shared) a:tensor(D) b:addr(shared) m:b16', v80],
    [`async bulk tensor ${ranks} shared::cluster global tile? ${toShared} multicast::cluster L2::cache_hint`, 'd:addr(shared) a:tensor(D) b:addr(shared) m:b16 h:b64', v80],
    [`async bulk tensor ${ranks} global shared::cta tile? bulk_group`, 'd:tensor(D) a:addr(shared)', v80],
    [`async bulk tensor ${ranks} global shared::cta tile? bulk_group L2::cache_hint`, 'd:tensor(D) a:addr(shared) h:b64', v80],
    [`async bulk prefetch tensor ${ranks} L2 global tile?`, 'a:tensor(D)', v80],

    // Reductions into memory.
    ['reduce async bulk global shared::cta bulk_group add T=u32|s32|u64|f32|f64', 'd:addr(global) a:addr(shared) n:u32', v80],
    ['reduce async bulk global shared::cta bulk_group add noftz f16|bf16', 'd:addr(global) a:addr(shared) n:u32', v80],
    ['reduce async bulk global shared::cta bulk_group min|max u32|s32|u64|s64|f16|bf16', 'd:addr(global) a:addr(shared) n:u32', v80],
    ['reduce async bulk global shared::cta bulk_group and|or|xor b32|b64', 'd:addr(global) a:addr(shared) n:u32', v80],
    [`reduce async bulk tensor ${ranks} global shared::cta add|min|max|inc|dec|and|or|xor tile? bulk_group`, 'd:tensor(D) a:addr(shared)', v80],
  ],

  // prettier-ignore
  tensormap: [
    ['replace tile global_address S=global|shared::cta b1024 b64', 'a:addr(S) b:b64', tensormap],
    ['replace tile rank S=global|shared::cta b1024 b32', 'a:addr(S) b:b32', tensormap],
    ['replace tile box_dim|global_dim|element_stride S=global|shared::cta b1024 b32', 'a:addr(S) n:int(0,4) b:b32', tensormap],
    ['replace tile global_stride S=global|shared::cta b1024 b64', 'a:addr(S) n:int(0,3) b:b64', tensormap],
    ['replace tile elemtype|interleave_layout|swizzle_mode|fill_mode S=global|shared::cta b1024 b32', 'a:addr(S) b:int(0,15)', tensormap],
    ['cp_fenceproxy global shared::cta tensormap::generic release cta|cluster|gpu|sys sync aligned', 'd:addr(global) a:addr(shared) n:int(128,128)', { ptx: '8.3', target: 'sm_90' }],
  ],

  // prettier-ignore
  wgmma: [
    ['fence sync aligned', '', sm90a],
    ['commit_group sync aligned', '', sm90a],
    ['wait_group sync aligned', 'n:int(0,63)', sm90a],
    // D = A·B (+ D when p): accumulators, descriptors, scale-d, negations of A and B, then transpositions if any.
    [`mma_async sync aligned M=${k32} T=f32|f16 e4m3|e5m2 e4m3|e5m2`, 'x:acc(M,T) a:desc b:desc p:flag i:sign j:sign', sm90a],
    [`mma_async sync aligned M=${k32} T=f32|f16 e4m3|e5m2 e4m3|e5m2`, 'x:acc(M,T) a:frag(4) b:desc p:flag i:sign j:sign', sm90a],
    [`mma_async sync aligned M=${k16} T=f32 bf16 bf16`, 'x:acc(M,T) a:desc b:desc p:flag i:sign j:sign s:int(0,1) t:int(0,1)', sm90a],
    [`mma_async sync aligned M=${k16} T=f32 bf16 bf16`, 'x:acc(M,T) a:frag(4) b:desc p:flag i:sign j:sign t:int(0,1)', sm90a],
    [`mma_async sync aligned M=${k16} T=f32|f16 f16 f16`, 'x:acc(M,T) a:desc b:desc p:flag i:sign j:sign s:int(0,1) t:int(0,1)', sm90a],
    [`mma_async sync aligned M=${k16} T=f32|f16 f16 f16`, 'x:acc(M,T) a:frag(4) b:desc p:flag i:sign j:sign t:int(0,1)', sm90a],
    [`mma_async sync aligned M=${k8} T=f32 tf32 tf32`, 'x:acc(M,T) a:desc b:desc p:flag i:sign j:sign', sm90a],
  ],

  // prettier-ignore
  mma: [
    ['sync aligned m16n8k16 row col f32 bf16 bf16 f32', 'd:vec(4,f32) a:frag(4) b:frag(2) c:vec(4,f32)', v70],
    ['sync aligned m16n8k16 row col f32 f16 f16 f32', 'd:vec(4,f32) a:frag(4) b:frag(2) c:vec(4,f32)', v70],
    ['sync aligned m16n8k8 row col f32 tf32 tf32 f32', 'd:vec(4,f32) a:frag(4) b:frag(2) c:vec(4,f32)', v70],
    ['sync aligned m16n8k32 row col f32 e4m3|e5m2 e4m3|e5m2 f32', 'd:vec(4,f32) a:frag(4) b:frag(2) c:vec(4,f32)', { ptx: '8.4', target: 'sm_89' }],
  ],
} as const satisfies InstructionTable;
