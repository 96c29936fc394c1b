// A small functional interpreter of PTX text for tests: scalar threads, global and shared memory, barriers and warp-wide
// exchanges. It says what a kernel computes on small sizes, and stops at the line that leaves its memory.
export { DeviceMemory } from './ptx-run/memory.ts';
export { runPtx, type LaunchOptions, type Order } from './ptx-run/machine.ts';
