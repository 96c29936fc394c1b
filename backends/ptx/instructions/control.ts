// Branches, barriers, mbarriers, fences and the scheduling controls of sm_90a.
import type { InstructionTable } from '../form.ts';

const scope = 'cta|cluster|gpu|sys';
const v70 = { ptx: '7.0', target: 'sm_70' } as const;
const v71 = { ptx: '7.1', target: 'sm_80' } as const;
const v78 = { ptx: '7.8', target: 'sm_90' } as const;
const v80 = { ptx: '8.0', target: 'sm_90' } as const;
const v86 = { ptx: '8.6', target: 'sm_90' } as const;
const sm90a = { ptx: '8.0', target: 'sm_90a' } as const;
// Without a space the address would be generic, 64 bits wide: every barrier here says shared.
const own = 'shared|shared::cta b64';

export const control = {
  bra: [['uni?', 'a:label']],
  ret: [['uni?', '']],
  exit: [['', '']],
  trap: [['', '']],
  brkpt: [['', '']],
  nanosleep: [['u32', 'a:u32', { ptx: '6.3', target: 'sm_70' }]],

  bar: [
    // 16 barriers per CTA; the count is in threads, a multiple of 32.
    ['sync', 'a:u32 b:u32?'],
    ['arrive', 'a:u32 b:u32'],
    ['red popc u32', 'd:u32 a:u32 c:npred'],
    ['red and|or pred', 'd:pred a:u32 c:npred'],
    ['warp sync', 'm:b32', { ptx: '6.0', target: 'sm_70' }],
  ],
  barrier: [
    ['cta? sync aligned?', 'a:u32 b:u32?', v70],
    ['cta? arrive aligned?', 'a:u32 b:u32', v70],
    ['cluster arrive release|relaxed? aligned?', '', v80],
    ['cluster wait acquire? aligned?', '', v80],
  ],
  membar: [['cta|gl|sys', '']],
  // prettier-ignore
  fence: [
    [`sc|acq_rel? ${scope}`, '', v78],
    ['mbarrier_init release cluster', '', v80],
    ['proxy alias', '', v70],
    // Generic writes before asynchronous (TMA, wgmma) reads of the same bytes.
    ['proxy async', '', v80],
    ['proxy async global|shared::cta|shared::cluster', '', v80],
    [`proxy tensormap::generic release ${scope}`, '', { ptx: '8.3', target: 'sm_90' }],
    [`proxy tensormap::generic acquire ${scope}`, 'a:addr(generic) b:int(128,128)', { ptx: '8.3', target: 'sm_90' }],
  ],

  // prettier-ignore
  mbarrier: [
    ['init shared|shared::cta b64', 'a:addr(shared) b:u32', v70],
    ['inval shared|shared::cta b64', 'a:addr(shared)', v70],
    [`arrive ${own}`, 'd:b64 a:addr(shared)', v70],
    [`arrive ${own}`, 'd:b64 a:addr(shared) b:u32', v78],
    [`arrive ${own}`, 'd:_ a:addr(shared) b:u32?', v80],
    [`arrive release cta|cluster ${own}`, 'd:b64 a:addr(shared) b:u32?', v80],
    [`arrive relaxed cta|cluster ${own}`, 'd:b64 a:addr(shared) b:u32?', v86],
    [`arrive release cta|cluster ${own}`, 'd:_ a:addr(shared) b:u32?', v80],
    [`arrive relaxed cta|cluster ${own}`, 'd:_ a:addr(shared) b:u32?', v86],
    // A peer CTA's barrier: the address comes from mapa, and there is no state to return.
    ['arrive shared::cluster b64', 'd:_ a:addr(shared) b:u32?', v80],
    ['arrive release cluster shared::cluster b64', 'd:_ a:addr(shared) b:u32?', v80],
    ['arrive relaxed cluster shared::cluster b64', 'd:_ a:addr(shared) b:u32?', v86],
    [`arrive expect_tx ${own}`, 'd:b64 a:addr(shared) b:u32', v80],
    [`arrive expect_tx ${own}`, 'd:_ a:addr(shared) b:u32', v80],
    ['arrive expect_tx shared::cluster b64', 'd:_ a:addr(shared) b:u32', v80],
    [`arrive expect_tx release cta|cluster ${own}`, 'd:_ a:addr(shared) b:u32', v80],
    [`arrive expect_tx relaxed cta|cluster ${own}`, 'd:_ a:addr(shared) b:u32', v86],
    ['arrive expect_tx release cluster shared::cluster b64', 'd:_ a:addr(shared) b:u32', v80],
    ['arrive expect_tx relaxed cluster shared::cluster b64', 'd:_ a:addr(shared) b:u32', v86],
    [`arrive noComplete ${own}`, 'd:b64 a:addr(shared) b:u32', v70],
    [`arrive_drop ${own}`, 'd:b64 a:addr(shared)', v70],
    [`arrive_drop ${own}`, 'd:b64 a:addr(shared) b:u32', v78],
    ['expect_tx relaxed cta|cluster shared|shared::cta|shared::cluster b64', 'a:addr(shared) b:u32', v80],
    ['expect_tx shared|shared::cta|shared::cluster b64', 'a:addr(shared) b:u32', v80],
    ['complete_tx shared|shared::cta|shared::cluster b64', 'a:addr(shared) b:u32', v80],
    ['complete_tx relaxed cta|cluster shared|shared::cta|shared::cluster b64', 'a:addr(shared) b:u32', v80],
    ['test_wait shared|shared::cta b64', 'd:pred a:addr(shared) b:b64', v71],
    ['test_wait parity shared|shared::cta b64', 'd:pred a:addr(shared) b:u32', v71],
    ['test_wait acquire cta|cluster shared|shared::cta b64', 'd:pred a:addr(shared) b:b64', v80],
    ['test_wait relaxed cta|cluster shared|shared::cta b64', 'd:pred a:addr(shared) b:b64', v86],
    ['test_wait parity acquire cta|cluster shared|shared::cta b64', 'd:pred a:addr(shared) b:u32', v80],
    ['test_wait parity relaxed cta|cluster shared|shared::cta b64', 'd:pred a:addr(shared) b:u32', v86],
    ['try_wait shared|shared::cta b64', 'd:pred a:addr(shared) b:b64 c:u32?', v78],
    ['try_wait parity shared|shared::cta b64', 'd:pred a:addr(shared) b:u32 c:u32?', v78],
    ['try_wait acquire cta|cluster shared|shared::cta b64', 'd:pred a:addr(shared) b:b64 c:u32?', v80],
    ['try_wait relaxed cta|cluster shared|shared::cta b64', 'd:pred a:addr(shared) b:b64 c:u32?', v86],
    ['try_wait parity acquire cta|cluster shared|shared::cta b64', 'd:pred a:addr(shared) b:u32 c:u32?', v80],
    ['try_wait parity relaxed cta|cluster shared|shared::cta b64', 'd:pred a:addr(shared) b:u32 c:u32?', v86],
    ['pending_count b64', 'd:u32 a:b64', v70],
  ],

  elect: [['sync', 'd:sinkable(b32,pred) m:b32', v80]],
  setmaxnreg: [['inc|dec sync aligned u32', 'a:int(24,256,8)', sm90a]],
  griddepcontrol: [['launch_dependents|wait', '', v78]],
  mapa: [
    ['shared::cluster T=u32|u64', 'd:T a:any(T) b:u32', v78],
    ['u64', 'd:u64 a:u64 b:u32', v78],
  ],
  getctarank: [
    ['shared::cluster T=u32|u64', 'd:u32 a:any(T)', v78],
    ['u64', 'd:u32 a:u64', v78],
  ],
} as const satisfies InstructionTable;
