/** Makes micro-batches, the first one of a step while the GPU still works on the step before. */
import type { MicroStep } from "../../data/random/sampler.ts";
import { UserError } from "../../errors.ts";
import type { Device } from "../../gpu/device.ts";
import type { MicroBatch } from "../../step/training_step.ts";
import { type BatchSource, makeBatch } from "./batches.ts";

/** Holds one micro-batch at most. */
export class BatchMaker {
  #ahead: { readonly number: number; readonly batch: MicroBatch } | undefined;
  /** Milliseconds that making micro-batches has taken so far. */
  spent = 0;

  constructor(readonly device: Device, readonly source: BatchSource) {}

  /** The micro-batch of a micro-step. */
  take(micro: MicroStep): MicroBatch {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    return ahead?.number === micro.number ? ahead.batch : this.#make(micro);
  }

  /**
   * Makes the micro-batch that is taken next. An error belongs to the step that takes it, which meets it again: the
   * present step may still have to be saved.
   */
  makeAhead(micro: MicroStep): void {
    try {
      this.#ahead = { number: micro.number, batch: this.#make(micro) };
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
    }
  }

  #make({ items }: MicroStep): MicroBatch {
    const started = performance.now();
    const batch = this.device.span("batch", 0, () => makeBatch(this.source, items));
    this.spent += performance.now() - started;
    return batch;
  }
}
