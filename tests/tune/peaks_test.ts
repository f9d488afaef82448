/** Ceilings of the machine's own device: what sets them computes what arithmetic says, and nothing else sets one. */
import assert from "node:assert/strict";
import { unitOf } from "../../kernels/core/units.ts";
import { type Ceiling, multiplyAdds } from "../../kernels/peaks/multiply_adds.ts";
import { unitProducts } from "../../kernels/peaks/unit_products.ts";
import { buildKernel } from "../../kernels/core/wgsl.ts";
import { arithmeticOf, ceilingsOf, peaksOf, secondsAtPeak } from "../../lib/tune/peaks.ts";
import { cardOf, readTable, writeTable } from "../../lib/tune/table.ts";
import { lowered } from "../kernels/lower_units.ts";
import { runLaunch, testDevice } from "../kernels/run.ts";
import { runsLowered, skippedWithoutUnits } from "../kernels/small_units.ts";

const { device } = await testDevice();
const { target } = device;

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Results and what they have to be, where they differ. */
async function mistakes({ launch, results, expected }: Ceiling): Promise<[number, number][]> {
  const [found] = await runLaunch(launch, [results]);
  return [...found!].flatMap((value, at) => value === expected(at) ? [] : [[value, expected(at)]]);
}

for (const type of target.f16 ? ["f32", "f16"] as const : ["f32"] as const) {
  Deno.test(`chains of ${type} multiply-adds end at what they converge to`, async () => {
    assert.deepEqual(await mistakes(multiplyAdds(type, 2)), []);
  });
}

/** Products of the ceiling's matrices by float64, from their elements as the text states them. */
function productByHand({ m, n, k }: { m: number; n: number; k: number }, row: number, column: number): number {
  let sum = 0;
  for (let d = 0; d < k; d++) {
    for (const i of [0, 1]) {
      for (const j of [0, 1, 2, 3]) {
        sum += ((i * m * k + row * k + d) * 7 % 5 - 2) * ((j * k * n + d * n + column) * 3 % 7 - 3);
      }
    }
  }
  return 1024 * sum;
}

Deno.test("the ceiling of matrix units states its products", () => {
  const unit = { m: 16, n: 8, k: 16 };
  const { launch, results, expected } = unitProducts(unit, 32, 3);
  assert.equal(results, 3 * 4 * 16 * 8);
  // Four subgroups of three workgroups, eight sums of 1024 products.
  assert.equal(launch.flops, 3 * 4 * 8 * 1024 * 2 * 16 * 8 * 16);
  const values = new Set<number>();
  for (let at = 0; at < results; at++) {
    const inUnit = at % 128;
    assert.equal(expected(at), productByHand(unit, Math.floor(inUnit / 8), inUnit % 8));
    values.add(expected(at));
    assert.ok(Math.abs(expected(at)) < 2 ** 24);
  }
  assert.ok(values.size > 8, "elements differ, so that mixed up ones are noticed");
});

const skipped = skippedWithoutUnits(target);

Deno.test({
  name: `matrix units compute what their ceiling expects${skipped}`,
  ignore: target.matrix.length === 0,
  async fn() {
    const unit = unitOf({ ...target, mixed: true })!;
    assert.deepEqual(await mistakes(unitProducts(unit, target.subgroupMax, 2)), []);
  },
});

Deno.test({
  name: `the text for units of 16 x 8 x 16 computes what its ceiling expects${skipped}`,
  ignore: !runsLowered(target),
  async fn() {
    const unit = { m: 16, n: 8, k: 16 };
    const ceiling = unitProducts(unit, target.subgroupMax, 1);
    assert.deepEqual(await mistakes({ ...ceiling, launch: lowered(ceiling.launch, unit) }), []);
  },
});

/** A ceiling of few operations, with another text behind its first line. */
function small(body: string, expected = 7): Ceiling {
  const kernel = buildKernel({
    name: "small_ceiling",
    spec: { body },
    params: ["seven:f32"],
    buffers: [{ name: "c", dtype: "f32" }],
    workgroupSize: 64,
    body,
  });
  return { launch: { kernel, params: [7], grid: [1, 1, 1], flops: 64 }, results: 256, expected: () => expected };
}

const RIGHT = "store_c(gid, vec4f(params.seven));";

Deno.test("peaks are measured once, kept beside the kernels of the card, and measured again for other texts", () =>
  inFolder(async (folder) => {
    if (!device.timestamps) return;
    const card = cardOf(device.adapter);
    const problem = { texts: "x", variant: "a", milliseconds: { a: 1 }, refused: {} };
    await writeTable({ card, problems: { some: problem } }, folder);
    const { peaks, problems } = await peaksOf(device, { folder, ceilings: { f32: small(RIGHT) } });
    assert.deepEqual(problems, []);
    assert.ok(peaks!.operations.f32! > 0 && peaks!.bytesPerSecond! > 0);
    assert.deepEqual(readTable(card, folder), { card, problems: { some: problem }, peaks });
    // Planted, so that a second measurement would be noticed.
    const planted = { ...peaks!, operations: { f32: 1 } };
    await writeTable({ card, problems: {}, peaks: planted }, folder);
    const again = await peaksOf(device, { folder, ceilings: { f32: small(RIGHT) } });
    assert.deepEqual(again, { peaks: planted, problems: [] });
    const anew = await peaksOf(device, { folder, again: true, ceilings: { f32: small(RIGHT) } });
    assert.notEqual(anew.peaks!.operations.f32, 1);
    await writeTable({ card, problems: {}, peaks: planted }, folder);
    const other = await peaksOf(device, { folder, ceilings: { f32: small(`${RIGHT} `) } });
    assert.notEqual(other.peaks!.operations.f32, 1);
  }));

for (
  const [what, body, reason] of [
    [
      "computes something else",
      "store_c(gid, vec4f(params.seven - 1.0));",
      /^the peak .* in products on matrix units is not known: it computed 6 where 7 is right$/,
    ],
    ["leaves out work", "if (gid < 63u) { store_c(gid, vec4f(params.seven)); }", /it computed 0 where 7 is right/],
    ["has a text that the engine refuses", "store_c(gid, nothing());", /nothing/],
  ] as const
) {
  Deno.test(`a card whose matrix unit ${what} has no peak of them, is told of once, and goes on`, () =>
    inFolder(async (folder) => {
      if (!device.timestamps) return;
      const ceilings = { units: small(body), f32: small(RIGHT) };
      const { peaks, problems } = await peaksOf(device, { folder, ceilings });
      assert.equal(problems.length, 1);
      assert.match(problems[0]!, reason);
      assert.deepEqual(Object.keys(peaks!.operations), ["f32"]);
      assert.equal(secondsAtPeak({ units: 1 }, peaks!), undefined);
      assert.deepEqual((await peaksOf(device, { folder, ceilings })).problems, []);
      device.check();
    }));
}

Deno.test("peaks that cannot be kept are used all the same", () =>
  inFolder(async (folder) => {
    if (!device.timestamps) return;
    const file = `${folder}/file`;
    await Deno.writeTextFile(file, "");
    const { peaks, problems } = await peaksOf(device, { folder: `${file}/kernels`, ceilings: { f32: small(RIGHT) } });
    assert.ok(peaks!.operations.f32! > 0);
    assert.match(problems.join(), /^the measured peaks of this card are not kept: /);
  }));

Deno.test("a device has a ceiling for each kind of arithmetic that its kernels use", () => {
  const kinds = Object.keys(ceilingsOf(device));
  const { f16, matrix } = target;
  assert.deepEqual(
    kinds.sort(),
    ["f32", ...(f16 ? ["f16"] : []), ...(f16 && matrix.length > 0 ? ["units"] : [])].sort(),
  );
  for (const [kind, ceiling] of Object.entries(ceilingsOf(device))) {
    assert.equal(arithmeticOf(ceiling.launch.kernel.features), kind);
  }
});

Deno.test("arithmetic takes its amount over the rate of what does it", () => {
  const peaks = { texts: "", operations: { units: 100, f32: 10 }, refused: {} };
  assert.equal(secondsAtPeak({ units: 50, f32: 20, f16: 0 }, peaks), 2.5);
  assert.equal(secondsAtPeak({}, peaks), 0);
  assert.equal(secondsAtPeak({ f16: 1 }, peaks), undefined);
});
