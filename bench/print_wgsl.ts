/**
 * `deno task wgsl [family] [preset] [subgroup size]`: the kernels that a training step of a preset launches, or the texts of those
 * of one family. Needs no GPU.
 */
import { type Kernel, plainTarget } from "../kernels/core/kernel.ts";
import { DISCRETE_LIMITS } from "../lib/plan/limits.ts";
import { parseConfig } from "../lib/config/config.ts";
import { describeRun, namedTransformer } from "../lib/step/run_description.ts";
import { recordStep } from "../lib/step/training_step.ts";
import { print } from "./suite.ts";

const [family, preset = "2b-lora", subgroups = "32"] = Deno.args;
const config = parseConfig(`preset: ${preset}`);
const run = describeRun(config, namedTransformer(config));
const target = plainTarget(Number(subgroups));
const { micro, update } = recordStep(target, DISCRETE_LIMITS, run.step, run.parameters, run.updated);
const kernels = new Map<string, Kernel>();
for (const { kernel } of [...micro.launches, ...update.launches].filter((launch) => launch !== undefined)) {
  kernels.set(kernel.key, kernel);
}
for (const [key, { code }] of [...kernels].sort()) {
  if (family === undefined) print(key);
  else if (key.startsWith(`${family}(`)) print(`// ${key}\n${code}\n`);
}
