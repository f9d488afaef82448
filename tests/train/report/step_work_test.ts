/** Work and rates of a step against arithmetic; that a run's step does the forecast's work is tested with its memory. */
import assert from "node:assert/strict";
import { plainTarget } from "../../../kernels/core/kernel.ts";
import { addInPlace } from "../../../kernels/rows/flat.ts";
import { gpuRates, knownGpus, knownRates } from "../../../lib/forecast/gpu_rates.ts";
import { Plan } from "../../../lib/plan/plan.ts";
import { DISCRETE_LIMITS } from "../../../lib/plan/limits.ts";
import { finish, type Recording } from "../../../lib/plan/recording.ts";
import type { StepRecording } from "../../../lib/step/training_step.ts";
import { StepWork } from "../../../lib/train/report/step_work.ts";

/** Launches that each add 1000 numbers to 1000 others. */
function additions(count: number): Recording {
  const plan = new Plan({ target: plainTarget(32) });
  const a = plan.resident("a", [1000], "f32");
  const b = plan.resident("b", [1000], "f32");
  for (let i = 0; i < count; i++) {
    plan.launch(addInPlace({ a: "f32", b: "f32" }, { elements: 1000 }), [a, b], [a]);
  }
  return finish(plan, DISCRETE_LIMITS);
}

Deno.test("a step does its micro-batches and one update, and its rate is a share of the GPU's peak", () => {
  const recording = {
    micro: additions(5),
    others: [{ micro: additions(9) }],
    update: additions(2),
  } as unknown as StepRecording;
  const expected = { secondsPerStep: 0.5, flops: 17_000, trafficBytes: 17 * 8000, flopsPerSecond: 34_000 };
  assert.deepEqual(new StepWork(recording, undefined).of([0, 0, 0], 0.5), expected);
  assert.equal(new StepWork(recording, undefined).of([1, 0], 0.5).flops, 16_000);
  // 17,000 operations are 10 ms at 1.7 MFLOP/s.
  const peaks = { texts: "", operations: { f32: 1.7e6, units: 1e15 }, refused: {} };
  const { peakShare, ...rest } = new StepWork(recording, peaks).of([0, 0, 0], 0.5);
  assert.deepEqual(rest, expected);
  assert.ok(Math.abs(peakShare! - 0.02) < 1e-12);
  const unknown = new StepWork(recording, { ...peaks, operations: { units: 1e15 } });
  assert.deepEqual(unknown.of([0, 0, 0], 0.5), expected);
});

Deno.test("what runs on matrix units counts at their peak", () => {
  const [plain, units] = [additions(4), additions(4)];
  const onUnits = units.launches.map((launch) =>
    launch && { ...launch, kernel: { ...launch.kernel, key: "units", features: ["subgroup_matrix", "f16"] } }
  );
  const micro = { ...plain, launches: [...plain.launches, ...onUnits] } as Recording;
  const recording = { micro, others: [], update: additions(0) } as unknown as StepRecording;
  const peaks = { texts: "", operations: { f32: 1e6, units: 8e6 }, refused: {} };
  // 4 ms and half a millisecond of 9 ms.
  assert.ok(Math.abs(new StepWork(recording, peaks).of([0], 0.009).peakShare! - 0.5) < 1e-12);
});

/** How drivers describe cards, and the card meant. */
const DESCRIPTIONS: Readonly<Record<string, string | undefined>> = {
  "NVIDIA A100-SXM4-80GB": "a100",
  "NVIDIA A10": "a10",
  "NVIDIA A10G": undefined,
  "NVIDIA RTX A6000": "a6000",
  "NVIDIA RTX 6000 Ada Generation": undefined,
  "NVIDIA H100 80GB HBM3": "h100",
  "NVIDIA H100 PCIe": undefined,
  "NVIDIA H100 NVL": undefined,
  "NVIDIA H200": "h200",
  "NVIDIA L4": "l4",
  "NVIDIA L40S": "l40s",
  "NVIDIA GeForce RTX 3060": "rtx-3060",
  "NVIDIA GeForce RTX 3060 Laptop GPU": undefined,
  "NVIDIA GeForce RTX 4060": undefined,
  "NVIDIA GeForce RTX 4060 Ti": "rtx-4060-ti",
  "NVIDIA GeForce RTX 4070 Ti SUPER": undefined,
  "NVIDIA GeForce RTX 4080 SUPER": undefined,
  "NVIDIA GeForce RTX 5090 D": undefined,
  "Tesla V100-SXM2-16GB": "v100",
  "Tesla T4": "t4",
  "AMD Radeon RX 7900 XTX (RADV NAVI31)": "rx-7900-xtx",
  "AMD Radeon RX 7900 XT (RADV NAVI31)": undefined,
  "AMD Instinct MI300X": "mi300x",
  "Intel(R) Arc(tm) A770 Graphics (DG2)": "arc-a770",
  "Apple M2 Max": "m2-max",
  "Apple M2": undefined,
  "llvmpipe (LLVM 15.0.6, 256 bits)": undefined,
  "": undefined,
};

Deno.test("a GPU is known by what its driver calls it, and its variants with other rates are not taken for it", () => {
  for (const [description, name] of Object.entries(DESCRIPTIONS)) {
    const expected = name === undefined ? undefined : gpuRates(name);
    assert.deepEqual(knownRates(description), expected, description);
  }
  for (const name of knownGpus) assert.ok(knownRates(name) !== undefined, name);
});
