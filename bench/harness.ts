/** Times single launches: GPU time of the pass and CPU time of the whole process, which is the steadier figure on a shared machine. */
import process from "node:process";
import { type BufferSpec, bytesOf, type DType, type Launch, texelFormat, TEXTURE_WIDTH } from "../kernels/kernel.ts";
import { type Device, openDevice } from "../lib/gpu/device.ts";
import { packParams, PipelineCache } from "../lib/gpu/pipeline.ts";
import { copyToTexture } from "../lib/gpu/textures.ts";

/** A launch bound to buffers of its own, ready to run again and again. */
export interface Job {
  readonly launch: Launch;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly buffers: readonly GPUBuffer[];
}

/** Milliseconds of one dispatch: on the GPU's clock, and of all threads of this process. */
export interface Sample {
  readonly wall: number;
  readonly cpu: number;
}

/** CPU milliseconds this process has used so far, all threads. */
export function cpuMilliseconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** The value below which the fraction `p` of the samples lies. */
export function quantile(samples: readonly number[], p: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))]!;
}

/** The middle sample. */
export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** Random numbers in [-0.5, 0.5) as `dtype` stores them. */
export function randomBytes(length: number, dtype: DType): Uint8Array<ArrayBuffer> {
  const values = Float32Array.from({ length }, () => Math.random() - 0.5);
  if (bytesOf(dtype) === 4) return new Uint8Array(values.buffer);
  if (dtype === "f16") return new Uint8Array(new Float16Array(values).buffer as ArrayBuffer);
  const words = new Uint32Array(values.buffer);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}

/** Runs launches on one device and times them. */
export class Bench implements Disposable {
  readonly #pipelines: PipelineCache;
  readonly #query: GPUQuerySet;
  readonly #resolved: GPUBuffer;

  private constructor(readonly device: Device) {
    this.#pipelines = new PipelineCache(device);
    this.#query = device.gpu.createQuerySet({ type: "timestamp", count: 2 });
    this.#resolved = device.gpu.createBuffer({
      size: 16,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
  }

  /** Opens the device. */
  static async open(): Promise<Bench> {
    return new Bench(await openDevice());
  }

  /** Binds a launch to fresh buffers: given bytes, or zeros of a number of elements. */
  prepare(launch: Launch, contents: readonly (Uint8Array<ArrayBuffer> | number)[]): Job {
    const { gpu } = this.device;
    const { kernel } = launch;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffers = contents.map((content, i) => {
      const size = typeof content === "number" ? content * bytesOf(kernel.buffers[i]!.dtype) : content.byteLength;
      const buffer = gpu.createBuffer({ size, usage });
      if (typeof content !== "number") gpu.queue.writeBuffer(buffer, 0, content);
      return buffer;
    });
    const words = packParams(kernel, launch.params);
    const usageUniform = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    const uniform = gpu.createBuffer({ size: words.byteLength, usage: usageUniform });
    gpu.queue.writeBuffer(uniform, 0, words);
    const group = gpu.createBindGroup({
      layout: this.#pipelines.layout(kernel.buffers),
      entries: [{ buffer: uniform }, ...buffers.map((buffer, i) => this.#resource(buffer, kernel.buffers[i]!))].map(
        (resource, binding) => ({ binding, resource }),
      ),
    });
    return { launch, pipeline: this.#pipelines.get(kernel), group, buffers: [uniform, ...buffers] };
  }

  /** A buffer as a kernel reads it: itself, or a texture with a copy. */
  #resource(buffer: GPUBuffer, { dtype, texture }: BufferSpec): GPUBindingResource {
    if (!texture) return { buffer };
    const { gpu } = this.device;
    const texels = buffer.size / (4 * bytesOf(dtype));
    const copy = gpu.createTexture({
      size: [TEXTURE_WIDTH, Math.ceil(texels / TEXTURE_WIDTH)],
      format: texelFormat(dtype),
      usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST,
    });
    const encoder = gpu.createCommandEncoder();
    copyToTexture(encoder, { from: { buffer, offset: 0 }, texture: copy, texels });
    gpu.queue.submit([encoder.finish()]);
    return copy.createView();
  }

  /** Runs the job `repeats` times in one pass; the first run of a kernel compiles it, so call this once before counting. */
  async sample({ launch, pipeline, group }: Job, repeats = 1): Promise<Sample> {
    const { gpu } = this.device;
    const staging = gpu.createBuffer({ size: 16, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    const encoder = gpu.createCommandEncoder();
    const pass = encoder.beginComputePass({
      timestampWrites: { querySet: this.#query, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
    });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let i = 0; i < repeats; i++) pass.dispatchWorkgroups(...launch.grid);
    pass.end();
    encoder.resolveQuerySet(this.#query, 0, 2, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, staging, 0, 16);
    const commands = encoder.finish();
    const before = cpuMilliseconds();
    gpu.queue.submit([commands]);
    await staging.mapAsync(GPUMapMode.READ);
    const cpu = (cpuMilliseconds() - before) / repeats;
    this.device.check();
    const [begin, end] = new BigUint64Array(staging.getMappedRange().slice(0));
    staging.destroy();
    return { wall: Number(end! - begin!) / 1e6 / repeats, cpu };
  }

  /** Frees the buffers of a job. */
  free(job: Job): void {
    for (const buffer of job.buffers) buffer.destroy();
  }

  [Symbol.dispose](): void {
    this.device[Symbol.dispose]();
  }
}
