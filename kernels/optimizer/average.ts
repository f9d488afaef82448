/** The moving average of the trained weights that is saved beside them. */
import { foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { buildKernel } from "../core/wgsl.ts";
import { WATCH } from "./watch.ts";

/**
 * average = average + (1 - decay)(parameters - average); a skipped step (see clipControl) does not count.
 * Buffers: average, parameters, control, all f32. Start with average = parameters.
 */
export function movingAverage(shape: { readonly elements: number; readonly decay: number }): Launch {
  const count = fours("parameters", shape.elements);
  return {
    kernel: buildKernel({
      name: "moving_average",
      spec: {},
      params: ["count4", "rest:f32"],
      buffers: ["average", "parameters", "control"].map((name) => ({ name, dtype: "f32" })),
      workgroupSize: THREADS,
      declarations: WATCH,
      body: `
  let control = load_control(0u);
  if (gid < params.count4 && control.z == 0.0) {
    let old = load_average(gid);
    let average = old + params.rest * (load_parameters(gid) - old);
    store_average(gid, average);
    watch(average, control);
  }`,
    }),
    params: [count, 1 - shape.decay],
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: 3 * shape.elements,
  };
}
