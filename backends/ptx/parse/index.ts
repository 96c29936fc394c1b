// PTX text to a tree and back.
export { parsePtx } from './parser.ts';
export { printInstruction, printOperand, printParsed } from './print.ts';
export type * from './ast.ts';
