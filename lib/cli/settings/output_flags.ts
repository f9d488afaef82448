/** Flags of every command that say how it tells what it has to tell. */
import type { OwnFlag } from "./own_flags.ts";

/** Commands whose results programs can read. */
export const JSON_COMMANDS: readonly string[] = ["train", "plan", "doctor", "data check", "lora inspect"];

/** The flags of a command, for help and completion. */
export function outputFlagsOf(command: string): readonly OwnFlag[] {
  const quiet = { name: "quiet", brief: "Print results, warnings and errors only" };
  const json = {
    name: "json",
    brief: "Print results as JSON, one object a line, and nothing else on standard output",
  };
  return JSON_COMMANDS.includes(command) ? [quiet, json] : [quiet];
}

/** Takes them out of the words of a command line. */
export function outputFlags(
  args: readonly string[],
): { readonly words: readonly string[]; readonly quiet: boolean; readonly json: boolean } {
  const words = args.filter((word) => !["--quiet", "-q", "--json"].includes(word));
  return { words, quiet: args.includes("--quiet") || args.includes("-q"), json: args.includes("--json") };
}
