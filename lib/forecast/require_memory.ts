/** The refusal of a run that cannot fit, before anything is loaded. */
import type { DType } from "../../kernels/core/kernel.ts";
import type { Device } from "../gpu/device.ts";
import type { TrainConfig } from "../config/config.ts";
import { isDrawn } from "../config/derive.ts";
import { type ForecastOptions, recordForecast } from "./forecast.ts";
import { requireFits } from "./fit.ts";
import { folderShapes } from "./folder_shapes.ts";

/**
 * Checks the plans of a run against `gpu_memory`; WebGPU does not tell how much memory an adapter has, so without that
 * setting nothing is refused. `stored` is the storage of the checkpoint's matrices. The plans are those of `device`, or
 * of a usual card as long as there is none.
 *
 * @returns the bytes that the run keeps in host memory, for {@linkcode requireHostMemory}.
 * @throws {UserError} with the phase that needs too much, what it consists of, and the switches that would make it fit.
 */
export function requireMemory(config: TrainConfig, stored: DType, device?: Device): number {
  if (config.gpu_memory === undefined && !usesHost(config)) return 0;
  const options = runOptions(config, stored, device);
  const forecast = recordForecast(config, options);
  if (config.gpu_memory !== undefined) requireFits(config, forecast, config.gpu_memory * 2 ** 30, options);
  return Math.max(...forecast.phases.map(({ hostBytes }) => hostBytes));
}

/** Whether tensors live in host memory: a forecast takes seconds, and others need none. */
function usesHost(config: TrainConfig): boolean {
  const { offload_optimizer, offload_activations, base_weights, zero_stage } = config;
  return offload_optimizer || offload_activations || base_weights === "streamed" || zero_stage > 0;
}

/** What the forecast of a run assumes, which has this model and device. */
export function runOptions(config: TrainConfig, stored: DType, device?: Device): ForecastOptions {
  const own = device && { target: device.target, limits: device.limits };
  // A run on random clips encodes nothing.
  const encoding = isDrawn(config) ? { encoding: [] } : {};
  return { ...folderShapes(config), ...encoding, stored, ...own };
}
