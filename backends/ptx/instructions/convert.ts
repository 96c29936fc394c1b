// Moves and conversions. For cvt of two f32 into a packed pair the FIRST source becomes the UPPER half:
// element 0 is the second source.
import type { InstructionTable } from '../form.ts';

const anyInt = 'u8|s8|u16|s16|u32|s32|u64|s64';
const toInt = 'rni|rzi|rmi|rpi';
const rounding = 'rn|rz|rm|rp';
const oneToOne = 'd:loose(D) a:loose(S)';

const v70 = { ptx: '7.0', target: 'sm_80' } as const;
const v78 = { ptx: '7.8', target: 'sm_90' } as const;
const fp8 = { ptx: '8.1', target: 'sm_89' } as const;

export const convert = {
  mov: [
    // `any` also takes special registers and, for 32 and 64 bits, the address of a variable.
    ['T=pred|b16|u16|s16|b32|u32|s32|f32|b64|u64|s64|f64', 'd:T a:any(T)'],
    ['b32', 'd:b32 a:pack(2,b16)'],
    ['b64', 'd:b64 a:pack(2,b32)'],
    ['b64', 'd:b64 a:pack(4,b16)'],
    ['b32', 'd:pack(2,b16) a:reg(b32)'],
    ['b64', 'd:pack(2,b32) a:reg(b64)'],
    ['b64', 'd:pack(4,b16) a:reg(b64)'],
  ],
  cvt: [
    [`D=${anyInt} S=${anyInt}`, oneToOne],
    // Saturation is legal only where the source's range exceeds the destination's.
    ['sat D=s8 S=u8', oneToOne],
    ['sat D=u8|u16|u32|u64 S=s8', oneToOne],
    ['sat D=u8|s8|s16 S=u16', oneToOne],
    ['sat D=u8|s8|u16|u32|u64 S=s16', oneToOne],
    ['sat D=u8|s8|u16|s16|s32 S=u32', oneToOne],
    ['sat D=u8|s8|u16|s16|u32|u64 S=s32', oneToOne],
    ['sat D=u8|s8|u16|s16|u32|s32|s64 S=u64', oneToOne],
    ['sat D=u8|s8|u16|s16|u32|s32|u64 S=s64', oneToOne],
    [`${toInt} ftz? sat? D=${anyInt} S=f32`, oneToOne],
    [`${toInt} D=${anyInt} S=f64`, oneToOne],
    [`${toInt} D=${anyInt} S=f16`, 'd:loose(D) a:S'],
    [`${toInt} D=u16|s16|u32|s32|u64|s64 S=bf16`, 'd:loose(D) a:S', v78],
    [`${rounding} D=f32|f64 S=${anyInt}`, oneToOne],
    [`${rounding} D=f16 S=${anyInt}`, 'd:D a:loose(S)'],
    [`${rounding} D=bf16 S=u16|s16|u32|s32|u64|s64`, 'd:D a:loose(S)', v78],
    [`${rounding} ftz? sat? D=f32 S=f64`, oneToOne],
    ['ftz? sat? D=f64 S=f32', oneToOne],
    [`${toInt} ftz? sat? D=f32 S=f32`, oneToOne],
    ['ftz? sat? D=f32 S=f16', 'd:D a:S'],
    ['D=f32 S=bf16', 'd:D a:S', { ptx: '7.1', target: 'sm_80' }],
    ['rn|rz|rm|rp ftz? sat? D=f16 S=f32', 'd:D a:S'],
    ['rn|rz relu? D=bf16 S=f32', 'd:D a:S', v70],
    ['rn|rz relu? D=f16x2|bf16x2 S=f32', 'd:D a:S b:S', v70],
    ['rna D=tf32 S=f32', 'd:D a:S', v70],
    ['rn|rz relu? D=tf32 S=f32', 'd:D a:S', v78],
    ['rn satfinite relu? D=e4m3x2|e5m2x2 S=f32', 'd:D a:S b:S', fp8],
    ['rn satfinite relu? D=e4m3x2|e5m2x2 S=f16x2', 'd:D a:S', fp8],
    ['rn relu? D=f16x2 S=e4m3x2|e5m2x2', 'd:D a:S', fp8],
  ],
  cvta: [
    ['A=global|shared|shared::cta|shared::cluster|local|const|param T=u64', 'd:T a:any(T)'],
    ['to A=global|shared|shared::cta|shared::cluster|local|const|param T=u64', 'd:T a:T'],
  ],
} as const satisfies InstructionTable;
