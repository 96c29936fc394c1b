// SwiGLU: the gate, and the layer made of three linears.
import type { Axes, Dim, Tensor } from '../axes.ts';
import type { FreshOk, Init, Last } from '../axes.ts';
import { attempt, mistake, tensorArg } from '../trace.ts';
import { sameSize } from '../ops/axis.ts';
import { linear } from './linear.ts';

/** silu(gate)·up, times the row's weight (f32, one per row of the first axis) when given; in f32 inside. */
export function siluMul<A extends Axes>(
  gate: Tensor<A>,
  up: Tensor<NoInfer<A>>,
  weight?: Tensor<readonly [A[0]]>,
): Tensor<A> {
  return attempt(
    'siluMul',
    (t) => {
      const [g, u] = [tensorArg('siluMul', 'gate', gate), tensorArg('siluMul', 'up', up)];
      const w = weight === undefined ? null : tensorArg('siluMul', 'weight', weight);
      const label = `gate is ${String(g)}, up is ${String(u)}${w ? `, weight is ${String(w)}` : ''}`;
      const no = (code: string, message: string, fix: string): never =>
        mistake({ code, message: `siluMul: ${message}`, label, fix });
      if (g.axes.join() !== u.axes.join())
        no('dsl/axes-differ', 'gate and up need the same axes', 'project both to the same dims');
      for (const [i, d] of g.dims.entries()) sameSize('siluMul', d, u.dims[i]);
      if (g.dtype !== u.dtype)
        no('dsl/dtypes-differ', 'gate and up need one dtype', `cast(up, '${g.dtype}')`);
      if (w && (w.dims.length !== 1 || w.axes[0] !== g.axes[0]))
        no('dsl/axes-differ', `weight needs one number per row of '${g.axes[0]}'`, 'slotWeights(routing)');
      return t.tensor('silu_mul', w ? [g, u, w] : [g, u], {}, g.dtype, g.dims) as never;
    },
    () => gate,
  );
}

/** down(silu(gate(x))·up(x)) with `${name}.gate_proj`, `.up_proj` and `.down_proj`; the width inside is `ff`. */
export function swiglu<A extends Axes, const F extends string>(
  x: Tensor<A>,
  ff: Dim<F, 'static'> & FreshOk<'swiglu', Init<A>, Dim<F>>,
  name = 'mlp',
): Tensor<[...Init<A>, Last<A>]> {
  return attempt(
    'swiglu',
    () => {
      const back = tensorArg('swiglu', 'x', x).dims.at(-1) as Dim<Last<A>>;
      const gate = linear(x as Tensor, ff, `${name}.gate_proj`);
      const up = linear(x as Tensor, ff, `${name}.up_proj`);
      return linear(siluMul(gate, up), back, `${name}.down_proj`) as never;
    },
    () => x as never,
  );
}
