/**
 * Training in a worker. Waiting for the GPU blocks the thread that waits until the queue is empty, so the thread that
 * draws progress and hears signals must be another one.
 *
 * Nothing tells when the thread of a terminated worker has ended, and a process that exits before can crash in the
 * driver with everything saved. So the worker is never terminated: with its device given back it sleeps until the
 * process exits, and no thread is in the driver while the exit handlers of its libraries run.
 */
import type { TrainConfig } from "../../config/config.ts";
import type { TrainEvent } from "../report/events.ts";
import type { train, TrainOptions } from "../trainer.ts";
import { workerScope } from "../../worker_scope.ts";
import { type Message, packError, receive } from "./bridge.ts";

/** What a worker is told: first to start, later perhaps to save and stop, or to stop because nobody listens. */
type Order = { readonly kind: "start"; readonly config: TrainConfig } | { readonly kind: "stop" | "leave" };

/** Milliseconds that a worker has to give its GPU back; one that hangs in the driver must not keep the program. */
const LEAVE_TIME = 5000;

/**
 * The events of a worker that runs `module`, which calls {@linkcode serveWorker}. The worker keeps the process alive
 * after them: for programs that end by `Deno.exit`.
 */
export function workerEvents(
  module: URL,
  config: TrainConfig,
  { signal }: TrainOptions = {},
): AsyncGenerator<TrainEvent> {
  return receive((take) => {
    const worker = new Worker(module, { type: "module" });
    const order = (message: Order) => worker.postMessage(message);
    const stop = () => order({ kind: "stop" });
    const ended = Promise.withResolvers<void>();
    const hear = (message: Message) => {
      if (message.kind !== "event") ended.resolve();
      take(message);
    };
    worker.onmessage = ({ data }: MessageEvent<Message>) => hear(data);
    worker.onerror = (event) => {
      event.preventDefault();
      hear({ kind: "failed", error: packError(new Error(event.message)) });
    };
    order({ kind: "start", config });
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop);
    return Promise.resolve(async () => {
      signal?.removeEventListener("abort", stop);
      order({ kind: "leave" });
      const timer = setTimeout(ended.resolve, LEAVE_TIME);
      await ended.promise;
      clearTimeout(timer);
    });
  }, signal);
}

/** The program of the worker: runs `work`, tells what it yields and how it ends, and sleeps. */
export function serveWorker(work: typeof train): void {
  const stop = new AbortController();
  const abandon = new AbortController();
  const tell = (message: Message) => workerScope.postMessage(message);
  // What nobody waits for is told as the rest is: the engine's own notice may overtake the last events.
  const fail = (event: Event, error: unknown) => {
    event.preventDefault();
    tell({ kind: "failed", error: packError(error) });
    abandon.abort();
  };
  addEventListener("error", (event) => fail(event, event.error));
  addEventListener("unhandledrejection", (event) => fail(event, event.reason));
  workerScope.onmessage = async ({ data }: MessageEvent<Order>) => {
    if (data.kind === "leave") abandon.abort();
    if (data.kind !== "start") return stop.abort();
    try {
      const options = { signal: stop.signal, abandon: abandon.signal };
      for await (const event of work(data.config, options)) tell({ kind: "event", event });
      tell({ kind: "done" });
    } catch (error) {
      tell({ kind: "failed", error: packError(error) });
    }
    // Asleep rather than idle: an idle thread may collect garbage, and with it objects of the driver.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  };
}
