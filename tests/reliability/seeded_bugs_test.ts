/** Every seeded bug is caught; and the list is up to date in the normal suite. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fromFileUrl } from "../paths.ts";
import { bugs, seedBugs, subjects } from "./seeded_bugs.ts";

Deno.test("every seeded bug has a name of its own and changes one place of the program", () => {
  assert.equal(Object.keys(bugs).length, subjects.flatMap(Object.keys).length);
  for (const [name, { file, from, to, tests }] of Object.entries(bugs)) {
    const text = readFileSync(fromFileUrl(`../../${file}`, import.meta.url), "utf8");
    const where = `"${name}" changes a text that ${file} must hold once: choose the text that bears it`;
    assert.equal(text.split(from).length, 2, where);
    assert.notEqual(from, to, name);
    for (const test of tests.split(" ")) readFileSync(fromFileUrl(`../../${test}`, import.meta.url));
  }
});

Deno.test({
  name: "every seeded bug is caught (COGTUNE_FULL)",
  ignore: !Deno.env.has("COGTUNE_FULL"),
  // deno-lint-ignore no-console
  fn: async () => assert.deepEqual(await seedBugs(Object.keys(bugs), console.log), []),
});
