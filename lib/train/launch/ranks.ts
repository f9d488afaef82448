/** Training in several processes of this machine, a GPU each: what their launcher does, and what each of them does. */
import { withCommunicator } from "../../comm/connect.ts";
import { type Deadlines, PeerError, peerFailureCode } from "../../comm/exchange/communicator.ts";
import { pinGpus } from "../../comm/gpus/gpus.ts";
import { launch } from "../../comm/launch/launcher.ts";
import { endProcess } from "../../comm/native/libc.ts";
import { readReport, tellParent } from "../../comm/launch/report_line.ts";
import type { TrainConfig } from "../../config/config.ts";
import { UserError } from "../../errors.ts";
import type { TrainEvent } from "../report/events.ts";
import type { trainAsRank, TrainOptions } from "../trainer.ts";
import { type Message, packError, receive, unpackError } from "./bridge.ts";

/** Milliseconds that the first step may take: a rank that compiles kernels is not stuck. */
const LEAST_FIRST_STEP = 900_000;

/** How long the ranks of a run wait for each other. */
export function deadlinesOf({ rank_timeout }: TrainConfig): Deadlines {
  return { usual: rank_timeout * 1000, firstStep: LEAST_FIRST_STEP };
}

/**
 * The events of `config.gpus` processes that run `module`, which calls {@linkcode runRank}. Other lines that they print
 * arrive as warnings with the rank in front.
 */
export function rankEvents(
  module: URL,
  config: TrainConfig,
  { signal }: TrainOptions = {},
): AsyncGenerator<TrainEvent> {
  return receive(async (take) => {
    const environments = await pinGpus(config.gpus);
    const left = new AbortController();
    const warn = (message: string) => take({ kind: "event", event: { type: "warning", message } });
    let failed: Extract<Message, { kind: "failed" }> | undefined;
    const running = launch({
      module,
      args: [JSON.stringify(config)],
      size: config.gpus,
      environments,
      deadlines: deadlinesOf(config),
      ...(signal === undefined ? {} : { stop: signal }),
      kill: left.signal,
      onLine({ rank, text }) {
        const message = readReport(text) as Message | null | undefined;
        if (message?.kind === "failed") failed ??= message;
        else if (message) take(message);
        else if (message === undefined && text.trim() !== "") warn(`rank ${rank}: ${text}`);
      },
    }).then(({ code, cause, stopped, notes = [] }) => {
      notes.forEach(warn);
      if (stopped) return take({ kind: "failed", error: packError(new DOMException("stopped", "AbortError")) });
      if (cause === undefined) return take({ kind: "done" });
      const PeerOrOwn = code === peerFailureCode ? PeerError : Error;
      const error = failed === undefined ? packError(new PeerOrOwn(cause)) : failed.error;
      // An error does not say which rank it struck; a mistake of the user strikes all.
      if (failed !== undefined && !(unpackError(error) instanceof UserError || signal?.aborted)) warn(cause);
      take({ kind: "failed", error });
    }, (error) => take({ kind: "failed", error: packError(error) }));
    return () => {
      left.abort();
      return running;
    };
  }, signal);
}

/**
 * The program of one rank: joins the group, runs `work` with the config in its arguments, and ends the process. The
 * first rank tells what `work` yields, and every rank an error of its own.
 */
export async function runRank(work: typeof trainAsRank): Promise<never> {
  const stop = new AbortController();
  Deno.addSignalListener("SIGTERM", () => stop.abort());
  const tell: (message: Message) => void = tellParent;
  try {
    const config: TrainConfig = JSON.parse(Deno.args[0]!);
    await withCommunicator(async (communicator) => {
      for await (const event of work(config, communicator, { signal: stop.signal })) {
        if (communicator.rank === 0) tell({ kind: "event", event });
      }
    });
    endProcess(0);
  } catch (error) {
    if (error instanceof PeerError) {
      tell({ kind: "event", event: { type: "warning", message: error.message } });
      endProcess(peerFailureCode);
    }
    tell({ kind: "failed", error: packError(error) });
    endProcess(1);
  }
}
