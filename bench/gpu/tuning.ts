/**
 * Stage `tuning`, `MODEL BLOCKS MOST`: every variant of the kernels with most work of a LoRA step, measured and refused as the first run
 * on a card does it. Keeps nothing for later runs.
 */
import type { Problem } from "../../kernels/core/kernel.ts";
import { parseConfig } from "../../lib/config/config.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { type ModelVariant, RELEASED } from "../../lib/models/transformer/config.ts";
import { describeRun, roundsProducts } from "../../lib/step/run_description.ts";
import { problemsOfRun } from "../../lib/train/kernels.ts";
import type { Measured } from "../../lib/tune/table.ts";
import { tune } from "../../lib/tune/tune.ts";
import { engine } from "../../tests/engine.ts";
import { print } from "../suite.ts";
import { rounded } from "./results.ts";
import { clipOf } from "./shapes.ts";
import { attempt, record, stageArguments } from "./stage.ts";

const [model, blocks, most] = stageArguments as [ModelVariant, string, string];
const folder = Deno.makeTempDirSync();

/** The row of a problem that was measured. */
function recordProblem(problem: Problem, { variant, milliseconds, refused }: Measured): void {
  const flops = problem.work(variant).launches.reduce((sum, { launch }) => sum + launch.flops, 0);
  const ms = milliseconds[variant];
  const others = Object.entries(milliseconds).filter(([name]) => name !== variant);
  record(problem.key, {
    variant,
    preferred: variant === problem.preferred,
    ...(ms === undefined ? {} : { ms: rounded(ms), tflops: rounded(flops / 1e9 / ms) }),
    others: others.map(([name, time]) => `${name} ${rounded(time)} ms`).join(", "),
    refused: Object.entries(refused).map(([name, reason]) => `${name}: ${reason}`).join("; "),
  });
}

await attempt(`kernels of ${model}`, {}, async () => {
  const overrides = { model, mixed_precision: "bf16", train_resolution: clipOf(model).join("x") };
  const config = parseConfig("", { overrides });
  const run = describeRun(config, { ...RELEASED[model], num_layers: Number(blocks) });
  using device = await openDevice({ engine, mixed: roundsProducts(config) });
  const problems = problemsOfRun(device, run).slice(0, Number(most));
  const begin = performance.now();
  // One after the other, so that a stage that is stopped has left what it measured.
  for (const problem of problems) {
    print(problem.key);
    const tuning = tune(device, [problem], { folder });
    let next = await tuning.next();
    while (!next.done) next = await tuning.next();
    recordProblem(problem, next.value.get(problem.key)!);
  }
  return { problems: problems.length, seconds: rounded((performance.now() - begin) / 1000) };
});
Deno.exit(0);
