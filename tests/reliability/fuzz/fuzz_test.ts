/** Every reader of strangers' bytes: inputs that once failed, 2,000 mutated ones, 50 million with COGTUNE_FULL. */
import assert from "node:assert/strict";
import { withFolder } from "../../io/faulty_operations.ts";
import cases from "./cases.json" with { type: "json" };
import { fuzz, problemWith, readBlock } from "./fuzz.ts";
import { targetsIn } from "./targets.ts";

const FULL = 50_000_000;

Deno.test("readers take what once failed", () =>
  withFolder((folder) => {
    const targets = targetsIn(folder);
    for (const { target, input } of cases) {
      assert.equal(problemWith(targets[target]!, Uint8Array.fromBase64(input)), undefined, `${target} ${input}`);
    }
  }));

Deno.test("readers take 2,000 mutated inputs each", () =>
  withFolder((folder) => {
    for (const [name, target] of Object.entries(targetsIn(folder))) {
      for (const seed of target.seeds) assert.equal(problemWith(target, seed), undefined, name);
      assert.deepEqual(readBlock(name, target, -1, name === "config" ? 200 : 2000).failures, [], name);
    }
  }));

Deno.test({
  name: "readers take 50 million mutated inputs (COGTUNE_FULL)",
  ignore: !Deno.env.has("COGTUNE_FULL"),
  fn: () =>
    withFolder((folder) => {
      // deno-lint-ignore no-console
      assert.deepEqual(fuzz(FULL, folder, console.log), []);
    }),
});
