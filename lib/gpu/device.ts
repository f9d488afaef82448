/** Limit probing and opening: the only place that requests a device. */
import type { Target } from "../../kernels/core/kernel.ts";
import { UserError } from "../errors.ts";
import { MOST_BINDINGS, type RecordingLimits } from "../plan/limits.ts";
import { type AdapterReport, LIMITS } from "./adapter.ts";
import type { Dialect } from "./dialect.ts";
import { type EngineChoice, openEngine } from "./engine.ts";
import { type HostKind, Timeline } from "./timeline.ts";

/** Requested where the adapter has them. */
const OPTIONAL_FEATURES = [
  "timestamp-query",
  "shader-f16",
  "chromium-experimental-subgroup-matrix",
] as GPUFeatureName[];

/** A device with what was learnt while opening it. Dispose it to free every buffer made from it. */
export class Device implements Disposable {
  /** The first error the engine raised outside any call; `check()` throws it. */
  #failure: Error | undefined;
  #isDisposed = false;
  /** Settles after a loss was noted. */
  readonly #lost: Promise<void>;

  /** True when passes can be timed on the GPU. */
  readonly timestamps: boolean;

  /** Set while it is watched what the device does; results keep their bits. */
  timeline: Timeline | undefined;

  constructor(
    readonly gpu: GPUDevice,
    readonly dialect: Dialect,
    readonly adapter: AdapterReport,
    /** Name of the GPU, which engine was taken and why: what the start of a run says. */
    readonly title: string,
    /** What kernels are made for; measured choices are put in when a run begins. */
    public target: Target,
    /** What buffers, bindings and textures plans are made for. */
    readonly limits: RecordingLimits,
  ) {
    this.timestamps = gpu.features.has("timestamp-query");
    gpu.addEventListener("uncapturederror", (event) => {
      this.#failure ??= new Error(`The GPU engine reported: ${(event as GPUUncapturedErrorEvent).error.message}`);
    });
    this.#lost = gpu.lost.then(({ reason, message }) => {
      if (!this.#isDisposed) this.#failure = lostError(reason, message);
    });
  }

  /** Throws the first error the engine raised asynchronously, if any. Called wherever results are read back. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /**
   * Waits until `buffers` can be read, and notes `bytes` where the device is watched.
   *
   * @throws {UserError} when the GPU was lost. @throws {Error} what the engine raised since the last look.
   */
  async map(buffers: readonly GPUBuffer[], bytes = 0): Promise<void> {
    try {
      await this.span("wait", bytes, () => Promise.all(buffers.map((each) => each.mapAsync(GPUMapMode.READ))));
    } catch (error) {
      // A lost device refuses with a word about validation, and may tell of the loss only after that.
      await Promise.race([this.#lost, new Promise((resolve) => setTimeout(resolve, LOSS_MILLISECONDS))]);
      throw this.#failure ?? error;
    }
    this.check();
  }

  /** Runs `body`, whose time is noted where the device is watched. */
  span<T>(kind: HostKind, bytes: number, body: () => T): T {
    return this.timeline === undefined ? body() : this.timeline.span(kind, bytes, body);
  }

  /** Notes from now on what the device does, until {@linkcode timeline} is unset. */
  watch(): Timeline {
    return this.timeline = new Timeline(this.gpu, this.timestamps);
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.gpu.destroy();
  }
}

/** Milliseconds that the news of a lost device may come after the first call that fails for it. */
const LOSS_MILLISECONDS = 5000;

function lostError(reason: GPUDeviceLostReason, message: string): UserError {
  return new UserError(
    `The GPU was lost (${reason}): ${message}`,
    "continue with resume_from_checkpoint: latest; why is in the log of the system (on Linux `dmesg`: Xid, amdgpu, i915), " +
      "often a fault of the driver, heat, power, or a desktop that resets a card that answers late",
  );
}

/**
 * Bytes from which a copy to a texture pays on software adapters; 16 KiB and 256 KiB make no step faster
 * (bench/step_bench.ts).
 */
const TEXTURE_BYTES = 65536;

/**
 * The heap of {@linkcode recordingLimits}, of which the engine gives out 97 %, and a buffer that stays safely below.
 */
const HEAP_BYTES = 256 * 2 ** 20;
const SMALL_HEAP_BUFFER_BYTES = 240 * 2 ** 20;

/**
 * Limits for plans. On cards without Resizable BAR the engine holds every buffer against the heap of 256 MiB that the
 * host can see, however empty the card is, and refuses larger ones; no figure tells, so one buffer is tried.
 */
export async function recordingLimits(
  gpu: Pick<GPUDevice, "limits" | "pushErrorScope" | "popErrorScope" | "createBuffer">,
): Promise<RecordingLimits> {
  const { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage } = gpu.limits;
  let largest = maxBufferSize;
  if (largest >= HEAP_BYTES) {
    gpu.pushErrorScope("out-of-memory");
    gpu.createBuffer({ size: HEAP_BYTES, usage: GPUBufferUsage.STORAGE }).destroy();
    if (await gpu.popErrorScope() !== null) largest = SMALL_HEAP_BUFFER_BYTES;
  }
  return {
    chunkBytes: Math.floor(largest / 256) * 256,
    bindingBytes: maxStorageBufferBindingSize,
    bindings: Math.min(MOST_BINDINGS, maxStorageBuffersPerShaderStage),
  };
}

/** Options of {@linkcode openDevice}. */
export interface DeviceOptions {
  /** Default `auto`: Dawn where it is installed and brings matrix units, else Deno's own engine. */
  readonly engine?: EngineChoice;
  /** False forces the kernels that use neither subgroup operations nor matrix units. */
  readonly subgroups?: boolean;
  /**
   * Whether products may round their operands to f16 to run on matrix units. Default false. Software drivers are left
   * out: llvmpipe compiles a kernel on its matrix units for 20 s.
   */
  readonly mixed?: boolean;
}

/**
 * Opens the best adapter with every limit it has.
 *
 * @throws {UserError} when there is no adapter: the hint names the packages that bring a software driver.
 */
export async function openDevice(
  { engine = "auto", subgroups = true, mixed = false }: DeviceOptions = {},
): Promise<Device> {
  const { dialect, adapter, report, reason } = await openEngine(engine);
  const title = `${report.description}, ${reason}`;
  const { min, max } = report.subgroups;
  const usable = subgroups && min >= 8 && min % 8 === 0;
  const present = OPTIONAL_FEATURES.filter((feature) => adapter.features.has(feature));
  const requiredFeatures = [...(usable ? ["subgroups" as GPUFeatureName] : []), ...present];
  const requiredLimits: Record<string, number> = {};
  for (const name of LIMITS) if (!name.startsWith("min")) requiredLimits[name] = report.limits[name]!;
  const gpu = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  const target: Target = {
    subgroups: usable ? min : 0,
    subgroupMax: max,
    workgroupBytes: report.limits.maxComputeWorkgroupStorageSize!,
    matrix: subgroups ? report.matrix : [],
    vendor: report.vendor,
    architecture: report.architecture,
    f16: present.includes("shader-f16" as GPUFeatureName),
    mixed: mixed && !report.software,
    choices: new Map(),
  };
  const textures = {
    leastBytes: report.software ? TEXTURE_BYTES : Infinity,
    most: report.limits.maxStorageTexturesPerShaderStage!,
    maxRows: report.limits.maxTextureDimension2D!,
  };
  return new Device(gpu, dialect, report, title, target, { ...await recordingLimits(gpu), textures });
}
