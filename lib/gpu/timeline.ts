/** What a device and its host did while they were watched: launches with their times, copies and waits. */
import type { Launch, WgslFeature } from "../../kernels/core/kernel.ts";

/** What the host can be busy with: the GPU may idle meanwhile. */
export const HOST_KINDS = ["batch", "upload", "encode", "wait", "exchange"] as const;

/** One of {@linkcode HOST_KINDS}, or a whole optimizer step. */
export type HostKind = typeof HOST_KINDS[number] | "step";

/** Something the host did, in milliseconds on the clock of `performance`. */
export interface HostSpan {
  readonly kind: HostKind;
  readonly begin: number;
  readonly end: number;
  /** Bytes copied, 0 where none were. */
  readonly bytes: number;
}

/** A launch as a profile needs it. */
export interface LaunchFacts {
  readonly key: string;
  readonly features: readonly WgslFeature[];
  /** Where in the model it was recorded. */
  readonly scope: string;
  readonly flops: number;
  /** Bytes of its bindings: a lower bound of what it reads and writes. */
  readonly bytes: number;
}

/** A launch with its times, in milliseconds on the host's clock. */
export interface TimedLaunch extends LaunchFacts {
  readonly begin: number;
  readonly end: number;
  /** Number of the command buffer: within one, the host has no part in what lies between launches. */
  readonly batch: number;
}

/** The launches of one command buffer. */
interface Batch {
  readonly launches: readonly LaunchFacts[];
  readonly submitted: number;
  readonly querySet: GPUQuerySet;
  readonly resolved: GPUBuffer;
  readonly staging: GPUBuffer;
}

/** Waits whose median is the time that waiting itself takes. */
const LATENCY_SAMPLES = 5;

/** What a profile says of a launch. */
export function factsOf({ kernel: { key, features }, flops }: Launch, scope: string, bytes: number): LaunchFacts {
  return { key, features, scope, flops, bytes };
}

/** Collects times. Nothing waits for the GPU until {@linkcode launches}, except where passes can't be timed. */
export class Timeline {
  readonly spans: HostSpan[] = [];
  readonly #batches: Batch[] = [];
  readonly #byHost: TimedLaunch[] = [];
  #latency: number | undefined;

  /** @param timestamps Whether passes are timed on the GPU; else each is waited for, and the host's clock counts. */
  constructor(readonly gpu: GPUDevice, readonly timestamps: boolean) {}

  /** Runs `body` and notes its time, up to the end of the promise it returns. */
  span<T>(kind: HostKind, bytes: number, body: () => T): T {
    const begin = performance.now();
    const note = () => void this.spans.push({ kind, bytes, begin, end: performance.now() });
    const result = body();
    if (result instanceof Promise) return result.finally(note) as T;
    note();
    return result;
  }

  /** Submits one pass for each launch. `encode` puts launch `i` into the pass that it is given to begin. */
  async submit(
    launches: readonly LaunchFacts[],
    encode: (encoder: GPUCommandEncoder, i: number, pass: GPUComputePassDescriptor) => void,
  ): Promise<void> {
    if (this.timestamps) return this.span("encode", 0, () => this.#submitTimed(launches, encode));
    for (const [i, launch] of launches.entries()) {
      this.#latency ??= await this.#measureLatency();
      const encoder = this.gpu.createCommandEncoder();
      encode(encoder, i, {});
      const begin = performance.now();
      await this.#finish([encoder.finish()]);
      const end = Math.max(begin, performance.now() - this.#latency);
      this.#byHost.push({ ...launch, begin, end, batch: this.#byHost.length });
    }
  }

  #submitTimed(
    launches: readonly LaunchFacts[],
    encode: (encoder: GPUCommandEncoder, i: number, pass: GPUComputePassDescriptor) => void,
  ): void {
    const { gpu } = this;
    const count = 2 * launches.length;
    const querySet = gpu.createQuerySet({ type: "timestamp", count });
    const size = 8 * count;
    const resolved = gpu.createBuffer({ size, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
    const staging = gpu.createBuffer({ size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    const encoder = gpu.createCommandEncoder();
    launches.forEach((_, i) => {
      const timestampWrites = { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
      encode(encoder, i, { timestampWrites });
    });
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, size);
    this.#batches.push({ launches, submitted: performance.now(), querySet, resolved, staging });
    gpu.queue.submit([encoder.finish()]);
  }

  /** Milliseconds that waiting for nothing takes: 12 in Deno's own engine, about 1 in Dawn. */
  async #measureLatency(): Promise<number> {
    await this.#finish([]);
    const samples: number[] = [];
    for (let i = 0; i < LATENCY_SAMPLES; i++) {
      const begin = performance.now();
      await this.#finish([]);
      samples.push(performance.now() - begin);
    }
    return samples.sort((a, b) => a - b)[LATENCY_SAMPLES >> 1]!;
  }

  async #finish(commands: readonly GPUCommandBuffer[]): Promise<void> {
    this.gpu.queue.submit([...commands]);
    await this.gpu.queue.onSubmittedWorkDone();
  }

  /** Waits for the GPU and returns every launch in order; frees what was needed to time them. */
  async launches(): Promise<TimedLaunch[]> {
    const batches = this.#batches.splice(0);
    await Promise.all(batches.map(({ staging }) => staging.mapAsync(GPUMapMode.READ)));
    const ticks = batches.map(({ staging }) => new BigUint64Array(staging.getMappedRange().slice(0)));
    for (const { querySet, resolved, staging } of batches) {
      querySet.destroy();
      resolved.destroy();
      staging.destroy();
    }
    const first = ticks[0]?.[0] ?? 0n;
    const times = ticks.map((values) => Array.from(values, (value) => Number(value - first) / 1e6));
    const offset = clockOffset(batches.map(({ submitted }, i) => ({ submitted, began: times[i]![0]! })));
    return [
      ...this.#byHost,
      ...batches.flatMap(({ launches }, b) =>
        launches.map((launch, i) => {
          const begin = times[b]![2 * i]! + offset;
          return { ...launch, begin, end: Math.max(begin, times[b]![2 * i + 1]! + offset), batch: b };
        })
      ),
    ];
  }
}

/** The least that the GPU's clock can be behind the host's: no batch began before it was submitted. */
export function clockOffset(batches: readonly { readonly submitted: number; readonly began: number }[]): number {
  return Math.max(...batches.map(({ submitted, began }) => submitted - began));
}
