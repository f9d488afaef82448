/**
 * Ctrl-C, termination and the loss of the terminal: the first asks the run to save and end, the second ends it at once.
 */

import { endProcess, ignoresHangup } from "../../comm/native/libc.ts";

/** Signals that people and schedulers end programs with, and the exit codes shells expect for them. */
export const signalExitCodes = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** Name of a signal that is handled. */
export type HandledSignal = keyof typeof signalExitCodes;

/** Where signals come from. */
export interface SignalSource {
  listen(name: HandledSignal, handler: () => void): void;
  unlisten(name: HandledSignal, handler: () => void): void;
  /** Ends the process at once. */
  exit(code: number): void;
}

/** The signals of this process. */
export const processSignals: SignalSource = {
  listen: (name, handler) => Deno.addSignalListener(name, handler),
  unlisten: (name, handler) => Deno.removeSignalListener(name, handler),
  exit: endProcess,
};

/**
 * Runs `body` with a signal that is aborted by the first of these signals. Returns 0, or the exit code of the signal
 * that came while `body` ran. A second signal ends the process before `body` returns. `say` is told of both before
 * anything else happens, so that it can leave the terminal with a clean line.
 */
export async function withSignals(
  source: SignalSource,
  body: (signal: AbortSignal) => Promise<void>,
  say: (name: HandledSignal, again: boolean) => void,
): Promise<number> {
  const controller = new AbortController();
  let exitCode = 0;
  const handlers = handledSignals().map((name): [HandledSignal, () => void] => [name, () => {
    const again = exitCode !== 0;
    say(name, again);
    if (again) return source.exit(signalExitCodes[name]);
    exitCode = signalExitCodes[name];
    controller.abort();
  }]);
  for (const [name, handler] of handlers) source.listen(name, handler);
  try {
    await body(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted || error !== controller.signal.reason) throw error;
  } finally {
    for (const [name, handler] of handlers) source.unlisten(name, handler);
  }
  return exitCode;
}

function handledSignals(): HandledSignal[] {
  // Windows has no SIGTERM, and Deno refuses to listen for it there.
  if (Deno.build.os === "windows") return ["SIGINT"];
  return ignoresHangup() ? ["SIGINT", "SIGTERM"] : ["SIGHUP", "SIGINT", "SIGTERM"];
}
