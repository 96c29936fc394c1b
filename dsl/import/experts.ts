// The mixture of experts in a config: how many, in which groups, how a token chooses and weighs them. DeepSeek-V2 and
// V3 differ in all of it; the rules are those of transformers' modeling_deepseek_v2 and modeling_deepseek_v3.
import type { Span } from '../../ir/span.ts';
import type { Family } from './defaults.ts';
import type { Fields, Maybe } from './fields.ts';

/** The mixture of experts of one layer. */
export interface Experts {
  readonly count: number;
  /** Experts per token. */
  readonly top: number;
  /** Width of one expert. */
  readonly width: number;
  /** Experts that every token takes, merged into one MLP of width · shared; 0 for none. */
  readonly shared: number;
  readonly groups: number;
  readonly topGroups: number;
  /** `top2`: sum of a group's two best choices (V3); `max`: its best (V2). */
  readonly groupScore: 'top2' | 'max';
  readonly scoring: 'sigmoid' | 'softmax';
  /** Whether `e_score_correction_bias` is added for the choice (not for the weights). */
  readonly bias: boolean;
  /** Whether a token's weights are divided by their sum. */
  readonly normalize: boolean;
  /** Factor of the weights. */
  readonly scale: number;
}

/** The experts; null when all layers are dense, undefined when something is wrong. */
export function readExperts(
  c: Fields,
  family: Family,
  layers: Maybe<number>,
  dense: Maybe<number>,
): Experts | null | undefined {
  const counted = c.countOrNull('n_routed_experts');
  const shared =
    c.entry('n_shared_experts')?.value.kind === 'null' ? 0 : c.count('n_shared_experts', 0)?.value;
  const count: Maybe<number> =
    counted && counted.value !== null ? { ...counted, value: counted.value } : undefined;
  if (count)
    for (const alias of ['num_local_experts', 'num_experts'])
      c.mustEqual(alias, count.value, 'n_routed_experts');
  c.ignore(['num_local_experts', 'num_experts']);
  if (counted?.value === null) {
    c.ignore(expertKeys);
    if (layers && dense && dense.value < layers.value)
      c.conflict(
        'there are layers with experts, but no experts',
        counted,
        'null makes every layer dense',
        dense,
        `set "first_k_dense_replace" to ${layers.value}, or give the number of experts`,
      );
    return null;
  }
  const width = c.count('moe_intermediate_size');
  const scale = c.number('routed_scaling_factor', { above: 0 });
  const normalize = c.flag('norm_topk_prob');
  const top = c.count('num_experts_per_tok');
  const method = readMethod(c, family);
  const grouping = readGroups(c, method, count);
  if (count && top && top.value > count.value)
    c.conflict(
      'a token takes more experts than there are',
      top,
      `this is ${top.value}`,
      count,
      `use 1 to ${count.value}`,
    );
  else if (count && top && grouping && top.value > (grouping.topGroups * count.value) / grouping.groups)
    c.error({
      code: 'import/contradiction',
      message: `a token takes ${top.value} experts, but its ${grouping.topGroups} groups hold ${(grouping.topGroups * count.value) / grouping.groups}`,
      at: top.given ? top.at : count.at,
      label: `${count.value} experts in ${grouping.groups} groups`,
      fix: 'raise "topk_group" or lower "num_experts_per_tok"',
    });
  if (family === 'deepseek_v2' && normalize?.value === true) warnNormalize(c, normalize.at);
  if (!count || shared === undefined || !width || !scale || !normalize || !top || !method || !grouping)
    return undefined;
  if (layers && dense && dense.value === layers.value) return null;
  return {
    count: count.value,
    top: top.value,
    width: width.value,
    shared,
    ...grouping,
    groupScore: family === 'deepseek_v3' ? 'top2' : 'max',
    scoring: family === 'deepseek_v3' ? 'sigmoid' : 'softmax',
    bias: method === 'noaux_tc',
    // Hugging Face's V2 keeps the key only for old checkpoints and never normalises.
    normalize: family === 'deepseek_v3' && normalize.value,
    scale: scale.value,
  };
}

const expertKeys = [
  'moe_intermediate_size',
  'routed_scaling_factor',
  'norm_topk_prob',
  'num_experts_per_tok',
  'scoring_func',
  'topk_method',
  'n_group',
  'topk_group',
];

type Method = 'noaux_tc' | 'greedy' | 'group_limited_greedy';

function readMethod(c: Fields, family: Family): Method | undefined {
  const v3 = family === 'deepseek_v3';
  const name = v3 ? 'DeepSeek-V3' : 'DeepSeek-V2';
  const scoring = c.choice(
    'scoring_func',
    v3 ? ['sigmoid'] : ['softmax'],
    `${name} scores experts otherwise`,
  );
  const methods: readonly Method[] = v3 ? ['noaux_tc'] : ['greedy', 'group_limited_greedy'];
  const method = c.choice('topk_method', methods, `${name} chooses experts otherwise`);
  return scoring && method?.value;
}

function readGroups(
  c: Fields,
  method: Method | undefined,
  count: Maybe<number>,
): { groups: number; topGroups: number } | undefined {
  const grouped = method === 'noaux_tc';
  const [groups, topGroups] = ['n_group', 'topk_group'].map((key): Maybe<number | null> =>
    grouped ? c.count(key) : c.countOrNull(key),
  );
  if (!groups || !topGroups) return undefined;
  if (groups.value !== null && topGroups.value !== null && topGroups.value > groups.value)
    return void c.conflict(
      'a token takes experts from more groups than there are',
      topGroups,
      `this is ${topGroups.value}`,
      groups,
      `use 1 to ${groups.value}`,
    );
  if (count && groups.value !== null && count.value % groups.value !== 0)
    return void c.conflict(
      'the experts do not fall into equal groups',
      groups,
      `${count.value} experts are not divisible by ${groups.value}`,
      count,
      'use a divisor of the number of experts',
    );
  if (method === 'greedy') return { groups: 1, topGroups: 1 };
  if (groups.value === null || topGroups.value === null) {
    if (method !== 'group_limited_greedy')
      return groups.value === null ? { groups: 1, topGroups: 1 } : undefined;
    const missing = groups.value === null ? groups : topGroups;
    return c.error({
      code: 'import/missing-key',
      message: `"topk_method" is "group_limited_greedy", which needs "${missing.key}"`,
      at: missing.at,
      label: 'no number of groups',
      fix: 'DeepSeek-V2 has 8 groups and takes 3; DeepSeek-V2-Lite has "topk_method": "greedy"',
    });
  }
  // V3 scores a group by the sum of its two best experts.
  if (method === 'noaux_tc' && groups.value > 1 && count && count.value / groups.value < 2)
    return void c.conflict(
      'groups of one expert have no two best',
      groups,
      `${count.value} experts in ${groups.value} groups`,
      count,
      `use at most ${Math.max(1, Math.floor(count.value / 2))} groups`,
    );
  return { groups: groups.value, topGroups: topGroups.value };
}

function warnNormalize(c: Fields, at: Span): void {
  c.warn({
    code: 'import/ignored-value',
    message: '"norm_topk_prob" is true, but weights are not normalised in DeepSeek-V2',
    at,
    label: 'read as Hugging Face reads it: without effect',
    notes: [
      {
        message: "DeepSeek's own modeling_deepseek.py normalises then, and leaves routed_scaling_factor out",
      },
    ],
    fix: 'if the model was trained so, write normalize: true and scale: 1 in the model file',
  });
}
