// What a model file imports as 'dsvc'.
export type { Axes, Dim, Product, Slots, Sum, Tensor } from './axes.ts';
export { cached, dim, keys, option, outputs, product, sequences, sum, tokens } from './dims.ts';
export { block, type Block } from './block.ts';
export { each, range, repeat, type Each, type Range } from './repeat.ts';
export { model, perLayer, type LayerCaches, type Model, type ModelOptions } from './model.ts';
export {
  dualPipe,
  dualPipeV,
  oneForwardOneBackward,
  optimizer,
  parallel,
  precision,
  zb1p,
  type Deployment,
  type Optimizer,
  type Parallel,
  type Pipeline,
  type Precision,
} from './deploy.ts';
export {
  abs,
  add,
  and,
  cast,
  constant,
  cos,
  div,
  eq,
  exp,
  exp2,
  floor,
  ge,
  gt,
  iota,
  le,
  log,
  log2,
  lt,
  max,
  min,
  mul,
  ne,
  neg,
  not,
  or,
  pow,
  reciprocal,
  rsqrt,
  select,
  sigmoid,
  silu,
  sin,
  sqrt,
  sub,
  table,
  tanh,
  type DTypeName,
} from './ops/pointwise.ts';
export {
  broadcast,
  concat,
  gather,
  merge,
  pad,
  rename,
  slice,
  split,
  transpose,
  unmerge,
} from './ops/shape.ts';
export { argmax, cumsum, maxOver, meanOver, minOver, softmax, sumOver, topK } from './ops/reduce.ts';
export { buffer, einsum, parameter, type WeightOptions } from './ops/contract.ts';
export {
  attention,
  outputsOf,
  positionOf,
  sequenceOf,
  visible,
  type Positions,
  type Visibility,
} from './ops/positions.ts';
export {
  combineTokens,
  groupedLinear,
  groupTokens,
  route,
  routingIndices,
  routingWeights,
  slotWeights,
  type RouteOptions,
  type Routing,
} from './ops/routing.ts';
export {
  cache,
  cacheAppend,
  cacheRead,
  remember,
  type Cache,
  type CacheDeclaration,
  type Caches,
} from './ops/state.ts';
export { dequantize, quantize, type QuantizeOptions } from './ops/scaling.ts';
export { embedding, head, linear, rmsNorm, type LinearOptions } from './layers/linear.ts';
export { siluMul, swiglu } from './layers/mlp.ts';
export { attentionScale, rope, type RopeConfig, type YarnConfig } from './layers/rope.ts';
export { gqa, mla, type GqaOptions, type MlaOptions } from './layers/attention.ts';
export { deepseekMoe, type MoeOptions, type ScoreFunction } from './layers/moe.ts';
