/** Every preset within the memory that the original trainer's guide states for it, and within half of it by switches that change no bit. */
import assert from "node:assert/strict";
import { parseConfig, type TrainConfig } from "../../lib/config/config.ts";
import { presetNames } from "../../lib/config/presets.ts";
import { recordForecast } from "../../lib/forecast/forecast.ts";

/** GiB per GPU that the original trainer's guide states, by preset without `i2v`. */
const ORIGINAL: Readonly<Record<string, number>> = {
  "2b-lora": 16,
  "5b-lora": 24,
  "1.5-5b-lora": 35,
  "2b-sft": 36,
  "2b-sft-offload": 17,
  "2b-sft-zero2": 17,
  "2b-sft-zero3": 19,
  "2b-sft-zero3-offload": 14,
  "5b-sft-offload": 42,
  "5b-sft-zero2": 42,
  "5b-sft-zero3": 43,
  "5b-sft-zero3-offload": 28,
  "1.5-5b-sft-offload": 56,
  "1.5-5b-sft-zero2": 55,
  "1.5-5b-sft-zero3": 55,
  "1.5-5b-sft-zero3-offload": 40,
};

function peakGib(preset: string, overrides: Partial<TrainConfig> = {}): number {
  const validation = {
    do_validation: true,
    validation_dir: "v",
    validation_prompts: "p.txt",
    validation_steps: 200,
    ...(preset.includes("i2v") ? { validation_images: "i.txt" } : {}),
  };
  return recordForecast(parseConfig(`preset: ${preset}`, { overrides: { ...validation, ...overrides } })).peakBytes /
    2 ** 30;
}

for (const preset of presetNames.filter((name) => name !== "default")) {
  const original = ORIGINAL[preset.replace("-i2v", "")]!;
  Deno.test(`${preset} needs at most ${original} GiB, validation included, and half of it where it must`, () => {
    assert.equal(parseConfig(`preset: ${preset}`).gpu_memory, original);
    const asIs = peakGib(preset);
    assert.ok(asIs <= original, `${preset} needs ${asIs} GiB`);
    if (asIs <= original / 2) return;
    const lowest = peakGib(preset, { base_weights: "streamed", offload_activations: true, offload_optimizer: true });
    assert.ok(lowest <= original / 2, `${preset} with all switches needs ${lowest} GiB`);
  });
}
