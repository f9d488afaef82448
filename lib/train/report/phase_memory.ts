/** What the phases of a run take of the GPU's memory beside what was forecast for them. */
import type { DType } from "../../../kernels/core/kernel.ts";
import type { TrainConfig } from "../../config/config.ts";
import { recordForecast } from "../../forecast/forecast.ts";
import { runOptions } from "../../forecast/require_memory.ts";
import type { Device } from "../../gpu/device.ts";
import type { MemoryEvent } from "./events.ts";

/** Phases as they are told by the phases of the forecast, of which validation is two that follow each other. */
const PHASES = {
  "text encoding": ["text encoding"],
  "video encoding": ["video encoding"],
  "training": ["training"],
  "validation": ["validation sampling", "validation decoding"],
} as const;

/** Name of a phase that is told. */
export type MemoryPhase = keyof typeof PHASES;

/** Compares the phases of the first rank with their forecast. */
export class PhaseMemory {
  readonly #planned: ReadonlyMap<string, number>;
  readonly #told = new Map<MemoryPhase, number>();

  /**
   * @param config With `model_path` where the model lies. @param stored Storage of the checkpoint's matrices.
   * @param device With the kernels that the run uses, which have memory of their own.
   */
  constructor(config: TrainConfig, stored: DType, device: Device) {
    const { phases } = recordForecast(config, runOptions(config, stored, device));
    this.#planned = new Map(phases.map(({ name, gpuBytes }) => [name, gpuBytes]));
  }

  /** Tells of a phase that has taken more than was told of it; of one that took nothing there is nothing to tell. */
  *note(phase: MemoryPhase, gpuBytes: number): Generator<MemoryEvent> {
    if (gpuBytes <= (this.#told.get(phase) ?? 0)) return;
    this.#told.set(phase, gpuBytes);
    const plannedBytes = Math.max(...PHASES[phase].map((name) => this.#planned.get(name) ?? 0));
    yield { type: "memory", phase, gpuBytes, plannedBytes };
  }
}
