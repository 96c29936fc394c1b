// The rotary embedding's settings: `rope_parameters` (transformers 5), or `rope_scaling` beside `rope_theta` (as the
// published DeepSeek configs have it). Meaning as in transformers' modeling_rope_utils: types default and yarn.
import type { Span } from '../../ir/span.ts';
import { Fields, type JsonObject, type Maybe, type Read } from './fields.ts';
import { showNode, type JsonEntry } from './json.ts';

export interface Yarn {
  readonly factor: number;
  /** Positions of the first training, before extension. */
  readonly original: number;
  readonly betaFast: number;
  readonly betaSlow: number;
  readonly mscale: number;
  readonly mscaleAllDim: number;
  /** Given outright instead of following from the mscales; null when it follows. */
  readonly attentionFactor: number | null;
}

export interface Rope {
  readonly theta: number;
  readonly yarn: Yarn | null;
}

/**
 * Reads the rope keys of a config. Reports into `config.diagnostics`; undefined when something is wrong.
 * `positions` is `max_position_embeddings`, the default of `original_max_position_embeddings`.
 */
export function readRope(config: Fields, positions: Maybe<number>): Rope | undefined {
  const scaling = config.object('rope_scaling');
  const parameters = config.object('rope_parameters');
  const theta = config.number('rope_theta', { above: 1 });
  if (scaling && parameters)
    return config.error({
      code: 'import/contradiction',
      message: 'both "rope_scaling" and "rope_parameters" are written',
      at: scaling.entry.keySpan,
      label: 'the older spelling',
      notes: [{ message: 'the newer spelling is here', at: parameters.entry.keySpan }],
      fix: 'keep one of them',
    });
  const found = scaling ?? parameters;
  if (!found) return theta && { theta: theta.value, yarn: null };
  return readParameters(config, found, theta, positions);
}

function readParameters(
  config: Fields,
  { node, entry }: { node: JsonObject; entry: JsonEntry },
  outer: Maybe<number>,
  positions: Maybe<number>,
): Rope | undefined {
  const rope = new Fields(node, config.diagnostics, entry.key, {
    rope_theta: outer?.value ?? 10000,
    beta_fast: 32,
    beta_slow: 1,
    mscale: 0,
    mscale_all_dim: 0,
    attention_factor: null,
    ...(positions ? { original_max_position_embeddings: positions.value } : {}),
  });
  const theta = rope.number('rope_theta', { above: 1 });
  if (outer?.given && theta?.given && outer.value !== theta.value)
    config.conflict(
      '"rope_theta" is written twice with different values',
      outer,
      `this is ${outer.value}`,
      theta,
      `keep the one in "${entry.key}"`,
    );
  rope.only('partial_rotary_factor', 1, 'all of qk_rope_head_dim turns');
  const type = readType(rope);
  if (type === undefined) return void rope.ignore(yarnKeys.concat(otherKeys));
  const yarn = type === 'yarn' ? readYarn(rope) : null;
  // A default rope with yarn's keys beside it: Hugging Face leaves them unread, and so do we.
  if (type === 'default') rope.ignore(yarnKeys);
  rope.warnUnknown();
  return theta && yarn !== undefined ? { theta: theta.value, yarn } : undefined;
}

const yarnKeys = [
  'factor',
  'original_max_position_embeddings',
  'beta_fast',
  'beta_slow',
  'mscale',
  'mscale_all_dim',
  'attention_factor',
  'truncate',
];
const otherKeys = ['short_factor', 'long_factor', 'low_freq_factor', 'high_freq_factor'];

function readType(rope: Fields): 'default' | 'yarn' | undefined {
  const [newer, older] = [rope.entry('rope_type'), rope.entry('type')];
  if (newer && older && showNode(newer.value) !== showNode(older.value))
    return rope.error({
      code: 'import/contradiction',
      message: `"rope_type" is ${showNode(newer.value)}, but "type" is ${showNode(older.value)}`,
      at: older.value.span,
      label: 'the older spelling of "rope_type"',
      notes: [{ message: '"rope_type" is here', at: newer.value.span }],
      fix: 'keep one of them',
    });
  if (!newer && !older) return 'default';
  const key = newer ? 'rope_type' : 'type';
  return rope.choice(key, ['default', 'yarn'], 'DeepSeek-V2 and V3 checkpoints use default or yarn')?.value;
}

function readYarn(rope: Fields): Yarn | undefined {
  const factor = rope.number('factor', { least: 1 });
  const original = rope.count('original_max_position_embeddings');
  const fast = rope.number('beta_fast', { above: 0 });
  const slow = rope.number('beta_slow', { above: 0 });
  // 0 is the same as not written: no correction by it.
  const [mscale, all] = [rope.number('mscale', { least: 0 }), rope.number('mscale_all_dim', { least: 0 })];
  const given = rope.entry('attention_factor');
  const attention: Maybe<number | null> =
    given && given.value.kind !== 'null'
      ? rope.number('attention_factor', { above: 0 })
      : nothing(rope.start);
  rope.only('truncate', true, 'the ramp is cut at whole pairs');
  if (fast && slow && fast.value <= slow.value)
    rope.conflict(
      '"beta_fast" must be above "beta_slow"',
      fast,
      `this is ${fast.value}`,
      slow,
      'the published configs have 32 and 1',
    );
  if (factor?.value === 1 && attention?.value != null && attention.value !== 1)
    rope.conflict(
      'an attention factor without stretching is not supported',
      { ...attention, value: attention.value },
      `this is ${attention.value}`,
      factor,
      'remove "attention_factor"',
    );
  if (!factor || !original || !fast || !slow || !mscale || !all || !attention) return undefined;
  return {
    factor: factor.value,
    original: original.value,
    betaFast: fast.value,
    betaSlow: slow.value,
    mscale: mscale.value,
    mscaleAllDim: all.value,
    attentionFactor: attention.value,
  };
}

const nothing = (at: Span): Read<null> => ({ key: 'attention_factor', value: null, at, given: false });
