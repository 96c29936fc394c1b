// Wrong config.json files.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { golden } from '../process.ts';
import type { BadInput } from './case.ts';

const good = readFileSync(join(golden, 'tiny_base/config.json'), 'utf8');

const config = (
  name: string,
  text: string | Uint8Array,
  codes: readonly string[],
  at: readonly string[],
): BadInput => ({
  name,
  files: { 'config.json': text },
  args: ['import', 'config.json', '-o', 'model.ts'],
  codes,
  exit: 1,
  at,
});

/** The good config with the value of a key replaced. */
const changed = (...changes: readonly (readonly [key: string, value: string])[]): string =>
  changes.reduce((text, [key, value]) => {
    const pattern = new RegExp(`("${key}": )[^,\\n]+`);
    if (!pattern.test(text)) throw new Error(`no ${key} in the config`);
    return text.replace(pattern, `$1${value}`);
  }, good);

export const configCases: readonly BadInput[] = [
  {
    name: 'missing config',
    args: ['import', 'config.json', '-o', 'model.ts'],
    codes: ['file/not-found'],
    exit: 1,
  },
  config('empty config', '', ['import/json'], ['config.json:1:1']),
  config(
    'broken JSON',
    '{\n "vocab_size": 256,\n "hidden_size" 128\n}',
    ['import/json'],
    ['config.json:3:16'],
  ),
  config('binary config', Uint8Array.of(0x89, 0x50, 0, 1, 2), ['file/not-text'], []),
  config('list as config', '[1, 2]', ['import/not-an-object'], ['config.json:1:1']),
  config('another model', changed(['model_type', '"llama"']), ['import/unsupported'], ['config.json:5:']),
  config('zero size', changed(['hidden_size', '0']), ['import/wrong-value'], ['config.json:10:']),
  config('negative size', changed(['kv_lora_rank', '-32']), ['import/wrong-value'], ['config.json:17:']),
  config(
    'number as text',
    changed(['num_attention_heads', '"4"']),
    ['import/wrong-type'],
    ['config.json:14:'],
  ),
  config('fraction', changed(['v_head_dim', '16.5']), ['import/wrong-value'], ['config.json:20:']),
  config('another activation', changed(['hidden_act', '"gelu"']), ['import/unsupported'], ['config.json:']),
  config(
    'more choices than experts',
    changed(['num_experts_per_tok', '9']),
    ['import/contradiction'],
    ['config.json:'],
  ),
  config('groups that do not divide', changed(['n_group', '3']), ['import/contradiction'], ['config.json:']),
  config(
    'more dense layers than layers',
    changed(['first_k_dense_replace', '4']),
    ['import/contradiction'],
    ['config.json:'],
  ),
  config(
    'several at once',
    changed(['hidden_size', '0'], ['num_attention_heads', '"4"'], ['topk_group', '5']),
    ['import/wrong-value', 'import/wrong-type', 'import/contradiction'],
    ['config.json:10:', 'config.json:14:'],
  ),
];
