// The declarations at the top of an imported model: dims and options by their role, the rotation, the cache. A part
// that a config leaves out has no declaration.
import { yarnScale } from '../layers/rope.ts';
import type { ModelConfig } from './config.ts';
import type { Experts } from './experts.ts';
import type { Constant } from './file.ts';
import type { Rope, Yarn } from './rope.ts';

/** A number as prettier writes it. */
export const numeral = (n: number): string => String(n).replace('e+', 'e');

const dim = (name: string, axis: string, size: number, doc?: string): Constant => ({
  name,
  value: `dim('${axis}', ${numeral(size)})`,
  ...(doc === undefined ? {} : { doc }),
});

const option = (name: string, setting: string, value: number, doc?: string): Constant => ({
  name,
  value: `option('${setting}', ${numeral(value)})`,
  ...(doc === undefined ? {} : { doc }),
});

/** All declarations in front of the blocks, in reading order. */
export function declarations(c: ModelConfig): readonly Constant[] {
  return [
    ...depth(c),
    { ...dim('hidden', 'hidden', c.hidden), apart: true },
    dim('vocab', 'vocab', c.vocab),
    ...(c.denseLayers > 0 ? [dim('denseWidth', 'dense_ff', c.denseWidth)] : []),
    ...attentionSizes(c),
    ...expertSizes(c),
    {
      name: 'rotary',
      value: rotary(c.rotary),
      apart: true,
      ...(c.rotary.yarn ? { doc: yarnDoc(c.rotary.yarn) } : {}),
    },
    ...(c.epsilon === normEpsilon
      ? []
      : [
          {
            name: 'epsilon',
            value: numeral(c.epsilon),
            doc: 'Of the block norms and the last norm; norms of latents have 1e-6.',
          },
        ]),
    {
      name: 'latentCache',
      value: "cache('latent_cache', { latent: kvRank, rope: ropeDim })",
      doc: 'Per token and layer: the normed latent, and the rotated key that all heads share.',
      apart: true,
    },
  ];
}

/** What `rmsNorm` and `head` take without being told. */
export const normEpsilon = 1e-6;

function depth(c: ModelConfig): readonly Constant[] {
  const layers = option('layers', 'layers', c.layers);
  if (c.denseLayers === 0 || c.experts === null) return [layers];
  return [layers, option('denseLayers', 'dense_layers', c.denseLayers, 'The first layers have a dense MLP.')];
}

function attentionSizes(c: ModelConfig): readonly Constant[] {
  return [
    { ...dim('heads', 'heads', c.heads), apart: true },
    dim('nope', 'nope', c.nope, 'Per head: queries and keys without position, with position, and values.'),
    dim('ropeDim', 'rope', c.rope),
    dim('value', 'v', c.valueSize),
    ...(c.queryRank === null ? [] : [dim('qRank', 'q_rank', c.queryRank)]),
    dim('kvRank', 'kv_rank', c.keyRank),
    { name: 'qk', value: "sum('qk', nope, ropeDim)" },
    { name: 'nopeAndValue', value: "sum('nope+v', nope, value)" },
    { name: 'latentAndRope', value: "sum('kv_rank+rope', kvRank, ropeDim)" },
  ];
}

function expertSizes({ experts: e }: ModelConfig): readonly Constant[] {
  if (e === null) return [];
  return [
    { ...dim('experts', 'experts', e.count), apart: true },
    option('top', 'experts_per_token', e.top),
    ...(e.groups > 1
      ? [
          option('groups', 'expert_groups', e.groups, 'A token takes experts from its best groups only.'),
          option('topGroups', 'top_groups', e.topGroups),
        ]
      : []),
    ...(e.scale === 1 ? [] : [option('routeScale', 'route_scale', e.scale)]),
    dim('expertWidth', 'expert_ff', e.width),
    ...(e.shared > 0 ? [sharedWidth(e)] : []),
  ];
}

const sharedWidth = ({ shared, width }: Experts): Constant =>
  dim(
    'sharedWidth',
    'shared_ff',
    shared * width,
    shared > 1 ? `${shared} experts see every token; the checkpoint has them as one MLP.` : undefined,
  );

const yarnDoc = ({ factor, original }: Yarn): string =>
  `Rotary embedding; YaRN stretches the ${original} positions of the first training ${numeral(factor)} times.`;

function rotary({ theta, yarn }: Rope): string {
  if (!yarn) return `{ theta: ${numeral(theta)} }`;
  const fields = {
    factor: yarn.factor,
    original: yarn.original,
    betaFast: yarn.betaFast,
    betaSlow: yarn.betaSlow,
    mscale: effectiveMscale(yarn),
    mscaleAllDim: yarn.mscaleAllDim,
  };
  const inner = Object.entries(fields).map(([key, n]) => `${key}: ${numeral(n)}`);
  const line = `  yarn: { ${inner.join(', ')} },`;
  const yarnText = line.length <= 110 ? line : `  yarn: {\n${inner.map((f) => `    ${f},\n`).join('')}  },`;
  return `{\n  theta: ${numeral(theta)},\n${yarnText}\n}`;
}

/**
 * The `mscale` that gives cos and sin their factor. Hugging Face's is `attention_factor` if written, else
 * m(mscale)/m(mscale_all_dim) if both are, else m(1), with m(x) = 0.1·x·ln(factor) + 1; the DSL's is always
 * m(mscale)/m(mscaleAllDim). Scores are scaled by m(mscale_all_dim)² in both.
 */
function effectiveMscale({ factor, mscale, mscaleAllDim, attentionFactor }: Yarn): number {
  if (attentionFactor === null && mscale !== 0 && mscaleAllDim !== 0) return mscale;
  if (factor === 1) return 1;
  const wanted = attentionFactor ?? yarnScale(factor, 1);
  if (mscaleAllDim === 0 && attentionFactor === null) return 1;
  return (wanted * yarnScale(factor, mscaleAllDim) - 1) / (0.1 * Math.log(factor));
}
