/**
 * Decodes in a thread of its own. Waiting for the GPU blocks the thread that waits (for 1.6 s at a stretch where the
 * software driver encodes 17 frames of 160x96); ffmpeg meanwhile fills its pipe of 64 KiB, a twelfth of such a clip,
 * and stops.
 */
import { UserError } from "../../errors.ts";
import type { RgbFrames } from "../video/video.ts";
import type { DecodeAnswer, DecodeOrder } from "./decoding_messages.ts";
import type { PixelRecipe } from "./sample_pixels.ts";

/** A thread that decodes clips and pictures, one after another; it starts with the first. */
export class Decoder implements AsyncDisposable {
  #worker: Worker | undefined;
  readonly #waiting = new Map<number, PromiseWithResolvers<RgbFrames>>();
  readonly #ended = Promise.withResolvers<void>();
  #last = 0;

  #start(): Worker {
    const worker = new Worker(new URL("./decoding_worker.ts", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<DecodeAnswer>) => this.#take(data);
    worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.#waiting.values()) reject(new Error(event.message));
      this.#ended.resolve();
    };
    return worker;
  }

  /**
   * Decodes as a recipe says. Aborting `signal` ends everything that this thread was asked for.
   *
   * @throws {UserError} as {@linkcode decodePixels} does.
   */
  async decode(recipe: PixelRecipe, signal: AbortSignal): Promise<RgbFrames> {
    const id = ++this.#last;
    const answer = Promise.withResolvers<RgbFrames>();
    this.#waiting.set(id, answer);
    const stop = () => this.#tell({ stop: true });
    signal.addEventListener("abort", stop);
    this.#tell({ id, recipe });
    try {
      return await answer.promise;
    } finally {
      signal.removeEventListener("abort", stop);
      signal.throwIfAborted();
    }
  }

  #tell(order: DecodeOrder): void {
    this.#worker ??= this.#start();
    this.#worker.postMessage(order);
  }

  #take(answer: DecodeAnswer): void {
    if ("ended" in answer) return this.#ended.resolve();
    const { resolve, reject } = this.#waiting.get(answer.id)!;
    this.#waiting.delete(answer.id);
    if ("frames" in answer) resolve(answer.frames);
    else reject(answer.isUserError ? new UserError(answer.summary, answer.hint) : new Error(answer.summary));
  }

  /** Ends what is being decoded, and the thread. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#worker === undefined) return;
    this.#tell({ stop: true });
    await this.#ended.promise;
    this.#worker.terminate();
  }
}
