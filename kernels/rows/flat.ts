/** Elementwise kernels over flat buffers: activations, sums, conversion. */
import { type BufferSpec, type DType, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/** Vectors of four elements per thread. */
const UNROLL = 4;

interface Flat {
  readonly name: string;
  readonly spec: Readonly<Record<string, string | number | boolean>>;
  readonly buffers: readonly BufferSpec[];
  readonly declarations?: string;
  /** Statement for the vector at index `at`. */
  readonly perVector: string;
  readonly flopsPerElement: number;
}

function flat(kernel: Flat, elements: number): Launch {
  const count = fours(`${kernel.name} of`, elements);
  return {
    kernel: buildKernel({
      name: kernel.name,
      spec: kernel.spec,
      params: ["count4"],
      buffers: kernel.buffers,
      workgroupSize: THREADS,
      declarations: kernel.declarations ?? "",
      body: unroll(UNROLL, (i) =>
        `  {
    let at = wg * ${THREADS * UNROLL}u + ${i * THREADS}u + li;
    if (at < params.count4) { ${kernel.perVector} }
  }`),
    }),
    params: [count],
    grid: foldGrid(Math.ceil(count / (THREADS * UNROLL))),
    flops: kernel.flopsPerElement * elements,
  };
}

/** How many elements a flat launch covers, a multiple of four. */
export interface FlatShape {
  readonly elements: number;
}

/**
 * gelu with tanh is x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3). The sigmoid's argument is taken at |x| <= 10,
 * where it is 0 or 1 to f32 precision and exp stays finite, so no driver makes NaN out of a large x.
 */
export const GELU = `fn gelu_exp(x: vec4f) -> vec4f {
  let c = clamp(x, vec4f(-10), vec4f(10));
  return exp(-1.5957691216057308 * c * (1.0 + 0.044715 * c * c));
}
fn gelu(x: vec4f) -> vec4f { return x / (1.0 + gelu_exp(x)); }
fn gelu_derivative(x: vec4f) -> vec4f {
  let c = clamp(x, vec4f(-10), vec4f(10));
  let e = gelu_exp(x);
  let s = 1.0 / (1.0 + e);
  return s + c * 1.5957691216057308 * (1.0 + 0.134145 * c * c) * s * (e * s);
}`;

/** silu(x) = x * sigmoid(x), with exp kept finite. */
export const SILU = `fn silu(x: vec4f) -> vec4f { return x / (1.0 + exp(-clamp(x, vec4f(-80), vec4f(80)))); }
fn silu_derivative(x: vec4f) -> vec4f {
  let c = clamp(x, vec4f(-80), vec4f(80));
  let e = exp(-c);
  let s = 1.0 / (1.0 + e);
  return s * (1.0 + c * (e * s));
}`;

function activation(
  name: string,
  declarations: string,
  spec: { readonly x: DType; readonly y: DType },
  elements: number,
): Launch {
  return flat({
    name,
    spec: { x: spec.x, y: spec.y },
    buffers: [{ name: "x", dtype: spec.x }, { name: "y", dtype: spec.y }],
    declarations,
    perVector: `store_y(at, ${name}(load_x(at)));`,
    flopsPerElement: 10,
  }, elements);
}

/** y = gelu(x) (tanh form). Buffers: x, y. */
export function gelu(spec: { readonly x: DType; readonly y: DType }, { elements }: FlatShape): Launch {
  return activation("gelu", GELU, spec, elements);
}

/** y = silu(x). Buffers: x, y. */
export function silu(spec: { readonly x: DType; readonly y: DType }, { elements }: FlatShape): Launch {
  return activation("silu", SILU, spec, elements);
}

function activationBackward(
  name: string,
  declarations: string,
  spec: { readonly x: DType; readonly g: DType; readonly dx: DType },
  elements: number,
): Launch {
  return flat({
    name: `${name}_backward`,
    spec: { x: spec.x, g: spec.g, dx: spec.dx },
    buffers: [{ name: "x", dtype: spec.x }, { name: "g", dtype: spec.g }, { name: "dx", dtype: spec.dx }],
    declarations,
    perVector: `store_dx(at, load_g(at) * ${name}_derivative(load_x(at)));`,
    flopsPerElement: 16,
  }, elements);
}

/** dx = g * gelu'(x). Buffers: x (pre-activation), g, dx. */
export function geluBackward(
  spec: { readonly x: DType; readonly g: DType; readonly dx: DType },
  { elements }: FlatShape,
): Launch {
  return activationBackward("gelu", GELU, spec, elements);
}

/** dx = g * silu'(x). Buffers: x (pre-activation), g, dx. */
export function siluBackward(
  spec: { readonly x: DType; readonly g: DType; readonly dx: DType },
  { elements }: FlatShape,
): Launch {
  return activationBackward("silu", SILU, spec, elements);
}

/** y = gelu(a) * b, the gated activation of T5. Buffers: a, b, y. */
export function gatedGelu(spec: { readonly x: DType; readonly y: DType }, { elements }: FlatShape): Launch {
  return flat({
    name: "gated_gelu",
    spec: { x: spec.x, y: spec.y },
    buffers: [{ name: "a", dtype: spec.x }, { name: "b", dtype: spec.x }, { name: "y", dtype: spec.y }],
    declarations: GELU,
    perVector: "store_y(at, gelu(load_a(at)) * load_b(at));",
    flopsPerElement: 11,
  }, elements);
}

/** out = a + b. Buffers: a, b, out. */
export function add(
  spec: { readonly a: DType; readonly b: DType; readonly out: DType },
  { elements }: FlatShape,
): Launch {
  return flat({
    name: "add",
    spec: { a: spec.a, b: spec.b, out: spec.out },
    buffers: [{ name: "a", dtype: spec.a }, { name: "b", dtype: spec.b }, { name: "out", dtype: spec.out }],
    perVector: "store_out(at, load_a(at) + load_b(at));",
    flopsPerElement: 1,
  }, elements);
}

/** a += b. Buffers: a, b. */
export function addInPlace(spec: { readonly a: DType; readonly b: DType }, { elements }: FlatShape): Launch {
  return flat({
    name: "add_in_place",
    spec: { a: spec.a, b: spec.b },
    buffers: [{ name: "a", dtype: spec.a }, { name: "b", dtype: spec.b }],
    perVector: "store_a(at, load_a(at) + load_b(at));",
    flopsPerElement: 1,
  }, elements);
}

/** y = x in another storage type, rounded to nearest even. Buffers: x, y. */
export function convert(spec: { readonly x: DType; readonly y: DType }, { elements }: FlatShape): Launch {
  return flat({
    name: "convert",
    spec: { x: spec.x, y: spec.y },
    buffers: [{ name: "x", dtype: spec.x }, { name: "y", dtype: spec.y }],
    perVector: "store_y(at, load_x(at));",
    flopsPerElement: 0,
  }, elements);
}
