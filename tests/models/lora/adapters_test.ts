import assert from "node:assert/strict";
import { UserError } from "../../../lib/errors.ts";
import { declareLora, initialLora, resizeMatrix, selectLayers } from "../../../lib/models/lora/adapters.ts";
import { parameterShapes, RELEASED } from "../../../lib/models/transformer/config.ts";

const shapes = parameterShapes({ ...RELEASED["2b"], num_layers: 2, num_attention_heads: 2 });

Deno.test("padding and cropping ranks are inverse for ranks of every remainder, also where padding makes A square", () => {
  for (const rank of [1, 3, 4, 126, 127]) {
    const padded = Math.ceil(rank / 4) * 4;
    for (const [shape, wideShape] of [[[rank, 128], [padded, 128]], [[128, rank], [128, padded]]] as const) {
      const values = Float32Array.from({ length: rank * 128 }, (_, i) => i + 1);
      const wide = resizeMatrix(values, shape, wideShape);
      assert.equal(wide.reduce((sum, v) => sum + v, 0), values.reduce((sum, v) => sum + v, 0));
      assert.equal(wide.length, padded * 128);
      assert.deepEqual(resizeMatrix(wide, wideShape, shape), values);
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

Deno.test("ranks and alphas of single layers: the first pattern counts, alpha 2 of rank 8 scales by 1/4", () => {
  const { layers, adapters, trainables } = declareLora(shapes, {
    rank: 4,
    alpha: 4,
    targets: ["to_q", "to_k"],
    ranks: [{ pattern: "transformer_blocks.1.*.to_q", value: 8 }, { pattern: "to_q", value: 2 }],
    alphas: [{ pattern: "transformer_blocks.1.*", value: 2 }],
  });
  const found = [...layers].map(([name, { rank, alpha }]) => [name.slice(19), rank, alpha]);
  assert.deepEqual(found, [
    ["0.attn1.to_q", 2, 4],
    ["0.attn1.to_k", 4, 4],
    ["1.attn1.to_q", 8, 2],
    ["1.attn1.to_k", 4, 2],
  ]);
  assert.equal(adapters.get("transformer_blocks.1.attn1.to_q")!.scale, 1 / 4);
  const { shape, trueShape } = trainables.byName.get("transformer_blocks.0.attn1.to_q.lora_B.weight")!;
  assert.deepEqual([shape, trueShape], [[128, 4], [128, 2]]);
  assert.throws(
    () => declareLora(shapes, { rank: 4, alpha: 4, targets: ["to_q"], ranks: [{ pattern: "to_k", value: 2 }] }),
    /rank_pattern matches no adapted layer: "to_k".*\n.*attn1\.to_q/,
  );
});

Deno.test("rank-stabilised adapters scale by alpha / sqrt(rank)", () => {
  const { adapters } = declareLora(shapes, { rank: 16, alpha: 6, targets: ["to_q"], rankStabilised: true });
  assert.equal(adapters.get("transformer_blocks.0.attn1.to_q")!.scale, 6 / 4);
});

Deno.test("what has a meaning in regular expressions means itself in a pattern", () => {
  const named = new Map(["a.to_q", "axto_q", "a.to_q+"].map((name) => [`${name}.weight`, [8, 8]] as const));
  const layers = (target: string) => [...selectLayers(named, [target]).keys()];
  assert.deepEqual(layers("a.*"), ["a.to_q", "a.to_q+"]);
  assert.deepEqual(layers("*q+"), ["a.to_q+"]);
});
