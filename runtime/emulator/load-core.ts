// The emulator's core, loaded when first asked for.
import { loadNative } from '../native.ts';
import type { Core } from './device.ts';

/** Throws what native.ts says is missing. */
export const loadCore = (): Core => loadNative() as unknown as Core;
