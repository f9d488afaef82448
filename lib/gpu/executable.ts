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
import { factsOf, type Timeline } from "./timeline.ts";
import type { Tensor } from "../plan/tensor.ts";

/**
 * Launches per submit: enough that the engine's cost per submit (0.2 ms) vanishes, few enough that the GPU starts
 * early.
 */
const LAUNCHES_PER_SUBMIT = 256;

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
      else if (this.session.device.timeline === undefined) this.runSteps(from, to);
      else await this.#runTimed(from, to, this.session.device.timeline);
    }
  }

  /** As {@linkcode runSteps} with a pass for each launch. */
  #runTimed(from: number, to: number, timeline: Timeline): Promise<void> {
    const facts = this.recording.launches.slice(from, to).map((launch, i) => {
      const { scope, tensors } = this.recording.steps[from + i]!;
      return factsOf(launch!, scope, tensors.reduce((sum, { bytes }) => sum + bytes, 0));
    });
    return timeline.submit(facts, (encoder, i, descriptor) => {
      for (const copy of this.#bound[from + i]!.copies) copyToTexture(encoder, copy);
      const pass = encoder.beginComputePass(descriptor);
      this.#encode(pass, from + i);
      pass.end();
    });
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

  [Symbol.dispose](): void {
    this.#ownArena?.[Symbol.dispose]();
    this.session.destroyBuffer(this.#uniforms);
  }
}
