/** Dropout (Srivastava et al., JMLR 15, 2014), scaled while training so that sampling needs nothing. */
import { type DType, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { DRAW } from "../core/draw.ts";
import { fours } from "../core/fours.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/** Vectors of four elements per thread. */
const UNROLL = 4;

/** Which elements are dropped. */
export interface DropoutShape {
  readonly elements: number;
  /** Elements in front of these that draw from the same key, a multiple of four. */
  readonly first: number;
  /** Tells apart the tensors that draw from one key. */
  readonly layer: number;
  /** Probability with which an element becomes zero; the others are divided by 1 - rate. */
  readonly rate: number;
}

/** y = drop(x), or y += drop(x) with `accumulate`. Buffers: x, key (u32 [4], two words of which count), y. */
export function dropout(
  spec: { readonly x: DType; readonly y: DType; readonly accumulate: boolean },
  { elements, first, layer, rate }: DropoutShape,
): Launch {
  const count = fours("x", elements);
  return {
    kernel: buildKernel({
      name: "dropout",
      spec: { ...spec },
      params: ["count4", "first4", "layer", "threshold", "factor:f32"],
      buffers: [{ name: "x", dtype: spec.x }, { name: "key", dtype: "u32" }, { name: "y", dtype: spec.y }],
      workgroupSize: THREADS,
      declarations: DRAW,
      body: `  let low = load_key(0u);
  let high = load_key(1u);
${
        unroll(UNROLL, (i) =>
          `  {
    let at = wg * ${THREADS * UNROLL}u + ${i * THREADS}u + li;
    if (at < params.count4) {
      let keep = draw(vec4u(params.first4 + at, params.layer, low, high)) >= vec4u(params.threshold);
      let kept = select(vec4f(0), params.factor * load_x(at), keep);
      store_y(at, ${spec.accumulate ? "load_y(at) + kept" : "kept"});
    }
  }`)
      }`,
    }),
    params: [count, fours("the elements in front of x", first), layer, Math.floor(rate * 2 ** 32), 1 / (1 - rate)],
    grid: foldGrid(Math.ceil(count / (THREADS * UNROLL))),
    // Drawing is integer arithmetic.
    flops: (spec.accumulate ? 2 : 1) * elements,
  };
}
