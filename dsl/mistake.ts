// Mistakes found inside an op of the library, on their way to becoming diagnostics at the author's call.
import type { Span } from '../ir/span.ts';

/** A mistake inside an op of the library: becomes a diagnostic at the author's call. */
export class Mistake extends Error {
  readonly code: string;
  readonly label: string | undefined;
  readonly fix: string | undefined;
  readonly from: readonly { readonly what: string; readonly at: Span }[];
  constructor(parts: {
    code: string;
    message: string;
    label?: string;
    fix?: string;
    from?: Mistake['from'];
  }) {
    super(parts.message);
    this.name = 'Mistake';
    this.code = parts.code;
    this.label = parts.label;
    this.fix = parts.fix;
    this.from = parts.from ?? [];
  }
}

export function mistake(parts: ConstructorParameters<typeof Mistake>[0]): never {
  throw new Mistake(parts);
}
