/** `explain`: every key of the schema can be asked for, and what it names exists. */
import assert from "node:assert/strict";
import { relatedKeys } from "../../../lib/cli/help/explain.ts";
import { reasons } from "../../../lib/config/reasons.ts";
import { describeProperty, properties } from "../../../lib/config/schema.ts";
import { cli } from "../fakes.ts";

Deno.test("explain tells what, why, range, default and related keys of a key, however it is written", async () => {
  const { code, out } = await cli(["explain", "lora_alpha"]);
  assert.equal(code, 0);
  assert.match(out, /^lora_alpha {2}\(LoRA\)\n\nWhat +Adapters are scaled by `lora_alpha` \/ `rank`/);
  assert.match(out, /^Why +.*halves the effect/m);
  assert.match(out, /^Effect +The update is scaled by alpha \/ rank\.$/m);
  assert.match(out, /^Takes +a number above 0$/m);
  assert.match(out, /^Default +none$/m);
  assert.match(out, /^Related +rank, .*use_rslora/m);
  assert.equal((await cli(["explain", "--lora-alpha"])).out, out);
});

Deno.test("explain knows every key, the presets, keys without effect and groups", async () => {
  for (const key of Object.keys(properties)) {
    const { code, out } = await cli(["explain", key]);
    assert.equal(code, 0);
    assert.match(out, new RegExp(`^${key}  \\(`));
    assert.ok(out.replace(/\s+/g, " ").includes(`Takes ${describeProperty(key)}`.replace(/\s+/g, " ")), out);
    assert.ok(out.split("\n").every((line) => line.length <= 100 || !line.includes(" ")), out);
  }
  assert.match((await cli(["explain", "preset"])).out, /^ {2}5b-lora +LoRA of CogVideoX-5b in 24 GiB/m);
  assert.match(
    (await cli(["explain", "nccl_timeout"])).out,
    /without effect: GPUs exchange gradients\n +without NCCL\.$/m,
  );
  const { out: memory } = await cli(["explain", "memory"]);
  assert.match(memory, /^MEMORY\n {2}gradient_checkpointing +Keep only the input/);
  assert.doesNotMatch(memory, /^LORA$/m);
  const { out: all } = await cli(["explain"]);
  for (const key of Object.keys(properties)) assert.match(all, new RegExp(`^  ${key} `, "m"));
});

Deno.test("explain suggests the nearest key", async () => {
  const { code, error } = await cli(["explain", "lerning-rate"]);
  assert.equal(code, 2);
  assert.match(
    error,
    /^error: There is no key "lerning-rate"; did you mean "learning_rate"\?\nHint: try: explain learn/,
  );
  assert.match((await cli(["explain", "xyzzy"])).error, /^Hint: explain without a key lists all of them$/m);
});

Deno.test("reasons are of keys that exist, and name keys that exist", () => {
  for (const [key, { why, effect = "" }] of Object.entries(reasons)) {
    assert.ok(properties[key] !== undefined, key);
    const words = [...`${why} ${effect}`.matchAll(/`([a-z]+(?:_[a-z0-9]+)+)`/g)].map(([, word]) => word!);
    for (const word of words) {
      const isValue = Object.values(properties).some(({ enum: values }) => values?.includes(word));
      assert.ok(properties[word] !== undefined || isValue, `${key}: ${word}`);
    }
  }
  assert.ok(relatedKeys("rank").includes("lora_alpha"));
  assert.ok(relatedKeys("lora_alpha").includes("rank"));
});
