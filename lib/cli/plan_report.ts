/** `cogtune plan`: the forecast of a run as lines. */
import { roofline } from "../plan/recording.ts";
import type { TrainConfig } from "../train/config.ts";
import { type Forecast, forecast, type MemoryPart, type PhaseForecast } from "../train/forecast.ts";
import { gpuRates } from "../train/gpu_rates.ts";
import { formatBytes, formatDuration, formatTable } from "./text.ts";

/** GPUs whose times are shown unless one is named. */
const SHOWN_GPUS = ["rtx-3060", "rtx-4090", "a100", "h100"];

/** Shares of less than a hundredth of the memory are summed up. */
const SMALL_SHARE = 0.01;

/** Options of {@linkcode planLines}. */
export interface PlanOptions {
  /** A name that `gpuRates` knows, or TFLOPS:GBPS. */
  readonly gpu?: string;
}

/** Forecasts a run and tells what it needs. */
export function planLines(config: TrainConfig, { gpu }: PlanOptions = {}): Promise<readonly string[]> {
  const result = forecast(config);
  return Promise.resolve([
    ...phaseTable(result.phases),
    "",
    ...memoryLines(result),
    "",
    ...timeTable(result.phases, gpu === undefined ? SHOWN_GPUS : [gpu]),
    "",
    verdict(config, result),
  ]);
}

function phaseTable(phases: readonly PhaseForecast[]): string[] {
  const rows = phases.map((phase) => [
    phase.name,
    formatBytes(phase.gpuBytes),
    formatBytes(phase.hostBytes),
    phase.unit,
    phase.launches,
    formatWork(phase.flops),
    formatBytes(phase.uploadBytes),
    formatBytes(phase.downloadBytes),
  ]);
  return formatTable(["phase", "GPU memory", "host memory", "per", "launches", "work", "up", "down"], rows);
}

function formatWork(flops: number): string {
  return flops >= 1e15 ? `${(flops / 1e15).toPrecision(3)} PFLOP` : `${(flops / 1e12).toPrecision(3)} TFLOP`;
}

function partLines(parts: readonly MemoryPart[], total: number): string[] {
  const large = parts.filter(({ bytes }) => bytes >= SMALL_SHARE * total).sort((a, b) => b.bytes - a.bytes);
  const rest = total - large.reduce((sum, { bytes }) => sum + bytes, 0);
  const shown = rest > 0 ? [...large, { name: "everything else", bytes: rest }] : large;
  return shown.map(({ name, bytes }) => `  ${formatBytes(bytes).padStart(9)}  ${name}`);
}

function memoryLines({ phases, peakPhase, live }: Forecast): string[] {
  const peak = phases.find(({ name }) => name === peakPhase)!;
  const alive = live.reduce((sum, { bytes }) => sum + bytes, 0);
  return [
    `${peak.name} needs the most GPU memory:`,
    ...partLines(peak.parts, peak.gpuBytes),
    `the arena of training at its fullest (d is a gradient):`,
    ...partLines(live, alive),
  ];
}

/** Seconds of a unit of each phase if every launch ran at the rate its arithmetic or its memory traffic allows. */
function timeTable(phases: readonly PhaseForecast[], gpus: readonly string[]): string[] {
  const rows = phases.map(({ name, unit, work }) => [
    name,
    unit,
    ...gpus.map((gpu) => {
      const rates = gpuRates(gpu);
      const seconds = work.reduce((sum, { recording, runs }) => sum + runs * roofline(recording, rates), 0);
      return seconds < 100 ? `${seconds.toPrecision(3)} s` : formatDuration(seconds);
    }),
  ]);
  return ["time at the peak rates of a GPU; real runs take longer:", ...formatTable(["phase", "per", ...gpus], rows)];
}

function verdict({ gpu_memory }: TrainConfig, { peakBytes, peakPhase }: Forecast): string {
  const needs = `${peakPhase} needs ${formatBytes(peakBytes)} of GPU memory`;
  if (gpu_memory === undefined) return needs;
  const allowed = gpu_memory * 2 ** 30;
  return peakBytes <= allowed
    ? `${needs}: it fits the ${gpu_memory} GiB of gpu_memory`
    : `${needs}: that is ${formatBytes(peakBytes - allowed)} more than the ${gpu_memory} GiB of gpu_memory`;
}
