import assert from "node:assert/strict";
import { convolution } from "../../../kernels/matrix/conv.ts";
import { convUnits } from "../../../kernels/matrix/conv_units.ts";
import { type DType, type Launch, plainTarget, type Target } from "../../../kernels/core/kernel.ts";
import { causal, type ConvCase, convCases, convError, perFrame, PLAIN_SPEC } from "./conv_cases.ts";
import { lowered } from "../lower_units.ts";
import { numbers, runWork, testDevice } from "../run.ts";
import { runsLowered, skippedWithoutUnits, smallTile } from "../small_units.ts";

const { device } = await testDevice();
const SMALL = smallTile(device.target);
const ignore = device.target.matrix.length === 0;
const skipped = skippedWithoutUnits(device.target);

function test(name: string, fn: () => Promise<void>, ignored = ignore): void {
  Deno.test({ name: name + skipped, ignore: ignored, fn });
}

/** For tests whose texts are those of other units or subgroups than the software driver's. */
const elsewhere = !runsLowered(device.target);

/** Relative L2 error of operands rounded to 11 bits; where they are stored narrow, of rounding the output. */
const BAND: Record<DType, number> = { f32: 2 ** -10, f16: 5e-4, bf16: 4e-3, u32: 0 };

function workOf({ spec, shape }: ConvCase, tile = SMALL, rewrite: (launch: Launch) => Launch = (launch) => launch) {
  return { launches: [{ launch: rewrite(convUnits(spec, shape, tile)), writes: ["y"] }] };
}

async function check(each: ConvCase, work: ReturnType<typeof workOf>): Promise<void> {
  const error = await convError(each, work);
  const band = BAND[each.spec.y];
  assert.ok(error <= band, `${each.name}: relative error ${error} above ${band}`);
}

test("convolutions on matrix units match a float64 reference", async () => {
  for (const each of convCases) await check(each, workOf(each));
});

test("the text for larger units computes the same", async () => {
  const unit = { m: 16, n: 16, k: 16 };
  const each = { name: "f16", spec: { ...PLAIN_SPEC, x: "f16", weight: "f16" }, shape: causal } as const;
  const tile = { ...SMALL, ...unit, rows: 32, columns: 32, depth: 16 };
  await check(each, workOf(each, tile, (launch) => lowered(launch, unit)));
}, elsewhere);

test("a NaN outside the picture does not reach the output through the padding", async () => {
  const shape = { ...perFrame, frames: 1, channels: 4, outputs: 4 };
  const x = new Float32Array(2 * 5 * 7 * 4).fill(1);
  x.fill(NaN, 5 * 7 * 4);
  x[0] = NaN;
  const work = workOf({ name: "NaN", spec: { ...PLAIN_SPEC, bias: false }, shape });
  const { y } = await runWork(work, { x, weight: numbers(9 * 16), y: 5 * 7 * 4 });
  const bad = Array.from({ length: 35 }, (_, p) => p).filter((p) => Number.isNaN(y![p * 4]!));
  assert.deepEqual(bad, [0, 1, 7, 8], "only the neighbours of the NaN pixel");
});

Deno.test("convolutions that may round run on matrix units unless they have few outputs", () => {
  const matrix = [{ component: "f16", result: "f32", m: 16, n: 16, k: 16 }] as const;
  const target: Target = { ...plainTarget(32), workgroupBytes: 49152, matrix, f16: true, mixed: true };
  const preferred = (outputs: number) =>
    convolution(target, PLAIN_SPEC, { ...causal, frames: 9, height: 480, width: 720, outputs }).launches[0]!.launch
      .problem!.preferred;
  assert.equal(preferred(128), "units 128x128");
  assert.equal(preferred(4), "plain");
});
