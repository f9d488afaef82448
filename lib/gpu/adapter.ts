/** What an engine says about the GPU: the figures that decide the paths of kernels and that `doctor` prints. */
import type { MatrixShape } from "../../kernels/core/kernel.ts";
import { type Dialect, type Engine, openDialect } from "./dialect.ts";

/** An adapter as one engine shows it. */
export interface AdapterReport {
  readonly engine: Engine;
  readonly description: string;
  readonly vendor: string;
  readonly architecture: string;
  /** True for a software driver (llvmpipe, SwiftShader). */
  readonly software: boolean;
  /** Both 0 where subgroup operations can't be used. */
  readonly subgroups: { readonly min: number; readonly max: number };
  /** Shapes of the matrix units that the engine shows. */
  readonly matrix: readonly MatrixShape[];
  readonly features: readonly string[];
  /** What kernels could use and the engine does not show here. */
  readonly missing: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
}

/** An adapter and the engine it belongs to. */
export interface OpenAdapter {
  readonly dialect: Dialect;
  readonly adapter: GPUAdapter;
  readonly report: AdapterReport;
}

/** Limits that decide how tensors are split and kernels are launched; every one the adapter has is requested. */
export const LIMITS = [
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

/** Opens the best adapter of an engine; undefined when it finds none. */
export async function openAdapter(engine: Engine): Promise<OpenAdapter | undefined> {
  const dialect = await openDialect(engine);
  const adapter = await dialect.gpu.requestAdapter({ powerPreference: "high-performance" });
  return adapter === null ? undefined : { dialect, adapter, report: describe(dialect, adapter) };
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

function describe({ engine, hidesSubgroups }: Dialect, { info, features, limits }: GPUAdapter): AdapterReport {
  const hasSubgroups = hidesSubgroups || features.has("subgroups");
  const subgroups = { min: info.subgroupMinSize ?? 0, max: info.subgroupMaxSize ?? 0 };
  const matrix = matrixShapes(info as MatrixInfo);
  const needs: Record<string, boolean> = {
    "subgroups": hasSubgroups && subgroups.min > 0,
    "matrix units": matrix.length > 0,
    "shader-f16": features.has("shader-f16"),
    "timestamp-query": features.has("timestamp-query"),
  };
  return {
    engine,
    description: info.description || info.device || "unknown adapter",
    vendor: info.vendor,
    architecture: info.architecture,
    software: /llvmpipe|swiftshader|lavapipe/i.test(info.description),
    subgroups: hasSubgroups ? subgroups : { min: 0, max: 0 },
    matrix,
    features: [...features].sort(),
    missing: Object.keys(needs).filter((need) => !needs[need]),
    limits: Object.fromEntries(LIMITS.map((name) => [name, limits[name]])),
  };
}
