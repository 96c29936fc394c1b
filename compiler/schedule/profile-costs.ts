// Costs of phases from a recorded training step: the summary of DeepSeek's published profile
// (test/golden/profile_data_summary.json).
import type { PhaseCost, PhaseCosts } from './phase-costs.ts';

/** What is read of the summary. One instance is one phase of one layer, in the order in which layers ran. */
export interface ProfileSummary {
  readonly source: string;
  readonly device: string;
  readonly phase_instances: readonly {
    readonly layer: number;
    readonly phase: string;
    readonly gpu_start_us: number;
    readonly gpu_end_us: number;
    readonly compute_stream_busy_us: number;
    readonly comm_stream_busy_us: number;
    readonly kernels: number;
  }[];
}

/**
 * Busy times and kernel counts of every phase and layer. The launch gap is what phases of the compute stream last longer
 * than their kernels run, per kernel; on the communication stream that difference is waiting for other ranks. The recorded
 * step has no pipeline transfers: they cost nothing here.
 */
export function costsFromProfile(profile: ProfileSummary): PhaseCosts {
  const phases: Record<string, { busy: number[]; kernels: number[] }> = {};
  let gaps = 0;
  let kernels = 0;
  for (const p of profile.phase_instances) {
    const cost = (phases[p.phase.replace(/^attn/, 'attention')] ??= { busy: [], kernels: [] });
    cost.busy[p.layer] = p.compute_stream_busy_us + p.comm_stream_busy_us;
    cost.kernels[p.layer] = p.kernels;
    if (p.comm_stream_busy_us > 0) continue;
    gaps += p.gpu_end_us - p.gpu_start_us - p.compute_stream_busy_us;
    kernels += p.kernels;
  }
  const plain = (list: readonly number[]): number | readonly number[] =>
    list.every((v) => v === list[0]) ? list[0] : list;
  return {
    unit: 'us',
    source: `${profile.source}; ${profile.device}`,
    launchGap: gaps / kernels,
    transfer: 0,
    phases: Object.fromEntries(
      Object.entries(phases).map(([name, c]): [string, PhaseCost] => [
        name,
        { busy: plain(c.busy), kernels: plain(c.kernels) },
      ]),
    ),
  };
}
