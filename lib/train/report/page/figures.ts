/** What the page of a run shows, gathered from the run's events: curves thinned for drawing, facts, notes, videos. */
import { basename, dirname } from "node:path";
import { addressOf } from "../../../io/html_page.ts";
import type { StepEvent, TrainEvent } from "../events.ts";

/** A curve: pairs of optimizer step and value. */
export interface Curve {
  readonly name: string;
  readonly points: readonly (readonly [step: number, value: number])[];
}

/** Curves that share their axes. */
export interface Chart {
  readonly title: string;
  /** Empty for plain numbers. */
  readonly unit: string;
  /** Whether the axis begins at zero: for amounts, of which a small change is to look small. */
  readonly fromZero: boolean;
  readonly curves: readonly Curve[];
}

/** GPU memory of a phase in bytes. */
export interface PhaseBytes {
  readonly phase: string;
  readonly used: number;
  readonly planned: number;
}

/** How far each layer's LoRA is from the model. */
export interface LayerNorms {
  /** Optimizer steps made when they were taken. */
  readonly step: number;
  readonly layers: readonly (readonly [layer: string, norm: number])[];
}

/** A validation video. */
export interface PageSample {
  readonly step: number;
  readonly prompt: string;
  /** Relative to the page, encoded. */
  readonly address: string;
}

/** Everything on the page that depends on events. */
export interface PageFigures {
  readonly state: "running" | "finished" | "interrupted";
  readonly step: number;
  readonly totalSteps: number;
  /**
   * Seconds that the remaining optimizer steps take; absent before the first step. Validations and saving come on top.
   */
  readonly secondsLeft?: number;
  readonly facts: readonly (readonly [name: string, value: string])[];
  readonly charts: readonly Chart[];
  /** Of the last checkpoint. */
  readonly norms?: LayerNorms;
  readonly memory: readonly PhaseBytes[];
  /** Steps that were skipped. */
  readonly skips: readonly number[];
  /** All there were, of which `notes` shows the last. */
  readonly warnings: number;
  /** Warnings and skipped steps, oldest first. */
  readonly notes: readonly string[];
  readonly samples: readonly PageSample[];
}

/** Charts in the order of the page, with their units. */
const CHARTS = {
  "Loss": { unit: "", fromZero: false },
  "Held-out loss": { unit: "", fromZero: false },
  "Learning rate": { unit: "", fromZero: true },
  "Gradient norm": { unit: "", fromZero: true },
  "LoRA norm": { unit: "", fromZero: true },
  "Step time": { unit: "s", fromZero: true },
  "Speed": { unit: "TFLOP/s", fromZero: true },
  "Share of peak": { unit: "%", fromZero: true },
  "GPU memory": { unit: "GiB", fromZero: true },
} as const;

type Title = keyof typeof CHARTS;

/**
 * Weight of the past in the smoothed loss: its mean reaches back about 20 steps, where the drawn timesteps average out.
 */
const SMOOTHING = 0.95;

/** Last steps whose mean time gives the time left. */
const RECENT_STEPS = 20;

/** Buckets of a thinned curve, two points each: about as many as a chart has pixels across. */
const BUCKETS = 300;

/** Notes on the page; the oldest of more are in metrics.jsonl alone. */
const MOST_NOTES = 200;

/**
 * A curve of at most two points per bucket of neighbouring points, their lowest and their highest in order of steps, so
 * that no spike is lost; values have the five digits that a chart can show.
 */
export function thin(
  steps: readonly number[],
  values: readonly number[],
  buckets: number = BUCKETS,
): [number, number][] {
  const point = (i: number): [number, number] => [steps[i]!, Number(values[i]!.toPrecision(5))];
  if (steps.length <= 2 * buckets) return steps.map((_, i) => point(i));
  return Array.from({ length: buckets }, (_, bucket) => {
    const begin = Math.floor(bucket * steps.length / buckets), end = Math.floor((bucket + 1) * steps.length / buckets);
    let low = begin, high = begin;
    for (let i = begin; i < end; i++) {
      if (values[i]! < values[low]!) low = i;
      if (values[i]! > values[high]!) high = i;
    }
    return [...new Set([Math.min(low, high), Math.max(low, high)])].map(point);
  }).flat();
}

/** Gathers events in the order they happen. */
export class RunFigures {
  readonly #charts = new Map<Title, Map<string, { readonly steps: number[]; readonly values: number[] }>>();
  readonly #facts = new Map<string, string>();
  readonly #notes: string[] = [];
  readonly #skips: number[] = [];
  readonly #memory = new Map<string, PhaseBytes>();
  readonly #samples = new Map<string, PageSample>();
  readonly #recentSeconds: number[] = [];
  #state: PageFigures["state"] = "running";
  #step = 0;
  #totalSteps = 0;
  #warnings = 0;
  #norms: LayerNorms | undefined;
  #smoothed = 0;
  #smoothedSteps = 0;

  /** Adds what `event` tells, as it happened or as metrics.jsonl has kept it. */
  add(event: TrainEvent): void {
    switch (event.type) {
      case "started":
        this.#step = event.step;
        this.#totalSteps = event.totalSteps;
        this.#facts.set("GPU", event.device);
        this.#facts.set("Clips", String(event.clips));
        this.#facts.set("Trained parameters", event.parameters.toLocaleString("en"));
        break;
      case "step":
        this.#addStep(event);
        break;
      case "skipped":
        this.#step = event.step;
        this.#skips.push(event.step);
        this.#note(
          `Step ${event.step} skipped: ${event.reason} in ${event.tensor}, clip ${event.clip} at timestep ${event.timestep}`,
        );
        break;
      case "warning":
        this.#warnings++;
        this.#note(event.message);
        break;
      case "heldout":
        this.#point("Held-out loss", "mean", event.step, event.loss);
        for (const { from, to, loss } of event.bands) {
          this.#point("Held-out loss", `timesteps ${from}-${to}`, event.step, loss);
        }
        break;
      case "sample": {
        // Below the page, in whatever folder the run lies by now.
        const address = addressOf(`${basename(dirname(event.path))}/${basename(event.path)}`);
        this.#samples.set(address, { step: event.step, prompt: event.prompt, address });
        break;
      }
      case "saved":
        this.#facts.set("Last checkpoint", basename(event.path));
        if (event.updateNorms !== undefined) this.#addNorms(event.step, event.updateNorms);
        break;
      case "memory": {
        const { phase, gpuBytes, plannedBytes } = event;
        this.#memory.set(phase, { phase, used: gpuBytes, planned: plannedBytes });
        break;
      }
      case "range_test":
        this.#state = "finished";
        if (event.result !== undefined) {
          this.#facts.set("Suggested learning rate", event.result.suggested.toExponential(2));
        }
        break;
      case "finished":
        this.#state = event.interrupted ? "interrupted" : "finished";
        if (event.bestStep !== undefined) this.#facts.set("Lowest held-out loss", `step ${event.bestStep}`);
        break;
    }
  }

  #addStep(event: StepEvent): void {
    const { step, totalSteps, loss } = event;
    this.#step = step;
    this.#totalSteps = totalSteps;
    this.#facts.set("Epoch", event.epoch.toFixed(2));
    this.#point("Loss", "each step", step, loss);
    if (Number.isFinite(loss)) {
      // Divided by the weights so far, or the curve would start at zero (Kingma and Ba 2014, section 3).
      this.#smoothed = SMOOTHING * this.#smoothed + (1 - SMOOTHING) * loss;
      this.#point("Loss", "smoothed", step, this.#smoothed / (1 - SMOOTHING ** ++this.#smoothedSteps));
    }
    this.#point("Learning rate", "learning rate", step, event.learningRate);
    this.#point("Gradient norm", "before clipping", step, event.gradNorm);
    this.#point("Step time", "per step", step, event.secondsPerStep);
    this.#point("Speed", "rank 0", step, event.flopsPerSecond / 1e12);
    if (event.peakShare !== undefined) this.#point("Share of peak", "of the arithmetic", step, 100 * event.peakShare);
    const ranks = event.ranks ?? [{ seconds: event.secondsPerStep, gpuBytes: event.gpuBytes }];
    for (const [rank, { seconds, gpuBytes }] of ranks.entries()) {
      if (ranks.length > 1) this.#point("Step time", `rank ${rank} without waiting`, step, seconds);
      this.#point("GPU memory", `rank ${rank}`, step, gpuBytes / 2 ** 30);
    }
    this.#recentSeconds.push(event.secondsPerStep);
    if (this.#recentSeconds.length > RECENT_STEPS) this.#recentSeconds.shift();
  }

  #addNorms(step: number, norms: Readonly<Record<string, number>>): void {
    const layers = Object.entries(norms).map(([layer, norm]): [string, number] => [layer, Number(norm.toPrecision(4))]);
    const values = layers.map(([, norm]) => norm);
    this.#norms = { step, layers };
    this.#point("LoRA norm", "largest layer", step, Math.max(...values));
    this.#point("LoRA norm", "mean of layers", step, values.reduce((sum, value) => sum + value, 0) / values.length);
  }

  /** A value that is not finite leaves a gap; metrics.jsonl has it as text. */
  #point(title: Title, name: string, step: number, value: number): void {
    if (!Number.isFinite(value)) return;
    const curves = this.#charts.get(title) ?? new Map();
    this.#charts.set(title, curves);
    const curve = curves.get(name) ?? { steps: [], values: [] };
    curves.set(name, curve);
    curve.steps.push(step);
    curve.values.push(value);
  }

  #note(text: string): void {
    this.#notes.push(text);
    if (this.#notes.length > MOST_NOTES) this.#notes.shift();
  }

  /** What there is to show. */
  get figures(): PageFigures {
    const recent = this.#recentSeconds;
    const secondsPerStep = recent.reduce((sum, seconds) => sum + seconds, 0) / recent.length;
    return {
      state: this.#state,
      step: this.#step,
      totalSteps: this.#totalSteps,
      ...(recent.length === 0 ? {} : { secondsLeft: secondsPerStep * (this.#totalSteps - this.#step) }),
      facts: [...this.#facts],
      charts: Object.entries(CHARTS).flatMap(([title, look]) => {
        const curves = [...this.#charts.get(title as Title) ?? []];
        if (curves.length === 0) return [];
        return {
          title,
          ...look,
          curves: curves.map(([name, { steps, values }]) => ({ name, points: thin(steps, values) })),
        };
      }),
      ...(this.#norms === undefined ? {} : { norms: this.#norms }),
      memory: [...this.#memory.values()],
      skips: this.#skips,
      warnings: this.#warnings,
      notes: this.#notes,
      samples: [...this.#samples.values()],
    };
  }
}
