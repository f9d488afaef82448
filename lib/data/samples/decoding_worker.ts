/** The worker of `decoder.ts`: decodes one recipe after another and hands the frames over. */
import { UserError } from "../../errors.ts";
import { workerScope } from "../../worker_scope.ts";
import type { DecodeAnswer, DecodeOrder } from "./decoding_messages.ts";
import { decodePixels } from "./sample_pixels.ts";

const stop = new AbortController();
let running: Promise<void> = Promise.resolve();
const tell = (answer: DecodeAnswer, ...transfer: Transferable[]) => workerScope.postMessage(answer, transfer);

async function decode({ id, recipe }: Extract<DecodeOrder, { readonly id: number }>): Promise<void> {
  try {
    const frames = await decodePixels(recipe, stop.signal);
    tell({ id, frames }, frames.data.buffer);
  } catch (error) {
    if (error instanceof UserError) tell({ id, summary: error.summary, hint: error.hint, isUserError: true });
    else tell({ id, summary: String(error), hint: undefined, isUserError: false });
  }
}

workerScope.onmessage = ({ data }: MessageEvent<DecodeOrder>) => {
  if ("id" in data) {
    running = running.then(() => decode(data));
    return;
  }
  stop.abort();
  // Not before ffmpeg is gone.
  running.then(() => tell({ ended: true }));
};
