/** Where tensors live between their uses changes no bit of a run, and lowers what it says it lowers. */
import assert from "node:assert/strict";
import { relativeL2 } from "../kernels/run.ts";
import { NF4_LEVELS, type QuantisedKind } from "../../kernels/matrix/dequantise.ts";
import { runTiny, tinyConfig, type TinyOptions, type TinyResult } from "./tiny_run.ts";

async function equalRuns(
  settings: Readonly<Record<string, unknown>>,
  policy: Readonly<Record<string, unknown>>,
): Promise<readonly [plain: TinyResult, other: TinyResult]> {
  const plain = await runTiny(tinyConfig(settings));
  const other = await runTiny(tinyConfig({ ...settings, ...policy }));
  assert.ok(plain.losses.every((loss) => Number.isFinite(loss) && loss > 0), `losses are ${plain.losses}`);
  assert.ok(plain.norms.every((norm) => norm > 0), `gradient norms are ${plain.norms}`);
  assert.deepEqual(other.losses, plain.losses);
  assert.deepEqual(other.norms, plain.norms);
  assert.deepEqual(other.masters, plain.masters);
  return [plain, other];
}

function policyTest(
  name: string,
  settings: Readonly<Record<string, unknown>>,
  policy: Readonly<Record<string, unknown>>,
): void {
  Deno.test(`${name}: same bits, less GPU memory`, async () => {
    const [plain, other] = await equalRuns(settings, policy);
    assert.ok(other.gpuBytes < plain.gpuBytes, `${other.gpuBytes} bytes, ${plain.gpuBytes} without it`);
    assert.ok(other.hostBytes > plain.hostBytes);
  });
}

const lora = { model: "tiny-5b", training_type: "lora", mixed_precision: "bf16" };
const sft = { model: "tiny-1.5-5b-i2v", training_type: "sft", mixed_precision: "bf16" };

policyTest("streamed weights under a LoRA", lora, { base_weights: "streamed" });
policyTest("streamed weights under a DoRA", { ...lora, use_dora: true }, { base_weights: "streamed" });
policyTest("streamed weights without checkpointing", { ...lora, gradient_checkpointing: false }, {
  base_weights: "streamed",
});
policyTest("offloaded activations", lora, { offload_activations: true });
policyTest("offloaded activations with kept attention", { ...lora, keep: "attention" }, { offload_activations: true });
policyTest("offloaded optimizer under a LoRA", lora, { offload_optimizer: true });
policyTest("offloaded optimizer and gradients of all weights", sft, { offload_optimizer: true });
policyTest("streamed weights of all weights", sft, { base_weights: "streamed" });
policyTest("everything in host memory", { ...sft, model: "tiny-2b", mixed_precision: "fp16" }, {
  base_weights: "streamed",
  offload_optimizer: true,
  offload_activations: true,
});
policyTest("everything in host memory in f32", { ...sft, mixed_precision: "no" }, {
  base_weights: "streamed",
  offload_optimizer: true,
  offload_activations: true,
});

for (const training_type of ["lora", "sft"]) {
  Deno.test(`a feed-forward in ranges of rows trains ${training_type} as one of all rows does, in less memory`, async () => {
    const settings = { model: "tiny-1.5-5b", training_type, target_modules: "to_q proj ff.net.2" };
    // Ranges drop what all rows would drop.
    const config = tinyConfig(training_type === "lora" ? { ...settings, lora_dropout: 0.2 } : settings);
    const [whole, parts] = [await runTiny(config), await runTiny(config, { rows: 100 })];
    // Sums over rows are made range by range, so the last bits may differ.
    const close = (a: readonly number[], b: readonly number[]) =>
      a.forEach((value, i) => assert.ok(Math.abs(value - b[i]!) <= 1e-5 * Math.abs(value), `${a} and ${b}`));
    close(whole.losses, parts.losses);
    close(whole.norms, parts.norms);
    parts.masters.forEach((bucket, i) => assert.ok(relativeL2(bucket, whole.masters[i]!) < 1e-5));
    assert.ok(parts.gpuBytes < whole.gpuBytes, `${parts.gpuBytes} bytes, ${whole.gpuBytes} in one range`);
  });
}

for (const settings of [lora, sft]) {
  Deno.test(`operands read through textures: same bits for ${settings.training_type}`, async () => {
    const config = tinyConfig(settings);
    const from = (leastBytes: number) =>
      runTiny(config, { limits: ({ textures }) => ({ textures: { ...textures!, leastBytes } }) });
    const [buffers, textures] = [await from(Infinity), await from(0)];
    assert.deepEqual({ ...textures, gpuBytes: 0 }, { ...buffers, gpuBytes: 0 });
    assert.ok(textures.gpuBytes > buffers.gpuBytes);
  });
}

/** What weights of the blocks are after quantisation, by the definition of each kind. */
function roundedWeights(kind: QuantisedKind): TinyOptions["weights"] {
  return (name, values, width) => {
    if (!name.startsWith("transformer_blocks.") || !name.endsWith(".weight") || values.length === width) return values;
    const block = kind === "int8" ? width : 64;
    return values.map((value, i) => {
      const start = i - i % block;
      const largest = values.subarray(start, start + block).reduce((most, v) => Math.max(most, Math.abs(v)), 0);
      if (kind === "int8") return Math.round(value / Math.fround(largest / 127)) * Math.fround(largest / 127);
      const scale = Math.f16round(largest);
      const distance = (level: number) => Math.abs(value / scale - level);
      return NF4_LEVELS.reduce((best, level) => distance(level) < distance(best) ? level : best) * scale;
    });
  };
}

for (const base_weights of ["int8", "nf4"] as const) {
  Deno.test(`a LoRA on ${base_weights} weights trains as on weights rounded beforehand, in less memory`, async () => {
    const plain = await runTiny(tinyConfig(lora), { weights: roundedWeights(base_weights)! });
    const quantised = await runTiny(tinyConfig({ ...lora, base_weights }));
    assert.deepEqual(quantised.losses, plain.losses);
    assert.deepEqual(quantised.masters, plain.masters);
    assert.ok(quantised.gpuBytes < plain.gpuBytes, `${quantised.gpuBytes} bytes, ${plain.gpuBytes} in bf16`);
  });
}

/**
 * Largest relative distance to float weights. Rounding a value to 255 levels of its row moves it by 0.4 % of the row's largest at
 * most, to 16 levels by 15 %; the sums of a network average most of that out.
 */
const BANDS = { int8: { loss: 0.005, gradient: 0.02 }, nf4: { loss: 0.05, gradient: 0.2 } } as const;

Deno.test("quantised weights stay near the float model in loss and gradient", async () => {
  const settings = { ...lora, mixed_precision: "no" };
  const float = await runTiny(tinyConfig(settings));
  for (const base_weights of ["int8", "nf4"] as const) {
    const { losses, norms } = await runTiny(tinyConfig({ ...settings, base_weights }));
    const { loss, gradient } = BANDS[base_weights];
    const near = (what: string, actual: readonly number[], expected: readonly number[], band: number) =>
      actual.forEach((value, i) => {
        const distance = Math.abs(value / expected[i]! - 1);
        assert.ok(distance <= band, `${base_weights}: ${what} ${i} is off by ${distance}`);
      });
    near("loss", losses, float.losses, loss);
    near("gradient norm", norms, float.norms, gradient);
    assert.notDeepEqual(losses, float.losses);
  }
});

Deno.test("keeping attention instead of recomputing it changes no bit", async () => {
  await equalRuns(lora, { keep: "attention" });
});

Deno.test("gradient checkpointing changes no bit", async () => {
  await equalRuns(lora, { gradient_checkpointing: false });
});
