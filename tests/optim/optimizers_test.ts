/** What the table of optimizers says of each, against the tensors its rule declares. */
import assert from "node:assert/strict";
import { packTrainables } from "../../lib/models/tensors/trainables.ts";
import { optimizerNames, optimizers, optimizersThat } from "../../lib/optim/optimizers.ts";
import { RECIPE } from "./fixture.ts";

for (const name of optimizerNames) {
  Deno.test(`${name} keeps as much state as the table says`, () => {
    const shapes = new Map([["transformer_blocks.0.a", [1024, 512]], ["transformer_blocks.1.b", [512, 2048]]]);
    const { buckets } = packTrainables(shapes, "bf16");
    const { states } = optimizers[name].rule(RECIPE, buckets);
    const bytes = [...states.values()].reduce((sum, tensor) => sum + tensor.bytes, 0) / (1024 * 512 + 512 * 2048);
    const { stateBytes } = optimizers[name];
    // CAME: four f32 vectors as long as rows and columns; 8-bit moments: four f32 for 256 values.
    assert.ok(bytes >= stateBytes && bytes < stateBytes + 0.1, `${bytes} bytes`);
  });
}

Deno.test("abilities are named for messages", () => {
  assert.equal(optimizersThat("shardable"), "adamw or adam");
  assert.equal(optimizersThat("bf16"), "adamw or adam");
});
