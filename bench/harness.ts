/** Times launches: GPU time and CPU time of the whole process, which is the steadier figure on a shared machine. */
import process from "node:process";
import { bytesOf, type DType, type Launch, texelFormat, TEXTURE_WIDTH, type Work } from "../kernels/core/kernel.ts";
import { RandomStream } from "../lib/data/random/random.ts";
import { type Device, openDevice } from "../lib/gpu/device.ts";
import { packParams, PipelineCache } from "../lib/gpu/pipeline.ts";
import { copyToTexture, type TextureCopy } from "../lib/gpu/textures.ts";
import { engine } from "../tests/engine.ts";

/** What a buffer holds at first: bytes, or zeros of a number of elements. */
export type Content = Uint8Array<ArrayBuffer> | number;

/** A launch with its resources. */
interface Bound {
  readonly launch: Launch;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  /** Made before every dispatch. */
  readonly copies: readonly TextureCopy[];
}

/** Launches bound to buffers of their own, ready to run again and again. */
export interface Job {
  readonly flops: number;
  readonly bound: readonly Bound[];
  /** By name, without those for parameters. */
  readonly buffers: ReadonlyMap<string, GPUBuffer>;
  readonly uniforms: readonly GPUBuffer[];
}

/** Milliseconds of one dispatch: on the GPU's clock, or the host's where passes can't be timed, and of all threads of this process. */
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

/** Numbers drawn: as many differ, an odd count so that rows do. Drawing all of a released model's takes minutes. */
const DRAWN = 2 ** 20 + 7;

let draws = 0;

/**
 * Random numbers of [-0.5, 0.5) times `scale` as `dtype` stores them, which repeat after {@linkcode DRAWN}. Equal samples hold equal
 * numbers, in every process and storage type; by default every call draws others.
 */
export function randomBytes(length: number, dtype: DType, scale = 1, sample = draws++): Uint8Array<ArrayBuffer> {
  const stream = new RandomStream({ seed: 0, purpose: "weights", step: 0, sample });
  const values = Float32Array.from(
    { length: Math.min(length, DRAWN) },
    () => (stream.uint32() / 2 ** 32 - 0.5) * scale,
  );
  const drawn = stored(values, dtype);
  const bytes = new Uint8Array(length * bytesOf(dtype));
  bytes.set(drawn);
  for (let filled = drawn.length; filled < bytes.length; filled *= 2) bytes.copyWithin(filled, 0, filled);
  return bytes;
}

function stored(values: Float32Array<ArrayBuffer>, dtype: DType): Uint8Array<ArrayBuffer> {
  if (bytesOf(dtype) === 4) return new Uint8Array(values.buffer);
  if (dtype === "f16") return new Uint8Array(new Float16Array(values).buffer as ArrayBuffer);
  const words = new Uint32Array(values.buffer);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}

/** Runs launches on one device and times them. */
export class Bench implements Disposable {
  readonly #pipelines: PipelineCache;
  /** Unset where passes can't be timed. */
  readonly #query: GPUQuerySet | undefined;
  readonly #resolved: GPUBuffer;

  private constructor(readonly device: Device) {
    this.#pipelines = new PipelineCache(device);
    if (device.timestamps) this.#query = device.gpu.createQuerySet({ type: "timestamp", count: 2 });
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
   * Binds a launch, or the launches of a kernel family, to fresh buffers, found by the order of the kernel's or by name. Large
   * operands are read as plans have them read, on software adapters through textures, unless `asBuffers` is set.
   */
  prepare(
    work: Launch | Work,
    contents: readonly Content[] | Readonly<Record<string, Content>>,
    asBuffers = false,
  ): Job {
    const { gpu } = this.device;
    const { launches, scratch = {} }: Work = "kernel" in work ? { launches: [{ launch: work, writes: [] }] } : work;
    const named: Readonly<Record<string, Content>> = Array.isArray(contents)
      ? Object.fromEntries(contents.map((content, i) => [launches[0]!.launch.kernel.buffers[i]!.name, content]))
      : contents as Readonly<Record<string, Content>>;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffers = new Map<string, GPUBuffer>();
    for (const { name, dtype } of launches.flatMap(({ launch }) => launch.kernel.buffers)) {
      if (buffers.has(name)) continue;
      const content = named[name] ?? scratch[name]!;
      const buffer = gpu.createBuffer({
        size: typeof content === "number" ? content * bytesOf(dtype) : content.byteLength,
        usage,
      });
      if (typeof content !== "number") gpu.queue.writeBuffer(buffer, 0, content);
      buffers.set(name, buffer);
    }
    const uniforms: GPUBuffer[] = [];
    const bound = launches.map(({ launch }) => {
      const operands = launch.kernel.buffers.map(({ name }) => buffers.get(name)!);
      const words = packParams(launch.kernel, launch.params);
      const uniform = gpu.createBuffer({
        size: words.byteLength,
        usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
      });
      gpu.queue.writeBuffer(uniform, 0, words);
      uniforms.push(uniform);
      return this.#bind(asBuffers ? launch : this.#throughTextures(launch, operands), uniform, operands);
    });
    return { flops: launches.reduce((sum, { launch }) => sum + launch.flops, 0), bound, buffers, uniforms };
  }

  #bind(launch: Launch, uniform: GPUBuffer, operands: readonly GPUBuffer[]): Bound {
    const { kernel } = launch;
    const copies = new Map(operands.flatMap((buffer, i) => {
      const { dtype, texture } = kernel.buffers[i]!;
      return texture ? [[i, this.#textureFor(buffer, dtype)]] : [];
    }));
    const group = this.device.gpu.createBindGroup({
      layout: this.#pipelines.layout(kernel.buffers),
      entries: [
        { binding: 0, resource: { buffer: uniform } },
        ...operands.map((buffer, i) => ({
          binding: i + 1,
          resource: copies.get(i)?.texture.createView() ?? { buffer },
        })),
      ],
    });
    return { launch, pipeline: this.#pipelines.get(kernel), group, copies: [...copies.values()] };
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

  /** Encodes one run with the copies it needs, timed from its first dispatch to its last. */
  encode(encoder: GPUCommandEncoder, { bound }: Job, times: Partial<Record<"begin" | "end", number>> = {}): void {
    const querySet = this.#query;
    bound.forEach(({ launch, pipeline, group, copies }, i) => {
      for (const copy of copies) copyToTexture(encoder, copy);
      const writes = {
        ...(i === 0 && times.begin !== undefined ? { beginningOfPassWriteIndex: times.begin } : {}),
        ...(i === bound.length - 1 && times.end !== undefined ? { endOfPassWriteIndex: times.end } : {}),
      };
      const timed = querySet !== undefined && Object.keys(writes).length > 0;
      const pass = encoder.beginComputePass(timed ? { timestampWrites: { querySet, ...writes } } : {});
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...launch.grid);
      pass.end();
    });
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
      this.encode(encoder, job, { ...(i === 0 ? { begin: 0 } : {}), ...(i === repeats - 1 ? { end: 1 } : {}) });
    }
    if (this.#query !== undefined) encoder.resolveQuerySet(this.#query, 0, 2, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, staging, 0, 16);
    const commands = encoder.finish();
    const [clock, before] = [performance.now(), cpuMilliseconds()];
    gpu.queue.submit([commands]);
    await staging.mapAsync(GPUMapMode.READ);
    const [elapsed, cpu] = [performance.now() - clock, (cpuMilliseconds() - before) / repeats];
    this.device.check();
    const [begin, end] = new BigUint64Array(staging.getMappedRange().slice(0));
    staging.destroy();
    return { wall: (this.#query === undefined ? elapsed : Number(end! - begin!) / 1e6) / repeats, cpu };
  }

  /** Frees the buffers of a job. */
  free(job: Job): void {
    for (const buffer of [...job.buffers.values(), ...job.uniforms]) buffer.destroy();
    for (const { texture } of job.bound.flatMap(({ copies }) => copies)) texture.destroy();
  }

  [Symbol.dispose](): void {
    this.device[Symbol.dispose]();
  }
}
