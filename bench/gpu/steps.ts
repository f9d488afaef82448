/**
 * Stages `lora ...` and `sft ...`, `MODEL BLOCKS TYPE SECONDS`: whole training steps at full shape with random weights, and one more that
 * says where their time goes.
 */
import { type ModelVariant, RELEASED } from "../../lib/models/transformer/config.ts";
import { DISCRETE_LIMITS } from "../../lib/plan/limits.ts";
import { cost } from "../../lib/plan/recording.ts";
import { parseConfig } from "../../lib/config/config.ts";
import { describeRun } from "../../lib/step/run_description.ts";
import { recordStep } from "../../lib/step/training_step.ts";
import { sumUp } from "../../lib/train/profile/figures.ts";
import { peaksOf } from "../../lib/tune/peaks.ts";
import { Bench } from "../harness.ts";
import { prepareStep, type RandomStep } from "../random_step.ts";
import { bytesSince, driverBytes } from "./driver.ts";
import { rounded } from "./results.ts";
import { clipOf } from "./shapes.ts";
import { attempt, record, stageArguments } from "./stage.ts";

const [model, blocks, training_type, seconds] = stageArguments as [ModelVariant, string, string, string];
const name = `${training_type} ${model}, ${blocks} blocks`;

/** Most steps of a stage: the first one compiles, and one more than two shows how much they differ. */
const MOST_STEPS = 3;

/** Kernel families of a profile that are worth a row: at least this share of the step. */
const LEAST_SHARE = 0.02;

const settings = {
  model,
  training_type,
  train_resolution: clipOf(model).join("x"),
  mixed_precision: model.endsWith("2b") ? "fp16" : "bf16",
};

/** Arithmetic of a step of the whole model: what the time of a few blocks is extrapolated by. */
function wholeTflop({ device: { target } }: Bench): number {
  const run = describeRun(parseConfig("", { overrides: settings }), RELEASED[model]);
  const { micro, update } = recordStep(target, DISCRETE_LIMITS, run.step, run.parameters, run.updated);
  return (cost(micro).flops + cost(update).flops) / 1e12;
}

/** Rows of the families that take most of a step, and one of what the GPU waits for. */
async function profile({ device }: Bench, step: RandomStep, mixed: boolean): Promise<void> {
  const { peaks } = await peaksOf(device, { folder: Deno.makeTempDirSync() });
  const timeline = device.watch();
  try {
    await timeline.span("step", 0, () => step.run());
  } finally {
    device.timeline = undefined;
  }
  const launches = await timeline.launches();
  const { milliseconds, families, idle, waits } = sumUp(launches, timeline.spans, peaks);
  for (const { family, milliseconds: ms, launches, flopsPerSecond, bytesPerSecond, arithmeticShare } of families) {
    if (ms < LEAST_SHARE * milliseconds) continue;
    const share = `${(100 * ms / milliseconds).toFixed(1)} %`;
    const rates = { tflops: rounded(flopsPerSecond / 1e12), moved_gb_s: rounded(bytesPerSecond / 1e9) };
    const reached = arithmeticShare === undefined ? {} : { "% of its peak": rounded(100 * arithmeticShare) };
    record(`${name}, profile`, { mixed, family, ms: rounded(ms), share, launches, ...rates, ...reached });
  }
  const idleMs = Object.fromEntries(Object.entries(idle).map(([cause, ms]) => [cause, rounded(ms)]));
  record(`${name}, profile`, {
    mixed,
    family: "GPU idle, ms by cause",
    ms: rounded(milliseconds),
    idle: idleMs,
    waits,
  });
}

async function measure(mixed: boolean): Promise<void> {
  const before = driverBytes();
  await attempt(name, { mixed }, async () => {
    const clock = performance.now();
    using bench = await Bench.open();
    const { target } = bench.device;
    const shape = { ...RELEASED[model], num_layers: Number(blocks) };
    using step = await prepareStep(bench, { model: shape, settings }, { ...target, mixed });
    await bench.device.gpu.queue.onSubmittedWorkDone();
    const start = rounded((performance.now() - clock) / 1000);
    const steps: number[] = [];
    let last;
    const hasTime = (part: number) => performance.now() - clock < 1000 * part * Number(seconds);
    do {
      const begin = performance.now();
      last = await step.run();
      steps.push((performance.now() - begin) / 1000);
      record(`${name}, step ${steps.length}`, { mixed, seconds: rounded(steps.at(-1)!), losses: last.losses });
    } while (steps.length < MOST_STEPS && hasTime(0.4));
    const memory = bytesSince(before);
    if (hasTime(0.6)) await profile(bench, step, mixed);
    const best = Math.min(...steps);
    const tflop = step.flops / 1e12;
    const whole = wholeTflop(bench);
    return {
      seconds: rounded(best),
      tflop: rounded(tflop),
      tflops: rounded(tflop / best),
      whole_tflop: rounded(whole),
      whole_seconds: rounded(best * whole / tflop),
      tokens: step.tokens,
      loss: last.losses[0],
      skipped: last.skipped,
      gpu_bytes: step.gpuBytes,
      plan_bytes: step.planBytes,
      driver_bytes: memory,
      start_seconds: start,
    };
  });
}

const units = await Bench.open();
const { target: { f16, matrix }, adapter: { software } } = units.device;
units[Symbol.dispose]();
// Compiling one kernel on the matrix units of llvmpipe takes 20 s, so software drivers go without.
if (f16 && matrix.length > 0 && !software) await measure(true);
await measure(false);
Deno.exit(0);
