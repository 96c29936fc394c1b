// The reference interpreter: the meaning of the language, and what drives it.
export { interpret, type InterpretOptions, type InterpretResult, type OpEvent } from './interpreter.ts';
export { cacheRows, newState, packedPositions, pageTable, stateBytes, stepPositions } from './positions.ts';
export { showValue } from './sizes.ts';
export { WeightCache, type WeightSource } from './weights.ts';
export type {
  PositionsData,
  ReferenceContext,
  RoutingData,
  RuntimeValue,
  StateData,
  TensorData,
} from './values.ts';
