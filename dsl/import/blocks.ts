// The layers of an imported model, spelled out: attention, MLP, experts, and the layer around them. Weight names are
// the checkpoint's, relative to each block; what a config leaves out is not there.
import type { WriterFunction } from 'ts-morph';
import type { ModelConfig } from './config.ts';
import type { Experts } from './experts.ts';
import type { Constant } from './file.ts';
import { normEpsilon } from './sizes.ts';

/** `block('name', (parameters) => { statements })`, with a prefix for its weights when that is not the name. */
function block(
  name: string,
  parameters: string,
  statements: readonly string[],
  prefix?: string,
): WriterFunction {
  return (writer) => {
    const body = (): void => {
      writer.write(`(${parameters}) => `).inlineBlock(() => {
        for (const s of statements) writer.writeLine(s);
      });
    };
    writer.write('block(');
    if (prefix === undefined) {
      writer.write(`'${name}', `);
      body();
    } else {
      writer.newLine().indent(() => {
        writer.writeLine(`'${name}',`);
        body();
        writer.write(',').newLine();
        writer.writeLine(`{ prefix: '${prefix}' },`);
      });
    }
    writer.write(')');
  };
}

/** `{ epsilon }` when the norms of blocks do not have the usual one. */
export const norm = (c: ModelConfig, of: string, name: string): string =>
  c.epsilon === normEpsilon ? `rmsNorm(${of}, '${name}')` : `rmsNorm(${of}, '${name}', { epsilon })`;

const stateful = 'x: Hidden, at: Positions, cache: LatentCache';

/** Blocks in the order of use: callees before callers. */
export function blocks(c: ModelConfig): readonly Constant[] {
  const dense = c.denseLayers > 0;
  return [
    {
      name: 'selfAttention',
      doc: 'Multi-head latent attention in its training form; the compiler derives the absorbed form that decoding uses.',
      value: block('self_attn', stateful, attention(c)),
    },
    ...(c.experts ? [mixture(c.experts)] : []),
    ...(dense ? [layer(c, 'denseLayer', 'dense_layer', "swiglu(normed, denseWidth, 'mlp')")] : []),
    ...(c.experts ? [layer(c, 'moeLayer', 'moe_layer', 'mixture(normed)')] : []),
  ].map((b) => ({ ...b, apart: true }));
}

function attention(c: ModelConfig): readonly string[] {
  const query =
    c.queryRank === null
      ? ["const [qNope, qRope] = split(linear(x, [heads, qk], 'q_proj'), qk);"]
      : [
          "const qLatent = rmsNorm(linear(x, qRank, 'q_a_proj'), 'q_a_layernorm');",
          "const [qNope, qRope] = split(linear(qLatent, [heads, qk], 'q_b_proj'), qk);",
        ];
  return [
    ...query,
    'const q = concat([qNope, rope(qRope, at, rotary)], qk);',
    '',
    "const [kvLatent, kRope] = split(linear(x, latentAndRope, 'kv_a_proj_with_mqa'), latentAndRope);",
    "const latent = rmsNorm(kvLatent, 'kv_a_layernorm');",
    'const seen = remember(cache, { latent, rope: rope(kRope, at, rotary) }, at);',
    "const [kNope, v] = split(linear(seen.latent, [heads, nopeAndValue], 'kv_b_proj'), nopeAndValue);",
    'const k = concat([kNope, broadcast(seen.rope, [keys, heads, ropeDim])], qk);',
    '',
    'const o = attention({ q, k, v, at, scale: attentionScale(qk, rotary) });',
    "return linear(o, hidden, 'o_proj', { over: [heads, value] });",
  ];
}

function mixture(e: Experts): Constant {
  const expert = (weight: string): string => `'experts.{experts}.${weight}'`;
  const logits = "linear(x, experts, 'gate', { dtype: 'f32' })";
  return {
    name: 'mixture',
    doc: mixtureDoc(e),
    value: block(
      'mixture',
      'x: Hidden',
      [
        e.scoring === 'sigmoid'
          ? `const scores = sigmoid(${logits});`
          : `const scores = softmax(${logits}, experts);`,
        ...(e.bias ? ["const bias = buffer('gate.e_score_correction_bias', [experts]);"] : []),
        `const routing = route(scores, ${routeOptions(e)});`,
        '',
        'const rows = groupTokens(x, routing);',
        `const gate = groupedLinear(rows, routing, expertWidth, ${expert('gate_proj')});`,
        `const up = groupedLinear(rows, routing, expertWidth, ${expert('up_proj')});`,
        '// The routing weight goes in before the down projection, so that the sum over experts needs none.',
        'const h = siluMul(gate, up, slotWeights(routing));',
        `const down = groupedLinear(h, routing, hidden, ${expert('down_proj')});`,
        ...(e.shared > 0
          ? ["return add(combineTokens(down, routing), swiglu(x, sharedWidth, 'shared_experts'));"]
          : ['return combineTokens(down, routing);']),
      ],
      'mlp.',
    ),
  };
}

/** Only what differs from `route`'s defaults. */
function routeOptions(e: Experts): string {
  const options = [
    ...(e.bias ? ['bias'] : []),
    'top',
    ...(e.groups > 1
      ? ['groups', 'topGroups', ...(e.groupScore === 'max' ? ["groupScore: 'max'"] : [])]
      : []),
    ...(e.normalize ? [] : ['normalize: false']),
    ...(e.scale === 1 ? [] : ['scale: routeScale']),
  ];
  const line = `{ ${options.join(', ')} }`;
  return line.length <= 70 ? line : `{\n${options.map((o) => `  ${o},\n`).join('')}}`;
}

const mixtureDoc = (e: Experts): string =>
  e.bias
    ? "Routed experts; the bias takes part in the choice only, and balances the experts' loads."
    : 'Routed experts, chosen and weighed by the softmax over all.';

function layer(c: ModelConfig, name: string, blockName: string, mlp: string): Constant {
  return {
    name,
    value: block(blockName, stateful, [
      `const h = add(x, selfAttention(${norm(c, 'x', 'input_layernorm')}, at, cache));`,
      `const normed = ${norm(c, 'h', 'post_attention_layernorm')};`,
      `return add(h, ${mlp});`,
    ]),
  };
}
