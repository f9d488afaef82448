/** Assembles the text of a kernel around its body: parameters, bindings and their accessors, the folded grid. */
import { accessors, bindings, type Bound, startsOf } from "./accessors.ts";
import type { Kernel, WgslFeature } from "./kernel.ts";

/** The parts of a kernel that differ from others. */
export interface Module extends Bound {
  /** Family name; with `spec` it forms the key. */
  readonly name: string;
  /** The typed spec the text depends on; printed canonically into the key. */
  readonly spec: Readonly<Record<string, string | number | boolean>>;
  /** Words of the uniform block; `name` is u32, `name:f32` is a float. */
  readonly params: readonly string[];
  /** Threads of a workgroup, one-dimensional (wgpu refuses subgroup builtins in others). */
  readonly workgroupSize: number;
  /** Whether the body uses `lane`, the subgroup_invocation_id. */
  readonly lane?: boolean;
  /** Whether the body uses `subgroup_id`. */
  readonly subgroupId?: boolean;
  /** Helper functions and workgroup variables. */
  readonly declarations?: Text;
  /**
   * Body of main. In scope: `wg` (folded workgroup number), `li` (local index), `gid` (wg * workgroupSize + li), and
   * where asked for `lane` and `subgroup_id`.
   */
  readonly body: Text;
}

/**
 * Text, or what makes it: plans record thousands of launches of a few kernels, and making the text of each anew took
 * three quarters of the time of a recording.
 */
export type Text = string | (() => string);

function textOf(text: Text): string {
  return typeof text === "string" ? text : text();
}

/**
 * `n` lines of text, one per index, joined: unrolled loops (naga puts a counter into every WGSL loop, so text is
 * cheaper).
 */
export function unroll(n: number, line: (i: number) => string, separator = "\n"): string {
  return Array.from({ length: n }, (_, i) => line(i)).join(separator);
}

/** True when any component is NaN or infinite: the exponent bits are all ones (naga folds `x != x` away). */
export const NON_FINITE = `fn non_finite(v: vec4f) -> bool {
  return any((bitcast<vec4u>(v) & vec4u(0x7f800000u)) == vec4u(0x7f800000u));
}`;

/**
 * Assembles a kernel: `load_NAME(i)` and `store_NAME(i, v)` count in groups of four elements (single words for u32);
 * `element_NAME(at)` and `store_element_NAME(at, v)` access one element of f32.
 */
export function buildKernel(module: Module): Kernel {
  const { name, spec, params, buffers } = module;
  const key = `${name}(${Object.keys(spec).sort().map((field) => `${field}=${spec[field]}`).join(",")})`;
  let code: string | undefined;
  return {
    key,
    get code() {
      return code ??= moduleText(module);
    },
    get features() {
      return featuresOf(this.code);
    },
    buffers: bindings(module),
    params: params.map(String),
    throughTextures(indices) {
      const textured = buffers.map((buffer, i) => indices.includes(i) ? { ...buffer, texture: true as const } : buffer);
      return buildKernel({ ...module, spec: { ...spec, textures: indices.join("+") }, buffers: textured });
    },
    divide: (pieces) =>
      buildKernel({
        ...module,
        spec: { ...spec, pieces: pieces.join(" ") },
        params: [...params, ...buffers.flatMap((buffer, i) => startsOf(buffer, pieces[i]!))],
        pieces,
      }),
  };
}

/** By feature, what a text that uses it contains. */
const SIGNS: Readonly<Record<WgslFeature, RegExp>> = {
  f16: /\bf16\b|\bvec[234]h\b/,
  subgroups: /\bsubgroup(_invocation_id|_size|_id|(?!Matrix)[A-Z]\w*)\b/,
  subgroup_matrix: /\bsubgroupMatrix/,
};

/** Read from the text: a declaration beside it could be forgotten. */
function featuresOf(code: string): WgslFeature[] {
  return (Object.keys(SIGNS) as WgslFeature[]).filter((feature) => SIGNS[feature].test(code));
}

function moduleText(module: Module): string {
  const { params, workgroupSize } = module;
  const fields = params.map((param) => {
    const [field, type = "u32"] = param.split(":");
    return `${field}: ${type}`;
  });
  return [
    `struct Params { ${fields.join(", ")} }`,
    `@group(0) @binding(0) var<uniform> params: Params;`,
    ...accessors(module),
    textOf(module.declarations ?? ""),
    `@compute @workgroup_size(${workgroupSize})
fn main(@builtin(workgroup_id) workgroup_id: vec3u, @builtin(num_workgroups) num_workgroups: vec3u,
        @builtin(local_invocation_index) li: u32${module.lane ? ", @builtin(subgroup_invocation_id) lane: u32" : ""}${
      module.subgroupId ? ", @builtin(subgroup_id) subgroup_id: u32" : ""
    }) {
  let wg = workgroup_id.y * num_workgroups.x + workgroup_id.x;
  let gid = wg * ${workgroupSize}u + li;`,
    textOf(module.body),
    `}`,
  ].filter((part) => part !== "").join("\n");
}
