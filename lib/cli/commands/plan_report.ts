/** `cogtune plan`: the forecast of a run as lines and as figures. */
import { roofline } from "../../plan/recording.ts";
import type { TrainConfig } from "../../config/config.ts";
import { type PhaseWork, type RecordedForecast, type RecordedPhase, recordForecast } from "../../forecast/forecast.ts";
import type { MemoryPart } from "../../forecast/needs.ts";
import { type Fit, fitMemory } from "../../forecast/fit.ts";
import { folderShapes } from "../../forecast/folder_shapes.ts";
import { gpuRates } from "../../forecast/gpu_rates.ts";
import { checkInputs } from "../../train/checks/preflight.ts";
import type { PlanReport, PlanRequest } from "../machine/commands.ts";
import { measuredTime } from "./plan_measured.ts";
import { scalingReport } from "./plan_scaling.ts";
import { formatBytes, formatDuration, formatFlops, formatTable } from "../show/text.ts";

/** GPUs whose times are shown unless one is named. */
const SHOWN_GPUS = ["rtx-3060", "rtx-4090", "a100", "h100"];

/** Shares of less than a hundredth of the memory are summed up. */
const SMALL_SHARE = 0.01;

/**
 * Forecasts a run and tells what it needs. Shapes come from the checkpoint where `model_path` is a folder, else from
 * the name of the model.
 *
 * @throws {UserError} when neither tells the shape, or a GPU is not known.
 */
export async function planReport(config: TrainConfig, options: PlanRequest = {}): Promise<PlanReport> {
  const { gpu, fitBytes, hosts = 1 } = options;
  await checkInputs(config);
  const shapes = folderShapes(config);
  const ranks = config.gpus * hosts;
  const result = recordForecast({ ...config, gpus: ranks }, shapes);
  const shownGpus = gpu === undefined ? SHOWN_GPUS : [gpu];
  const rates = gpu === undefined ? {} : { rates: gpuRates(gpu) };
  const scaling = ranks > 1 ? await scalingReport(config, result, shownGpus, { ...options, ...shapes }) : undefined;
  const fit = fitBytes === undefined ? undefined : fitMemory(config, fitBytes, { ...shapes, ...rates });
  const lines = [
    ...phaseTable(result.phases),
    "",
    ...memoryLines(result),
    "",
    ...timeTable(result.phases, shownGpus),
    ...measuredLines(result.phases),
    "",
    ...bucketLines(config),
    verdict(config, result),
    ...(scaling?.lines ?? []),
    ...(fitBytes === undefined ? [] : fitLines(fit, fitBytes)),
  ];
  const phases = result.phases.map(({ work, ...phase }) => ({
    ...phase,
    seconds: Object.fromEntries(shownGpus.map((gpu) => [gpu, secondsAtPeak(work, gpu)])),
  }));
  const { peakBytes, peakPhase, live } = result;
  return { lines, figures: { phases, peakBytes, peakPhase, live, fit, exchange: scaling?.exchange } };
}

function fitLines(fit: Fit | undefined, bytes: number): string[] {
  if (fit === undefined) {
    return [`nothing fits ${formatBytes(bytes)}: lower train_resolution or batch_size, or use a larger GPU`];
  }
  const seconds = (value: number) => `${Math.abs(value).toPrecision(3)} s ${value < 0 ? "faster" : "slower"}`;
  const memory = (value: number) => `${formatBytes(Math.abs(value))} ${value < 0 ? "more" : "less"}`;
  const rows = fit.costs.map(({ setting, savedBytes, extraSeconds }) => [
    `  ${setting}`,
    memory(savedBytes),
    seconds(extraSeconds),
  ]);
  return [
    `fastest settings within ${formatBytes(bytes)}: ${formatBytes(fit.gpuBytes)} of GPU memory, ` +
    `${formatBytes(fit.hostBytes)} of host memory, ${fit.seconds.toPrecision(3)} s a step`,
    ...(rows.length === 0 ? ["  these already"] : formatTable(["  setting", "GPU memory", "a step"], rows)),
  ];
}

function phaseTable(phases: readonly RecordedPhase[]): string[] {
  const rows = phases.map((phase) => [
    phase.name,
    formatBytes(phase.gpuBytes),
    formatBytes(phase.hostBytes),
    phase.unit,
    phase.launches,
    formatFlops(phase.flops),
    formatBytes(phase.uploadBytes),
    formatBytes(phase.downloadBytes),
  ]);
  return formatTable(["phase", "GPU memory", "host memory", "per", "launches", "work", "up", "down"], rows);
}

function partLines(parts: readonly MemoryPart[], total: number): string[] {
  const large = parts.filter(({ bytes }) => bytes >= SMALL_SHARE * total).sort((a, b) => b.bytes - a.bytes);
  const rest = total - large.reduce((sum, { bytes }) => sum + bytes, 0);
  const shown = rest > 0 ? [...large, { name: "everything else", bytes: rest }] : large;
  return shown.map(({ name, bytes }) => `  ${formatBytes(bytes).padStart(9)}  ${name}`);
}

function memoryLines({ phases, peakPhase, live }: RecordedForecast): string[] {
  const peak = phases.find(({ name }) => name === peakPhase)!;
  const alive = live.reduce((sum, { bytes }) => sum + bytes, 0);
  return [
    `${peak.name} needs the most GPU memory:`,
    ...partLines(peak.parts, peak.gpuBytes),
    `the arena of training at its fullest (d is a gradient):`,
    ...partLines(live, alive),
  ];
}

/** Seconds of a unit of a phase if every launch ran at the rate its arithmetic or its memory traffic allows. */
function secondsAtPeak(work: readonly PhaseWork[], gpu: string): number {
  const rates = gpuRates(gpu);
  return work.reduce((sum, { recording, runs }) => sum + runs * roofline(recording, rates), 0);
}

function timeTable(phases: readonly RecordedPhase[], gpus: readonly string[]): string[] {
  const rows = phases.map(({ name, unit, work }) => [
    name,
    unit,
    ...gpus.map((gpu) => formatSeconds(secondsAtPeak(work, gpu))),
  ]);
  return ["time at the peak rates of a GPU; real runs take longer:", ...formatTable(["phase", "per", ...gpus], rows)];
}

function formatSeconds(seconds: number): string {
  return seconds < 100 ? `${seconds.toPrecision(3)} s` : formatDuration(seconds);
}

/** The time of training where its kernels have been measured on a card of this machine. */
function measuredLines(phases: readonly RecordedPhase[]): string[] {
  return phases.filter(({ name }) => name === "training").flatMap((training) => {
    const time = measuredTime(training);
    if (time === undefined) return [];
    return [`training with the kernels measured on ${time.card}: ${formatSeconds(time.seconds)} per ${training.unit}`];
  });
}

function bucketLines({ buckets }: TrainConfig): string[] {
  return buckets.length < 2
    ? []
    : [`${buckets.length} buckets: work is that of the largest; memory too, beside the inputs of each`];
}

function verdict({ gpu_memory }: TrainConfig, { peakBytes, peakPhase }: RecordedForecast): string {
  const needs = `${peakPhase} needs ${formatBytes(peakBytes)} of GPU memory`;
  if (gpu_memory === undefined) return needs;
  const allowed = gpu_memory * 2 ** 30;
  return peakBytes <= allowed
    ? `${needs}: it fits the ${gpu_memory} GiB of gpu_memory`
    : `${needs}: that is ${formatBytes(peakBytes - allowed)} more than the ${gpu_memory} GiB of gpu_memory`;
}
