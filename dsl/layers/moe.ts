// DeepSeek's mixture of experts: shared experts that see every token, and routed ones that see the tokens they are
// chosen for. The routing weight is applied in SwiGLU, before the down projection, as DeepSeek's training kernels do;
// the balance bias takes part in the choice only, never in the weight.
import type { Dim, Tensor } from '../axes.ts';
import { buffer } from '../ops/contract.ts';
import { sigmoid, add, cast } from '../ops/pointwise.ts';
import { softmax } from '../ops/reduce.ts';
import { combineTokens, groupedLinear, groupTokens, route, slotWeights } from '../ops/routing.ts';
import { attempt, mistake, tensorArg } from '../trace.ts';
import { describe } from '../words.ts';
import { linear } from './linear.ts';
import { siluMul, swiglu } from './mlp.ts';

/** What turns the router's logits, f32[tokens, experts], into scores of the same shape. */
export type ScoreFunction = 'sigmoid' | 'softmax' | ((logits: Tensor) => Tensor);

export interface MoeOptions {
  readonly experts: Dim<string, 'static'>;
  /** Experts per token. */
  readonly top: number;
  /** Width of one expert. */
  readonly ff: Dim<string, 'static'>;
  /** Width of all shared experts together, as one MLP; none without it. */
  readonly shared?: Dim<string, 'static'>;
  readonly groups?: number;
  readonly topGroups?: number;
  readonly groupScore?: 'top2' | 'max';
  /** 'sigmoid' unless said otherwise. */
  readonly score?: ScoreFunction;
  /** The buffer `gate.e_score_correction_bias`; on with sigmoid scores unless said otherwise. */
  readonly bias?: boolean;
  /** norm_topk_prob */
  readonly normalize?: boolean;
  /** routed_scaling_factor */
  readonly scale?: number;
  readonly name?: string;
}

/** Routed and shared experts; the router's product, scores and choice in f32. */
export function deepseekMoe<H extends string>(
  x: Tensor<readonly ['tokens', H]>,
  options: MoeOptions,
): Tensor<['tokens', H]> {
  return attempt(
    'deepseekMoe',
    () => {
      const { experts, top, ff, shared, score = 'sigmoid', name = 'mlp' } = options;
      const { groups = 1, topGroups = groups, groupScore = 'top2', normalize = true, scale = 1 } = options;
      const hidden = tensorArg('deepseekMoe', 'x', x).dims.at(-1) as Dim<H, 'static'>;
      const logits = linear(x as Tensor, experts, `${name}.gate`, { dtype: 'f32' }) as Tensor;
      const scores = scored(score, logits);
      const bias = options.bias ?? score === 'sigmoid';
      const routing = route(scores as never, {
        top,
        groups,
        topGroups,
        groupScore,
        normalize,
        scale,
        ...(bias ? { bias: buffer(`${name}.gate.e_score_correction_bias`, [experts]) as Tensor } : {}),
      });
      const rows = groupTokens(x as never, routing);
      const expert = (w: string): string => `${name}.experts.{experts}.${w}`;
      const gate = groupedLinear(rows as never, routing, ff, expert('gate_proj')) as Tensor;
      const up = groupedLinear(rows as never, routing, ff, expert('up_proj')) as Tensor;
      const h = siluMul(gate, up, slotWeights(routing) as never);
      const routed = combineTokens(
        groupedLinear(h as never, routing, hidden, expert('down_proj')) as never,
        routing,
      ) as Tensor;
      return (
        shared ? add(routed, swiglu(x as Tensor, shared, `${name}.shared_experts`) as Tensor) : routed
      ) as never;
    },
    () => x as never,
  );
}

function scored(score: ScoreFunction, logits: Tensor): Tensor {
  if (score === 'sigmoid') return sigmoid(logits);
  if (score === 'softmax')
    return softmax(logits, (logits as unknown as { dims: readonly Dim[] }).dims[1] as never);
  if (typeof score === 'function') return cast(score(logits), 'f32');
  mistake({
    code: 'dsl/bad-score',
    message: 'deepseekMoe: score must be sigmoid, softmax, or a function of the logits',
    label: `this is ${describe(score)}`,
    fix: `score: 'sigmoid'`,
  });
}
