/** A run is refused by the plans of the device it would run on. */
import assert from "node:assert/strict";
import { requireMemory } from "../../lib/train/require_memory.ts";
import { testDevice } from "../kernels/run.ts";
import { runTiny, tinyConfig } from "./tiny_run.ts";

const GIB = 2 ** 30;

Deno.test("what a run has allocated is the least gpu_memory it is accepted with", async () => {
  const settings = { model: "tiny-5b", mixed_precision: "bf16" };
  const { device } = await testDevice();
  const { gpuBytes } = await runTiny(tinyConfig(settings));
  requireMemory(device, tinyConfig(settings), "f32");
  requireMemory(device, tinyConfig({ ...settings, gpu_memory: gpuBytes / GIB }), "f32");
  const small = tinyConfig({ ...settings, gpu_memory: (gpuBytes - 256) / GIB });
  assert.throws(() => requireMemory(device, small, "f32"), /GPU memory for training.*\nHint: it fits with /);
});

Deno.test("without mixed precision the storage of the checkpoint counts", async () => {
  const { device } = await testDevice();
  const settings = { model: "tiny-2b", mixed_precision: "no" };
  const { gpuBytes } = await runTiny(tinyConfig(settings));
  const config = tinyConfig({ ...settings, gpu_memory: (gpuBytes - 256) / GIB });
  requireMemory(device, config, "bf16");
  assert.throws(() => requireMemory(device, config, "f32"), /GPU memory for training/);
});
