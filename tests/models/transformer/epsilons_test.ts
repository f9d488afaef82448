/** The constants of the norms: too small to show in the results of models whose values are near one. */
import assert from "node:assert/strict";
import { plainTarget } from "../../../kernels/core/kernel.ts";
import { parameterShapes, RELEASED } from "../../../lib/models/transformer/config.ts";
import { transformer } from "../../../lib/models/transformer/graph.ts";
import { declareInputs } from "../../../lib/models/transformer/inputs.ts";
import { declareTensors, Parameters } from "../../../lib/models/transformer/parameters.ts";
import { Plan } from "../../../lib/plan/plan.ts";

Deno.test("norms of queries and keys add 1e-6 to the variance, all others what the config says", () => {
  for (const [name, released] of Object.entries(RELEASED).filter(([name]) => name.startsWith("tiny-"))) {
    const config = { ...released, norm_eps: 3e-5 };
    const plan = new Plan({ target: plainTarget(8) });
    const parameters = new Parameters(declareTensors(parameterShapes(config), { matrix: "f32", vector: "f32" }));
    const frames = 2 * (config.patch_size_t ?? 1);
    const [height, width] = [config.sample_height, config.sample_width];
    const shape = { batch: 1, frames, height, width, textRows: config.max_text_seq_length };
    transformer(plan, config, parameters, declareInputs(config, shape, "f32"), "f32");
    const found = new Map<string, Set<number>>();
    for (const step of plan.steps) {
      if (step.kind !== "launch") continue;
      const { kernel, params } = step.launch;
      const at = kernel.params.indexOf("eps:f32");
      if (at < 0) continue;
      const family = kernel.key.startsWith("head_norm") ? "head" : "layer";
      found.set(family, (found.get(family) ?? new Set()).add(params[at]!));
    }
    assert.deepEqual([...found].sort(), [["head", new Set([1e-6])], ["layer", new Set([3e-5])]], name);
  }
});
