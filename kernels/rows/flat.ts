/** Elementwise kernels over flat buffers: activations, sums, conversion. */
import type { BufferSpec, DType, Launch, Target, Work } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { type Spread, SPREAD_PROBE, spreadGrid, SPREADS, spreadText } from "../core/spread.ts";
import { type Family, solve } from "../core/variants.ts";
import { buildKernel } from "../core/wgsl.ts";

interface Flat {
  readonly name: string;
  readonly spec: Readonly<Record<string, string | number | boolean>>;
  readonly buffers: readonly BufferSpec[];
  readonly declarations?: string;
  /** Statement for the vector at index `at`. */
  readonly perVector: string;
  readonly flopsPerElement: number;
}

function flat(kernel: Flat, elements: number, spread: Spread = SPREADS[0]!): Launch {
  const count = fours(`${kernel.name} of`, elements);
  return {
    kernel: buildKernel({
      name: kernel.name,
      spec: { ...kernel.spec, threads: spread.threads, vectors: spread.vectors },
      params: ["count4"],
      buffers: kernel.buffers,
      workgroupSize: spread.threads,
      declarations: kernel.declarations ?? "",
      body: spreadText(spread, kernel.perVector),
    }),
    params: [count],
    grid: spreadGrid(spread, count),
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

/** A kernel over flat buffers in every spread; the last of its buffers is written. */
function familyOf<Spec extends Readonly<Record<string, DType>>>(
  kernelOf: (spec: Spec) => Flat,
  name: string,
): Family<Spec, FlatShape> {
  return {
    name,
    variants: SPREADS.map((spread) => ({
      name: spread.name,
      applies: () => true,
      work(_, spec, { elements }) {
        const kernel = kernelOf(spec);
        return { launches: [{ launch: flat(kernel, elements, spread), writes: [kernel.buffers.at(-1)!.name] }] };
      },
    })),
    prefer: () => SPREADS[0]!.name,
    twin: SPREADS[0]!.name,
    traits: (spec, { elements }) => ({ ...spec, elements }),
    operands: (spec, { elements }) => Object.fromEntries(kernelOf(spec).buffers.map(({ name }) => [name, elements])),
    probe: ({ elements }) => ({ elements: Math.min(elements, SPREAD_PROBE) }),
  };
}

/** Element types of an activation. */
export interface ActivationSpec extends Readonly<Record<string, DType>> {
  readonly x: DType;
  readonly y: DType;
}

/** Element types of its gradient. */
export interface ActivationBackwardSpec extends Readonly<Record<string, DType>> {
  readonly x: DType;
  readonly g: DType;
  readonly dx: DType;
}

function activation(name: string, declarations: string): Family<ActivationSpec, FlatShape> {
  return familyOf(({ x, y }) => ({
    name,
    spec: { x, y },
    buffers: [{ name: "x", dtype: x }, { name: "y", dtype: y }],
    declarations,
    perVector: `store_y(at, ${name}(load_x(at)));`,
    flopsPerElement: 10,
  }), name);
}

function activationBackward(name: string, declarations: string): Family<ActivationBackwardSpec, FlatShape> {
  return familyOf(({ x, g, dx }) => ({
    name: `${name}_backward`,
    spec: { x, g, dx },
    buffers: [{ name: "x", dtype: x }, { name: "g", dtype: g }, { name: "dx", dtype: dx }],
    declarations,
    perVector: `store_dx(at, load_g(at) * ${name}_derivative(load_x(at)));`,
    flopsPerElement: 16,
  }), `${name}_backward`);
}

/** The families of the activations and their gradients. */
export const activationFamilies = {
  gelu: activation("gelu", GELU),
  geluBackward: activationBackward("gelu", GELU),
  silu: activation("silu", SILU),
  siluBackward: activationBackward("silu", SILU),
};

/** y = gelu(x) (tanh form). Operands: x, y. */
export function gelu(target: Target, spec: ActivationSpec, shape: FlatShape): Work {
  return solve(activationFamilies.gelu, target, spec, shape);
}

/** y = silu(x). Operands: x, y. */
export function silu(target: Target, spec: ActivationSpec, shape: FlatShape): Work {
  return solve(activationFamilies.silu, target, spec, shape);
}

/** dx = g * gelu'(x). Operands: x (pre-activation), g, dx. */
export function geluBackward(target: Target, spec: ActivationBackwardSpec, shape: FlatShape): Work {
  return solve(activationFamilies.geluBackward, target, spec, shape);
}

/** dx = g * silu'(x). Operands: x (pre-activation), g, dx. */
export function siluBackward(target: Target, spec: ActivationBackwardSpec, shape: FlatShape): Work {
  return solve(activationFamilies.siluBackward, target, spec, shape);
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
