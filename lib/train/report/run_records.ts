/** What a run leaves to look at besides checkpoints: metrics.jsonl always, TensorBoard files when asked for. */
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import type { TrainConfig } from "../../config/config.ts";
import type { Measured } from "../checks/best_loss.ts";
import type { TrainEvent } from "./events.ts";
import { MetricsLog } from "./metrics_log.ts";
import { TensorBoardWriter } from "./tensorboard.ts";

/** Both records of one run, cut back to the step it continues from. */
export class RunRecords implements Disposable {
  readonly #metrics: MetricsLog;
  readonly #board: TensorBoardWriter | undefined;

  constructor(config: TrainConfig, step: number) {
    const resume = step === 0 ? {} : { resumeStep: step };
    const path = join(config.output_dir, "metrics.jsonl");
    if (step === 0) moveAside(path);
    this.#metrics = new MetricsLog(path, resume);
    if (config.report_to !== "none") {
      this.#board = new TensorBoardWriter(join(config.output_dir, "tensorboard"), resume);
    }
  }

  /** Whether all `count` records of a type were made at the step the run continues from, before it was interrupted. */
  has(type: TrainEvent["type"], step: number, count: number): boolean {
    return this.#metrics.count(type, step) >= count;
  }

  /** Held-out losses up to the step the run continues from. */
  get measured(): readonly Measured[] {
    return this.#metrics.measured;
  }

  /** Records one event. */
  write(event: TrainEvent): void {
    this.#metrics.write(event);
    if (event.type === "heldout") {
      const bands = event.bands.map(({ from, to, loss }) => [`heldout/timesteps ${from}-${to}`, loss]);
      this.#board?.scalars(event.step, { "heldout/loss": event.loss, ...Object.fromEntries(bands) });
    }
    if (event.type !== "step") return;
    const { peakShare } = event;
    const ranks = (event.ranks ?? []).flatMap(({ seconds, gpuBytes }, rank) => [
      [`time/seconds_of_rank_${rank}`, seconds],
      [`memory/gpu_bytes_of_rank_${rank}`, gpuBytes],
    ]);
    this.#board?.scalars(event.step, {
      "train/loss": event.loss,
      "train/grad_norm": event.gradNorm,
      "train/learning_rate": event.learningRate,
      "time/seconds_per_step": event.secondsPerStep,
      "time/teraflops": event.flopsPerSecond / 1e12,
      ...(peakShare === undefined ? {} : { "time/percent_of_peak": 100 * peakShare }),
      "memory/gpu_bytes": event.gpuBytes,
      ...Object.fromEntries(ranks),
    });
  }

  /** Puts everything on disk, so that no checkpoint is newer than its record. */
  sync(): void {
    this.#metrics.sync();
  }

  [Symbol.dispose](): void {
    this.#metrics[Symbol.dispose]();
    this.#board?.[Symbol.dispose]();
  }
}

/** A run that reached no checkpoint begins again, but what it has recorded is kept, under the first free number. */
function moveAside(path: string): void {
  if (!existsSync(path)) return;
  let number = 1;
  while (existsSync(path.replace(/\.jsonl$/, `.${number}.jsonl`))) number++;
  renameSync(path, path.replace(/\.jsonl$/, `.${number}.jsonl`));
}
