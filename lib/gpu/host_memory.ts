/** Host tensors: where their bytes are, and their way to the GPU and back while a plan runs. */
import { UserError } from "../errors.ts";
import { align, type Tensor } from "../plan/tensor.ts";
import type { Device } from "./device.ts";

/** Consecutive bytes of a GPU buffer; a tensor takes several of them where it lies in pieces. */
export interface BufferRange {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly bytes: number;
}

interface Download {
  readonly staging: GPUBuffer;
  readonly owner: Tensor;
  readonly into: Uint8Array<ArrayBuffer>;
}

/**
 * Bytes of downloads in flight beyond which the older half is waited for at once: a wait of Deno's engine lasts until
 * the queue is empty and 12 ms longer. Waiting for each but the last two made 18 waits of a step of a tiny model with
 * offload_optimizer, of which four are left. Three blocks of the largest model fit, of which the GPU works on one while
 * the host copies what the others left.
 */
const DOWNLOAD_WINDOW_BYTES = 2 ** 28;

/**
 * Uploaded bytes after which the host waits until the GPU has those of the window before; the engine holds a second
 * copy of each upload until then. Half a gigabyte is two blocks of the largest model, whose arithmetic takes many times
 * longer than a wait: in Dawn the GPU works on meanwhile, in Deno's engine a wait drains the queue.
 */
const UPLOAD_WINDOW_BYTES = 2 ** 29;

/** What to do where a machine has not the memory for host tensors. */
export const HOST_MEMORY_HINT =
  "`plan` shows what the run keeps there (offload_optimizer, offload_activations, base_weights: streamed, zero_stage): " +
  "switch some of it off where the GPU has room, train adapters instead of all weights, on fewer GPUs of this machine, " +
  "or on one with more memory";

/** Copies between a GPU buffer and the host, and bindings, come in words. */
export function wholeWords(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

function allocate({ name, bytes }: Tensor): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(align(bytes));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(
      `Cannot get ${bytes} bytes of the machine's memory for ${name}: ${error.message}`,
      HOST_MEMORY_HINT,
    );
  }
}

/** The bytes of host tensors, made zeroed at first use, and the copies under way. */
export class HostMemory implements Disposable {
  readonly #arrays = new Map<Tensor, Uint8Array<ArrayBuffer>>();
  readonly #aliases = new Map<Tensor, Uint8Array<ArrayBuffer>>();
  readonly #downloads: Download[] = [];
  /**
   * Readback buffers for further downloads of their size: 128 MiB took 0.29 s through a used one, 0.47 s through a
   * fresh one.
   */
  readonly #spare = new Map<number, GPUBuffer[]>();
  #uploaded = 0;
  /** Done when the GPU has the uploads of the last full window. */
  #window: Promise<undefined> = Promise.resolve(undefined);

  constructor(readonly device: Device) {}

  /** Bytes of all host tensors alive. */
  get allocatedBytes(): number {
    let sum = 0;
    for (const { byteLength } of this.#arrays.values()) sum += byteLength;
    return sum;
  }

  /** Makes `tensor` a range of the memory of `of`, so that a plan copies that range alone. */
  alias(tensor: Tensor, of: Tensor, byteOffset: number): void {
    const whole = this.#array(of);
    this.#aliases.set(tensor, whole.subarray(byteOffset, byteOffset + wholeWords(tensor.bytes)));
  }

  #array(tensor: Tensor): Uint8Array<ArrayBuffer> {
    const alias = this.#aliases.get(tensor.owner);
    if (alias !== undefined) return alias;
    let array = this.#arrays.get(tensor.owner);
    if (array === undefined) {
      array = allocate(tensor.owner);
      this.#arrays.set(tensor.owner, array);
    }
    return array;
  }

  /** The bytes of a host tensor or of a window of one, shared and not copied. */
  bytes(tensor: Tensor): Uint8Array<ArrayBuffer> {
    return this.#array(tensor).subarray(tensor.byteOffset, tensor.byteOffset + tensor.bytes);
  }

  /** Forgets a host tensor. */
  free(tensor: Tensor): void {
    this.#arrays.delete(tensor.owner);
  }

  /** Copies a host tensor to the GPU: work submitted before does not see the copy, work submitted later does. */
  async upload(from: Tensor, to: readonly BufferRange[]): Promise<void> {
    await this.#finishDownloads(this.#downloads.findLastIndex(({ owner }) => owner === from.owner) + 1);
    const array = this.#array(from);
    this.device.span("upload", from.bytes, () => {
      let at = from.byteOffset;
      for (const { buffer, offset, bytes } of to) {
        this.device.gpu.queue.writeBuffer(buffer, offset, array.subarray(at, at + wholeWords(bytes)));
        at += bytes;
      }
    });
    this.#uploaded += from.bytes;
    if (this.#uploaded < UPLOAD_WINDOW_BYTES) return;
    this.#uploaded = 0;
    const before = this.#window;
    this.device.gpu.queue.submit([]);
    this.#window = this.device.gpu.queue.onSubmittedWorkDone();
    await this.device.span("wait", 0, () => before);
    this.device.check();
  }

  /**
   * Copies from the GPU to a host tensor, which holds the data once {@linkcode settle} or a later copy of it is done.
   */
  async download(from: readonly BufferRange[], to: Tensor): Promise<void> {
    const { gpu } = this.device;
    const { owner } = to;
    let at = 0;
    for (const { buffer, offset, bytes } of from) {
      const size = wholeWords(bytes);
      // Like every readback buffer it lies in host-visible memory, so it does not count as the plan's.
      const staging = this.#spare.get(size)?.pop() ??
        gpu.createBuffer({ size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
      const encoder = gpu.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, offset, staging, 0, size);
      gpu.queue.submit([encoder.finish()]);
      this.#downloads.push({ staging, owner, into: this.bytes(to).subarray(at, at + bytes) });
      at += bytes;
      await this.#limitDownloads();
    }
  }

  async #limitDownloads(): Promise<void> {
    let bytes = this.#downloads.reduce((sum, { staging }) => sum + staging.size, 0);
    if (bytes <= DOWNLOAD_WINDOW_BYTES) return;
    let count = 0;
    while (bytes > DOWNLOAD_WINDOW_BYTES / 2) bytes -= this.#downloads[count++]!.staging.size;
    await this.#finishDownloads(count);
  }

  /** Waits for every download. */
  async settle(): Promise<void> {
    await this.#finishDownloads(this.#downloads.length);
  }

  /** Finishes the oldest `count` downloads in one wait. */
  async #finishDownloads(count: number): Promise<void> {
    if (count === 0) return;
    const oldest = this.#downloads.splice(0, count);
    const bytes = oldest.reduce((sum, { staging }) => sum + staging.size, 0);
    await this.device.map(oldest.map(({ staging }) => staging), bytes);
    for (const { staging, into } of oldest) {
      into.set(new Uint8Array(staging.getMappedRange()).subarray(0, into.byteLength));
      staging.unmap();
      const spare = this.#spare.get(staging.size);
      if (spare === undefined) this.#spare.set(staging.size, [staging]);
      else spare.push(staging);
    }
  }

  [Symbol.dispose](): void {
    for (const { staging } of this.#downloads) staging.destroy();
    for (const staging of [...this.#spare.values()].flat()) staging.destroy();
    this.#downloads.length = 0;
    this.#spare.clear();
    this.#arrays.clear();
    this.#aliases.clear();
  }
}
