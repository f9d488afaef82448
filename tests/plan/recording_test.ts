/** What a finished plan keeps: results that are read behind its end, and parameters as their kernels read them. */
import assert from "node:assert/strict";
import { plainTarget } from "../../kernels/core/kernel.ts";
import { buildKernel } from "../../kernels/core/wgsl.ts";
import { convert } from "../../kernels/rows/flat.ts";
import { DISCRETE_LIMITS } from "../../lib/plan/limits.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { finish } from "../../lib/plan/recording.ts";
import type { Tensor } from "../../lib/plan/tensor.ts";

Deno.test("nothing takes the memory of a result that is read when the plan has run, whatever comes behind it", () => {
  const plan = new Plan({ target: plainTarget(8) });
  const input = plan.resident("input", [1024], "f32"), last = plan.resident("last", [1024], "f32");
  const copy = (from: Tensor, to: Tensor) => {
    plan.launch(convert({ x: "f32", y: "f32" }, { elements: 1024 }), [from, to], [to]);
    return to;
  };
  const result = plan.output(copy(input, plan.transient("result", [1024], "f32")));
  let x = input;
  for (let i = 0; i < 6; i++) x = copy(x, plan.transient(`inner ${i}`, [1024], "f32"));
  copy(x, last);
  const { places } = finish(plan, DISCRETE_LIMITS).memory;
  const placeOf = (tensor: Tensor) => places.get(tensor)!.map(({ chunk, offset }) => `${chunk} ${offset}`).join();
  const others = [...places.keys()].filter((tensor) => tensor !== result).map(placeOf);
  assert.equal(others.length, 6);
  // Of the others two are alive at a time, so they share two places.
  assert.equal(new Set(others).size, 2);
  assert.ok(!others.includes(placeOf(result)));
});

Deno.test("equal numbers are stored apart where one kernel reads a float and the other a whole number", () => {
  const plan = new Plan({ target: plainTarget(8) });
  const y = plan.resident("y", [4], "f32");
  const launch = (param: string, body: string) => {
    const buffers = [{ name: "y", dtype: "f32" as const }];
    const kernel = buildKernel({ name: param, spec: {}, params: [param], buffers, workgroupSize: 1, body });
    plan.launch({ kernel, params: [2], grid: [1, 1, 1], flops: 0 }, [y], [y]);
  };
  launch("count", "store_y(0u, vec4f(f32(params.count)));");
  launch("factor:f32", "store_y(0u, params.factor * load_y(0u));");
  launch("count", "store_y(0u, load_y(0u) + vec4f(f32(params.count)));");
  const { uniforms, uniformOf } = finish(plan, DISCRETE_LIMITS);
  assert.deepEqual([uniforms.length, uniformOf], [2, [0, 1, 0]]);
});
