// What every command is handed besides its own arguments.
import type { CrashContext } from './failures.ts';
import type { Terminal } from './terminal.ts';

export interface Session {
  readonly terminal: Terminal;
  /** Filled by commands as they go; read when they crash. */
  readonly crash: CrashContext;
}

/** A command's exit code; nothing means 0, or 1 when it reported errors. */
export type Outcome = Promise<number | void>;

/** What a command does, with what commander makes of its arguments and flags. */
export type Handler = (session: Session, ...args: never[]) => Outcome;

/** Makes a commander action of a handler that is loaded when its command runs. */
export type Act = (load: () => Promise<Handler>) => (...args: unknown[]) => Promise<void>;
