import assert from "node:assert/strict";
import { convolution, type ConvShape, type ConvSpec, type ConvTile } from "../../../kernels/matrix/conv.ts";
import { type DType, plainTarget, type Target } from "../../../kernels/core/kernel.ts";
import { numbers, relativeL2, runLaunch, stored, testDevice } from "../run.ts";
import { causalShape } from "../shapes.ts";

/** Relative L2 error allowed by the storage of the output: f32 sums, or half a unit in the last place of 11 or 8 bits. */
const TOLERANCE: Record<DType, number> = { f32: 5e-7, f16: 5e-4, bf16: 4e-3, u32: 0 };

const PLAIN_SPEC: ConvSpec = { x: "f32", weight: "f32", y: "f32", bias: true, residual: false, accumulate: false };

interface Case {
  readonly name: string;
  readonly spec: ConvSpec;
  readonly shape: ConvShape;
}

const causal = causalShape({ channels: 8, outputs: 36, frames: 3, height: 5, width: 7 });

const perFrame: ConvShape = { ...causal, window: [1, 3, 3] };

const cases: Case[] = [
  { name: "causal 3x3x3", spec: PLAIN_SPEC, shape: causal },
  { name: "few outputs", spec: PLAIN_SPEC, shape: { ...causal, outputs: 4, channels: 12 } },
  { name: "two column tiles", spec: { ...PLAIN_SPEC, bias: false }, shape: { ...perFrame, outputs: 132, channels: 4 } },
  { name: "1x1x1", spec: PLAIN_SPEC, shape: { ...causal, window: [1, 1, 1], padding: 0, channels: 20 } },
  { name: "residual", spec: { ...PLAIN_SPEC, residual: true }, shape: causal },
  {
    name: "accumulation without bias, one frame of the window",
    spec: { ...PLAIN_SPEC, bias: false, accumulate: true },
    shape: { ...perFrame, weightFrame: 2 },
  },
  {
    name: "stride 2, zeros below and right only",
    spec: PLAIN_SPEC,
    shape: { ...perFrame, height: 3, width: 4, inputHeight: 6, inputWidth: 8, stride: 2, padding: 0 },
  },
  {
    name: "nearest upsampling in space and time, odd frames",
    spec: PLAIN_SPEC,
    shape: {
      ...perFrame,
      frames: 5,
      height: 6,
      width: 10,
      inputHeight: 3,
      inputWidth: 5,
      spaceShift: 1,
      timeShift: 1,
      timeOffset: 1,
    },
  },
  {
    name: "nearest upsampling in space and time, even frames",
    spec: PLAIN_SPEC,
    shape: {
      ...perFrame,
      frames: 4,
      height: 6,
      width: 2,
      inputHeight: 3,
      inputWidth: 1,
      spaceShift: 1,
      timeShift: 1,
      timeOffset: 0,
    },
  },
  ...(["f16", "bf16"] as const).map((dtype) => ({
    name: `${dtype} storage`,
    spec: { ...PLAIN_SPEC, x: dtype, weight: dtype, y: dtype, residual: true },
    shape: causal,
  })),
  { name: "bf16 with f32 output", spec: { ...PLAIN_SPEC, x: "bf16", weight: "bf16" }, shape: causal },
];

function inputFrames({ frames, timeShift, timeOffset, window: [kt] }: ConvShape): number {
  return ((frames - 1 + timeOffset) >> timeShift) + kt;
}

/** The convolution by its definition, in float64. */
function reference(
  spec: ConvSpec,
  shape: ConvShape,
  [x, weight, bias, residual, y]: [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array],
): Float64Array {
  const { channels, outputs, frames, height, width, inputHeight, inputWidth, window: [kt, kh, kw] } = shape;
  const result = new Float64Array(frames * height * width * outputs);
  const source = (t: number, oy: number, ox: number, dt: number, dy: number, dx: number): number => {
    const iy = oy * shape.stride + dy - shape.padding;
    const ix = ox * shape.stride + dx - shape.padding;
    if (iy < 0 || ix < 0 || iy >= inputHeight << shape.spaceShift || ix >= inputWidth << shape.spaceShift) return -1;
    const frame = ((t + shape.timeOffset) >> shape.timeShift) + dt;
    return ((frame * inputHeight + (iy >> shape.spaceShift)) * inputWidth + (ix >> shape.spaceShift)) * channels;
  };
  for (let position = 0; position < frames * height * width; position++) {
    const t = Math.floor(position / (height * width));
    const oy = Math.floor(position / width) % height;
    const ox = position % width;
    const at = position * outputs;
    for (let tap = 0; tap < kt * kh * kw; tap++) {
      const from = source(t, oy, ox, Math.floor(tap / (kh * kw)), Math.floor(tap / kw) % kh, tap % kw);
      if (from < 0) continue;
      for (let c = 0; c < channels; c++) {
        for (let n = 0; n < outputs; n++) {
          result[at + n]! += x[from + c]! * weight[((shape.weightFrame * kh * kw + tap) * channels + c) * outputs + n]!;
        }
      }
    }
    for (let n = 0; n < outputs; n++) {
      if (spec.bias) result[at + n]! += bias[n]!;
      if (spec.residual) result[at + n]! += residual[at + n]!;
      if (spec.accumulate) result[at + n]! += y[at + n]!;
    }
  }
  return result;
}

async function check(target: Target, { name, spec, shape }: Case, tile?: ConvTile): Promise<void> {
  const { channels, outputs, frames, height, width, window: [kt, kh, kw] } = shape;
  const size = frames * height * width * outputs;
  const x = stored(
    numbers(inputFrames(shape) * shape.inputHeight * shape.inputWidth * channels, 1),
    spec.x,
  );
  const weight = stored(numbers((shape.weightFrame + kt) * kh * kw * channels * outputs, 2), spec.weight);
  const bias = numbers(outputs, 3);
  const residual = stored(numbers(size, 4), spec.y);
  const y = stored(numbers(size, 5), spec.y);
  const contents = [x, weight, ...(spec.bias ? [bias] : []), ...(spec.residual ? [residual] : []), y];
  const results = await runLaunch(convolution(target, spec, shape, tile), contents);
  const error = relativeL2(results.at(-1)!, reference(spec, shape, [x, weight, bias, residual, y]));
  assert.ok(error <= TOLERANCE[spec.y], `${name}: relative error ${error} above ${TOLERANCE[spec.y]}`);
}

Deno.test("convolutions match a float64 reference with subgroup broadcasts", async () => {
  const { device } = await testDevice();
  for (const each of cases) await check(device.target, each);
});

Deno.test("convolutions match a float64 reference without subgroups", async () => {
  for (const each of cases) await check(plainTarget(0), each);
});

Deno.test("the shuffled tile of wide subgroups computes the same", async () => {
  // Eight lanes stand for the sixteen a discrete GPU uses, so that the text runs on any adapter with subgroups.
  const { device } = await testDevice();
  if (device.target.subgroups === 0) return;
  const tile: ConvTile = { rows: 16, vectors: 2, lanes: 8, share: "shuffle", threads: 64 };
  for (const each of cases) await check(device.target, each, tile);
});

Deno.test("a NaN outside the picture does not reach the output through the padding", async () => {
  const { device } = await testDevice();
  const shape: ConvShape = { ...perFrame, frames: 1, channels: 4, outputs: 4 };
  const x = new Float32Array(2 * 5 * 7 * 4).fill(1);
  x.fill(NaN, 5 * 7 * 4);
  x[0] = NaN;
  const spec = { ...PLAIN_SPEC, bias: false };
  const [, , y] = await runLaunch(convolution(device.target, spec, shape), [x, numbers(9 * 16), 5 * 7 * 4]);
  const bad = Array.from({ length: 35 }, (_, p) => p).filter((p) => Number.isNaN(y![p * 4]!));
  assert.deepEqual(bad, [0, 1, 7, 8], "only the neighbours of the NaN pixel");
});

Deno.test("channels that are no multiple of four are refused", () => {
  assert.throws(
    () => convolution(plainTarget(8), PLAIN_SPEC, { ...causal, channels: 3 }),
    /convolution of 3 to 36 channels: both must be multiples of 4/,
  );
});
