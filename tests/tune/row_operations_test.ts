/** Row operations in tuning: which of them a run measures, that all their variants agree, and that wrong ones are refused. */
import assert from "node:assert/strict";
import type { Launch, Problem, Work } from "../../kernels/core/kernel.ts";
import { plainTarget } from "../../kernels/core/kernel.ts";
import { type Family, solve } from "../../kernels/core/variants.ts";
import { headColumnsFamily } from "../../kernels/norm/head_parameters.ts";
import { headNormFamilies } from "../../kernels/norm/head.ts";
import { rowNormFamilies } from "../../kernels/norm/layer.ts";
import { layerNormColumnsFamily } from "../../kernels/norm/layer_parameters.ts";
import { adamFamily } from "../../kernels/optimizer/adam.ts";
import { columnFamilies } from "../../kernels/reduce/sums.ts";
import { gatedFamilies } from "../../kernels/rows/by_row.ts";
import { magnitudeFamily } from "../../kernels/rows/dora.ts";
import { activationFamilies } from "../../kernels/rows/flat.ts";
import { DISCRETE_LIMITS } from "../../lib/plan/limits.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { finish } from "../../lib/plan/recording.ts";
import { problemsOf } from "../../lib/tune/problems.ts";
import { type RefusedEvent, tune } from "../../lib/tune/tune.ts";
import { testDevice } from "../kernels/run.ts";
import { modulatedShape } from "../kernels/shapes.ts";

/** The family with a variant that does not finish its work. */
function withLazy<Spec, Shape>(family: Family<Spec, Shape>): Family<Spec, Shape> {
  const twin = family.variants.find(({ name }) => name === family.twin)!;
  const lazy = ({ launches, ...rest }: Work): Work => {
    const short = (launch: Launch): Launch => ({ ...launch, grid: [launch.grid[0] - 1, 1, 1] });
    return { ...rest, launches: launches.map(({ launch, writes }) => ({ launch: short(launch), writes })) };
  };
  const planted = {
    ...twin,
    name: "lazy",
    work: (...given: Parameters<typeof twin.work>) => lazy(twin.work(...given)),
  };
  return { ...family, variants: [...family.variants, planted] };
}

const { device } = await testDevice();

function problem<Spec, Shape>(family: Family<Spec, Shape>, spec: Spec, shape: Shape): Problem {
  return solve(withLazy(family), device.target, spec, shape).launches[0]!.launch.problem!;
}

const WIDTH = 256;
const rows = { rows: 2 * 90, sequence: 90, textRows: 21 };
const norm = modulatedShape(rows, WIDTH);
const gates = { ...rows, width: WIDTH, stride: 6 * WIDTH, gateText: 5 * WIDTH, gateVideo: 2 * WIDTH };
const heads = { ...rows, heads: 4, eps: 1e-6 };
const flat = { elements: 2 ** 16 };
const [x, y, g, dx] = ["f32", "bf16", "f32", "f32"] as const;
const param = "f32" as const;
const ADAM = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 };

const problems: readonly Problem[] = [
  problem(activationFamilies.gelu, { x, y }, flat),
  problem(activationFamilies.geluBackward, { x, g, dx }, flat),
  problem(activationFamilies.silu, { x, y }, flat),
  problem(activationFamilies.siluBackward, { x, g, dx }, flat),
  problem(gatedFamilies.forward, { x, y, out: "f32" }, gates),
  problem(gatedFamilies.backward, { g, dy: "f16" }, gates),
  problem(rowNormFamilies.layerNorm, { x, y, param, modulated: true }, norm),
  problem(rowNormFamilies.layerNormBackward, { x, g, dx, param, modulated: true, accumulate: true }, norm),
  problem(rowNormFamilies.rmsNorm, { x, y, param }, { ...norm, sequence: rows.rows, textRows: 0, modulationStride: 0 }),
  problem(headNormFamilies.forward, { dtype: "f32", param, rotate: true }, heads),
  problem(headNormFamilies.backward, { dtype: "f32", param, rotate: true }, heads),
  problem(headColumnsFamily, { dtype: "f32", rotate: true }, heads),
  problem(layerNormColumnsFamily, { x, g }, norm),
  problem(columnFamilies.columnSums, { g, accumulate: true }, { rows: 700, width: WIDTH }),
  problem(columnFamilies.gateSums, { g, y }, { ...gates, batch: 2 }),
  problem(adamFamily, { kind: "adamw", gradients: "f32", copy: "bf16" }, { ...flat, ...ADAM }),
  problem(magnitudeFamily, { g, u: "bf16" }, { rows: 700, width: WIDTH }),
];

for (const each of problems) {
  Deno.test(`all variants of ${each.family} agree, and one that does not finish its work is refused`, async () => {
    const folder = await Deno.makeTempDir();
    try {
      const refused: RefusedEvent[] = [];
      const tuning = tune(device, [each], { folder });
      let next = await tuning.next();
      for (; !next.done; next = await tuning.next()) if (next.value.type === "refused") refused.push(next.value);
      assert.deepEqual(refused.map(({ variant }) => variant), ["lazy"]);
      const { variant, milliseconds } = next.value.get(each.key)!;
      const able = each.candidates().filter((name) => name !== "lazy");
      assert.ok(able.length > 1 && able.includes(variant));
      assert.deepEqual(Object.keys(milliseconds).sort(), able.sort());
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("a problem counts by its operations or by its bytes, whichever take longer, and the smallest are left out", () => {
  const bits = (count: number) => ({ elements: count });
  /** Problems of gelus over so many f32 each, and of a launch of so many operations. */
  const found = (sizes: readonly number[], flops: number, mixed = false) => {
    const target = { ...plainTarget(32), mixed };
    const plan = new Plan({ target });
    for (const size of sizes) {
      const [a, b] = [plan.resident("a", [size], "f32"), plan.resident("b", [size], "f32")];
      const { launch } = solve(activationFamilies.gelu, target, { x: "f32", y: "f32" }, bits(size)).launches[0]!;
      plan.launch(launch, [a, b], [b]);
    }
    const [a, b] = [plan.resident("a", [4], "f32"), plan.resident("b", [4], "f32")];
    const { launch } = activationFamilies.gelu.variants[0]!.work(target, { x: "f32", y: "f32" }, bits(4)).launches[0]!;
    plan.launch({ ...launch, flops }, [a, b], [b]);
    return problemsOf([finish(plan, DISCRETE_LIMITS)]).map(({ key }) => Number(key.match(/elements=(\d+)/)![1]));
  };
  // 8 bytes an element at 20 operations a byte: 1e6 elements weigh 1.6e8, half a thousandth of 3.2e11.
  assert.deepEqual(found([1e6], 3.1e11), [1e6]);
  assert.deepEqual(found([1e6], 3.3e11), []);
  // Matrix units do five times as much meanwhile.
  assert.deepEqual(found([1e6], 1.5e12, true), [1e6]);
  assert.deepEqual(found([1e6], 1.7e12, true), []);
  assert.deepEqual(found([1000, 4e5, 1e6, 8e5], 1e6), [1e6, 8e5, 4e5]);
});
