import { plainTarget, type Target } from "../../kernels/core/kernel.ts";
import { testDevice } from "./run.ts";

/** The device's own target, then the one without subgroup operations: every case runs with both. */
export async function targets(): Promise<Target[]> {
  const { device } = await testDevice();
  return device.target.subgroups > 0 ? [device.target, plainTarget(0)] : [device.target];
}
