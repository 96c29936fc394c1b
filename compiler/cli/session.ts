// What every command is handed besides its own arguments.
import type { CrashContext } from './failures.ts';
import type { Terminal } from './terminal.ts';

export interface Session {
  readonly terminal: Terminal;
  /** Filled by commands as they go; read when they crash. */
  readonly crash: CrashContext;
}
