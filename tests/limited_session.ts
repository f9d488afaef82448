/** A session as on a device with other limits, that notes how much memory it needed. */
import type { Device } from "../lib/gpu/device.ts";
import type { TexelFormat } from "../kernels/core/kernel.ts";
import { Session } from "../lib/gpu/session.ts";
import type { RecordingLimits } from "../lib/plan/limits.ts";

/** Limits that put tensors of more than `bytes` bytes into pieces. */
export function piecesOf(bytes: number): Pick<RecordingLimits, "chunkBytes" | "bindingBytes"> {
  return { chunkBytes: bytes, bindingBytes: bytes };
}

/** Notes the largest buffer that a launch could bind, and the most bytes that were allocated at a time. */
export class LimitedSession extends Session {
  override readonly limits: RecordingLimits;
  largestBuffer = 0;
  peakBytes = 0;

  /** @param limits Those that differ from the device's own. */
  constructor(device: Device, limits: Partial<RecordingLimits> = {}) {
    super(device);
    this.limits = { ...device.limits, ...limits };
  }

  override createBuffer(bytes: number, usage: GPUBufferUsageFlags, label: string): GPUBuffer {
    if ((usage & GPUBufferUsage.STORAGE) !== 0) this.largestBuffer = Math.max(this.largestBuffer, bytes);
    const buffer = super.createBuffer(bytes, usage, label);
    this.peakBytes = Math.max(this.peakBytes, this.allocatedBytes);
    return buffer;
  }

  override createTexture(format: TexelFormat, rows: number, label: string): GPUTexture {
    const texture = super.createTexture(format, rows, label);
    this.peakBytes = Math.max(this.peakBytes, this.allocatedBytes);
    return texture;
  }
}
