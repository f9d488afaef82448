/** A recording bound to a device: arena buffers, one bind group per step, and a loop that encodes and submits. */
import { type BufferRange, wholeWords } from "./host_memory.ts";
import { packParams } from "./pipeline.ts";
import type { Session } from "./session.ts";
import type { Launch, TexelFormat } from "../../kernels/core/kernel.ts";
import { pieceRanges } from "../plan/pieces.ts";
import { arenaChunks, arenaTextures, type Recording, UNIFORM_STRIDE } from "../plan/recording.ts";
import type { LaunchStep, TransferStep } from "../plan/plan.ts";
import { texturedOperands } from "../plan/textures.ts";
import { copyToTexture, type TextureCopy } from "./textures.ts";
import type { Tensor } from "../plan/tensor.ts";

/**
 * Launches per submit: enough that the engine's cost per submit (0.2 ms) vanishes, few enough that the GPU starts
 * early.
 */
const LAUNCHES_PER_SUBMIT = 256;

/** GPU time of one kernel in a profiled run. */
export interface KernelTime {
  readonly key: string;
  readonly launches: number;
  readonly milliseconds: number;
  readonly flops: number;
  readonly bytes: number;
}

/** Memory for the transients of several plans that never run at the same time, and the textures they read through. */
export class Arena implements Disposable {
  readonly chunks: readonly GPUBuffer[];
  readonly textures: Readonly<Record<TexelFormat, readonly GPUTexture[]>>;

  constructor(readonly session: Session, recordings: readonly Recording[]) {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    this.chunks = arenaChunks(recordings).map((bytes, i) => session.createBuffer(bytes, usage, `arena ${i}`));
    const rows = arenaTextures(recordings);
    const make = (format: TexelFormat) => rows[format].map((rows) => session.createTexture(format, rows, "operand"));
    this.textures = { rgba32float: make("rgba32float"), rg32uint: make("rg32uint") };
  }

  [Symbol.dispose](): void {
    for (const buffer of this.chunks) this.session.destroyBuffer(buffer);
    for (const texture of Object.values(this.textures).flat()) this.session.destroyTexture(texture);
  }
}

/** A launch with its resources. */
interface Bound {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  /** What goes to textures right before. */
  readonly copies: readonly TextureCopy[];
}

/** A plan that can be run again and again. Dispose it to free its arena; resident tensors belong to the session. */
export class Executable implements Disposable {
  readonly #arena: Arena;
  /** Set when nobody else uses the arena. */
  readonly #ownArena: Arena | undefined;
  readonly #uniforms: GPUBuffer;
  /** By step; transfers have none. */
  readonly #bound: (Bound | undefined)[];

  /** @param arena Made for this recording among others; the plan gets memory of its own without it. */
  constructor(readonly session: Session, readonly recording: Recording, arena?: Arena) {
    const { gpu } = session.device;
    this.#ownArena = arena === undefined ? new Arena(session, [recording]) : undefined;
    this.#arena = arena ?? this.#ownArena!;
    this.#uniforms = session.createBuffer(
      Math.max(1, recording.uniforms.length) * UNIFORM_STRIDE,
      GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
      "uniforms",
    );
    const words = new Uint32Array(this.#uniforms.size / 4);
    for (const { launch, offset } of recording.uniforms) {
      words.set(packParams(launch.kernel, launch.params), offset / 4);
    }
    gpu.queue.writeBuffer(this.#uniforms, 0, words);
    this.#bound = recording.launches.map((launch, i) => launch === undefined ? undefined : this.#bind(launch, i));
  }

  #bind({ kernel, params }: Launch, index: number): Bound {
    const { pipelines, device } = this.session;
    const uniform = {
      buffer: this.#uniforms,
      offset: this.recording.uniforms[this.recording.uniformOf[index]!]!.offset,
      size: packParams(kernel, params).byteLength,
    };
    const step = this.recording.steps[index] as LaunchStep;
    const textured = new Map(texturedOperands(step).map((operand) => [operand.index, operand]));
    const copies: TextureCopy[] = [];
    const operands = step.tensors.flatMap((tensor, i): GPUBindingResource[] => {
      const ranges = this.#ranges(tensor);
      const operand = textured.get(i);
      if (operand === undefined) {
        return ranges.map(({ buffer, offset, bytes }) => ({ buffer, offset, size: wholeWords(bytes) }));
      }
      const texture = this.#arena.textures[operand.format][operand.slot]!;
      copies.push({ from: ranges[0]!, texture, texels: tensor.size / 4 });
      return [texture.createView()];
    });
    const group = device.gpu.createBindGroup({
      layout: pipelines.layout(kernel.buffers),
      entries: [uniform, ...operands].map((resource, binding) => ({ binding, resource })),
    });
    return { pipeline: pipelines.get(kernel), group, copies };
  }

  #ranges(tensor: Tensor): BufferRange[] {
    if (tensor.resident) return this.session.ranges(tensor);
    const places = this.recording.memory.places.get(tensor.owner);
    if (places === undefined) throw new Error(`"${tensor.name}" is not part of this plan`);
    return pieceRanges(tensor, this.session.limits).map(({ piece, offset, bytes }) => {
      const place = places[piece]!;
      return { buffer: this.#arena.chunks[place.chunk]!, offset: place.offset + offset, bytes };
    });
  }

  /**
   * Encodes and submits every step, without waiting for the GPU: a plan that copies nothing to or from the host has
   * been submitted when this returns. Others wait now and then; the promise is done when all is submitted.
   */
  async run(): Promise<void> {
    for (const [from, to] of this.#spans(LAUNCHES_PER_SUBMIT)) {
      const step = this.recording.steps[from]!;
      if (step.kind === "transfer") await this.#transfer(step);
      else this.runSteps(from, to);
    }
  }

  /** Ranges of at most `most` consecutive launches, and every transfer by itself, in order. */
  *#spans(most: number): Generator<readonly [from: number, to: number]> {
    const { steps } = this.recording;
    for (let from = 0; from < steps.length;) {
      let to = from + 1;
      if (steps[from]!.kind === "launch") {
        while (to < steps.length && to - from < most && steps[to]!.kind === "launch") to++;
      }
      yield [from, to];
      from = to;
    }
  }

  #transfer({ tensors: [from, to] }: TransferStep): Promise<void> {
    const { host } = this.session;
    return from.host ? host.upload(from, this.#ranges(to)) : host.download(this.#ranges(from), to);
  }

  /** Submits steps `from` to `to` (exclusive), all of them launches, as one command buffer. */
  runSteps(from: number, to: number): void {
    const { gpu } = this.session.device;
    const encoder = gpu.createCommandEncoder();
    let pass: GPUComputePassEncoder | undefined;
    for (let i = from; i < to; i++) {
      const { copies } = this.#bound[i]!;
      if (copies.length > 0) {
        pass?.end();
        pass = undefined;
        for (const copy of copies) copyToTexture(encoder, copy);
      }
      pass ??= encoder.beginComputePass();
      this.#encode(pass, i);
    }
    pass?.end();
    gpu.queue.submit([encoder.finish()]);
  }

  #encode(pass: GPUComputePassEncoder, index: number): void {
    const { pipeline, group } = this.#bound[index]!;
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...this.recording.launches[index]!.grid);
  }

  /** Downloads tensors of this plan: resident ones, and transients marked as outputs. */
  read(tensors: readonly Tensor[]): Promise<ArrayBuffer[]> {
    return this.session.readRanges(tensors.map((tensor) => this.#ranges(tensor)));
  }

  /** Runs once with every launch timed on the GPU, summed by kernel; the slowest first. */
  async profile(): Promise<KernelTime[]> {
    const { gpu, timestamps } = this.session.device;
    if (!timestamps) throw new Error("This adapter cannot time passes: it lacks timestamp-query");
    const { steps } = this.recording;
    const perBatch = 1024;
    const totals = new Map<string, { launches: number; milliseconds: number; flops: number; bytes: number }>();
    for (const [from, to] of this.#spans(perBatch)) {
      const first = steps[from]!;
      if (first.kind === "transfer") {
        await this.#transfer(first);
        continue;
      }
      const count = to - from;
      const querySet = gpu.createQuerySet({ type: "timestamp", count: 2 * count });
      const resolved = this.session.createBuffer(
        16 * count,
        GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
        "timestamps",
      );
      const encoder = gpu.createCommandEncoder();
      for (let i = 0; i < count; i++) {
        for (const copy of this.#bound[from + i]!.copies) copyToTexture(encoder, copy);
        const pass = encoder.beginComputePass({
          timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
        });
        this.#encode(pass, from + i);
        pass.end();
      }
      encoder.resolveQuerySet(querySet, 0, 2 * count, resolved, 0);
      gpu.queue.submit([encoder.finish()]);
      const [raw] = await this.session.readRanges([[{ buffer: resolved, offset: 0, bytes: 16 * count }]]);
      const nanoseconds = new BigUint64Array(raw!);
      for (let i = 0; i < count; i++) {
        const { tensors } = steps[from + i]!;
        const launch = this.recording.launches[from + i]!;
        const total = totals.get(launch.kernel.key) ?? { launches: 0, milliseconds: 0, flops: 0, bytes: 0 };
        total.launches++;
        total.milliseconds += Number(nanoseconds[2 * i + 1]! - nanoseconds[2 * i]!) / 1e6;
        total.flops += launch.flops;
        total.bytes += tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
        totals.set(launch.kernel.key, total);
      }
      querySet.destroy();
      this.session.destroyBuffer(resolved);
    }
    return [...totals].map(([key, total]) => ({ key, ...total })).sort((a, b) => b.milliseconds - a.milliseconds);
  }

  [Symbol.dispose](): void {
    this.#ownArena?.[Symbol.dispose]();
    this.session.destroyBuffer(this.#uniforms);
  }
}
