/** A model whose weights are not finite is refused with their names before any step: each would be skipped. */
import assert from "node:assert/strict";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserErrors } from "../../../lib/errors.ts";
import { listCheckpoints } from "../../../lib/io/checkpoints.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { collect, configOf, examples, inScratch } from "../runs.ts";

/** A copy of the tiny model in which the last element of some tensors is NaN: all bits set mean that in every float type. */
function brokenModel(folder: string, tensors: readonly string[]): string {
  const model = join(folder, "model");
  cpSync(join(examples, "tiny-2b"), model, { recursive: true });
  const path = join(model, "transformer", "diffusion_pytorch_model.safetensors");
  const bytes = readFileSync(path);
  using file = openSafetensors(path);
  for (const name of tensors) {
    const { byteOffset, byteLength } = file.tensors.get(name)!;
    const end = byteOffset + byteLength;
    bytes.fill(0xff, end - 2, end);
  }
  writeFileSync(path, bytes);
  return model;
}

Deno.test("weights that are NaN are all named before the first step, however they are kept", () =>
  inScratch(async (folder) => {
    const tensors = ["proj_out.bias", "transformer_blocks.1.attn1.to_q.weight"];
    const model_path = brokenModel(folder, tensors);
    for (const [i, kept] of [{}, { training_type: "sft" }, { base_weights: "int8" }].entries()) {
      const config = configOf(folder, { model_path, ...kept, output_dir: join(folder, `run-${i}`) });
      const told: string[] = [];
      await assert.rejects(
        collect(config),
        (error) => {
          assert.ok(error instanceof UserErrors, `${error}`);
          told.push(...error.problems);
          return /Cannot use the weights in .*model\/transformer: 2 problems/.test(error.message);
        },
      );
      assert.deepEqual(told.sort(), tensors.map((name) => `"${name}" holds NaN or infinity`).sort());
      assert.deepEqual(listCheckpoints(config.output_dir), []);
    }
  }));
