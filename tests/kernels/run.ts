/** Runs single launches on host arrays, with sentinels behind every buffer that show out-of-bounds writes. */
import { bytesOf, type DType, type Launch, type Work } from "../../kernels/core/kernel.ts";
import { type Device, openDevice } from "../../lib/gpu/device.ts";
import { packParams, PipelineCache } from "../../lib/gpu/pipeline.ts";
import { engine } from "../engine.ts";

let shared: { device: Device; pipelines: PipelineCache } | undefined;

/** The device all kernel tests of this process use. */
export async function testDevice(): Promise<{ device: Device; pipelines: PipelineCache }> {
  if (shared === undefined) {
    const device = await openDevice({ engine });
    shared = { device, pipelines: new PipelineCache(device) };
  }
  return shared;
}

/** Numbers in [-0.5, 0.5) that are the same in every run (a 32-bit linear congruence). */
export function numbers(length: number, seed = 1): Float32Array<ArrayBuffer> {
  let state = (seed * 2654435761) >>> 0;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  });
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

function bf16Bits(value: number): number {
  float[0] = value;
  return ((bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The value a number has once stored as `dtype`. */
export function rounded(value: number, dtype: DType): number {
  if (dtype === "f16") return Math.f16round(value);
  if (dtype === "bf16") {
    bits[0] = bf16Bits(value) << 16;
    return float[0]!;
  }
  return Math.fround(value);
}

/** Rounds every element as storage in `dtype` would. */
export function stored(values: Float32Array, dtype: DType): Float32Array<ArrayBuffer> {
  return Float32Array.from(values, (value) => rounded(value, dtype));
}

function encode(values: Float32Array | Uint32Array, dtype: DType): Uint8Array<ArrayBuffer> {
  if (dtype === "f32" || dtype === "u32") return new Uint8Array(values.slice().buffer as ArrayBuffer);
  const half = dtype === "f16" ? new Float16Array(values) : Uint16Array.from(values as Float32Array, bf16Bits);
  return new Uint8Array(half.buffer as ArrayBuffer);
}

function decode(bytes: ArrayBuffer, dtype: DType): Float32Array<ArrayBuffer> {
  if (dtype === "f32") return new Float32Array(bytes);
  if (dtype === "u32") return Float32Array.from(new Uint32Array(bytes));
  if (dtype === "f16") return Float32Array.from(new Float16Array(bytes));
  return new Float32Array(Uint32Array.from(new Uint16Array(bytes), (half) => half << 16).buffer);
}

const SENTINEL_BYTES = 256;

/**
 * Runs `launch` with the given contents of its buffers (an array to upload, or a length to start at zero) and returns what all
 * buffers hold afterwards, widened to f32. Throws when a sentinel behind a buffer changed.
 */
export async function runLaunch(
  launch: Launch,
  contents: readonly (Float32Array | Uint32Array | number)[],
): Promise<Float32Array<ArrayBuffer>[]> {
  const { device, pipelines } = await testDevice();
  const { gpu } = device;
  const { kernel } = launch;
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const sizes = contents.map((content, i) =>
    (typeof content === "number" ? content : content.length) * bytesOf(kernel.buffers[i]!.dtype)
  );
  const buffers = contents.map((content, i) => {
    const buffer = gpu.createBuffer({ size: Math.ceil(sizes[i]! / 4) * 4 + SENTINEL_BYTES, usage });
    if (typeof content !== "number") gpu.queue.writeBuffer(buffer, 0, encode(content, kernel.buffers[i]!.dtype));
    return buffer;
  });
  const words = packParams(kernel, launch.params);
  const uniform = gpu.createBuffer({ size: words.byteLength, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
  gpu.queue.writeBuffer(uniform, 0, words);
  const group = gpu.createBindGroup({
    layout: pipelines.layout(kernel.buffers),
    entries: [uniform, ...buffers].map((buffer, binding) => ({
      binding,
      resource: { buffer, ...(binding > 0 ? { size: sizes[binding - 1]! } : {}) },
    })),
  });
  const encoder = gpu.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipelines.get(kernel));
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(...launch.grid);
  pass.end();
  const readbacks = buffers.map((buffer) => {
    const staging = gpu.createBuffer({ size: buffer.size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size);
    return staging;
  });
  gpu.queue.submit([encoder.finish()]);
  await Promise.all(readbacks.map((staging) => staging.mapAsync(GPUMapMode.READ)));
  device.check();
  const results = readbacks.map((staging, i) => {
    const bytes = staging.getMappedRange().slice(0);
    staging.destroy();
    const behind = new Uint8Array(bytes, Math.ceil(sizes[i]! / 4) * 4);
    if (behind.some((byte) => byte !== 0)) {
      throw new Error(`${kernel.key} wrote past the end of ${kernel.buffers[i]!.name}`);
    }
    return decode(bytes.slice(0, sizes[i]!), kernel.buffers[i]!.dtype);
  });
  for (const buffer of [uniform, ...buffers]) buffer.destroy();
  return results;
}

/** Contents of operands by name. */
export type Operands = Readonly<Record<string, Float32Array | Uint32Array | number>>;

/** Runs work on operands found by name and returns what all of them, and what it hands on among its launches, hold afterwards. */
export async function runWork({ launches, scratch }: Work, operands: Operands): Promise<Record<string, Float32Array>> {
  const held: Record<string, Float32Array | Uint32Array | number> = { ...scratch, ...operands };
  for (const { launch, writes } of launches) {
    const names = launch.kernel.buffers.map(({ name }) => name);
    const results = await runLaunch(launch, names.map((name) => held[name]!));
    names.forEach((name, i) => {
      if (writes.includes(name)) held[name] = results[i]!;
    });
  }
  return held as Record<string, Float32Array>;
}

/** Relative L2 distance |a - b| / |b|, the measure all comparisons use. */
export function relativeL2(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) {
    throw new RangeError(`lengths differ: ${actual.length} and ${expected.length}`);
  }
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(difference) / Math.max(Math.sqrt(norm), 1e-30);
}
