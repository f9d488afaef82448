import assert from "node:assert/strict";
import { convFamily, convolution } from "../../../kernels/matrix/conv.ts";
import { convRegister, type ConvTile } from "../../../kernels/matrix/conv_register.ts";
import type { ConvShape } from "../../../kernels/matrix/conv_shape.ts";
import { type DType, plainTarget, type Work } from "../../../kernels/core/kernel.ts";
import { causal, type ConvCase, convCases, convError, perFrame, PLAIN_SPEC } from "./conv_cases.ts";
import { numbers, runWork, testDevice } from "../run.ts";
import { targets } from "../targets.ts";

/** Relative L2 error allowed by the storage of the output: f32 sums, or half a unit in the last place of 11 or 8 bits. */
const TOLERANCE: Record<DType, number> = { f32: 5e-7, f16: 5e-4, bf16: 4e-3, u32: 0 };

async function check(each: ConvCase, work: Work): Promise<void> {
  const tolerance = TOLERANCE[each.spec.y];
  const error = await convError(each, work);
  assert.ok(error <= tolerance, `${each.name}: relative error ${error} above ${tolerance}`);
}

/** Variants on matrix units and packed ones round operands, and have tests of their own. */
const exact = convFamily.variants.filter(({ name }) => !/^(units|packed)/.test(name));

/** Larger sizes of a tile that runs every case: their texts differ in numbers alone, and compile long. */
const SOME = ["staged 128x128", "staged 128x64", "staged 64x64"];

for (const { name, applies, work } of exact) {
  Deno.test(`convolutions of variant ${name} match a float64 reference`, async () => {
    for (const each of SOME.includes(name) ? convCases.slice(0, 3) : convCases) {
      const { spec, shape } = each;
      const target = (await targets()).find((target) => applies(target, spec, shape));
      if (target !== undefined) await check(each, work(target, spec, shape));
    }
  });
}

Deno.test("the shuffled tile of wide subgroups computes the same", async () => {
  // Eight lanes stand for the sixteen a discrete GPU uses, so that the text runs on any adapter with subgroups.
  const { device } = await testDevice();
  if (device.target.subgroups === 0) return;
  const tile: ConvTile = { rows: 16, vectors: 2, lanes: 8, share: "shuffle", threads: 64 };
  for (const each of convCases) {
    await check(each, { launches: [{ launch: convRegister(each.spec, each.shape, tile), writes: ["y"] }] });
  }
});

Deno.test("a device runs the tile that suits it, and the plain one where outputs are few", () => {
  const chosen = (subgroups: number, outputs: number) =>
    convolution(plainTarget(subgroups), PLAIN_SPEC, { ...causal, outputs }).launches[0]!.launch.problem!.chosen;
  assert.deepEqual([0, 8, 32].map((subgroups) => chosen(subgroups, 128)), ["plain", "broadcast 32", "staged 32x64"]);
  assert.deepEqual([8, 32].map((subgroups) => chosen(subgroups, 4)), ["plain", "plain"]);
});

Deno.test("a NaN outside the picture does not reach the output through the padding", async () => {
  const shape: ConvShape = { ...perFrame, frames: 1, channels: 4, outputs: 4 };
  const x = new Float32Array(2 * 5 * 7 * 4).fill(1);
  x.fill(NaN, 5 * 7 * 4);
  x[0] = NaN;
  const spec = { ...PLAIN_SPEC, bias: false };
  for (const { applies, work } of exact) {
    const target = (await targets()).find((target) => applies(target, spec, shape));
    if (target === undefined) continue;
    const { y } = await runWork(work(target, spec, shape), { x, weight: numbers(9 * 16), y: 5 * 7 * 4 });
    const bad = Array.from({ length: 35 }, (_, p) => p).filter((p) => Number.isNaN(y![p * 4]!));
    assert.deepEqual(bad, [0, 1, 7, 8], "only the neighbours of the NaN pixel");
  }
});

Deno.test("channels that are no multiple of four are refused", () => {
  assert.throws(
    () => convolution(plainTarget(8), PLAIN_SPEC, { ...causal, channels: 3 }),
    /convolution of 3 to 36 channels: both must be multiples of 4/,
  );
});
