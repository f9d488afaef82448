import assert from "node:assert/strict";
import { MADE, remade } from "./made.ts";

for (const made of MADE) {
  Deno.test(`${made.file} holds the ${made.name} of the tests; deno task made brings them there`, () => {
    const { before, after } = remade(made);
    assert.equal(before, after);
  });
}
