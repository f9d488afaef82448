/** The refusal of a run that cannot fit, before anything is loaded. */
import type { DType } from "../../kernels/core/kernel.ts";
import type { Device } from "../gpu/device.ts";
import { Session } from "../gpu/session.ts";
import type { TrainConfig } from "../config/config.ts";
import { recordForecast } from "./forecast.ts";
import { requireFits } from "./fit.ts";
import { folderShapes } from "./folder_shapes.ts";

/**
 * Checks the plans of this very device against `gpu_memory`; WebGPU does not tell how much memory an adapter has, so
 * without that setting nothing is refused. `stored` is the storage of the checkpoint's matrices.
 *
 * @throws {UserError} with the phase that needs too much, what it consists of, and the switches that would make it fit.
 */
export function requireMemory(device: Device, config: TrainConfig, stored: DType): void {
  if (config.gpu_memory === undefined) return;
  using session = new Session(device);
  const options = { ...folderShapes(config), stored, target: device.target, limits: session.limits };
  requireFits(config, recordForecast(config, options), config.gpu_memory * 2 ** 30, options);
}
