// The one table of instructions: builder, printer checks and parser all read it. Each row is data, a form as described
// in form.ts; a new instruction is a new row, and the table test assembles every row with ptxas.
import { arithmetic } from './instructions/arithmetic.ts';
import { async } from './instructions/async.ts';
import { control } from './instructions/control.ts';
import { convert } from './instructions/convert.ts';
import { memory } from './instructions/memory.ts';

export const instructions = { ...arithmetic, ...convert, ...memory, ...control, ...async } as const;
export type Opcode = keyof typeof instructions;
