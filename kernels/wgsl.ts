/** Builds the text every kernel shares: parameters, typed four-wide loads and stores, grid folding, bit tests. */
import { type BufferSpec, type DType, type Kernel, texelFormat, TEXTURE_WIDTH } from "./kernel.ts";

/** The parts of a kernel that differ from others. */
export interface Module {
  /** Family name; with `spec` it forms the key. */
  readonly name: string;
  /** The typed spec the text depends on; printed canonically into the key. */
  readonly spec: Readonly<Record<string, string | number | boolean>>;
  /** Words of the uniform block; `name` is u32, `name:f32` is a float. */
  readonly params: readonly string[];
  readonly buffers: readonly BufferSpec[];
  /** Threads of a workgroup, one-dimensional (wgpu refuses subgroup builtins in others). */
  readonly workgroupSize: number;
  /** Adds `lane` (subgroup_invocation_id) to what the body can use. */
  readonly subgroups?: boolean;
  /** Helper functions and workgroup variables. */
  readonly declarations?: Text;
  /** Bindings of each buffer; default one. */
  readonly pieces?: readonly number[];
  /** Body of main. In scope: `wg` (folded workgroup number), `li` (local index), `gid` (wg * workgroupSize + li), `lane`. */
  readonly body: Text;
}

/**
 * Text, or what makes it: plans record thousands of launches of a few kernels, and making the text of each anew took three
 * quarters of the time of a recording.
 */
export type Text = string | (() => string);

function textOf(text: Text): string {
  return typeof text === "string" ? text : text();
}

/** `n` lines of text, one per index, joined: unrolled loops (naga puts a counter into every WGSL loop, so text is cheaper). */
export function unroll(n: number, line: (i: number) => string, separator = "\n"): string {
  return Array.from({ length: n }, (_, i) => line(i)).join(separator);
}

/** Storage of one index. */
const words: Record<DType, string> = { f32: "vec4f", u32: "u32", f16: "vec2u", bf16: "vec2u" };

function declaration({ name, dtype, texture }: BufferSpec, i: number): string {
  const place = `@group(0) @binding(${i + 1})`;
  return texture
    ? `${place} var ${name}: texture_storage_2d<${texelFormat(dtype)}, read>;`
    : `${place} var<storage, read_write> ${name}: array<${words[dtype]}>;`;
}

function loader({ name, dtype, texture }: BufferSpec): string {
  const at = `vec2u(i % ${TEXTURE_WIDTH}u, i / ${TEXTURE_WIDTH}u)`;
  const words = texture ? `textureLoad(${name}, ${at})${dtype === "f32" ? "" : ".xy"}` : `${name}[i]`;
  switch (dtype) {
    case "u32":
      return `fn load_${name}(i: u32) -> u32 { return ${words}; }`;
    case "f32":
      return `fn load_${name}(i: u32) -> vec4f { return ${words}; }
fn element_${name}(at: u32) -> f32 { let i = at / 4u; return ${words}[at % 4u]; }`;
    case "f16":
      return `fn load_${name}(i: u32) -> vec4f { let q = ${words}; return vec4f(unpack2x16float(q.x), unpack2x16float(q.y)); }`;
    case "bf16":
      return `fn load_${name}(i: u32) -> vec4f { return from_bf16(${words}); }`;
  }
}

function storer({ name, dtype, texture }: BufferSpec): string {
  if (texture) return "";
  switch (dtype) {
    case "u32":
      return `fn store_${name}(i: u32, v: u32) { ${name}[i] = v; }`;
    case "f32":
      return `fn store_${name}(i: u32, v: vec4f) { ${name}[i] = v; }
fn store_element_${name}(at: u32, v: f32) { ${name}[at / 4u][at % 4u] = v; }`;
    case "f16":
      return `fn store_${name}(i: u32, v: vec4f) { ${name}[i] = vec2u(pack2x16float(v.xy), pack2x16float(v.zw)); }`;
    case "bf16":
      return `fn store_${name}(i: u32, v: vec4f) { ${name}[i] = to_bf16(v); }`;
  }
}

function namesOf({ name }: BufferSpec, pieces: number): string[] {
  return pieces === 1 ? [name] : Array.from({ length: pieces }, (_, piece) => `${name}_${piece}`);
}

/** Where the pieces of a divided buffer begin, the first apart. */
function startsOf({ name }: BufferSpec, pieces: number): string[] {
  return Array.from({ length: pieces - 1 }, (_, piece) => `${name}_start${piece + 1}`);
}

/** What a kernel binds. */
function bindingsOf({ buffers, pieces }: Module): readonly BufferSpec[] {
  if (pieces === undefined) return buffers;
  return buffers.flatMap((buffer, i) => namesOf(buffer, pieces[i]!).map((name) => ({ ...buffer, name })));
}

/** Loads and stores of a buffer in several bindings. They have one exit, so that lanes stay together for what follows. */
function dividedAccessors(buffer: BufferSpec, pieces: number): string {
  const { name, dtype } = buffer;
  const starts = startsOf(buffer, pieces).map((start) => `params.${start}`);
  const choose = (use: (piece: string, index: string) => string) =>
    namesOf(buffer, pieces).map((piece, p) => {
      const condition = p < starts.length ? `if (i < ${starts[p]}) ` : "";
      return `${condition}{ ${use(piece, p === 0 ? "i" : `i - ${starts[p - 1]}`)} }`;
    }).join(" else ");
  const type = dtype === "u32" ? "u32" : "vec4f";
  const texts = [
    `fn load_${name}(i: u32) -> ${type} {
  var v: ${type};
  ${choose((piece, index) => `v = load_${piece}(${index});`)}
  return v;
}`,
    `fn store_${name}(i: u32, v: ${type}) { ${choose((piece, index) => `store_${piece}(${index}, v);`)} }`,
  ];
  if (dtype !== "f32") return texts.join("\n");
  return [
    ...texts,
    `fn element_${name}(at: u32) -> f32 { return load_${name}(at / 4u)[at % 4u]; }`,
    `fn store_element_${name}(at: u32, v: f32) {
  let i = at / 4u;
  ${choose((piece, index) => `store_element_${piece}(4u * (${index}) + at % 4u, v);`)}
}`,
  ].join("\n");
}

/** bf16 is the upper half of an f32; writing rounds to nearest even, and NaN keeps a mantissa bit so that it stays NaN. */
const BF16 = `fn from_bf16(q: vec2u) -> vec4f {
  return bitcast<vec4f>(vec4u(q.x << 16u, q.x & 0xffff0000u, q.y << 16u, q.y & 0xffff0000u));
}
fn to_bf16(v: vec4f) -> vec2u {
  let b = bitcast<vec4u>(v);
  let rounded = (b + 0x7fffu + ((b >> vec4u(16u)) & vec4u(1u))) >> vec4u(16u);
  let nan = (b >> vec4u(16u)) | vec4u(0x40u);
  let h = select(rounded, nan, (b & vec4u(0x7fffffffu)) > vec4u(0x7f800000u));
  return vec2u(h.x | (h.y << 16u), h.z | (h.w << 16u));
}`;

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
    buffers: bindingsOf(module),
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

function moduleText(module: Module): string {
  const { params, buffers, workgroupSize, pieces = buffers.map(() => 1) } = module;
  const bound = bindingsOf(module);
  const fields = params.map((param) => {
    const [field, type = "u32"] = param.split(":");
    return `${field}: ${type}`;
  });
  const needsBf16 = buffers.some(({ dtype }) => dtype === "bf16");
  return [
    `struct Params { ${fields.join(", ")} }`,
    `@group(0) @binding(0) var<uniform> params: Params;`,
    ...bound.map(declaration),
    needsBf16 ? BF16 : "",
    ...bound.map(loader),
    ...bound.map(storer),
    ...buffers.map((buffer, i) => pieces[i]! > 1 ? dividedAccessors(buffer, pieces[i]!) : ""),
    textOf(module.declarations ?? ""),
    `@compute @workgroup_size(${workgroupSize})
fn main(@builtin(workgroup_id) workgroup_id: vec3u, @builtin(num_workgroups) num_workgroups: vec3u,
        @builtin(local_invocation_index) li: u32${
      module.subgroups ? ", @builtin(subgroup_invocation_id) lane: u32" : ""
    }) {
  let wg = workgroup_id.y * num_workgroups.x + workgroup_id.x;
  let gid = wg * ${workgroupSize}u + li;`,
    textOf(module.body),
    `}`,
  ].filter((part) => part !== "").join("\n");
}
