// Counting loops for writers that spell their own instructions.
import type { Kernel } from '../../ptx/builder.ts';
import type { Reg } from '../../ptx/operands.ts';

/** for (i = first; i < end; i += step) body(i), unsigned. `first` is copied, so it may be used again. */
export function forEach(
  k: Kernel,
  hint: string,
  first: Reg<'u32'> | number,
  end: Reg<'u32'> | number,
  step: Reg<'u32'> | number,
  body: (i: Reg<'u32'>) => void,
): void {
  const i = k.reg('u32');
  k.mov.u32(i, first);
  k.loop(hint, ({ done }) => {
    const out = k.reg('pred');
    k.setp.ge.u32(out, i, end);
    k.when(out, () => k.bra(done));
    body(i);
    k.add.u32(i, i, step);
  });
}
