import assert from "node:assert/strict";
import { UserError } from "../../../lib/errors.ts";
import { cropRank, declareLora, initialLora, padRank, selectLayers } from "../../../lib/models/lora/adapters.ts";
import { parameterShapes, RELEASED } from "../../../lib/models/transformer/config.ts";

const shapes = parameterShapes({ ...RELEASED["2b"]!, num_layers: 2, num_attention_heads: 2 });

Deno.test("padRank() and cropRank() are inverse for ranks of every remainder, also where padding makes A square", () => {
  for (const rank of [1, 3, 4, 126, 127]) {
    const padded = Math.ceil(rank / 4) * 4;
    for (
      const [name, shape, size] of [
        ["x.lora_A.weight", [padded, 128], rank * 128],
        ["x.lora_B.weight", [128, padded], rank * 128],
      ] as const
    ) {
      const values = Float32Array.from({ length: size }, (_, i) => i + 1);
      const wide = padRank(name, values, shape, rank);
      assert.equal(wide.reduce((sum, v) => sum + v, 0), values.reduce((sum, v) => sum + v, 0));
      assert.equal(wide.length, padded * 128);
      assert.deepEqual(cropRank(name, wide, shape, rank), values);
    }
  }
});

Deno.test("selectLayers() takes ends of names and patterns, and names what it cannot find", () => {
  const layers = (...targets: string[]) => [...selectLayers(shapes, targets).keys()];
  assert.equal(layers("to_q").length, 2);
  assert.deepEqual(layers("transformer_blocks.1.*.to_out.0"), ["transformer_blocks.1.attn1.to_out.0"]);
  assert.equal(layers("to_q", "to_k", "to_v", "to_out.0").length, 8);
  assert.throws(
    () => layers("to_q", "to_z"),
    (error: unknown) => error instanceof UserError && /"to_z"/.test(error.message),
  );
  // The 2-D patch projection of CogVideoX 1.0 is a convolution, so it takes no adapter.
  assert.ok(!layers("*").includes("patch_embed.proj"));
});

Deno.test("initialLora() draws A from +-1/sqrt(in) and leaves B zero", () => {
  const lora = declareLora(shapes, { rank: 3, alpha: 3, targets: ["to_q"] });
  const values = initialLora(lora, (count) => Float64Array.from({ length: count }, (_, i) => i / (count - 1)));
  const a = values.get("transformer_blocks.0.attn1.to_q.lora_A.weight")!;
  assert.ok(Math.abs(a[0]! + 1 / Math.sqrt(128)) < 1e-7 && Math.abs(a.at(-1)! - 1 / Math.sqrt(128)) < 1e-7);
  assert.ok(values.get("transformer_blocks.0.attn1.to_q.lora_B.weight")!.every((v) => v === 0));
});
