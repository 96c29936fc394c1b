// The backends by name, loaded when asked for.
import type { Target } from '../../ir/target.ts';
import { checkNames } from './names.ts';

const loaders: Readonly<Record<string, () => Promise<Target>>> = {
  h800: async () => (await import('../../backends/h800/target.ts')).h800Target,
};

export const targetNames: readonly string[] = Object.keys(loaders);

/** Throws UsageError `usage/unknown-target`. */
export async function loadTarget(name: string): Promise<Target> {
  checkNames('target', 'targets', [name], targetNames);
  return loaders[name]();
}
