/** A session as on a device with other limits, that notes how large its buffers are. */
import type { Device } from "../lib/gpu/device.ts";
import { Session } from "../lib/gpu/session.ts";
import type { RecordingLimits } from "../lib/plan/limits.ts";

/** Limits that put tensors of more than `bytes` bytes into pieces. */
export function piecesOf(bytes: number): Pick<RecordingLimits, "chunkBytes" | "bindingBytes"> {
  return { chunkBytes: bytes, bindingBytes: bytes };
}

/** Notes the largest buffer that a launch could bind. */
export class LimitedSession extends Session {
  override readonly limits: RecordingLimits;
  largestBuffer = 0;

  /** @param limits Those that differ from the device's own. */
  constructor(device: Device, limits: Partial<RecordingLimits> = {}) {
    super(device);
    this.limits = { ...device.limits, ...limits };
  }

  override createBuffer(bytes: number, usage: GPUBufferUsageFlags, label: string): GPUBuffer {
    if ((usage & GPUBufferUsage.STORAGE) !== 0) this.largestBuffer = Math.max(this.largestBuffer, bytes);
    return super.createBuffer(bytes, usage, label);
  }
}
