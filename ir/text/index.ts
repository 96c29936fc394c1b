// The text form of the IR: both ways. The parser brings chevrotain along; who only prints imports printer.ts, and who
// may print or parse imports this module when it comes to that.
export { parseModule, type ParseResult } from './parser.ts';
export { printFunction, printModule, printOp, type PrintOptions } from './printer.ts';
export { printSchedule, printScheduleOp } from './schedule-printer.ts';
