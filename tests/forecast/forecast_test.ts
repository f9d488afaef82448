/** Forecasts against what sessions really allocate, against arithmetic from the shapes of released models, and against their own budget of time. */
import assert from "node:assert/strict";
import { Session } from "../../lib/gpu/session.ts";
import { RELEASED } from "../../lib/models/transformer/config.ts";
import { parseConfig } from "../../lib/config/config.ts";
import { type RecordedPhase, recordForecast, trainPhase } from "../../lib/forecast/forecast.ts";
import { describeRun, namedTransformer } from "../../lib/step/run_description.ts";
import { recordStep } from "../../lib/step/training_step.ts";
import { testDevice } from "../kernels/run.ts";
import { HUNG } from "../patience.ts";
import { runTiny, tinyConfig } from "../step/tiny_run.ts";

const phaseOf = (phases: readonly RecordedPhase[], name: string) => phases.find((phase) => phase.name === name)!;
const partOf = ({ parts }: RecordedPhase, name: string) => parts.find((part) => part.name === name)?.bytes ?? 0;

const sharded = { model: "tiny-5b", training_type: "sft", mixed_precision: "bf16", gpus: 3 };
const runs: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  "LoRA": { model: "tiny-5b", mixed_precision: "bf16" },
  "LoRA of everything in f32": { model: "tiny-1.5-5b-i2v", target_modules: "to_q proj linear_1" },
  "DoRA over 8-bit weights, ranks by layer": {
    model: "tiny-5b",
    mixed_precision: "bf16",
    base_weights: "int8",
    use_dora: true,
    rank_pattern: "to_q=8",
  },
  "LoRA behind dropout": { model: "tiny-5b", mixed_precision: "bf16", lora_dropout: 0.1 },
  "LoRA in buckets, the second of which is the largest": {
    model: "tiny-5b",
    mixed_precision: "bf16",
    buckets: ["9x48x80", "17x64x80", "9x80x48"],
    gradient_accumulation_steps: 3,
  },
  "sft in buckets": {
    model: "tiny-2b",
    training_type: "sft",
    mixed_precision: "bf16",
    buckets: ["9x48x80", "17x48x80"],
    offload_optimizer: true,
  },
  "sft": { model: "tiny-2b", training_type: "sft", mixed_precision: "fp16" },
  "streamed LoRA": { model: "tiny-5b", mixed_precision: "bf16", base_weights: "streamed", offload_activations: true },
  "a third of the state, parameters on every GPU": { ...sharded, zero_stage: 2 },
  "a third of the state, parameters in host memory": { ...sharded, zero_stage: 3 },
  "a third of the state, everything in host memory": { ...sharded, zero_stage: 3, offload_optimizer: true },
  "offloaded sft": { model: "tiny-5b-i2v", training_type: "sft", mixed_precision: "bf16", offload_optimizer: true },
};

for (const [name, settings] of Object.entries(runs)) {
  Deno.test(`planned bytes of training are the allocated ones: ${name}`, async () => {
    const { device } = await testDevice();
    using session = new Session(device);
    const config = tinyConfig(settings);
    const run = describeRun(config, namedTransformer(config));
    const recording = recordStep(device.target, session.limits, run.step, run.parameters, run.updated);
    const planned = trainPhase(run, recording);
    const real = await runTiny(config);
    assert.equal(planned.gpuBytes, real.gpuBytes);
    assert.equal(planned.hostBytes, real.hostBytes);
  });
}

Deno.test("weights, adapters and block inputs of 5b weigh what the released shapes say", () => {
  const { phases } = recordForecast(parseConfig("preset: 5b-lora"));
  const training = phaseOf(phases, "training");
  const adapters = 4 * 132_120_576;
  assert.equal(partOf(training, "adapters"), adapters);
  assert.equal(partOf(training, "gradients"), adapters);
  assert.equal(partOf(training, "optimizer state"), 2 * adapters);
  // bf16 matrices; vectors are kept in f32 and tensors padded to 256 bytes, together less than a thousandth.
  const weights = partOf(training, "frozen weights");
  assert.ok(weights > 2 * 5_570_283_072 && weights < 2.002 * 5_570_283_072, `${weights} bytes of frozen weights`);
  const blockInputs = 42 * 17776 * 3072 * 2;
  assert.ok(partOf(training, "arena") > blockInputs);
  assert.equal(training.gpuBytes, training.parts.reduce((sum, { bytes }) => sum + bytes, 0));
});

Deno.test("the arithmetic of a step is that of two forwards and a backward", () => {
  const { phases } = recordForecast(parseConfig("preset: 5b-lora"));
  const [d, s, layers, rank] = [3072, 17776, 42, 128];
  const linear = 24 * d * d * s;
  // Flash attention: 2 products forward, 7 backward of which query and key-value passes each recompute the scores.
  const scores = 2 * s * s * d;
  // Base: forward, recomputed forward without the block's last layer, whose result backward does not read, and the gradient of
  // the input. Adapters on four layers: two forwards and a backward with twice their arithmetic.
  const adapters = 4 * 2 * (2 * s * d * rank) * 4;
  const expected = layers * (3 * linear - 8 * d * d * s + (2 * 2 + 7) * scores + adapters);
  const { flops } = phaseOf(phases, "training");
  assert.ok(Math.abs(flops / expected - 1) < 0.005, `${flops} operations, expected about ${expected}`);
});

Deno.test("streaming moves the weights of all blocks up twice a step, and offloading every block input down once", () => {
  const base = parseConfig("preset: 5b-lora", { overrides: { base_weights: "streamed", offload_activations: true } });
  const { uploadBytes, downloadBytes } = phaseOf(recordForecast(base).phases, "training");
  const blockInputs = 42 * 17776 * 3072 * 2;
  assert.equal(downloadBytes, blockInputs);
  const matrices = 2 * 42 * 2 * (2 * 6 * 3072 * 512 + 4 * 3072 * 3072 + 8 * 3072 * 3072);
  assert.ok(Math.abs((uploadBytes - blockInputs) / matrices - 1) < 0.02, `${uploadBytes} bytes up`);
});

Deno.test("validation is forecast phase by phase beside the trained state", () => {
  const overrides = { do_validation: true, validation_dir: "v", validation_prompts: "p.txt", validation_steps: 200 };
  const { phases } = recordForecast(parseConfig("preset: 2b-lora", { overrides }));
  const names = phases.map(({ name }) => name);
  assert.deepEqual(names, [
    "text encoding",
    "video encoding",
    "training",
    "saving",
    "validation sampling",
    "validation decoding",
  ]);
  const sampling = phaseOf(phases, "validation sampling");
  // 50 steps with guidance are 100 forwards of 47 + 73 TFLOP.
  assert.ok(Math.abs(sampling.flops / (100 * 120e12) - 1) < 0.03, `${sampling.flops} operations`);
  assert.ok(sampling.gpuBytes < phaseOf(phases, "training").gpuBytes);
});

Deno.test("forecasts of the largest presets take seconds and little memory", () => {
  const start = performance.now();
  for (const preset of ["2b-lora", "5b-lora", "1.5-5b-lora"]) recordForecast(parseConfig(`preset: ${preset}`));
  assert.ok(performance.now() - start < HUNG);
  assert.ok(Deno.memoryUsage().heapUsed < 4 * 2 ** 30);
});

Deno.test("a shape of one's own replaces the named one", () => {
  const model = { ...RELEASED["5b"]!, num_layers: 1 };
  const { phases } = recordForecast(parseConfig("preset: 5b-lora"), { model });
  assert.equal(partOf(phaseOf(phases, "training"), "adapters"), 4 * 132_120_576 / 42);
});

Deno.test("buckets cost what the largest costs, and the inputs of each", () => {
  const forecastOf = (...buckets: string[]) =>
    phaseOf(recordForecast(parseConfig("preset: 2b-lora", { overrides: { buckets } })).phases, "training");
  const [small, large, both] = [
    forecastOf("9x480x720"),
    forecastOf("49x480x720"),
    forecastOf("9x480x720", "49x480x720"),
  ];
  assert.equal(both.flops, large.flops);
  assert.equal(partOf(both, "arena"), partOf(large, "arena"));
  assert.ok(partOf(small, "arena") < partOf(large, "arena"));
  // Clean latents and noise of 3 latent frames, 16 channels and 60x90, and 226 x 4096 of text in two bytes; tensors that
  // are padded to 256 bytes, timesteps and the noise's factors beside them.
  const own = 2 * 4 * 3 * 16 * 60 * 90 + 2 * 226 * 4096;
  const inputs = partOf(both, "inputs") - partOf(large, "inputs");
  const positions = 2 * (226 + 3 * 30 * 45) * 1920;
  assert.ok(inputs >= own + positions && inputs < own + positions + 64 * 1024, `${inputs} bytes`);
});
