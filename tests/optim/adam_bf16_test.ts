/** Training with weights in bf16 alone: small updates add up, runs continue with the same bits, and memory is what was planned. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Executable } from "../../lib/gpu/executable.ts";
import { Session } from "../../lib/gpu/session.ts";
import { bf16ToF32, encodeF32 } from "../../lib/io/safetensors/half.ts";
import { openSafetensors } from "../../lib/io/safetensors/safetensors.ts";
import { packTrainables } from "../../lib/models/tensors/trainables.ts";
import { openTransformer } from "../../lib/models/transformer/file.ts";
import { finish } from "../../lib/plan/recording.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { resolveConfig } from "../../lib/config/config.ts";
import { requireResumable } from "../../lib/config/compare.ts";
import { trainPhase } from "../../lib/forecast/forecast.ts";
import { declareOptimizer, recordUpdate, uploadState } from "../../lib/optim/update.ts";
import { describeRun, namedTransformer } from "../../lib/step/run_description.ts";
import { recordStep } from "../../lib/step/training_step.ts";
import { relativeL2, rounded, testDevice } from "../kernels/run.ts";
import { RECIPE } from "./fixture.ts";
import { collect, configOf, inScratch } from "../train/runs.ts";
import { runTiny, tinyConfig } from "../step/tiny_run.ts";

const BF16_MASTERS = ["bf16_kahan", "bf16_stochastic"] as const;
const SIZE = 1024;
const STEPS = 1000;

/** Weights in [1, 2) after many equal updates: constant gradients g make every Adam step rate * g / (|g| + epsilon). */
async function repeated(
  master_weights: typeof BF16_MASTERS[number],
  weights: Float32Array<ArrayBuffer>,
  gradients: Float32Array<ArrayBuffer>,
  { learningRate, epsilon }: { readonly learningRate: number; readonly epsilon: number },
): Promise<{ readonly values: Float32Array; readonly compensation: Float32Array }> {
  const { device } = await testDevice();
  using session = new Session(device);
  const { buckets } = packTrainables(new Map([["matrix", [32, SIZE / 32]]]), "bf16", { masters: "bf16" });
  const [bucket] = buckets;
  assert.equal(bucket!.copy, undefined);
  assert.equal(bucket!.tensors[0]!.working, bucket!.tensors[0]!.master);
  assert.equal(bucket!.tensors[0]!.working.gradient!.dtype, "f32");
  const config = { ...RECIPE, weight_decay: 0, beta1: 0, beta2: 0, epsilon, master_weights, seed: 42 };
  const optimizer = declareOptimizer(config, buckets);
  const loss = new Tensor("loss", [4], "f32", { resident: true });
  const plan = recordUpdate(device.target, config, buckets, optimizer, loss);
  using executable = new Executable(session, finish(plan, session.limits));
  session.write(bucket!.values, encodeF32(weights, "bf16"));
  session.write(bucket!.gradients, gradients);
  for (let step = 1; step <= STEPS; step++) {
    uploadState(session, optimizer, { learningRate, step, lossScale: 1 });
    await executable.run();
  }
  const compensation = optimizer.states.get("compensation.0");
  const read = await session.read([bucket!.values, ...(compensation === undefined ? [] : [compensation])]);
  const [values, rest = new Float32Array(SIZE)] = read.map((bytes) => bf16ToF32(new Uint16Array(bytes)));
  return { values: values!, compensation: rest };
}

const start = Float32Array.from({ length: SIZE }, (_, i) => rounded(1 + i / SIZE, "bf16"));

Deno.test("1000 updates too small for bf16 add up with Kahan's compensation", async () => {
  const rate = 2 ** -11;
  assert.ok(start.every((weight) => rounded(weight + rate, "bf16") === weight));
  const even = await repeated("bf16_kahan", start, new Float32Array(SIZE).fill(-1), {
    learningRate: rate,
    epsilon: 1e-30,
  });
  const exact = start.map((weight) => weight + STEPS * rate);
  even.values.forEach((value, i) => {
    const error = Math.abs(value + even.compensation[i]! - exact[i]!);
    assert.ok(error < 1e-3 * exact[i]!, `${value} and its compensation, expected ${exact[i]}`);
  });
  // The compensation itself has 8 bits, and an update repeated without change is always rounded the same way.
  const gradients = Float32Array.from({ length: SIZE }, (_, i) => -0.2 - (i * 0.618) % 1);
  const mixed = await repeated("bf16_kahan", start, gradients, { learningRate: 1e-3, epsilon: 0.5 });
  const sums = start.map((weight, i) => weight + STEPS * 1e-3 * -gradients[i]! / (0.5 - gradients[i]!));
  const error = relativeL2(mixed.values.map((value, i) => value + mixed.compensation[i]!), sums);
  assert.ok(error < 2e-3, `relative distance ${error}`);
});

Deno.test("1000 updates too small for bf16 add up to their mean with stochastic rounding", async () => {
  const rate = 2 ** -11;
  const options = { learningRate: rate, epsilon: 1e-30 };
  const { values } = await repeated("bf16_stochastic", start, new Float32Array(SIZE).fill(-1), options);
  const mean = values.reduce((sum, value, i) => sum + value - start[i]!, 0) / SIZE;
  // Below 2 the spacing is 2^-7 and above 2^-6; a step is up with probability rate / spacing, so its variance is below this.
  const deviation = Math.sqrt(STEPS * rate * 2 ** -6 / SIZE);
  assert.ok(Math.abs(mean - STEPS * rate) < 5 * deviation, `moved by ${mean}, expected ${STEPS * rate}`);
});

for (const master_weights of BF16_MASTERS) {
  Deno.test(`sft with ${master_weights} weights trains, resumes with the same bits and writes a model`, () =>
    inScratch(async (folder) => {
      const extra = {
        training_type: "sft",
        mixed_precision: "bf16",
        master_weights,
        learning_rate: 1e-4,
        lr_warmup_steps: 0,
        checkpointing_steps: 2,
      };
      const at = (name: string) => join(folder, name);
      const events = await collect(configOf(folder, { ...extra, output_dir: at("whole") }));
      const losses = events.flatMap((event) => event.type === "step" ? [event.loss] : []);
      assert.ok(losses.length === 4 && losses.every(Number.isFinite));
      const parts = { ...extra, output_dir: at("parts") };
      await collect(configOf(folder, { ...parts, train_steps: 2 }));
      const resumed = await collect(configOf(folder, { ...parts, resume_from_checkpoint: "latest" }));
      assert.deepEqual(resumed.flatMap((event) => event.type === "step" ? [event.loss] : []), losses.slice(2));
      const fileOf = (name: string) => join(at(name), "checkpoint-4", "state.safetensors");
      assert.deepEqual(readFileSync(fileOf("parts")), readFileSync(fileOf("whole")));

      using state = openSafetensors(fileOf("whole"));
      const types = new Map([...state.tensors].map(([name, { dtype }]) => [name.split(".")[0]!, dtype]));
      const moments = { m: "F32", v: "F32", values: "BF16" };
      const kahan = master_weights === "bf16_kahan" ? { compensation: "BF16" } : {};
      assert.deepEqual(Object.fromEntries(types), { ...kahan, ...moments });
      using trained = openTransformer(join(at("whole"), "checkpoint-4"));
      using before = openTransformer(configOf(folder).model_path!);
      for (const [name, { dtype, shape }] of before.source.tensors) {
        assert.deepEqual(trained.source.tensors.get(name)!.shape, shape, name);
        assert.equal(trained.source.tensors.get(name)!.dtype, "BF16", `${name}, ${dtype} in the base`);
      }
      const moved = relativeL2(trained.source.readF32("proj_out.weight"), before.source.readF32("proj_out.weight"));
      assert.ok(moved > 1e-5 && moved < 0.1, `weights moved by ${moved}`);
    }));
}

const tiny = { model: "tiny-2b", training_type: "sft", mixed_precision: "bf16" };
const elsewhere = { base_weights: "streamed", offload_optimizer: true };

for (const master_weights of BF16_MASTERS) {
  Deno.test(`${master_weights} weights take less memory than f32 masters, as planned, and the same bits from host memory`, async () => {
    const { device } = await testDevice();
    const results = [];
    for (const places of [{}, { offload_optimizer: true }, { base_weights: "streamed" }, elsewhere]) {
      const config = tinyConfig({ ...tiny, ...places, master_weights });
      using session = new Session(device);
      const described = describeRun(config, namedTransformer(config));
      const { parameters, updated } = described;
      const recording = recordStep(device.target, session.limits, described.step, parameters, updated);
      const planned = trainPhase(described, recording);
      const real = await runTiny(config);
      assert.deepEqual([planned.gpuBytes, planned.hostBytes], [real.gpuBytes, real.hostBytes]);
      results.push(real);
    }
    const [onGpu, ...others] = results;
    for (const { losses, masters } of others) assert.deepEqual([losses, masters], [onGpu!.losses, onGpu!.masters]);
    for (const { gpuBytes } of others) assert.ok(gpuBytes < onGpu!.gpuBytes);
    const f32 = await runTiny(tinyConfig(tiny));
    const bytes = (masters: readonly Float32Array[]) => masters.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const parameters = bytes(f32.masters) / 4;
    assert.equal(bytes(onGpu!.masters), 2 * parameters);
    // Without masters of 4 bytes, with a compensation of 2 where one is kept; the rounding key has a buffer of its own.
    const saved = (master_weights === "bf16_kahan" ? 2 : 4) * parameters;
    assert.ok(Math.abs(f32.gpuBytes - onGpu!.gpuBytes - saved) <= 4096, `${f32.gpuBytes} and ${onGpu!.gpuBytes} bytes`);
  });
}

Deno.test("weights in bf16 alone are refused where something needs more of them", () => {
  const sound = { ...tiny, master_weights: "bf16_kahan" };
  const resolve = (overrides: Readonly<Record<string, unknown>>) => () => resolveConfig("", { overrides });
  assert.equal(resolve(sound)().config.master_weights, "bf16_kahan");
  const cases: readonly (readonly [Readonly<Record<string, unknown>>, RegExp])[] = [
    [{ training_type: "lora" }, /master_weights.*bf16_kahan: adapters keep f32 masters.*use training_type sft/],
    [{ mixed_precision: "fp16" }, /found mixed_precision fp16; use mixed_precision bf16, or master_weights f32/],
    [{ mixed_precision: "no" }, /found mixed_precision no; use mixed_precision bf16/],
    [{ optimizer: "came" }, /optimizer came updates f32 masters only; use optimizer adamw or adam/],
    [{ zero_stage: 2, gpus: 2 }, /zero_stage 2 shards f32 masters only; use zero_stage 0/],
    [{ ema_decay: 0.9 }, /ema_decay 0.9 averages f32 masters only; use ema_decay 0/],
  ];
  for (const [change, message] of cases) assert.throws(resolve({ ...sound, ...change }), message);
  for (const [change] of cases) assert.equal(resolve({ ...tiny, ...change })().config.master_weights, "f32");
  const [plain, rounded] = [resolve(tiny)().config, resolve(sound)().config];
  assert.throws(() => requireResumable(plain, rounded), /master_weights: f32 in the checkpoint, bf16_kahan here/);
});
