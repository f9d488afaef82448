/** A process killed while it saves costs no checkpoint: 20 kills in the normal suite, 2,000 with COGTUNE_FULL. */
import assert from "node:assert/strict";
import { randomKills, series } from "./random_kills.ts";

Deno.test("20 kills at random moments cost no checkpoint", async () => {
  // Two of three processes are killed after they have reported a step.
  assert.ok((await series(1_000_000, 20)).saved > 5);
});

Deno.test({
  name: "2,000 kills at random moments cost no checkpoint (COGTUNE_FULL)",
  ignore: !Deno.env.has("COGTUNE_FULL"),
  // deno-lint-ignore no-console
  fn: () => randomKills(2000, console.log),
});
