/** A run is refused by the plans of the device it would run on. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Session } from "../../lib/gpu/session.ts";
import { recordForecast } from "../../lib/forecast/forecast.ts";
import { folderShapes } from "../../lib/forecast/folder_shapes.ts";
import { train } from "../../lib/train/trainer.ts";
import { requireMemory } from "../../lib/forecast/require_memory.ts";
import { testDevice } from "../kernels/run.ts";
import { collect, configOf, inScratch } from "../train/runs.ts";
import { runTiny, tinyConfig } from "../step/tiny_run.ts";

const GIB = 2 ** 30;

Deno.test("what a run has allocated is the least gpu_memory it is accepted with", async () => {
  const settings = { model: "tiny-5b", mixed_precision: "bf16" };
  const { device } = await testDevice();
  const { gpuBytes } = await runTiny(tinyConfig(settings));
  requireMemory(tinyConfig(settings), "f32", device);
  requireMemory(tinyConfig({ ...settings, gpu_memory: gpuBytes / GIB }), "f32", device);
  const small = tinyConfig({ ...settings, gpu_memory: (gpuBytes - 256) / GIB });
  assert.throws(() => requireMemory(small, "f32", device), /GPU memory for training.*\nHint: it fits with /);
});

Deno.test("without mixed precision the storage of the checkpoint counts", async () => {
  const { device } = await testDevice();
  const settings = { model: "tiny-2b", mixed_precision: "no" };
  const { gpuBytes } = await runTiny(tinyConfig(settings));
  const config = tinyConfig({ ...settings, gpu_memory: (gpuBytes - 256) / GIB });
  requireMemory(config, "bf16", device);
  assert.throws(() => requireMemory(config, "f32", device), /GPU memory for training/);
});

Deno.test("a whole run holds the bytes and does the work that were forecast, and is refused with less before it leaves a trace", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, {
      train_steps: 1,
      gradient_accumulation_steps: 2,
      mixed_precision: "fp16",
      base_weights: "streamed",
    });
    const { device } = await testDevice();
    using session = new Session(device);
    const { phases } = recordForecast(config, {
      ...folderShapes(config),
      target: device.target,
      limits: session.limits,
    });
    const { gpuBytes: planned, flops } = phases.find(({ name }) => name === "training")!;
    const steps = (await collect(config)).filter((event) => event.type === "step");
    assert.deepEqual(steps.map(({ gpuBytes, flops }) => [gpuBytes, flops]), [[planned, flops]]);
    const other = { ...config, output_dir: join(folder, "refused"), gpu_memory: (planned - 256) / GIB };
    await assert.rejects(async () => {
      for await (const _ of train(other)) { /* a refusal comes before the first event that needs the GPU */ }
    }, /needs \d+\.\d MiB of GPU memory for /);
    assert.ok(!existsSync(other.output_dir));
  }));
