// Event-driven simulation of schedules: by operations (one cost for each chunk op) and by phases (two streams on each rank,
// costs of kernels). Both take any schedule, however it came about, and know no generator.
export { simulate, type SimulateOptions, type TransferMode } from './simulate/operations.ts';
export { simulatePair, type PairTimes } from './simulate/pair.ts';
export {
  simulatePhases,
  type PhaseEvent,
  type PhaseRankTimes,
  type SimulatePhasesOptions,
} from './simulate/phases.ts';
export type { Level, OpTime, RankTimes, Simulation } from './simulate/result.ts';
