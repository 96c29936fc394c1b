// Integer, float, logic and comparison instructions. How to read a form: ../form.ts.
import type { InstructionTable } from '../form.ts';

const ints = 'u16|s16|u32|s32|u64|s64';
const rounding = 'rn|rz|rm|rp';
const threeOf = 'd:T a:T b:T';
const fourOf = 'd:T a:T b:T c:T';
const twoOf = 'd:T a:T';

const v75 = { ptx: '7.5', target: 'sm_80' } as const;
const v78 = { ptx: '7.8', target: 'sm_90' } as const;
const v70 = { ptx: '7.0', target: 'sm_80' } as const;

export const arithmetic = {
  add: [
    [`T=${ints}`, threeOf],
    ['sat T=s32', threeOf],
    [`${rounding}? ftz? sat? T=f32`, threeOf],
    [`${rounding}? T=f64`, threeOf],
    ['rn? ftz? sat? T=f16|f16x2', threeOf],
    ['rn? T=bf16|bf16x2', threeOf, v78],
    ['cc T=u32|s32|u64|s64', threeOf],
  ],
  addc: [['cc? T=u32|s32|u64|s64', threeOf]],
  sub: [
    [`T=${ints}`, threeOf],
    ['sat T=s32', threeOf],
    [`${rounding}? ftz? sat? T=f32`, threeOf],
    [`${rounding}? T=f64`, threeOf],
    ['rn? ftz? sat? T=f16|f16x2', threeOf],
    ['rn? T=bf16|bf16x2', threeOf, v78],
  ],
  mul: [
    [`lo|hi T=${ints}`, threeOf],
    ['wide T=u16|s16|u32|s32', 'd:wide(T) a:T b:T'],
    [`${rounding}? ftz? sat? T=f32`, threeOf],
    [`${rounding}? T=f64`, threeOf],
    ['rn? ftz? sat? T=f16|f16x2', threeOf],
    ['rn? T=bf16|bf16x2', threeOf, v78],
  ],
  mad: [
    [`lo|hi T=${ints}`, fourOf],
    ['hi sat T=s32', fourOf],
    ['wide T=u16|s16|u32|s32', 'd:wide(T) a:T b:T c:wide(T)'],
  ],
  fma: [
    [`${rounding} ftz? sat? T=f32`, fourOf],
    [`${rounding} T=f64`, fourOf],
    ['rn ftz? sat? T=f16|f16x2', fourOf],
    ['rn ftz? relu T=f16|f16x2', fourOf, v70],
    ['rn relu? T=bf16|bf16x2', fourOf, v70],
  ],
  div: [
    [`T=${ints}`, threeOf],
    ['approx|full ftz? T=f32', threeOf],
    [`${rounding} ftz? T=f32`, threeOf],
    [`${rounding} T=f64`, threeOf],
  ],
  rem: [[`T=${ints}`, threeOf]],
  abs: [
    ['T=s16|s32|s64|f64', twoOf],
    ['ftz? T=f32|f16|f16x2', twoOf],
    ['T=bf16|bf16x2', twoOf, v70],
  ],
  neg: [
    ['T=s16|s32|s64|f64', twoOf],
    ['ftz? T=f32|f16|f16x2', twoOf],
    ['T=bf16|bf16x2', twoOf, v70],
  ],
  min: [
    [`T=${ints}`, threeOf],
    ['relu T=s32', threeOf, { ptx: '8.0', target: 'sm_90' }],
    ['ftz? T=f32', threeOf],
    ['ftz? NaN T=f32', threeOf, v75],
    ['ftz? NaN? xorsign abs T=f32', threeOf, v75],
    ['T=f64', threeOf],
    ['ftz? NaN? T=f16|f16x2', threeOf, v70],
    ['NaN? T=bf16|bf16x2', threeOf, v70],
  ],
  max: [
    [`T=${ints}`, threeOf],
    ['relu T=s32', threeOf, { ptx: '8.0', target: 'sm_90' }],
    ['ftz? T=f32', threeOf],
    ['ftz? NaN T=f32', threeOf, v75],
    ['ftz? NaN? xorsign abs T=f32', threeOf, v75],
    ['T=f64', threeOf],
    ['ftz? NaN? T=f16|f16x2', threeOf, v70],
    ['NaN? T=bf16|bf16x2', threeOf, v70],
  ],
  rcp: [
    ['approx ftz? T=f32', twoOf],
    [`${rounding} ftz? T=f32`, twoOf],
    [`${rounding} T=f64`, twoOf],
  ],
  sqrt: [
    ['approx ftz? T=f32', twoOf],
    [`${rounding} ftz? T=f32`, twoOf],
    [`${rounding} T=f64`, twoOf],
  ],
  rsqrt: [
    ['approx ftz? T=f32', twoOf],
    ['approx T=f64', twoOf],
  ],
  ex2: [
    ['approx ftz? T=f32', twoOf],
    ['approx T=f16|f16x2', twoOf, v70],
    ['approx ftz T=bf16|bf16x2', twoOf, v78],
  ],
  lg2: [['approx ftz? T=f32', twoOf]],
  sin: [['approx ftz? T=f32', twoOf]],
  cos: [['approx ftz? T=f32', twoOf]],
  tanh: [
    ['approx T=f32|f16|f16x2', twoOf, v70],
    ['approx T=bf16|bf16x2', twoOf, v78],
  ],
  copysign: [['T=f32|f64', threeOf]],
  testp: [['finite|infinite|number|notanumber|normal|subnormal T=f32|f64', 'd:pred a:T']],
  sad: [[`T=${ints}`, fourOf]],
  popc: [['T=b32|b64', 'd:u32 a:T']],
  clz: [['T=b32|b64', 'd:u32 a:T']],
  brev: [['T=b32|b64', twoOf]],
  bfind: [['shiftamt? T=u32|s32|u64|s64', 'd:u32 a:T']],
  bfe: [['T=u32|s32|u64|s64', 'd:T a:T b:u32 c:u32']],
  bfi: [['T=b32|b64', 'd:T a:T b:T c:u32 e:u32']],
  prmt: [['T=b32', 'd:T a:T b:T c:b32']],
  dp4a: [['u32|s32 u32|s32', 'd:b32 a:b32 b:b32 c:b32']],

  and: [['T=pred|b16|b32|b64', threeOf]],
  or: [['T=pred|b16|b32|b64', threeOf]],
  xor: [['T=pred|b16|b32|b64', threeOf]],
  not: [['T=pred|b16|b32|b64', twoOf]],
  cnot: [['T=b16|b32|b64', twoOf]],
  lop3: [['T=b32', 'd:T a:T b:T c:T e:int(0,255)']],
  shl: [['T=b16|b32|b64', 'd:T a:T b:u32']],
  shr: [['T=b16|b32|b64|u16|u32|u64|s16|s32|s64', 'd:T a:T b:u32']],
  shf: [['l|r clamp|wrap T=b32', 'd:T a:T b:T c:u32']],

  setp: [
    ['eq|ne|lt|le|gt|ge T=u16|u32|u64|s16|s32|s64', 'd:pred a:T b:T'],
    ['lo|ls|hi|hs T=u16|u32|u64', 'd:pred a:T b:T'],
    ['eq|ne T=b16|b32|b64', 'd:pred a:T b:T'],
    ['eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ftz? T=f32', 'd:pred a:T b:T'],
    ['eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan T=f64', 'd:pred a:T b:T'],
    ['eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ftz? T=f16', 'd:pred a:T b:T'],
    ['eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan T=bf16', 'd:pred a:T b:T', v78],
    // Both outcomes at once: `setp.lt.s32 p|q, a, b`.
    ['eq|ne|lt|le|gt|ge T=u16|u32|u64|s16|s32|s64', 'd:pair(pred,pred) a:T b:T'],
    // Combined with a predicate: p = (a < b) and c.
    ['eq|ne|lt|le|gt|ge and|or|xor T=u16|u32|u64|s16|s32|s64', 'd:pred a:T b:T c:npred'],
    ['lo|ls|hi|hs and|or|xor T=u16|u32|u64', 'd:pred a:T b:T c:npred'],
    ['eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan and|or|xor ftz? T=f32', 'd:pred a:T b:T c:npred'],
  ],
  set: [
    ['eq|ne|lt|le|gt|ge D=u32|s32|f32 T=u16|u32|u64|s16|s32|s64', 'd:D a:T b:T'],
    ['eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ftz? D=u32|s32|f32 T=f32', 'd:D a:T b:T'],
  ],
  selp: [['T=b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64', 'd:T a:T b:T c:pred']],
  slct: [
    ['T=b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64 s32', 'd:T a:T b:T c:s32'],
    ['ftz? T=b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64 f32', 'd:T a:T b:T c:f32'],
  ],
} as const satisfies InstructionTable;
