/** Configs of transformers that cannot be computed: every reason is given. */
import assert from "node:assert/strict";
import { UserErrors } from "../../../lib/errors.ts";
import { parseTransformerConfig, RELEASED } from "../../../lib/models/transformer/config.ts";

const base = { ...RELEASED["1.5-5b-i2v"] } as unknown as Record<string, unknown>;

Deno.test("a transformer's config is refused with what it says, what is computed, and all reasons at once", () => {
  const cases: readonly (readonly [Record<string, unknown>, ...RegExp[]])[] = [
    [{ patch_size_t: 4 }, /^patch_size_t is 4: cogtune computes null and 2 only$/],
    [{ text_embed_dim: 4095 }, /^text_embed_dim is 4095: cogtune computes multiples of 4 only$/],
    [{ ofs_embed_dim: 256 }, /^ofs_embed_dim is 256: it must equal time_embed_dim, 512$/],
    [
      { use_learned_positional_embeddings: true, use_rotary_positional_embeddings: false },
      /^use_learned_positional_embeddings needs use_rotary_positional_embeddings$/,
    ],
    [{ num_layers: "30" }, /^num_layers is "30": expected a number$/],
    [{ num_layers: -1 }, /^num_layers is -1: /],
    [{ _class_name: "Other" }, /^_class_name is "Other"/],
    [{ patch_size_t: 3, time_embed_dim: 510 }, /^patch_size_t is 3/, /^time_embed_dim is 510/, /^ofs_embed_dim is 512/],
  ];
  for (const [changes, ...says] of cases) {
    assert.throws(() => parseTransformerConfig({ ...base, ...changes }, "config.json"), (error) => {
      assert.ok(error instanceof UserErrors && error.message.startsWith("Cannot use config.json"));
      assert.equal(error.problems.length, says.length, `${error.problems}`);
      says.forEach((expected, i) => assert.match(error.problems[i]!, expected));
      return true;
    });
  }
  assert.deepEqual(parseTransformerConfig(base, "config.json"), RELEASED["1.5-5b-i2v"]);
});
