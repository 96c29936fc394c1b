// A functional interpreter of PTX text for tests: scalar threads, global and shared memory, barriers, warp-wide exchanges,
// asynchronous copies with their mbarriers, and tensor-core products. It says what a kernel computes on small sizes, and
// stops at the line that leaves its memory.
export { DeviceMemory, unwritten } from './ptx-run/memory.ts';
export { runPtx, type LaunchOptions, type Order } from './ptx-run/machine.ts';
export type { TensorMap } from './ptx-run/tensor-map.ts';
