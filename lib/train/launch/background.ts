/**
 * Training in a worker. Waiting for the GPU blocks the thread that waits until the queue is empty, so the thread that draws
 * progress and hears signals must be another one.
 */
import { UserError } from "../../errors.ts";
import type { TrainConfig } from "../../config/config.ts";
import type { TrainEvent } from "../report/events.ts";
import type { TrainOptions } from "../trainer.ts";

/** What the worker is told. */
export type Order = { readonly kind: "start"; readonly config: TrainConfig } | { readonly kind: "stop" };

/** What the worker tells. */
export type Report =
  | { readonly kind: "event"; readonly event: TrainEvent }
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly user: boolean; readonly message: string; readonly stack: string | undefined };

/** As `train`, with the GPU in a worker. Errors arrive as the same classes with the same messages. */
export async function* trainInBackground(
  config: TrainConfig,
  { signal }: TrainOptions = {},
): AsyncGenerator<TrainEvent> {
  const worker = new Worker(new URL("./background_worker.ts", import.meta.url), { type: "module" });
  const reports: Report[] = [];
  let wake = () => {};
  const take = (report: Report) => {
    reports.push(report);
    wake();
  };
  worker.onmessage = ({ data }: MessageEvent<Report>) => take(data);
  worker.onerror = (event) => {
    event.preventDefault();
    take({ kind: "failed", user: false, message: event.message, stack: undefined });
  };
  const order = (message: Order) => worker.postMessage(message);
  const stop = () => order({ kind: "stop" });
  signal?.addEventListener("abort", stop);
  try {
    order({ kind: "start", config });
    if (signal?.aborted) stop();
    for (;;) {
      const report = reports.shift();
      if (report === undefined) {
        await new Promise<void>((resolve) => wake = resolve);
        continue;
      }
      if (report.kind === "done") return;
      if (report.kind === "event") yield report.event;
      else throw rebuilt(report);
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    worker.terminate();
  }
}

function rebuilt({ user, message, stack }: Extract<Report, { kind: "failed" }>): Error {
  if (user) return new UserError(message);
  const error = new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
