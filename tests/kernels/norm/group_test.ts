import assert from "node:assert/strict";
import {
  type ApplySpec,
  groupNormApply,
  groupNormMerge,
  groupNormParts,
  groupNormTable,
  MERGE_FACTOR,
  PART_POSITIONS,
  type SpatialGrid,
} from "../../../kernels/norm/group.ts";
import type { DType } from "../../../kernels/core/kernel.ts";
import { numbers, relativeL2, runLaunch, stored } from "../run.ts";

const EPS = 1e-6;

/** Mean and weight / sqrt(variance + eps) of every channel's group, in float64. */
function tableReference(x: Float32Array, channels: number, groups: number, weight: Float32Array): Float64Array {
  const positions = x.length / channels;
  const width = channels / groups;
  const table = new Float64Array(2 * channels);
  for (let group = 0; group < groups; group++) {
    const values: number[] = [];
    for (let p = 0; p < positions; p++) {
      for (let c = group * width; c < (group + 1) * width; c++) values.push(x[p * channels + c]!);
    }
    const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
    const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
    for (let c = group * width; c < (group + 1) * width; c++) {
      table[c] = mean;
      table[channels + c] = weight[c]! / Math.sqrt(variance + EPS);
    }
  }
  return table;
}

/** The statistics as an op would compute them: parts, merges until one is left, then the groups. */
async function table(x: Float32Array, dtype: DType, channels: number, groups: number, weight: Float32Array) {
  const positions = x.length / channels;
  let parts = Math.ceil(positions / PART_POSITIONS);
  let partPositions = PART_POSITIONS;
  let [, statistics] = await runLaunch(
    groupNormParts({ dtype }, { positions, channels, firstPart: 0 }),
    [x, parts * 2 * channels],
  );
  while (parts > 1) {
    const launch = groupNormMerge({ parts, partPositions, positions, channels });
    parts = Math.ceil(parts / MERGE_FACTOR);
    partPositions *= MERGE_FACTOR;
    [, statistics] = await runLaunch(launch, [statistics!, parts * 2 * channels]);
  }
  const launch = groupNormTable({ positions, channels, groups, eps: EPS });
  const [, , result] = await runLaunch(launch, [statistics!, weight, 2 * channels]);
  return result!;
}

const shapes = [
  { positions: 1, channels: 8, groups: 4 },
  { positions: 37, channels: 12, groups: 2 },
  { positions: 700, channels: 8, groups: 8 },
  { positions: PART_POSITIONS * MERGE_FACTOR * 2 + 19, channels: 4, groups: 2 },
];

for (const dtype of ["f32", "f16", "bf16"] as const) {
  Deno.test(`group statistics of ${dtype} tensors match a float64 reference`, async () => {
    for (const { positions, channels, groups } of shapes) {
      const x = stored(numbers(positions * channels, 7).map((v, i) => v + (i % channels)), dtype);
      const weight = numbers(channels, 8).map((v) => v + 1);
      const actual = await table(x, dtype, channels, groups, weight);
      const error = relativeL2(actual, tableReference(x, channels, groups, weight));
      assert.ok(error <= 5e-7, `${positions} positions of ${channels}: relative error ${error}`);
    }
  });
}

Deno.test("statistics keep their digits when the mean is ten thousand deviations away", async () => {
  const [positions, channels] = [3000, 4];
  const x = numbers(positions * channels, 3).map((v) => 3000 + v);
  const weight = new Float32Array(channels).fill(1);
  const actual = await table(x, "f32", channels, 1, weight);
  const expected = tableReference(x, channels, 1, weight);
  // One unit in the last place of the mean is a thousandth of a deviation; sums of squares would lose every digit here.
  const error = relativeL2(actual.slice(channels), expected.slice(channels));
  assert.ok(error <= 1e-4, `relative error ${error}`);
});

Deno.test("slices of the input write their own parts", async () => {
  const channels = 4;
  const x = numbers(3 * PART_POSITIONS * channels);
  const [, whole] = await runLaunch(
    groupNormParts({ dtype: "f32" }, { positions: 3 * PART_POSITIONS, channels, firstPart: 0 }),
    [x, 3 * 2 * channels],
  );
  const [, slice] = await runLaunch(
    groupNormParts({ dtype: "f32" }, { positions: 2 * PART_POSITIONS, channels, firstPart: 1 }),
    [x.slice(PART_POSITIONS * channels), 3 * 2 * channels],
  );
  assert.deepEqual(slice!.slice(2 * channels), whole!.slice(2 * channels));
});

const sigmoid = (v: number): number => 1 / (1 + Math.exp(-v));

function latentPosition(p: number, { frames, height, width, latentFrames, latentHeight, latentWidth }: SpatialGrid) {
  const nearest = (o: number, from: number, to: number) => Math.floor(o * from / to);
  const t = Math.floor(p / (height * width));
  const odd = frames > 1 && frames % 2 === 1;
  const frame = odd
    ? (t === 0 ? 0 : 1 + nearest(t - 1, latentFrames - 1, frames - 1))
    : nearest(t, latentFrames, frames);
  const y = nearest(Math.floor(p / width) % height, latentHeight, height);
  return (frame * latentHeight + y) * latentWidth + nearest(p % width, latentWidth, width);
}

async function checkApply(spec: ApplySpec, grid: SpatialGrid, channels: number, tolerance: number): Promise<void> {
  const positions = grid.frames * grid.height * grid.width;
  const latents = grid.latentFrames * grid.latentHeight * grid.latentWidth;
  const x = stored(numbers(positions * channels, 1).map((v) => 4 * v), spec.dtype);
  const statistics = numbers(2 * channels, 2);
  const bias = numbers(channels, 3);
  const modulation = stored(numbers(latents * 2 * channels, 4), spec.dtype);
  const outputPosition = 5;
  const launch = groupNormApply(spec, {
    positions,
    channels,
    firstPosition: 0,
    outputPosition,
    ...(spec.spatial ? { grid } : {}),
  });
  const contents = [
    x,
    statistics,
    bias,
    ...(spec.spatial ? [modulation] : []),
    (positions + outputPosition) * channels,
  ];
  const y = (await runLaunch(launch, contents)).at(-1)!;
  assert.ok(y.slice(0, outputPosition * channels).every((v) => v === 0), "positions in front are left alone");
  const expected = Float64Array.from(x, (value, i) => {
    const c = i % channels;
    const at = latentPosition(Math.floor(i / channels), grid) * 2 * channels + c;
    let v = (value - statistics[c]!) * statistics[channels + c]! + bias[c]!;
    if (spec.spatial) v = v * modulation[at]! + modulation[at + channels]!;
    return spec.silu ? v * sigmoid(v) : v;
  });
  const error = relativeL2(y.slice(outputPosition * channels), expected);
  assert.ok(error <= tolerance, `${JSON.stringify(spec)}: relative error ${error}`);
}

const odd: SpatialGrid = { frames: 9, height: 4, width: 6, latentFrames: 3, latentHeight: 2, latentWidth: 3 };
const even: SpatialGrid = { ...odd, frames: 4, latentFrames: 2 };
const image: SpatialGrid = { ...odd, frames: 1, latentFrames: 1 };

Deno.test("normalisation with and without silu and spatial modulation matches a float64 reference", async () => {
  for (const silu of [false, true]) {
    await checkApply({ dtype: "f32", silu, spatial: false }, odd, 12, 3e-7);
    for (const grid of [odd, even, image]) await checkApply({ dtype: "f32", silu, spatial: true }, grid, 8, 3e-7);
  }
  await checkApply({ dtype: "f16", silu: true, spatial: true }, odd, 8, 5e-4);
  await checkApply({ dtype: "bf16", silu: true, spatial: true }, odd, 8, 4e-3);
});

Deno.test("silu of a large negative value is zero, not NaN", async () => {
  const launch = groupNormApply({ dtype: "f32", silu: true, spatial: false }, {
    positions: 1,
    channels: 4,
    firstPosition: 0,
    outputPosition: 0,
  });
  const identity = Float32Array.from([0, 0, 0, 0, 1, 1, 1, 1]);
  const x = Float32Array.from([-1e4, -100, 100, 1e4]);
  const [, , , y] = await runLaunch(launch, [x, identity, new Float32Array(4), 4]);
  assert.deepEqual([...y!].map((v) => Math.round(v) + 0), [0, 0, 100, 10000]);
});
