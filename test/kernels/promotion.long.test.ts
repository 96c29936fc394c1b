// The figures of docs/EMULATOR.md are those that `npm run bench:promotion` prints.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hasNative } from '../../runtime/native.ts';
import { promotionTable } from '../support/promotion.ts';

test.skipIf(!hasNative())('what promotion is worth stands in the docs', () => {
  const text = readFileSync(join(import.meta.dirname, '../../docs/EMULATOR.md'), 'utf8');
  expect(text).toContain(promotionTable());
});
