/** Finds the memory switches with which a run fits a GPU, the fastest first, and says what each of them costs. */
import { UserError } from "../errors.ts";
import type { Rates } from "../plan/recording.ts";
import { roofline } from "../plan/recording.ts";
import type { TrainConfig } from "../config/config.ts";
import { type ForecastOptions, type RecordedForecast, type RecordedPhase, recordForecast } from "./forecast.ts";
import { gpuRates } from "./gpu_rates.ts";

/** Settings that trade memory against time without changing a bit of the result. */
export type MemorySwitches = Pick<
  TrainConfig,
  "gradient_checkpointing" | "keep" | "base_weights" | "offload_activations" | "offload_optimizer"
>;

/** One way to set the switches, and what comes of it. */
export interface FitCandidate {
  readonly switches: MemorySwitches;
  readonly gpuBytes: number;
  readonly hostBytes: number;
  /** Of a training step at the rates of the GPU that the search was made for. */
  readonly seconds: number;
}

/** A switch of a fit that differs from the config, and what would be without it. */
export interface SwitchCost {
  readonly setting: string;
  readonly savedBytes: number;
  readonly extraSeconds: number;
}

/** The fastest switches that fit. */
export interface Fit extends FitCandidate {
  readonly costs: readonly SwitchCost[];
}

/** Options of {@linkcode fitMemory}. */
export interface FitOptions extends ForecastOptions {
  /** Rates that time is compared at; by default those of a common large GPU. */
  readonly rates?: Rates;
}

/**
 * All ways to set the switches. Offloading block inputs needs checkpointing, and adapters leave no optimizer state
 * worth moving.
 */
function combinations({ base_weights, training_type, keep }: TrainConfig): MemorySwitches[] {
  const quantised = base_weights === "int8" || base_weights === "nf4";
  const weights = quantised ? [base_weights] : ["resident", "streamed"] as const;
  const checkpointing = [
    { gradient_checkpointing: false, keep, offload_activations: false },
    { gradient_checkpointing: true, keep: ["attention"], offload_activations: false },
    { gradient_checkpointing: true, keep: [], offload_activations: false },
    { gradient_checkpointing: true, keep: [], offload_activations: true },
  ] as const;
  const optimizer = training_type === "sft" ? [false, true] : [false];
  return weights.flatMap((base_weights) =>
    checkpointing.flatMap((activations) =>
      optimizer.map((offload_optimizer) => ({ ...activations, base_weights, offload_optimizer }))
    )
  );
}

function secondsOf({ work }: RecordedPhase, rates: Rates): number {
  return work.reduce((sum, { recording, runs }) => sum + runs * roofline(recording, rates), 0);
}

function evaluate(config: TrainConfig, switches: MemorySwitches, options: FitOptions, rates: Rates): FitCandidate {
  const { peakBytes, phases } = recordForecast({ ...config, ...switches }, options);
  const training = phases.find(({ name }) => name === "training")!;
  return { switches, gpuBytes: peakBytes, hostBytes: training.hostBytes, seconds: secondsOf(training, rates) };
}

function settingOf(key: keyof MemorySwitches, { [key]: value }: MemorySwitches): string {
  return `${key}: ${Array.isArray(value) ? `[${value.join(", ")}]` : value}`;
}

/** The switches that keep the run within `bytes` of GPU memory at the least time; undefined when none do. */
export function fitMemory(config: TrainConfig, bytes: number, options: FitOptions = {}): Fit | undefined {
  const rates = options.rates ?? gpuRates("rtx-4090");
  const { phases } = recordForecast(config, options);
  const known = { ...options, encoding: phases.slice(0, phases.findIndex(({ name }) => name === "training")) };
  const candidates = combinations(config).map((switches) => evaluate(config, switches, known, rates));
  const fitting = candidates.filter(({ gpuBytes }) => gpuBytes <= bytes);
  if (fitting.length === 0) return undefined;
  const best = fitting.reduce((a, b) =>
    b.seconds < a.seconds || (b.seconds === a.seconds && b.gpuBytes < a.gpuBytes) ? b : a
  );
  const keys = Object.keys(best.switches) as (keyof MemorySwitches)[];
  const changed = keys.filter((key) => JSON.stringify(best.switches[key]) !== JSON.stringify(config[key]));
  const costs = changed.map((key): SwitchCost => {
    const without = evaluate(config, { ...best.switches, [key]: config[key] }, known, rates);
    return {
      setting: settingOf(key, best.switches),
      savedBytes: without.gpuBytes - best.gpuBytes,
      extraSeconds: best.seconds - without.seconds,
    };
  });
  return { ...best, costs };
}

/**
 * Refuses a run that needs more GPU memory than there is, before a weight is loaded.
 *
 * @throws {UserError} with the phase, what it consists of, and the switches that would make it fit.
 */
export function requireFits(
  config: TrainConfig,
  { peakBytes, peakPhase, phases }: RecordedForecast,
  availableBytes: number,
  options: FitOptions = {},
): void {
  if (peakBytes <= availableBytes) return;
  const amount = (bytes: number) =>
    bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  const largest = phases.find(({ name }) => name === peakPhase)!.parts.toSorted((a, b) => b.bytes - a.bytes).slice(
    0,
    3,
  );
  const fit = fitMemory(config, availableBytes, options);
  throw new UserError(
    `This run needs ${amount(peakBytes)} of GPU memory for ${peakPhase} (${
      largest.map(({ name, bytes }) => `${name} ${amount(bytes)}`).join(", ")
    }), and ${amount(availableBytes)} are available`,
    fit === undefined
      ? "no memory switch is enough: lower train_resolution or batch_size, or use a GPU with more memory"
      : `it fits with ${fit.costs.map(({ setting }) => setting).join(", ")} (${amount(fit.gpuBytes)})`,
  );
}
