/** Everything a command touches outside its arguments. */
import type { Commands } from "./commands.ts";
import type { SignalSource } from "./signals.ts";
import type { System } from "./system.ts";
import type { Terminal } from "./terminal.ts";

/** The program, the machine and the person in front of it. */
export interface Environment {
  readonly commands: Commands;
  readonly terminal: Terminal;
  readonly signals: SignalSource;
  readonly system: System;
  /** The next line of standard input; undefined once it has ended. */
  answer(): Promise<string | undefined>;
  /** Whether results are told as JSON, for programs. */
  readonly json?: boolean;
  /** Installs what training needs and the machine lacks; prints what it does. */
  ensureSystem(print: (line: string) => void): Promise<void>;
}
