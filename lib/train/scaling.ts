/** What several GPUs exchange per step, and how much of their time that leaves for training. */
import { describeRun, namedTransformer } from "./step_config.ts";
import type { ForecastOptions } from "./forecast.ts";
import type { TrainConfig } from "./config.ts";
import { bytesOf } from "../../kernels/kernel.ts";

/** Rates of the ways that gradients take, bytes per second. */
export interface LinkRates {
  /** Between GPU and host, each way. */
  readonly transfer: number;
  /** What all ranks of a host add and copy together in its memory. */
  readonly memory: number;
  /** What a host sends to another. */
  readonly network: number;
}

/**
 * PCIe 4.0 x16 at about half its peak; the sum over both ranks of the ring measured in bench/results on two cores; a 10 Gbit/s
 * network. Machines differ by more than ten times, so these are for orientation and measured ones belong in their place.
 */
export const USUAL_LINKS: LinkRates = { transfer: 12e9, memory: 13e9, network: 1.2e9 };

/** Communication of one optimizer step. */
export interface ScalingForecast {
  readonly ranks: number;
  /** Bytes each rank sends to its neighbour. */
  readonly bytesPerRank: number;
  /** Bytes each host sends to another. */
  readonly bytesPerHost: number;
  readonly seconds: number;
}

/**
 * Forecasts the exchange of `hosts` machines with `config.gpus` GPUs each. A ring sends 2 (N - 1) / N of the gradients per rank;
 * sharded updates send the sums once and the working weights once. One edge of the ring leaves each host, and exchange and
 * arithmetic do not overlap.
 */
export function forecastScaling(
  config: TrainConfig,
  hosts: number,
  links: LinkRates = USUAL_LINKS,
  options: Pick<ForecastOptions, "model"> = {},
): ScalingForecast {
  const run = describeRun(config, options.model ?? namedTransformer(config));
  const ranks = config.gpus * hosts;
  const { buckets } = run.trainables;
  const elements = buckets.reduce((sum, { gradients }) => sum + gradients.size, 0);
  const gradients = 4 * elements;
  const gathered = run.shard === undefined ? gradients : elements * bytesOf(buckets[0]!.copy!.dtype);
  const share = (ranks - 1) / ranks;
  const bytesPerRank = share * (gradients + gathered);
  const moved = 2 * gradients / links.transfer;
  const inMemory = config.gpus > 1 ? config.gpus * bytesPerRank / links.memory : 0;
  const overNetwork = hosts > 1 ? bytesPerRank / links.network : 0;
  return {
    ranks,
    bytesPerRank,
    bytesPerHost: hosts > 1 ? bytesPerRank : 0,
    seconds: ranks === 1 ? 0 : moved + Math.max(inMemory, overNetwork),
  };
}
