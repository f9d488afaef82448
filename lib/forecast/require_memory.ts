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
 * @throws {UserError} with the phase that needs too much, what it consists of, and the switches that would make it fit.
 */
export function requireMemory(config: TrainConfig, stored: DType, device?: Device): void {
  if (config.gpu_memory === undefined) return;
  const options = runOptions(config, stored, device);
  requireFits(config, recordForecast(config, options), config.gpu_memory * 2 ** 30, options);
}

/** What the forecast of a run assumes, which has this model and device. */
export function runOptions(config: TrainConfig, stored: DType, device?: Device): ForecastOptions {
  const own = device && { target: device.target, limits: device.limits };
  // A run on random clips encodes nothing.
  const encoding = isDrawn(config) ? { encoding: [] } : {};
  return { ...folderShapes(config), ...encoding, stored, ...own };
}
