/**
 * Which variants of kernels a run uses: those of the checkpoint that it continues, so that bits stay equal, else those
 * that are the fastest on the first rank's card. All ranks take what the first one decides.
 */
import type { Problem } from "../../kernels/core/kernel.ts";
import { type Communicator, longPhase } from "../comm/exchange/communicator.ts";
import { gatherValues } from "../comm/exchange/gather.ts";
import type { TrainConfig } from "../config/config.ts";
import type { Device } from "../gpu/device.ts";
import type { RunDescription } from "../step/run_description.ts";
import { microRecordings, recordStep } from "../step/training_step.ts";
import { problemsOf } from "../tune/problems.ts";
import { cardOf } from "../tune/table.ts";
import { choicesOf, tune } from "../tune/tune.ts";
import { readRunState, type RunKernels } from "./checkpoint/checkpoint.ts";
import type { TrainEvent } from "./report/events.ts";

/** What the choice depends on. */
export interface KernelQuestion {
  readonly device: Device;
  readonly config: TrainConfig;
  readonly run: RunDescription;
  readonly communicator: Communicator;
  /** What the first rank continues from. */
  readonly checkpoint: string | undefined;
}

/**
 * Makes the device record with the chosen variants; returns them for the checkpoints, undefined where nothing was
 * measured.
 */
export async function* chooseKernels(question: KernelQuestion): AsyncGenerator<TrainEvent, RunKernels | undefined> {
  const { device, communicator } = question;
  const own = communicator.rank === 0 ? yield* decide(question) : undefined;
  const [chosen] = await gatherValues(communicator, own ?? null, { deadline: longPhase });
  if (chosen === null || chosen === undefined) return undefined;
  device.target = { ...device.target, choices: new Map(Object.entries(chosen.choices)) };
  return chosen;
}

/** The problems of a training step for which there are several kernels, as this device records it. */
export function problemsOfRun({ target, limits }: Device, { step, parameters, updated }: RunDescription): Problem[] {
  const recording = recordStep(target, limits, step, parameters, updated);
  return problemsOf([...microRecordings(recording).map(({ micro }) => micro), recording.update]);
}

async function* decide(
  { device, config, run, checkpoint }: KernelQuestion,
): AsyncGenerator<TrainEvent, RunKernels | undefined> {
  const saved = checkpoint === undefined ? undefined : readRunState(checkpoint).kernels;
  // A checkpoint without choices was made with the kernels that run unmeasured.
  if (checkpoint !== undefined && saved === undefined) return undefined;
  const card = saved === undefined ? undefined : cardOf(device.adapter);
  if (saved !== undefined && saved.card === card) return saved;
  if (config.tune === "never" || (config.tune === "auto" && device.adapter.software)) return undefined;
  if (saved !== undefined) {
    const message = `the checkpoint was made on ${saved.card}: kernels are chosen anew for this card, ${card}`;
    yield { type: "status", message };
  }
  const tuning = tune(device, problemsOfRun(device, run));
  for (;;) {
    const { done, value } = await tuning.next();
    if (done) return { card: cardOf(device.adapter), choices: Object.fromEntries(choicesOf(value)) };
    if (value.type === "tune") yield value;
    else {
      const { problem, variant, reason } = value;
      yield { type: "warning", message: `kernel variant "${variant}" is not used for ${problem}: ${reason}` };
    }
  }
}
