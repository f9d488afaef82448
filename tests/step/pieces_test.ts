/** Training on a device with small buffers and bindings: the same bits, and the bytes that the plan says. */
import assert from "node:assert/strict";
import { recordForecast } from "../../lib/forecast/forecast.ts";
import { testDevice } from "../kernels/run.ts";
import { piecesOf } from "../limited_session.ts";
import { runTiny, tinyConfig } from "./tiny_run.ts";

const t2v = { model: "tiny-5b", mixed_precision: "bf16" };
const i2v = { model: "tiny-1.5-5b-i2v", mixed_precision: "bf16" };
const onHost = { base_weights: "streamed", offload_optimizer: true, offload_activations: true };

/** Settings, and the bytes that buffers and bindings hold: so many that the 16 bindings of a launch under Dawn suffice. */
const runs: readonly (readonly [string, Readonly<Record<string, unknown>>, number])[] = [
  ["a LoRA", t2v, 64 * 1024],
  ["a LoRA from images", i2v, 64 * 1024],
  ["all weights", { ...t2v, training_type: "sft" }, 512 * 1024],
  ["all weights from images, everything in host memory", { ...i2v, ...onHost, training_type: "sft" }, 512 * 1024],
];

for (const [name, settings, bytes] of runs) {
  Deno.test(`training ${name} in pieces of ${bytes} bytes`, async () => {
    const config = tinyConfig(settings);
    const whole = await runTiny(config);
    const pieces = await runTiny(config, { limits: () => piecesOf(bytes) });
    assert.deepEqual(pieces.losses, whole.losses);
    assert.deepEqual(pieces.norms, whole.norms);
    assert.deepEqual(pieces.masters, whole.masters);
    assert.equal(pieces.largestBuffer, bytes);
    const { device: { target, limits } } = await testDevice();
    const planned = recordForecast(config, { target, limits: { ...limits, ...piecesOf(bytes) } });
    assert.equal(pieces.gpuBytes, planned.phases.find((phase) => phase.name === "training")!.gpuBytes);
  });
}
