/** What commands get from the command-line framework. */
import type { CommandContext } from "@stricli/core";
import type { Environment } from "./machine/environment.ts";

/** The environment, and where a command that ends without an error puts its exit code. */
export interface CliContext extends CommandContext {
  readonly environment: Environment;
  exitWith(code: number): void;
}
