/**
 * What a run leaves to look at besides checkpoints: metrics.jsonl and a page always, TensorBoard files when asked for.
 */
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import type { TrainConfig } from "../../config/config.ts";
import type { MeasuredLoss } from "../checks/best_loss.ts";
import type { TrainEvent, WarningEvent } from "./events.ts";
import { MetricsLog } from "./metrics_log.ts";
import type { PageDataset } from "./page/page_data.ts";
import { RunPage } from "./page/run_page.ts";
import { TensorBoardWriter } from "./tensorboard.ts";

/** What is known of a run before its records begin; the page alone shows it. */
export interface RunBeginning {
  /** What the run has told. */
  readonly told?: readonly TrainEvent[];
  readonly dataset?: PageDataset;
}

/** All records of one run, cut back to the step it continues from. */
export class RunRecords implements Disposable {
  readonly #metrics: MetricsLog;
  readonly #page: RunPage;
  readonly #board: TensorBoardWriter | undefined;
  /** What has failed and was told. */
  readonly #failed = new Set<string>();

  constructor(config: TrainConfig, step: number, { told = [], dataset }: RunBeginning = {}) {
    const resume = step === 0 ? {} : { resumeStep: step };
    const path = join(config.output_dir, "metrics.jsonl");
    if (step === 0) moveAside(path);
    this.#page = new RunPage(config, dataset);
    this.#metrics = new MetricsLog(path, { ...resume, onKept: (event) => this.#page.addKept(event) });
    for (const event of told) this.#page.add(event);
    if (config.report_to !== "none") {
      this.#board = new TensorBoardWriter(join(config.output_dir, "tensorboard"), resume);
    }
  }

  /** Whether all `count` records of a type were made at the step the run continues from, before it was interrupted. */
  has(type: TrainEvent["type"], step: number, count: number): boolean {
    return this.#metrics.count(type, step) >= count;
  }

  /** Held-out losses up to the step the run continues from. */
  get measured(): readonly MeasuredLoss[] {
    return this.#metrics.measured;
  }

  /**
   * Records one event. A record that cannot be written, as on a full disk, ends no run: the first time, it is told as a
   * warning, and what comes later is written when there is room again.
   */
  async write(event: TrainEvent): Promise<WarningEvent[]> {
    this.#page.add(event);
    return [
      ...await this.#attempt("metrics.jsonl", () => this.#metrics.write(event)),
      ...await this.#attempt("the TensorBoard file", () => this.#writeScalars(event)),
      ...await this.#attempt("the page of the run", () => this.#page.write(event)),
    ];
  }

  async #attempt(what: string, write: () => void | Promise<void>): Promise<WarningEvent[]> {
    try {
      await write();
      return [];
    } catch (error) {
      if (this.#failed.has(what)) return [];
      this.#failed.add(what);
      return [{ type: "warning", message: `${what} is not written: ${(error as Error).message}` }];
    }
  }

  #writeScalars(event: TrainEvent): void {
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
  sync(): Promise<WarningEvent[]> {
    return this.#attempt("metrics.jsonl", () => this.#metrics.sync());
  }

  [Symbol.dispose](): void {
    for (const file of [this.#metrics, this.#board]) {
      try {
        file?.[Symbol.dispose]();
      } catch {
        // A disk that is full or fails was told before.
      }
    }
    // Text is written before the call returns; a failure was told before.
    this.#page.end().catch(() => {});
  }
}

/** A run that reached no checkpoint begins again, but what it has recorded is kept, under the first free number. */
function moveAside(path: string): void {
  if (!existsSync(path)) return;
  let number = 1;
  while (existsSync(path.replace(/\.jsonl$/, `.${number}.jsonl`))) number++;
  renameSync(path, path.replace(/\.jsonl$/, `.${number}.jsonl`));
}
