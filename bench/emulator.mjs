// `npm run bench:emulator`: how fast the emulator runs, and what all checks cost. Prints figures with the machine; decides
// nothing. Seconds are processor time of the launch alone, the best of a few.
import { load, machine, root } from './load.mjs';

const { fp8Gemm, siluMul } = await load(`export * from './bench/emulator-workloads.ts';`);

const best = (run, settings, times) => {
  let least;
  for (let i = 0; i < times; i++) {
    const statistics = run(settings);
    if (!least || statistics.seconds < least.seconds) least = statistics;
  }
  return least;
};
const all = { checks: ['all'] };
const ratio = (slow, fast) => `all checks ${(slow.seconds / fast.seconds).toFixed(1)}x slower`;

console.log(machine());
const pointwise = await siluMul(root, 8192);
const [plain, checked] = [best(pointwise, {}, 5), best(pointwise, all, 2)];
const rate = ({ laneInstructions, seconds }) =>
  `${(laneInstructions / seconds / 1e6).toFixed(0)} M lane-instructions/s`;
console.log(
  `silu_mul, bf16 [8192, 2048], ${(plain.laneInstructions / 1e6).toFixed(0)} M lane-instructions, one core:`,
);
console.log(`  ${rate(plain)} without checks, ${rate(checked)} with all: ${ratio(checked, plain)}`);

const [m, n, k] = [256, 256, 7168];
for (const given of [undefined, { bm: 256, bn: 128, stages: 3 }]) {
  const { tile, run } = fp8Gemm(m, n, k, given);
  const exact = best(run, {}, 3);
  const f32 = best(run, { tensorCore: 'f32' }, 3);
  const hazards = best(run, all, 2);
  const seconds = (s) => `${s.seconds.toFixed(2)} s`;
  const whose = given ? '' : ", the compiler's choice";
  console.log(`FP8 GEMM ${m}x${n}x${k}, tiles of ${tile.bm}x${tile.bn}${whose}, one core:`);
  console.log(
    `  ${seconds(exact)} with the exact model, ${seconds(f32)} in f32, ${seconds(hazards)} exact with all checks: ${ratio(hazards, exact)}`,
  );
}
