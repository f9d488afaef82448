/** Stages `lora ...` and `sft ...`, `MODEL BLOCKS TYPE SECONDS`: whole training steps at full shape with random weights. */
import { type ModelVariant, RELEASED } from "../../lib/models/transformer/config.ts";
import { Bench } from "../harness.ts";
import { prepareStep } from "../random_step.ts";
import { rounded } from "./results.ts";
import { clipOf } from "./shapes.ts";
import { attempt, record, stageArguments } from "./stage.ts";

const [model, blocks, training_type, seconds] = stageArguments as [ModelVariant, string, string, string];
const name = `${training_type} ${model}, ${blocks} blocks`;

/** Most steps of a stage: the first one compiles, and one more than two shows how much they differ. */
const MOST_STEPS = 3;

/** Memory that the driver counts on the first card; undefined where no `nvidia-smi` says so. */
function driverBytes(): number | undefined {
  try {
    const args = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"];
    const { stdout } = new Deno.Command("nvidia-smi", { args }).outputSync();
    return Number.parseInt(new TextDecoder().decode(stdout)) * 2 ** 20;
  } catch {
    return undefined;
  }
}

async function measure(mixed: boolean): Promise<void> {
  const before = driverBytes();
  await attempt(name, { mixed }, async () => {
    const clock = performance.now();
    using bench = await Bench.open();
    const { target } = bench.device;
    const settings = {
      model,
      training_type,
      train_resolution: clipOf(model).join("x"),
      mixed_precision: model.endsWith("2b") ? "fp16" : "bf16",
    };
    const shape = { ...RELEASED[model], num_layers: Number(blocks) };
    using step = await prepareStep(bench, { model: shape, settings }, { ...target, mixed });
    await bench.device.gpu.queue.onSubmittedWorkDone();
    const start = rounded((performance.now() - clock) / 1000);
    const steps: number[] = [];
    let last;
    do {
      const begin = performance.now();
      last = await step.run();
      steps.push((performance.now() - begin) / 1000);
      record(`${name}, step ${steps.length}`, { mixed, seconds: rounded(steps.at(-1)!), losses: last.losses });
    } while (steps.length < MOST_STEPS && performance.now() - clock < 500 * Number(seconds));
    const used = driverBytes();
    const best = Math.min(...steps);
    return {
      seconds: rounded(best),
      tflop: rounded(step.flops / 1e12),
      tflops: rounded(step.flops / 1e12 / best),
      tokens: step.tokens,
      loss: last.losses[0],
      skipped: last.skipped,
      gpu_bytes: step.gpuBytes,
      plan_bytes: step.planBytes,
      driver_bytes: used === undefined ? undefined : used - (before ?? 0),
      start_seconds: start,
    };
  });
}

await measure(false);
const units = await Bench.open();
const { f16, matrix } = units.device.target;
units[Symbol.dispose]();
if (f16 && matrix.length > 0) await measure(true);
Deno.exit(0);
