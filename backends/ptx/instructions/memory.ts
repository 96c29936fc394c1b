// Loads, stores, atomics and warp-wide data movement.
import type { InstructionTable } from '../form.ts';

const scalar = 'b8|u8|s8|b16|u16|s16|b32|u32|s32|f32|b64|u64|s64|f64';
const words = 'b32|u32|s32|f32|b64|u64|s64|f64';
const space = 'S=global|shared|shared::cta|shared::cluster|local';
const scope = 'cta|cluster|gpu|sys';
const cacheHint = 'L2::cache_hint';
const prefetch = 'L2::64B|L2::128B|L2::256B';
const evict = 'L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate';

const v70 = { ptx: '7.0', target: 'sm_70' } as const;
const hinted = { ptx: '7.4', target: 'sm_80' } as const;
const sm90 = { ptx: '7.8', target: 'sm_90' } as const;
const v81 = { ptx: '8.1', target: 'sm_90' } as const;

export const memory = {
  // prettier-ignore
  ld: [
    [`S=param T=${scalar}`, 'd:loose(T) a:addr(S)'],
    [`S=param V=v2 T=${words}`, 'd:vec(V,T) a:addr(S)'],
    ['S=param V=v4 T=b32|u32|s32|f32', 'd:vec(V,T) a:addr(S)'],
    [`weak? ${space} ca|cg|cs|lu? T=${scalar}`, 'd:loose(T) a:addr(S)'],
    [`${space} V=v2 T=${words}`, 'd:vec(V,T) a:addr(S)'],
    [`${space} V=v4 T=b32|u32|s32|f32`, 'd:vec(V,T) a:addr(S)'],
    [`S=const T=${scalar}`, 'd:loose(T) a:addr(S)'],
    // Generic addresses.
    [`T=${scalar}`, 'd:loose(T) a:addr(generic)'],
    [`V=v2|v4 T=b32|u32|s32|f32`, 'd:vec(V,T) a:addr(generic)'],
    // Read-only path; the data must not change while the kernel runs.
    [`S=global ca|cg|cs nc ${prefetch}? T=${scalar}`, 'd:loose(T) a:addr(S)', hinted],
    [`S=global nc ${evict}? ${prefetch}? T=${scalar}`, 'd:loose(T) a:addr(S)', hinted],
    [`S=global nc ${evict}? ${prefetch}? V=v2 T=${words}`, 'd:vec(V,T) a:addr(S)', hinted],
    [`S=global nc ${evict}? ${prefetch}? V=v4 T=b32|u32|s32|f32`, 'd:vec(V,T) a:addr(S)', hinted],
    [`S=global nc? ${cacheHint} T=${words}`, 'd:T a:addr(S) h:b64', hinted],
    [`S=global nc? ${cacheHint} V=v4 T=b32|u32|s32|f32`, 'd:vec(V,T) a:addr(S) h:b64', hinted],
    [`S=global ${evict} ${prefetch}? T=${words}`, 'd:T a:addr(S)', hinted],
    [`volatile S=global|shared T=${scalar}`, 'd:loose(T) a:addr(S)'],
    [`relaxed|acquire ${scope} S=global|shared|shared::cta|shared::cluster T=${scalar}`, 'd:loose(T) a:addr(S)', v70],
  ],
  // prettier-ignore
  st: [
    [`weak? ${space} wb|cg|cs|wt? T=${scalar}`, 'a:addr(S) b:loose(T)'],
    [`${space} V=v2 T=${words}`, 'a:addr(S) b:vec(V,T)'],
    [`${space} V=v4 T=b32|u32|s32|f32`, 'a:addr(S) b:vec(V,T)'],
    [`T=${scalar}`, 'a:addr(generic) b:loose(T)'],
    [`V=v2|v4 T=b32|u32|s32|f32`, 'a:addr(generic) b:vec(V,T)'],
    [`S=global ${evict} T=${words}`, 'a:addr(S) b:T', hinted],
    [`S=global ${evict} V=v4 T=b32|u32|s32|f32`, 'a:addr(S) b:vec(V,T)', hinted],
    [`S=global ${cacheHint} T=${words}`, 'a:addr(S) b:T h:b64', hinted],
    [`S=global ${cacheHint} V=v4 T=b32|u32|s32|f32`, 'a:addr(S) b:vec(V,T) h:b64', hinted],
    [`volatile S=global|shared T=${scalar}`, 'a:addr(S) b:loose(T)'],
    [`relaxed|release ${scope} S=global|shared|shared::cta|shared::cluster T=${scalar}`, 'a:addr(S) b:loose(T)', v70],
    // Store to a peer CTA's shared memory that reports its bytes to an mbarrier there.
    ['async weak? mbarrier::complete_tx::bytes T=b32|b64|u32|u64|s32|s64|f32|f64', 'a:addr(shared) b:T c:addr(shared)', v81],
    ['async weak? shared::cluster mbarrier::complete_tx::bytes T=b32|b64|u32|u64|s32|s64|f32|f64', 'a:addr(shared) b:T c:addr(shared)', v81],
    ['async shared::cluster mbarrier::complete_tx::bytes V=v2|v4 T=b32|u32|s32|f32', 'a:addr(shared) b:vec(V,T) c:addr(shared)', v81],
  ],
  // prettier-ignore
  atom: [
    [`relaxed|acquire|release|acq_rel? ${scope}? S=global|shared|shared::cta|shared::cluster add T=u32|s32|u64|f32|f64`, 'd:T a:addr(S) b:T', v70],
    [`relaxed|acquire|release|acq_rel? ${scope}? S=global|shared add noftz T=f16|f16x2`, 'd:T a:addr(S) b:T', v70],
    [`relaxed|acquire|release|acq_rel? ${scope}? S=global|shared add noftz T=bf16|bf16x2`, 'd:T a:addr(S) b:T', sm90],
    [`relaxed|acquire|release|acq_rel? ${scope}? S=global|shared min|max T=u32|s32|u64|s64`, 'd:T a:addr(S) b:T', v70],
    [`relaxed|acquire|release|acq_rel? ${scope}? S=global|shared inc|dec T=u32`, 'd:T a:addr(S) b:T', v70],
    [`relaxed|acquire|release|acq_rel? ${scope}? S=global|shared and|or|xor|exch T=b32|b64`, 'd:T a:addr(S) b:T', v70],
    [`relaxed|acquire|release|acq_rel? ${scope}? S=global|shared cas T=b16|b32|b64`, 'd:T a:addr(S) b:T c:T', v70],
    [`${scope}? S=global add V=v2|v4 T=f32`, 'd:vec(V,T) a:addr(S) b:vec(V,T)', v81],
  ],
  // prettier-ignore
  red: [
    [`relaxed|release? ${scope}? S=global|shared|shared::cta|shared::cluster add T=u32|s32|u64|f32|f64`, 'a:addr(S) b:T', v70],
    [`relaxed|release? ${scope}? S=global|shared add noftz T=f16|f16x2`, 'a:addr(S) b:T', v70],
    [`relaxed|release? ${scope}? S=global|shared add noftz T=bf16|bf16x2`, 'a:addr(S) b:T', sm90],
    [`relaxed|release? ${scope}? S=global|shared min|max T=u32|s32|u64|s64`, 'a:addr(S) b:T', v70],
    [`relaxed|release? ${scope}? S=global|shared inc|dec T=u32`, 'a:addr(S) b:T', v70],
    [`relaxed|release? ${scope}? S=global|shared and|or|xor T=b32|b64`, 'a:addr(S) b:T', v70],
    [`${scope}? S=global add V=v2|v4 T=f32`, 'a:addr(S) b:vec(V,T)', v81],
    [`${scope}? S=global add noftz V=v2|v4 T=f16x2|bf16x2`, 'a:addr(S) b:vec(V,T)', v81],
    ['async relaxed cluster shared::cluster mbarrier::complete_tx::bytes inc|dec|min|max|add T=u32', 'a:addr(shared) b:T c:addr(shared)', v81],
    ['async relaxed cluster shared::cluster mbarrier::complete_tx::bytes min|max|add T=s32', 'a:addr(shared) b:T c:addr(shared)', v81],
    ['async relaxed cluster shared::cluster mbarrier::complete_tx::bytes and|or|xor T=b32', 'a:addr(shared) b:T c:addr(shared)', v81],
    ['async relaxed cluster shared::cluster mbarrier::complete_tx::bytes add T=u64', 'a:addr(shared) b:T c:addr(shared)', v81],
  ],
  prefetch: [
    ['S=global|local L1|L2', 'a:addr(S)'],
    ['S=global L2::evict_last|L2::evict_normal', 'a:addr(S)', hinted],
    // The address of a tensor map is generic, whatever space it is in.
    ['tensormap', 'a:addr(generic)', { ptx: '8.0', target: 'sm_90' }],
  ],
  // prettier-ignore
  createpolicy: [
    ['fractional L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged b64', 'd:b64 a:f32?', hinted],
    ['fractional L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged L2::evict_unchanged|L2::evict_first b64', 'd:b64 a:f32?', hinted],
  ],
  applypriority: [['S=global L2::evict_normal', 'a:addr(S) b:int(128,128)', hinted]],
  discard: [['S=global L2', 'a:addr(S) b:int(128,128)', hinted]],
  isspacep: [['global|shared|shared::cta|shared::cluster|local|const|param', 'd:pred a:u64', { ptx: '7.8' }]],

  // prettier-ignore
  ldmatrix: [
    ['sync aligned m8n8 x1 trans? S=shared|shared::cta b16', 'd:vec(1,b32) a:addr(S)', { ptx: '7.8', target: 'sm_80' }],
    ['sync aligned m8n8 x2 trans? S=shared|shared::cta b16', 'd:vec(2,b32) a:addr(S)', { ptx: '7.8', target: 'sm_80' }],
    ['sync aligned m8n8 x4 trans? S=shared|shared::cta b16', 'd:vec(4,b32) a:addr(S)', { ptx: '7.8', target: 'sm_80' }],
  ],
  stmatrix: [
    ['sync aligned m8n8 x1 trans? S=shared|shared::cta b16', 'a:addr(S) b:vec(1,b32)', sm90],
    ['sync aligned m8n8 x2 trans? S=shared|shared::cta b16', 'a:addr(S) b:vec(2,b32)', sm90],
    ['sync aligned m8n8 x4 trans? S=shared|shared::cta b16', 'a:addr(S) b:vec(4,b32)', sm90],
  ],
  movmatrix: [['sync aligned m8n8 trans b16', 'd:b32 a:b32', { ptx: '7.8', target: 'sm_80' }]],

  shfl: [
    ['sync up|down|bfly|idx b32', 'd:b32 a:b32 b:u32 c:u32 m:b32', v70],
    ['sync up|down|bfly|idx b32', 'd:pair(b32,pred) a:b32 b:u32 c:u32 m:b32', v70],
  ],
  vote: [
    ['sync all|any|uni pred', 'd:pred a:npred m:b32', v70],
    ['sync ballot b32', 'd:b32 a:npred m:b32', v70],
  ],
  match: [
    ['any sync T=b32|b64', 'd:b32 a:T m:b32', v70],
    ['all sync T=b32|b64', 'd:b32 a:T m:b32', v70],
    ['all sync T=b32|b64', 'd:pair(b32,pred) a:T m:b32', v70],
  ],
  redux: [
    ['sync add|min|max T=u32|s32', 'd:T a:T m:b32', { ptx: '7.0', target: 'sm_80' }],
    ['sync and|or|xor b32', 'd:b32 a:b32 m:b32', { ptx: '7.0', target: 'sm_80' }],
  ],
  activemask: [['b32', 'd:b32']],
} as const satisfies InstructionTable;
