/** Flags of every command that say how it tells what it has to tell. */

/** The flags, for help and completion. */
export const OUTPUT_FLAGS = [
  { name: "quiet", brief: "Print results, warnings and errors only" },
  { name: "json", brief: "Print results as JSON, one object a line, and nothing else on standard output" },
] as const;

/** Takes them out of the words of a command line. */
export function outputFlags(
  args: readonly string[],
): { readonly words: readonly string[]; readonly quiet: boolean; readonly json: boolean } {
  const words = args.filter((word) => !["--quiet", "-q", "--json"].includes(word));
  return { words, quiet: args.includes("--quiet") || args.includes("-q"), json: args.includes("--json") };
}
