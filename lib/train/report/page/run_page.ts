/**
 * The page of a run, index.html in its output folder: rewritten while the run goes on, whole at every moment, read from
 * disk.
 */
import { basename, join } from "node:path";
import { printConfig, type TrainConfig } from "../../../config/config.ts";
import { writeFileAtomic } from "../../../io/atomic.ts";
import { renderHtml } from "../../../io/html_page.ts";
import { PAGE_NAME } from "../../../sample/page.ts";
import type { TrainEvent } from "../events.ts";
import { RunFigures } from "./figures.ts";
import type { PageData, PageDataset } from "./page_data.ts";
import { runPage } from "./view.ts";

/** Milliseconds between two writings after steps: rewriting 200 KB every 5 seconds is nothing beside a step. */
const INTERVAL = 5000;

/** Keeps the page of one run. */
export class RunPage {
  readonly #path: string;
  readonly #figures = new RunFigures();
  #written = 0;

  constructor(readonly config: TrainConfig, readonly dataset: PageDataset = { clips: [], samples: 0 }) {
    this.#path = join(config.output_dir, PAGE_NAME);
  }

  /** Shows `event` from the next writing on. */
  add(event: TrainEvent): void {
    this.#figures.add(event);
  }

  /** Shows an event that metrics.jsonl has kept, unless another hand has left it without what the page needs. */
  addKept(event: TrainEvent): void {
    try {
      this.add(event);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
  }

  /** Writes the page, after a step and what belongs to it only when the last writing is some seconds old. */
  async write(last?: TrainEvent, now: number = Date.now()): Promise<void> {
    const isStep = last !== undefined && ["step", "skipped", "memory"].includes(last.type);
    if (isStep && now - this.#written < INTERVAL) return;
    this.#written = now;
    await this.#writeAs(this.#figures.figures.state, now);
  }

  /** Says on the page of a run that an error has ended that it goes on no more. */
  async end(): Promise<void> {
    if (this.#figures.figures.state === "running") await this.#writeAs("stopped", Date.now());
  }

  async #writeAs(state: PageData["state"], written: number): Promise<void> {
    const { output_dir, seed } = this.config;
    const title = basename(output_dir);
    const config = printConfig(this.config);
    const data: PageData = { ...this.#figures.figures, title, state, written, seed, config, dataset: this.dataset };
    await writeFileAtomic(this.#path, renderHtml(runPage(data)));
  }
}
