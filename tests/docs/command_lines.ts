/** The command lines of documents, and whether the program understands them. */
import { type Command, type CommandContext, type RouteMap, run } from "@stricli/core";
import { collectConfig } from "../../lib/config/config.ts";
import { buildProgram, CONFIG_COMMANDS } from "../../lib/cli/routes.ts";
import type { CliContext } from "../../lib/cli/context.ts";
import { routedWords } from "../../lib/cli/run_cli.ts";
import { configArguments } from "../../lib/cli/settings/arguments.ts";
import { outputFlags } from "../../lib/cli/settings/output_flags.ts";
import { takeOwn } from "../../lib/cli/settings/own_flags.ts";

/** A block of shell commands in a document. */
export interface ShellBlock {
  readonly text: string;
  /** Whether it is run rather than read: `sh run`. */
  readonly runs: boolean;
}

/** The blocks of shell commands of a document. */
export function shellBlocks(markdown: string): ShellBlock[] {
  return [...markdown.matchAll(/^```sh( run)?\n([\s\S]*?)^```$/gm)].map(([, runs, text]) => ({
    text: text!,
    runs: runs !== undefined,
  }));
}

/** The words of each command of a block, as a shell would split them. */
export function commandsOf(text: string): string[][] {
  const lines = text.replaceAll("\\\n", " ").split("\n");
  return lines.map((line) => {
    const words = [...line.matchAll(/(?<=^|\s)(#.*$)|((?:[^\s"'#]|"[^"]*"|'(?:[^']|'\\'')*'|(?<=\S)#)+)/g)];
    return words.flatMap(([, comment, word]) =>
      comment === undefined ? [word!.replaceAll(/"([^"]*)"|'((?:[^']|'\\'')*)'/g, (_, a, b) => a ?? b)] : []
    );
  }).filter((words) => words.length > 0);
}

/** The words behind this program in a command, however it is started; undefined for other programs. */
export function programWords(words: readonly string[]): readonly string[] | undefined {
  const at = words.findIndex((word) => /(^|\/)mod\.ts$/.test(word));
  const before = words.slice(0, Math.max(0, at));
  if (at > 0 && before.includes("deno") && before.includes("run")) return behind(words.slice(at + 1));
  const task = words.indexOf("task");
  if (task > 0 && /^deno(@|$)/.test(words[task - 1]!) && ["train", "plan"].includes(words[task + 1] ?? "")) {
    return behind(words.slice(task + 1));
  }
}

/** Without an ellipsis, which stands for more of the same, and without where output goes. */
function behind(words: readonly string[]): readonly string[] {
  const end = words.findIndex((word) => word === ">" || word === "|");
  return (end < 0 ? words : words.slice(0, end)).filter((word) => word !== "...");
}

type Target<Context extends CommandContext> = Command<Context> | RouteMap<Context>;

/** The same commands, which tell what they were given instead of doing anything. */
function recorded<Context extends CommandContext>(
  target: Target<Context>,
  tell: (words: readonly unknown[]) => void,
): Target<Context> {
  if (!("getAllEntries" in target)) {
    return { ...target, loader: () => Promise.resolve((_flags: unknown, ...words: unknown[]) => tell(words)) };
  }
  return {
    ...target,
    getRoutingTargetForInput(input) {
      const found = target.getRoutingTargetForInput(input);
      return found === undefined ? undefined : recorded(found, tell);
    },
  };
}

/** What is wrong with a command line: unknown commands and flags, values that keys do not take. */
export async function problemsOf(words: readonly string[]): Promise<readonly string[]> {
  const problems: string[] = [];
  let given: readonly unknown[] | undefined;
  const routed = routedWords(outputFlags(words).words);
  const program = buildProgram({
    describe: String,
    exitCode: () => 2,
    refuse: (problem) => void problems.push(problem),
  });
  const silent = { write: () => {} };
  const process = { stdout: silent, stderr: silent, exitCode: null };
  const context = { process, environment: undefined as never, exitWith: () => {} };
  const root = recorded(program.root, (words) => given = words);
  await run<CliContext>({ ...program, root }, routed, context);
  if (problems.length > 0 || given === undefined) return problems;
  const name = Object.keys(CONFIG_COMMANDS).find((name) => routed.join(" ").startsWith(name));
  if (name === undefined) return [];
  const { settings } = takeOwn(given as readonly string[], CONFIG_COMMANDS[name]!.flags);
  const { fileName, overrides } = configArguments(settings);
  // A file that the reader is to write holds what the flags leave out.
  const origin = fileName === undefined ? { overrides } : { preset: "default", overrides };
  return (await collectConfig(origin)).problems;
}
