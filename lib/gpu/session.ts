/**
 * GPU memory and data transfer: resident tensors become buffers, arrays go up, results come down.
 * Every byte is counted, so that a plan's forecast can be compared with what was really allocated.
 */
import { type TexelFormat, TEXTURE_WIDTH } from "../../kernels/core/kernel.ts";
import { UserError } from "../errors.ts";
import { pieceRanges, storedPieces } from "../plan/pieces.ts";
import type { RecordingLimits } from "../plan/limits.ts";
import type { Tensor } from "../plan/tensor.ts";
import { textureRowBytes } from "../plan/textures.ts";
import type { Device } from "./device.ts";
import { type BufferRange, HostMemory, wholeWords } from "./host_memory.ts";
import { PipelineCache } from "./pipeline.ts";

/**
 * wgpu keeps every staging copy until the queue drains; waiting this often halves the host memory and doubles the rate.
 */
const UPLOAD_WINDOW_BYTES = 64 * 2 ** 20;

/** Any array of numbers whose bytes are uploaded as they are. */
export type Bytes = ArrayBufferView<ArrayBuffer>;

/** One device with its buffers. Disposing frees every buffer, not the device. */
export class Session implements Disposable {
  readonly pipelines: PipelineCache;
  readonly limits: RecordingLimits;
  /** Where host tensors live. */
  readonly host: HostMemory;
  /** By owner, one for each of its pieces. */
  readonly #buffers = new Map<Tensor, readonly GPUBuffer[]>();
  #allocated = 0;
  #unflushed = 0;
  /** Most bytes alive at a time; whoever asks about a phase sets it to `allocatedBytes` where that begins. */
  peakBytes = 0;

  /**
   * @param capBytes Refuses to allocate more than this in all, so that limits can be tried on a bigger card.
   */
  constructor(readonly device: Device, readonly capBytes: number = Infinity) {
    this.pipelines = new PipelineCache(device);
    this.host = new HostMemory(device);
    this.limits = device.limits;
  }

  /** Bytes of all buffers alive. */
  get allocatedBytes(): number {
    return this.#allocated;
  }

  /** Makes a counted buffer. */
  createBuffer(bytes: number, usage: GPUBufferUsageFlags, label: string): GPUBuffer {
    this.#count(bytes, label);
    return this.device.gpu.createBuffer({ label, size: bytes, usage });
  }

  #count(bytes: number, label: string): void {
    if (this.#allocated + bytes > this.capBytes) {
      throw new UserError(
        `Cannot allocate ${bytes} bytes for ${label}: ${this.#allocated} bytes are in use and gpu_memory allows ${this.capBytes}`,
        "run `plan` with the same settings to see what the memory consists of and which switches lower it",
      );
    }
    this.#allocated += bytes;
    this.peakBytes = Math.max(this.peakBytes, this.#allocated);
  }

  /** Frees a buffer made by {@linkcode createBuffer}. */
  destroyBuffer(buffer: GPUBuffer): void {
    this.#allocated -= buffer.size;
    buffer.destroy();
  }

  /** Makes a counted texture that launches read operands through, of `rows` rows of texels. */
  createTexture(format: TexelFormat, rows: number, label: string): GPUTexture {
    this.#count(rows * textureRowBytes(format), label);
    const usage = GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST;
    return this.device.gpu.createTexture({ label, size: [TEXTURE_WIDTH, rows], format, usage });
  }

  /** Frees a texture made by {@linkcode createTexture}. */
  destroyTexture(texture: GPUTexture): void {
    this.#allocated -= texture.height * textureRowBytes(texture.format as TexelFormat);
    texture.destroy();
  }

  /**
   * Where `bytes` bytes of a resident tensor on the GPU lie, from byte `from` on, by default all; its buffers are made
   * (and zeroed by the engine) at first use.
   */
  ranges(tensor: Tensor, from?: number, bytes?: number): BufferRange[] {
    const owner = tensor.owner;
    if (owner.host) throw new TypeError(`"${tensor.name}" lives in host memory and has no buffer`);
    let buffers = this.#buffers.get(owner);
    if (buffers === undefined) {
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      buffers = storedPieces(owner, this.limits).map((size) => this.createBuffer(size, usage, owner.name));
      this.#buffers.set(owner, buffers);
    }
    return pieceRanges(tensor, this.limits, from, bytes)
      .map(({ piece, offset, bytes }) => ({ buffer: buffers[piece]!, offset, bytes }));
  }

  /** Frees the memory of a resident tensor. */
  free(tensor: Tensor): void {
    if (tensor.host) return this.host.free(tensor);
    for (const buffer of this.#buffers.get(tensor.owner) ?? []) this.destroyBuffer(buffer);
    this.#buffers.delete(tensor.owner);
  }

  /**
   * Uploads `data` (already in the tensor's storage type) to a resident tensor, starting `byteOffset` bytes into it.
   */
  write(tensor: Tensor, data: Bytes, byteOffset = 0): void {
    if (byteOffset + data.byteLength > tensor.bytes) {
      throw new RangeError(
        `Cannot write ${data.byteLength} bytes at ${byteOffset} of "${tensor.name}" as it holds ${tensor.bytes} bytes`,
      );
    }
    const source = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (tensor.host) return this.host.bytes(tensor).set(source, byteOffset);
    const ranges = this.ranges(tensor, byteOffset, data.byteLength);
    this.device.span("upload", data.byteLength, () => {
      let at = 0;
      for (const { buffer, offset, bytes } of ranges) {
        this.device.gpu.queue.writeBuffer(buffer, offset, source.subarray(at, at + bytes));
        at += bytes;
      }
    });
    this.#unflushed += data.byteLength;
  }

  /** Waits for pending uploads once they exceed the staging window; call between large writes. */
  async flush(): Promise<void> {
    if (this.#unflushed < UPLOAD_WINDOW_BYTES) return;
    this.#unflushed = 0;
    this.device.gpu.queue.submit([]);
    await this.device.span("wait", 0, () => this.device.gpu.queue.onSubmittedWorkDone());
    this.device.check();
  }

  /** Sets resident tensors to zero. */
  clear(tensors: readonly Tensor[]): void {
    const encoder = this.device.gpu.createCommandEncoder();
    for (const tensor of tensors) {
      if (tensor.host) this.host.bytes(tensor).fill(0);
      else {for (const { buffer, offset, bytes } of this.ranges(tensor)) {
          encoder.clearBuffer(buffer, offset, wholeWords(bytes));
        }}
    }
    this.device.gpu.queue.submit([encoder.finish()]);
  }

  /** Copies a resident tensor on the GPU into another, starting `byteOffset` bytes into it. */
  copy(from: Tensor, to: Tensor, byteOffset = 0): void {
    const encoder = this.device.gpu.createCommandEncoder();
    let at = byteOffset;
    for (const source of this.ranges(from)) {
      let { offset } = source;
      for (const target of this.ranges(to, at, source.bytes)) {
        encoder.copyBufferToBuffer(source.buffer, offset, target.buffer, target.offset, target.bytes);
        offset += target.bytes;
      }
      at += source.bytes;
    }
    this.device.gpu.queue.submit([encoder.finish()]);
  }

  /** Downloads several tensors, each given by its ranges, in one wait (a wait costs 11 ms whatever its size). */
  async readRanges(tensors: readonly (readonly BufferRange[])[]): Promise<ArrayBuffer[]> {
    const { gpu } = this.device;
    const encoder = gpu.createCommandEncoder();
    const stagings = tensors.flat().map(({ buffer, offset, bytes }) => {
      const size = wholeWords(bytes);
      // Readback buffers lie in host-visible memory and live for one wait, so they do not count as the plan's.
      const staging = gpu.createBuffer({ size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
      encoder.copyBufferToBuffer(buffer, offset, staging, 0, size);
      return staging;
    });
    gpu.queue.submit([encoder.finish()]);
    await this.device.map(stagings);
    return tensors.map((ranges) => {
      const copy = new Uint8Array(ranges.reduce((sum, { bytes }) => sum + bytes, 0));
      let at = 0;
      for (const { bytes } of ranges) {
        const staging = stagings.shift()!;
        copy.set(new Uint8Array(staging.getMappedRange()).subarray(0, bytes), at);
        staging.unmap();
        staging.destroy();
        at += bytes;
      }
      return copy.buffer;
    });
  }

  /** Copies of resident tensors as they are stored. */
  async read(tensors: readonly Tensor[]): Promise<ArrayBuffer[]> {
    await this.host.settle();
    const onGpu = tensors.filter((tensor) => !tensor.host);
    const read = onGpu.length === 0 ? [] : await this.readRanges(onGpu.map((tensor) => this.ranges(tensor)));
    return tensors.map((tensor) => tensor.host ? this.host.bytes(tensor).slice().buffer : read.shift()!);
  }

  /** Downloads one f32 tensor. */
  async readF32(tensor: Tensor): Promise<Float32Array<ArrayBuffer>> {
    if (tensor.dtype !== "f32") {
      throw new TypeError(`Cannot read "${tensor.name}" as f32: it is stored as ${tensor.dtype}`);
    }
    return new Float32Array((await this.read([tensor]))[0]!);
  }

  [Symbol.dispose](): void {
    for (const tensor of [...this.#buffers.keys()]) this.free(tensor);
    this.host[Symbol.dispose]();
  }
}
