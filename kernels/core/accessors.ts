/**
 * How the text of a kernel reaches its tensors: four elements at a time (single words for u32), whatever the storage
 * type, from a buffer, from a texture, or from several bindings that make up one tensor.
 */
import { type BufferSpec, type DType, texelFormat, TEXTURE_WIDTH } from "./kernel.ts";

/** The buffers of a kernel. */
export interface Bound {
  readonly buffers: readonly BufferSpec[];
  /** Bindings of each; default one. */
  readonly pieces?: readonly number[];
}

/** Storage of one index. */
const words: Record<DType, string> = { f32: "vec4f", u32: "u32", f16: "vec2u", bf16: "vec2u" };

function declaration({ name, dtype, texture }: BufferSpec, i: number): string {
  const place = `@group(0) @binding(${i + 1})`;
  return texture
    ? `${place} var ${name}: texture_storage_2d<${texelFormat(dtype)}, read>;`
    : `${place} var<storage, read_write> ${name}: array<${words[dtype]}>;`;
}

function loader({ name, dtype, texture, half }: BufferSpec): string {
  const at = `vec2u(i % ${TEXTURE_WIDTH}u, i / ${TEXTURE_WIDTH}u)`;
  const words = texture ? `textureLoad(${name}, ${at})${dtype === "f32" ? "" : ".xy"}` : `${name}[i]`;
  switch (dtype) {
    case "u32":
      return `fn load_${name}(i: u32) -> u32 { return ${words}; }`;
    case "f32":
      return `fn load_${name}(i: u32) -> vec4f { return ${words}; }
fn element_${name}(at: u32) -> f32 { let i = at / 4u; return ${words}[at % 4u]; }`;
    case "f16":
      if (half) return `fn load_${name}(i: u32) -> vec4<f16> { return bitcast<vec4<f16>>(${words}); }`;
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

/** Params that say where the pieces of a divided buffer begin, the first apart. */
export function startsOf({ name }: BufferSpec, pieces: number): string[] {
  return Array.from({ length: pieces - 1 }, (_, piece) => `${name}_start${piece + 1}`);
}

/** What a kernel binds, in order. */
export function bindings({ buffers, pieces }: Bound): readonly BufferSpec[] {
  if (pieces === undefined) return buffers;
  return buffers.flatMap((buffer, i) => namesOf(buffer, pieces[i]!).map((name) => ({ ...buffer, name })));
}

/**
 * Loads and stores of a buffer in several bindings. They have one exit, so that lanes stay together for what follows.
 */
function dividedAccessors(buffer: BufferSpec, pieces: number): string {
  const { name, dtype, half } = buffer;
  const starts = startsOf(buffer, pieces).map((start) => `params.${start}`);
  const choose = (use: (piece: string, index: string) => string) =>
    namesOf(buffer, pieces).map((piece, p) => {
      const condition = p < starts.length ? `if (i < ${starts[p]}) ` : "";
      return `${condition}{ ${use(piece, p === 0 ? "i" : `i - ${starts[p - 1]}`)} }`;
    }).join(" else ");
  const type = dtype === "u32" ? "u32" : "vec4f";
  const loaded = half ? "vec4<f16>" : type;
  const texts = [
    `fn load_${name}(i: u32) -> ${loaded} {
  var v: ${loaded};
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

/**
 * bf16 is the upper half of an f32; writing rounds to nearest even, and NaN keeps a mantissa bit so that it stays NaN.
 */
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

/**
 * Declarations of the bindings, and `load_NAME`, `store_NAME` and for f32 `element_NAME` and `store_element_NAME` of
 * each buffer.
 */
export function accessors(bound: Bound): string[] {
  const { buffers, pieces = buffers.map(() => 1) } = bound;
  const all = bindings(bound);
  return [
    ...all.map(declaration),
    buffers.some(({ dtype }) => dtype === "bf16") ? BF16 : "",
    ...all.map(loader),
    ...all.map(storer),
    ...buffers.map((buffer, i) => pieces[i]! > 1 ? dividedAccessors(buffer, pieces[i]!) : ""),
  ];
}
