// `dsvc import`: a Hugging Face config.json becomes a model file.
import type { Diagnostic } from '../../ir/diagnostics.ts';
import { readConfig } from './config.ts';
import { writeModel, type WriteOptions } from './write.ts';

export { readConfig, type ModelConfig } from './config.ts';
export { writeModel, type WriteOptions } from './write.ts';

export interface Imported {
  /** Text of the model file; null when there is an error among the diagnostics. */
  readonly source: string | null;
  readonly diagnostics: readonly Diagnostic[];
}

/**
 * Writes a model file for the text of a config.json (model_type deepseek_v2 or deepseek_v3). `file` is the config's
 * name in diagnostics. Mistakes come back as diagnostics with codes `import/…`; no text makes it throw.
 */
export function importConfig(
  jsonText: string,
  file: string,
  options: Omit<WriteOptions, 'from'> = {},
): Imported {
  const { config, diagnostics } = readConfig(jsonText, file);
  return { source: config && writeModel(config, { ...options, from: file }), diagnostics };
}
