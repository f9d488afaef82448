/** What several GPUs exchange per step, and how long that takes at the rates of the ways it goes. */
import { bytesOf } from "../../kernels/core/kernel.ts";
import { regionShape } from "../comm/shared_memory/region.ts";
import { rankNodes } from "../comm/exchange/tree.ts";
import type { Bucket } from "../models/tensors/trainables.ts";
import type { TrainConfig } from "../config/config.ts";
import { readGroups } from "../step/exchange.ts";
import type { ForecastOptions } from "./forecast.ts";
import { describeRun, namedTransformer, type RunDescription } from "../step/run_description.ts";

/**
 * Rates of the ways that gradients and weights take, bytes per second: of a rank, while all ranks of its host do the
 * same.
 */
export interface LinkRates {
  /** Between its GPU and its arrays on the host, each way. */
  readonly transfer: number;
  /** What it sends to others of arrays in memory that they share. */
  readonly memory: number;
  /** The same of arrays elsewhere, which are copied into shared memory and back. */
  readonly staged: number;
  /** What a host, not a rank, sends to another. */
  readonly network: number;
}

/**
 * PCIe 4.0 x16 at about half its peak; ranks with a core each as measured in bench/results; a 10 Gbit/s network.
 * Machines differ by more than ten times: measured ones belong in their place.
 */
export const USUAL_LINKS: LinkRates = { transfer: 12e9, memory: 6.5e9, staged: 1.5e9, network: 1.2e9 };

/** Seconds that a read from the GPU takes whatever its size: the engine looks every 10 ms whether it is done. */
export const READ_SECONDS = 0.011;

/** Seconds that an exchange takes whatever its size: median for 4 bytes among two ranks. */
const EXCHANGE_SECONDS = 1e-4;

/**
 * Squares per second that a rank adds up where the norm is the host's: 1.2e9 at best, 0.4e9 on a core shared with
 * others.
 */
const SQUARES_PER_SECOND = 1e9;

/** Communication of one optimizer step. */
export interface ScalingForecast {
  readonly ranks: number;
  /** Bytes each rank sends to others, on average. */
  readonly bytesPerRank: number;
  /** Bytes each host sends to another. */
  readonly bytesPerHost: number;
  /** Bytes each rank moves between its GPU and the host for the exchange; what the step itself moves is not counted. */
  readonly transferBytes: number;
  readonly seconds: number;
}

/**
 * Forecasts the exchange of `hosts` machines with `config.gpus` GPUs each. A ring sends (N - 1) / N of the gradients
 * per rank to sum them, and as much of the sums; where the update is sharded, of the working weights instead. A
 * canonical sum sends every node of the tree that a rank has left. One edge of the ring leaves each host; exchange and
 * arithmetic do not overlap.
 */
export function forecastScaling(
  config: TrainConfig,
  hosts: number,
  links: LinkRates = USUAL_LINKS,
  options: Pick<ForecastOptions, "model"> = {},
): ScalingForecast {
  const ranks = config.gpus * hosts;
  if (ranks === 1) return { ranks, bytesPerRank: 0, bytesPerHost: 0, transferBytes: 0, seconds: 0 };
  const run = describeRun({ ...config, gpus: ranks }, options.model ?? namedTransformer(config));
  const { trainables: { buckets }, shard } = run;
  const gradients = gradientBytes(buckets);
  const gathered = shard === undefined ? gradients : buckets.reduce((sum, { copy }) => sum + copy!.bytes, 0);
  const nodes = config.reduction === "ring" ? 1 : nodesPerRank(config.gradient_accumulation_steps, ranks);
  const bytesPerRank = (ranks - 1) / ranks * (nodes * gradients + gathered);
  const bytesPerHost = hosts > 1 ? bytesPerRank : 0;
  const transfers = gpuTransfers(config, run);
  const inPlace = hosts > 1 ? 0 : sharedPart(config, run);
  const inMemory = config.gpus === 1 ? 0 : bytesPerRank * (inPlace / links.memory + (1 - inPlace) / links.staged);
  return {
    ranks,
    bytesPerRank,
    bytesPerHost,
    transferBytes: transfers.bytes,
    seconds: transfers.bytes / links.transfer + transfers.reads * READ_SECONDS +
      Math.max(inMemory, bytesPerHost / links.network) +
      buckets.length * (shard === undefined ? 1 : 2) * EXCHANGE_SECONDS +
      hostSquares(run) / SQUARES_PER_SECOND,
  };
}

function gradientBytes(buckets: readonly Bucket[]): number {
  return buckets.reduce((sum, { gradients }) => sum + gradients.bytes, 0);
}

/** Nodes of the tree over a step's micro-batches that a rank has after adding up its own, on average. */
function nodesPerRank(accumulation: number, ranks: number): number {
  const counts = Array.from({ length: ranks }, (_, rank) => rankNodes(accumulation * ranks, rank, ranks).length);
  return counts.reduce((sum, count) => sum + count, 0) / ranks;
}

/** Gradients that leave the GPU for the exchange and come back, and weights that others have updated. */
function gpuTransfers(
  { reduction, gradient_accumulation_steps }: TrainConfig,
  { trainables: { buckets }, shard }: RunDescription,
): { readonly bytes: number; readonly reads: number } {
  const onGpu = buckets.filter(({ gradients }) => !gradients.host);
  const times = reduction === "ring" ? 1 : gradient_accumulation_steps;
  const weights = shard === undefined ? [] : buckets.flatMap(({ copy }) => copy!.host ? [] : [copy!]);
  return {
    bytes: (times + 1) * gradientBytes(onGpu) + weights.reduce((sum, { bytes }) => sum + bytes, 0),
    reads: times * readGroups(onGpu.map(({ gradients }) => gradients)).length,
  };
}

/** Share of the exchanged bytes that lie in shared memory: gradients from the GPU, as far as there is room. */
function sharedPart({ reduction, gpus }: TrainConfig, { trainables: { buckets }, shard }: RunDescription): number {
  if (reduction === "canonical" || shard !== undefined) return 0;
  const onGpu = gradientBytes(buckets.filter(({ gradients }) => !gradients.host));
  return Math.min(onGpu, regionShape(gpus).arena) / gradientBytes(buckets);
}

/** Gradients whose squares a rank adds up where the norm is the host's: its shard, or all of them. */
function hostSquares({ step, ranks, trainables: { buckets }, shard }: RunDescription): number {
  if (!step.optimizer.hostNorm) return 0;
  return gradientBytes(buckets) / bytesOf("f32") / (shard === undefined ? 1 : ranks);
}
