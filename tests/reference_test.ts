/** A set without cases of some kind would silence the tests that look for them. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { pipelineFor, referenceCases, referencePath } from "./reference.ts";

Deno.test("the reference set has cases of every group, a pipeline of every kind, and all its files", () => {
  const groups = Map.groupBy(referenceCases.values(), ({ group }) => group);
  const expected = [
    "data",
    "lora",
    "optim",
    "pipelines",
    "sampling",
    "schedulers",
    "text",
    "training",
    "transformer",
    "vae",
  ];
  for (const group of expected) assert.ok(groups.has(group), group);
  for (const variant of ["2b", "5b", "5b-i2v", "1.5-5b", "1.5-5b-i2v"]) {
    assert.ok(existsSync(pipelineFor(variant)), variant);
    assert.ok(
      groups.get("training")!.some(({ config }) => pipelineFor(variant).endsWith(`/${config.pipeline}`)),
      variant,
    );
  }
  for (const file of referenceCases.keys()) assert.ok(existsSync(referencePath(file)), file);
});
