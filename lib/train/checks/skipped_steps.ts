/** Steps that were not made because a loss or gradient was not finite: what began it, and when a run is broken. */
import { UserError } from "../../errors.ts";
import { firstNonFinite } from "../../gpu/diagnose.ts";
import type { MicroBatch, TrainingStep } from "../../step/training_step.ts";
import type { SkippedEvent } from "../report/events.ts";

/** Skipped steps in a row after which a run is considered broken. */
const MOST_SKIPPED = 20;

/** A micro-batch of this rank. */
export interface NamedMicroBatch {
  readonly clips: readonly string[];
  readonly batch: MicroBatch;
}

/** A step that was skipped. */
export interface Skip {
  readonly step: number;
  /** Losses of the micro-batches of all ranks. */
  readonly losses: readonly number[];
  /** What this rank ran. */
  readonly micros: readonly NamedMicroBatch[];
  /** Factor on the loss that the step was made with. */
  readonly scale: number;
  /** Whether the factor alone explains it, and has become smaller. */
  readonly overflow: boolean;
}

/** Counts the skipped steps of a run. */
export class SkippedSteps {
  #inRow = 0;
  #last: SkippedEvent | undefined;

  /** Takes note of a step that was made. */
  made(): void {
    this.#inRow = 0;
  }

  /**
   * Takes note of a step whose weights are as before, and finds out which clip and tensor began it.
   *
   * @throws {UserError} when that has happened 20 times in a row.
   */
  async skipped(trainingStep: TrainingStep, { step, losses, micros, scale, overflow }: Skip): Promise<SkippedEvent> {
    const first = micros[0] ?? { clips: ["a clip of another rank"], batch: undefined };
    const { clips, batch, tensor } = (overflow ? undefined : await findOrigin(trainingStep, micros, scale)) ??
      { ...first, tensor: "the gradients" };
    const clip = clips.join(", ");
    if (++this.#inRow >= MOST_SKIPPED) {
      throw new UserError(
        `${MOST_SKIPPED} steps in a row had a loss or gradient that is not finite; the last began with ${tensor} on ${clip}`,
        "lower learning_rate, train in bf16 instead of fp16, and resume from a checkpoint before the first skipped step",
      );
    }
    const reason = overflow ? "overflow" : losses.every(Number.isFinite) ? "non-finite gradient" : "non-finite loss";
    this.#last = { type: "skipped", step, reason, clip, timestep: batch?.timesteps[0] ?? 0, tensor };
    return this.#last;
  }

  /**
   * To be called at the end of a run that has made no step in all its life: its weights are those it started from.
   *
   * @throws {UserError} that says how the last step failed, when one did.
   */
  requireMade(): void {
    if (this.#last === undefined) return;
    const { step, reason, clip, tensor } = this.#last;
    throw new UserError(
      `None of the ${step} steps was made, the weights are those of the start: every step had a loss or gradient that is not ` +
        `finite, the last a ${reason} that began with ${tensor} on ${clip}`,
      reason === "overflow"
        ? "train more steps: the factor on the loss of fp16 starts at 65536 and is halved by every such step; or train in bf16"
        : "look at that clip and at the configs of model and scheduler, lower learning_rate, or set mixed_precision: no",
    );
  }
}

/** The first micro-batch in which a tensor is not finite, and that tensor. */
async function findOrigin(
  trainingStep: TrainingStep,
  micros: readonly NamedMicroBatch[],
  scale: number,
): Promise<NamedMicroBatch & { readonly tensor: string } | undefined> {
  const { session } = trainingStep;
  trainingStep.begin();
  for (const micro of micros) {
    trainingStep.upload(micro.batch, scale);
    const tensor = await firstNonFinite(session, trainingStep.microOf(micro.batch).micro);
    if (tensor !== undefined) return { ...micro, tensor };
  }
  return undefined;
}
