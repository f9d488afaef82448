/** Training on several GPUs: this process becomes the launcher, and the same command line runs once per rank. */
import { pinGpus, type RankEnvironment } from "../comm/gpus.ts";
import { launch, type LaunchOptions, type LaunchResult } from "../comm/launcher.ts";
import type { RankLine } from "../comm/rank_lines.ts";
import type { Environment } from "./environment.ts";
import { processSignals, type SignalSource, withSignals } from "./signals.ts";

/** What the launcher runs. */
export interface LaunchCommand extends Pick<LaunchOptions, "module" | "runtimeOptions" | "deadlines"> {
  /** The command line of every rank. */
  readonly args: readonly string[];
  /** Ranks, one for each GPU. */
  readonly gpus: number;
  /** Finds a card for each rank. */
  readonly pin?: (size: number) => Promise<RankEnvironment[]>;
}

/**
 * Runs one process per GPU until all end; their lines come in one stream, each with its rank. Returns 0, 130 or 143 after a
 * signal that all ranks obeyed, or the exit code of the failure that came first: 7 for a rank that was killed or stalled.
 *
 * @throws {UserError} when there are too few cards, they can't be told apart, or memory is short.
 */
export async function launchCommand(
  { terminal, signals }: Pick<Environment, "terminal" | "signals">,
  { gpus, pin = pinGpus, ...options }: LaunchCommand,
): Promise<number> {
  const environments = await pin(gpus);
  const onLine = ({ rank, stream, text }: RankLine) => {
    const line = `[rank ${rank}] ${text}\n`;
    if (stream === "out") terminal.write(line);
    else terminal.writeError(line);
  };
  let result: LaunchResult = { code: 0 };
  const signalCode = await withSignals(
    signals,
    async (stop) => {
      result = await launch({ ...options, size: gpus, environments, onLine, stop });
    },
    (name) => terminal.writeError(`${name}: ranks finish this step and save; once more ends them at once\n`),
  );
  if (result.cause !== undefined) terminal.writeError(`error: ${result.cause}\n`);
  return result.code === 0 ? signalCode : result.code;
}

/**
 * The signals of a rank. A terminal sends Ctrl-C to all processes of a command, and ranks that obeyed it would end after
 * different steps; they obey the launcher, which sends SIGTERM.
 */
export const rankSignals: SignalSource = {
  ...processSignals,
  listen: (name, handler) => name === "SIGINT" ? undefined : processSignals.listen(name, handler),
  unlisten: (name, handler) => name === "SIGINT" ? undefined : processSignals.unlisten(name, handler),
};
