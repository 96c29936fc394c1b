// Quantisation by hand. Models need not do it: `--precision fp8` inserts it. It is here for variants with a recipe of
// their own. A scaled tensor holds codes and the scales of their tiles; only `dequantize` and products take it.
import type { Axes, Tensor } from '../axes.ts';
import { dtypeInfo } from '../../ir/formats/dtypes.ts';
import type { ScaleFormat } from '../../ir/types.ts';
import { typeOf } from '../tensor.ts';
import { attempt, mistake, tensorArg } from '../trace.ts';
import { dtypeArg, type DTypeName } from './pointwise.ts';

export interface QuantizeOptions {
  readonly dtype?: 'f8e4m3' | 'f8e5m2' | 'f12e5m6';
  /** Tile length per axis, in the order of the shape; 0 is the whole axis. [1, …, 1, 128] unless said otherwise. */
  readonly tile?: readonly number[];
  readonly scale?: ScaleFormat;
  /** Smallest amax of a tile; 1e-4 as in DeepSeek's inference kernels. Use 0 for gradients. */
  readonly floor?: number;
}

/** Codes with one scale per tile: scale = max(amax, floor)/largest, code = round(x/scale). */
export function quantize<A extends Axes>(x: Tensor<A>, options: QuantizeOptions = {}): Tensor<A> {
  return attempt(
    'quantize',
    (t) => {
      const h = tensorArg('quantize', 'x', x);
      const { dtype = 'f8e4m3', scale = 'f32', floor = 1e-4 } = options;
      const tile = options.tile ?? h.dims.map((_, i) => (i === h.dims.length - 1 ? 128 : 1));
      if (
        !(['f8e4m3', 'f8e5m2', 'f12e5m6'] as readonly string[]).includes(dtype) ||
        dtypeInfo[h.dtype].kind !== 'float'
      )
        mistake({
          code: 'dsl/wrong-dtype',
          message: `quantize turns floats into f8e4m3, f8e5m2 or f12e5m6`,
          label: `${String(h)} to ${dtype}`,
          fix: `leave dtype out for f8e4m3`,
        });
      if (tile.length !== h.dims.length || tile.some((n) => !Number.isSafeInteger(n) || n < 0))
        mistake({
          code: 'dsl/bad-tile',
          message: 'quantize needs one tile length per axis',
          label: `x is ${String(h)}, the tile is ${tile.join('x')}`,
          fix: `use 1x128 on activations, 128x128 on weights`,
        });
      const type = { ...typeOf(dtype, h.dims), scales: [{ tile, format: scale }] };
      const [value] = t.op('quantize', [h.value], { floor }, [type]);
      return t.handle(value, h.dims) as never;
    },
    () => x,
  );
}

/** The values of a scaled tensor, as a plain float. */
export function dequantize<A extends Axes>(x: Tensor<A>, dtype: DTypeName = 'activation'): Tensor<A> {
  return attempt(
    'dequantize',
    (t) => {
      const h = tensorArg('dequantize', 'x', x);
      return t.tensor('dequantize', [h], {}, dtypeArg('dequantize', t, dtype), h.dims) as never;
    },
    () => x,
  );
}
