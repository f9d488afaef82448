/** After which steps a run saves, and what becomes of it when it cannot. */
import { problemOf, UserError } from "../../errors.ts";
import { checkpointName } from "../../io/checkpoints.ts";
import type { WarningEvent } from "../report/events.ts";

/**
 * Saves at an interval and at the end. A save that fails ends no run, as a disk that is full need not be so after the
 * next steps, which ending would lose: it is tried again after 1, 2, 4, ... steps. When the next regular one fails as
 * well, nobody looks after the run, and it ends.
 */
export class SaveSchedule {
  readonly #interval: number;
  readonly #total: number;
  /** Set while the last save has failed: the step after which it is tried again, and how many steps that is. */
  #retry: { readonly step: number; readonly wait: number } | undefined;

  constructor(interval: number, total: number) {
    this.#interval = interval;
    this.#total = total;
  }

  /** Whether a checkpoint is to be saved after `step`. */
  isDue(step: number): boolean {
    return this.#isRegular(step) || step === this.#retry?.step;
  }

  #isRegular(step: number): boolean {
    return step === this.#total || step % this.#interval === 0;
  }

  /** The save that was due is made. */
  succeeded(): void {
    this.#retry = undefined;
  }

  /**
   * The save after `step` failed.
   *
   * @returns what the user is told.
   * @throws `error` when the run is to end: at its last step, and when two regular saves in a row have failed.
   */
  failed(step: number, error: Error): WarningEvent {
    if (step === this.#total || (this.#retry !== undefined && this.#isRegular(step))) throw error;
    const wait = this.#retry === undefined ? 1 : 2 * this.#retry.wait;
    this.#retry = { step: step + wait, wait };
    const problem = error instanceof UserError ? problemOf(error) : error.message;
    const message = `${checkpointName(step)} is not saved, tried again after step ${step + wait}: ${problem}`;
    return { type: "warning", message };
  }
}
