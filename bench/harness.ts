/** Times single launches: GPU time and CPU time of the whole process, which is the steadier figure on a shared machine. */
import process from "node:process";
import { bytesOf, type DType, type Launch, texelFormat, TEXTURE_WIDTH } from "../kernels/core/kernel.ts";
import { type Device, openDevice } from "../lib/gpu/device.ts";
import { packParams, PipelineCache } from "../lib/gpu/pipeline.ts";
import { copyToTexture, type TextureCopy } from "../lib/gpu/textures.ts";
import { engine } from "../tests/engine.ts";

/** A launch bound to buffers of its own, ready to run again and again. */
export interface Job {
  readonly launch: Launch;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly buffers: readonly GPUBuffer[];
  /** Made before every dispatch. */
  readonly copies: readonly TextureCopy[];
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
    return new Bench(await openDevice({ engine }));
  }

  /**
   * Binds a launch to fresh buffers: given bytes, or zeros of a number of elements. Large operands are read as plans have them
   * read, on software adapters through textures, unless `asBuffers` is set.
   */
  prepare(plain: Launch, contents: readonly (Uint8Array<ArrayBuffer> | number)[], asBuffers = false): Job {
    const { gpu } = this.device;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffers = contents.map((content, i) => {
      const size = typeof content === "number" ? content * bytesOf(plain.kernel.buffers[i]!.dtype) : content.byteLength;
      const buffer = gpu.createBuffer({ size, usage });
      if (typeof content !== "number") gpu.queue.writeBuffer(buffer, 0, content);
      return buffer;
    });
    const launch = asBuffers ? plain : this.#throughTextures(plain, buffers);
    const { kernel, params } = launch;
    const words = packParams(kernel, params);
    const usageUniform = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    const uniform = gpu.createBuffer({ size: words.byteLength, usage: usageUniform });
    gpu.queue.writeBuffer(uniform, 0, words);
    const copies = new Map(buffers.flatMap((buffer, i) => {
      const { dtype, texture } = kernel.buffers[i]!;
      return texture ? [[i, this.#textureFor(buffer, dtype)]] : [];
    }));
    const group = gpu.createBindGroup({
      layout: this.#pipelines.layout(kernel.buffers),
      entries: [
        { binding: 0, resource: { buffer: uniform } },
        ...buffers.map((buffer, i) => ({
          binding: i + 1,
          resource: copies.get(i)?.texture.createView() ?? { buffer },
        })),
      ],
    });
    const pipeline = this.#pipelines.get(kernel);
    return { launch, pipeline, group, buffers: [uniform, ...buffers], copies: [...copies.values()] };
  }

  /** The launch as plans record it, where what a text stores to is what it writes. */
  #throughTextures({ kernel, ...rest }: Launch, buffers: readonly GPUBuffer[]): Launch {
    const isStored = (name: string) => new RegExp(`(?<!fn )store_(element_)?${name}\\(`).test(kernel.code);
    const read = kernel.buffers.flatMap(({ name, dtype }, i) => dtype !== "u32" && !isStored(name) ? [i] : []);
    const pays = read.some((i) => buffers[i]!.size >= this.device.limits.textures!.leastBytes);
    return { ...rest, kernel: pays ? kernel.throughTextures(read) : kernel };
  }

  #textureFor(buffer: GPUBuffer, dtype: DType): TextureCopy {
    const texels = buffer.size / (4 * bytesOf(dtype));
    const texture = this.device.gpu.createTexture({
      size: [TEXTURE_WIDTH, Math.ceil(texels / TEXTURE_WIDTH)],
      format: texelFormat(dtype),
      usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST,
    });
    return { from: { buffer, offset: 0 }, texture, texels };
  }

  /** Encodes one dispatch with the copies it needs. */
  encode(
    encoder: GPUCommandEncoder,
    { launch, pipeline, group, copies }: Job,
    timestampWrites?: GPUComputePassTimestampWrites,
  ): void {
    for (const copy of copies) copyToTexture(encoder, copy);
    const pass = encoder.beginComputePass(timestampWrites === undefined ? {} : { timestampWrites });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...launch.grid);
    pass.end();
  }

  /**
   * Runs the job `repeats` times, copies to textures included; the first run of a kernel compiles it, so call this once before
   * counting.
   */
  async sample(job: Job, repeats = 1): Promise<Sample> {
    const { gpu } = this.device;
    const staging = gpu.createBuffer({ size: 16, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    const encoder = gpu.createCommandEncoder();
    for (let i = 0; i < repeats; i++) {
      this.encode(encoder, job, {
        querySet: this.#query,
        ...(i === 0 ? { beginningOfPassWriteIndex: 0 } : {}),
        ...(i === repeats - 1 ? { endOfPassWriteIndex: 1 } : {}),
      });
    }
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
    for (const { texture } of job.copies) texture.destroy();
  }

  [Symbol.dispose](): void {
    this.device[Symbol.dispose]();
  }
}
