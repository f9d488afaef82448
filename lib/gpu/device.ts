/** Adapter choice, feature and limit probing: the only place that requests a device. */
import { UserError } from "../errors.ts";
import type { MatrixShape, Target } from "../../kernels/core/kernel.ts";
import { MOST_BINDINGS, type RecordingLimits } from "../plan/limits.ts";
import { type Dialect, type Engine, openDialect } from "./dialect.ts";

/** What `doctor` prints and what decides the paths of kernels. */
export interface AdapterReport {
  readonly engine: Engine;
  readonly description: string;
  readonly vendor: string;
  readonly architecture: string;
  /** True for a software driver (llvmpipe, SwiftShader). */
  readonly software: boolean;
  readonly subgroups: { readonly min: number; readonly max: number };
  /** Shapes of the matrix units that the engine shows. */
  readonly matrix: readonly MatrixShape[];
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
}

/** Limits that decide how tensors are split and kernels are launched; every one the adapter has is requested. */
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxUniformBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxStorageTexturesPerShaderStage",
  "maxTextureDimension2D",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupsPerDimension",
  "minStorageBufferOffsetAlignment",
  "minUniformBufferOffsetAlignment",
] as const;

/** Requested where the adapter has them. */
const OPTIONAL_FEATURES = [
  "timestamp-query",
  "shader-f16",
  "chromium-experimental-subgroup-matrix",
] as GPUFeatureName[];

/** Reads the adapter's own figures; undefined when there is no adapter. */
export async function describeAdapter(engine: Engine = "deno"): Promise<AdapterReport | undefined> {
  const dialect = await openDialect(engine);
  const adapter = await requestAdapter(dialect);
  return adapter === null ? undefined : report(dialect, adapter);
}

function requestAdapter(dialect: Dialect): Promise<GPUAdapter | null> {
  return dialect.gpu.requestAdapter({ powerPreference: "high-performance" });
}

/** `GPUAdapterInfo` as Dawn extends it. */
interface MatrixInfo {
  readonly subgroupMatrixConfigs?: Iterable<
    { componentType: string; resultComponentType: string; M: number; N: number; K: number }
  >;
}

/** The shapes with operands of f16; integer ones are left out. */
function matrixShapes({ subgroupMatrixConfigs = [] }: MatrixInfo): MatrixShape[] {
  return [...subgroupMatrixConfigs].flatMap(({ componentType, resultComponentType: result, M: m, N: n, K: k }) =>
    componentType === "f16" && (result === "f16" || result === "f32") ? [{ component: "f16", result, m, n, k }] : []
  );
}

function report(dialect: Dialect, adapter: GPUAdapter): AdapterReport {
  const { info } = adapter;
  const limits: Record<string, number> = {};
  for (const name of LIMITS) limits[name] = adapter.limits[name];
  return {
    engine: dialect.engine,
    description: info.description || info.device || "unknown adapter",
    vendor: info.vendor,
    architecture: info.architecture,
    software: /llvmpipe|swiftshader|lavapipe/i.test(info.description),
    subgroups: { min: info.subgroupMinSize ?? 0, max: info.subgroupMaxSize ?? 0 },
    matrix: matrixShapes(info as MatrixInfo),
    features: [...adapter.features].sort(),
    limits,
  };
}

/** A device with what was learnt while opening it. Dispose it to free every buffer made from it. */
export class Device implements Disposable {
  /** The first error the engine raised outside any call; `check()` throws it. */
  #failure: Error | undefined;

  constructor(
    readonly gpu: GPUDevice,
    readonly dialect: Dialect,
    readonly adapter: AdapterReport,
    /** What kernels are made for; measured choices are put in when a run begins. */
    public target: Target,
    /** What buffers, bindings and textures plans are made for. */
    readonly limits: RecordingLimits,
    /** True when passes can be timed on the GPU. */
    readonly timestamps: boolean,
  ) {
    gpu.addEventListener("uncapturederror", (event) => {
      this.#failure ??= new Error(`The GPU engine reported: ${(event as GPUUncapturedErrorEvent).error.message}`);
    });
    gpu.lost.then(({ reason, message }) => {
      if (reason !== "destroyed") this.#failure ??= new Error(`The GPU was lost (${reason}): ${message}`);
    });
  }

  /** Throws the first error the engine raised asynchronously, if any. Called wherever results are read back. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  [Symbol.dispose](): void {
    this.gpu.destroy();
  }
}

/** Bytes from which a copy to a texture pays on software adapters; 16 KiB and 256 KiB make no step faster (bench/step_bench.ts). */
const TEXTURE_BYTES = 65536;

/** The heap of {@linkcode recordingLimits}, of which the engine gives out 97 %, and a buffer that stays safely below. */
const HEAP_BYTES = 256 * 2 ** 20;
const SMALL_HEAP_BUFFER_BYTES = 240 * 2 ** 20;

/**
 * Limits for plans. On cards without Resizable BAR the engine holds every buffer against the heap of 256 MiB that the host can see,
 * however empty the card is, and refuses larger ones; no figure tells, so one buffer is tried.
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
  readonly engine?: Engine;
  /** False forces the kernels that use neither subgroup operations nor matrix units. */
  readonly subgroups?: boolean;
}

/**
 * Opens the best adapter with every limit it has.
 *
 * @throws {UserError} when there is no adapter: the hint names the packages that bring a software driver.
 */
export async function openDevice({ engine = "deno", subgroups = true }: DeviceOptions = {}): Promise<Device> {
  const dialect = await openDialect(engine);
  const adapter = await requestAdapter(dialect);
  if (adapter === null) {
    throw new UserError(
      "No GPU adapter was found: neither a GPU driver nor a software Vulkan driver answers",
      "on Debian: `apt-get install -y mesa-vulkan-drivers libvulkan1` brings a software driver; on a GPU machine install the vendor's Vulkan driver",
    );
  }
  const facts = report(dialect, adapter);
  const usable = subgroups && facts.subgroups.min >= 8 && facts.subgroups.min % 8 === 0 &&
    (dialect.hidesSubgroups || adapter.features.has("subgroups"));
  const present = OPTIONAL_FEATURES.filter((feature) => adapter.features.has(feature));
  const requiredLimits: Record<string, number> = {};
  for (const name of LIMITS) if (!name.startsWith("min")) requiredLimits[name] = facts.limits[name]!;
  const requiredFeatures = [...(usable ? ["subgroups" as GPUFeatureName] : []), ...present];
  const gpu = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  const target: Target = {
    subgroups: usable ? facts.subgroups.min : 0,
    subgroupMax: facts.subgroups.max,
    workgroupBytes: facts.limits.maxComputeWorkgroupStorageSize!,
    matrix: subgroups ? facts.matrix : [],
    vendor: facts.vendor,
    architecture: facts.architecture,
    f16: present.includes("shader-f16" as GPUFeatureName),
    mixed: false,
    choices: new Map(),
  };
  const textures = {
    leastBytes: facts.software ? TEXTURE_BYTES : Infinity,
    most: facts.limits.maxStorageTexturesPerShaderStage!,
    maxRows: facts.limits.maxTextureDimension2D!,
  };
  return new Device(
    gpu,
    dialect,
    facts,
    target,
    { ...await recordingLimits(gpu), textures },
    present.includes("timestamp-query"),
  );
}
