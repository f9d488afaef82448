/** The command line: which command the words mean, and what errors look like. */
import { run } from "@stricli/core";
import { PeerError, peerFailureCode } from "../comm/exchange/communicator.ts";
import { messageOf, UserError, UserErrors } from "../errors.ts";
import { fileError } from "../io/file_operations.ts";
import type { Environment } from "./machine/environment.ts";
import { quietTerminal } from "./machine/terminal.ts";
import { buildProgram, CONFIG_COMMANDS } from "./routes.ts";
import { normalizeArguments } from "./settings/arguments.ts";
import { JSON_COMMANDS, outputFlags } from "./settings/output_flags.ts";
import { programCall } from "./show/program_call.ts";

/** Exit code of everything the user can mend: wrong arguments, a wrong config, missing files. */
const userErrorCode = 2;

/**
 * Runs one command line (without the program name) and returns its exit code: 0, 1 for a fault of the program or a
 * machine that `doctor` finds unfit, 2 for a mistake of the user, 7 when a rank was lost, 130 or 143 after a signal.
 * `train` is implied when the first word is no command.
 */
export async function runCli(args: readonly string[], outer: Environment): Promise<number> {
  const { words, quiet, json } = outputFlags(args);
  const terminal = quiet || json ? quietTerminal(outer.terminal) : outer.terminal;
  const environment: Environment = { ...outer, terminal, json };
  const process = {
    stdout: { write: (text: string) => terminal.write(text) },
    // All that the framework says there is a problem that has been noted, and comes in one message.
    stderr: { write: (text: string) => text.trim() === "" || terminal.writeError(text) },
    exitCode: null as number | string | null,
  };
  let code: number | undefined;
  const exitWith = (chosen: number) => void (code = chosen);
  const describe = (thrown: unknown) => {
    const error = mendable(thrown);
    if (json) terminal.json({ type: "error", ...errorFigures(error) });
    return describeError(error);
  };
  const refusals: string[] = [];
  const refuse = (problem: string) => void refusals.push(problem);
  try {
    const routed = routedWords(words);
    if (json) requireJson(routed);
    const program = buildProgram({ describe, exitCode: exitCodeOf, refuse });
    await run(program, routed, { process, environment, exitWith });
    if (refusals.length > 0) {
      throw new UserErrors(
        "Cannot use these words",
        refusals,
        `${programCall()} --help lists commands, COMMAND --help its flags`,
      );
    }
  } catch (error) {
    terminal.writeError(`${describe(error)}\n`);
    return exitCodeOf(error);
  }
  if (code !== undefined) return code;
  const result = Number(process.exitCode ?? 0);
  // The framework numbers its own refusals (unknown command, wrong flag) from -1 down.
  return result < 0 ? userErrorCode : result;
}

/** Puts the implied command in front and rewrites settings to `key=value`. */
export function routedWords(args: readonly string[]): string[] {
  const [first] = args;
  const isRoot = first !== undefined && ["-h", "--help", "-v", "--version"].includes(first);
  const implied = first === undefined || (!isRoot && (first.startsWith("--") || /=|\.ya?ml$/i.test(first)));
  const words = implied ? ["train", ...args] : [...args];
  const name = commandOf(words, Object.keys(CONFIG_COMMANDS));
  if (name === undefined) {
    // A key may be asked for as the flag that it is.
    if (words[0] === "explain") return words.map((word) => word === "--help" ? word : word.replace(/^--/, ""));
    const hostile = words.find((word) => word.includes("\0"));
    if (hostile !== undefined) {
      throw new UserError(`"${hostile}" contains a NUL character`, "no path and no text can hold one");
    }
    return ["sample", "lora", "push"].includes(words[0]!) ? words.map(underscored) : words;
  }
  const count = name.split(" ").length;
  return [...words.slice(0, count), ...normalizeArguments(words.slice(count), CONFIG_COMMANDS[name]!.flags)];
}

/** The one of some commands that words begin with. */
function commandOf(words: readonly string[], names: readonly string[]): string | undefined {
  return names.find((name) => words.slice(0, name.split(" ").length).join(" ") === name);
}

function requireJson(words: readonly string[]): void {
  if (commandOf(words, JSON_COMMANDS) !== undefined) return;
  throw new UserError(`--json is of ${JSON_COMMANDS.join(", ")}`, "leave it out");
}

/** `--guidance-scale=3` as `--guidance_scale=3`: both spellings are accepted everywhere. */
function underscored(word: string): string {
  return word.replace(/^--[\w-]+/, (flag) => flag === "--help-all" ? flag : `--${flag.slice(2).replaceAll("-", "_")}`);
}

/** A failure of the file system that was translated nowhere is a mistake too: a folder for a file, a missing right. */
function mendable(error: unknown): unknown {
  const path = (error as { readonly path?: unknown } | null | undefined)?.path;
  return typeof path === "string" ? fileError(error, "use", path) : error;
}

/** Commands in hints, as they are typed here. */
function asCalled(message: string): string {
  return message.replaceAll(
    /\bcogtune (?=(?:train|plan|tune|sample|doctor|data|lora|push|explain) )/g,
    `${programCall()} `,
  );
}

/** A user's mistake is its message; only a fault of the program shows where in the program it happened. */
function describeError(error: unknown): string {
  if (error instanceof UserError || error instanceof PeerError) return `error: ${asCalled(error.message)}`;
  // Deno names what was wanted and the flag that allows it.
  if (isUsers(error)) return `error: ${error.message}; docs/permissions.md lists the flags of every command`;
  return error instanceof Error ? error.stack ?? error.message : String(error);
}

/** The same for programs. */
function errorFigures(error: unknown): Readonly<Record<string, unknown>> {
  if (!(error instanceof UserError)) return { message: messageOf(error) };
  const { summary, hint } = error;
  return { message: summary, problems: error instanceof UserErrors ? error.problems : [], hint };
}

/** Whether the user can mend it: a mistake, or a permission that was not given. */
function isUsers(error: unknown): error is Error {
  return error instanceof UserError || error instanceof Deno.errors.NotCapable;
}

function exitCodeOf(thrown: unknown): number {
  const error = mendable(thrown);
  return isUsers(error) ? userErrorCode : error instanceof PeerError ? peerFailureCode : 1;
}
