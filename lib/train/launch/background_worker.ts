/// <reference lib="deno.worker" />
/** The worker of `background.ts`: runs `train` and reports what it yields. */
import { UserError } from "../../errors.ts";
import type { Order, Report } from "./background.ts";
import { train } from "../trainer.ts";

const stop = new AbortController();
const tell = (report: Report) => self.postMessage(report);

self.onmessage = async ({ data }: MessageEvent<Order>) => {
  if (data.kind === "stop") return stop.abort();
  try {
    for await (const event of train(data.config, { signal: stop.signal })) tell({ kind: "event", event });
    tell({ kind: "done" });
  } catch (error) {
    const known = error instanceof Error ? error : new Error(String(error));
    tell({ kind: "failed", user: known instanceof UserError, message: known.message, stack: known.stack });
  }
};
